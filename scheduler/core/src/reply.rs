//! What a replica answers.

use crate::event::Verdict;
use crate::state::jobs::Phase;
use crate::types::{Given, Index, JobId, Time, TraceId, WorkerId};

/// Reported attempts of consecutive tasks, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The job.
    pub job: JobId,
    /// Index of the first photo in it.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The attempts' fence.
    pub given: Given,
    /// What became of them.
    pub verdict: Verdict,
}

/// What an applied command answers to whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing more to say than that it was applied.
    Done,
    /// The job, new or as the key had it.
    Opened {
        job: JobId,
        phase: Phase,
        next_offset: u64,
        trace: TraceId,
        repeated: bool,
    },
    /// Photos are in, or were already.
    Appended { next_offset: u64 },
    /// Closed or cancelled, now or before.
    Job { job: JobId },
    /// A session began.
    Joined { worker: WorkerId },
    /// Verdicts on all reported results, in order.
    Ended { worker: WorkerId, verdicts: Vec<Judged> },
    /// How often this environment has counted.
    Counted { count: u64, index: Index },
    /// So many pieces of the plan were taken.
    Adopted { runs: usize, dropped: usize },
    /// The cluster's clock.
    Clock { now: Time },
    /// So many photos are late.
    Overdue { late: u64 },
    /// So many keys were forgotten, and so many jobs deleted.
    Expired { keys: u64, jobs: usize },
}

/// Why an entry, or a request before it became one, was turned down. Asking again gives the same answer until
/// something else changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Unknown, or another environment's: both answer alike.
    #[error("{what} {id} is not known")]
    NotFound { what: &'static str, id: u64 },
    /// The same key or offset with other content.
    #[error("{what} was used before with other content; use a new one, or send the same content")]
    Conflict { what: &'static str },
    /// An append beyond what is there.
    #[error("offset: photos up to {expected} are here; the next append must begin there")]
    Gap { expected: u64 },
    /// The job takes no more photos.
    #[error("job {job} is {phase:?} and takes no more photos")]
    NotOpen { job: JobId, phase: Phase },
    /// `close` named another number of photos than are there.
    #[error("total: the job has {have} photos, not {said}; append the missing ones and close again")]
    WrongTotal { have: u64, said: u64 },
    /// A bound was met.
    #[error("{field}: at most {limit} {what}")]
    TooMany {
        field: &'static str,
        limit: u64,
        what: &'static str,
    },
    /// A limit of the environment was met. It may pass: at `retry_at`, `retry_after` µs from now, if that is known.
    #[error("{field}: the environment has {have} {what}, and {more} more would be over its limit of {limit}{}", later(*retry_after))]
    Quota {
        field: &'static str,
        what: &'static str,
        have: u64,
        more: u64,
        limit: u64,
        retry_at: Option<Time>,
        retry_after: u64,
    },
    /// The whole cluster has as much as it takes. It passes when work is done: the leader says in how many µs to try again.
    #[error("{field}: the cluster has {have} {what}, and {more} more would be over its limit of {limit}; try again in {} ms", retry_after / 1000)]
    Full {
        field: &'static str,
        what: &'static str,
        have: u64,
        more: u64,
        limit: u64,
        retry_after: u64,
    },
    /// A field breaks a rule.
    #[error("{field}: {why}")]
    Invalid { field: &'static str, why: String },
    /// The output of a result is too large.
    #[error("output: the result of task {task} has {bytes} bytes, at most {limit} are taken")]
    ResultTooLarge { task: u64, bytes: usize, limit: usize },
    /// This cluster has begun already.
    #[error("the cluster has begun already")]
    AlreadyBegun,
}

impl Rejected {
    /// The field to correct, if it is one.
    pub fn field(&self) -> &'static str {
        match self {
            Rejected::Gap { .. } => "offset",
            Rejected::WrongTotal { .. } => "total",
            Rejected::TooMany { field, .. }
            | Rejected::Invalid { field, .. }
            | Rejected::Quota { field, .. }
            | Rejected::Full { field, .. } => field,
            Rejected::ResultTooLarge { .. } => "output",
            Rejected::Conflict { what } => what,
            _ => "",
        }
    }
}

fn later(retry_after: u64) -> String {
    match retry_after {
        0 => String::new(),
        us => format!("; there is room again in {} s", us.div_ceil(crate::types::SECOND)),
    }
}

/// Why a question got no answer from this replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Ask the leader.
    #[error("this server does not lead")]
    NotLeader { leader: Option<crate::types::ReplicaId> },
    /// Too much at once.
    #[error("{what}; try again in {} ms", retry_after / 1000)]
    Overloaded { what: &'static str, retry_after: u64 },
    /// It may or may not have happened: ask again with the same key.
    #[error("the outcome is not known: it may still happen; ask again with the same key")]
    Unknown,
    /// The question's time limit passed, and nothing will come of it: a read, or what was never proposed.
    #[error("the request's time limit passed before there was an answer")]
    Timeout,
    /// The request breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}
