//! The way to one agent: a bounded queue of messages that closes when it is full.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use rebound_core::codec::agent;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::photos::Joined;
use rebound_core::reply::Judged;
use rebound_core::types::{ClusterId, Term, Time, WorkerId};
use rebound_proto::v1;
use rebound_proto::v1::server_message::Body;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::Status;

use crate::api;

/// An agent hears something at least this often.
const KEEPALIVE: Duration = Duration::from_millis(900);

/// See the module.
pub struct Link {
    messages: mpsc::Sender<v1::ServerMessage>,
    closed: watch::Sender<bool>,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    cluster: ClusterId,
    worker: WorkerId,
    /// Specs and photos that the agent has heard of on this stream.
    said: agent::Said,
    /// Why it closed, when the agent is to know.
    why: Option<Status>,
}

impl Link {
    /// A link, and what comes out at the agent's end.
    pub fn new(queue: usize) -> (Arc<Link>, mpsc::Receiver<v1::ServerMessage>) {
        let (messages, out) = mpsc::channel(queue);
        let closed = watch::Sender::new(false);
        (
            Arc::new(Link {
                messages,
                closed,
                session: Mutex::default(),
            }),
            out,
        )
    }

    /// The messages as tonic wants them. A word each second says that the leader is there.
    pub fn stream(
        self: Arc<Link>,
        out: mpsc::Receiver<v1::ServerMessage>,
    ) -> impl Stream<Item = Result<v1::ServerMessage, Status>> + Send + 'static {
        let closed = self.closed.subscribe();
        let mut beat = interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = Ending {
            link: self,
            out,
            closed,
            beat,
            ended: false,
        };
        unfold(ending, |mut ending| async move {
            let item = ending.next().await?;
            Some((item, ending))
        })
    }

    /// Queues a message; a full queue closes the link, since an agent that does not read is no use.
    pub fn send(&self, body: Body) {
        let message = v1::ServerMessage { body: Some(body) };
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message) {
            self.close(Some(api::overloaded(
                "the agent does not take what it is sent; connect again",
            )));
        }
    }

    /// The session begins.
    pub fn welcome(&self, cluster: &ClusterId, worker: WorkerId, term: Term, now: Time, orphan_for: u64) {
        let mut session = self.session();
        (session.cluster, session.worker) = (cluster.clone(), worker);
        drop(session);
        let welcome = agent::welcome(cluster, worker, term, now, orphan_for);
        self.send(Body::Welcome(welcome));
    }

    /// A desired set as the agent reads it.
    pub fn desired(&self, desired: &Desired, uris: impl FnMut(&DesiredRun) -> Joined) -> v1::Desired {
        let session = &mut *self.session();
        agent::desired(&session.cluster, desired, uris, &mut session.said)
    }

    /// Answers reported results.
    pub fn answers(&self, judged: &[Judged]) {
        self.send(Body::Answers(agent::answers(judged)));
    }

    /// The worker whose session this is; 0 before the welcome.
    pub fn worker(&self) -> WorkerId {
        self.session().worker
    }

    /// Ends the stream.
    pub fn close(&self, why: Option<Status>) {
        let mut session = self.session();
        if session.why.is_none() {
            session.why = why;
        }
        drop(session);
        self.closed.send_replace(true);
    }

    /// True when the stream has ended, from either side.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow() || self.messages.is_closed()
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        // The sender is part of this link, so the only way out is the end.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Ending {
    link: Arc<Link>,
    out: mpsc::Receiver<v1::ServerMessage>,
    closed: watch::Receiver<bool>,
    beat: Interval,
    ended: bool,
}

impl Ending {
    async fn next(&mut self) -> Option<Result<v1::ServerMessage, Status>> {
        if self.ended {
            return None;
        }
        tokio::select! {
            biased;
            _ = self.closed.wait_for(|closed| *closed) => {
                self.ended = true;
                self.link.session().why.take().map(Err)
            }
            message = self.out.recv() => message.map(Ok),
            _ = self.beat.tick() => {
                Some(Ok(v1::ServerMessage { body: Some(Body::Answers(v1::Answers::default())) }))
            }
        }
    }
}

impl Drop for Ending {
    /// The agent has gone, or was told to.
    fn drop(&mut self) {
        self.link.close(None);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tonic::Code;

    use super::*;

    fn body() -> Body {
        Body::Answers(v1::Answers::default())
    }

    #[tokio::test]
    async fn a_full_queue_closes_the_stream_and_says_why() {
        let (link, out) = Link::new(2);
        let mut stream = std::pin::pin!(link.clone().stream(out));
        (0..3).for_each(|_| link.send(body()));
        assert!(link.is_closed());
        link.ended().await;
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(crate::node::doors::RETRY_AFTER.contains(&api::refusal_of(&status).retry_after_us));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn silence_is_broken_within_a_second() {
        let (link, out) = Link::new(2);
        let mut stream = std::pin::pin!(link.stream(out));
        let message = tokio::time::timeout(KEEPALIVE * 20, stream.next()).await.unwrap();
        assert_eq!(message.unwrap().unwrap().body, Some(body()));
    }

    #[tokio::test]
    async fn an_agent_that_goes_closes_its_link() {
        let (link, out) = Link::new(2);
        drop(link.clone().stream(out));
        assert!(link.is_closed());
    }
}
