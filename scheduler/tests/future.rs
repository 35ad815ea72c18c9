//! Clients and agents from the future: they say what this build does not know, over real sockets. What can be passed
//! over is; the rest is refused with a typed reason, and nothing that was there is lost.

mod support;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use rebound_core::codec::client::PROTOCOL_KEY;
use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Say;
use rebound_proto::v1::agents_client::AgentsClient;
use rebound_proto::v1::refusal::Kind;
use rebound_proto::v1::server_message::Body as Heard;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

use support::agent::{Agent, hello};
use support::{Cluster, channel, open_request, refusal, runtime};

/// Field 900 of any message: a number.
const LATER_NUMBER: [u8; 3] = [0xa0, 0x38, 0x07];
/// Field 901 of any message: bytes.
const LATER_BYTES: [u8; 6] = [0xaa, 0x38, 0x03, b'n', b'e', b'w'];

/// Messages as bytes, whatever is in them.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

/// Opens a job with these bytes.
async fn open(address: &str, request: Vec<u8>) -> Result<v1::OpenReply, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(address).await.unwrap());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/rebound.v1.Jobs/Open");
    let reply = grpc.unary(Request::new(Bytes::from(request)), path, Raw).await?;
    Ok(v1::OpenReply::decode(reply.into_inner()).unwrap())
}

#[test]
fn what_a_later_client_adds_is_passed_over_and_what_it_needs_is_refused() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(cluster.addresses());
        let leader = cluster.leader().await;
        let address = cluster.addresses()[leader].clone();
        let before = cluster.submit(6).await;

        let mut plain = open_request(4);
        plain.idempotency_key = "later".into();
        let mut bytes = plain.encode_to_vec();
        bytes.extend(LATER_NUMBER);
        bytes.extend(LATER_BYTES);
        let job = open(&address, bytes).await.unwrap().job;
        let again = open(&address, plain.encode_to_vec()).await.unwrap().job;
        assert_eq!(job, again, "the same request, as far as it is known here");

        let mut jobs = cluster.jobs(leader).await;
        for said in ["2", "3.1", "next"] {
            let mut request = Request::new(open_request(1));
            request.metadata_mut().insert(PROTOCOL_KEY, said.parse().unwrap());
            let status = jobs.open(request).await.unwrap_err();
            let why = refusal(&status);
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            assert_eq!((why.kind(), why.field.as_str()), (Kind::Rejected, "protocol"));
            assert!(status.message().contains("use a client of the servers' version"));
        }
        // Bytes that are no message of any version.
        let status = open(&address, vec![0xff; 40]).await.unwrap_err();
        assert!(!status.message().is_empty());

        // A service of a later version.
        let mut grpc = tonic::client::Grpc::new(channel(&address).await.unwrap());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/rebound.v1.Jobs/Foresee");
        let unknown = grpc.unary(Request::new(Bytes::new()), path, Raw).await;
        assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);

        let submitted = [before, (job, 4)];
        cluster.finish(&submitted).await;
        assert_eq!(cluster.all_results(&submitted).await.len(), 10);
        agent.stop().await;
        cluster.stop_all().await;
    });
}

#[test]
fn a_later_agent_is_taken_if_it_still_speaks_this_protocol() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let address = cluster.addresses()[leader].clone();
        let greet = async |oldest, newest| {
            let mut client = AgentsClient::new(channel(&address).await.unwrap());
            let (say, said) = tokio::sync::mpsc::channel(1);
            let first = v1::Hello {
                protocol: newest,
                protocol_min: oldest,
                ..hello(&(String::new(), 0))
            };
            let body = Some(Say::Hello(first));
            say.send(v1::AgentMessage { body }).await.unwrap();
            let said = tokio_stream::wrappers::ReceiverStream::new(said);
            let mut stream = client.session(said).await?.into_inner();
            let first = stream.message().await?.and_then(|message| message.body);
            Ok::<_, Status>(first)
        };
        for (oldest, newest) in [(2, 2), (0, 2), (2, u32::MAX), (0, 0)] {
            let status = greet(oldest, newest).await.unwrap_err();
            let why = refusal(&status);
            assert_eq!(
                (why.kind(), why.field.as_str()),
                (Kind::Rejected, "protocol"),
                "{status}"
            );
            assert!(
                status
                    .message()
                    .contains("this server 1; install one that matches"),
                "{status}"
            );
        }
        let welcomed = greet(1, 9).await.unwrap();
        let Some(Heard::Welcome(welcome)) = welcomed else {
            panic!("it speaks version 1 too: {welcomed:?}");
        };
        assert_eq!(welcome.protocol, 1, "and is told that it must");
        // RocksDB's threads must have ended before the process does.
        cluster.stop_all().await;
    });
}
