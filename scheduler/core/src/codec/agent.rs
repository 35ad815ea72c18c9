//! What agents and the leader say to each other.

use std::collections::BTreeSet;

use rebound_proto::v1;

use super::{cause_in, pool_in, resources_in, resources_out};
use crate::command::{Join, Report};
use crate::effects::{Desired, DesiredRun};
use crate::event::Verdict;
use crate::io::WorkerReport;
use crate::limits::{RESULTS_PER_REPORT_MAX, WORKER_HEARTBEAT};
use crate::reply::{Judged, Rejected};
use crate::rows::{Packing, Row};
use crate::types::{ClusterId, Given, JobId, Recogniser, SpecId, Term, Time, WorkerId};

/// The version of the agents' protocol this build speaks.
pub const AGENT_PROTOCOL: u32 = 1;

/// Bytes of rows after which a report is full.
const REPORT_ROWS_BYTES: usize = 64 * 1024;

/// An agent's first word: who it is, and the session it had in this boot.
pub fn hello(wire: &v1::Hello) -> Result<(Join, Option<(ClusterId, WorkerId)>), Rejected> {
    if wire.protocol != AGENT_PROTOCOL {
        let why = format!(
            "the agent speaks {}, this server {AGENT_PROTOCOL}; install one that matches",
            wire.protocol
        );
        return Err(Rejected::Invalid {
            field: "protocol",
            why,
        });
    }
    let recognisers = wire
        .recognisers
        .iter()
        .map(|one| Recogniser {
            name: one.name.clone(),
            digest: one.digest.to_vec(),
        })
        .collect();
    let join = Join {
        name: wire.name.clone(),
        nonce: wire.boot_nonce,
        slots: wire.slots,
        resources: resources_in(wire.resources.as_ref()),
        pool: pool_in(wire.pool.as_ref()),
        recognisers,
        version: wire.version.clone(),
    };
    let session = (wire.worker != 0).then(|| (ClusterId(wire.cluster.clone()), WorkerId(wire.worker)));
    Ok((join, session))
}

/// Anything but a hello; `None` for a message that says nothing.
pub fn report(wire: v1::AgentMessage) -> Result<Option<WorkerReport>, Rejected> {
    use v1::agent_message::Body;
    Ok(match wire.body {
        None => None,
        Some(Body::Hello(_)) => {
            return Err(Rejected::Invalid {
                field: "hello",
                why: "a stream has one, at its beginning".into(),
            });
        }
        Some(Body::Heartbeat(v1::Heartbeat {
            running,
            spooled,
            spool_full,
            ..
        })) => Some(WorkerReport::Heartbeat {
            running,
            spooled,
            spool_full,
        }),
        Some(Body::Results(results)) => {
            if results.results.len() > RESULTS_PER_REPORT_MAX {
                let limit = RESULTS_PER_REPORT_MAX as u64;
                return Err(Rejected::TooMany {
                    field: "results",
                    limit,
                    what: "results in one message",
                });
            }
            let v1::Results {
                results,
                running,
                spooled,
            } = results;
            Some(WorkerReport::Results {
                reports: reports(results),
                running,
                spooled,
            })
        }
        Some(Body::Leaving(leaving)) => Some(WorkerReport::Leaving { empty: leaving.empty }),
    })
}

/// Results of consecutive tasks that ended alike, as they come, are one report.
fn reports(results: Vec<v1::AttemptResult>) -> Vec<Report> {
    let mut reports = Vec::new();
    let mut packing = Packing::default();
    let mut results = results.into_iter().peekable();
    while let Some(wire) = results.next() {
        packing.push(Row {
            started: Time(wire.started_us),
            ended: Time(wire.ended_us),
            output: &wire.output,
        });
        let goes_on = results.peek().is_some_and(|next| {
            (next.job, next.given, next.cause) == (wire.job, wire.given, wire.cause)
                && wire.task.checked_add(1) == Some(next.task)
        });
        if !goes_on || packing.bytes() > REPORT_ROWS_BYTES {
            let rows = std::mem::take(&mut packing).done();
            reports.push(Report {
                job: JobId(wire.job),
                first: wire.task - (rows.len() - 1),
                given: Given(wire.given),
                cause: cause_in(wire.cause),
                rows,
            });
        }
    }
    reports
}

/// The session is on; with no word of a leader for `orphan_for` µs it has ended.
pub fn welcome(cluster: &ClusterId, worker: WorkerId, term: Term, now: Time, orphan_for: u64) -> v1::Welcome {
    v1::Welcome {
        cluster: cluster.0.clone(),
        worker: worker.0,
        term,
        heartbeat_us: WORKER_HEARTBEAT,
        orphan_for_us: orphan_for,
        now_us: now.0,
    }
}

/// A desired set, with the photos of each run and the specs not yet said on this stream.
pub fn desired(
    cluster: &ClusterId,
    own: &Desired,
    mut uris: impl FnMut(&DesiredRun) -> Vec<String>,
    known_specs: &mut BTreeSet<SpecId>,
) -> v1::Desired {
    let runs = own.runs.iter().map(|run| v1::Run {
        job: run.job.0,
        first: run.first,
        given: run.given.0,
        spec: run.spec.0,
        uris: uris(run),
        trace_id: run.trace.0.to_vec().into(),
    });
    let runs = runs.collect();
    let new_specs = own.specs.iter().filter(|(id, _)| known_specs.insert(**id));
    let specs = new_specs.map(|(id, spec)| v1::Spec {
        id: id.0,
        recogniser: spec.recogniser.clone(),
        resources: Some(resources_out(&spec.resources)),
        photo_timeout_us: spec.photo_timeout,
    });
    let specs = specs.collect();
    let cluster = cluster.0.clone();
    v1::Desired {
        cluster,
        term: own.term,
        generation: own.generation,
        runs,
        specs,
        drain: own.drain,
    }
}

/// Answers to reported results.
pub fn answers(judged: &[Judged]) -> v1::Answers {
    let answers = judged.iter().flat_map(|judged| {
        let verdict = match judged.verdict {
            Verdict::Recorded => v1::Verdict::Recorded,
            Verdict::AlreadyRecorded => v1::Verdict::AlreadyRecorded,
            Verdict::Stale => v1::Verdict::Stale,
        };
        (judged.first..judged.first + judged.count).map(move |task| v1::Answer {
            job: judged.job.0,
            task,
            given: judged.given.0,
            verdict: verdict.into(),
        })
    });
    v1::Answers {
        answers: answers.collect(),
    }
}
