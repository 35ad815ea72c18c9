//! Servers as the world runs them: a replica, its disk and clocks, or neither while it is down.

use std::collections::BTreeMap;

use rebound_core::io::{Input, Output};
use rebound_core::replica::{Config, RecoverError, Replica};
use rebound_core::state::members::Voters;
use rebound_core::types::{Index, Mono, Now, ReplicaId, Time};

use crate::disk::{Damage, Disk, Image};

/// Wall clocks begin here: 2026-01-01, half a minute before an hour is over.
const EPOCH: i64 = 1_767_225_600_000_000 + 3_570_000_000;
/// A million.
const MILLION: i128 = 1_000_000;

/// Clocks of a server: how fast they go and how wrong they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// Faster than the world's, in a million; negative: slower.
    pub drift_ppm: i64,
    /// The wall clock is ahead by so many µs; negative: behind.
    pub ahead: i64,
}

impl Clocks {
    /// What they say at a moment of the world.
    pub fn now(&self, at: u64) -> Now {
        let mono = (i128::from(at) * (MILLION + i128::from(self.drift_ppm)) / MILLION) as u64;
        let wall = EPOCH.saturating_add_unsigned(mono).saturating_add(self.ahead);
        Now {
            mono: Mono(mono),
            wall: Time(wall.max(0) as u64),
        }
    }

    /// The first moment of the world at which the running clock has come to `mono`.
    pub fn when(&self, mono: Mono) -> u64 {
        let rate = MILLION + i128::from(self.drift_ppm);
        let mut at = (i128::from(mono.0) * MILLION / rate) as u64;
        while self.now(at).mono < mono {
            at += 1;
        }
        at
    }
}

/// Why a server does not start.
pub enum Unfit {
    /// Its disk.
    Damage(Damage),
    /// Its build does not know the version at which its cluster runs.
    Outgrown,
}

/// One server.
pub struct Server {
    /// How its replica is configured.
    pub config: Config,
    /// None while it is down.
    pub replica: Option<Replica>,
    /// Rises with each start: what was meant for an earlier life is dropped.
    pub life: u64,
    /// What waits to be handed in together.
    pub inbox: Vec<Input>,
    /// Its disk.
    pub disk: Disk,
    /// When the disk is free for the next order.
    pub disk_free_at: u64,
    /// Writes fail until then.
    pub broken_until: u64,
    /// Syncs fail until then, though writes do not.
    pub unsyncable_until: u64,
    /// There is no room until then.
    pub full_until: u64,
    /// Syncs take seconds until then.
    pub slow_until: u64,
    /// It stands still until then.
    pub paused_until: u64,
    /// It stays down until then: its disk is being restored.
    pub shelved_until: u64,
    /// Its clocks.
    pub clocks: Clocks,
    /// Snapshots that were received and not yet installed, by index.
    pub received: BTreeMap<Index, Image>,
    /// Snapshots on their way from here.
    pub sending: u64,
    /// When it last received one.
    pub received_at: Option<u64>,
    /// The wake that is in the heap.
    pub wake_at: u64,
    /// Photos not ended and entries not applied before its last call.
    pub waited: u64,
    /// Who counted for its replica after its last call, and the entry that made it so.
    pub voters: (Index, Voters),
    /// It was added, and has not been started yet.
    pub absent: bool,
    /// It is no member, knows it, and is about to stop.
    pub leaving: bool,
    /// It has stopped for good.
    pub gone: bool,
    /// It lost its disk, on which entries up to this one were durable; its present one is another.
    pub lost: Option<Index>,
}

impl Server {
    /// A server that is down and has an empty disk.
    pub fn new(config: Config, clocks: Clocks) -> Server {
        let incoming = config.founders.iter().map(|founder| founder.id).collect();
        let voters = Voters {
            incoming,
            ..Voters::default()
        };
        Server {
            disk: Disk::default().planted(config.plant),
            config,
            replica: None,
            life: 0,
            inbox: Vec::new(),
            disk_free_at: 0,
            broken_until: 0,
            unsyncable_until: 0,
            full_until: 0,
            slow_until: 0,
            paused_until: 0,
            shelved_until: 0,
            clocks,
            received: BTreeMap::new(),
            sending: 0,
            received_at: None,
            wake_at: u64::MAX,
            voters: (0, voters),
            absent: false,
            leaving: false,
            gone: false,
            lost: None,
            waited: 0,
        }
    }

    /// Its id.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// It has been started and has not stopped for good.
    pub fn is_present(&self) -> bool {
        !self.absent && !self.gone
    }

    /// Starts it from its disk, unless that is damaged, or of a cluster that has outgrown its build.
    pub fn start(&mut self, at: u64) -> Result<(), Unfit> {
        assert!(self.replica.is_none());
        let recovered = self.disk.recover(self.config.plant).map_err(Unfit::Damage)?;
        let replica = Replica::recover(self.config.clone(), recovered, self.clocks.now(at));
        self.replica = match replica {
            Ok(replica) => Some(replica),
            Err(RecoverError::OtherVersion(_)) => return Err(Unfit::Outgrown),
            Err(error) => panic!("a disk of its own is good: {error}"),
        };
        self.life += 1;
        self.disk_free_at = at;
        self.received.clear();
        self.sending = 0;
        self.inbox.clear();
        self.wake_at = u64::MAX;
        Ok(())
    }

    /// Hands inputs to its replica; none while it is down.
    pub fn handle(&mut self, at: u64, inputs: Vec<Input>) -> Option<Output> {
        let now = self.clocks.now(at);
        self.waited = self.waits();
        Some(self.replica.as_mut()?.handle(now, &mut inputs.into_iter()))
    }

    /// Photos not ended and entries not applied; none while it is down.
    pub fn waits(&self) -> u64 {
        self.replica.as_ref().map_or(0, |replica| {
            let (status, environments) = (replica.status(), &replica.state().environments);
            environments.waiting() + environments.given() + (status.last - status.applied)
        })
    }

    /// True when it leads and is ready to.
    pub fn leads(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| replica.status().ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_first_at_which_the_clock_has_come_there() {
        for drift_ppm in [-50_000, -1, 0, 3, 50_000] {
            let clocks = Clocks { drift_ppm, ahead: 0 };
            for mono in [0, 1, 999_999, 1_000_003, 77_777_777_777] {
                let at = clocks.when(Mono(mono));
                assert!(clocks.now(at).mono >= Mono(mono));
                assert!(at == 0 || clocks.now(at - 1).mono < Mono(mono));
            }
        }
    }
}
