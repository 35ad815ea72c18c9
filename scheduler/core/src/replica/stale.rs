//! Reads that any server answers from what it has applied, with how old that may be.
//!
//! When a word is heard says little of when it was said: it may have waited on the way, most of all in front of a server
//! that stood still. So heartbeats and their answers carry the sender's own clock and hand back the last one that it
//! heard of the receiver. Whoever gets his own clock back knows that the other one spoke after that.

use std::collections::{BTreeMap, VecDeque};

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::Replica;
use crate::io::{Answer, Output, Read};
use crate::limits::STAMPS_MAX;
use crate::reply::{Refused, Rejected};
use crate::types::{AskId, Caller, Index, Mono, ReplicaId, Term};

/// When a replica last had all that a leader said was committed.
#[derive(Default)]
pub(super) struct Freshness {
    /// What a leader said is committed and is not applied here yet, and when it said so.
    heard: Option<(Index, Mono)>,
    /// When a leader said what was applied here since.
    at: Option<Mono>,
    /// For each of the others a time after which it spoke to this server, while it led.
    voices: BTreeMap<ReplicaId, Mono>,
    /// The last clock of each of the others, as a leader heard it.
    clocks: BTreeMap<ReplicaId, u64>,
    /// The last clock of a leader, with its term.
    leader: Option<(ReplicaId, Term, u64)>,
    /// This server's own clock as it told it to leaders, oldest first. Another one that comes back is of the process that
    /// it was before.
    told: VecDeque<u64>,
}

impl Freshness {
    fn hear(&mut self, commit: Index, now: Mono) {
        // Under load each word brings more than is applied: the oldest counts until it is.
        self.heard.get_or_insert((commit, now));
    }

    fn applied(&mut self, applied: Index) {
        if let Some((_, at)) = self.heard.take_if(|(commit, _)| *commit <= applied) {
            self.at = self.at.max(Some(at));
        }
    }

    fn tell(&mut self, clock: u64) {
        if self.told.back() == Some(&clock) {
            return;
        }
        if self.told.len() >= STAMPS_MAX {
            self.told.pop_front();
        }
        self.told.push_back(clock);
    }

    /// Whether this process told this clock. Those before it are not waited for any more.
    fn was_told(&mut self, clock: u64) -> bool {
        let Ok(at) = self.told.binary_search(&clock) else {
            return false;
        };
        self.told.drain(..at);
        true
    }
}

impl Replica {
    /// raft's heartbeat says no more of what is committed than its receiver is known to have, so that one which has just
    /// come back would take itself for fresh. What is committed really goes in a field that raft leaves empty there, and
    /// so do the clocks.
    pub(super) fn stamp_heartbeat(&self, heartbeat: &mut Message) {
        let heard = self.freshness.clocks.get(&ReplicaId(heartbeat.to));
        heartbeat.reject_hint = self.raft.raft.raft_log.committed;
        (heartbeat.log_term, heartbeat.index) = (self.stamp(), heard.copied().unwrap_or(0));
    }

    /// The same for a follower's answer to one.
    pub(super) fn stamp_answer(&mut self, answer: &mut Message) {
        let to = (ReplicaId(answer.to), answer.term);
        let heard = self.freshness.leader.filter(|(id, term, _)| (*id, *term) == to);
        let clock = self.stamp();
        self.freshness.tell(clock);
        (answer.log_term, answer.index) = (clock, heard.map_or(0, |(_, _, clock)| clock));
    }

    /// This server's clock as others hand it back. 0 is for builds that have none.
    fn stamp(&self) -> u64 {
        self.now.mono.0.max(1)
    }

    /// A message was taken by raft. Heartbeats and their answers alone count.
    pub(super) fn hear_clock(&mut self, said: &Said) {
        let raft = &self.raft.raft;
        if raft.term != said.term {
            return;
        }
        match said.kind {
            MessageType::MsgHeartbeat if raft.state == StateRole::Follower && raft.leader_id == said.from => {
                self.hear_leader(said);
            }
            MessageType::MsgHeartbeatResponse if raft.state == StateRole::Leader => self.hear_follower(said),
            _ => {}
        }
    }

    fn hear_leader(&mut self, said: &Said) {
        let heard = match said.clock {
            0 => Some(self.now.mono),
            clock => {
                self.freshness.leader = Some((ReplicaId(said.from), said.term, clock));
                self.freshness.was_told(said.back).then_some(Mono(said.back))
            }
        };
        if let Some(at) = heard {
            self.freshness.hear(said.commit, at);
            self.freshness.applied(self.state.applied());
        }
    }

    fn hear_follower(&mut self, said: &Said) {
        let from = ReplicaId(said.from);
        if self.raft.raft.prs().get(said.from).is_none() {
            return;
        }
        let spoke = match said.clock {
            0 => self.now.mono,
            clock => {
                self.freshness.clocks.insert(from, clock);
                // What answers nothing of this term is of no known time.
                if said.back == 0 {
                    return;
                }
                Mono(said.back).min(self.now.mono)
            }
        };
        let voice = self.freshness.voices.entry(from).or_insert(spoke);
        *voice = spoke.max(*voice);
    }

    /// A time after which a majority spoke to this server: until then nobody else led.
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

    /// µs since a time after which a leader said that what is applied here is all that is committed; on a leader that takes
    /// calls and has applied all that is committed, since one after which a majority spoke to it. None when there was none
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

/// What [`Replica::hear_clock`] needs of a message that raft is about to consume.
pub(super) struct Said {
    kind: MessageType,
    from: u64,
    term: u64,
    commit: Index,
    /// The sender's clock; 0: its build tells none.
    clock: u64,
    /// The receiver's clock, as the sender last heard it; 0: not yet.
    back: u64,
}

impl Said {
    pub fn of(message: &Message) -> Said {
        Said {
            kind: message.get_msg_type(),
            from: message.from,
            term: message.term,
            commit: message.reject_hint,
            clock: message.log_term,
            back: message.index,
        }
    }
}
