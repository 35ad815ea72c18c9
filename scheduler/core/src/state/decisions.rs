//! What was decided about machines, and what became of it, for a week: whoever asks at breakfast why machines were
//! bought at three finds the numbers.

use serde::{Deserialize, Serialize};

use super::State;
use super::control::Brake;
use super::launches::{Lack, Outcome};
use super::machines::{EndWhy, Gone};
use crate::event::{Event, Fact};
use crate::limits::{DECISIONS_KEPT, DECISIONS_KEPT_FOR};
use crate::plan::capacity::{Flip, Short, Sizing};
use crate::table::Table;
use crate::types::{Index, InstanceId, LaunchId, Pool, Time};

/// What was decided or became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Machines shall be started, over these pools.
    Launched {
        launch: LaunchId,
        pools: Vec<Pool>,
        count: u32,
        because: Sizing,
    },
    /// A launch that was planned may not be.
    Dropped { count: u32, why: String },
    /// A launch is settled.
    Settled {
        launch: LaunchId,
        got: u32,
        of: u32,
        outcome: Outcome,
    },
    /// A stopped machine shall start again.
    Starting { machine: InstanceId, because: Sizing },
    /// A machine with nothing to do for so many µs shall stop, and is kept for a burst.
    Stopping { machine: InstanceId, idle: u64 },
    /// A machine shall end, after so many idle µs, where keeping it was worth so many.
    LetGo {
        machine: InstanceId,
        why: EndWhy,
        idle: u64,
        keep: u64,
    },
    /// The cloud takes a machine back then.
    Noticed { machine: InstanceId, ends: Time },
    /// A machine has ended, and cost so many millionths of USD.
    Ended {
        machine: InstanceId,
        how: Gone,
        paid: u64,
    },
    /// Spot is too dear in a pool, or no longer.
    Dear(Flip),
    /// A pool is left alone until then.
    Closed {
        pool: Pool,
        lack: Lack,
        refusals: u32,
        until: Time,
    },
    /// A person wants nothing of a pool, or no longer so.
    Banned { pool: Pool, banned: bool },
    /// The policy of that entry is in force.
    Policy { since: Index },
    /// A policy is tried beside the one in force, or no longer.
    Shadow { on: bool },
    /// A person stopped launches and scale-in, for a reason; or let them go on.
    Frozen { why: Option<String> },
    /// Launches are stopped until a person says otherwise.
    Braked { brake: Brake },
    /// A person released the brake.
    Thawed,
    /// Photos will be late and nothing may be bought for them; or no longer.
    Short { short: Option<Short> },
}

impl What {
    fn of(fact: &Fact) -> Option<What> {
        Some(match fact.clone() {
            Fact::Launched {
                launch,
                pools,
                count,
                because,
                ..
            } => What::Launched {
                launch,
                pools,
                count,
                because,
            },
            Fact::LaunchDropped { count, why } => What::Dropped {
                count,
                why: why.to_owned(),
            },
            Fact::LaunchSettled {
                launch,
                got,
                of,
                outcome,
            } => What::Settled {
                launch,
                got,
                of,
                outcome,
            },
            Fact::MachineLetGo {
                machine,
                why,
                idle,
                keep,
            } => What::LetGo {
                machine,
                why,
                idle,
                keep,
            },
            Fact::SpareStarting { machine, because } => What::Starting { machine, because },
            Fact::SpareStopping { machine, idle } => What::Stopping { machine, idle },
            Fact::MachineNoticed { machine, ends } => What::Noticed { machine, ends },
            Fact::MachineGone { machine, how, paid } => What::Ended { machine, how, paid },
            Fact::PoolDear { flip } => What::Dear(flip),
            Fact::PoolClosed {
                pool,
                lack,
                refusals,
                until,
            } => What::Closed {
                pool,
                lack,
                refusals,
                until,
            },
            Fact::PoolBanned { pool, banned } => What::Banned { pool, banned },
            Fact::PolicyChanged { since } => What::Policy { since },
            Fact::Shadowed { on } => What::Shadow { on },
            Fact::Frozen { why } => What::Frozen { why },
            Fact::Braked { brake } => What::Braked { brake },
            Fact::Thawed => What::Thawed,
            Fact::Short { short } => What::Short { short },
            _ => return None,
        })
    }
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When, by the cluster's clock.
    pub at: Time,
    /// Who; empty: the policy.
    pub by: String,
    /// What.
    pub what: What,
}

/// By the entry that it came with, and its place in it.
pub struct Decisions {
    pub(crate) table: Table<(Index, u16), Decision>,
}

impl Decisions {
    pub(crate) fn new(number: u8) -> Self {
        Decisions {
            table: Table::new(number),
        }
    }

    /// All that are kept, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&(Index, u16), &Decision)> {
        self.table.iter()
    }

    /// Keeps what an entry's events say of machines, and forgets what is kept no longer.
    pub(crate) fn note(&mut self, index: Index, at: Time, by: &str, events: &[Event]) {
        let all = events.iter().filter_map(|event| What::of(&event.fact));
        for (place, what) in (0..u16::MAX).zip(all) {
            let by = by.to_owned();
            self.table.insert((index, place), Decision { at, by, what });
        }
        let oldest =
            |table: &Table<(Index, u16), Decision>| table.iter().next().map(|(key, one)| (*key, one.at));
        while let Some((key, from)) = oldest(&self.table) {
            let is_old = at.0.saturating_sub(from.0) > DECISIONS_KEPT_FOR;
            if self.table.len() <= DECISIONS_KEPT && !is_old {
                return;
            }
            self.table.remove(&key);
        }
    }
}

impl State {
    pub(super) fn check_decisions(&self) {
        self.decisions.table.check();
        assert!(self.decisions.table.len() <= DECISIONS_KEPT);
        for ((index, _), one) in self.decisions.table.iter() {
            assert!(
                *index <= self.applied() && one.at <= self.now(),
                "decision {index} is of a later time"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EnvId, TraceId};

    fn event(fact: Fact) -> Event {
        Event {
            index: 1,
            at: Time(1),
            env: EnvId::default(),
            job: None,
            trace: TraceId::default(),
            fact,
        }
    }

    #[test]
    fn a_week_is_kept_and_no_more() {
        let mut decisions = Decisions::new(1);
        let thawed = event(Fact::Thawed);
        let other = event(Fact::JobClosed { by_itself: false });
        decisions.note(1, Time(1), "op", &[other.clone(), thawed.clone(), thawed.clone()]);
        decisions.note(
            2,
            Time(2 + DECISIONS_KEPT_FOR / 2),
            "",
            &[other.clone(), thawed.clone()],
        );
        let keys = |decisions: &Decisions| decisions.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        assert_eq!(keys(&decisions), [(1, 0), (1, 1), (2, 0)]);
        decisions.note(3, Time(2 + DECISIONS_KEPT_FOR), "", std::slice::from_ref(&other));
        assert_eq!(keys(&decisions), [(2, 0)]);
        for index in 0..DECISIONS_KEPT as u64 + 5 {
            decisions.note(
                4 + index,
                Time(3 + DECISIONS_KEPT_FOR),
                "",
                std::slice::from_ref(&thawed),
            );
        }
        assert_eq!(decisions.table.len(), DECISIONS_KEPT);
    }
}
