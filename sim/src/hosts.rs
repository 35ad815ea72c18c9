//! Servers as the world runs them: a replica, its disk and clock, or neither while it is down.

use std::collections::BTreeMap;

use rebound_core::io::{Input, Output};
use rebound_core::replica::{Config, Replica};
use rebound_core::types::{Index, Mono, Now, ReplicaId, Time};

use crate::disk::{Disk, Image};

/// Wall clocks begin here: 2026-01-01.
const EPOCH: u64 = 1_767_225_600_000_000;

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
    /// It stands still until then.
    pub paused_until: u64,
    /// Its wall clock is ahead by so much.
    pub skew: u64,
    /// Snapshots that were received and not yet installed, by index.
    pub received: BTreeMap<Index, Image>,
    /// The wake that is in the heap.
    pub wake_at: u64,
}

impl Server {
    /// A server that is down and has an empty disk.
    pub fn new(config: Config, skew: u64) -> Server {
        Server {
            config,
            replica: None,
            life: 0,
            inbox: Vec::new(),
            disk: Disk::default(),
            disk_free_at: 0,
            paused_until: 0,
            skew,
            received: BTreeMap::new(),
            wake_at: u64::MAX,
        }
    }

    /// Its id.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// What its clocks say at a moment of the world.
    pub fn now(&self, at: u64) -> Now {
        Now {
            mono: Mono(at),
            wall: Time(EPOCH + at + self.skew),
        }
    }

    /// Starts it from its disk.
    pub fn start(&mut self, at: u64) {
        assert!(self.replica.is_none());
        let recovered = self.disk.recover(self.config.plant);
        let replica = Replica::recover(self.config.clone(), recovered, self.now(at));
        self.replica = Some(replica.expect("a disk of its own is good"));
        self.life += 1;
        self.disk_free_at = at;
        self.received.clear();
        self.inbox.clear();
        self.wake_at = u64::MAX;
    }

    /// Hands inputs to its replica; none while it is down.
    pub fn handle(&mut self, at: u64, inputs: Vec<Input>) -> Option<Output> {
        let now = self.now(at);
        Some(self.replica.as_mut()?.handle(now, &mut inputs.into_iter()))
    }
}
