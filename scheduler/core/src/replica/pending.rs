//! Entries in raft's log that are not applied yet: who waits for them, and how long it takes to get through them.
//!
//! What is in the log is written, wanted or not. If clients' entries took longer than clients wait, nothing would be
//! written but what was given up, for as long as they ask again (a metastable failure: Bronson et al., HotOS 2021). So
//! behind others an entry of a client's is proposed only when at the present speed it will be applied while the client
//! waits. A store that is slow but takes much at once is fast by this measure.

use std::collections::BTreeMap;

use super::Origin;
use crate::limits::PENDING_MEASURED;
use crate::types::{Index, Term};

struct Entry {
    term: Term,
    origin: Origin,
    since: u64,
    ahead: u64,
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
        let entry = Entry {
            term,
            origin,
            since: now,
            ahead: self.entries.len() as u64,
        };
        // One that it takes the place of was cut off with an earlier term.
        self.entries.insert(index, entry);
    }

    /// Applied: the term it was proposed in, and who waits.
    pub fn remove(&mut self, index: Index, now: u64) -> Option<(Term, Origin)> {
        let entry = self.entries.remove(&index)?;
        self.applied += 1;
        // That it goes faster again is seen at once; the rest is measured over a while.
        let took = now.saturating_sub(entry.since) / (entry.ahead + 1);
        self.each = self.each.min(took);
        Some((entry.term, entry.origin))
    }

    /// All that was pending; the next leader measures anew.
    pub fn end(&mut self) -> impl Iterator<Item = Origin> + use<> {
        std::mem::take(self)
            .entries
            .into_values()
            .map(|entry| entry.origin)
    }

    /// True when one more is applied within so long, in µs, by what was measured. With nothing before it nobody knows.
    pub fn in_time(&self, within: u64) -> bool {
        let ahead = self.entries.len() as u64;
        ahead == 0 || (ahead + 1).saturating_mul(self.each) <= within
    }

    /// Measures, once a tick of raft's; `now` in µs of running time.
    pub fn tick(&mut self, now: u64) {
        if self.entries.is_empty() {
            // Time in which nothing waits is nobody's: counted, it would turn the next burst away.
            (self.applied, self.measured_from) = (0, now);
            return;
        }
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
        for index in 1..=PENDING_MEASURED / each {
            let removed = pending.remove(index, index * each);
            assert_eq!(removed, Some((1, Origin::Ask(AskId(index)))));
        }
        pending.tick(PENDING_MEASURED);
        pending
    }

    #[test]
    fn before_anything_is_measured_all_are_taken() {
        let mut pending = Pending::default();
        (1..1_000).for_each(|index| pending.insert(index, 1, Origin::Report, 0));
        assert!(pending.in_time(0));
    }

    #[test]
    fn an_idle_log_is_not_a_slow_one() {
        let mut pending = Pending::default();
        pending.insert(1, 1, Origin::Report, 0);
        pending.remove(1, 10);
        pending.tick(PENDING_MEASURED);
        (2..1_000).for_each(|index| pending.insert(index, 1, Origin::Report, PENDING_MEASURED));
        assert!(pending.in_time(SECOND), "a burst after a quiet time");
    }

    #[test]
    fn what_it_gets_to_in_time_is_taken() {
        let pending = old(130, PENDING_MEASURED / 10);
        // 120 are left, and the new one.
        let needed = 121 * (PENDING_MEASURED / 10);
        assert!(pending.in_time(needed));
        assert!(!pending.in_time(needed - 1));
    }

    #[test]
    fn a_slow_store_that_takes_much_at_once_is_fast() {
        let mut pending = Pending::default();
        (1..=5_000).for_each(|index| pending.insert(index, 1, Origin::Report, 0));
        pending.tick(SECOND);
        for index in 1..=5_000 {
            pending.remove(index, SECOND);
            pending.insert(5_000 + index, 1, Origin::Report, SECOND);
        }
        pending.tick(SECOND);
        assert!(pending.in_time(2 * SECOND));
        assert!(!pending.in_time(SECOND / 2));
        assert_eq!(pending.end().count(), 5_000);
        assert!(pending.in_time(0));
    }

    #[test]
    fn what_was_slow_and_is_fast_again_is_found_out_by_one() {
        let mut pending = old(2, PENDING_MEASURED);
        assert!(!pending.in_time(PENDING_MEASURED));
        pending.remove(2, 2 * PENDING_MEASURED);
        // With nothing there, one is let in, however slow it was.
        assert!(pending.in_time(0));
        let later = 1_000 * SECOND;
        pending.insert(3, 1, Origin::Duty, later);
        assert!(!pending.in_time(2_000));
        pending.remove(3, later + 1_000);
        pending.insert(4, 1, Origin::Duty, later + 2_000);
        assert!(pending.in_time(2_000));
    }
}
