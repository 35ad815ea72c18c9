//! Orders to a server's disk, what can go wrong with them, and the photos that are read from it.

use bytes::Bytes;
use rebound_core::codec::agent as codec;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::io::{Input, Persist};
use rebound_core::key::{kept_task, photos_key};
use rebound_core::photos::{Joined, Photos};
use rebound_core::table::decode;
use rebound_core::types::*;
use rebound_proto::v1::server_message::Body;

use super::{Happening, World};
use crate::disk::{Image, Place};
use crate::faults::Kind;
use crate::points::Point;

/// A whole state takes so many times as long to be durable as a few entries.
const INSTALL_SLOWER: u64 = 20;

impl World {
    /// Writes an order. False when the server ended over it.
    pub(super) fn persist(&mut self, id: u64, life: u64, mut persist: Persist) -> bool {
        let installs = persist.install.is_some();
        let first = match installs {
            true => Point::SnapshotTaken,
            false => Point::BeforeWrite,
        };
        let applied = !persist.state.is_empty() && !installs;
        if self.strikes(id, first)
            || applied && self.strikes(id, Point::AppliedUnwritten)
            || !self.disk_takes(id)
        {
            return false;
        }
        let cuts = persist.compacted.is_some();
        let server = &mut self.servers[id as usize - 1];
        let received = persist
            .install
            .and_then(|(index, _)| server.received.remove(&index));
        let order = server.disk.write_first(&mut persist, received);
        if installs && self.strikes(id, Point::SnapshotWritten)
            || applied && self.strikes(id, Point::MidWrite)
        {
            return false;
        }
        self.server(id).disk.write_second(&mut persist);
        if cuts && self.strikes(id, Point::CutUnsynced) || self.strikes(id, Point::BeforeSync) {
            return false;
        }
        let done = self.disk_done(id, persist.sync, installs);
        if persist.id != PersistId(0) {
            let sends = std::mem::take(&mut persist.sends_after);
            let happening = Happening::Synced {
                server: id,
                life,
                order,
                id: persist.id,
                installs,
                sends,
            };
            self.at(done, happening);
        }
        true
    }

    /// A write that fails ends the process (C3). False when it did.
    fn disk_takes(&mut self, id: u64) -> bool {
        let now = self.now;
        let server = self.server(id);
        let (broken, full) = (server.broken_until > now, server.full_until > now);
        if broken {
            self.count("write errors met");
        } else if full {
            self.count("full disks met");
        }
        if broken || full {
            let kind = if broken { Kind::WriteError } else { Kind::Full };
            self.end(id, kind, SECOND);
        }
        !broken && !full
    }

    fn disk_done(&mut self, id: u64, sync: bool, installs: bool) -> u64 {
        let sync_max = if self.calm {
            MILLISECOND
        } else {
            self.faults.load.sync_max
        };
        let sync_max = if installs {
            INSTALL_SLOWER * sync_max
        } else {
            sync_max
        };
        let slow = self.server(id).slow_until > self.now;
        let took = match (sync, slow) {
            (false, _) => 20,
            (true, false) => self.sync_rng.within(300.min(sync_max), sync_max),
            (true, true) => {
                self.count("slow syncs");
                self.sync_rng.within(SECOND, 10 * SECOND)
            }
        };
        let now = self.now;
        let server = self.server(id);
        server.disk_free_at = server.disk_free_at.max(now) + took;
        server.disk_free_at
    }

    pub(super) fn synced(
        &mut self,
        server: u64,
        life: u64,
        order: u64,
        id: PersistId,
        installs: bool,
        sends: Vec<(ReplicaId, Bytes)>,
    ) {
        if self.server(server).life != life {
            return;
        }
        if self.server(server).unsyncable_until > self.now {
            self.count("sync errors met");
            return self.end(server, Kind::WriteError, SECOND);
        }
        self.server(server).disk.synced(order);
        let point = match installs {
            true => Point::SnapshotSynced,
            false => Point::AfterSync,
        };
        if self.strikes(server, point) || self.sends_half(server, &sends, Point::MidPromises) {
            return;
        }
        self.send(server, sends);
        if !self.strikes(server, Point::BeforeTold) {
            self.input(server, life, Input::Persisted(id));
        }
    }

    /// Sends a desired set with its photos. False when the disk could not be read, which ends the server.
    pub(super) fn desired(&mut self, server: u64, worker: WorkerId, desired: &Desired) -> bool {
        let Some((_, stream)) = self.streams.get(&(server, worker)).copied() else {
            return true;
        };
        let image = self.servers[server as usize - 1].disk.image();
        let reads_photos = |place: &Place| matches!(place, Place::Kept(_));
        if !desired.runs.is_empty() && image.is_damaged() && image.verify(reads_photos).is_err() {
            self.count("rot found by a read");
            self.end(server, Kind::Rot, SECOND);
            self.shelve(server);
            return false;
        }
        let known = self.said.entry(stream.number).or_default();
        let cluster = ClusterId("sim".into());
        let wire = codec::desired(&cluster, desired, |run| uris(image, run), known);
        self.say(server, worker, Body::Desired(wire));
        true
    }
}

/// The photos of a run, from the lists on disk.
fn uris(image: &Image, run: &DesiredRun) -> Joined {
    let mut found = Joined::default();
    let mut task = run.first;
    while task <= run.last {
        let (key, value) = image
            .at_or_before(&photos_key(run.env, run.job, task))
            .expect("its list is on disk");
        let first = kept_task(key).expect("a photo list's key");
        let photos: Photos = decode(value).expect("a photo list");
        let more = found.add(photos.slice(task - first, run.last - task + 1));
        assert!(more > 0, "photo {task} of job {} is in its list", run.job);
        task += more;
    }
    found
}
