//! What machines turned out to be able to do, and to cost: a leader says it to the log when it is another thing than is
//! there.

use std::collections::BTreeMap;

use super::Replica;
use crate::command::Command;
use crate::limits::{BILLED_PER_ENTRY_MAX, MEASURE_CHANGED, MEASURE_EVERY, MEASURED_PER_ENTRY_MAX};
use crate::scaling::WHOLE;

impl Replica {
    /// The bill was heard: what is new of it goes into the log.
    pub(super) fn billed(&mut self, hours: Vec<(u64, u64)>) {
        let known = |hour: u64| {
            self.state
                .spend
                .range(hour..=hour)
                .next()
                .map(|(_, one)| one.billed)
        };
        let mut new = hours;
        new.retain(|(hour, money)| known(*hour).is_some_and(|billed| billed != Some(*money)));
        new.truncate(BILLED_PER_ENTRY_MAX);
        if self.leader.as_ref().is_some_and(|leader| leader.ready) && !new.is_empty() {
            self.duty(Command::Billed(new));
        }
    }

    /// Now and then: speeds as full machines measure them.
    pub(super) fn measure_duty(&mut self) {
        let elapsed = self.elapsed_by_clock();
        let Some(leader) = self.leader.as_mut() else {
            return;
        };
        if elapsed.saturating_sub(leader.measured) < MEASURE_EVERY {
            return;
        }
        leader.measured = elapsed;
        let speeds = self.new_speeds();
        if !speeds.is_empty() {
            self.duty(Command::Measured(speeds));
        }
    }

    /// Of machines whose slots are all at work: beside empty slots a photo takes less time, and the machine would be
    /// thought faster than it is.
    fn new_speeds(&self) -> Vec<(String, String, u64)> {
        let (state, rate) = (&self.state, self.config.clock_rate);
        let Some(leader) = &self.leader else {
            return Vec::new();
        };
        let mut sums: BTreeMap<(String, String), (u128, u64)> = BTreeMap::new();
        for (id, worker) in state.workers.iter_live() {
            let Some((_, machine)) = state.machines.of_worker(id) else {
                continue;
            };
            let slots = u64::from(worker.join.slots.max(1));
            let Some(pace) = leader.paces.get(&id).filter(|_| state.runs.held_by(id) >= slots) else {
                continue;
            };
            for spec in pace.service.keys() {
                let (Some(record), Some(us)) = (state.specs.get(*spec), pace.service(*spec)) else {
                    continue;
                };
                let name = record.recogniser.split('@').next().unwrap_or_default();
                let us = us.saturating_mul(rate).div_ceil(slots).max(1);
                let sum = sums
                    .entry((name.to_owned(), machine.pool.instance_type.clone()))
                    .or_default();
                *sum = (sum.0 + u128::from(us), sum.1 + 1);
            }
        }
        let mean = sums.into_iter().map(|((name, kind), (us, machines))| {
            let mean = u64::try_from(us / u128::from(machines)).unwrap_or(u64::MAX);
            (name, kind, mean.max(1))
        });
        let is_new = |(name, kind, us): &(String, String, u64)| {
            let known = state.measures.get(name, kind);
            known.is_none_or(|known| {
                let apart = known.us_per_photo.abs_diff(*us).saturating_mul(u64::from(WHOLE));
                apart > known.us_per_photo.saturating_mul(MEASURE_CHANGED)
            })
        };
        mean.filter(is_new).take(MEASURED_PER_ENTRY_MAX).collect()
    }
}
