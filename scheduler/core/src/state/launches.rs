//! Launches: intents to start machines, frozen when they are committed. One launch is one call of the cloud, however
//! often that is made: what it may be answered with is all here.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use crate::limits::MACHINES_GONE_KEPT;
use crate::plan::capacity::Sizing;
use crate::table::Table;
use crate::types::{LaunchId, Market, MicroUsd, Pool, Time};

/// One kind of machine that a launch may be answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Zone **id**.
    pub zone_id: String,
    /// Instance type.
    pub instance_type: String,
    /// vCPUs, as quotas count them.
    pub vcpus: u32,
    /// USD an hour, in millionths, as it was when the launch was decided.
    pub price: MicroUsd,
    /// The most that it can come to cost an hour.
    pub bound: MicroUsd,
}

/// What a launch asks for: never changed. Another request is another launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where.
    pub region: String,
    /// Spot or on-demand.
    pub market: Market,
    /// Over which the machines are spread, the most wanted first; at most
    /// [`CHOICES_PER_LAUNCH_MAX`](crate::limits::CHOICES_PER_LAUNCH_MAX).
    pub choices: Vec<Choice>,
    /// How many machines.
    pub count: u32,
    /// How many machines of the last image may be there before one has joined.
    pub template: u32,
}

impl Wanted {
    /// The pool of a choice.
    pub fn pool(&self, choice: &Choice) -> Pool {
        Pool {
            region: self.region.clone(),
            zone_id: choice.zone_id.clone(),
            instance_type: choice.instance_type.clone(),
            market: self.market,
        }
    }

    /// The choice that a machine of this zone and type is.
    pub fn choice(&self, zone_id: &str, instance_type: &str) -> Option<&Choice> {
        let is = |choice: &&Choice| choice.zone_id == zone_id && choice.instance_type == instance_type;
        self.choices.iter().find(is)
    }

    /// What it may come to: USD an hour in millionths, and vCPUs, of the dearest and of the largest mix. Which mix it
    /// becomes is for the cloud to say: all of the dearest kind, at worst.
    pub fn dearest(&self) -> (u64, u64) {
        let count = u64::from(self.count);
        let bound = self.choices.iter().map(|one| one.bound.0).max().unwrap_or(0);
        let vcpus = self
            .choices
            .iter()
            .map(|one| u64::from(one.vcpus))
            .max()
            .unwrap_or(0);
        (bound.saturating_mul(count), vcpus.saturating_mul(count))
    }
}

/// Why the cloud gave no machine, or fewer. Three kinds that are acted on in three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lack {
    /// The pool has no such machine now.
    Capacity,
    /// A quota of the account is used up.
    Quota,
    /// The zone's network has no address left.
    Addresses,
    /// It has machines, and takes too many of them back.
    TakenBack,
}

/// How a launch came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The cloud answered: so many machines came; fewer where something lacked.
    Answered { got: u32 },
    /// The cloud will never do it: what it said.
    Refused { why: String },
    /// No call was begun before its time was over, or none that a list of machines shows.
    Expired,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// What it asks for.
    pub wanted: Wanted,
    /// When it was committed.
    pub at: Time,
    /// No call begins after this.
    pub not_after: Time,
    /// How it came out, and when.
    pub settled: Option<(Time, Outcome)>,
    /// Machines that came of it so far.
    pub machines: u32,
    /// Why it was made.
    pub because: Sizing,
}

impl Launch {
    /// Machines that may still come.
    pub fn coming(&self) -> u32 {
        match self.settled {
            None => self.wanted.count.saturating_sub(self.machines),
            Some(_) => 0,
        }
    }
}

/// All launches.
pub struct Launches {
    pub(crate) table: Table<LaunchId, Launch>,
    live: BTreeSet<LaunchId>,
}

impl Launches {
    pub(crate) fn new(number: u8) -> Self {
        Launches {
            table: Table::new(number),
            live: BTreeSet::new(),
        }
    }

    /// One launch, if it is remembered.
    pub fn get(&self, id: LaunchId) -> Option<&Launch> {
        self.table.get(&id)
    }

    /// All that are remembered, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (LaunchId, &Launch)> {
        self.table.iter().map(|(id, launch)| (*id, launch))
    }

    /// Those that are not settled, the oldest first.
    pub fn live(&self) -> impl Iterator<Item = (LaunchId, &Launch)> {
        self.live
            .iter()
            .map(|id| (*id, self.table.get(id).expect("indexed")))
    }

    /// How many are not settled.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn insert(&mut self, id: LaunchId, launch: Launch) {
        self.live.insert(id);
        self.table.insert(id, launch);
        if self.table.len() - self.live.len() > MACHINES_GONE_KEPT {
            let oldest = self
                .table
                .iter()
                .map(|(id, _)| *id)
                .find(|id| !self.live.contains(id));
            self.table.remove(&oldest.expect("counted"));
        }
    }

    /// A machine came of it.
    pub(crate) fn count_machine(&mut self, id: LaunchId) {
        self.table.get_mut(&id).expect("just found").machines += 1;
    }

    pub(crate) fn settle(&mut self, id: LaunchId, at: Time, outcome: Outcome) {
        self.live.remove(&id);
        self.table.get_mut(&id).expect("just found").settled = Some((at, outcome));
    }

    pub(crate) fn reindex(&mut self) {
        let live = self.table.iter().filter(|(_, launch)| launch.settled.is_none());
        self.live = live.map(|(id, _)| *id).collect();
    }

    pub(crate) fn check(&self) {
        self.table.check();
        let live = self.table.iter().filter(|(_, launch)| launch.settled.is_none());
        assert_eq!(live.map(|(id, _)| *id).collect::<BTreeSet<_>>(), self.live);
        for (id, launch) in self.table.iter() {
            assert!(
                launch.machines <= launch.wanted.count,
                "launch {id} gave more machines than it asked for"
            );
            assert!(launch.at <= launch.not_after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_and_the_largest_mix_are_reserved() {
        let choice = |bound, vcpus| Choice {
            zone_id: "z".into(),
            instance_type: "t".into(),
            vcpus,
            price: MicroUsd(1),
            bound: MicroUsd(bound),
        };
        let wanted = |choices, count| Wanted {
            region: "r".into(),
            market: Market::Spot,
            choices,
            count,
            template: 0,
        };
        let choices = vec![choice(10, 4), choice(30, 2), choice(20, 8)];
        assert_eq!(wanted(choices, 3).dearest(), (90, 24));
        assert_eq!(wanted(Vec::new(), 3).dearest(), (0, 0));
    }
}
