//! One call over several tries: follows the leader, waits when told to, and asks again only what is safe.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::error::{Refused, refused};
use super::{Client, ClientError};
use crate::limits::{HOPS_WITHOUT_PAUSE, PAUSE_MAX, PAUSE_MIN};

/// Whether a request whose outcome is not known may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Twice is the same as once.
    Yes,
    /// Twice may not be the same as once.
    No,
}

/// How long a call and each of its tries may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub call: Duration,
    pub attempt: Duration,
    /// Answers arrive up to so much after the limit that the server was given.
    pub grace: Duration,
}

/// What the tries so far came to.
struct Tries {
    deadline: Instant,
    count: u32,
    /// Leaders followed since the last pause.
    hops: u32,
    /// What the last try at each address came to, if it could not be asked.
    unreached: BTreeMap<String, String>,
    last: Option<ClientError>,
}

impl Client {
    /// Sends what `make` builds (from the try's time limit in µs) through `send`, until there is an answer.
    pub(super) async fn call<Q, A, Sent>(
        &self,
        repeat: Repeat,
        limits: Limits,
        make: impl Fn(u64) -> Q,
        send: impl Fn(Channel, Request<Q>) -> Sent,
    ) -> Result<A, ClientError>
    where
        Sent: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Instant::now() + limits.call;
        let mut tries = Tries {
            deadline,
            count: 0,
            hops: 0,
            unreached: BTreeMap::new(),
            last: None,
        };
        loop {
            let left = tries.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(tries.give_up(limits.call));
            }
            let address = self.route.target();
            let channel = match self.route.channel(&address, left).await {
                Ok(channel) => channel,
                Err(why) => {
                    tracing::debug!(%address, %why, "not reached");
                    tries.unreached.insert(address.clone(), why);
                    self.route.turn_from(&address);
                    tries.pause(Duration::ZERO).await;
                    continue;
                }
            };
            tries.unreached.remove(&address);
            let limit = if repeat == Repeat::Yes {
                left.min(limits.attempt)
            } else {
                left
            };
            let request = self.request(make(as_us(limit)));
            match tokio::time::timeout(limit + limits.grace, send(channel, request)).await {
                Ok(Ok(answer)) => {
                    self.note_age(answer.metadata());
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) => self.after_refusal(repeat, &mut tries, &address, &status).await?,
                Err(_) => self.after_silence(repeat, &mut tries, &address, limit).await?,
            }
        }
    }

    /// Returns when it is time for the next try, or with the error that ends the call.
    async fn after_refusal(
        &self,
        repeat: Repeat,
        tries: &mut Tries,
        address: &str,
        status: &Status,
    ) -> Result<(), ClientError> {
        tracing::debug!(%address, code = ?status.code(), message = status.message(), "refused");
        match refused(status) {
            Refused::Final(error) => return Err(error),
            Refused::NotLeader { leader, message } => {
                tries.last = Some(ClientError::NoLeader {
                    message: format!("{address}: {message}"),
                });
                match leader {
                    Some(leader) if leader != address && tries.hops < HOPS_WITHOUT_PAUSE => {
                        tries.hops += 1;
                        self.route.follow(leader);
                        return Ok(());
                    }
                    _ => self.route.turn_from(address),
                }
                tries.pause(Duration::ZERO).await;
            }
            Refused::Overloaded { retry_after, message } => {
                let error = ClientError::Overloaded { message, retry_after };
                if Instant::now() + retry_after >= tries.deadline {
                    return Err(error);
                }
                tries.last = Some(error);
                tries.pause(retry_after).await;
            }
            Refused::Unknown { message } => {
                self.route.drop_channel(address);
                let error = ClientError::Unknown {
                    message: format!("{address}: {message}"),
                };
                if repeat == Repeat::No {
                    return Err(error);
                }
                tries.last = Some(error);
                self.route.turn_from(address);
                tries.pause(Duration::ZERO).await;
            }
            Refused::Timeout { message } => {
                let error = ClientError::Timeout {
                    message: format!("{address}: {message}"),
                };
                if repeat == Repeat::No {
                    return Err(error);
                }
                tries.last = Some(error);
                tries.pause(Duration::ZERO).await;
            }
        }
        Ok(())
    }

    async fn after_silence(
        &self,
        repeat: Repeat,
        tries: &mut Tries,
        address: &str,
        limit: Duration,
    ) -> Result<(), ClientError> {
        tracing::debug!(%address, ?limit, "no answer");
        self.route.drop_channel(address);
        self.route.turn_from(address);
        let error = ClientError::Timeout {
            message: format!("{address} said nothing for {limit:.1?}"),
        };
        if repeat == Repeat::No {
            return Err(error);
        }
        tries.last = Some(error);
        Ok(())
    }
}

impl Tries {
    /// Waits at least `wanted`, or a little longer with each try, jittered so that clients do not come in step.
    async fn pause(&mut self, wanted: Duration) {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.count.min(8)).min(PAUSE_MAX);
        let jittered = doubled.mul_f64(rand::rng().random_range(0.5..1.0));
        self.count += 1;
        self.hops = 0;
        let until = (Instant::now() + wanted.max(jittered)).min(self.deadline);
        tokio::time::sleep_until(until).await;
    }

    fn give_up(self, limit: Duration) -> ClientError {
        let unreached: Vec<String> = self
            .unreached
            .iter()
            .map(|(address, why)| format!("{address} ({why})"))
            .collect();
        match self.last {
            // Some tries got through; their word says more, with what could not be reached beside it.
            Some(ClientError::NoLeader { message }) if !unreached.is_empty() => ClientError::NoLeader {
                message: format!("{message}; not reached: {}", unreached.join(", ")),
            },
            Some(ClientError::Unknown { message }) if !unreached.is_empty() => ClientError::Unknown {
                message: format!("{message}; then not reached: {}", unreached.join(", ")),
            },
            Some(error) => error,
            None if unreached.is_empty() => ClientError::Timeout {
                message: format!("the limit was {limit:?}"),
            },
            None => ClientError::Unreachable {
                message: format!(
                    "{}; is the cluster running, and are these its addresses (--server, REBOUND_SERVERS)?",
                    unreached.join(", ")
                ),
            },
        }
    }
}

/// Microseconds, as the wire has them.
pub(super) fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
