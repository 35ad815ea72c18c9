//! What the cluster remembers of EC2's capacity pools: what is in force against one, how its launches went, and how long
//! its machines took to be ready.

use serde::{Deserialize, Serialize};

use super::ready::{Ready, Warming};
use crate::limits::{POOLS_KEPT, READY_KEPT, TAKEN_KEPT};
use crate::table::Table;
use crate::types::{Pool, Time};

/// The newest are kept.
fn push<T>(all: &mut Vec<T>, one: T) {
    if all.len() >= READY_KEPT {
        all.remove(0);
    }
    all.push(one);
}

/// A pool's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// A person wants nothing of it until then, and why.
    pub banned: Option<(Time, String)>,
    /// Launches in a row that it had no machine for.
    pub refusals: u32,
    /// It is asked again from then on, for one machine.
    pub closed_until: Option<Time>,
    /// Spot alone: it is too dear, since when; none: it is not.
    pub dear: Option<Time>,
    /// When that last changed.
    pub flipped: Option<Time>,
    /// Machines that it gave.
    pub started: u64,
    /// Launches that it had no machine for, or too few.
    pub lacked: u64,
    /// Machines that EC2 took back.
    pub reclaimed: u64,
    /// When it took the last ones, the newest last; at most [`TAKEN_KEPT`].
    pub taken: Vec<Time>,
    /// µs that its machines ran and were paid for.
    pub ran: u64,
    /// What that cost, in millionths of USD.
    pub paid: u64,
    /// What it would have cost at the most that each could come to cost: of spot, on demand.
    pub at_most: u64,
    /// Of the last machines that joined, the newest last; at most [`READY_KEPT`], as of the next two.
    pub ready: Vec<Ready>,
    /// From the entry that started a stopped machine to its agent's joining, in µs.
    pub restarted: Vec<u64>,
    /// What the first photos took.
    pub warmed: Vec<Warming>,
}

impl PoolRecord {
    /// True while nothing may be launched there but a probe: the time for it has not come.
    pub fn is_closed(&self, now: Time) -> bool {
        self.closed_until.is_some_and(|until| now < until)
    }

    /// True while a person wants nothing of it.
    pub fn is_banned(&self, now: Time) -> bool {
        self.banned.as_ref().is_some_and(|(until, _)| now < *until)
    }

    /// Machines that EC2 took back since then.
    pub fn taken_since(&self, from: Time) -> u32 {
        let since = self.taken.iter().filter(|at| **at >= from);
        u32::try_from(since.count()).unwrap_or(u32::MAX)
    }

    fn is_plain(&self, now: Time) -> bool {
        !self.is_closed(now) && !self.is_banned(now) && self.dear.is_none()
    }
}

/// All pools that something is remembered of.
pub struct Pools {
    pub(crate) table: Table<Pool, PoolRecord>,
}

impl Pools {
    pub(crate) fn new(number: u8) -> Self {
        Pools {
            table: Table::new(number),
        }
    }

    /// One pool.
    pub fn get(&self, pool: &Pool) -> Option<&PoolRecord> {
        self.table.get(pool)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Pool, &PoolRecord)> {
        self.table.iter()
    }

    /// A pool to change. When there are too many, one goes against which nothing is in force, the least used first.
    pub(crate) fn of(&mut self, pool: &Pool, now: Time) -> &mut PoolRecord {
        if self.table.get(pool).is_none() {
            if self.table.len() >= POOLS_KEPT {
                let plain = self.table.iter().filter(|(_, record)| record.is_plain(now));
                let least = plain
                    .min_by_key(|(_, record)| record.started)
                    .map(|(pool, _)| pool.clone());
                let any = || self.table.iter().next().map(|(pool, _)| pool.clone());
                if let Some(pool) = least.or_else(any) {
                    self.table.remove(&pool);
                }
            }
            self.table.insert(pool.clone(), PoolRecord::default());
        }
        self.table.get_mut(pool).expect("just made")
    }

    /// EC2 takes a machine of it back.
    pub(crate) fn note_taken(&mut self, pool: &Pool, now: Time) {
        let record = self.of(pool, now);
        record.reclaimed += 1;
        if record.taken.len() >= TAKEN_KEPT {
            record.taken.remove(0);
        }
        record.taken.push(now);
    }

    /// A machine of it was ready after such times.
    pub(crate) fn note_ready(&mut self, pool: &Pool, ready: Ready, now: Time) {
        push(&mut self.of(pool, now).ready, ready);
    }

    /// A stopped machine of it was ready again after so many µs.
    pub(crate) fn note_restart(&mut self, pool: &Pool, took: u64, now: Time) {
        push(&mut self.of(pool, now).restarted, took);
    }

    /// The first photos on a machine of it took so long.
    pub(crate) fn note_warming(&mut self, pool: &Pool, warming: Warming, now: Time) {
        push(&mut self.of(pool, now).warmed, warming);
    }

    pub(crate) fn check(&self) {
        self.table.check();
        for (pool, record) in self.table.iter() {
            assert!(
                record.ready.len() <= READY_KEPT && record.taken.len() <= TAKEN_KEPT,
                "{pool:?}"
            );
            assert!(
                record.restarted.len() <= READY_KEPT && record.warmed.len() <= READY_KEPT,
                "{pool:?}"
            );
            assert!(record.taken.len() as u64 <= record.reclaimed, "{pool:?}");
            assert!(
                record.dear.is_none_or(|at| record.flipped == Some(at)),
                "{pool:?}"
            );
        }
        assert!(self.table.len() <= POOLS_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_times_are_kept_and_so_is_what_is_in_force() {
        let mut pools = Pools::new(1);
        let pool = |n: u64| Pool {
            zone_id: format!("{n:05}"),
            ..Pool::default()
        };
        for took in 0..READY_KEPT as u64 + 3 {
            pools.note_restart(&pool(0), took, Time(1));
        }
        assert_eq!(pools.get(&pool(0)).unwrap().restarted.first(), Some(&3));
        pools.of(&pool(0), Time(1)).banned = Some((Time(9), "so".into()));
        for n in 1..=POOLS_KEPT as u64 + 9 {
            pools.of(&pool(n), Time(1));
        }
        assert_eq!(pools.table.len(), POOLS_KEPT);
        assert!(pools.get(&pool(0)).is_some());
    }
}
