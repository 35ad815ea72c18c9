//! A stream through a server that relays, between an agent and a leader that are newer than it.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use rebound_core::state::members::Founder;
use rebound_core::state::{Plant, State};
use rebound_core::types::ReplicaId;
use rebound_proto::v1::peers_server::{Peers, PeersServer};
use rebound_proto::v1::relay_frame::Body as Frame;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::*;
use crate::config::Config;
use crate::node::{Standing, doors};
use crate::relay::{RELAY_KEY, Relays};
use crate::roster::Roster;

/// A field of a later protocol: number 900, a varint.
const LATER: [u8; 3] = [0xa0, 0x38, 0x07];

/// A leader that notes what it is told and answers each message with another one.
struct Leader {
    heard: mpsc::Sender<Bytes>,
    answer: Bytes,
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::RelayFrame, Status>> + Send>>;

#[tonic::async_trait]
impl Peers for Leader {
    type RelayStream = Frames;

    async fn raft(&self, _: Request<Streaming<v1::PeerFrame>>) -> Result<Response<v1::PeerDone>, Status> {
        Err(Status::unimplemented("only relays are asked for"))
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<v1::SnapshotFrame>>,
    ) -> Result<Response<v1::SnapshotDone>, Status> {
        Err(Status::unimplemented("only relays are asked for"))
    }

    async fn relay(&self, request: Request<Streaming<v1::RelayFrame>>) -> Result<Response<Frames>, Status> {
        let (heard, answer) = (self.heard.clone(), self.answer.clone());
        let answers = request.into_inner().filter_map(move |frame| {
            let (heard, answer) = (heard.clone(), answer.clone());
            async move {
                let Ok(Some(Frame::Message(bytes))) = frame.map(|frame| frame.body) else {
                    return None;
                };
                heard.send(bytes).await.expect("the test listens");
                let body = Some(Frame::Message(answer));
                Some(Ok(v1::RelayFrame { body }))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn listen() -> (TcpIncoming, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound").to_string();
    (TcpIncoming::from(listener), address)
}

/// The services of server 1, which follows the server at this address.
fn follower(leader: &str) -> (Api, watch::Sender<Standing>) {
    let text = "cluster = \"c\"\nserver = 1\ndata_dir = \"d\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
                peer = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n";
    let config = Config::parse(text, Path::new("c.toml")).expect("a configuration");
    let mut founders = [1, 2].map(|id| Founder::named(ReplicaId(id)));
    leader.clone_into(&mut founders[1].peer);
    leader.clone_into(&mut founders[1].client);
    let state = State::new(Plant::None);
    let roster = Arc::new(Roster::new("c-1".into(), founders[0].clone(), &founders, &state));
    let (doors, _inbox) = doors();
    let mut api = Api::new(doors.handle.clone(), Arc::new(config), roster.clone());
    let mut standing = Standing::default();
    standing.status.leader = Some(ReplicaId(2));
    let (says, standing) = watch::channel(standing);
    api.relays = Relays::new(roster, standing);
    (api, says)
}

fn with_later(mut bytes: Vec<u8>) -> Bytes {
    bytes.extend(LATER);
    bytes.into()
}

#[tokio::test]
async fn what_an_older_server_passes_on_keeps_fields_that_it_does_not_know() {
    let (heard, mut at_leader) = mpsc::channel(4);
    let answer = with_later(v1::ServerMessage::default().encode_to_vec());
    let leader = Leader {
        heard,
        answer: answer.clone(),
    };
    let (incoming, address) = listen().await;
    tokio::spawn(
        Server::builder()
            .add_service(PeersServer::new(leader))
            .serve_with_incoming(incoming),
    );
    let (incoming, relay) = listen().await;
    let (api, _follows) = follower(&address);
    let agents = Agents::new(api);
    tokio::spawn(
        Server::builder()
            .add_service(agents)
            .serve_with_incoming(incoming),
    );

    let hello = v1::agent_message::Body::Hello(v1::Hello::default());
    let hello = v1::AgentMessage { body: Some(hello) };
    // The second is nothing that this build knows at all.
    let said = [with_later(hello.encode_to_vec()), with_later(Vec::new())];
    let (words, waiting) = mpsc::channel(4);
    for bytes in &said {
        words
            .send(Word::Passed(bytes.clone()))
            .await
            .expect("there is room");
    }
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{relay}"))
        .expect("an address")
        .connect_lazy();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it listens");
    let mut request = Request::new(ReceiverStream::new(waiting));
    request
        .metadata_mut()
        .insert(RELAY_KEY, address.parse().expect("plain text"));
    let path = http::uri::PathAndQuery::from_static(SESSION_PATH);
    let answers = client.streaming(request, path, Raw).await.expect("it is relayed");
    assert!(answers.metadata().contains_key(RELAY_KEY), "and says so");
    let mut answers = answers.into_inner();
    for bytes in said {
        assert_eq!(at_leader.recv().await, Some(bytes), "as it was said");
        let heard = answers.message().await.expect("the stream goes on");
        assert_eq!(heard.as_ref(), Some(&answer), "as it was answered");
    }
}
