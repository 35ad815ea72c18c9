//! Workers: sessions of agents, and what is left of those that have gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Join;
use crate::limits::WORKERS_GONE_KEPT;
use crate::table::Table;
use crate::types::{Index, Time, WorkerId};

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Takes work.
    Active,
    /// Finishes what it has.
    Draining,
    /// Said good-bye.
    Left,
    /// Fell silent, or its machine joined again.
    Lost,
}

impl Standing {
    /// True while the session may hold tasks.
    pub fn is_live(self) -> bool {
        matches!(self, Standing::Active | Standing::Draining)
    }
}

/// A session of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// As it joined.
    pub join: Join,
    /// How it stands.
    pub standing: Standing,
    /// By the cluster's clock.
    pub joined: Time,
    /// By the cluster's clock, once it has gone.
    pub ended: Option<Time>,
    /// Why it has gone.
    pub why: String,
    /// Index of the last entry that gave it work: the most recently busy worker gets the next.
    pub last_given: Index,
    /// When it last came to hold nothing, by the cluster's clock.
    pub idle: Time,
    /// Results of it that were recorded as successes.
    pub succeeded: u64,
    /// Attempts of it that failed.
    pub failed: u64,
}

/// All sessions.
pub struct Workers {
    pub(crate) table: Table<WorkerId, Worker>,
    live_by_name: BTreeMap<String, WorkerId>,
    gone: usize,
}

impl Workers {
    pub(crate) fn new(number: u8) -> Self {
        Workers {
            table: Table::new(number),
            live_by_name: BTreeMap::new(),
            gone: 0,
        }
    }

    /// One session.
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.table.get(&id)
    }

    /// One session, if it may hold tasks.
    pub fn live(&self, id: WorkerId) -> Option<&Worker> {
        self.table.get(&id).filter(|worker| worker.standing.is_live())
    }

    /// The live session of a machine.
    pub fn named(&self, name: &str) -> Option<WorkerId> {
        self.live_by_name.get(name).copied()
    }

    /// All sessions that may hold tasks.
    pub fn iter_live(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.live_by_name
            .values()
            .map(|id| (*id, self.table.get(id).expect("indexed")))
    }

    /// How many sessions may hold tasks.
    pub fn live_count(&self) -> usize {
        self.live_by_name.len()
    }

    /// All sessions that are remembered.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (WorkerId, &Worker)> {
        self.table.iter().map(|(id, worker)| (*id, worker))
    }

    pub(crate) fn join(&mut self, id: WorkerId, join: Join, at: Time) {
        let before = self.live_by_name.insert(join.name.clone(), id);
        assert_eq!(before, None, "the earlier session of the machine was ended first");
        let worker = Worker {
            join,
            standing: Standing::Active,
            joined: at,
            ended: None,
            why: String::new(),
            last_given: 0,
            idle: at,
            succeeded: 0,
            failed: 0,
        };
        self.table.insert(id, worker);
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.table.get_mut(&id)
    }

    /// Ends a live session and forgets the oldest that have gone, beyond what is kept.
    pub(crate) fn end(&mut self, id: WorkerId, standing: Standing, why: &str, at: Time) {
        let worker = self.table.get_mut(&id).expect("a live session");
        assert!(worker.standing.is_live());
        worker.standing = standing;
        worker.ended = Some(at);
        worker.why = why.to_owned();
        let name = worker.join.name.clone();
        assert_eq!(self.live_by_name.remove(&name), Some(id));
        self.gone += 1;
        if self.gone > WORKERS_GONE_KEPT {
            let oldest = self
                .table
                .iter()
                .find(|(_, worker)| !worker.standing.is_live())
                .map(|(id, _)| *id);
            self.table.remove(&oldest.expect("counted"));
            self.gone -= 1;
        }
    }

    pub(crate) fn reindex(&mut self) {
        self.live_by_name = self
            .table
            .iter()
            .filter(|(_, worker)| worker.standing.is_live())
            .map(|(id, worker)| (worker.join.name.clone(), *id))
            .collect();
        self.gone = self.table.len() - self.live_by_name.len();
    }

    pub(crate) fn check(&self) {
        self.table.check();
        let live = self
            .table
            .iter()
            .filter(|(_, worker)| worker.standing.is_live())
            .count();
        assert_eq!(live, self.live_by_name.len());
        assert_eq!(self.table.len() - live, self.gone);
        for (name, id) in &self.live_by_name {
            assert_eq!(&self.table.get(id).expect("indexed").join.name, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Pool, Resources};

    #[test]
    fn the_sessions_that_went_last_are_remembered() {
        let mut workers = Workers::new(9);
        let many = WORKERS_GONE_KEPT as u64 + 3;
        for id in 1..=many {
            let join = Join {
                name: "w".into(),
                nonce: id,
                slots: 1,
                resources: Resources::default(),
                pool: Pool::default(),
                recognisers: Vec::new(),
                version: String::new(),
            };
            workers.join(WorkerId(id), join, Time(id));
            workers.end(WorkerId(id), Standing::Left, "", Time(id));
        }
        let left: Vec<u64> = workers.iter().map(|(id, _)| id.0).collect();
        assert_eq!((left.len(), left[0]), (WORKERS_GONE_KEPT, 4));
        workers.table.settle(&mut Vec::new());
        workers.check();
    }
}
