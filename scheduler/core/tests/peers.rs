//! Messages of peers that no peer of ours sends to the server that they reach.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use rebound_core::limits::TICK;
use rebound_core::types::*;

#[allow(dead_code)] // Each test crate uses a part of the stage.
mod stage;

use stage::Stage;

/// A heartbeat that says that the server it is sent to has the log up to there, and that so much is committed.
fn heartbeat(from: u64, to: u64, term: Term, commit: Index) -> Bytes {
    let mut message = Message {
        from,
        to,
        term,
        commit,
        ..Message::default()
    };
    message.set_msg_type(MessageType::MsgHeartbeat);
    Bytes::from(message.write_to_bytes().expect("it can be written"))
}

/// A server that lost its disk may still get what was sent to it before. It must live to hear why it is refused.
#[test]
fn a_heartbeat_for_what_a_server_was_before_it_lost_its_disk_is_dropped() {
    let mut stage = Stage::new(3, |_| {});
    assert!(stage.elect());
    stage.advance(TICK);
    let leader = stage.leader().expect("somebody leads");
    let wiped = leader % 3 + 1;
    let status = stage.replica(leader).expect("it is up").status();
    stage.wipe(wiped);
    stage.hand(wiped, heartbeat(leader, wiped, status.term, status.committed));
    stage.settle();
    let status = stage.replica(wiped).expect("it lives").status();
    assert_eq!((status.committed, status.leader), (0, None));
}
