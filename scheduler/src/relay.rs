//! Agents that cannot reach the leader reach it through a follower: what both say goes through as opaque bytes.
//!
//! An agent says that it could not reach the leader that it was told of. A server that does not lead then opens a stream
//! of its own to that leader, where the agent's stream is one like any other; the follower knows nothing of what is said.
//! Each relayed stream is two streams one behind the other: an end that takes nothing holds the other up through their
//! windows, a leader's queue for an agent that is full closes its stream as ever, and nothing is kept here. A relayed
//! stream ends with either side, and when the server that relays follows another leader: the agent looks for it anew.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use rebound_core::types::ReplicaId;
use rebound_proto::v1;
use rebound_proto::v1::relay_frame::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use crate::api;
use crate::api::wire::{Word, decoded};
use crate::node::Standing;
use crate::peers;
use crate::roster::Roster;

/// An agent that could not reach the leader says so; the value is the leader's address as a server has named it.
pub const RELAY_KEY: &str = "rebound-relay";
/// Streams that one server relays at once.
pub const RELAYS_MAX: usize = 256;
/// What an agent beyond them is told.
const NO_ROOM: &str = "this server relays 256 agents already, and no more; try another one";
/// Messages of an agent that wait for the way to the leader; then its stream waits.
const MESSAGES_AHEAD: usize = 16;

/// What an agent hears.
pub type Outgoing = Pin<Box<dyn Stream<Item = Result<Word, Status>> + Send>>;

/// The relayed streams of a server.
#[derive(Clone)]
pub struct Relays {
    roster: Arc<Roster>,
    standing: watch::Receiver<Standing>,
    room: Arc<Semaphore>,
}

impl Relays {
    /// None yet.
    pub fn new(roster: Arc<Roster>, standing: watch::Receiver<Standing>) -> Relays {
        Relays {
            roster,
            standing,
            room: Arc::new(Semaphore::new(RELAYS_MAX)),
        }
    }

    /// The leader that this server would relay to; none while it leads itself or knows none.
    fn leader(&self) -> Option<ReplicaId> {
        let leader = self.standing.borrow().status.leader;
        leader.filter(|id| *id != self.roster.own())
    }

    /// The leader that an agent is to be relayed to, if it asks for that. One that could not reach a leader of before hears
    /// who leads now instead: perhaps that one can be reached from there, and it would not look while it is relayed.
    pub fn asked(&self, metadata: &MetadataMap) -> Option<ReplicaId> {
        let unreached = metadata.get(RELAY_KEY)?;
        let leader = self.leader()?;
        (unreached.as_bytes() == self.roster.client_address(leader).as_bytes()).then_some(leader)
    }

    /// Opens the way of an agent to `leader`. `first` is its first word.
    pub async fn open(
        &self,
        leader: ReplicaId,
        head: v1::RelayHead,
        first: Bytes,
        incoming: Streaming<Bytes>,
    ) -> Result<Outgoing, Status> {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return Err(api::overloaded(NO_ROOM));
        };
        let unknown = || api::unavailable("the leader's address is not known here");
        let address = self.roster.peer_address(leader).ok_or_else(unknown)?;
        let (frames, waiting) = mpsc::channel(MESSAGES_AHEAD);
        let opening = [
            Body::Hello(self.roster.hello(leader)),
            Body::Head(head),
            Body::Message(first),
        ];
        for body in opening {
            let frame = v1::RelayFrame { body: Some(body) };
            frames
                .try_send(frame)
                .expect("the channel has room for the first frames");
        }
        let mut client = peers::client(&address)
            .await
            .map_err(|why| api::unavailable(&why))?;
        let answers = client.relay(ReceiverStream::new(waiting)).await?.into_inner();
        tracing::info!(%leader, "an agent's stream is relayed");
        tokio::spawn(forward(incoming, frames));
        Ok(Box::pin(self.answers(leader, answers, permit)))
    }

    fn answers(
        &self,
        leader: ReplicaId,
        answers: Streaming<v1::RelayFrame>,
        permit: OwnedSemaphorePermit,
    ) -> impl Stream<Item = Result<Word, Status>> + Send + use<> {
        let mut standing = self.standing.clone();
        // It is at its end when this server hears of another leader, or of none.
        let changed = async move {
            let _ = standing
                .wait_for(|standing| standing.status.leader != Some(leader))
                .await;
        };
        let heard = answers.map(move |frame| {
            let _held = &permit;
            match frame?.body {
                Some(Body::Message(bytes)) => Ok(Word::Passed(bytes)),
                _ => Err(Status::internal(
                    "the leader's relay said something else than a message",
                )),
            }
        });
        heard.take_until(changed)
    }
}

/// Until either side ends; then the other learns it.
async fn forward(mut incoming: Streaming<Bytes>, frames: mpsc::Sender<v1::RelayFrame>) {
    loop {
        let message = tokio::select! {
            () = frames.closed() => return,
            message = incoming.message() => message,
        };
        let Ok(Some(message)) = message else { return };
        let frame = v1::RelayFrame {
            body: Some(Body::Message(message)),
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

/// What the leader gets of an agent through another server.
pub fn of_agent(
    frames: Streaming<v1::RelayFrame>,
) -> impl Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin {
    frames.map(|frame| match frame?.body {
        Some(Body::Message(bytes)) => decoded(bytes),
        _ => Err(Status::invalid_argument(
            "relay: only the first frames are not messages",
        )),
    })
}

/// What the leader says to such an agent.
pub fn to_agent(word: Result<Word, Status>) -> Result<v1::RelayFrame, Status> {
    let bytes = match word? {
        Word::Own(message) => Bytes::from(message.encode_to_vec()),
        Word::Passed(bytes) => bytes,
    };
    Ok(v1::RelayFrame {
        body: Some(Body::Message(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_named() {
        assert!(NO_ROOM.contains(&format!(" {RELAYS_MAX} agents ")));
    }
}
