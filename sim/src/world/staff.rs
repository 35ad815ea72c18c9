//! Agents: their streams, their work, their spools.

use rebound_agent::machine::{Action, Input as AgentInput, NOOP};
use rebound_core::codec::agent as codec;
use rebound_core::io::{Answer, Input, Question, Request};
use rebound_core::reply::Refused;
use rebound_core::types::*;
use rebound_proto::v1::{self, agent_message, server_message::Body};

use super::{Asker, Happening, SERVERS, World};
use crate::agents::{Agent, Stream};

impl World {
    pub(super) fn start_agent(&mut self, agent: usize) {
        if self.agents[agent].machine.is_none() {
            self.agents[agent].start();
            let life = self.agents[agent].life;
            self.at(self.now, Happening::Connect { agent, life });
        }
    }

    pub(super) fn agent_wake(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life == life {
            self.agents[agent].wake_at = u64::MAX;
            self.agent_input(agent, AgentInput::Tick);
        }
    }

    pub(super) fn agent_input(&mut self, agent: usize, input: AgentInput) {
        let now = Agent::now(self.now);
        let Some(machine) = &mut self.agents[agent].machine else {
            return;
        };
        let actions = machine.handle(now, input);
        machine.check();
        for action in actions {
            self.agent_acts(agent, action);
        }
        self.agent_wakes_in_time(agent);
    }

    fn agent_wakes_in_time(&mut self, agent: usize) {
        let now = self.now;
        let host = &mut self.agents[agent];
        let Some(machine) = &host.machine else { return };
        let at = machine.wake_at().max(now + 1);
        if at < host.wake_at {
            host.wake_at = at;
            let life = host.life;
            self.at(at, Happening::AgentWake { agent, life });
        }
    }

    fn agent_acts(&mut self, agent: usize, action: Action) {
        let life = self.agents[agent].life;
        match action {
            Action::Send(message) => {
                if let Some(stream) = self.agents[agent].stream {
                    let at = self.stream_time(stream, false);
                    self.at(
                        at,
                        Happening::ToServer {
                            agent,
                            stream,
                            message: Box::new(message),
                        },
                    );
                }
            }
            Action::Fetch { task, .. } => {
                let took = self.agents[agent].fetch();
                let input = Box::new(AgentInput::Fetched {
                    task,
                    outcome: Ok(()),
                });
                self.after(took, Happening::Worked { agent, life, input });
            }
            Action::Start {
                task,
                spec,
                uri,
                alone,
                ..
            } => {
                assert_eq!(spec.recogniser, NOOP);
                if alone {
                    self.suspect_begins(agent, (task.job, task.task));
                }
                let poison = if self.calm { 0 } else { self.faults.poison_ppm };
                let (took, outcome) = self.agents[agent].recognise(&uri, poison);
                let outcome = outcome.map(Into::into);
                self.after(
                    took,
                    Happening::Worked {
                        agent,
                        life,
                        input: Box::new(AgentInput::Finished { task, outcome }),
                    },
                );
            }
            Action::Stop { .. } | Action::Forget { .. } => {}
            Action::Spool(spooled) => {
                self.agents[agent].spool.insert(spooled.attempt.task, spooled);
            }
            Action::Unspool(ranges) => ranges
                .iter()
                .flat_map(|range| range.keys())
                .for_each(|key| drop(self.agents[agent].spool.remove(&key))),
            Action::Disconnect { .. } => {
                if let Some(stream) = self.agents[agent].stream {
                    self.after(1, Happening::Broken { agent, stream });
                }
            }
            Action::Exit => self.agents[agent].machine = None,
        }
    }

    /// J5: a suspect is never with two at once. A process that ended took its recognisers with it.
    fn suspect_begins(&mut self, agent: usize, task: (u64, u64)) {
        let life = self.agents[agent].life;
        let before = self.suspects.insert(task, (agent, life));
        if let Some((other, its_life)) = before
            && self.agents[other].machine.is_some()
            && self.agents[other].life == its_life
        {
            let (job, task) = task;
            let what = format!("J5: suspect {job}/{task} began on agent {agent} while {other} was at it");
            self.checks.violations.push(what);
        }
        self.count("suspects begun");
    }

    pub(super) fn worked(&mut self, agent: usize, life: u64, input: AgentInput) {
        if let AgentInput::Finished { task, .. } = &input {
            let task = (task.job, task.task);
            if self.suspects.get(&task) == Some(&(agent, life)) {
                self.suspects.remove(&task);
            }
        }
        if self.agents[agent].life == life {
            self.agent_input(agent, input);
        }
    }

    /// Tries the next server. One that is down or cut off costs a moment.
    pub(super) fn connect(&mut self, agent: usize, life: u64) {
        let host = &self.agents[agent];
        if host.life != life || host.machine.is_none() || host.stream.is_some() {
            return;
        }
        let (node, server) = (host.node, host.next_server);
        let reachable = self.server(server).replica.is_some()
            && self.server(server).paused_until <= self.now
            && self.net.open(node, server)
            && self.net.open(server, node);
        if !reachable {
            self.agents[agent].next_server = server % SERVERS + 1;
            self.after(100 * MILLISECOND, Happening::Connect { agent, life });
            return;
        }
        let stream = Stream {
            number: self.next_stream,
            server,
            life: self.server(server).life,
        };
        self.next_stream += 1;
        self.agents[agent].stream = Some(stream);
        self.agent_input(agent, AgentInput::Connected);
    }

    /// True while both ends and the way between them are there.
    fn stands(&mut self, agent: usize, stream: Stream) -> bool {
        let node = self.agents[agent].node;
        let server = self.server(stream.server);
        let up = server.replica.is_some() && server.life == stream.life;
        up && !self.torn.contains(&stream.number)
            && self.agents[agent].stream == Some(stream)
            && self.net.open(node, stream.server)
            && self.net.open(stream.server, node)
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
                self.streams.insert((stream.server, worker), (agent, stream));
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
                    _ => None,
                };
                self.agents[agent].next_server = hint.unwrap_or(stream.server % SERVERS + 1);
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
            if let Some(stream) = self.agents[agent].stream.filter(|stream| stream.server == server) {
                let wait = self.people_rng.within(1, 500) * MILLISECOND;
                self.after(wait, Happening::Broken { agent, stream });
            }
        }
    }
}

/// The leader's sign of life on each stream.
const WORKER_SIGN: u64 = SECOND;
