//! What drivers, tools and checkers read in bytes that are raft's.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Entry as RaftEntry, EntryType, HardState, Message, MessageType};

use super::{RecoverError, members};
use crate::table::RECORD_FORMAT;
use crate::types::{Index, ReplicaId, Term};

/// Index, term and command of an entry as it is in a persist order, as [`decode_entry`] takes it: for tools that read
/// logs.
pub fn parse_log_entry(bytes: &Bytes) -> Result<(Index, Term, Bytes), RecoverError> {
    let entry = RaftEntry::parse_from_carllerche_bytes(bytes).map_err(|_| RecoverError::Unreadable("log"))?;
    let content = members::content(&entry).clone();
    Ok((entry.index, entry.term, content))
}

/// The version of an entry: its first field in every version, so that a build that cannot read the rest can read this.
pub fn entry_version(content: &[u8]) -> Option<u16> {
    let (format, rest) = content.split_first()?;
    let version = postcard::take_from_bytes(rest).ok().map(|(version, _)| version);
    version.filter(|_| *format == RECORD_FORMAT)
}

/// Whether an entry as it is in a persist order changes who is a member: for checkers.
pub fn changes_members(bytes: &Bytes) -> bool {
    let entry = RaftEntry::parse_from_carllerche_bytes(bytes);
    entry.is_ok_and(|entry| entry.get_entry_type() != EntryType::EntryNormal)
}

/// Term and vote of a hard state: for checkers.
pub fn parse_hard_state(bytes: &[u8]) -> Result<(Term, u64, Index), RecoverError> {
    let mut hard = HardState::default();
    hard.merge_from_bytes(bytes)
        .map_err(|_| RecoverError::Unreadable("hard state"))?;
    Ok((hard.term, hard.vote, hard.commit))
}

/// What a server promises in a message to a peer: for checkers, since both must be on its disk before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It votes for a server in a term.
    Vote { term: Term, to: ReplicaId },
    /// It has everything up to this entry, as the leader of this term does.
    Has { term: Term, index: Index },
}

/// The promise of a message, if it makes one.
pub fn parse_promise(message: &[u8]) -> Option<Promise> {
    let kinds = [
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVoteResponse,
    ];
    if !kinds
        .iter()
        .any(|kind| message.starts_with(&[FIELD_1_VARINT, *kind as u8]))
    {
        return None;
    }
    let message = Message::parse_from_bytes(message)
        .ok()
        .filter(|message| !message.reject)?;
    Some(match message.get_msg_type() {
        MessageType::MsgRequestVoteResponse => Promise::Vote {
            term: message.term,
            to: ReplicaId(message.to),
        },
        _ => Promise::Has {
            term: message.term,
            index: message.index,
        },
    })
}

/// The first byte of a message whose kind is not 0.
const FIELD_1_VARINT: u8 = 1 << 3;

/// True when a peer message brings entries: drivers keep all of those on one connection, in order. Looks at the
/// first field alone, the message's kind, which is always written when it is not 0.
pub fn is_append(message: &[u8]) -> bool {
    message.starts_with(&[FIELD_1_VARINT, MessageType::MsgAppend as u8])
}

/// A peer message in a few words: for traces.
pub fn message_words(message: &[u8]) -> String {
    let bytes = message.len();
    let Ok(message) = Message::parse_from_bytes(message) else {
        return format!("unreadable, {bytes} bytes");
    };
    let kind = format!("{:?}", message.get_msg_type());
    let mut words = format!("{} term {}", kind.trim_start_matches("Msg"), message.term);
    let last = message.entries.last();
    let more = [
        (
            message.index != 0,
            format!(", index {} of term {}", message.index, message.log_term),
        ),
        (
            last.is_some(),
            format!(", entries to {}", last.map_or(0, |entry| entry.index)),
        ),
        (message.commit != 0, format!(", commit {}", message.commit)),
        (message.reject, format!(", refused, hint {}", message.reject_hint)),
    ];
    more.iter()
        .filter(|(is, _)| *is)
        .for_each(|(_, more)| words.push_str(more));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_and_acknowledgements_are_promises_unless_they_refuse() {
        let promise = |kind, reject| {
            let mut message = Message {
                from: 1,
                to: 2,
                term: 3,
                index: 4,
                reject,
                ..Message::default()
            };
            message.set_msg_type(kind);
            parse_promise(&message.write_to_bytes().unwrap())
        };
        use MessageType::*;
        let (term, to, index) = (3, ReplicaId(2), 4);
        assert_eq!(
            promise(MsgRequestVoteResponse, false),
            Some(Promise::Vote { term, to })
        );
        assert_eq!(
            promise(MsgAppendResponse, false),
            Some(Promise::Has { term, index })
        );
        assert_eq!(promise(MsgRequestVoteResponse, true), None);
        assert_eq!(promise(MsgHeartbeatResponse, false), None);
    }

    #[test]
    fn appends_are_told_from_the_rest() {
        let bytes = |kind| {
            let mut message = Message {
                from: 1,
                to: 2,
                term: 3,
                ..Message::default()
            };
            message.set_msg_type(kind);
            message.write_to_bytes().unwrap()
        };
        assert!(is_append(&bytes(MessageType::MsgAppend)));
        use MessageType::*;
        for kind in [
            MsgHup,
            MsgAppendResponse,
            MsgHeartbeat,
            MsgRequestVote,
            MsgSnapshot,
        ] {
            assert!(!is_append(&bytes(kind)), "{kind:?}");
        }
        assert!(!is_append(&[]));
    }
}
