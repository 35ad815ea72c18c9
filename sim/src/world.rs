//! The world: hosts, network, disks and people on one virtual clock. One thread, one heap of happenings; ties are
//! ordered by number.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::Bytes;
use rebound_agent::machine::Input as AgentInput;
use rebound_core::io::{Answer, Input, Question};
use rebound_core::plan::Plan;
use rebound_core::replica::{Config, Election};
use rebound_core::reply::Refused;
use rebound_core::state::members::Founder;
use rebound_core::types::*;
use rebound_proto::v1;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::agents::{Agent, Stream};
use crate::check::Checks;
use crate::clients::Client;
use crate::disk::Image;
use crate::faults::tenants::PLAIN;
use crate::faults::{Choice, Faults, Kind};
use crate::history::Call;
use crate::history::job;
use crate::hosts::{Clocks, Server};
use crate::net::{FIRST_AGENT, Net};
use crate::plant::Plant;
use crate::points::Point;
use crate::rng::Rng;
use crate::trace::{Tell, Trace};

mod backup;
mod books;
mod break_hosts;
mod break_links;
pub(crate) mod buying;
mod finish;
mod greet;
mod handover;
mod lies;
mod lookers;
mod members;
mod notes;
mod people;
mod persist;
mod readers;
mod serve;
mod snapshots;
mod staff;
mod storm;
mod streams;
mod tenants;
mod versions;

pub use finish::Outcome;
use storm::Armed;

/// What can happen at a moment.
pub(crate) enum Happening {
    /// A raft message arrives.
    Peer {
        from: u64,
        to: u64,
        bytes: Bytes,
    },
    /// A replica asked to be called.
    Wake {
        server: u64,
        life: u64,
    },
    /// What gathered is handed in.
    Gathered {
        server: u64,
        life: u64,
    },
    /// Somebody asks whether the cluster takes writes.
    Probe,
    /// An order is durable.
    Synced {
        server: u64,
        life: u64,
        order: u64,
        id: PersistId,
        installs: bool,
        sends: Vec<(ReplicaId, Bytes)>,
    },
    /// The policy has answered.
    Planned {
        server: u64,
        life: u64,
        plan: Plan,
    },
    /// Half of a snapshot is sent.
    SnapshotHalf {
        server: u64,
        life: u64,
    },
    /// A snapshot arrives, whole or cut.
    Snapshot {
        whole: bool,
        from: u64,
        from_life: u64,
        to: u64,
        message: Bytes,
        image: Box<Image>,
    },
    /// The sender learns what became of it.
    SnapshotDone {
        server: u64,
        life: u64,
        to: ReplicaId,
        ok: bool,
    },
    /// An agent's timer.
    AgentWake {
        agent: usize,
        life: u64,
    },
    /// An agent looks for the leader.
    Connect {
        agent: usize,
        life: u64,
    },
    /// A message arrives on a stream.
    ToAgent {
        agent: usize,
        stream: Stream,
        message: Box<v1::ServerMessage>,
    },
    /// The other way.
    ToServer {
        agent: usize,
        stream: Stream,
        message: Box<v1::AgentMessage>,
    },
    /// The leader's sign of life on a stream.
    KeepAlive {
        agent: usize,
        stream: Stream,
        worker: WorkerId,
    },
    /// The agent of a relayed stream tries the leader itself.
    TryDirect {
        agent: usize,
        stream: Stream,
    },
    /// The agent learns that its stream is gone.
    Broken {
        agent: usize,
        stream: Stream,
    },
    /// A fetch or an execution ended.
    Worked {
        agent: usize,
        life: u64,
        input: Box<AgentInput>,
    },
    /// A client asks.
    Ask {
        client: usize,
        tries: u64,
    },
    /// A question arrives at a server that stands still: it is read when the server goes on.
    Asked {
        server: u64,
        life: u64,
        question: Box<Question>,
    },
    /// A client is answered.
    Answered {
        client: usize,
        tries: u64,
        answer: Box<Result<Answer, Refused>>,
    },
    /// Somebody reads about a job, or cancels one.
    Read,
    Meddle,
    /// One of them is answered.
    CallAnswered {
        client: usize,
        call: usize,
        answer: Box<Result<Answer, Refused>>,
    },
    /// Something breaks.
    Fault(Kind),
    /// A leader is cut off, in a spell that lasts until then.
    Churn {
        until: u64,
    },
    /// A server starts again.
    Start {
        server: u64,
    },
    /// An agent starts again.
    StartAgent {
        agent: usize,
    },
    /// Servers connect to each other.
    Greet,
    /// The operator looks at the members.
    Operate,
    /// A server stops for good.
    Dismissed {
        server: u64,
        life: u64,
    },
    /// What comes of a leadership that is handed over.
    Handover(handover::Step),
    /// Something of machines that are bought.
    Buying(buying::Step),
    /// Cut links work again.
    Mend {
        reason: u64,
    },
    /// The faults stop.
    Calm,
    /// Has everything converged?
    Look,
}

/// Who waits for an answer of a server.
#[derive(Clone, Copy)]
pub(crate) enum Asker {
    Client {
        client: usize,
        tries: u64,
    },
    Call {
        client: usize,
        call: usize,
    },
    Agent {
        agent: usize,
        stream: Stream,
    },
    Operator,
    Transfer,
    Looker {
        client: usize,
        look: lookers::Look,
    },
    /// Of another environment than the client's.
    Stranger {
        client: usize,
    },
}

/// How often rare things happened.
pub type Counters = BTreeMap<&'static str, u64>;

/// A client's calls, for the history check.
pub(crate) type Calls = Vec<Call<job::Ask, job::Answer>>;

/// See the module.
pub struct World {
    /// The seed.
    pub seed: u64,
    /// What the seed brings.
    pub faults: Faults,
    /// How often rare things happened.
    pub counters: Counters,
    /// The invariants.
    pub checks: Checks,
    trace: Trace,
    now: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_number: u64,
    pub(crate) servers: Vec<Server>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    /// Calls of each client, and of others about its job.
    calls: Vec<Calls>,
    /// Counts beginnings and ends of calls.
    moment: u64,
    net: Net,
    asks: BTreeMap<(u64, AskId), Asker>,
    /// Reads under way, and what somebody took as committed when each was asked.
    reads: BTreeMap<(u64, AskId), Index>,
    next_ask: u64,
    next_stream: u64,
    /// Streams of welcomed workers.
    streams: BTreeMap<(u64, WorkerId), (usize, Stream)>,
    /// Streams that lost a message.
    torn: BTreeSet<u64>,
    /// Specs said on each stream.
    said: BTreeMap<u64, rebound_core::codec::agent::Said>,
    /// Suspects in recognisers: which agent, in which of its lives, and since when.
    suspects: BTreeMap<(u64, u64), (usize, u64, u64)>,
    /// Until when each stream is in use, each way, so that its messages keep their order.
    busy: BTreeMap<(u64, bool), u64>,
    /// Results that agents reported lately, for liars.
    reported: Vec<v1::ResultRun>,
    given_in: BTreeMap<Given, Term>,
    /// Fences of what was taken back from another worker.
    regiven: BTreeSet<Given>,
    last_term: Term,
    /// With which disk a life was met by another.
    met: BTreeMap<greet::Met, u64>,
    operator: members::Operator,
    lookers: lookers::Known,
    armed: Vec<Armed>,
    next_point: usize,
    calm: bool,
    ended: bool,
    hash: u64,
    sync_rng: Rng,
    /// Each kind of fault draws from its own, so that without one the others stay as they were.
    dice: BTreeMap<Kind, Rng>,
    people_rng: Rng,
    /// Applied entries since the state was last checked whole.
    unchecked: u64,
    buying: Option<buying::Buying>,
}

impl World {
    /// The world of a seed, at its beginning.
    pub fn new(seed: u64, plant: Plant, choice: &Choice) -> World {
        let root = Rng::new(seed);
        let faults = Faults::of_seed(&root, choice);
        let load = faults.load.clone();
        let members: Vec<ReplicaId> = (1..=load.servers).map(ReplicaId).collect();
        let founders: Vec<Founder> = members.iter().copied().map(Founder::named).collect();
        let mut clocks = root.branch("clocks");
        let mut builds = root.branch("builds");
        let all_old = builds.chance(600_000);
        let servers = members.iter().map(|id| {
            let mut config = Config::new(*id, founders.clone(), ClusterId("sim".into()));
            config.election = Election::Seeded(seed);
            config.log_keep = faults.log_keep();
            config.plant = plant.server;
            config.settings = faults.settings();
            // Whoever has applied the same is compared, wherever a call ends.
            config.limits.digest_every = 1;
            if let Some(extremes) = &faults.extremes {
                config.limits = extremes.limits.clone();
                config.policy = extremes.policy;
            }
            if faults.of(Kind::Versions).is_some() {
                config.build = versions::first_build(&mut builds, all_old);
            }
            let drift = faults.ppm(Kind::Clock);
            let drift_ppm = clocks.within(0, 2 * drift) as i64 - drift as i64;
            Server::new(config, Clocks { drift_ppm, ahead: 0 })
        });
        let servers = servers.collect();
        let slow = |rng: &mut Rng| rng.chance(faults.ppm(Kind::SlowAgent));
        let mut nature = root.branch("agents");
        let mut agent = |n: u64| {
            let slower = if slow(&mut nature) { 10 } else { 1 };
            let rng = root.branch(&format!("agent {n}"));
            Agent::new(FIRST_AGENT + n, load.slots, load.spool, slower, rng).planted(plant.agent)
        };
        let agents = (0..load.agents).map(&mut agent).collect();
        let mut people = root.branch("clients");
        let clients: Vec<Client> = (0..load.jobs)
            .map(|n| {
                let begins = people.within(SECOND, load.storm);
                let mut client = Client::draw(n, begins, load.servers, &mut people);
                client.shares_key = load.tenants.len() > 1;
                client
            })
            .collect();
        let mut checks = Checks::new(faults.settings());
        for tenant in &load.tenants {
            checks.may_have(tenant.name, PLAIN);
        }
        let weather = faults.weather();
        let dice = |(kind, ..): (Kind, _, _, _, _, _)| (kind, root.branch("storm").branch(kind.name()));
        World {
            seed,
            counters: Counters::new(),
            checks,
            trace: Trace::default(),
            now: 0,
            heap: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_number: 0,
            servers,
            agents,
            calls: vec![Calls::new(); clients.len()],
            clients,
            moment: 0,
            net: Net::new(weather, root.branch("net")),
            asks: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_ask: 1,
            next_stream: 1,
            streams: BTreeMap::new(),
            torn: BTreeSet::new(),
            said: BTreeMap::new(),
            suspects: BTreeMap::new(),
            busy: BTreeMap::new(),
            reported: Vec::new(),
            given_in: BTreeMap::new(),
            regiven: BTreeSet::new(),
            last_term: 0,
            met: BTreeMap::new(),
            operator: members::Operator::default(),
            lookers: lookers::Known::default(),
            armed: Vec::new(),
            next_point: root.branch("points").within(0, Point::ALL.len() as u64 - 1) as usize,
            calm: false,
            ended: false,
            hash: seed,
            sync_rng: root.branch("sync"),
            dice: Kind::ALL.map(dice).into_iter().collect(),
            people_rng: root.branch("people"),
            unchecked: 0,
            buying: faults
                .cloud
                .clone()
                .map(|drawn| buying::Buying::new(drawn, &root)),
            faults,
        }
    }

    /// Each event is told as one line, as it happens; see [`crate::trace`].
    pub fn traced(mut self, tell: Tell) -> World {
        self.trace = Trace::to(tell);
        self
    }

    fn begin(&mut self) {
        for server in 1..=self.count_servers() {
            self.start_server(server);
        }
        for agent in 0..self.agents.len() {
            self.start_agent(agent);
        }
        for client in 0..self.clients.len() {
            let (at, tries) = (self.clients[client].begins, self.clients[client].tries);
            self.at(at, Happening::Ask { client, tries });
        }
        self.at(0, Happening::Greet);
        self.at(SECOND, Happening::Operate);
        self.at(SECOND, Happening::Probe);
        self.at(SECOND, Happening::Read);
        self.at(SECOND, Happening::Meddle);
        self.at(self.faults.load.storm, Happening::Calm);
        self.begin_storm();
        self.begin_buying();
    }

    /// Runs to the end.
    pub fn run(mut self) -> Outcome {
        self.begin();
        while !self.ended && self.checks.violations.is_empty() {
            let Some(Reverse((at, number))) = self.heap.pop() else {
                break;
            };
            self.now = at;
            let happening = self.happenings.remove(&number).expect("each number once");
            if let Some(until) = self.held_until(&happening) {
                // With its own number, so that what waits keeps its order.
                self.heap.push(Reverse((until, number)));
                self.happenings.insert(number, happening);
                continue;
            }
            self.mix(&[at, number]);
            self.happen(happening);
        }
        self.finish()
    }

    /// What is for a host that stands still happens when it goes on.
    fn held_until(&self, happening: &Happening) -> Option<u64> {
        let until = match happening {
            Happening::Peer { to, .. } | Happening::Snapshot { to, .. } => self.host(*to).paused_until,
            Happening::Wake { server, .. }
            | Happening::Synced { server, .. }
            | Happening::Gathered { server, .. }
            | Happening::Asked { server, .. }
            | Happening::Planned { server, .. }
            | Happening::SnapshotDone { server, .. } => self.host(*server).paused_until,
            Happening::ToServer { stream, .. } | Happening::KeepAlive { stream, .. } => {
                self.host(stream.server).paused_until
            }
            Happening::ToAgent { agent, .. }
            | Happening::AgentWake { agent, .. }
            | Happening::Connect { agent, .. }
            | Happening::Broken { agent, .. }
            | Happening::TryDirect { agent, .. }
            | Happening::Worked { agent, .. } => self.agents[*agent].paused_until,
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    fn happen(&mut self, happening: Happening) {
        self.trace.happening(self.now, &happening);
        match happening {
            Happening::Peer { from, to, bytes } => self.peer(from, to, bytes),
            Happening::Wake { server, life } => self.wake(server, life),
            Happening::Gathered { server, life } => self.gathered(server, life),
            Happening::Probe => self.probe(),
            Happening::Synced {
                server,
                life,
                order,
                id,
                installs,
                sends,
            } => self.synced(server, life, order, id, installs, sends),
            Happening::Planned { server, life, plan } => self.input(server, life, Input::Planned(plan)),
            Happening::SnapshotHalf { server, life } => self.snapshot_half_sent(server, life),
            Happening::Snapshot {
                whole,
                from,
                from_life,
                to,
                message,
                image,
            } => self.snapshot_comes(whole, (from, from_life), to, message, *image),
            Happening::SnapshotDone { server, life, to, ok } => self.snapshot_done(server, life, to, ok),
            Happening::AgentWake { agent, life } => self.agent_wake(agent, life),
            Happening::Connect { agent, life } => self.connect(agent, life),
            Happening::ToAgent {
                agent,
                stream,
                message,
            } => self.arrives_at_agent(agent, stream, *message),
            Happening::ToServer {
                agent,
                stream,
                message,
            } => self.arrives_at_server(agent, stream, *message),
            Happening::KeepAlive {
                agent,
                stream,
                worker,
            } => self.keep_alive(agent, stream, worker),
            Happening::TryDirect { agent, stream } => self.try_direct(agent, stream),
            Happening::Broken { agent, stream } => self.broken(agent, stream),
            Happening::Worked { agent, life, input } => self.worked(agent, life, *input),
            Happening::Ask { client, tries } => self.client_asks(client, tries),
            Happening::Asked {
                server,
                life,
                question,
            } => self.input(server, life, Input::Client(question)),
            Happening::Answered {
                client,
                tries,
                answer,
            } => self.client_hears(client, tries, *answer),
            Happening::Read => self.read(),
            Happening::Meddle => self.meddle(),
            Happening::CallAnswered { client, call, answer } => self.call_answered(client, call, *answer),
            Happening::Fault(kind) => self.fault(kind),
            Happening::Churn { until } => self.churn(until),
            Happening::Start { server } => self.start_server(server),
            Happening::StartAgent { agent } => self.start_agent(agent),
            Happening::Greet => self.greet_all(),
            Happening::Operate => self.operate(),
            Happening::Dismissed { server, life } => self.dismissed(server, life),
            Happening::Handover(step) => self.handover(step),
            Happening::Buying(step) => self.buying_step(step),
            Happening::Mend { reason } => self.net.mend(reason),
            Happening::Calm => self.calm_down(),
            Happening::Look => self.look(),
        }
    }

    /// Lets something happen at a moment, not before now.
    pub(crate) fn at(&mut self, at: u64, happening: Happening) {
        self.heap.push(Reverse((at.max(self.now), self.next_number)));
        self.happenings.insert(self.next_number, happening);
        self.next_number += 1;
    }

    fn after(&mut self, us: u64, happening: Happening) {
        self.at(self.now + us, happening);
    }

    fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
        self.trace.note(self.now, what);
    }

    fn count_servers(&self) -> u64 {
        self.servers.len() as u64
    }

    fn host(&self, id: u64) -> &Server {
        &self.servers[id as usize - 1]
    }

    fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = xxh3_64_with_seed(&word.to_be_bytes(), self.hash);
        }
    }

    fn server(&mut self, id: u64) -> &mut Server {
        &mut self.servers[id as usize - 1]
    }
}
