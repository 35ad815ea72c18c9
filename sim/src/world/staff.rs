//! Agents: their work and their spools.

use rebound_agent::machine::{Action, Input as AgentInput, NOOP};
use rebound_core::limits::WORKER_LEASE;
use rebound_core::types::*;

use super::{Happening, World};
use crate::agents::Agent;
use crate::faults::Kind;

impl World {
    pub(super) fn start_agent(&mut self, agent: usize) {
        if self.agents[agent].machine.is_none() && !self.agents[agent].gone {
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

    /// Its machine is about to be taken back: it says so, and ends like one that was asked to.
    pub(super) fn agent_hears_notice(&mut self, agent: usize, within: u64) {
        if self.agents[agent].machine.is_some() {
            self.agent_input(agent, AgentInput::Noticed { within_us: within });
        }
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
                let times = match slow {
                    true => self.agents[agent].slower * self.faults.photo_times(),
                    false => 1,
                };
                let poison = self.faults.ppm(Kind::Poison);
                let (took, outcome) = self.agents[agent].recognise(&uri, poison, times);
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
