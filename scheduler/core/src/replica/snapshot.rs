//! Snapshots, as raft sees them: what describes one, who is being sent one, and one that came.
//!
//! raft's message says what the pairs that travel beside it must add up to. It is made for the state as an output
//! leaves it on disk, and a receiver takes nothing that is not exactly that.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry as RaftEntry, HardState, Message, MessageType, Snapshot};
use serde::{Deserialize, Serialize};

use super::Replica;
use super::members::{conf_state, voters_of};
use crate::command::Entry;
use crate::io::{Output, Persist, SnapshotOrder};
use crate::plant::Plant;
use crate::state::State;
use crate::table::{Digest, decode, encode};
use crate::types::*;

/// Format of snapshots and backups: of their description and of what their chunks hold.
pub const SNAPSHOT_FORMAT: u16 = 5;

/// What a snapshot is of. It travels in raft's message, and stands at the head of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// See [`SNAPSHOT_FORMAT`].
    pub format: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// The version that the cluster runs at.
    pub version: u16,
    /// Last entry applied.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The servers, by id.
    pub members: Vec<ReplicaId>,
    /// Of the state at `index`; it counts the kept records in.
    pub digest: u128,
}

impl About {
    /// Of a settled state.
    pub fn of(state: &State) -> About {
        let meta = state.meta();
        About {
            format: SNAPSHOT_FORMAT,
            cluster: meta.cluster.clone(),
            version: meta.version,
            index: meta.applied,
            term: meta.applied_term,
            members: state.members.iter().map(|(id, _)| id).collect(),
            digest: state.digest().0,
        }
    }

    /// What is not as described in the state that came, with the sum of its kept records' hashes.
    pub fn differs(&self, state: &State, kept: Digest) -> Option<String> {
        let found = About::of(state);
        if found.index != self.index {
            return Some(format!(
                "the state is at entry {}, not {}",
                found.index, self.index
            ));
        }
        if found.digest != self.digest {
            let (found, said) = (Digest(found.digest), Digest(self.digest));
            return Some(format!("the live records add up to {found:?}, not to {said:?}"));
        }
        let said = state.kept_digest();
        if kept != said {
            return Some(format!("the kept records add up to {kept:?}, not to {said:?}"));
        }
        (found != *self).then(|| format!("the state is of {found:?}, not of {self:?}"))
    }
}

/// The description in raft's message, in words what is wrong with it.
pub fn about(message: &[u8]) -> Result<About, String> {
    let message = Message::parse_from_bytes(message).map_err(|_| "no message of raft".to_owned())?;
    if message.get_msg_type() != MessageType::MsgSnapshot {
        return Err("raft's message brings no snapshot".to_owned());
    }
    let about: About =
        decode(&message.get_snapshot().data).map_err(|why| format!("its description: {why}"))?;
    if about.format != SNAPSHOT_FORMAT {
        let found = about.format;
        return Err(format!("format {found}; this build reads {SNAPSHOT_FORMAT}"));
    }
    Ok(about)
}

/// The first entry of a log that begins after a restored state, as its own disk has it, with the hard state of a server
/// that has committed it. All servers of the restored cluster have the same.
pub fn first_entry(index: Index, term: Term, entry: &Entry) -> (Bytes, Bytes) {
    let raft = RaftEntry {
        index,
        term,
        data: super::encode_entry(entry).into(),
        ..RaftEntry::default()
    };
    let hard = HardState {
        term,
        commit: index,
        ..HardState::default()
    };
    (write(&raft), write(&hard))
}

/// A snapshot on its way to a follower.
pub(super) struct Sending {
    index: Index,
    /// Since when, in µs that this replica has run.
    since: u64,
}

impl Replica {
    /// The head of a backup: the same message as a follower gets, for nobody. The state on disk after all that was
    /// ordered so far is the one it describes.
    pub fn backup_head(&self) -> Bytes {
        let mut message = Message {
            from: self.config.id.0,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgSnapshot);
        self.describe(&mut message);
        write(&message)
    }

    /// raft described the state of the moment it asked; the order describes the one it will find on disk. What changed
    /// is settled into `persist` first: the digest counts it in.
    pub(super) fn snapshot_order(&mut self, mut message: Message, persist: &mut Persist) -> SnapshotOrder {
        persist.state.extend(self.state.settle());
        let (to, index) = (ReplicaId(message.to), self.state.applied());
        self.describe(&mut message);
        let since = self.elapsed;
        self.snapshots_out.insert(to, Sending { index, since });
        SnapshotOrder {
            to,
            message: write(&message),
            index,
        }
    }

    fn describe(&self, message: &mut Message) {
        let snapshot = message.mut_snapshot();
        snapshot.data = encode(&About::of(&self.state)).into();
        let meta = snapshot.mut_metadata();
        meta.index = self.state.applied();
        meta.term = self.state.meta().applied_term;
        *meta.mut_conf_state() = conf_state(&self.state.members.voters());
    }

    pub(super) fn snapshot_sent(&mut self, to: ReplicaId, ok: bool) {
        self.snapshots_out.remove(&to);
        let status = if ok {
            raft::SnapshotStatus::Finish
        } else {
            raft::SnapshotStatus::Failure
        };
        self.raft.report_snapshot(to.0, status);
    }

    /// The entry after which followers that are being sent snapshots will need the log. A send that takes for ever, or
    /// a log that grows too long meanwhile, does not hold it: such a follower needs another snapshot.
    pub(super) fn log_needed_after(&self) -> Index {
        let limits = &self.config.limits;
        if self.raft.store().bytes() > limits.snapshot_log_bytes {
            return Index::MAX;
        }
        let lately = |sending: &&Sending| self.elapsed.saturating_sub(sending.since) < limits.snapshot_holds;
        let needed = self.snapshots_out.values().filter(lately);
        needed.map(|sending| sending.index).min().unwrap_or(Index::MAX)
    }

    pub(super) fn snapshot_received(&mut self, bytes: &[u8], state: Box<State>) {
        let mut message = Message::default();
        let parsed = message.merge_from_bytes(bytes).is_ok();
        let meta = message.get_snapshot().get_metadata();
        let fits = parsed
            && about(bytes).is_ok_and(|about| about == About::of(&state))
            && message.to == self.config.id.0
            && !state.members.is_empty()
            && self.config.build.versions.allow(state.version()).is_ok()
            && meta.index == state.applied()
            && meta.term == state.meta().applied_term
            && state.meta().cluster == self.config.cluster
            && voters_of(meta.get_conf_state()) == state.members.voters();
        // One at a time: until the one that raft took is installed, others are dropped and sent again.
        if fits && self.incoming.is_none() && self.has_room() {
            let index = state.applied();
            let _ = self.raft.step(message);
            let taken = self.raft.raft.raft_log.unstable.snapshot.as_ref();
            self.incoming = taken
                .is_some_and(|taken| taken.get_metadata().index == index)
                .then_some(state);
        }
    }

    pub(super) fn install(&mut self, snapshot: &Snapshot, persist: &mut Persist, out: &mut Output) {
        let meta = snapshot.get_metadata();
        let state = self.incoming.take().expect("the state came with the message");
        assert_eq!(state.applied(), meta.index);
        assert!(meta.index > self.state.applied(), "a snapshot never goes back");
        out.retired = Some(Box::new(std::mem::replace(&mut self.state, *state)));
        let term = match self.config.plant.is(Plant::SnapshotTerm) {
            true => self.raft.raft.term,
            false => meta.term,
        };
        self.raft.mut_store().reset(meta.index, term);
        self.raft.mut_store().conf_state = conf_state(&self.state.members.voters());
        persist.install = Some((meta.index, meta.term));
        self.pending = super::Pending::default();
    }
}

fn write(message: &impl protobuf::Message) -> Bytes {
    Bytes::from(message.write_to_bytes().expect("a vector takes any message"))
}
