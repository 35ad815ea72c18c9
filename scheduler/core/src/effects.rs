//! Effects that follow from state: the same on every replica, acted on by the leader alone. After a failover there
//! is nothing to hand over.

use std::collections::BTreeMap;

use crate::command::Spec;
use crate::state::State;
use crate::state::jobs::queue_key;
use crate::state::runs::RunKey;
use crate::state::workers::Standing;
use crate::types::{EnvId, Given, Index, JobId, SpecId, Term, TraceId, WorkerId};

/// All that a worker shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Of the leader that says so.
    pub term: Term,
    /// Applied index at which it was computed.
    pub generation: Index,
    /// In the order they shall be done: as they were given, and those given together as the queue has them.
    pub runs: Vec<DesiredRun>,
    /// What the runs name.
    pub specs: BTreeMap<SpecId, Spec>,
    /// It gets nothing new.
    pub drain: bool,
}

/// Consecutive tasks of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredRun {
    /// The environment.
    pub env: EnvId,
    /// The job.
    pub job: JobId,
    /// First task.
    pub first: u64,
    /// Last task.
    pub last: u64,
    /// The fence.
    pub given: Given,
    /// What runs them.
    pub spec: SpecId,
    /// The job's trace.
    pub trace: TraceId,
}

/// What a worker shall do by this state; nothing once its session has ended.
pub fn desired(state: &State, worker: WorkerId, term: Term) -> Desired {
    let mut specs = BTreeMap::new();
    let mut runs = Vec::new();
    let mut held = state.runs.of_worker(worker);
    // What one plan gave together is done in the queue's order, not in the order of the jobs' ages.
    let place = |key: &RunKey| {
        let job = state.jobs.get_in(key.env, key.job);
        job.map(|job| queue_key(key.job, job))
    };
    held.sort_by_key(|(key, run)| (run.given, place(key), run.first));
    for (key, run) in held {
        let trace = state
            .jobs
            .get_in(key.env, key.job)
            .map(|job| job.trace)
            .unwrap_or_default();
        if let Some(spec) = state.specs.get(run.spec) {
            specs.entry(run.spec).or_insert_with(|| spec.clone());
        }
        let (first, last) = (run.first, key.last);
        runs.push(DesiredRun {
            env: key.env,
            job: key.job,
            first,
            last,
            given: run.given,
            spec: run.spec,
            trace,
        });
    }
    let drain = state
        .workers
        .get(worker)
        .is_none_or(|worker| worker.standing != Standing::Active);
    Desired {
        term,
        generation: state.applied(),
        runs,
        specs,
        drain,
    }
}
