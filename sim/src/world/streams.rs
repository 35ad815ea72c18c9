//! Streams between agents and servers.

use rebound_agent::machine::Input as AgentInput;
use rebound_core::codec::agent as codec;
use rebound_core::io::{Answer, Input, Question, Request, WorkerReport};
use rebound_core::reply::Refused;
use rebound_core::types::*;
use rebound_proto::v1::{self, agent_message, server_message::Body};

use super::{Asker, Happening, World};
use crate::agents::Stream;

/// While a stream is relayed its agent tries the leader itself so often.
const DIRECT_AFTER: u64 = 10 * SECOND;
/// The leader's sign of life on each stream.
const WORKER_SIGN: u64 = SECOND;

impl World {
    /// Tries the next server. One that is down or cut off costs a moment.
    pub(super) fn connect(&mut self, agent: usize, life: u64) {
        let host = &self.agents[agent];
        if host.life != life || host.machine.is_none() || host.stream.is_some() {
            return;
        }
        let (node, server, unreached) = (host.node, host.next_server, host.unreached);
        let reachable = self.is_up(server) && self.net.linked(node, server);
        // A server that follows another leader than the one that was not reached names that one instead.
        let relays = self.relays_to(server).filter(|leader| unreached == Some(*leader));
        if !reachable || relays.is_some_and(|leader| !self.is_up(leader) || !self.net.linked(server, leader))
        {
            if !reachable {
                // Whoever was told of it was told that it leads.
                self.agents[agent].unreached = Some(server);
            }
            self.agents[agent].next_server = self.next_server(server);
            self.after(100 * MILLISECOND, Happening::Connect { agent, life });
            return;
        }
        let end = relays.unwrap_or(server);
        let stream = Stream {
            number: self.next_stream,
            server: end,
            life: self.server(end).life,
            via: relays.map(|_| (server, self.host(server).life)),
        };
        self.next_stream += 1;
        if stream.via.is_some() {
            self.count("streams relayed");
            self.after(DIRECT_AFTER, Happening::TryDirect { agent, stream });
        }
        self.agents[agent].stream = Some(stream);
        self.agent_input(agent, AgentInput::Connected);
    }

    fn is_up(&mut self, server: u64) -> bool {
        self.server(server).replica.is_some() && self.server(server).paused_until <= self.now
    }

    /// The leader that a server would relay to.
    fn relays_to(&mut self, server: u64) -> Option<u64> {
        let leader = self.server(server).replica.as_ref()?.status().leader?;
        Some(leader.0).filter(|leader| *leader != server)
    }

    /// The agent tries the leader itself now and then while its stream is relayed.
    pub(super) fn try_direct(&mut self, agent: usize, stream: Stream) {
        if self.agents[agent].stream != Some(stream) {
            return;
        }
        let node = self.agents[agent].node;
        if self.is_up(stream.server) && self.net.linked(node, stream.server) {
            self.count("relays left for the leader");
            self.agents[agent].next_server = stream.server;
            self.agents[agent].unreached = None;
            return self.broken(agent, stream);
        }
        self.after(DIRECT_AFTER, Happening::TryDirect { agent, stream });
    }

    /// True while both ends and the way between them are there.
    fn stands(&mut self, agent: usize, stream: Stream) -> bool {
        let node = self.agents[agent].node;
        let server = self.server(stream.server);
        let up = server.replica.is_some() && server.life == stream.life;
        up && !self.torn.contains(&stream.number)
            && self.agents[agent].stream == Some(stream)
            && self.way_stands(node, stream)
    }

    /// The way from an agent to the server that its stream ends at, through the one that relays it, which must still
    /// follow that server.
    fn way_stands(&mut self, node: u64, stream: Stream) -> bool {
        let Some((via, life)) = stream.via else {
            return self.net.linked(node, stream.server);
        };
        self.net.linked(node, via)
            && self.net.linked(via, stream.server)
            && self.server(via).life == life
            && self.relays_to(via) == Some(stream.server)
    }

    /// A stream that lost a message carries nothing more: its end learns it a little later.
    fn tear(&mut self, agent: usize, stream: Stream) {
        if self.torn.insert(stream.number) {
            self.streams.retain(|_, (_, one)| *one != stream);
            let wait = self.people_rng.within(100, 3_000) * MILLISECOND;
            self.after(wait, Happening::Broken { agent, stream });
        }
    }

    pub(super) fn arrives_at_server(&mut self, agent: usize, stream: Stream, message: v1::AgentMessage) {
        if !self.stands(agent, stream) {
            return self.tear(agent, stream);
        }
        if let Some(agent_message::Body::Hello(hello)) = &message.body {
            let (join, session) = codec::hello(hello).expect("agents of this world speak well");
            let ask = AskId(self.next_ask);
            self.next_ask += 1;
            self.asks
                .insert((stream.server, ask), Asker::Agent { agent, stream });
            let by = Caller {
                environment: "workers".into(),
                actor: join.name.clone(),
            };
            let request = Request::Hello {
                join: Box::new(join),
                session,
            };
            let question = Question {
                ask,
                by,
                trace: TraceId::default(),
                timeout: 0,
                request,
            };
            return self.inputs(stream.server, vec![Input::Client(Box::new(question))]);
        }
        let worker = self
            .streams
            .iter()
            .find(|(_, (_, one))| *one == stream)
            .map(|((_, worker), _)| *worker);
        let report = codec::report(message).expect("agents of this world speak well");
        if let (Some(worker), Some(report)) = (worker, report) {
            if let WorkerReport::Heartbeat { spool_full: true, .. } = report {
                self.count("heartbeats with a full spool");
            }
            // What waited for a server that stood still was said long ago: another leads that never heard it.
            let host = self.host(stream.server);
            let waited = host.paused_until == self.now;
            if host.leads() && !(waited && self.checks.is_followed(ReplicaId(stream.server))) {
                self.checks.heard(worker, self.now);
            }
            if stream.via.is_some() && matches!(report, WorkerReport::Results { .. }) {
                self.count("worked through a relay");
            }
            self.inputs(stream.server, vec![Input::Worker { worker, report }]);
        }
    }

    pub(super) fn hello_answered(&mut self, agent: usize, stream: Stream, answer: Result<Answer, Refused>) {
        if self.agents[agent].stream != Some(stream) {
            return;
        }
        match answer {
            Ok(Answer::Welcome {
                worker,
                cluster,
                term,
                now,
                orphan_for,
            }) => {
                if stream.via.is_none() {
                    self.agents[agent].unreached = None;
                }
                self.check_welcome(stream.server, agent, worker);
                self.streams.insert((stream.server, worker), (agent, stream));
                self.checks.heard(worker, self.now);
                self.say_on(
                    agent,
                    stream,
                    Body::Welcome(codec::welcome(&cluster, worker, term, now, orphan_for)),
                );
                self.after(
                    WORKER_SIGN,
                    Happening::KeepAlive {
                        agent,
                        stream,
                        worker,
                    },
                );
            }
            other => {
                let hint = match other {
                    Err(Refused::NotLeader { leader }) => leader.map(|id| id.0),
                    Err(Refused::Rejected(_)) => {
                        self.count("twins turned away");
                        None
                    }
                    _ => None,
                };
                let next = self.next_server(stream.server);
                self.agents[agent].next_server = hint.unwrap_or(next);
                let way = self.net.way();
                self.after(way, Happening::Broken { agent, stream });
            }
        }
    }

    pub(super) fn keep_alive(&mut self, agent: usize, stream: Stream, worker: WorkerId) {
        let standing = self.streams.get(&(stream.server, worker)) == Some(&(agent, stream));
        if standing && self.server(stream.server).life == stream.life {
            self.say_on(agent, stream, Body::Answers(v1::Answers::default()));
            self.after(
                WORKER_SIGN,
                Happening::KeepAlive {
                    agent,
                    stream,
                    worker,
                },
            );
        }
    }

    pub(super) fn arrives_at_agent(&mut self, agent: usize, stream: Stream, message: v1::ServerMessage) {
        match self.stands(agent, stream) {
            true => self.agent_input(agent, AgentInput::Server(message)),
            false => self.tear(agent, stream),
        }
    }

    /// The agent learns that its stream is gone, and looks again soon.
    pub(super) fn broken(&mut self, agent: usize, stream: Stream) {
        if self.agents[agent].stream != Some(stream) {
            return;
        }
        self.agents[agent].stream = None;
        self.streams.retain(|_, (_, one)| *one != stream);
        self.said.remove(&stream.number);
        self.agent_input(agent, AgentInput::Disconnected);
        let life = self.agents[agent].life;
        let wait = self.people_rng.within(20, 300) * MILLISECOND;
        self.after(wait, Happening::Connect { agent, life });
    }

    /// The server ends a stream.
    pub(super) fn hang_up(&mut self, server: u64, worker: WorkerId) {
        if let Some((agent, stream)) = self.streams.remove(&(server, worker)) {
            let way = self.net.way();
            self.after(way, Happening::Broken { agent, stream });
        }
    }

    /// A server's end: all its streams break, and the agents learn it a little later.
    pub(super) fn break_streams_of(&mut self, server: u64) {
        self.streams.retain(|(of, _), _| *of != server);
        for agent in 0..self.agents.len() {
            let of_it =
                |stream: &Stream| stream.server == server || stream.via.is_some_and(|(via, _)| via == server);
            if let Some(stream) = self.agents[agent].stream.filter(of_it) {
                self.streams.retain(|_, (_, one)| *one != stream);
                let wait = self.people_rng.within(1, 500) * MILLISECOND;
                self.after(wait, Happening::Broken { agent, stream });
            }
        }
    }

    /// Says something on a worker's stream.
    pub(super) fn say(&mut self, server: u64, worker: WorkerId, body: Body) {
        if let Some((agent, stream)) = self.streams.get(&(server, worker)).copied() {
            self.say_on(agent, stream, body);
        }
    }

    fn say_on(&mut self, agent: usize, stream: Stream, body: Body) {
        let at = self.stream_time(agent, stream, true);
        let message = Box::new(v1::ServerMessage { body: Some(body) });
        let happening = Happening::ToAgent {
            agent,
            stream,
            message,
        };
        self.at(at, happening);
    }

    /// Says something to a server.
    pub(super) fn agent_says(&mut self, agent: usize, stream: Stream, message: v1::AgentMessage) {
        let at = self.stream_time(agent, stream, false);
        let happening = Happening::ToServer {
            agent,
            stream,
            message: Box::new(message),
        };
        self.at(at, happening);
    }

    /// When a message that is said now arrives: messages of one stream keep their order.
    pub(super) fn stream_time(&mut self, agent: usize, stream: Stream, to_agent: bool) -> u64 {
        let mut hops = vec![self.agents[agent].node];
        hops.extend(stream.via.map(|(via, _)| via));
        hops.push(stream.server);
        if to_agent {
            hops.reverse();
        }
        let mut at = self.now;
        for hop in hops.windows(2) {
            let way = self.net.way();
            at = self.net.through(hop[0], hop[1], at + way);
        }
        let busy = self.busy.entry((stream.number, to_agent)).or_default();
        *busy = at.max(*busy);
        *busy
    }
}
