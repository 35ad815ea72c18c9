//! Entries in raft's log that are not applied yet: who waits for them, and whether there is room for more of clients'.
//!
//! What is in the log is written, wanted or not. If it took longer to get through it than clients wait, nothing would
//! be written but what was given up, for as long as they ask again (a metastable failure: Bronson et al., HotOS 2021).
//! So once the oldest entry is old, one of a client's is proposed only when at the present speed all before it are
//! applied while the client still waits. Until then it waits before the log, where it ends when nobody waits for it.
//! A store that is slow but takes much at once is fast by this measure. Results, plans and leases are never held back.

use std::collections::BTreeMap;

use super::Origin;
use crate::limits::{PENDING_AGE, PENDING_ALWAYS, PENDING_MEASURED};
use crate::types::{Index, Term};

struct Entry {
    term: Term,
    origin: Origin,
    since: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    entries: BTreeMap<Index, Entry>,
    /// µs for each entry, as last measured; 0: not yet.
    each: u64,
    /// Entries applied while there were some, since when.
    applied: u64,
    measured_from: u64,
}

impl Pending {
    /// Proposed at `now`, in µs of running time.
    pub fn insert(&mut self, index: Index, term: Term, origin: Origin, now: u64) {
        if self.entries.is_empty() {
            (self.applied, self.measured_from) = (0, now);
        }
        let since = now;
        // One that it takes the place of was cut off with an earlier term.
        self.entries.insert(index, Entry { term, origin, since });
    }

    /// Applied: the term it was proposed in, and who waits.
    pub fn remove(&mut self, index: Index) -> Option<(Term, Origin)> {
        let entry = self.entries.remove(&index)?;
        self.applied += 1;
        Some((entry.term, entry.origin))
    }

    /// All that was pending; the next leader measures anew.
    pub fn end(&mut self) -> impl Iterator<Item = Origin> + use<> {
        std::mem::take(self)
            .entries
            .into_values()
            .map(|entry| entry.origin)
    }

    /// True when a client's entry whose client waits for so long yet, in µs, is worth proposing.
    pub fn has_room(&self, now: u64, waits: u64) -> bool {
        let ahead = self.entries.len() as u64;
        let Some(oldest) = self.entries.values().next().filter(|_| ahead >= PENDING_ALWAYS) else {
            return true;
        };
        now.saturating_sub(oldest.since) <= PENDING_AGE || (ahead + 1).saturating_mul(self.each) <= waits
    }

    /// Measures, once a tick of raft's; `now` in µs of running time.
    pub fn tick(&mut self, now: u64) {
        let passed = now.saturating_sub(self.measured_from);
        if self.applied > 0 && passed >= PENDING_MEASURED {
            self.each = passed / self.applied;
            (self.applied, self.measured_from) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AskId, SECOND};

    /// A log of `n` entries proposed at 0, of which one was applied each `each` µs for as long as it is measured.
    fn old(n: u64, each: u64) -> Pending {
        let mut pending = Pending::default();
        (1..=n).for_each(|index| pending.insert(index, 1, Origin::Ask(AskId(index)), 0));
        let applied = PENDING_MEASURED / each;
        (1..=applied)
            .for_each(|index| assert_eq!(pending.remove(index), Some((1, Origin::Ask(AskId(index))))));
        pending.tick(PENDING_MEASURED);
        pending
    }

    #[test]
    fn a_young_log_takes_all() {
        let mut pending = Pending::default();
        (1..1_000).for_each(|index| pending.insert(index, 1, Origin::Report, 0));
        assert!(pending.has_room(PENDING_AGE, 0));
    }

    #[test]
    fn an_old_log_takes_what_it_gets_to_in_time() {
        let pending = old(130, PENDING_MEASURED / 10);
        // 120 are left: with the new one, twelve times as long as was measured, and a bit.
        let needed = 121 * (PENDING_MEASURED / 10);
        assert!(pending.has_room(PENDING_AGE + 1, needed));
        assert!(!pending.has_room(PENDING_AGE + 1, needed - 1));
    }

    #[test]
    fn a_slow_store_that_takes_much_at_once_is_fast() {
        let mut pending = old(10_000, PENDING_MEASURED / 5_000);
        assert!(pending.has_room(3 * SECOND, 10 * SECOND));
        assert_eq!(pending.end().count(), 5_000);
        assert!(pending.has_room(u64::MAX, 0));
    }

    #[test]
    fn a_few_are_always_let_in_and_idle_time_is_not_measured() {
        let mut pending = old(PENDING_ALWAYS + 1, PENDING_MEASURED / 2);
        assert!(pending.has_room(u64::MAX, 0));
        (3..=PENDING_ALWAYS + 1).for_each(|index| assert!(pending.remove(index).is_some()));
        let late = 1_000 * SECOND;
        (10..10 + PENDING_ALWAYS).for_each(|index| pending.insert(index, 1, Origin::Duty, late));
        assert!(!pending.has_room(late + PENDING_AGE + 1, 0));
        // The time in which nothing was there is not a time that an entry took.
        pending.remove(10);
        pending.tick(late + PENDING_MEASURED);
        assert_eq!(pending.each, PENDING_MEASURED);
    }
}
