//! Reads that any server answers from what it has applied, with how old that may be.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Replica;
use crate::io::{Answer, Output, Read};
use crate::reply::{Refused, Rejected};
use crate::types::{AskId, Caller, Index, Mono};

/// When a replica last had all that a leader said was committed.
#[derive(Default)]
pub(super) struct Freshness {
    /// What a leader said is committed and is not applied here yet, and when it said so.
    heard: Option<(Index, Mono)>,
    /// When a leader said what was applied here since.
    at: Option<Mono>,
}

impl Freshness {
    fn hear(&mut self, commit: Index, now: Mono) {
        // Under load each word brings more than is applied: the oldest counts until it is.
        self.heard.get_or_insert((commit, now));
    }

    fn applied(&mut self, applied: Index) {
        if let Some((_, at)) = self.heard.take_if(|(commit, _)| *commit <= applied) {
            self.at = Some(at);
        }
    }
}

impl Replica {
    /// A message was taken by raft: its leader may have said what is committed.
    pub(super) fn hear_commit(&mut self, kind: MessageType, from: u64, term: u64, commit: Index) {
        let raft = &self.raft.raft;
        let of_leader = raft.state == StateRole::Follower && raft.leader_id == from && raft.term == term;
        if of_leader && matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat) {
            self.freshness.hear(commit, self.now.mono);
            self.freshness.applied(self.state.applied());
        }
    }

    /// Entries were applied.
    pub(super) fn freshen(&mut self) {
        self.freshness.applied(self.state.applied());
    }

    /// µs since this replica had all that a leader said is committed; 0 on a leader that takes calls; none when it never
    /// heard one since it started.
    pub fn age(&self) -> Option<u64> {
        if self.is_ready() {
            return Some(0);
        }
        let at = self.freshness.at?;
        Some(self.now.mono.0.saturating_sub(at.0))
    }

    /// Answers a read from the state as it is. What only a leader knows is not asked here.
    pub(super) fn answer_stale(&mut self, ask: AskId, by: &Caller, read: &Read, out: &mut Output) {
        let looked = match read {
            Read::Members => Err(Rejected::Invalid {
                field: "stale",
                why: "only the leader knows how the servers are; ask without it".to_owned(),
            }),
            Read::Job { job, .. } => self.look(&by.environment, &Read::Job { job: *job, seen: 0 }),
            read => self.look(&by.environment, read),
        };
        let (index, age) = (self.state.applied(), self.age());
        let answer = looked.map_err(Refused::Rejected).map(|answer| Answer::Stale {
            answer: Box::new(answer),
            index,
            age,
        });
        self.answer(ask, answer, out);
    }
}

/// What [`Replica::hear_commit`] needs of a message that raft is about to consume.
pub(super) fn commit_of(message: &Message) -> (MessageType, u64, u64, Index) {
    (message.get_msg_type(), message.from, message.term, message.commit)
}
