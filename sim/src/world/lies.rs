//! Agents that lie: about their size, how far and how fast they are, what they spooled, whose session they have, and
//! what came of others' work.

use rebound_core::types::*;
use rebound_proto::v1::{self, agent_message};

use super::World;
use crate::faults::Kind;

/// Reports a liar may take from others.
const REPORTED_KEPT: usize = 64;
/// A liar names so many times its slots.
const LIED_SLOTS: u32 = 8;

/// Of a liar's first words so many claim somebody else's session, in a million.
const CLAIMS_PPM: u64 = 200_000;

impl World {
    /// What an agent says goes out, perhaps with a lie in it or behind it.
    pub(super) fn agent_sends(&mut self, agent: usize, mut message: v1::AgentMessage) {
        let Some(stream) = self.agents[agent].stream else {
            return;
        };
        let lies = self.faults.of(Kind::Liar).filter(|_| !self.calm);
        let mut forged = None;
        match &mut message.body {
            Some(agent_message::Body::Hello(hello)) if lies.is_some() => {
                self.claims_session(hello);
                hello.slots *= LIED_SLOTS;
                if let Some(resources) = &mut hello.resources {
                    resources.milli_cpu *= LIED_SLOTS;
                    resources.memory_mib *= LIED_SLOTS;
                }
            }
            Some(agent_message::Body::Heartbeat(heartbeat)) if lies.is_some() => {
                self.lies_in(agent, heartbeat);
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

    /// A heartbeat that is not true: how far the worker is, in its own runs, in others' and in none; how fast; or what it
    /// holds.
    fn lies_in(&mut self, agent: usize, heartbeat: &mut v1::Heartbeat) {
        let ppm = self.faults.ppm(Kind::Liar);
        let session = self.session_of(agent);
        let dice = self.dice.get_mut(&Kind::Liar).expect("each kind has its own");
        if !dice.chance(ppm) {
            return;
        }
        let any = |dice: &mut crate::rng::Rng| match dice.within(0, 3) {
            0 => 0,
            1 => dice.within(1, 100),
            2 => dice.any(),
            _ => u64::MAX,
        };
        match dice.within(0, 2) {
            0 => {
                for started in &mut heartbeat.started {
                    started.next = any(dice);
                }
                let which = dice.any();
                let others = session.and_then(|worker| self.checks.held_by_other(worker, which));
                let (job, task, given) = others.unwrap_or((JobId(any(dice)), any(dice), Given(any(dice))));
                heartbeat.started.push(v1::Started {
                    job: job.0,
                    first: task,
                    given: given.0,
                    next: any(dice),
                });
                self.count("lies about how far a worker is");
            }
            1 => {
                (heartbeat.answer_us, heartbeat.fetch_us) = (any(dice), any(dice));
                for pace in &mut heartbeat.paces {
                    (pace.service_us, pace.running_us) = (any(dice), any(dice));
                }
                heartbeat.paces.push(v1::Pace {
                    spec: any(dice),
                    service_us: any(dice),
                    running_us: any(dice),
                });
                self.count("lies about how fast a worker is");
            }
            _ => {
                (heartbeat.running, heartbeat.spooled) = (any(dice) as u32, any(dice) as u32);
                heartbeat.generation = any(dice);
                self.count("lies about what a worker holds");
            }
        }
    }

    fn session_of(&self, agent: usize) -> Option<WorkerId> {
        let mut streams = self.streams.iter();
        streams
            .find(|(_, (of, _))| *of == agent)
            .map(|((_, worker), _)| *worker)
    }

    /// Under its own name, with another worker's session.
    fn claims_session(&mut self, hello: &mut v1::Hello) {
        let Some(state) = self.newest_state() else { return };
        let others = state.workers.iter_live();
        let others: Vec<u64> = others
            .filter(|(_, worker)| worker.join.name != hello.name)
            .map(|(id, _)| id.0)
            .collect();
        let dice = self.dice.get_mut(&Kind::Liar).expect("each kind has its own");
        if let Some(other) = dice.pick(&others).copied().filter(|_| dice.chance(CLAIMS_PPM)) {
            (hello.cluster, hello.worker) = ("sim".into(), other);
            self.count("sessions of others claimed");
        }
    }

    /// J3: nobody is welcomed into another's session.
    pub(super) fn check_welcome(&mut self, server: u64, agent: usize, worker: WorkerId) {
        let name = self.agents[agent].name.clone();
        let replica = self.host(server).replica.as_ref();
        let known = replica.and_then(|replica| replica.state().workers.get(worker));
        if let Some(other) = known.filter(|known| known.join.name != name) {
            let violation = format!(
                "J3: {name} was welcomed as {worker}, which is {}",
                other.join.name
            );
            self.checks.violated(violation);
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
