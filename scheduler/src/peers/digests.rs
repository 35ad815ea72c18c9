//! Invariant C2 on running servers: at the same entry all have the same state. Each notes the digest of its state at
//! every so many entries anyway; the small streams tell the last ones to the other servers with their beat, and each
//! compares what it hears with its own. A difference is told in the log, in a metric and to whoever asks for the status.
//! A server that has another state than a majority of the voters stops: what it would answer, or as a leader decide, is
//! not what the cluster has agreed on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rebound_core::state::members::Role;
use rebound_core::table::Digest;
use rebound_core::types::{Index, ReplicaId};
use rebound_proto::v1;

use crate::roster::Roster;
use crate::telemetry;

/// Own digests remembered: a server that is further behind or ahead than so many of them is compared later.
pub const OWN_KEPT: usize = 64;
/// Digests remembered of each other server, for when this one comes to them.
const HEARD_KEPT: usize = 8;
/// Digests told with each beat.
const TOLD: usize = 2;
/// Servers of which anything is remembered.
const SERVERS_MAX: usize = 2 * rebound_core::limits::MEMBERS_MAX;

/// See the module.
#[derive(Default)]
pub struct Digests {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    own: VecDeque<(Index, Digest)>,
    heard: BTreeMap<ReplicaId, VecDeque<(Index, Digest)>>,
    /// The last entry at which each other server was compared, and whether its state was the same.
    compared: BTreeMap<ReplicaId, (Index, bool)>,
}

/// What comparing brought to light.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Servers compared for the first time at an entry that had the same state.
    pub same: BTreeSet<ReplicaId>,
    /// Those that had another one, and at which entry.
    pub different: BTreeMap<ReplicaId, Index>,
    /// At this entry so many others agree with each other on another state than this server's.
    pub against: Option<(Index, usize)>,
}

impl Digests {
    /// This server's digests at these entries.
    pub fn note(&self, noted: &[(Index, Digest)]) -> Compared {
        let mut inner = self.inner();
        let mut compared = Compared::default();
        for (index, digest) in noted {
            if inner.own.len() >= OWN_KEPT {
                inner.own.pop_front();
            }
            inner.own.push_back((*index, *digest));
            inner.compare(*index, &mut compared);
        }
        compared
    }

    /// Another server says what it has.
    pub fn hear(&self, from: ReplicaId, said: &[v1::NotedDigest]) -> Compared {
        let mut inner = self.inner();
        let mut compared = Compared::default();
        if inner.heard.len() >= SERVERS_MAX && !inner.heard.contains_key(&from) {
            return compared;
        }
        for one in said {
            let Ok(bytes) = one.digest[..].try_into() else {
                continue;
            };
            let noted = (one.index, Digest(u128::from_be_bytes(bytes)));
            let heard = inner.heard.entry(from).or_default();
            if heard.contains(&noted) {
                continue;
            }
            if heard.len() >= HEARD_KEPT {
                heard.pop_front();
            }
            heard.push_back(noted);
            inner.compare(one.index, &mut compared);
        }
        compared
    }

    /// What is told of this server.
    pub fn told(&self) -> Vec<v1::NotedDigest> {
        let inner = self.inner();
        let last = inner.own.iter().rev().take(TOLD);
        last.map(|(index, digest)| v1::NotedDigest {
            index: *index,
            digest: digest.0.to_be_bytes().to_vec().into(),
        })
        .collect()
    }

    /// Servers that had another state than this one when they were last compared.
    pub fn differ(&self) -> Vec<ReplicaId> {
        let inner = self.inner();
        let differ = inner.compared.iter().filter(|(_, (_, same))| !same);
        differ.map(|(id, _)| *id).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what comparing brought to light. A server that has a majority of the voters against it stops.
pub fn judge(roster: &Roster, compared: &Compared) {
    for id in &compared.same {
        telemetry::digest_compared(*id, true);
    }
    for (id, index) in &compared.different {
        telemetry::digest_compared(*id, false);
        tracing::error!(
            server = %id, index,
            "another server has another state at the same entry: one of the two has a fault or a damaged disk; compare both \
             with a third one (`rebound operator status`) and replace the one that differs"
        );
    }
    let Some((index, others)) = compared.against else {
        return;
    };
    let members = roster.members();
    let voters = members
        .values()
        .filter(|member| member.role != Role::Learner)
        .count();
    if others > voters / 2 {
        roster.diverge(format!(
            "the state of this server at entry {index} is not the one that {others} other servers agree on: it must not \
             answer nor vote any more. Keep its data directory for whoever looks into it, and replace the server \
             (`rebound operator add --replace {}`)",
            roster.own()
        ));
    }
}

impl Inner {
    fn compare(&mut self, index: Index, compared: &mut Compared) {
        let at = |noted: &VecDeque<(Index, Digest)>| {
            noted
                .iter()
                .find(|(at, _)| *at == index)
                .map(|(_, digest)| *digest)
        };
        let Some(own) = at(&self.own) else { return };
        let mut others: BTreeMap<u128, usize> = BTreeMap::new();
        for (id, heard) in &self.heard {
            let Some(digest) = at(heard) else { continue };
            let same = digest == own;
            if !same {
                *others.entry(digest.0).or_default() += 1;
            }
            let last = self.compared.entry(*id).or_default();
            if last.0 == index || (last.0 > index && same) {
                continue;
            }
            *last = (index, same);
            match same {
                true => drop(compared.same.insert(*id)),
                false => drop(compared.different.insert(*id, index)),
            }
        }
        if let Some(most) = others.into_values().max() {
            compared.against = compared.against.max(Some((index, most)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(index: Index, digest: u128) -> Vec<v1::NotedDigest> {
        vec![v1::NotedDigest {
            index,
            digest: digest.to_be_bytes().to_vec().into(),
        }]
    }

    #[test]
    fn what_is_the_same_is_compared_once_whoever_comes_to_it_first() {
        let digests = Digests::default();
        assert_eq!(digests.hear(ReplicaId(2), &said(1_000, 7)), Compared::default());
        let compared = digests.note(&[(1_000, Digest(7))]);
        assert_eq!(compared.same, [ReplicaId(2)].into());
        let compared = digests.hear(ReplicaId(3), &said(1_000, 7));
        assert_eq!(compared.same, [ReplicaId(3)].into());
        assert_eq!(digests.hear(ReplicaId(3), &said(1_000, 7)), Compared::default());
        assert_eq!(digests.told(), said(1_000, 7));
        assert!(digests.differ().is_empty());
    }

    #[test]
    fn a_difference_is_told_once_and_shown_until_it_is_gone() {
        let digests = Digests::default();
        digests.note(&[(1_000, Digest(7))]);
        let compared = digests.hear(ReplicaId(2), &said(1_000, 8));
        assert_eq!(compared.different, [(ReplicaId(2), 1_000)].into());
        assert_eq!(compared.against, Some((1_000, 1)));
        assert_eq!(digests.hear(ReplicaId(2), &said(1_000, 8)), Compared::default());
        assert_eq!(digests.differ(), [ReplicaId(2)]);
        // It has taken a snapshot, say.
        digests.note(&[(2_000, Digest(9))]);
        digests.hear(ReplicaId(2), &said(2_000, 9));
        assert!(digests.differ().is_empty());
    }

    #[test]
    fn one_against_all_knows_it() {
        let digests = Digests::default();
        digests.hear(ReplicaId(2), &said(1_000, 8));
        digests.hear(ReplicaId(3), &said(1_000, 8));
        let compared = digests.note(&[(1_000, Digest(7))]);
        assert_eq!(compared.against, Some((1_000, 2)));
        // Two others that do not agree with each other either prove nothing.
        let digests = Digests::default();
        digests.hear(ReplicaId(2), &said(1_000, 8));
        digests.hear(ReplicaId(3), &said(1_000, 9));
        let compared = digests.note(&[(1_000, Digest(7))]);
        assert_eq!(compared.against, Some((1_000, 1)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nonsense_is_passed_over() {
        let digests = Digests::default();
        for index in 1..=1_000 {
            digests.note(&[(index, Digest(1))]);
            digests.hear(ReplicaId(2), &said(1_000_000 + index, 1));
            digests.hear(ReplicaId(100 + index), &said(index, 1));
        }
        let nonsense = v1::NotedDigest {
            index: 1_000,
            digest: vec![1; 15].into(),
        };
        assert_eq!(digests.hear(ReplicaId(2), &[nonsense]), Compared::default());
        let inner = digests.inner();
        assert_eq!(inner.own.len(), OWN_KEPT);
        assert_eq!(inner.heard.len(), SERVERS_MAX);
        assert_eq!(inner.heard[&ReplicaId(2)].len(), HEARD_KEPT);
    }

    #[test]
    fn a_server_stops_when_a_majority_of_the_voters_is_against_it_and_not_before() {
        use rebound_core::state::members::Founder;
        use rebound_core::state::{Plant, State};
        let founders = [1, 2, 3].map(|id| Founder::named(ReplicaId(id)));
        let state = State::new(Plant::None);
        let roster = Roster::new("c".into(), founders[0].clone(), &founders, &state);
        let against = |others| Compared {
            against: Some((1_000, others)),
            ..Compared::default()
        };
        judge(&roster, &against(1));
        assert_eq!(*roster.dismissal().borrow(), None);
        judge(&roster, &against(2));
        assert!(roster.is_diverged());
        let why = roster.dismissal().borrow().clone().unwrap();
        assert!(why.contains("at entry 1000 is not the one that 2 other"), "{why}");
    }
}
