//! C4: who counts never changes so that two majorities, one of before and one of after, share no server.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::state::members::Voters;
use rebound_core::types::{Index, ReplicaId};

/// Who counted from which entry on, as any server had it.
#[derive(Default)]
pub struct Quorums {
    seen: BTreeMap<Index, Voters>,
}

impl Quorums {
    /// From the entry `changed` on these count; nobody, before the cluster has begun.
    pub fn note(&mut self, changed: Index, voters: &Voters) {
        if !voters.incoming.is_empty() {
            self.seen.entry(changed).or_insert_with(|| voters.clone());
        }
    }

    /// The first change after which a majority need not share a server with one of before. `changes` tells whether an
    /// entry of the log may have changed who counts: what nobody was seen at is not judged.
    pub fn broken(&self, changes: impl Fn(Index) -> bool) -> Option<String> {
        let pairs = self.seen.iter().zip(self.seen.iter().skip(1));
        let mut next_to = pairs.filter(|((from, _), (to, _))| !(*from + 1..**to).any(&changes));
        let broken = next_to.find(|((_, before), (_, after))| !share(before, after));
        broken.map(|((_, before), (at, after))| {
            format!("C4: who counts changed at {at} from {before:?} to {after:?}: two majorities may share no server")
        })
    }
}

/// Every majority of one shares a server with every majority of the other. While joint, a majority is one of both lists;
/// two lists that differ by one server at most have no majorities apart.
fn share(before: &Voters, after: &Voters) -> bool {
    let lists = |voters: &Voters| -> Vec<BTreeSet<ReplicaId>> {
        let lists = [&voters.incoming, &voters.outgoing].into_iter();
        let lists = lists.filter(|list| !list.is_empty());
        lists.map(|list| list.iter().copied().collect()).collect()
    };
    let after = lists(after);
    let near = |one: &BTreeSet<ReplicaId>| {
        after
            .iter()
            .any(|other| one.symmetric_difference(other).count() <= 1)
    };
    lists(before).iter().any(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(incoming: &[u64], outgoing: &[u64]) -> Voters {
        let ids = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect();
        Voters {
            incoming: ids(incoming),
            outgoing: ids(outgoing),
            ..Voters::default()
        }
    }

    #[test]
    fn a_server_in_anothers_place_needs_a_joint_configuration() {
        let (old, new) = (voters(&[1, 2, 3], &[]), voters(&[1, 2, 4], &[]));
        let joint = voters(&[1, 2, 4], &[1, 2, 3]);
        let more = voters(&[1, 2, 3, 4], &[]);
        assert!(share(&old, &joint) && share(&joint, &new) && share(&old, &more) && share(&more, &old));
        assert!(!share(&old, &new));
        let mut quorums = Quorums::default();
        quorums.note(1, &old);
        quorums.note(5, &joint);
        quorums.note(9, &new);
        assert_eq!(quorums.broken(|_| false), None);
        quorums.seen.remove(&5);
        assert_eq!(
            quorums.broken(|at| at == 5),
            None,
            "nobody was seen at the joint one"
        );
        assert!(quorums.broken(|_| false).is_some());
    }
}
