//! Agents: their work, their spools, their lies.

use rebound_agent::machine::{Action, Input as AgentInput, NOOP};
use rebound_core::limits::WORKER_LEASE;
use rebound_core::types::*;
use rebound_proto::v1::{self, agent_message};

use super::{Happening, World};
use crate::agents::Agent;
use crate::faults::Kind;

/// Reports a liar may take from others.
const REPORTED_KEPT: usize = 64;
/// A liar names so many times its slots.
const LIED_SLOTS: u32 = 8;

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
            Action::Send(message) => self.agent_sends(agent, message),
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
                let slow = !self.calm;
                let (took, outcome) = self.agents[agent].recognise(&uri, self.faults.ppm(Kind::Poison), slow);
                if outcome.is_err() {
                    self.count(Kind::Poison.name());
                }
                if slow && self.agents[agent].slower > 1 {
                    self.count(Kind::SlowAgent.name());
                }
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
            Action::Exit => self.agent_exits(agent),
        }
    }

    /// It said good-bye and is started again later. Its stream ends once its last words are out.
    fn agent_exits(&mut self, agent: usize) {
        let long = self
            .faults
            .of(Kind::AgentLeave)
            .map_or(SECOND, |leave| leave.long);
        let host = &mut self.agents[agent];
        host.machine = None;
        host.life += 1;
        if let Some(stream) = host.stream {
            let said = self.stream_time(agent, stream, false);
            self.at(said + 1, Happening::Broken { agent, stream });
        }
        self.after(long, Happening::StartAgent { agent });
    }

    /// What an agent says goes out, perhaps with a lie in it or behind it.
    fn agent_sends(&mut self, agent: usize, mut message: v1::AgentMessage) {
        let Some(stream) = self.agents[agent].stream else {
            return;
        };
        let lies = self.faults.of(Kind::Liar).filter(|_| !self.calm);
        let mut forged = None;
        match &mut message.body {
            Some(agent_message::Body::Hello(hello)) if lies.is_some() => {
                hello.slots *= LIED_SLOTS;
                if let Some(resources) = &mut hello.resources {
                    resources.milli_cpu *= LIED_SLOTS;
                    resources.memory_mib *= LIED_SLOTS;
                }
            }
            Some(agent_message::Body::Results(results)) if lies.is_some() => {
                self.reported.extend(results.runs.iter().cloned());
                let many = self.reported.len().saturating_sub(REPORTED_KEPT);
                self.reported.drain(..many);
                forged = self.forge(agent, lies.map_or(0, |lies| lies.ppm));
            }
            _ => {}
        }
        self.agent_says(agent, stream, message);
        if let Some(forged) = forged {
            self.count(Kind::Liar.name());
            self.agent_says(agent, stream, forged);
        }
    }

    /// A result of somebody else's attempt with another output, or of one that never was; or one's own once more.
    fn forge(&mut self, agent: usize, ppm: u64) -> Option<v1::AgentMessage> {
        let dice = self.dice.get_mut(&Kind::Liar).expect("each kind has its own");
        if !dice.chance(ppm) {
            return None;
        }
        // Of this very stream: what another session of the same agent holds may be the liar's own by now.
        let stream = self.agents[agent].stream?;
        let session = self
            .streams
            .iter()
            .find(|(_, (of, on))| *of == agent && *on == stream)
            .map(|((_, worker), _)| *worker);
        let said = dice.pick(&self.reported)?.clone();
        let run = match dice.within(0, 2) {
            // Held by another worker now.
            0 => {
                let (job, task, given) = self.checks.held_by_other(session?, dice.any())?;
                forged(job.0, task, given.0)
            }
            // By a fence that is none: no world's log is as long, so none of the liar's own is guessed.
            1 => forged(
                said.job,
                said.first,
                said.given + dice.within(1_000_000, 9_000_000),
            ),
            _ => said,
        };
        let results = v1::Results {
            runs: vec![run],
            ..v1::Results::default()
        };
        Some(v1::AgentMessage {
            body: Some(agent_message::Body::Results(results)),
        })
    }

    /// J5: a suspect is never with two at once. A process that ended took its recognisers with it; one that stood
    /// still, or whose lease is shorter than a photo takes, was lost with the suspect in hand.
    fn suspect_begins(&mut self, agent: usize, task: (u64, u64)) {
        let (life, now) = (self.agents[agent].life, self.now);
        let before = self.suspects.insert(task, (agent, life, now));
        self.count("suspects begun");
        let Some((other, its_life, since)) = before else {
            return;
        };
        let host = &self.agents[other];
        let at_it = host.machine.is_some() && host.life == its_life;
        let stood_still = host.paused_until > since;
        if at_it && !stood_still && self.faults.settings().lease >= WORKER_LEASE {
            let (job, task) = task;
            self.checks.violated(format!(
                "J5: suspect {job}/{task} began on agent {agent} while {other} was at it"
            ));
        }
    }

    pub(super) fn worked(&mut self, agent: usize, life: u64, input: AgentInput) {
        if let AgentInput::Finished { task, .. } = &input {
            let task = (task.job, task.task);
            let at_it = |(of, its_life, _): &(usize, u64, u64)| (*of, *its_life) == (agent, life);
            if self.suspects.get(&task).is_some_and(at_it) {
                self.suspects.remove(&task);
            }
        }
        if self.agents[agent].life == life {
            self.agent_input(agent, input);
        }
    }
}

/// A result that no recogniser gave.
fn forged(job: u64, task: u64, given: u64) -> v1::ResultRun {
    let output = b"forged";
    v1::ResultRun {
        job,
        first: task,
        given,
        count: 1,
        causes: Vec::new(),
        outputs: output.to_vec().into(),
        output_bytes: vec![output.len() as u32],
        started_us: vec![0],
        took_us: vec![1],
    }
}
