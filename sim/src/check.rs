//! The invariants, by their ids: C1 acknowledged is durable, C2 same index same state, C4 one leader a term, J2 one
//! recorded outcome, J3 one holder a task.

use std::collections::BTreeMap;

use rebound_core::event::{Event, Fact};
use rebound_core::io::Status;
use rebound_core::table::Digest;
use rebound_core::types::{Given, Index, JobId, ReplicaId, Term, WorkerId};

/// What was seen so far, of all replicas together.
#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<Term, ReplicaId>,
    digests: BTreeMap<Index, Digest>,
    recorded: BTreeMap<(JobId, u64), (Index, Given)>,
    holders: BTreeMap<(JobId, u64), (Index, Given, WorkerId)>,
    /// Facts are taken once: replicas apply the same entries.
    facts_to: Index,
    /// What went wrong.
    pub violations: Vec<String>,
}

impl Checks {
    fn violated(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// After each call of a replica.
    pub fn see(&mut self, id: ReplicaId, status: &Status, events: &[Event]) {
        if status.role == "leader" {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            if leader != id {
                self.violated(format!(
                    "C4: servers {leader} and {id} both lead term {}",
                    status.term
                ));
            }
        }
        let digest = *self.digests.entry(status.applied).or_insert(status.digest);
        if digest != status.digest {
            let applied = status.applied;
            self.violated(format!(
                "C2: at index {applied} server {id} has another state than one before it"
            ));
        }
        for event in events {
            self.fact(event);
        }
        self.facts_to = self.facts_to.max(events.last().map_or(0, |event| event.index));
    }

    fn fact(&mut self, event: &Event) {
        let (index, Some(job)) = (event.index, event.job) else {
            return;
        };
        match event.fact {
            Fact::Recorded {
                first, count, given, ..
            } => (first..first + count).for_each(|task| self.recorded_now(index, job, task, given)),
            _ if index <= self.facts_to => {}
            Fact::RunGiven {
                worker,
                first,
                count,
                given,
            } => {
                for task in first..first + count {
                    self.given(index, job, task, given, worker);
                }
            }
            _ => {}
        }
        if index > self.facts_to {
            self.released(event, job);
        }
    }

    fn recorded_now(&mut self, index: Index, job: JobId, task: u64, given: Given) {
        let first = *self.recorded.entry((job, task)).or_insert((index, given));
        if first != (index, given) {
            let (before, _) = first;
            self.violated(format!(
                "J2: task {job}/{task} was recorded at {before} and again at {index}"
            ));
        }
    }

    fn given(&mut self, index: Index, job: JobId, task: u64, given: Given, worker: WorkerId) {
        if let Some((at, _, holder)) = self.holders.insert((job, task), (index, given, worker)) {
            self.violated(format!(
                "J3: task {job}/{task} was given to {worker} at {index} while {holder} held it since {at}"
            ));
        }
        if let Some((at, _)) = self.recorded.get(&(job, task)).copied() {
            self.violated(format!(
                "J3: task {job}/{task} was given at {index} though it was recorded at {at}"
            ));
        }
    }

    fn released(&mut self, event: &Event, job: JobId) {
        match event.fact {
            Fact::Recorded { first, count, .. } => {
                for task in first..first + count {
                    self.holders.remove(&(job, task));
                }
            }
            Fact::Requeued { task, .. } => {
                self.holders.remove(&(job, task));
            }
            Fact::JobCancelled { .. } => self.holders.retain(|(held, _), _| *held != job),
            _ => {}
        }
    }

    /// How many tasks have their outcome.
    pub fn recorded_count(&self) -> usize {
        self.recorded.len()
    }

    /// The index at which a task's outcome was recorded.
    pub fn recorded(&self) -> impl Iterator<Item = (JobId, u64, Given, Index)> + '_ {
        self.recorded
            .iter()
            .map(|((job, task), (index, given))| (*job, *task, *given, *index))
    }
}
