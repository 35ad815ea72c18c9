//! How long machines take until they work, in parts: what of it is the cloud's, the machine's and the model's.

use serde::{Deserialize, Serialize};

use super::outcomes::Ended;
use super::pools::PoolRecord;
use super::{Context, State};
use crate::types::{Time, WorkerId};

/// From a launch's entry to its agent's joining, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// From the launch's entry until the cloud had named the machine.
    pub call: u64,
    /// Until it ran.
    pub pending: u64,
    /// Until its agent joined.
    pub boot: u64,
}

impl Ready {
    /// All of it.
    pub fn sum(&self) -> u64 {
        self.call.saturating_add(self.pending).saturating_add(self.boot)
    }
}

/// What the first photos on a machine took, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warming {
    /// From the entry that gave the first photos to the one that recorded the first results.
    pub first: u64,
    /// So much of it is more than these photos take on a machine of its type: the model's loading.
    pub load: u64,
}

/// Parts of the time to readiness that nine of ten machines kept, each for itself, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// See [`Ready`].
    pub call: u64,
    /// See [`Ready`].
    pub pending: u64,
    /// See [`Ready`].
    pub boot: u64,
    /// See [`Warming`].
    pub load: u64,
    /// See [`Warming`].
    pub first: u64,
}

/// What nine of ten are not above.
pub fn p90(all: impl Iterator<Item = u64>) -> Option<u64> {
    let mut all: Vec<u64> = all.collect();
    all.sort_unstable();
    let at = (all.len() * 9).div_ceil(10).checked_sub(1)?;
    all.get(at).copied()
}

impl PoolRecord {
    /// The time until a machine works that nine of ten kept, in µs: until its agent joined, and its model was loaded. None
    /// before there was one.
    pub fn ready_p90(&self) -> Option<u64> {
        let joined = p90(self.ready.iter().map(Ready::sum))?;
        Some(joined.saturating_add(self.load_p90()))
    }

    /// The same of stopped machines that are started again; none before one was.
    pub fn restart_p90(&self) -> Option<u64> {
        let joined = p90(self.restarted.iter().copied())?;
        Some(joined.saturating_add(self.load_p90()))
    }

    fn load_p90(&self) -> u64 {
        p90(self.warmed.iter().map(|one| one.load)).unwrap_or(0)
    }

    /// What it is made of.
    pub fn ready_parts(&self) -> Parts {
        let ready = |of: fn(&Ready) -> u64| p90(self.ready.iter().map(of)).unwrap_or(0);
        Parts {
            call: ready(|one| one.call),
            pending: ready(|one| one.pending),
            boot: ready(|one| one.boot),
            load: self.load_p90(),
            first: p90(self.warmed.iter().map(|one| one.first)).unwrap_or(0),
        }
    }
}

impl State {
    /// A worker has got photos: of a machine that was bought they may be the first since it runs.
    pub(super) fn note_first_given(&mut self, worker: WorkerId, at: Time) {
        let Some((id, machine)) = self.machines.of_worker(worker) else {
            return;
        };
        if machine.first_given.is_some() {
            return;
        }
        let id = id.clone();
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.first_given = Some(at);
        }
    }

    /// Photos have ended well: on a machine that was bought they may be the first since it runs.
    pub(super) fn note_first_result(&mut self, context: &Context, ended: &Ended) {
        let Some((id, machine)) = self.machines.of_worker(ended.worker) else {
            return;
        };
        let Some(given) = machine.first_given.filter(|_| machine.first_result.is_none()) else {
            return;
        };
        let (id, pool) = (id.clone(), machine.pool.clone());
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.first_result = Some(context.at);
        }
        let slots = self
            .workers
            .get(ended.worker)
            .map_or(1, |one| u64::from(one.join.slots));
        let name = self.recogniser_of(ended);
        // A type that is not measured yet says nothing of what is more than usual.
        if let Some(speed) = self.measures.get(&name, &pool.instance_type) {
            let photos = ended.rows.len().max(slots);
            let first = context.at.0.saturating_sub(given.0);
            let load = first.saturating_sub(speed.us_per_photo.saturating_mul(photos));
            self.pools
                .note_warming(&pool, Warming { first, load }, context.at);
        }
    }

    /// What runs the photos of a report, without digest; empty of a job that is forgotten.
    pub(super) fn recogniser_of(&self, ended: &Ended) -> String {
        let spec = self.jobs.get_in(ended.env, ended.job).map(|job| job.spec);
        let recogniser = spec
            .and_then(|spec| self.specs.get(spec))
            .map(|spec| &spec.recogniser);
        let name = recogniser.and_then(|name| name.split('@').next());
        name.unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_were_ready_by_then() {
        let of = |all: Vec<u64>| p90(all.into_iter());
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![7]), Some(7));
        assert_eq!(of((1..=10).rev().collect()), Some(9));
        assert_eq!(of((1..=16).collect()), Some(15));
    }

    #[test]
    fn a_machine_is_ready_when_its_model_is_loaded() {
        let mut record = PoolRecord::default();
        assert_eq!(record.ready_p90(), None);
        let ready = Ready {
            call: 1,
            pending: 20,
            boot: 300,
        };
        record.ready.push(ready);
        assert_eq!(record.ready_p90(), Some(321));
        record.warmed.push(Warming {
            first: 6_000,
            load: 4_000,
        });
        assert_eq!(record.ready_p90(), Some(4_321));
        assert_eq!(record.restart_p90(), None, "none was started again");
        record.restarted.push(50);
        assert_eq!(record.restart_p90(), Some(4_050));
        let parts = Parts {
            call: 1,
            pending: 20,
            boot: 300,
            load: 4_000,
            first: 6_000,
        };
        assert_eq!(record.ready_parts(), parts);
    }
}
