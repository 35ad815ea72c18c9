//! Reads of what a server has applied: what is told of their age, and of their index, must be true.

use std::collections::BTreeMap;

use rebound_core::state::jobs::Phase;
use rebound_core::types::{Index, JobId};

/// What somebody was told of a job as it was at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Photos in it.
    pub tasks: u64,
    /// Those that have ended.
    pub ended: u64,
    /// Where it stands.
    pub phase: Phase,
}

/// What a server knew to be committed from a moment on, and whether it took itself for the leader.
#[derive(Clone, Copy, Debug)]
struct Stand {
    at: u64,
    committed: Index,
    leads: bool,
}

/// What servers took for committed, and when.
#[derive(Default)]
pub struct Fresh {
    stands: BTreeMap<u64, Vec<Stand>>,
    /// What was told of jobs, by index.
    pub told: BTreeMap<Index, Vec<(JobId, Seen)>>,
}

impl Fresh {
    /// After a call of a server.
    pub fn stands(&mut self, server: u64, at: u64, committed: Index, leads: bool) {
        let stands = self.stands.entry(server).or_default();
        let same = |last: &Stand| (last.committed, last.leads) == (committed, leads);
        if !stands.last().is_some_and(same) {
            stands.push(Stand { at, committed, leads });
        }
    }

    /// The least that any server that took itself for the leader between two moments may have said is committed; none
    /// when there was no such server.
    pub fn least_said(&self, since: u64, until: u64) -> Option<Index> {
        let of_one = |stands: &Vec<Stand>| {
            // The one that stood when it began, and all that came to be until the end.
            let first = stands
                .partition_point(|stand| stand.at <= since)
                .saturating_sub(1);
            let during = stands[first..].iter().take_while(|stand| stand.at <= until);
            during
                .filter(|stand| stand.leads)
                .map(|stand| stand.committed)
                .min()
        };
        self.stands.values().filter_map(of_one).min()
    }

    /// Somebody was told of a job as of an index.
    pub fn told(&mut self, index: Index, job: JobId, seen: Seen) {
        self.told.entry(index).or_default().push((job, seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_leader_may_have_said_is_the_least_of_the_time() {
        let mut fresh = Fresh::default();
        for (server, at, committed, leads) in [
            (1, 10, 5, true),
            (2, 12, 3, false),
            (1, 20, 8, true),
            (1, 30, 9, false),
            (2, 40, 12, true),
        ] {
            fresh.stands(server, at, committed, leads);
        }
        assert_eq!(fresh.least_said(0, 5), None, "nobody led");
        assert_eq!(fresh.least_said(15, 18), Some(5));
        assert_eq!(
            fresh.least_said(15, 25),
            Some(5),
            "it may have been said before it was more"
        );
        assert_eq!(fresh.least_said(21, 35), Some(8));
        assert_eq!(fresh.least_said(31, 35), None);
        assert_eq!(fresh.least_said(31, 50), Some(12));
    }
}
