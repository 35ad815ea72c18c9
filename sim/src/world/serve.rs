//! Servers: inputs in, outputs out, disks and peers.

use bytes::Bytes;
use rebound_core::codec::agent as codec;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::io::{Answer, Input, Output, Persist, SnapshotOrder};
use rebound_core::kept::PhotoList;
use rebound_core::key::{kept_task, photos_key};
use rebound_core::plan::plan;
use rebound_core::reply::Refused;
use rebound_core::table::decode;
use rebound_core::types::*;
use rebound_proto::v1::{self, server_message::Body};

use super::{Asker, Happening, World};
use crate::agents::Stream;
use crate::disk::Image;

/// States with at most so many records are checked whole after each apply; larger ones now and then.
const CHECK_WHOLE_BELOW: u64 = 400;
/// How often larger states are checked.
const CHECK_EVERY: u64 = 50;

impl World {
    pub(super) fn start_server(&mut self, id: u64) {
        let at = self.now;
        if self.server(id).replica.is_none() {
            self.server(id).start(at);
            let life = self.server(id).life;
            self.at(at, Happening::Wake { server: id, life });
        }
    }

    pub(super) fn wake(&mut self, server: u64, life: u64) {
        if self.server(server).wake_at <= self.now {
            self.server(server).wake_at = u64::MAX;
        }
        self.input(server, life, Input::Tick);
    }

    /// Hands one input to a server, if it still is the same life.
    pub(super) fn input(&mut self, server: u64, life: u64, input: Input) {
        if self.server(server).life == life {
            self.inputs(server, vec![input]);
        }
    }

    /// Hands inputs in, at once or with what else comes within a moment: one call then takes them all.
    pub(super) fn inputs(&mut self, id: u64, inputs: Vec<Input>) {
        if self.server(id).replica.is_none() {
            return;
        }
        let first = self.server(id).inbox.is_empty();
        self.server(id).inbox.extend(inputs);
        let life = self.server(id).life;
        if self.faults.gather_max == 0 {
            self.gathered(id, life);
        } else if first {
            let wait = self.sync_rng.within(0, self.faults.gather_max);
            self.after(wait, Happening::Gathered { server: id, life });
        }
    }

    pub(super) fn gathered(&mut self, id: u64, life: u64) {
        if self.server(id).life != life {
            return;
        }
        let at = self.now;
        let inputs = std::mem::take(&mut self.server(id).inbox);
        if let Some(out) = self.server(id).handle(at, inputs) {
            self.output(id, out);
        }
    }

    pub(super) fn peer(&mut self, from: u64, to: u64, bytes: Bytes) {
        if self.net.open(from, to) {
            self.mix(&[bytes.len() as u64, xxhash_rust::xxh3::xxh3_64(&bytes)]);
            self.inputs(to, vec![Input::Peer(bytes)]);
        }
    }

    pub(super) fn synced(
        &mut self,
        server: u64,
        life: u64,
        order: u64,
        id: PersistId,
        sends: Vec<(ReplicaId, Bytes)>,
    ) {
        if self.server(server).life == life {
            self.server(server).disk.synced(order);
            self.send(server, sends);
            self.input(server, life, Input::Persisted(id));
        }
    }

    fn output(&mut self, id: u64, out: Output) {
        self.check_after(id, &out);
        let life = self.server(id).life;
        self.send(id, out.send);
        if let Some(persist) = out.persist {
            self.persist(id, life, persist);
        }
        for (ask, answer) in out.replies {
            self.replied(id, ask, answer);
        }
        for (worker, desired) in out.desired {
            self.desired(id, worker, &desired);
        }
        for (worker, judged) in out.verdicts {
            self.say(id, worker, Body::Answers(codec::answers(&judged)));
        }
        for worker in out.hang_up {
            self.hang_up(id, worker);
        }
        if out.hang_up_all {
            let workers: Vec<WorkerId> = self
                .streams
                .keys()
                .filter(|(server, _)| *server == id)
                .map(|(_, worker)| *worker)
                .collect();
            workers.into_iter().for_each(|worker| self.hang_up(id, worker));
        }
        if let Some(seen) = out.plan {
            let policy = self.server(id).config.policy;
            let made = plan(&policy, &seen);
            let took = self.people_rng.within(100, 3_000);
            self.after(
                took,
                Happening::Planned {
                    server: id,
                    life,
                    plan: made,
                },
            );
        }
        for order in out.snapshots {
            self.send_snapshot(id, life, order);
        }
        self.wake_in_time(id, life);
    }

    fn wake_in_time(&mut self, id: u64, life: u64) {
        let now = self.now;
        let server = self.server(id);
        let Some(replica) = &server.replica else { return };
        let at = replica.wake_at().0.max(now);
        if at < server.wake_at {
            server.wake_at = at;
            self.at(at, Happening::Wake { server: id, life });
        }
    }

    fn check_after(&mut self, id: u64, out: &Output) {
        let replica = self.servers[id as usize - 1]
            .replica
            .as_ref()
            .expect("it has just answered");
        let status = replica.status();
        self.checks.see(ReplicaId(id), &status, &out.events);
        if !out.events.is_empty() {
            self.checked += 1;
            if status.applied < CHECK_WHOLE_BELOW || self.checked.is_multiple_of(CHECK_EVERY) {
                replica.state().check();
            }
        }
        let digest = status.digest.0;
        self.mix(&[
            id,
            status.term,
            status.applied,
            digest as u64,
            (digest >> 64) as u64,
        ]);
        if status.role == "leader" {
            self.note_leader(status.term, &out.events);
        }
    }

    pub(super) fn send(&mut self, from: u64, messages: Vec<(ReplicaId, Bytes)>) {
        for (to, bytes) in messages {
            for way in self.net.ways() {
                self.after(
                    way,
                    Happening::Peer {
                        from,
                        to: to.0,
                        bytes: bytes.clone(),
                    },
                );
            }
        }
    }

    fn persist(&mut self, id: u64, life: u64, mut persist: Persist) {
        let took = match persist.sync {
            true => self.sync_rng.within(300, self.faults_sync_max()),
            false => 20,
        };
        let now = self.now;
        let server = self.server(id);
        let received = persist
            .install
            .and_then(|(index, _)| server.received.remove(&index));
        let order = server.disk.write(&mut persist, received);
        let done = server.disk_free_at.max(now) + took;
        server.disk_free_at = done;
        if persist.id != PersistId(0) {
            let sends = std::mem::take(&mut persist.sends_after);
            self.at(
                done,
                Happening::Synced {
                    server: id,
                    life,
                    order,
                    id: persist.id,
                    sends,
                },
            );
        }
    }

    fn faults_sync_max(&self) -> u64 {
        if self.calm {
            MILLISECOND
        } else {
            self.faults.sync_max
        }
    }

    fn replied(&mut self, server: u64, ask: AskId, answer: Result<Answer, Refused>) {
        match &answer {
            Err(Refused::NotLeader { .. }) => self.count("NotLeader answers"),
            Err(Refused::Unknown) => self.count("Unknown answers"),
            Err(Refused::Timeout) => self.count("Timeout answers"),
            _ => {}
        }
        match self.asks.remove(&(server, ask)) {
            Some(Asker::Client { client, tries }) => {
                if let Some(way) = self.net.ways().first().copied() {
                    self.after(
                        way,
                        Happening::Answered {
                            client,
                            tries,
                            answer: Box::new(answer),
                        },
                    );
                }
            }
            Some(Asker::Agent { agent, stream }) => self.hello_answered(agent, stream, answer),
            None => {}
        }
    }

    fn desired(&mut self, server: u64, worker: WorkerId, desired: &Desired) {
        let Some((_, stream)) = self.streams.get(&(server, worker)).copied() else {
            return;
        };
        let image = self.servers[server as usize - 1].disk.image();
        let known = self.said.entry(stream.number).or_default();
        let cluster = ClusterId("sim".into());
        let wire = codec::desired(&cluster, desired, |run| uris(image, run), known);
        self.say(server, worker, Body::Desired(wire));
    }

    /// Says something on a worker's stream.
    pub(super) fn say(&mut self, server: u64, worker: WorkerId, body: Body) {
        if let Some((agent, stream)) = self.streams.get(&(server, worker)).copied() {
            self.say_on(agent, stream, body);
        }
    }

    pub(super) fn say_on(&mut self, agent: usize, stream: Stream, body: Body) {
        let at = self.stream_time(stream, true);
        let message = Box::new(v1::ServerMessage { body: Some(body) });
        self.at(
            at,
            Happening::ToAgent {
                agent,
                stream,
                message,
            },
        );
    }

    /// When a message that is said now arrives: messages of one stream keep their order.
    pub(super) fn stream_time(&mut self, stream: Stream, to_agent: bool) -> u64 {
        let at = self.now + self.net.way();
        let busy = self.busy.entry((stream.number, to_agent)).or_default();
        *busy = at.max(*busy);
        *busy
    }

    fn send_snapshot(&mut self, from: u64, life: u64, order: SnapshotOrder) {
        let SnapshotOrder { to, message, .. } = order;
        let image = Box::new(self.server(from).disk.image().clone());
        self.count("snapshots sent");
        let took = self.net.way() * 20;
        match self.net.ways().is_empty() {
            true => self.after(
                took,
                Happening::SnapshotDone {
                    server: from,
                    life,
                    to,
                    ok: false,
                },
            ),
            false => self.after(
                took,
                Happening::Snapshot {
                    from,
                    from_life: life,
                    to: to.0,
                    message,
                    image,
                },
            ),
        }
    }

    pub(super) fn snapshot_comes(
        &mut self,
        from: u64,
        from_life: u64,
        to: u64,
        message: Bytes,
        image: Image,
    ) {
        let ok = self.net.open(from, to) && self.server(to).replica.is_some();
        if ok {
            self.count("snapshots received");
            let plant = self.server(to).config.plant;
            let state = Box::new(image.load_state(plant).expect("records of our own are readable"));
            self.server(to).received.insert(state.applied(), image);
            self.inputs(to, vec![Input::SnapshotReceived { message, state }]);
        }
        self.after(
            1_000,
            Happening::SnapshotDone {
                server: from,
                life: from_life,
                to: ReplicaId(to),
                ok,
            },
        );
    }
}

/// The photos of a run, from the lists on disk.
fn uris(image: &Image, run: &DesiredRun) -> Vec<String> {
    let mut found = Vec::new();
    let mut task = run.first;
    while task <= run.last {
        let (key, value) = image
            .at_or_before(&photos_key(run.env, run.job, task))
            .expect("its list is on disk");
        let first = kept_task(key).expect("a photo list's key");
        let list: PhotoList = decode(value).expect("a photo list");
        let from = (task - first) as usize;
        let to = list.uris.len().min((run.last - first + 1) as usize);
        found.extend_from_slice(&list.uris[from..to]);
        task = first + to as u64;
    }
    found
}
