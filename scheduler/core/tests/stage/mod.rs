//! A stage for the core: real replicas, with a disk, a network, a clock, workers and clients that do what they are
//! told and nothing else. Nothing here is random and nothing takes real time.
//!
//! On every step it is asserted that replicas which applied the same entry have the same digest and yielded the same
//! events, and that the state of each is consistent in itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rebound_core::effects::Desired;
use rebound_core::event::Event;
use rebound_core::io::*;
use rebound_core::limits::TICK;
use rebound_core::plan::plan;
use rebound_core::replica::{Config, Election, Replica};
use rebound_core::reply::Refused;
use rebound_core::state::members::Founder;
use rebound_core::table::Digest;
use rebound_core::types::*;

pub mod disk;
pub mod members;
pub mod names;
pub mod words;
pub mod workers;

use disk::{Disk, Image};
use names::Names;
use workers::Seat;

/// Wall clocks begin here: 2026-01-01.
pub const EPOCH: u64 = 1_767_225_600 * SECOND;
/// With this seed servers 1, 2, 3, 1, … are the first to stand for election, term by term.
pub const SEED: u64 = 230;
/// More rounds than any command needs: beyond, something goes in circles.
const ROUNDS_MAX: usize = 10_000;

/// One server: a replica while it is up, and its disk.
pub struct Server {
    config: Config,
    /// None while it is down.
    pub replica: Option<Replica>,
    /// Its disk.
    pub disk: Disk,
    inbox: Vec<Input>,
    leads: bool,
    checked: Index,
}

/// A message on its way.
enum Wire {
    Raft {
        from: u64,
        to: u64,
        bytes: Bytes,
    },
    Snapshot {
        from: u64,
        to: u64,
        message: Bytes,
        image: Box<Image>,
    },
}

/// Who waits for an answer.
enum Asker {
    Client(String),
    Worker(String),
}

/// See the module.
pub struct Stage {
    /// µs since the beginning: everybody's running time.
    pub now: u64,
    /// All servers.
    pub servers: BTreeMap<u64, Server>,
    /// Workers, by the name of their machine.
    pub workers: BTreeMap<String, Seat>,
    /// What the numbers are called.
    pub names: Names,
    /// Messages wait until they are told to be delivered.
    pub held: bool,
    /// Servers that no other server hears.
    pub cut: BTreeSet<u64>,
    /// Answers that came and nobody has taken, for tests in Rust.
    pub answers: BTreeMap<AskId, Result<Answer, Refused>>,
    wires: VecDeque<Wire>,
    asks: BTreeMap<(u64, AskId), Asker>,
    next_ask: u64,
    lines: Vec<(u64, String)>,
    desired: BTreeMap<String, Desired>,
    events: BTreeMap<Index, Vec<Event>>,
    digests: BTreeMap<Index, Digest>,
    /// Who has met whom, with which disk.
    greeted: BTreeSet<(u64, u64, u64)>,
    refused: BTreeSet<String>,
}

impl Stage {
    /// `count` servers with empty disks. Nobody leads yet.
    pub fn new(count: u64, adjust: impl Fn(&mut Config)) -> Stage {
        let founders: Vec<Founder> = (1..=count).map(ReplicaId).map(Founder::named).collect();
        let mut stage = Stage {
            now: 0,
            servers: BTreeMap::new(),
            workers: BTreeMap::new(),
            names: Names::default(),
            held: false,
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            wires: VecDeque::new(),
            asks: BTreeMap::new(),
            next_ask: 1,
            lines: Vec::new(),
            desired: BTreeMap::new(),
            events: BTreeMap::new(),
            digests: BTreeMap::new(),
            greeted: BTreeSet::new(),
            refused: BTreeSet::new(),
        };
        for id in 1..=count {
            let mut config = Config::new(ReplicaId(id), founders.clone(), ClusterId("stage".into()));
            config.election = Election::Seeded(SEED);
            adjust(&mut config);
            let server = Server {
                config,
                replica: None,
                disk: Disk::default(),
                inbox: Vec::new(),
                leads: false,
                checked: 0,
            };
            stage.servers.insert(id, server);
            stage.start(id);
        }
        stage
    }

    /// Starts a server from its disk.
    pub fn start(&mut self, id: u64) {
        let now = self.clocks();
        let server = self.servers.get_mut(&id).expect("a server of this stage");
        assert!(server.replica.is_none(), "server {id} is up");
        let replica = Replica::recover(server.config.clone(), server.disk.recover(), now);
        server.replica = Some(replica.expect("a disk of its own is good"));
    }

    /// Cuts a server's power.
    pub fn crash(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).expect("a server of this stage");
        assert!(server.replica.take().is_some(), "server {id} is down");
        server.disk.crash();
        server.inbox.clear();
        server.leads = false;
        self.asks.retain(|(of, _), _| *of != id);
        self.greeted.retain(|(of, _, _)| *of != id);
        self.streams_end(id);
    }

    /// The server that leads and is ready; the one of the latest term, if an old one does not know better.
    pub fn leader(&self) -> Option<u64> {
        let ready = self.servers.iter().filter_map(|(id, server)| {
            let status = server.replica.as_ref()?.status();
            (status.role == "leader" && status.ready).then_some((status.term, *id))
        });
        ready.max().map(|(_, id)| id)
    }

    /// A replica that is up.
    pub fn replica(&self, id: u64) -> Option<&Replica> {
        self.servers.get(&id)?.replica.as_ref()
    }

    /// Lets everything happen that does not need time to pass.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                return;
            }
        }
        panic!("the stage does not come to rest");
    }

    fn round(&mut self) -> bool {
        let mut moved = false;
        for id in self.ids() {
            if !self.servers[&id].disk.slow {
                while self.write(id) {
                    moved = true;
                }
            }
        }
        if !self.held {
            moved |= self.deliver();
        }
        for id in self.ids() {
            let server = &self.servers[&id];
            let due = server
                .replica
                .as_ref()
                .is_some_and(|replica| replica.wake_at().0 <= self.now);
            if due || (server.replica.is_some() && !server.inbox.is_empty()) {
                self.handle(id);
                moved = true;
            }
        }
        moved
    }

    /// Time passes, tick by tick.
    pub fn advance(&mut self, us: u64) {
        let end = self.now + us;
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            self.settle();
            self.workers_speak();
            self.settle();
        }
    }

    /// Time passes and nobody runs: all machines stand still, then go on.
    pub fn pause(&mut self, us: u64) {
        self.now += us;
        for seat in self.workers.values_mut() {
            seat.next_word += us;
        }
        self.settle();
    }

    /// Time passes until somebody leads and is ready. False when nobody is within ten seconds.
    pub fn elect(&mut self) -> bool {
        for _ in 0..200 {
            if self.leader().is_some_and(|leader| !self.cut.contains(&leader)) {
                return true;
            }
            self.advance(TICK);
        }
        false
    }

    /// Writes the oldest order of a server's disk.
    pub fn write(&mut self, id: u64) -> bool {
        let Some((order, sends)) = self.servers.get_mut(&id).and_then(|server| server.disk.write()) else {
            return false;
        };
        self.send(id, sends);
        let server = self.servers.get_mut(&id).expect("just there");
        server.inbox.extend(order.map(Input::Persisted));
        true
    }

    /// Delivers what is on its way.
    pub fn deliver(&mut self) -> bool {
        let wires = std::mem::take(&mut self.wires);
        let any = !wires.is_empty();
        for wire in wires {
            match wire {
                Wire::Raft { from, to, bytes } => {
                    if self.reaches(from, to) && self.greets(from, to) {
                        self.inbox(to).push(Input::Peer(bytes));
                    }
                }
                Wire::Snapshot {
                    from,
                    to,
                    message,
                    image,
                } => self.deliver_snapshot(from, to, message, *image),
            }
        }
        any
    }

    /// Loses what is on its way; returns how many messages.
    pub fn lose(&mut self) -> usize {
        std::mem::take(&mut self.wires).len()
    }

    fn deliver_snapshot(&mut self, from: u64, to: u64, message: Bytes, image: Image) {
        let ok = self.reaches(from, to) && self.greets(from, to);
        if ok {
            let state = Box::new(image.load_state());
            self.say(format!("a snapshot reaches server {to}"));
            self.servers.get_mut(&to).expect("reached").disk.received = Some(image);
            self.inbox(to).push(Input::SnapshotReceived { message, state });
        }
        if self.replica(from).is_some() {
            let to = ReplicaId(to);
            self.inbox(from).push(Input::SnapshotSent { to, ok });
        }
    }

    fn reaches(&self, from: u64, to: u64) -> bool {
        !self.cut.contains(&from) && !self.cut.contains(&to) && self.replica(to).is_some()
    }

    pub fn inbox(&mut self, id: u64) -> &mut Vec<Input> {
        &mut self.servers.get_mut(&id).expect("a server of this stage").inbox
    }

    fn ids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    fn clocks(&self) -> Now {
        Now {
            mono: Mono(self.now),
            wall: Time(EPOCH + self.now),
        }
    }

    fn send(&mut self, from: u64, sends: Vec<(ReplicaId, Bytes)>) {
        let wires = sends.into_iter().map(|(to, bytes)| Wire::Raft {
            from,
            to: to.0,
            bytes,
        });
        self.wires.extend(wires);
    }

    /// Asks a server on behalf of a client; `label` begins the line of its answer.
    pub fn ask(&mut self, server: u64, label: &str, by: &str, timeout: u64, request: Request) -> AskId {
        self.question(server, Asker::Client(label.to_owned()), by, timeout, request)
    }

    fn question(&mut self, server: u64, asker: Asker, by: &str, timeout: u64, request: Request) -> AskId {
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.asks.insert((server, ask), asker);
        let by = Caller {
            environment: by.to_owned(),
            actor: "tester".to_owned(),
        };
        let trace = TraceId(u128::from(ask.0).to_be_bytes());
        self.inbox(server).push(Input::Client(Box::new(Question {
            ask,
            by,
            trace,
            timeout,
            request,
        })));
        ask
    }

    fn handle(&mut self, id: u64) {
        let now = self.clocks();
        let server = self.servers.get_mut(&id).expect("a server of this stage");
        let inputs = std::mem::take(&mut server.inbox);
        let replica = server.replica.as_mut().expect("it is up");
        let out = replica.handle(now, &mut inputs.into_iter());
        self.take(id, out);
    }

    fn take(&mut self, id: u64, out: Output) {
        self.check(id);
        self.tell_role(id);
        self.tell_events(&out.events);
        self.send(id, out.send);
        if let Some(order) = out.persist {
            self.servers
                .get_mut(&id)
                .expect("it has answered")
                .disk
                .order(order);
        }
        for (ask, answer) in out.replies {
            self.replied(id, ask, answer);
        }
        for (worker, desired) in out.desired {
            self.desired.insert(self.names.worker(worker), desired.clone());
            self.told(id, worker, &desired);
        }
        for (worker, judged) in out.verdicts {
            if self.seat_of(id, worker).is_some() {
                let line = format!(
                    "{} hears: {}",
                    self.names.worker(worker),
                    words::judged(&self.names, &judged)
                );
                self.say(line);
            }
        }
        for worker in out.hang_up {
            self.hang_up(id, worker);
        }
        if out.hang_up_all {
            self.streams_end(id);
        }
        if let Some(seen) = out.plan {
            let policy = self.servers[&id].config.policy;
            self.inbox(id).push(Input::Planned(plan(&policy, &seen)));
        }
        for order in out.snapshots {
            let image = Box::new(self.servers[&id].disk.image.clone());
            let (to, message) = (order.to.0, order.message);
            self.wires.push_back(Wire::Snapshot {
                from: id,
                to,
                message,
                image,
            });
        }
    }

    fn check(&mut self, id: u64) {
        let server = self.servers.get_mut(&id).expect("it has answered");
        let replica = server.replica.as_ref().expect("it has answered");
        let status = replica.status();
        if std::mem::replace(&mut server.checked, status.applied) != status.applied {
            replica.state().check();
        }
        let digest = *self.digests.entry(status.applied).or_insert(status.digest);
        assert_eq!(
            digest, status.digest,
            "digest of server {id} at entry {}",
            status.applied
        );
    }

    fn tell_role(&mut self, id: u64) {
        let status = self.replica(id).expect("it has answered").status();
        let leads = status.role == "leader" && status.ready;
        let server = self.servers.get_mut(&id).expect("it has answered");
        if std::mem::replace(&mut server.leads, leads) != leads {
            let what = if leads { "leads" } else { "leads no more" };
            self.say(format!("server {id} {what}"));
        }
    }

    /// The first replica to apply an entry tells what it brought; the others must say the same.
    fn tell_events(&mut self, events: &[Event]) {
        for of_entry in events.chunk_by(|a, b| a.index == b.index) {
            let index = of_entry[0].index;
            match self.events.get(&index) {
                Some(before) => assert_eq!(before.as_slice(), of_entry, "events of entry {index}"),
                None => {
                    for event in of_entry {
                        self.names.learn(event);
                        self.say(words::event(&self.names, event));
                    }
                    self.events.insert(index, of_entry.to_vec());
                }
            }
        }
    }

    fn replied(&mut self, id: u64, ask: AskId, answer: Result<Answer, Refused>) {
        let asker = self
            .asks
            .remove(&(id, ask))
            .expect("each question is answered once");
        let text = words::answer(&self.names, &answer);
        match asker {
            Asker::Client(label) => {
                self.say(format!("{label} → {text}"));
                self.answers.insert(ask, answer);
            }
            Asker::Worker(name) => {
                self.say(format!("hello {name} → {text}"));
                self.welcomed(&name, id, answer);
            }
        }
    }

    /// Questions nobody has answered yet.
    pub fn open_asks(&self) -> usize {
        self.asks.len()
    }

    /// What happened since the last call and when, and last what workers shall do where that changed.
    pub fn take_lines(&mut self) -> Vec<(u64, String)> {
        for (worker, desired) in std::mem::take(&mut self.desired) {
            let what = words::desired(&self.names, &desired);
            self.say(format!("{worker} shall do {what}"));
        }
        std::mem::take(&mut self.lines)
    }

    fn say(&mut self, line: String) {
        self.lines.push((self.now, line));
    }
}
