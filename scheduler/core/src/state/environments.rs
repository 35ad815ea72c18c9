//! Environments (tenants) and their books.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::ENVIRONMENTS_MAX;
use crate::table::Table;
use crate::types::EnvId;

/// The books of an environment: `submitted` is the sum of the others, at every index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tasks ever queued.
    pub submitted: u64,
    /// In the queue, or waiting for a retry.
    pub waiting: u64,
    /// With a worker.
    pub given: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended for good without result.
    pub failed: u64,
    /// Not ended when their job was cancelled.
    pub cancelled: u64,
    /// However they ended: their job was deleted since.
    pub deleted: u64,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// As credentials name it.
    pub name: String,
    /// Its tasks.
    pub counts: Counts,
    /// How often somebody asked whether the cluster takes writes.
    pub probes: u64,
}

/// All environments.
pub struct Environments {
    pub(crate) table: Table<EnvId, Environment>,
    by_name: BTreeMap<String, EnvId>,
}

impl Environments {
    pub(crate) fn new(number: u8) -> Self {
        Environments {
            table: Table::new(number),
            by_name: BTreeMap::new(),
        }
    }

    /// The environment of a name, made when it is new; `None` when there are too many.
    pub(crate) fn named(&mut self, name: &str) -> Option<EnvId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        if self.table.len() >= ENVIRONMENTS_MAX {
            return None;
        }
        let id = EnvId(self.table.iter().next_back().map_or(0, |(last, _)| last.0) + 1);
        let environment = Environment {
            name: name.to_owned(),
            counts: Counts::default(),
            probes: 0,
        };
        self.table.insert(id, environment);
        self.by_name.insert(name.to_owned(), id);
        Some(id)
    }

    /// The environment of a name, if there is one.
    pub fn find(&self, name: &str) -> Option<EnvId> {
        self.by_name.get(name).copied()
    }

    /// One environment.
    pub fn get(&self, id: EnvId) -> Option<&Environment> {
        self.table.get(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (EnvId, &Environment)> {
        self.table.iter().map(|(id, environment)| (*id, environment))
    }

    pub(crate) fn counts_mut(&mut self, id: EnvId) -> &mut Counts {
        &mut self
            .table
            .get_mut(&id)
            .expect("a job's environment exists")
            .counts
    }

    pub(crate) fn count_probe(&mut self, id: EnvId) -> u64 {
        let environment = self.table.get_mut(&id).expect("made just before");
        environment.probes += 1;
        environment.probes
    }

    pub(crate) fn reindex(&mut self) {
        self.by_name = self
            .table
            .iter()
            .map(|(id, environment)| (environment.name.clone(), *id))
            .collect();
    }

    /// Books balance, and the index agrees.
    pub(crate) fn check(&self) {
        self.table.check();
        assert_eq!(self.by_name.len(), self.table.len());
        for (id, environment) in self.table.iter() {
            assert_eq!(self.by_name.get(&environment.name), Some(id));
            let c = environment.counts;
            assert_eq!(
                c.submitted,
                c.waiting + c.given + c.succeeded + c.failed + c.cancelled + c.deleted,
                "{environment:?}"
            );
        }
    }
}
