//! Snapshots on their way from one server to another: whole, lost, or cut midway.

use bytes::Bytes;
use rebound_core::io::{Input, SnapshotOrder};
use rebound_core::replica::snapshot::about;
use rebound_core::table::{Digest, record_hash};
use rebound_core::types::*;

use super::{Happening, World};
use crate::disk::{Image, Place};
use crate::faults::Kind;
use crate::points::Point;

/// Two snapshots within so much time are two in a row, in µs.
const IN_A_ROW: u64 = 10 * SECOND;

impl World {
    /// Reads the snapshot and sends it. False when the server ended over it.
    pub(super) fn send_snapshot(&mut self, from: u64, life: u64, order: SnapshotOrder) -> bool {
        let SnapshotOrder { to, message, .. } = order;
        if self.strikes(from, Point::SnapshotOrdered) {
            return false;
        }
        let image = self.host(from).disk.image();
        let reads = |place: &Place| matches!(place, Place::State(_) | Place::Kept(_));
        if image.is_damaged() && image.verify(reads).is_err() {
            self.count("rot found by a snapshot");
            self.end(from, Kind::Rot, SECOND);
            self.shelve(from);
            return false;
        }
        let image = Box::new(image.pairs());
        self.count("snapshots sent");
        self.server(from).sending += 1;
        let bad = self.faults.of(Kind::Lag).filter(|_| !self.calm);
        let dice = self.dice.get_mut(&Kind::Lag).expect("each kind has its own");
        // Sometimes so slow that the sender's log would be cut meanwhile.
        let slowness = if bad.is_some() {
            dice.within(1, 3_000) * MILLISECOND
        } else {
            0
        };
        let whole = !bad.is_some_and(|lag| dice.chance(lag.ppm));
        let lost = !whole && dice.chance(500_000);
        let took = self.net.way() * 20 + slowness;
        self.after(took / 2, Happening::SnapshotHalf { server: from, life });
        if lost || self.net.ways().first.is_none() {
            self.count("snapshots lost");
            let done = Happening::SnapshotDone {
                server: from,
                life,
                to,
                ok: false,
            };
            self.after(took, done);
        } else {
            let snapshot = Happening::Snapshot {
                whole,
                from,
                from_life: life,
                to: to.0,
                message,
                image,
            };
            self.after(took, snapshot);
        }
        true
    }

    pub(super) fn snapshot_half_sent(&mut self, server: u64, life: u64) {
        if self.server(server).life == life {
            self.strikes(server, Point::SnapshotHalfSent);
        }
    }

    pub(super) fn snapshot_comes(
        &mut self,
        whole: bool,
        (from, from_life): (u64, u64),
        to: u64,
        message: Bytes,
        image: Image,
    ) {
        let there = self.net.open(from, to) && self.server(to).replica.is_some();
        let whole = whole && self.server(from).life == from_life;
        if !whole {
            self.count("snapshots cut midway");
        }
        let ok = there && whole && !self.strikes(to, Point::SnapshotReceived);
        if ok {
            self.take_snapshot(to, message, image);
        }
        let done = Happening::SnapshotDone {
            server: from,
            life: from_life,
            to: ReplicaId(to),
            ok,
        };
        self.after(MILLISECOND, done);
    }

    fn take_snapshot(&mut self, to: u64, message: Bytes, image: Image) {
        self.count("snapshots received");
        let now = self.now;
        let server = self.server(to);
        let before = server.received_at.replace(now);
        let plant = server.config.plant;
        let state = Box::new(image.load_state(plant).expect("records of our own are readable"));
        let mut kept = Digest::default();
        image
            .kept
            .iter()
            .for_each(|(key, value)| kept.add(record_hash(key, value)));
        let about = about(&message).expect("a description of our own is readable");
        if let Some(why) = about.differs(&state, kept) {
            panic!("O2: a snapshot came as it was not sent: {why}");
        }
        server.received.insert(state.applied(), image);
        if before.is_some_and(|before| now - before <= IN_A_ROW) {
            self.count("two snapshots in a row");
        }
        self.inputs(to, vec![Input::SnapshotReceived { message, state }]);
    }

    pub(super) fn snapshot_done(&mut self, server: u64, life: u64, to: ReplicaId, ok: bool) {
        if self.server(server).life == life {
            let server = self.server(server);
            server.sending = server.sending.saturating_sub(1);
        }
        self.input(server, life, Input::SnapshotSent { to, ok });
    }
}
