//! Effects that follow from state: the same on every replica, acted on by the leader alone. After a failover there
//! is nothing to hand over.

use std::collections::BTreeMap;

use crate::command::Spec;
use crate::limits::WEIGHT_MAX;
use crate::state::State;
use crate::state::runs::{Run, RunKey};
use crate::state::workers::Standing;
use crate::types::{EnvId, Given, Index, JobId, SpecId, Term, TraceId, WorkerId};

/// Parts of a photo in the order of runs: the least that any weight makes of one.
const FINE: u64 = WEIGHT_MAX as u64;

/// All that a worker shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Of the leader that says so.
    pub term: Term,
    /// Applied index at which it was computed.
    pub generation: Index,
    /// In the order they shall be done: each environment's as its queue has them, and the environments by their weights.
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
    /// A suspect: a single task, in a recogniser's process of its own.
    pub alone: bool,
}

/// Adds a run, its suspects each as one of their own.
fn set_suspects_apart(state: &State, whole: DesiredRun, runs: &mut Vec<DesiredRun>) {
    let mut rest = whole.first;
    for task in state.retries.suspects(whole.job, whole.first..=whole.last) {
        if rest < task {
            let (first, last) = (rest, task - 1);
            runs.push(DesiredRun { first, last, ..whole });
        }
        runs.push(DesiredRun {
            first: task,
            last: task,
            alone: true,
            ..whole
        });
        rest = task + 1;
    }
    if rest <= whole.last {
        runs.push(DesiredRun { first: rest, ..whole });
    }
}

/// What a worker holds, in the order in which it shall be done. Within an environment the queue's: what came later and
/// is more urgent goes first. Environments share the worker by weight, as if each had a part of it to itself: whose
/// run would end first there goes first, so that the many photos that one has fetched ahead are not in front of the few
/// of another. A run ages by one photo an entry, so that those that come later do not keep it back for ever.
pub fn in_order(state: &State, worker: WorkerId) -> Vec<(RunKey, Run)> {
    let mut held = state.runs.of_worker(worker);
    let place = |key: &RunKey, run: &Run| {
        let job = state.jobs.get_in(key.env, key.job);
        job.map(|job| state.jobs.place(key.env, key.job, job, run.first))
    };
    held.sort_by_key(|(key, run)| (key.env, place(key, run), run.first));
    let weight = |env| u64::from(state.allotment(env).weight.max(1));
    let lightest = held.iter().map(|(key, _)| weight(key.env)).min().unwrap_or(1);
    let (mut env, mut done, mut ends) = (EnvId(0), 0, 0);
    let mut timed: Vec<_> = held
        .into_iter()
        .map(|(key, run)| {
            if env != key.env {
                (env, done, ends) = (key.env, 0, 0);
            }
            done += key.last - run.first + 1;
            let end = (run.given.0.saturating_mul(FINE))
                .saturating_add(done.saturating_mul(FINE) * lightest / weight(env));
            // Its own queue's order stands.
            ends = end.max(ends);
            (ends, key, run)
        })
        .collect();
    timed.sort_by_key(|(ends, key, _)| (*ends, key.env));
    timed.into_iter().map(|(_, key, run)| (key, run)).collect()
}

/// What a worker shall do by this state; nothing once its session has ended.
pub fn desired(state: &State, worker: WorkerId, term: Term) -> Desired {
    let mut specs = BTreeMap::new();
    let mut runs = Vec::new();
    for (key, run) in in_order(state, worker) {
        let trace = state
            .jobs
            .get_in(key.env, key.job)
            .map(|job| job.trace)
            .unwrap_or_default();
        if let Some(spec) = state.specs.get(run.spec) {
            specs.entry(run.spec).or_insert_with(|| spec.clone());
        }
        let whole = DesiredRun {
            env: key.env,
            job: key.job,
            first: run.first,
            last: key.last,
            given: run.given,
            spec: run.spec,
            trace,
            alone: false,
        };
        set_suspects_apart(state, whole, &mut runs);
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
