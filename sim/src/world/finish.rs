//! The end of a world: has everything converged, and does everybody agree on what happened?

use std::collections::BTreeSet;

use rebound_core::kept::result_of;
use rebound_core::key::result_key;
use rebound_core::replica::{decode_entry, parse_log_entry};
use rebound_core::state::jobs::Phase;
use rebound_core::types::*;

use super::{CONVERGE_WITHIN, Counters, Happening, World};
use crate::agents::answer;
use crate::model::Model;

/// What a world came to.
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What the seed brought.
    pub faults: String,
    /// Hash of everything that happened, in order.
    pub trace: u64,
    /// Virtual time, in µs.
    pub virtual_us: u64,
    /// Rare things.
    pub counters: Counters,
    /// Broken invariants: none, in a good run.
    pub violations: Vec<String>,
}

impl World {
    /// Once a second after the storm: is everything done?
    pub(super) fn look(&mut self) {
        if self.converged() {
            self.ended = true;
        } else if self.now > self.faults.storm + CONVERGE_WITHIN {
            let why = self.unfinished();
            self.checks.violations.push(format!(
                "J7: not converged {} s after the faults stopped: {why}",
                CONVERGE_WITHIN / SECOND
            ));
        } else {
            self.after(SECOND, Happening::Look);
        }
    }

    fn converged(&self) -> bool {
        self.unfinished().is_empty()
    }

    fn unfinished(&self) -> String {
        let mut why = Vec::new();
        if !self.clients_done() {
            why.push("clients still ask".to_owned());
        }
        let spooled: usize = self.agents.iter().map(|agent| agent.spool.len()).sum();
        if spooled > 0 {
            why.push(format!("{spooled} results in spools"));
        }
        let states: Vec<_> = self
            .servers
            .iter()
            .filter_map(|server| Some(server.replica.as_ref()?.state()))
            .collect();
        let applied: BTreeSet<Index> = states.iter().map(|state| state.applied()).collect();
        if states.len() != self.servers.len() || applied.len() != 1 {
            why.push(format!("{} servers up, applied {applied:?}", states.len()));
        }
        for state in &states {
            let counts = state
                .environments
                .iter()
                .fold((0, 0), |(waiting, given), (_, environment)| {
                    (
                        waiting + environment.counts.waiting,
                        given + environment.counts.given,
                    )
                });
            if counts != (0, 0) || state.jobs.open_count() > 0 {
                let open = state.jobs.open_count();
                why.push(format!(
                    "{} tasks wait, {} are given, {open} jobs are open",
                    counts.0, counts.1
                ));
                break;
            }
        }
        why.join("; ")
    }

    pub(super) fn finish(mut self) -> Outcome {
        if self.checks.violations.is_empty() {
            self.check_acknowledged();
            self.check_model();
        }
        Outcome {
            seed: self.seed,
            faults: self.faults.to_string(),
            trace: self.hash,
            virtual_us: self.now,
            counters: self.counters,
            violations: self.checks.violations,
        }
    }

    /// C1: every acknowledged photo is there, on every server, with its one result.
    fn check_acknowledged(&mut self) {
        let mut violations = Vec::new();
        for server in &self.servers {
            let (id, image) = (server.id(), server.disk.image());
            let state = server.replica.as_ref().expect("all are up").state();
            state.check();
            for client in self.clients.iter().filter(|client| client.job.is_some()) {
                let job = client.job.expect("filtered");
                let Some((env, record)) = state.jobs.get(job) else {
                    violations.push(format!(
                        "C1: job {job} was acknowledged and is not on server {id}"
                    ));
                    continue;
                };
                if record.tasks < client.acked
                    || (client.closed && !client.cancels && record.phase != Phase::Done)
                {
                    let (tasks, phase) = (record.tasks, record.phase);
                    violations.push(format!(
                        "C1: job {job} has {tasks} photos and is {phase:?} on server {id}"
                    ));
                }
                for task in (0..client.acked).filter(|_| !client.cancels) {
                    let stored = image.at_or_before(&result_key(env, job, task));
                    let right = stored
                        .and_then(|(key, value)| result_of(key, value, env, job, task).ok()?)
                        .is_some_and(|result| {
                            result.cause.is_some() || result.output == answer(&client.uri(task))
                        });
                    if !right {
                        violations.push(format!(
                            "C1: result of {job}/{task} is missing or wrong on server {id}"
                        ));
                    }
                }
            }
        }
        violations.truncate(20);
        self.checks.violations.extend(violations);
    }

    /// J2, independently: the log of any server, read by the model, allows exactly what was recorded.
    fn check_model(&mut self) {
        let mut model = Model::default();
        let mut entries = std::collections::BTreeMap::new();
        for server in &self.servers {
            // A server that took a snapshot lacks some entries: together they have all.
            let applied = server
                .replica
                .as_ref()
                .map_or(0, |replica| replica.state().applied());
            entries.extend(
                server
                    .disk
                    .image()
                    .all_entries()
                    .filter(|(index, _)| *index <= applied),
            );
        }
        for (at, (index, bytes)) in entries.into_iter().enumerate() {
            if index != at as u64 + 1 {
                self.checks
                    .violations
                    .push(format!("C1: entry {} is on no disk", at + 1));
                return;
            }
            let (_, _, data) = parse_log_entry(bytes).expect("readable");
            if let Some(entry) = decode_entry(&data).expect("readable") {
                model.apply(index, &entry);
            }
        }
        let allowed: BTreeSet<_> = model.allowed.iter().copied().collect();
        let recorded: BTreeSet<_> = self.checks.recorded().collect();
        for (job, task, given, index) in recorded.symmetric_difference(&allowed).take(5) {
            let what = if allowed.contains(&(*job, *task, *given, *index)) {
                "only allowed"
            } else {
                "not allowed"
            };
            let violation =
                format!("J2: the outcome of {job}/{task} by {given} at {index} is {what} by the model");
            self.checks.violations.push(violation);
        }
    }
}
