//! What JSON answers look like: the wire's messages with names for numbers, RFC 3339 times and hex digests.

use std::collections::BTreeMap;

use rebound_proto::v1;
use serde::Serialize;
use serde_json::Value;

use crate::output::time_opt;

/// A job.
#[derive(Clone, Debug, Serialize)]
pub struct JobView {
    pub job: u64,
    pub name: String,
    pub environment: String,
    pub actor: String,
    pub recogniser: String,
    pub state: &'static str,
    pub tasks: u64,
    pub waiting: u64,
    pub given: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub waiting_for: Option<String>,
    pub suspects: u64,
    /// Not ended when their deadline passed.
    pub late: u64,
    /// Of the failed ones, those that were dropped for it.
    pub dropped: u64,
    /// Photos that go before it, of a job that was asked for alone.
    pub ahead: Option<u64>,
    /// An estimate of its end.
    pub expected_done_at: Option<String>,
    /// By that estimate it cannot make its deadline.
    pub too_late: bool,
    /// Machine time that it took on machines that the cluster bought.
    pub usd: f64,
    pub priority: u32,
    pub opened_at: Option<String>,
    pub ended_at: Option<String>,
    pub deadline_at: Option<String>,
    pub photo_timeout_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub resources: Option<ResourcesView>,
    pub labels: BTreeMap<String, String>,
    pub trace_id: Option<String>,
    pub changed: u64,
}

/// What a photo needs, or a worker has.
#[derive(Clone, Debug, Serialize)]
pub struct ResourcesView {
    pub milli_cpu: u32,
    pub memory_mib: u32,
    pub gpus: u32,
}

impl From<v1::Resources> for ResourcesView {
    fn from(r: v1::Resources) -> Self {
        Self {
            milli_cpu: r.milli_cpu,
            memory_mib: r.memory_mib,
            gpus: r.gpus,
        }
    }
}

impl From<v1::Job> for JobView {
    fn from(job: v1::Job) -> Self {
        let state = job_state(job.state());
        let spec = job.spec.unwrap_or_default();
        Self {
            job: job.id,
            name: spec.name,
            environment: job.environment,
            actor: job.actor,
            recogniser: spec.recogniser,
            state,
            tasks: job.tasks,
            waiting: job.waiting,
            given: job.given,
            succeeded: job.succeeded,
            failed: job.failed,
            cancelled: job.cancelled,
            waiting_for: text_opt(job.waiting_for),
            suspects: job.suspects,
            late: job.late,
            dropped: job.dropped,
            ahead: job.outlook.map(|outlook| outlook.ahead),
            expected_done_at: job.outlook.and_then(|outlook| time_opt(outlook.expected_done_us)),
            too_late: job.outlook.is_some_and(|outlook| outlook.too_late),
            usd: job.cost_micro_usd as f64 / 1e6,
            priority: spec.priority,
            opened_at: time_opt(job.opened_us),
            ended_at: time_opt(job.ended_us),
            deadline_at: time_opt(job.deadline_us),
            photo_timeout_ms: (spec.photo_timeout_us != 0).then_some(spec.photo_timeout_us / 1_000),
            max_attempts: (spec.max_attempts != 0).then_some(spec.max_attempts),
            resources: spec.resources.map(Into::into),
            labels: spec
                .labels
                .into_iter()
                .map(|label| (label.key, label.value))
                .collect(),
            trace_id: hex_opt(&job.trace_id),
            changed: job.changed,
        }
    }
}

impl JobView {
    /// Tasks that are ended, one way or another.
    pub fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// The recorded outcome of a photo.
#[derive(Clone, Debug, Serialize)]
pub struct ResultView {
    pub job: u64,
    pub task: u64,
    pub uri: String,
    pub outcome: &'static str,
    pub cause: Option<&'static str>,
    /// Why it failed.
    pub message: Option<String>,
    /// What the recogniser answered: JSON as JSON, anything else as text.
    pub output: Option<Value>,
    pub given: u64,
    pub worker: u64,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub recorded_at: Option<String>,
    /// From start to end on the worker; none if it never started.
    pub ms: Option<u64>,
}

impl ResultView {
    /// The result of a task of `job`.
    pub fn new(job: u64, result: v1::TaskResult) -> Self {
        let succeeded = result.outcome() == v1::Outcome::Succeeded;
        let text = || String::from_utf8_lossy(&result.output).into_owned();
        Self {
            job,
            task: result.task,
            outcome: outcome(result.outcome()),
            cause: cause(result.cause()),
            message: (!succeeded).then(text),
            output: succeeded.then(|| output_value(&result.output)),
            uri: result.uri,
            given: result.given,
            worker: result.worker,
            started_at: time_opt(result.started_us),
            ended_at: time_opt(result.ended_us),
            recorded_at: time_opt(result.recorded_us),
            ms: (result.started_us != 0).then(|| result.ended_us.saturating_sub(result.started_us) / 1_000),
        }
    }
}

/// A task in its present state.
#[derive(Clone, Debug, Serialize)]
pub struct TaskView {
    pub job: u64,
    pub task: u64,
    pub uri: String,
    pub state: String,
    pub given: Option<u64>,
    pub worker: Option<u64>,
    pub attempts: u32,
    pub losses: u32,
    pub deaths: u32,
    pub not_before: Option<String>,
    pub result: Option<ResultView>,
    pub attempts_made: Vec<AttemptView>,
}

/// An attempt that ended without a recorded result.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    pub given: u64,
    pub worker: u64,
    pub cause: Option<&'static str>,
    pub message: String,
    pub ended_at: Option<String>,
}

impl From<v1::TaskReply> for TaskView {
    fn from(task: v1::TaskReply) -> Self {
        let attempt = |attempt: v1::Attempt| AttemptView {
            given: attempt.given,
            worker: attempt.worker,
            cause: cause(attempt.cause()),
            message: attempt.message,
            ended_at: time_opt(attempt.ended_us),
        };
        Self {
            job: task.job,
            task: task.task,
            uri: task.uri,
            state: task.state,
            given: (task.given != 0).then_some(task.given),
            worker: (task.worker != 0).then_some(task.worker),
            attempts: task.attempts,
            losses: task.losses,
            deaths: task.deaths,
            not_before: time_opt(task.not_before_us),
            result: task.result.map(|result| ResultView::new(task.job, result)),
            attempts_made: task.attempts_made.into_iter().map(attempt).collect(),
        }
    }
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerView {
    pub worker: u64,
    pub name: String,
    pub state: String,
    pub pool: Option<PoolView>,
    pub slots: u32,
    pub resources: Option<ResourcesView>,
    pub recognisers: Vec<RecogniserView>,
    pub given: u64,
    pub running: u32,
    pub spooled: u32,
    pub succeeded: u64,
    pub failed: u64,
    pub heard_ms_ago: u64,
    pub joined_at: Option<String>,
    pub ended_at: Option<String>,
    pub why: Option<String>,
    pub version: String,
}

/// EC2's capacity pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolView {
    pub region: String,
    pub zone_id: String,
    pub instance_type: String,
    pub market: &'static str,
}

/// A recogniser as a worker has it.
#[derive(Clone, Debug, Serialize)]
pub struct RecogniserView {
    pub name: String,
    pub digest: Option<String>,
}

impl From<v1::Worker> for WorkerView {
    fn from(worker: v1::Worker) -> Self {
        let pool = |pool: v1::Pool| PoolView {
            market: match pool.market() {
                v1::Market::Spot => "spot",
                v1::Market::OnDemand => "on-demand",
                v1::Market::Unspecified => "unspecified",
            },
            region: pool.region,
            zone_id: pool.zone_id,
            instance_type: pool.instance_type,
        };
        let recogniser = |r: v1::RecogniserRef| RecogniserView {
            digest: hex_opt(&r.digest),
            name: r.name,
        };
        Self {
            worker: worker.id,
            name: worker.name,
            state: worker.state,
            pool: worker.pool.map(pool),
            slots: worker.slots,
            resources: worker.resources.map(Into::into),
            recognisers: worker.recognisers.into_iter().map(recogniser).collect(),
            given: worker.given,
            running: worker.running,
            spooled: worker.spooled,
            succeeded: worker.succeeded,
            failed: worker.failed,
            heard_ms_ago: worker.heard_us_ago / 1_000,
            joined_at: time_opt(worker.joined_us),
            ended_at: time_opt(worker.ended_us),
            why: text_opt(worker.why),
            version: worker.version,
        }
    }
}

/// What a server says of itself, or why it says nothing.
#[derive(Clone, Debug, Serialize)]
pub struct ServerView {
    pub address: String,
    pub reached: bool,
    pub error: Option<String>,
    #[serde(flatten)]
    pub status: Option<StatusView>,
}

/// A server that answered.
#[derive(Clone, Debug, Serialize)]
pub struct StatusView {
    pub server: u64,
    pub cluster: String,
    pub role: String,
    pub leader: Option<u64>,
    pub leader_address: Option<String>,
    pub ready: bool,
    pub term: u64,
    pub committed: u64,
    pub applied: u64,
    pub not_applied: u64,
    pub first_index: u64,
    pub digest: Option<String>,
    pub tasks_waiting: u64,
    pub tasks_waiting_max: u64,
    pub open_bytes: u64,
    pub open_bytes_max: u64,
    /// What it refuses now under overload.
    pub sheds: Option<String>,
    pub refused_deadline: u64,
    pub refused_full: u64,
    pub refused_proposals: u64,
    /// Servers that have another state at the same entry: a fault.
    pub differs_from: Vec<u64>,
    pub tasks_given: u64,
    pub photos_running: u64,
    pub results_spooled: u64,
    pub workers: u64,
    pub jobs_open: u64,
    pub stale_refused: u64,
    pub now: Option<String>,
    pub clock_off_ms: i64,
    pub version: String,
    pub members: Vec<MemberView>,
}

/// A server of the cluster, as configured.
#[derive(Clone, Debug, Serialize)]
pub struct MemberView {
    pub server: u64,
    pub peer_address: String,
    pub client_address: String,
}

impl From<v1::StatusReply> for StatusView {
    fn from(status: v1::StatusReply) -> Self {
        let member = |m: v1::Member| MemberView {
            server: m.server,
            peer_address: m.peer_address,
            client_address: m.client_address,
        };
        Self {
            server: status.server,
            cluster: status.cluster,
            role: status.role,
            leader: (status.leader != 0).then_some(status.leader),
            leader_address: text_opt(status.leader_address),
            ready: status.ready,
            term: status.term,
            committed: status.committed,
            applied: status.applied,
            not_applied: status.proposed,
            first_index: status.first_index,
            digest: hex_opt(&status.digest),
            tasks_waiting: status.tasks_waiting,
            tasks_waiting_max: status.tasks_waiting_max,
            open_bytes: status.open_bytes,
            open_bytes_max: status.open_bytes_max,
            sheds: Some(status.sheds).filter(|sheds| !sheds.is_empty()),
            refused_deadline: status.refused_deadline,
            refused_full: status.refused_full,
            refused_proposals: status.refused_proposals,
            differs_from: status.differs_from,
            tasks_given: status.tasks_given,
            photos_running: status.photos_running,
            results_spooled: status.results_spooled,
            workers: status.workers,
            jobs_open: status.jobs_open,
            stale_refused: status.stale_refused,
            now: time_opt(status.now_us),
            clock_off_ms: status.clock_off_us / 1_000,
            version: status.version,
            members: status.members.into_iter().map(member).collect(),
        }
    }
}

/// The word for a job's state.
pub fn job_state(state: v1::JobState) -> &'static str {
    match state {
        v1::JobState::Unspecified => "unspecified",
        v1::JobState::Open => "open",
        v1::JobState::Closed => "closed",
        v1::JobState::Done => "done",
        v1::JobState::Cancelled => "cancelled",
    }
}

/// Whether a job in this state stays as it is.
pub fn is_ended(state: v1::JobState) -> bool {
    matches!(state, v1::JobState::Done | v1::JobState::Cancelled)
}

/// The word for an outcome.
pub fn outcome(outcome: v1::Outcome) -> &'static str {
    match outcome {
        v1::Outcome::Unspecified => "unspecified",
        v1::Outcome::Succeeded => "succeeded",
        v1::Outcome::Failed => "failed",
    }
}

/// The word for a cause, if there is one.
pub fn cause(cause: v1::Cause) -> Option<&'static str> {
    Some(match cause {
        v1::Cause::Unspecified => return None,
        v1::Cause::Input => "input",
        v1::Cause::Fetch => "fetch",
        v1::Cause::Crashed => "crashed",
        v1::Cause::Timeout => "timeout",
        v1::Cause::Recogniser => "recogniser",
        v1::Cause::ResultTooLarge => "result_too_large",
        v1::Cause::Released => "released",
        v1::Cause::WorkerLost => "worker_lost",
        v1::Cause::Quarantined => "quarantined",
        v1::Cause::TakenBack => "taken_back",
        v1::Cause::Dropped => "dropped",
    })
}

/// An answer of a recogniser: an object or array as such, anything else as text. A digest of digits alone is no number.
pub fn output_value(output: &[u8]) -> Value {
    match serde_json::from_slice(output) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
        _ => Value::String(String::from_utf8_lossy(output).into_owned()),
    }
}

/// Lower-case hex digits; none for no bytes.
pub fn hex_opt(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn text_opt(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_shown_as_what_they_are() {
        assert_eq!(
            output_value(br#"{"kind":"labels"}"#),
            serde_json::json!({"kind": "labels"})
        );
        let digits = "1".repeat(64);
        assert_eq!(output_value(digits.as_bytes()), Value::String(digits));
        assert_eq!(output_value(b"\xff"), Value::String("\u{fffd}".into()));
    }

    #[test]
    fn a_failure_has_a_message_and_no_output() {
        let result = v1::TaskResult {
            task: 3,
            uri: "file:///a.jpg".into(),
            outcome: v1::Outcome::Failed as i32,
            cause: v1::Cause::Input as i32,
            output: "not an image".into(),
            started_us: 1_000_000,
            ended_us: 1_250_000,
            ..Default::default()
        };
        let view = ResultView::new(7, result);
        assert_eq!(
            (view.outcome, view.cause, view.ms),
            ("failed", Some("input"), Some(250))
        );
        assert_eq!(
            (view.message.as_deref(), view.output),
            (Some("not an image"), None)
        );
    }
}
