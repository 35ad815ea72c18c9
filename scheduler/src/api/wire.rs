//! The service `Agents` on bytes. A server that relays an agent's stream passes its messages on as they came, with
//! fields that this build has never heard of; only the server that attends to the agent decodes them.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use rebound_proto::v1;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::{AGENT_MESSAGE_BYTES_MAX, ANSWER_BYTES_MAX};
use crate::entrance::Place;
use crate::relay::Outgoing;

/// The only call of the service.
const SESSION_PATH: &str = "/rebound.v1.Agents/Session";

/// A message to an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// This server's own.
    Own(v1::ServerMessage),
    /// Another server's, as it came.
    Passed(Bytes),
}

/// Messages as bytes one way, [`Word`]s the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Word;
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
    type Item = Word;
    type Error = Status;

    fn encode(&mut self, word: Word, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match word {
            Word::Own(message) => message
                .encode(into)
                .map_err(|error| Status::internal(error.to_string())),
            Word::Passed(bytes) => {
                into.put(bytes);
                Ok(())
            }
        }
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

/// A message of an agent.
pub fn decoded(bytes: Bytes) -> Result<v1::AgentMessage, Status> {
    v1::AgentMessage::decode(bytes).map_err(|_| Status::invalid_argument("message: not one of an agent"))
}

/// The service as tonic routes it: what is generated from its description, but for the codec.
#[derive(Clone)]
pub struct Agents {
    api: Api,
}

impl Agents {
    /// The streams of agents that come to this server.
    pub fn new(api: Api) -> Agents {
        Agents { api }
    }
}

impl NamedService for Agents {
    const NAME: &'static str = v1::agents_server::SERVICE_NAME;
}

impl StreamingService<Bytes> for Agents {
    type Response = Word;
    type ResponseStream = Outgoing;
    type Future = BoxFuture<Response<Outgoing>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let api = self.api.clone();
        Box::pin(async move { api.session(request).await })
    }
}

impl<B> Service<http::Request<B>> for Agents
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        if let Some(place) = request.extensions().get::<Place>() {
            place.is_agents();
        }
        Box::pin(async move {
            if request.uri().path() != SESSION_PATH {
                return Ok(Status::unimplemented("Agents has Session alone").into_http());
            }
            let mut grpc = Grpc::new(Raw)
                .max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
