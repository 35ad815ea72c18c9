//! What clients and operators say to the cluster, and what they are answered.

use rebound_proto::v1;

use super::{cause_out, pool_out, resources_in, resources_out};
use crate::command::{Deadline, Open, Spec};
use crate::event::Cause;
use crate::io::{Heard, JobView, MemberView, TaskView};
use crate::kept::{AttemptRecord, ResultRecord};
use crate::limits::{ATTEMPTS_MAX, PRIORITY_MAX};
use crate::photos::Photos;
use crate::replica::Outlook;
use crate::reply::{Refused, Rejected, Reply};
use crate::state::jobs::Phase;
use crate::state::members::Role;
use crate::state::workers::{Standing, Worker};
use crate::types::{Time, TraceId, WorkerId};

/// The version of the clients' protocol this build speaks, as servers and the command line say it.
pub const CLIENT_PROTOCOL: u32 = 1;
/// The metadata key that carries it. A call without it is taken as it is.
pub const PROTOCOL_KEY: &str = "rebound-protocol";

/// Whether a client that speaks this protocol is understood here.
pub fn protocol(said: &str) -> Result<(), Rejected> {
    match said.parse() {
        Ok(CLIENT_PROTOCOL) => Ok(()),
        _ => {
            let field = "protocol";
            let why = format!(
                "the client speaks {said:?}, this server {CLIENT_PROTOCOL}; use a client of the servers' version"
            );
            Err(Rejected::Invalid { field, why })
        }
    }
}

/// A job to open, and its trace if the caller named one.
pub fn open(wire: v1::OpenRequest) -> Result<(Open, Option<TraceId>), Rejected> {
    let trace = trace_in(&wire.trace_id)?;
    let Some(spec) = wire.spec else {
        return Err(invalid("spec", "is missing"));
    };
    let too_many = |field, limit, what| Rejected::TooMany {
        field,
        limit: u64::from(limit),
        what,
    };
    let priority = u8::try_from(spec.priority)
        .map_err(|_| too_many("spec.priority", PRIORITY_MAX, "(0 is the lowest)"))?;
    if spec.max_attempts > ATTEMPTS_MAX {
        return Err(too_many("spec.max_attempts", ATTEMPTS_MAX, "attempts"));
    }
    let deadline = match spec.deadline {
        None => Deadline::None,
        Some(v1::job_spec::Deadline::DeadlineInUs(us)) => Deadline::In(us),
        Some(v1::job_spec::Deadline::DeadlineAtUs(us)) => Deadline::At(Time(us)),
    };
    let mut labels: Vec<(String, String)> = spec
        .labels
        .into_iter()
        .map(|label| (label.key, label.value))
        .collect();
    labels.sort();
    let open = Open {
        key: wire.idempotency_key.to_vec(),
        name: spec.name,
        labels,
        priority,
        deadline,
        spec: Spec {
            recogniser: spec.recogniser,
            resources: resources_in(spec.resources.as_ref()),
            photo_timeout: spec.photo_timeout_us,
            max_attempts: spec.max_attempts,
            drop_late: spec.drop_late,
            region: spec.region,
        },
        photos: photos(&wire.photos),
        close: wire.close,
    };
    Ok((open, trace))
}

/// Photos, in order.
pub fn photos(wire: &[v1::Photo]) -> Photos {
    Photos::pack(wire.iter().map(|photo| photo.uri.as_str()))
}

/// A trace id: 16 bytes, or none.
pub fn trace_in(wire: &[u8]) -> Result<Option<TraceId>, Rejected> {
    match (wire.is_empty(), <[u8; 16]>::try_from(wire)) {
        (true, _) => Ok(None),
        (false, Ok(bytes)) => Ok(Some(TraceId(bytes))),
        (false, Err(_)) => Err(invalid(
            "trace_id",
            &format!("has {} bytes; it must have 16, or be empty", wire.len()),
        )),
    }
}

/// The answer to an open; `None` when the reply is not one to an open.
pub fn opened(reply: &Reply, placeable: bool, outlook: Option<Outlook>) -> Option<v1::OpenReply> {
    let Reply::Opened {
        job,
        phase,
        next_offset,
        trace,
        repeated,
    } = reply
    else {
        return None;
    };
    Some(v1::OpenReply {
        job: job.0,
        state: phase_out(*phase).into(),
        next_offset: *next_offset,
        placeable,
        trace_id: trace.0.to_vec().into(),
        repeated: *repeated,
        outlook: outlook.map(outlook_out),
    })
}

fn outlook_out(outlook: Outlook) -> v1::Outlook {
    v1::Outlook {
        ahead: outlook.ahead,
        expected_done_us: time_out(outlook.expected_done),
        too_late: outlook.too_late,
    }
}

/// A job.
pub fn job(view: &JobView) -> v1::Job {
    let JobView {
        id,
        environment,
        job,
        spec,
        waiting_for,
        suspects,
        outlook,
    } = view;
    let labels = job.labels.iter().map(|(key, value)| v1::Label {
        key: key.clone(),
        value: value.clone(),
    });
    v1::Job {
        id: id.0,
        environment: environment.clone(),
        spec: Some(v1::JobSpec {
            name: job.name.clone(),
            recogniser: spec.recogniser.clone(),
            resources: Some(resources_out(&spec.resources)),
            priority: u32::from(job.priority),
            photo_timeout_us: spec.photo_timeout,
            max_attempts: spec.max_attempts,
            labels: labels.collect(),
            drop_late: spec.drop_late,
            region: spec.region.clone(),
            deadline: job.deadline.map(|at| v1::job_spec::Deadline::DeadlineAtUs(at.0)),
        }),
        state: phase_out(job.phase).into(),
        tasks: job.tasks,
        waiting: job.waiting(),
        given: job.given,
        succeeded: job.succeeded,
        failed: job.failed,
        cancelled: job.cancelled(),
        opened_us: job.opened.0,
        ended_us: time_out(job.ended),
        deadline_us: time_out(job.deadline),
        changed: job.changed,
        trace_id: job.trace.0.to_vec().into(),
        actor: job.actor.clone(),
        waiting_for: (*waiting_for).to_owned(),
        suspects: *suspects,
        late: job.late,
        dropped: job.dropped,
        outlook: outlook.map(outlook_out),
        cost_micro_usd: job.cost,
    }
}

/// Where a job stands.
pub fn phase_out(phase: Phase) -> v1::JobState {
    match phase {
        Phase::Open => v1::JobState::Open,
        Phase::Closed => v1::JobState::Closed,
        Phase::Done => v1::JobState::Done,
        Phase::Cancelled => v1::JobState::Cancelled,
    }
}

/// The one outcome of a task.
pub fn result(task: u64, uri: String, record: ResultRecord) -> v1::TaskResult {
    let outcome = if record.cause.is_none() {
        v1::Outcome::Succeeded
    } else {
        v1::Outcome::Failed
    };
    v1::TaskResult {
        task,
        uri,
        outcome: outcome.into(),
        cause: cause_out(record.cause).into(),
        output: record.output,
        given: record.given.0,
        worker: record.worker.0,
        started_us: record.started.0,
        ended_us: record.ended.0,
        recorded_us: record.recorded.0,
    }
}

/// All there is about a task.
pub fn task(
    view: &TaskView,
    uri: String,
    record: Option<ResultRecord>,
    attempts: Vec<AttemptRecord>,
) -> v1::TaskReply {
    let attempts = attempts.into_iter().map(|attempt| v1::Attempt {
        given: attempt.given.0,
        worker: attempt.worker.0,
        cause: cause_out(Some(attempt.cause)).into(),
        message: String::from_utf8_lossy(&attempt.message).into_owned(),
        ended_us: attempt.at.0,
    });
    // The attempt whose failure is the task's result counts with those before it.
    let last = record.as_ref().and_then(|record| record.cause);
    let (lost, failed) = last.map_or((0, 0), |cause| match cause.is_loss() {
        true => (1, 0),
        false => (0, 1),
    });
    let died = u32::from(last.is_some_and(|cause| cause.is_death() || cause == Cause::Quarantined));
    v1::TaskReply {
        job: view.job.0,
        task: view.task,
        uri: uri.clone(),
        state: view.state.to_owned(),
        given: view.held.map_or(0, |(given, _)| given.0),
        worker: view.held.map_or(0, |(_, worker)| worker.0),
        attempts: view.attempts + failed,
        losses: view.losses + lost,
        not_before_us: time_out(view.not_before),
        result: record.map(|record| result(view.task, uri, record)),
        attempts_made: attempts.collect(),
        deaths: view.deaths + died,
    }
}

/// A worker, with what it last said to this leader. `given` is how many tasks it holds.
pub fn worker(id: WorkerId, worker: &Worker, heard: Option<&Heard>, given: u64) -> v1::Worker {
    let state = match worker.standing {
        Standing::Active => "active",
        Standing::Draining => "draining",
        Standing::Left => "left",
        Standing::Lost => "lost",
    };
    let recognisers = worker
        .join
        .recognisers
        .iter()
        .map(|recogniser| v1::RecogniserRef {
            name: recogniser.name.clone(),
            digest: recogniser.digest.clone().into(),
        });
    v1::Worker {
        id: id.0,
        name: worker.join.name.clone(),
        state: state.to_owned(),
        pool: Some(pool_out(&worker.join.pool)),
        slots: worker.join.slots,
        resources: Some(resources_out(&worker.join.resources)),
        recognisers: recognisers.collect(),
        joined_us: worker.joined.0,
        ended_us: time_out(worker.ended),
        why: worker.why.clone(),
        given,
        succeeded: worker.succeeded,
        failed: worker.failed,
        running: heard.map_or(0, |heard| heard.running),
        spooled: heard.map_or(0, |heard| heard.spooled),
        heard_us_ago: heard.map_or(0, |heard| heard.ago),
        version: worker.join.version.clone(),
    }
}

/// A server of the cluster.
pub fn member(view: &MemberView) -> v1::MemberState {
    let role = match view.member.role {
        Role::Learner => "learner",
        Role::Entering => "entering",
        Role::Voter => "voter",
        Role::Leaving => "leaving",
    };
    let (stranger, stranger_us_ago) = view.stranger.unwrap_or_default();
    let said = view.build.as_ref();
    v1::MemberState {
        server: view.id.0,
        peer_address: view.member.peer.clone(),
        client_address: view.member.client.clone(),
        role: role.to_owned(),
        leader: view.leads,
        alive: view.alive,
        heard_us_ago: view.heard_ago.unwrap_or_default(),
        matched: view.matched,
        incarnation: view.member.incarnation,
        replaces: view.member.replaces.map_or(0, |id| id.0),
        stranger,
        stranger_us_ago,
        build: said.map(|said| said.build.name.clone()).unwrap_or_default(),
        version_min: said.map_or(0, |said| said.build.versions.oldest.into()),
        version_max: said.map_or(0, |said| said.build.versions.newest.into()),
        build_recorded: said.is_some_and(|said| said.is_recorded),
    }
}

/// The typed detail of a refused call. `leader` is the leader's address, if it is known.
pub fn refusal(refused: &Refused, leader: String) -> v1::Refusal {
    use v1::refusal::Kind;
    let mut wire = v1::Refusal {
        leader,
        ..v1::Refusal::default()
    };
    let mut field = "";
    let kind = match refused {
        Refused::NotLeader { .. } => Kind::NotLeader,
        Refused::Overloaded { retry_after, .. } => {
            wire.retry_after_us = *retry_after;
            Kind::Overloaded
        }
        Refused::Unknown => Kind::Unknown,
        Refused::Timeout => Kind::Timeout,
        Refused::Rejected(rejected) => {
            field = rejected.field();
            rejection(rejected, &mut wire)
        }
    };
    // The message already begins with the field; said apart, it must not be said twice.
    let message = refused.to_string();
    let message = message
        .strip_prefix(field)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(&message);
    v1::Refusal {
        kind: kind.into(),
        message: message.to_owned(),
        field: field.to_owned(),
        ..wire
    }
}

fn rejection(rejected: &Rejected, wire: &mut v1::Refusal) -> v1::refusal::Kind {
    use v1::refusal::Kind;
    match rejected {
        Rejected::NotFound { .. } => Kind::NotFound,
        Rejected::Conflict { .. } => Kind::Conflict,
        Rejected::Gap { expected } => {
            wire.expected_offset = *expected;
            Kind::Rejected
        }
        Rejected::Quota {
            have,
            limit,
            retry_at,
            retry_after,
            ..
        } => {
            (wire.have, wire.limit) = (*have, *limit);
            (wire.retry_at_us, wire.retry_after_us) = (time_out(*retry_at), *retry_after);
            Kind::Quota
        }
        Rejected::Full {
            have,
            limit,
            retry_after,
            ..
        } => {
            (wire.have, wire.limit, wire.retry_after_us) = (*have, *limit, *retry_after);
            Kind::Overloaded
        }
        _ => Kind::Rejected,
    }
}

fn time_out(time: Option<Time>) -> u64 {
    time.map_or(0, |time| time.0)
}

fn invalid(field: &'static str, why: &str) -> Rejected {
    Rejected::Invalid {
        field,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::JobId;

    fn request() -> v1::OpenRequest {
        v1::OpenRequest {
            spec: Some(v1::JobSpec::default()),
            ..v1::OpenRequest::default()
        }
    }

    #[test]
    fn what_is_missing_or_too_large_is_named() {
        assert_eq!(open(v1::OpenRequest::default()).unwrap_err().field(), "spec");
        let mut wire = request();
        wire.spec.as_mut().unwrap().priority = 256;
        assert_eq!(open(wire).unwrap_err().field(), "spec.priority");
        let mut wire = request();
        wire.spec.as_mut().unwrap().max_attempts = ATTEMPTS_MAX + 1;
        assert_eq!(open(wire).unwrap_err().field(), "spec.max_attempts");
        let wire = v1::OpenRequest {
            trace_id: vec![1; 15].into(),
            ..request()
        };
        let rejected = open(wire).unwrap_err();
        assert_eq!(
            rejected.to_string(),
            "trace_id: has 15 bytes; it must have 16, or be empty"
        );
    }

    #[test]
    fn the_last_failure_counts_with_those_before_it() {
        let view = TaskView {
            env: crate::types::EnvId(1),
            job: JobId(2),
            task: 3,
            state: "failed",
            held: None,
            attempts: 2,
            losses: 5,
            deaths: 1,
            not_before: None,
        };
        let counts = |cause| {
            let record = ResultRecord {
                worker: crate::types::WorkerId(8),
                given: crate::types::Given(9),
                cause,
                started: Time(1),
                ended: Time(2),
                recorded: Time(3),
                output: bytes::Bytes::new(),
            };
            let reply = task(&view, String::new(), Some(record), Vec::new());
            (reply.attempts, reply.losses, reply.deaths)
        };
        assert_eq!(counts(None), (2, 5, 1));
        assert_eq!(counts(Some(Cause::Recogniser)), (3, 5, 1));
        assert_eq!(counts(Some(Cause::WorkerLost)), (2, 6, 1));
        assert_eq!(counts(Some(Cause::Quarantined)), (3, 5, 2));
    }

    #[test]
    fn labels_come_in_sorted() {
        let label = |key: &str| v1::Label {
            key: key.into(),
            value: "v".into(),
        };
        let mut wire = request();
        wire.spec.as_mut().unwrap().labels = vec![label("b"), label("a")];
        let (open, trace) = open(wire).unwrap();
        assert_eq!(
            open.labels,
            [("a".to_owned(), "v".to_owned()), ("b".to_owned(), "v".to_owned())]
        );
        assert_eq!(trace, None);
    }

    #[test]
    fn refusals_say_the_field_once() {
        let gap = refusal(&Refused::Rejected(Rejected::Gap { expected: 7 }), String::new());
        assert_eq!((gap.field.as_str(), gap.expected_offset), ("offset", 7));
        assert!(gap.message.starts_with("photos up to 7"), "{}", gap.message);
        let unknown = refusal(
            &Refused::Rejected(Rejected::NotFound { what: "job", id: 3 }),
            String::new(),
        );
        assert_eq!(unknown.kind(), v1::refusal::Kind::NotFound);
        let busy = Refused::Overloaded {
            what: "too much",
            retry_after: 5,
        };
        assert_eq!(refusal(&busy, String::new()).retry_after_us, 5);
        let full = Rejected::Full {
            field: "photos",
            what: "photos waiting",
            have: 7,
            more: 2,
            limit: 8,
            retry_after: 9,
        };
        let full = refusal(&full.into(), String::new());
        assert_eq!(
            (full.kind(), full.field.as_str()),
            (v1::refusal::Kind::Overloaded, "photos")
        );
        assert_eq!((full.have, full.limit, full.retry_after_us), (7, 8, 9));
    }

    #[test]
    fn only_an_opened_job_answers_an_open() {
        assert_eq!(opened(&Reply::Done, true, None), None);
        let reply = Reply::Opened {
            job: JobId(9),
            phase: Phase::Closed,
            next_offset: 3,
            trace: TraceId([7; 16]),
            repeated: true,
        };
        let outlook = Outlook {
            ahead: 3,
            expected_done: Some(Time(9)),
            too_late: true,
        };
        let wire = opened(&reply, false, Some(outlook)).unwrap();
        let told = wire.outlook.unwrap();
        assert_eq!((told.ahead, told.expected_done_us, told.too_late), (3, 9, true));
        assert_eq!(
            (wire.job, wire.next_offset, wire.placeable, wire.repeated),
            (9, 3, false, true)
        );
        assert_eq!(wire.state(), v1::JobState::Closed);
    }
}
