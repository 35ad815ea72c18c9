//! Submits at a steady rate whatever is answered, one call each and none asked again, and notes what came of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rebound_proto::v1::jobs_client::JobsClient;
use rebound_proto::v1::refusal::Kind;
use rebound_proto::v1::{JobSpec, OpenRequest, job_spec};
use rebound_scheduler::api::refusal_of;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tonic::transport::{Channel, Endpoint};

use crate::bench::load::{JobPart, Photos, SMALL_TASKS};
use crate::exit::Failure;
use crate::submit::random_key;

/// Submits under way at most; one that finds no room is not sent, which is told.
const UNDER_WAY: usize = 16_384;
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Connections to each server.
const CONNECTIONS: usize = 2;
/// Servers asked by one submit at most: those that do not lead say who does.
const HOPS: usize = 3;

/// Where submits go.
pub struct Generator {
    servers: Vec<(String, Vec<JobsClient<Channel>>)>,
    leader: AtomicUsize,
    number: AtomicU64,
    photos: Photos,
    spec: JobSpec,
    room: Arc<Semaphore>,
}

/// A job that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub job: u64,
    /// When it was to be submitted, in µs of the wall clock.
    pub due_us: u64,
}

/// What came of a stretch of time.
pub struct Phase {
    /// When it began, in µs of the wall clock, and how long it was.
    pub began_us: u64,
    pub seconds: f64,
    pub submits: u64,
    pub taken: Vec<Taken>,
    pub taken_ms: Vec<f64>,
    pub refused_ms: Vec<f64>,
    pub refused: BTreeMap<String, u64>,
    pub unknown: BTreeMap<String, u64>,
    pub unsent: u64,
    pub lag_ms: Vec<f64>,
    open: JoinSet<Sent>,
}

/// Numbers of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    pub submits: u64,
    pub taken: u64,
    /// By the message's beginning.
    pub refused: BTreeMap<String, u64>,
    /// Whatever else was answered, or not.
    pub unknown: BTreeMap<String, u64>,
    /// The generator had too many under way.
    pub unsent: u64,
}

/// One submit's end.
struct Sent {
    due_us: u64,
    lag_ms: f64,
    ms: f64,
    end: End,
}

enum End {
    Taken(u64),
    Refused(String),
    Unknown(String),
}

impl Generator {
    /// To these servers, without connecting yet. Photos are wanted within `deadline`.
    pub fn new(
        addresses: Vec<String>,
        photos: Photos,
        recogniser: &str,
        deadline: Duration,
    ) -> Result<Generator, Failure> {
        let line = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            let endpoint = endpoint.map_err(|error| Failure::failed(format!("{address}: {error}")))?;
            let clients = (0..CONNECTIONS).map(|_| JobsClient::new(endpoint.connect_lazy()));
            Ok((address.clone(), clients.collect()))
        };
        let servers = addresses.iter().map(line).collect::<Result<_, Failure>>()?;
        let spec = JobSpec {
            recogniser: recogniser.to_owned(),
            deadline: Some(job_spec::Deadline::DeadlineInUs(deadline.as_micros() as u64)),
            ..JobSpec::default()
        };
        Ok(Generator {
            servers,
            leader: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            photos,
            spec,
            room: Arc::new(Semaphore::new(UNDER_WAY)),
        })
    }

    /// So many jobs a second for so long. Answers that are still out are waited for later.
    pub async fn phase(self: &Arc<Self>, rate: f64, length: Duration) -> Phase {
        let began = Instant::now();
        let mut phase = Phase {
            began_us: wall_us(),
            seconds: length.as_secs_f64(),
            submits: (rate * length.as_secs_f64()) as u64,
            taken: Vec::new(),
            taken_ms: Vec::new(),
            refused_ms: Vec::new(),
            refused: BTreeMap::new(),
            unknown: BTreeMap::new(),
            unsent: 0,
            lag_ms: Vec::new(),
            open: JoinSet::new(),
        };
        for submit in 0..phase.submits {
            let after = Duration::from_secs_f64(submit as f64 / rate);
            let due = began + after;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            let Ok(permit) = self.room.clone().try_acquire_owned() else {
                phase.unsent += 1;
                continue;
            };
            let (own, due_us) = (self.clone(), phase.began_us + after.as_micros() as u64);
            phase.open.spawn(async move {
                let lag_ms = ms(due.elapsed());
                let end = own.submit().await;
                drop(permit);
                let ms = ms(due.elapsed());
                Sent {
                    due_us,
                    lag_ms,
                    ms,
                    end,
                }
            });
            while let Some(sent) = phase.open.try_join_next() {
                phase.note(sent);
            }
        }
        sleep_until(began + length).await;
        phase
    }

    /// One job, wherever the leader is.
    async fn submit(&self) -> End {
        let first = self.number.fetch_add(SMALL_TASKS, Ordering::Relaxed);
        let part = JobPart {
            first,
            count: SMALL_TASKS,
        };
        let request = OpenRequest {
            timeout_us: ANSWER_WITHIN.as_micros() as u64,
            idempotency_key: Bytes::from(random_key()),
            spec: Some(self.spec.clone()),
            photos: self.photos.piece(part, 0),
            close: true,
            trace_id: Bytes::new(),
        };
        for _ in 0..HOPS {
            let at = self.leader.load(Ordering::Relaxed);
            let lines = &self.servers[at].1;
            let line = (first / SMALL_TASKS) as usize % lines.len();
            let mut client = lines[line].clone();
            let status = match tokio::time::timeout(ANSWER_WITHIN, client.open(request.clone())).await {
                Err(_) => return End::Unknown("no answer".to_owned()),
                Ok(Ok(opened)) => return End::Taken(opened.into_inner().job),
                Ok(Err(status)) => status,
            };
            let refusal = refusal_of(&status);
            match refusal.kind() {
                Kind::Overloaded | Kind::Quota => {
                    let words = refusal.message.split([';', ',']).next().unwrap_or_default();
                    return End::Refused(format!("{} {words}", refusal.field));
                }
                Kind::NotLeader => {
                    let named = self.servers.iter().position(|one| one.0 == refusal.leader);
                    let next = named.unwrap_or((at + 1) % self.servers.len());
                    self.leader.store(next, Ordering::Relaxed);
                }
                _ => return End::Unknown(format!("{:?}: {}", status.code(), status.message())),
            }
        }
        End::Unknown("no leader".to_owned())
    }

    /// Submits one job; true when it was taken.
    pub async fn one(&self) -> bool {
        matches!(self.submit().await, End::Taken(_))
    }
}

impl Phase {
    fn note(&mut self, sent: Result<Sent, JoinError>) {
        let Ok(sent) = sent else {
            *self.unknown.entry("lost".to_owned()).or_default() += 1;
            return;
        };
        self.lag_ms.push(sent.lag_ms);
        match sent.end {
            End::Taken(job) => {
                self.taken_ms.push(sent.ms);
                let due_us = sent.due_us;
                self.taken.push(Taken { job, due_us });
            }
            End::Refused(why) => {
                self.refused_ms.push(sent.ms);
                // Numbers in the words differ from one to the next.
                let why = why
                    .split(|of: char| of.is_ascii_digit())
                    .next()
                    .unwrap_or_default();
                *self.refused.entry(why.trim().to_owned()).or_default() += 1;
            }
            End::Unknown(why) => *self.unknown.entry(why).or_default() += 1,
        }
    }

    /// Waits for the answers that are still out.
    pub async fn settle(&mut self) {
        while let Some(sent) = self.open.join_next().await {
            self.note(sent);
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            submits: self.submits,
            taken: self.taken.len() as u64,
            refused: self.refused.clone(),
            unknown: self.unknown.clone(),
            unsent: self.unsent,
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// This machine's clock, which its agents have too.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
