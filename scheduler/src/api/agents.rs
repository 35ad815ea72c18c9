//! Agents: one stream each, to the leader.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use rebound_core::codec::agent;
use rebound_core::io::Request as Asked;
use rebound_proto::v1;
use rebound_proto::v1::agents_server::Agents;
use tonic::{Request, Response, Status, Streaming};

use super::{Api, From};
use crate::node::Handle;
use crate::node::link::Link;

/// Longest wait for an agent's first word.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the session to begin, in µs.
const WELCOME_TIMEOUT: u64 = 5_000_000;

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Agents for Api {
    type SessionStream = Outgoing;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let from = From::read(request.metadata());
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("hello: the agent said nothing"))??;
        let Some(v1::agent_message::Body::Hello(hello)) = first.and_then(|message| message.body) else {
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
        Ok(Response::new(Box::pin(link.stream(out))))
    }
}

/// Takes what the agent says, until either side ends the stream.
async fn listen(handle: Handle, link: Arc<Link>, mut incoming: Streaming<v1::AgentMessage>) {
    let worker = link.worker();
    loop {
        let message = tokio::select! {
            () = link.ended() => return,
            message = incoming.message() => message,
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
