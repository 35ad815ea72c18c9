//! Agents: one stream each, to the leader, perhaps through another server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rebound_core::codec::agent;
use rebound_core::io::Request as Asked;
use rebound_proto::v1;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::wire::{Word, decoded};
use super::{Api, From};
use crate::node::Handle;
use crate::node::link::Link;
use crate::relay::{Outgoing, RELAY_KEY};

/// Longest wait for an agent's first word.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the session to begin, in µs.
const WELCOME_TIMEOUT: u64 = 5_000_000;

impl Api {
    /// The stream of an agent, from its first word on, whether it comes from itself or through another server.
    pub(crate) async fn attend<S>(
        &self,
        from: &From,
        first: v1::AgentMessage,
        incoming: S,
    ) -> Result<Outgoing, Status>
    where
        S: Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin + 'static,
    {
        let Some(v1::agent_message::Body::Hello(hello)) = first.body else {
            return Err(Status::invalid_argument("hello: must be the first message"));
        };
        let (join, session) = agent::hello(&hello).map_err(|rejected| self.rejected(rejected))?;
        let asked = Asked::Hello {
            join: Box::new(join),
            session,
        };
        let (link, out) = Link::new(self.config.limits.agent_queue_messages as usize);
        let greeted = self
            .handle
            .greet(
                from.caller.clone(),
                from.limit(WELCOME_TIMEOUT),
                asked,
                link.clone(),
            )
            .await;
        greeted.map_err(|refused| self.status(&refused))?;
        tokio::spawn(listen(self.handle.clone(), link.clone(), incoming));
        Ok(Box::pin(link.stream(out).map(|message| message.map(Word::Own))))
    }
}

/// The first word of an agent.
pub(crate) async fn first_word<M, S>(incoming: &mut S) -> Result<M, Status>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.next()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("hello: the agent said nothing"))?;
    first.unwrap_or_else(|| Err(Status::invalid_argument("hello: must be the first message")))
}

impl Api {
    /// The stream of an agent that came to this server.
    pub(super) async fn session(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Outgoing>, Status> {
        let from = From::read(request.metadata());
        let (metadata, _, mut incoming) = request.into_parts();
        let first = first_word(&mut incoming).await?;
        if let Some(leader) = self.relays.asked(&metadata) {
            let head = v1::RelayHead {
                environment: from.caller.environment,
                actor: from.caller.actor,
            };
            let relayed = self.relays.open(leader, head, first, incoming).await?;
            let mut response = Response::new(relayed);
            // An agent that asked for it may have come to the leader itself by now, and must know the difference.
            let yes = MetadataValue::from_static("1");
            response.metadata_mut().insert(RELAY_KEY, yes);
            return Ok(response);
        }
        let incoming = incoming.map(|message| decoded(message?));
        Ok(Response::new(
            self.attend(&from, decoded(first)?, incoming).await?,
        ))
    }
}

/// Takes what the agent says, until either side ends the stream.
async fn listen<S>(handle: Handle, link: Arc<Link>, mut incoming: S)
where
    S: Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin,
{
    let worker = link.worker();
    loop {
        let message = tokio::select! {
            () = link.ended() => return,
            message = incoming.next() => message.transpose(),
        };
        let report = match message {
            Ok(Some(message)) => agent::report(message),
            Ok(None) => return link.close(None),
            Err(status) => {
                tracing::info!(%worker, why = status.message(), "an agent's stream broke");
                return link.close(None);
            }
        };
        match report {
            Ok(None) => {}
            Ok(Some(report)) => {
                if !handle.report(worker, &link, report).await {
                    return link.close(None);
                }
            }
            Err(rejected) => {
                tracing::warn!(%worker, why = %rejected, "an agent's message was refused");
                return link.close(Some(Status::invalid_argument(rejected.to_string())));
            }
        }
    }
}
