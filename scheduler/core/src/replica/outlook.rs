//! When a job will be done, as far as its leader can tell: an estimate for people, never for decisions. What is ahead of
//! it in its environment's order, what workers measured, and the environment's part of them.

use std::collections::BTreeMap;

use super::Replica;
use crate::limits::OUTLOOK_JOBS_MAX;
use crate::observe::could_run;
use crate::state::jobs::{Job, QueueKey};
use crate::state::workers::Standing;
use crate::types::{EnvId, JobId, SpecId, Time};

/// What is known of a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Photos of its environment that go before it: those with workers, and those in front of it in the queue.
    pub ahead: u64,
    /// When its photos so far will have ended; none while no worker that could run it has measured such photos.
    pub expected_done: Option<Time>,
    /// By this estimate it ends after its deadline.
    pub too_late: bool,
}

impl Replica {
    /// The outlook of a job that has not ended, at a leader.
    pub(super) fn outlook(&self, env: EnvId, id: JobId) -> Option<Outlook> {
        let leader = self.leader.as_ref()?;
        let job = self
            .state
            .jobs
            .get_in(env, id)
            .filter(|job| job.phase.is_live())?;
        let queued = self.queued_ahead(env, id, job);
        let held = self.state.environments.get(env).map_or(0, |one| one.counts.given);
        let waiting: u64 = queued.values().sum();
        let (slots, service) = self.measured(job.spec)?;
        let expected_done = service.map(|own| {
            let each = |spec: SpecId| self.measured(spec).and_then(|(_, us)| us).unwrap_or(own);
            let before: u128 = queued
                .iter()
                .map(|(spec, tasks)| u128::from(*tasks) * u128::from(each(*spec)))
                .sum();
            // What is with workers is half done, on the whole.
            let held = u128::from(held) * u128::from(own) / 2;
            let work = before + held + u128::from(job.waiting()) * u128::from(own);
            let (weight, all) = self.part_of(env);
            let us = work * u128::from(all) / (u128::from(slots.max(1)) * u128::from(weight));
            let us = u64::try_from(us).unwrap_or(u64::MAX).saturating_add(own);
            let now = leader.clock.peek(self.now);
            Time(now.0.saturating_add(us))
        });
        let deadline = job.deadline.unwrap_or(Time(u64::MAX));
        Some(Outlook {
            ahead: waiting + held.saturating_sub(job.given),
            expected_done,
            too_late: expected_done.is_some_and(|at| at > deadline),
        })
    }

    /// Photos of the environment in front of a job, by what runs them. Looks at a bounded number of jobs of each spec.
    fn queued_ahead(&self, env: EnvId, id: JobId, job: &Job) -> BTreeMap<SpecId, u64> {
        let own: QueueKey = self.state.jobs.place(env, id, job, job.late_to.max(job.fresh));
        let of_env = |spec: &SpecId| self.state.specs.home(*spec) == Some(env);
        let specs = self.state.jobs.queued_specs().filter(of_env);
        specs
            .map(|spec| {
                let before = self
                    .state
                    .jobs
                    .queued(spec)
                    .take_while(|key| *key < own)
                    .filter(|key| key.3 != id)
                    .take(OUTLOOK_JOBS_MAX);
                let waiting = before.filter_map(|key| self.state.jobs.get_in(env, key.3));
                (spec, waiting.map(Job::waiting).sum())
            })
            .collect()
    }

    /// Slots of the workers that could run a spec, and how long a photo of it takes there on the whole; none when
    /// there is no such worker.
    fn measured(&self, spec: SpecId) -> Option<(u64, Option<u64>)> {
        let leader = self.leader.as_ref()?;
        let record = self.state.specs.get(spec)?;
        let (mut slots, mut known, mut rate) = (0, 0, 0u64);
        for (id, worker) in self.state.workers.iter_live() {
            if worker.standing != Standing::Active || !could_run(&worker.join, record) {
                continue;
            }
            let of = u64::from(worker.join.slots);
            slots += of;
            if let Some(us) = leader.paces.get(&id).and_then(|pace| pace.service(spec)) {
                known += of;
                rate += of * RATE / us;
            }
        }
        let service = (known * RATE).checked_div(rate).filter(|_| known > 0);
        (slots > 0).then_some((slots, service))
    }

    /// An environment's weight, and that of all that have something to do.
    fn part_of(&self, env: EnvId) -> (u64, u64) {
        let weight = |id| u64::from(self.state.allotment(id).weight.max(1));
        let busy = self.state.environments.iter().filter(|(id, one)| {
            let counts = one.counts;
            *id == env || counts.waiting + counts.given > 0
        });
        (weight(env), busy.map(|(id, _)| weight(id)).sum())
    }
}

/// Rates are counted in photos in so many µs.
const RATE: u64 = 1_000_000_000_000;
