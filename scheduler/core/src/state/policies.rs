//! Policies that were in force, so that a person can go back to one.

use serde::{Deserialize, Serialize};

use super::control::Trial;
use super::{Context, State};
use crate::event::Fact;
use crate::limits::POLICIES_KEPT;
use crate::reply::{Rejected, Reply};
use crate::scaling::Scaling;
use crate::table::Table;
use crate::types::{EnvId, Index, Time};

/// A policy, and who brought it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// When.
    pub at: Time,
    /// Who.
    pub by: String,
    /// The policy.
    pub scaling: Scaling,
}

/// By the entry that brought it.
pub struct Policies {
    pub(crate) table: Table<Index, PolicyRecord>,
}

impl Policies {
    pub(crate) fn new(number: u8) -> Self {
        Policies {
            table: Table::new(number),
        }
    }

    /// All that are kept, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Index, &PolicyRecord)> {
        self.table.iter().map(|(index, record)| (*index, record))
    }

    /// A policy came into force; the oldest is forgotten beyond what is kept.
    pub(crate) fn note(&mut self, index: Index, record: PolicyRecord) {
        self.table.insert(index, record);
        while self.table.len() > POLICIES_KEPT {
            let oldest = self.table.iter().next().map(|(index, _)| *index);
            self.table.remove(&oldest.expect("there are some"));
        }
    }
}

impl State {
    /// Tries a policy beside the one in force, or ends that.
    pub(super) fn shadow(
        &mut self,
        context: &mut Context,
        scaling: Option<&Scaling>,
    ) -> Result<Reply, Rejected> {
        scaling.map_or(Ok(()), Scaling::check_numbers)?;
        let (by, at, since) = (context.by.actor.clone(), context.at, context.index);
        let trial = scaling.map(|scaling| Trial {
            by,
            at,
            since,
            scaling: scaling.clone(),
        });
        let on = trial.is_some();
        self.control.get_mut().shadow = trial;
        context.tell(EnvId::default(), None, Fact::Shadowed { on });
        Ok(Reply::Done)
    }

    /// The newest policy that is kept is the one in force.
    pub(super) fn check_policies(&self) {
        self.policies.table.check();
        assert!(self.policies.table.len() <= POLICIES_KEPT);
        let newest = self.policies.iter().next_back();
        let in_force = self.control.known().filter(|control| control.since > 0);
        assert_eq!(
            newest.map(|(index, record)| (index, &record.scaling)),
            in_force.map(|control| (control.since, &control.scaling)),
            "the newest policy"
        );
    }
}
