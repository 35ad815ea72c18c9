//! What a person has decided about buying machines, and what has stopped it.

use serde::{Deserialize, Serialize};

use crate::plan::capacity::Short;
use crate::scaling::{Mode, Scaling};
use crate::table::Table;
use crate::types::{Index, Time};

/// Why launches are stopped until a person thaws them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Brake {
    /// So many machines of the template in a row never joined.
    NeverJoined { template: u32, machines: u32 },
    /// So many launches within an hour.
    Launches { count: u32 },
    /// A thousand photos cost so many millionths of USD in these two hours, and so many in the week before.
    PhotoCost { lately: u64, before: u64 },
    /// The cluster's own books and the cloud's bill of the same hours, in millionths of USD.
    Bill { ledger: u64, billed: u64 },
}

/// Who stopped launches, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who.
    pub by: String,
    /// When.
    pub at: Time,
    /// In their words.
    pub why: String,
}

/// A policy that is tried beside the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Time,
    /// The entry that brought it.
    pub since: Index,
    /// The policy.
    pub scaling: Scaling,
}

/// The one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The policy in force.
    pub scaling: Scaling,
    /// Index of the entry that brought it; 0: the built-in one.
    pub since: Index,
    /// Launches and scale-in stand still.
    pub frozen: Option<Freeze>,
    /// Launches are stopped, since when.
    pub brake: Option<(Brake, Time)>,
    /// The template of which some machine has joined.
    pub proven: u32,
    /// Machines of the template in force in a row that never joined.
    pub never_joined: u32,
    /// Launches committed in the hour that began then.
    pub launches: (Time, u32),
    /// Photos will be late and nothing may be bought for them, since then.
    pub short: Option<(Short, Time)>,
    /// Beginning of the last quarter hour of which it is noted what it took.
    pub quarter_noted: Option<Time>,
    /// When a person last released a brake: what was spent before is known to them.
    pub thawed: Option<Time>,
    /// What is tried beside the policy in force.
    pub shadow: Option<Trial>,
}

/// See [`Control`].
pub struct Controls {
    pub(crate) table: Table<(), Control>,
}

impl Controls {
    pub(crate) fn new(number: u8) -> Self {
        Controls {
            table: Table::new(number),
        }
    }

    /// The record, or that of a cluster which nobody has told anything.
    pub fn get(&self) -> Control {
        self.table.get(&()).cloned().unwrap_or_default()
    }

    /// The record, if somebody has decided something.
    pub fn known(&self) -> Option<&Control> {
        self.table.get(&())
    }

    /// True while nothing but caps stands between a gap and a launch.
    pub fn buys(&self) -> bool {
        let is = |control: &Control| {
            control.scaling.mode == Mode::Act && control.frozen.is_none() && control.brake.is_none()
        };
        self.known().is_some_and(is)
    }

    pub(crate) fn get_mut(&mut self) -> &mut Control {
        if self.table.get(&()).is_none() {
            self.table.insert((), Control::default());
        }
        self.table.get_mut(&()).expect("just made")
    }
}
