//! The policy: what the leader decides, as data. `plan` is one pure function; the live leader, a simulation and a
//! replay call the same one. See `plan/README.md`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::observe::Observation;
use crate::plan::capacity::Scale;
use crate::types::{Given, Index, JobId, WorkerId};

pub mod capacity;
pub mod place;
mod regive;

/// All that shall happen, each piece with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The state it was made from.
    pub at: Index,
    /// Runs to give.
    pub assign: Vec<Assign>,
    /// Tails of runs to take from one worker and give to another.
    pub regive: Vec<Regive>,
    /// It stopped at a bound: planning again will find more.
    pub more: bool,
    /// What shall happen to the machines: goes into the log as an entry of its own.
    #[serde(skip)]
    pub scale: Scale,
    /// What the policy that is tried would have done.
    #[serde(skip)]
    pub trial: Option<Box<Scale>>,
}

/// Consecutive tasks of one job for one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// Who gets them.
    pub worker: WorkerId,
    /// The job.
    pub job: JobId,
    /// First task.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Why this worker.
    pub because: Because,
}

/// Consecutive tasks at the end of what is left of a run, for another worker than the one that holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regive {
    /// Who holds them.
    pub from: WorkerId,
    /// Who gets them.
    pub to: WorkerId,
    /// The job.
    pub job: JobId,
    /// First task.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The fence they have.
    pub given: Given,
    /// Why.
    pub because: Because,
}

/// Why a run went where it went: one code with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The most recently busy of the workers with a free slot; `rank` of `candidates`, 0 the busiest.
    FreeSlot { rank: u32, candidates: u32 },
    /// No slot was free: photos to fetch ahead; `rank` of `candidates`.
    Ahead { rank: u32, candidates: u32 },
    /// The last of its tasks would end so many µs from now where it was, and so many where it goes.
    Slow { here: u64, there: u64 },
}

/// What the operator may tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Photos a worker holds for each slot until its speed is known.
    pub credit_per_slot: u32,
    /// Most photos it holds for each slot, however fast it is.
    pub credit_max: u32,
    /// Most runs in one plan.
    pub runs_max: usize,
    /// Most photos of one run, at least 1.
    pub run_tasks_max: u64,
    /// Most jobs that one observation shows; one of each spec at least.
    pub demand_max: usize,
    /// Most tails that one observation shows.
    pub tails_max: usize,
    /// Most pieces that one plan takes back.
    pub regives_max: usize,
}

impl Plan {
    /// True when nothing shall happen.
    pub fn is_empty(&self) -> bool {
        self.assign.is_empty() && self.regive.is_empty()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            credit_per_slot: crate::limits::CREDIT_PER_SLOT,
            credit_max: crate::limits::CREDIT_MAX,
            runs_max: crate::limits::RUNS_PER_PLAN_MAX,
            run_tasks_max: crate::limits::TASKS_PER_JOB_MAX,
            demand_max: crate::limits::DEMAND_MAX,
            tails_max: crate::limits::TAILS_MAX,
            regives_max: crate::limits::REGIVES_PER_PLAN_MAX,
        }
    }
}

/// Decides. Bounded by the observation's size; the plan of a world where the last plan happened is empty.
pub fn plan(policy: &Policy, seen: &Observation) -> Plan {
    let mut plan = Plan {
        at: seen.at,
        ..Plan::default()
    };
    place::place(policy, seen, &mut plan);
    regive::regive(policy, seen, &mut plan);
    if let Some(fleet) = &seen.fleet {
        plan.scale = capacity::capacity(seen.at, seen.now, fleet);
    }
    if let Some(fleet) = &seen.trial {
        plan.trial = Some(Box::new(capacity::capacity(seen.at, seen.now, fleet)));
    }
    assert!(no_task_twice(&plan));
    plan
}

fn no_task_twice(plan: &Plan) -> bool {
    let mut tasks = BTreeSet::new();
    let assigned = plan.assign.iter().map(|a| (a.job, a.first, a.count));
    let regiven = plan.regive.iter().map(|a| (a.job, a.first, a.count));
    assigned
        .chain(regiven)
        .all(|(job, first, count)| (first..first + count).all(|task| tasks.insert((job, task))))
}

#[cfg(test)]
mod tests;
