//! Reads that any server answers from what it has applied, with how old that may be.

use std::collections::BTreeMap;

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Replica;
use crate::io::{Answer, Output, Read};
use crate::reply::{Refused, Rejected};
use crate::types::{AskId, Caller, Index, Mono, ReplicaId};

/// When a replica last had all that a leader said was committed.
#[derive(Default)]
pub(super) struct Freshness {
    /// What a leader said is committed and is not applied here yet, and when it said so.
    heard: Option<(Index, Mono)>,
    /// When a leader said what was applied here since.
    at: Option<Mono>,
    /// When each of the others last spoke to this server, while it led.
    voices: BTreeMap<ReplicaId, Mono>,
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
    /// raft's heartbeat says no more of what is committed than its receiver is known to have, so that one which has just
    /// come back would take itself for fresh. What is committed really goes in a field that raft leaves empty there.
    pub(super) fn say_commit(&self, heartbeat: &mut Message) {
        heartbeat.reject_hint = self.raft.raft.raft_log.committed;
    }

    /// A message was taken by raft. Heartbeats alone count: what they say is of the moment, since they wait for nothing.
    pub(super) fn hear_commit(&mut self, said: &Said) {
        let raft = &self.raft.raft;
        let of_leader =
            raft.state == StateRole::Follower && raft.leader_id == said.from && raft.term == said.term;
        if of_leader && said.kind == MessageType::MsgHeartbeat {
            self.freshness.hear(said.commit, self.now.mono);
            self.freshness.applied(self.state.applied());
        }
    }

    /// Another server speaks to this one, which leads.
    pub(super) fn hear_voice(&mut self, from: ReplicaId) {
        self.freshness.voices.insert(from, self.now.mono);
    }

    /// When a majority had last spoken to this server: until then nobody else led.
    fn heard_majority(&self) -> Option<Mono> {
        let voters = self.state.members.voters();
        let of = |voters: &[ReplicaId]| {
            let voice = |id: &ReplicaId| match *id == self.config.id {
                true => Some(self.now.mono),
                false => self.freshness.voices.get(id).copied(),
            };
            let mut heard: Vec<Mono> = voters.iter().filter_map(voice).collect();
            heard.sort_unstable();
            heard.iter().rev().nth(voters.len() / 2).copied()
        };
        let incoming = of(&voters.incoming)?;
        match voters.outgoing.is_empty() {
            true => Some(incoming),
            false => Some(incoming.min(of(&voters.outgoing)?)),
        }
    }

    /// Entries were applied. What a leader knows to be committed is not applied yet where its own disk is the slow one:
    /// until it is, what it has is as old as a follower's that heard as much.
    pub(super) fn freshen(&mut self) {
        if self.is_ready()
            && let Some(at) = self.heard_majority()
        {
            self.freshness.hear(self.raft.raft.raft_log.committed, at);
        }
        self.freshness.applied(self.state.applied());
    }

    /// µs since this replica had all that a leader said is committed, by the time of hearing it; on a leader that takes
    /// calls and has applied all that is committed, since a majority had last spoken to it. None when it never heard one
    /// since it started.
    pub fn age(&self) -> Option<u64> {
        let has_all = self.state.applied() >= self.raft.raft.raft_log.committed;
        let at = match self.is_ready() && has_all {
            true => self.heard_majority()?,
            false => self.freshness.at?,
        };
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
pub(super) struct Said {
    kind: MessageType,
    from: u64,
    term: u64,
    commit: Index,
}

impl Said {
    pub fn of(message: &Message) -> Said {
        Said {
            kind: message.get_msg_type(),
            from: message.from,
            term: message.term,
            commit: message.reject_hint,
        }
    }
}
