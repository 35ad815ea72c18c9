//! What many jobs share: kept once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::Spec;
use crate::limits::SPECS_MAX;
use crate::table::Table;
use crate::types::{EnvId, Index, SpecId};

/// A spec, and how many jobs use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// What runs a photo, and how.
    pub spec: Spec,
    /// Jobs that use it.
    pub jobs: u64,
}

/// All specs.
pub struct Specs {
    pub(crate) table: Table<(EnvId, SpecId), Shared>,
    by_spec: BTreeMap<(EnvId, Spec), SpecId>,
    homes: BTreeMap<SpecId, EnvId>,
}

impl Specs {
    pub(crate) fn new(number: u8) -> Self {
        Specs {
            table: Table::new(number),
            by_spec: BTreeMap::new(),
            homes: BTreeMap::new(),
        }
    }

    /// Counts one more job on a spec; `None` when there are too many specs.
    pub(crate) fn take(&mut self, env: EnvId, spec: &Spec, index: Index) -> Option<SpecId> {
        if let Some(id) = self.by_spec.get(&(env, spec.clone())) {
            self.table.get_mut(&(env, *id)).expect("indexed").jobs += 1;
            return Some(*id);
        }
        if self.table.len() >= SPECS_MAX {
            return None;
        }
        let id = SpecId(index);
        self.table.insert(
            (env, id),
            Shared {
                spec: spec.clone(),
                jobs: 1,
            },
        );
        self.by_spec.insert((env, spec.clone()), id);
        self.homes.insert(id, env);
        Some(id)
    }

    /// Counts one job less on a spec; one without jobs goes.
    pub(crate) fn release(&mut self, env: EnvId, id: SpecId) {
        let shared = self.table.get_mut(&(env, id)).expect("a job's spec");
        shared.jobs -= 1;
        if shared.jobs == 0 {
            let shared = self.table.remove(&(env, id)).expect("just there");
            self.by_spec.remove(&(env, shared.spec));
            self.homes.remove(&id);
        }
    }

    /// The id of an environment's spec, if some job of it has it.
    pub fn find(&self, env: EnvId, spec: &Spec) -> Option<SpecId> {
        self.by_spec.get(&(env, spec.clone())).copied()
    }

    /// Whose a spec is.
    pub fn home(&self, id: SpecId) -> Option<EnvId> {
        self.homes.get(&id).copied()
    }

    /// One spec.
    pub fn get(&self, id: SpecId) -> Option<&Spec> {
        let env = self.homes.get(&id)?;
        self.table.get(&(*env, id)).map(|shared| &shared.spec)
    }

    pub(crate) fn reindex(&mut self) {
        self.by_spec = self
            .table
            .iter()
            .map(|((env, id), shared)| ((*env, shared.spec.clone()), *id))
            .collect();
        self.homes = self.table.iter().map(|((env, id), _)| (*id, *env)).collect();
    }

    pub(crate) fn check(&self) {
        self.table.check();
        assert_eq!(self.by_spec.len(), self.table.len());
        assert_eq!(self.homes.len(), self.table.len());
    }
}
