//! Tails: tasks that a worker holds and has not started, which another one might do sooner.

use std::collections::BTreeMap;

use super::{Known, Observation};
use crate::effects::in_order;
use crate::limits::TAILS_PER_WORKER_MAX;
use crate::pace::Pace;
use crate::state::State;
use crate::state::runs::{Run, RunKey};
use crate::types::{EnvId, Given, JobId, SpecId, WorkerId};

/// The last tasks of a run, none of them started by its worker's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Whose they are.
    pub env: EnvId,
    /// The job.
    pub job: JobId,
    /// What runs them.
    pub spec: SpecId,
    /// Who holds them.
    pub worker: WorkerId,
    /// By which fence.
    pub given: Given,
    /// First task.
    pub first: u64,
    /// Last task.
    pub last: u64,
    /// How many tasks the worker has before the first of them.
    pub before: u64,
    /// µs until the first of them is in a slot.
    pub wait: u64,
    /// µs from one of them to the next.
    pub step: u64,
    /// µs of one in its slot.
    pub service: u64,
    /// Slots of the worker.
    pub slots: u32,
}

/// How far a worker is in its runs, by its own last word on its present stream: tasks before these may be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursors(BTreeMap<(JobId, Given), u64>);

impl Cursors {
    /// Notes that tasks of a run before `next` are started. Of several parts of a run the furthest one counts.
    pub fn note(&mut self, job: JobId, given: Given, next: u64) {
        let at = self.0.entry((job, given)).or_default();
        *at = next.max(*at);
    }

    /// The first task of a run that is not started.
    fn of(&self, job: JobId, given: Given) -> u64 {
        self.0.get(&(job, given)).copied().unwrap_or(0)
    }
}

/// A worker that holds more than its slots.
pub(super) struct Loaded<'a> {
    pub id: WorkerId,
    pub slots: u32,
    pub known: Known<'a>,
}

/// What might be taken back from workers that hold more than their slots. A worker whose cursors are not known is left
/// alone, and so are suspects and tasks that were taken back as often as they may. At most `most` are shown.
pub(super) fn tails(state: &State, most: usize, loaded: &[Loaded], seen: &mut Observation) {
    for worker in loaded {
        let (Some(cursors), Some(pace)) = (worker.known.cursors, worker.known.pace) else {
            continue;
        };
        let mut found = of_worker(state, worker, cursors, pace);
        // The last in its order wait the longest.
        let most = TAILS_PER_WORKER_MAX.min(most - seen.tails.len());
        if found.len() > most {
            found.drain(..found.len() - most);
            seen.more_tails = true;
        }
        seen.tails.extend(found);
    }
}

fn of_worker(state: &State, worker: &Loaded, cursors: &Cursors, pace: &Pace) -> Vec<Tail> {
    let slots = u64::from(worker.slots.max(1));
    let (mut before, mut work, mut found) = (0, 0u64, Vec::new());
    for (key, run) in in_order(state, worker.id) {
        let count = key.last - run.first + 1;
        // Without a measure there is no saying that it is slow.
        let service = pace.at_least(run.spec).unwrap_or(0);
        let from = cursors.of(key.job, run.given).max(run.first);
        let from = from.max(behind_fixed(state, &key, &run));
        if from <= key.last && service > 0 {
            let skipped = from - run.first;
            found.push(Tail {
                env: key.env,
                job: key.job,
                spec: run.spec,
                worker: worker.id,
                given: run.given,
                first: from,
                last: key.last,
                before: before + skipped,
                wait: work.saturating_add(service.saturating_mul(skipped)) / slots,
                step: service / slots,
                service,
                slots: worker.slots,
            });
        }
        before += count;
        work = work.saturating_add(service.saturating_mul(count));
    }
    found
}

/// The first task of a run behind all those that must stay where they are.
fn behind_fixed(state: &State, key: &RunKey, run: &Run) -> u64 {
    let stays = state
        .retries
        .last_with(key.env, key.job, run.first..=key.last, |retry| state.stays(retry));
    stays.map_or(run.first, |task| task + 1)
}
