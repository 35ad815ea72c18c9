//! What agents and the leader say to each other.

use std::collections::BTreeSet;

use rebound_proto::v1;

use super::{cause_in, pool_in, resources_in, resources_out};
use crate::command::{Join, Report};
use crate::effects::{Desired, DesiredRun};
use crate::event::Verdict;
use crate::io::WorkerReport;
use crate::limits::{PACE_US_MAX, PACES_MAX, RESULTS_PER_REPORT_MAX, STARTED_MAX, WORKER_HEARTBEAT};
use crate::observe::tails::Cursors;
use crate::pace::Pace;
use crate::photos::Joined;
use crate::reply::{Judged, Rejected};
use crate::rows::{Packing, Row};
use crate::types::{ClusterId, Given, JobId, Recogniser, SpecId, Term, Time, WorkerId};

/// The version of the agents' protocol this build speaks.
pub const AGENT_PROTOCOL: u32 = 1;

/// Bytes of rows after which a report is full.
const REPORT_ROWS_BYTES: usize = 64 * 1024;

/// An agent's first word: who it is, and the session it had in this boot.
pub fn hello(wire: &v1::Hello) -> Result<(Join, Option<(ClusterId, WorkerId)>), Rejected> {
    let oldest = if wire.protocol_min == 0 {
        wire.protocol
    } else {
        wire.protocol_min
    };
    if !(oldest..=wire.protocol).contains(&AGENT_PROTOCOL) {
        let speaks = match oldest == wire.protocol {
            true => oldest.to_string(),
            false => format!("{oldest} to {}", wire.protocol),
        };
        let why =
            format!("the agent speaks {speaks}, this server {AGENT_PROTOCOL}; install one that matches");
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
            answer_us,
            fetch_us,
            paces,
            started,
            generation: _,
        })) => Some(WorkerReport::Heartbeat {
            running,
            spooled,
            spool_full,
            pace: pace(answer_us, fetch_us, &paces),
            cursors: cursors(&started),
        }),
        Some(Body::Results(results)) => {
            let v1::Results {
                runs,
                running,
                spooled,
            } = results;
            Some(WorkerReport::Results {
                reports: reports(runs)?,
                running,
                spooled,
            })
        }
        Some(Body::Leaving(leaving)) => Some(WorkerReport::Leaving { empty: leaving.empty }),
        Some(Body::Noticed(noticed)) => Some(WorkerReport::Noticed {
            within: noticed.within_us,
        }),
    })
}

/// What a worker measured, within bounds whatever it says.
fn pace(answer: u64, fetch: u64, paces: &[v1::Pace]) -> Pace {
    let of = |us: fn(&v1::Pace) -> u64| {
        let said = paces.iter().take(PACES_MAX);
        said.map(|one| (SpecId(one.spec), us(one).min(PACE_US_MAX)))
            .collect()
    };
    Pace {
        answer: answer.min(PACE_US_MAX),
        fetch: fetch.min(PACE_US_MAX),
        service: of(|one| one.service_us),
        running: of(|one| one.running_us),
    }
}

/// How far a worker is.
fn cursors(started: &[v1::Started]) -> Cursors {
    let mut cursors = Cursors::default();
    for one in started.iter().take(STARTED_MAX) {
        cursors.note(JobId(one.job), Given(one.given), one.next);
    }
    cursors
}

/// Results come in columns, those of consecutive tasks together.
fn reports(runs: Vec<v1::ResultRun>) -> Result<Vec<Report>, Rejected> {
    let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    if count > RESULTS_PER_REPORT_MAX as u64 {
        let limit = RESULTS_PER_REPORT_MAX as u64;
        return Err(Rejected::TooMany {
            field: "results",
            limit,
            what: "results in one message",
        });
    }
    let mut reports = Vec::with_capacity(runs.len());
    for run in &runs {
        check_columns(run)?;
        add_reports(run, &mut reports);
    }
    Ok(reports)
}

fn check_columns(run: &v1::ResultRun) -> Result<(), Rejected> {
    let invalid = |why: &str| Rejected::Invalid {
        field: "results",
        why: format!("a run of job {} from {} on {why}", run.job, run.first),
    };
    let count = run.count as usize;
    let columns = [run.output_bytes.len(), run.started_us.len(), run.took_us.len()];
    if columns != [count; 3] || !(run.causes.is_empty() || run.causes.len() == count) {
        return Err(invalid("has columns of different length"));
    }
    let mut causes = run.causes.iter().filter_map(|cause| cause_in(*cause));
    if let Some(cause) = causes.find(|cause| !cause.is_workers()) {
        return Err(invalid(&format!(
            "says {cause:?}, which is for the leader to say"
        )));
    }
    if run.first.checked_add(u64::from(run.count)).is_none() {
        return Err(invalid("goes past the last number"));
    }
    let bytes: u64 = run.output_bytes.iter().map(|bytes| u64::from(*bytes)).sum();
    if bytes != run.outputs.len() as u64 {
        return Err(invalid("has outputs of another length than it says"));
    }
    Ok(())
}

/// Results of consecutive tasks that ended alike are one report, up to a bound.
fn add_reports(run: &v1::ResultRun, reports: &mut Vec<Report>) {
    let mut packing = Packing::default();
    let (mut outputs, mut started, count) = (&run.outputs[..], 0u64, run.count as usize);
    let cause_at = |at: usize| run.causes.get(at).copied().unwrap_or_default();
    for at in 0..count {
        let (output, rest) = outputs.split_at(run.output_bytes[at] as usize);
        outputs = rest;
        started = started.wrapping_add(run.started_us[at] as u64);
        packing.push(Row {
            started: Time(started),
            ended: Time(started.saturating_add(run.took_us[at])),
            output,
        });
        let goes_on = at + 1 < count && cause_at(at + 1) == cause_at(at);
        if !goes_on || packing.bytes() > REPORT_ROWS_BYTES {
            let rows = std::mem::take(&mut packing).done();
            reports.push(Report {
                job: JobId(run.job),
                first: run.first + at as u64 - (rows.len() - 1),
                given: Given(run.given),
                cause: cause_in(cause_at(at)),
                rows,
            });
        }
    }
}

/// The session is on; with no word of a leader for `orphan_for` µs it has ended.
pub fn welcome(cluster: &ClusterId, worker: WorkerId, term: Term, now: Time, orphan_for: u64) -> v1::Welcome {
    v1::Welcome {
        protocol: AGENT_PROTOCOL,
        cluster: cluster.0.clone(),
        worker: worker.0,
        term,
        heartbeat_us: WORKER_HEARTBEAT,
        orphan_for_us: orphan_for,
        now_us: now.0,
    }
}

/// What a stream has said of specs and photos: each is said once.
#[derive(Default)]
pub struct Said {
    specs: BTreeSet<SpecId>,
    /// Runs of the last desired set. What a worker holds by one fence only gets less.
    runs: BTreeSet<(JobId, Given)>,
}

/// A desired set, with the photos and specs not yet said on this stream.
pub fn desired(
    cluster: &ClusterId,
    own: &Desired,
    mut uris: impl FnMut(&DesiredRun) -> Joined,
    said: &mut Said,
) -> v1::Desired {
    let runs = own.runs.iter().map(|run| v1::Run {
        job: run.job.0,
        first: run.first,
        count: u32::try_from(run.last - run.first + 1).unwrap_or(u32::MAX),
        given: run.given.0,
        spec: run.spec.0,
        alone: run.alone,
        photos: (!said.runs.contains(&(run.job, run.given))).then(|| photos(run, uris(run))),
    });
    let runs = runs.collect();
    said.runs = own.runs.iter().map(|run| (run.job, run.given)).collect();
    let new_specs = own.specs.iter().filter(|(id, _)| said.specs.insert(**id));
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

fn photos(run: &DesiredRun, uris: Joined) -> v1::Photos {
    v1::Photos {
        uris: uris.uris,
        uri_bytes: uris.lengths,
        trace_id: run.trace.0.to_vec().into(),
    }
}

/// Answers to reported results.
pub fn answers(judged: &[Judged]) -> v1::Answers {
    let runs = judged.iter().map(|judged| {
        let verdict = match judged.verdict {
            Verdict::Recorded => v1::Verdict::Recorded,
            Verdict::AlreadyRecorded => v1::Verdict::AlreadyRecorded,
            Verdict::Stale => v1::Verdict::Stale,
        };
        v1::AnswerRun {
            job: judged.job.0,
            first: judged.first,
            count: u32::try_from(judged.count).unwrap_or(u32::MAX),
            given: judged.given.0,
            verdict: verdict.into(),
        }
    });
    v1::Answers { runs: runs.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photos::Photos;
    use crate::types::TraceId;

    fn run(job: u64, first: u64, last: u64, given: u64) -> DesiredRun {
        DesiredRun {
            job: JobId(job),
            first,
            last,
            given: Given(given),
            ..DesiredRun {
                env: Default::default(),
                job: JobId(0),
                first: 0,
                last: 0,
                given: Given(0),
                spec: SpecId(0),
                trace: TraceId::default(),
                alone: false,
            }
        }
    }

    #[test]
    fn photos_are_said_once_for_each_fence() {
        let mut said = Said::default();
        let mut tell = |runs: &[DesiredRun]| {
            let own = Desired {
                term: 1,
                generation: 1,
                runs: runs.to_vec(),
                specs: Default::default(),
                drain: false,
            };
            let uris = |run: &DesiredRun| {
                let uris: Photos = (run.first..=run.last).map(|task| format!("u{task}")).collect();
                let mut joined = Joined::default();
                joined.add(uris.slice(0, u64::MAX));
                joined
            };
            let wire = desired(&ClusterId("c".into()), &own, uris, &mut said);
            let photos = wire
                .runs
                .into_iter()
                .map(|run| run.photos.map(|photos| photos.uris));
            photos.map(Option::unwrap_or_default).collect::<Vec<String>>()
        };
        assert_eq!(tell(&[run(1, 0, 2, 5), run(1, 4, 4, 5)]), ["u0u1u2", "u4"]);
        assert_eq!(
            tell(&[run(1, 1, 2, 5), run(1, 0, 0, 9), run(2, 0, 0, 5)]),
            ["", "u0", "u0"]
        );
        assert_eq!(tell(&[run(2, 0, 0, 5)]), [""]);
    }

    #[test]
    fn results_whose_columns_do_not_fit_are_refused() {
        let good = v1::ResultRun {
            job: 1,
            first: 3,
            given: 9,
            count: 2,
            causes: vec![0, 3],
            outputs: bytes::Bytes::from_static(b"abc"),
            output_bytes: vec![1, 2],
            started_us: vec![10, -1],
            took_us: vec![5, 6],
        };
        let read = |run: v1::ResultRun| reports(vec![run]);
        let two = read(good.clone()).unwrap();
        let row = |at: usize| two[at].rows.iter().next().unwrap();
        assert_eq!((two[0].first, two[1].first), (3, 4));
        assert_eq!((row(1).output, row(1).ended), (&b"bc"[..], Time(15)));
        assert_eq!(
            (two[0].cause, two[1].cause),
            (None, Some(crate::event::Cause::Crashed))
        );
        let change = |change: fn(&mut v1::ResultRun)| {
            let mut run = good.clone();
            change(&mut run);
            run
        };
        for bad in [
            change(|run| run.count = 3),
            change(|run| run.output_bytes = vec![1, 1]),
            change(|run| run.output_bytes = vec![1, u32::MAX]),
            change(|run| run.causes = vec![0]),
            change(|run| run.causes[0] = v1::Cause::WorkerLost.into()),
            change(|run| run.causes[1] = v1::Cause::Quarantined.into()),
            change(|run| run.causes[1] = v1::Cause::TakenBack.into()),
            change(|run| run.causes[1] = v1::Cause::Dropped.into()),
            change(|run| run.first = u64::MAX),
            change(|run| run.count = u32::MAX),
        ] {
            assert!(read(bad).is_err());
        }
    }
}
