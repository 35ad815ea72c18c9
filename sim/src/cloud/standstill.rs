//! Machines that stand still: they stop, keep their volumes, and start again if there is one of their kind.

use rebound_core::cloud::CloudOutcome;
use rebound_core::types::*;

use super::SimCloud;

/// One that is asked to start runs after so long, in µs.
const STARTS_WITHIN: (u64, u64) = (2 * SECOND, 10 * SECOND);

impl SimCloud {
    pub(super) fn stop(&mut self, now: u64, machines: &[InstanceId]) -> CloudOutcome {
        // One that is not there, or not up yet, fails all: what EC2 does.
        let up = |id: &InstanceId| {
            let one = self.instances.get(id);
            one.is_some_and(|one| one.shown <= now && (one.runs <= now || one.stopped.is_some()))
        };
        if !machines.iter().all(up) {
            return CloudOutcome::Retry { after: 5 * SECOND };
        }
        for id in machines {
            if let Some(one) = self.instances.get_mut(id).filter(|one| one.is_on()) {
                one.stopped = Some(now);
                one.ran.push((one.runs, now));
                self.count("machines stopped");
            }
        }
        CloudOutcome::Accepted
    }

    pub(super) fn start_again(&mut self, now: u64, id: &InstanceId) -> CloudOutcome {
        let Some(one) = self.instances.get(id).filter(|one| one.is_live()) else {
            return CloudOutcome::Refused {
                why: "InvalidInstanceID.NotFound".into(),
            };
        };
        if one.stopped.is_none() {
            return CloudOutcome::Accepted;
        }
        let (pool, vcpus) = (one.pool.clone(), one.vcpus);
        let on: u32 = self.on().map(|(_, one)| one.vcpus).sum();
        let there = self.on().filter(|(_, one)| one.pool == pool).count() as u32;
        let room = self.rooms.get(&pool).copied().unwrap_or(self.nature.room);
        let dry = self.dry.get(&pool).is_some_and(|until| now < *until);
        if dry || there >= room || on + vcpus > self.nature.quota {
            self.count("starts without capacity");
            return CloudOutcome::Lacked;
        }
        let (from, to) = STARTS_WITHIN;
        let runs = now + self.rng.within(from, to);
        if let Some(one) = self.instances.get_mut(id) {
            (one.stopped, one.runs) = (None, runs);
        }
        self.count("machines started again");
        CloudOutcome::Accepted
    }
}
