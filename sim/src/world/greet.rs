//! What servers say of themselves before they are listened to, as their streams begin: who they are, which disk they
//! have, which build they run. Either end may refuse the other, and whoever is refused for good stops.

use std::collections::btree_map::Entry;

use rebound_core::io::Input;
use rebound_core::state::members::Stranger;
use rebound_core::types::*;

use super::{Happening, World};
use crate::faults::Kind;

/// A server that is dismissed lingers for so long.
const LINGERS: u64 = 3 * SECOND;
/// A connection that is down is made again within so much time.
const AGAIN: u64 = SECOND;

/// Two lives, the second of which has met the first with this disk.
pub(super) type Met = ((u64, u64), (u64, u64));

/// Why what a server says is not heard.
enum Refusal {
    /// The sender is no member, or has another disk than the receiver knows.
    Sender(Stranger),
    /// The receiver has another disk than the sender knows.
    Receiver,
    /// The sender's build does not know the version that the receiver runs at.
    SenderTooOld,
    /// The other way.
    ReceiverTooOld,
}

impl World {
    /// Whether `to` listens to `from`. What a server said before it ended still arrives at those that have met it.
    pub(super) fn greets(&mut self, from: u64, to: u64) -> bool {
        self.meets(from, to, false)
    }

    /// The same, perhaps on a connection that is made `again`: versions are told as one begins, and not with each message.
    fn meets(&mut self, from: u64, to: u64, mut again: bool) -> bool {
        let (one, other) = (self.host(from), self.host(to));
        let key = ((from, one.life), (to, other.life));
        if other.replica.is_none() {
            return false;
        }
        if one.replica.is_none() {
            // A life ends by a step: the one before is the one that spoke.
            return self
                .met
                .contains_key(&((from, one.life.saturating_sub(1)), key.1));
        }
        let (incarnation, build) = (one.config.incarnation, one.config.build.clone());
        if let Entry::Vacant(first) = self.met.entry(key) {
            first.insert(incarnation);
            again = true;
            let id = ReplicaId(from);
            let input = Input::Met {
                id,
                incarnation,
                build,
            };
            self.inputs(to, vec![input]);
            if self.host(to).replica.is_none() {
                return false;
            }
        }
        match self.refusal(from, to) {
            None => true,
            Some(Refusal::SenderTooOld | Refusal::ReceiverTooOld) if !again => true,
            Some(refusal) => {
                if self.net.linked(from, to) {
                    self.refused(from, to, refusal);
                }
                false
            }
        }
    }

    fn refusal(&self, from: u64, to: u64) -> Option<Refusal> {
        let (one, other) = (self.host(from), self.host(to));
        let (said, listens) = (one.replica.as_ref()?.state(), other.replica.as_ref()?.state());
        let (incarnation, own) = (one.config.incarnation, other.config.incarnation);
        if let Err(stranger) = listens.admits(ReplicaId(from), incarnation) {
            return Some(Refusal::Sender(stranger));
        }
        if let Err(Stranger::OtherDisk { .. }) = said.admits(ReplicaId(to), own) {
            return Some(Refusal::Receiver);
        }
        if listens.version() > one.config.build.versions.newest {
            return Some(Refusal::SenderTooOld);
        }
        (said.version() > other.config.build.versions.newest).then_some(Refusal::ReceiverTooOld)
    }

    fn refused(&mut self, from: u64, to: u64, refusal: Refusal) {
        match refusal {
            Refusal::Sender(Stranger::Removed(_)) => self.dismiss(from, 0),
            Refusal::Sender(Stranger::OtherDisk { .. }) => self.refuse_disk(from),
            Refusal::Receiver => self.refuse_disk(to),
            Refusal::SenderTooOld => self.outgrown(from, "older builds refused by others"),
            Refusal::ReceiverTooOld => self.outgrown(to, "older builds refused by others"),
        }
    }

    fn refuse_disk(&mut self, id: u64) {
        if self.host(id).lost.is_none() {
            self.checks
                .violated(format!("members: server {id} was refused, and has its disk"));
        }
        self.count("lost disks refused");
        self.dismiss(id, 0);
    }

    /// A server stops for good, after a while.
    pub(super) fn dismiss(&mut self, id: u64, wait: u64) {
        let life = self.host(id).life;
        self.after(wait, Happening::Dismissed { server: id, life });
    }

    pub(super) fn dismissed(&mut self, id: u64, life: u64) {
        if self.host(id).life == life && !self.host(id).gone {
            self.server(id).gone = true;
            self.end(id, Kind::Members, 0);
        }
    }

    /// A member that finds itself removed stops by itself; others may need its voice until they know.
    pub(super) fn notice_removal(&mut self, id: u64) {
        let server = &mut self.servers[id as usize - 1];
        let removed = |replica: &rebound_core::replica::Replica| replica.state().was_removed(ReplicaId(id));
        if !server.leaving && server.replica.as_ref().is_some_and(removed) {
            server.leaving = true;
            self.dismiss(id, LINGERS);
        }
    }

    /// Each second: connections that are down are made again, and begin with a greeting.
    pub(super) fn greet_all(&mut self) {
        let present = self.present();
        for from in &present {
            for to in present.iter().filter(|to| *to != from) {
                let stands = |id: u64| self.host(id).paused_until > self.now;
                if self.net.linked(*from, *to) && !stands(*from) && !stands(*to) {
                    self.meets(*from, *to, true);
                }
            }
        }
        self.after(AGAIN, Happening::Greet);
    }

    /// C3 and C4 for what is heard: a server that lost its disk must not be.
    pub(super) fn check_heard(&mut self, from: u64, bytes: &[u8]) {
        if self.host(from).lost.is_some() && self.host(from).replica.is_some() {
            let disk = self.servers[from as usize - 1].disk.durable();
            self.checks.promise(ReplicaId(from), disk, bytes);
        }
    }
}
