//! Submits the load in the market's time, and remembers what was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rebound_core::types::Time;
use rebound_proto::v1::JobSpec;
use rebound_proto::v1::job_spec::Deadline;
use rebound_sim::play::Wave;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::cloud::MarketClock;
use crate::dev::PHOTOS_PER_JOB;
use crate::exit::Failure;
use crate::local::asked;
use crate::submit::{Order, random_key, random_trace_id, submit};

/// Submits under way at once.
const SUBMITS_AT_ONCE: usize = 32;

/// A job that was acknowledged.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its id.
    pub id: u64,
    /// Its photos.
    pub photos: Vec<String>,
    /// When it was asked, by the market's clock.
    pub asked_at: Time,
    /// From asking to the acknowledgement.
    pub took: Duration,
}

/// Submits all waves; ends when the last job is acknowledged.
pub async fn submit_all(
    client: Client,
    clock: MarketClock,
    waves: Vec<Wave>,
    deadline: u64,
) -> Result<Vec<Sent>, Failure> {
    let room = Arc::new(Semaphore::new(SUBMITS_AT_ONCE));
    let (mut tasks, mut sent, mut number) = (JoinSet::new(), Vec::new(), 0u64);
    for wave in waves {
        let each = PHOTOS_PER_JOB as u64;
        for first in (0..wave.photos).step_by(PHOTOS_PER_JOB) {
            clock
                .reach(Time(wave.at.0 + wave.over * first / wave.photos))
                .await;
            number += 1;
            let count = each.min(wave.photos - first);
            let photos = (0..count)
                .map(|at| format!("file:///visits/{number}/{at}.jpg"))
                .collect();
            let order = order(number, photos, deadline);
            let permit = room.clone().acquire_owned().await.expect("never closed");
            let client = client.clone();
            tasks.spawn(async move {
                let (begun, asked_at) = (Instant::now(), clock.now());
                let done = submit(&client, &order).await.map_err(asked("submit"))?;
                drop(permit);
                Ok::<_, Failure>(Sent {
                    id: done.job,
                    photos: order.photos,
                    asked_at,
                    took: begun.elapsed(),
                })
            });
            while let Some(done) = tasks.try_join_next() {
                sent.push(joined(done)?);
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        sent.push(joined(done)?);
    }
    sent.sort_by_key(|one| one.id);
    Ok(sent)
}

fn joined(done: Result<Result<Sent, Failure>, tokio::task::JoinError>) -> Result<Sent, Failure> {
    done.map_err(|error| Failure::failed(format!("a client ended early: {error}")))?
}

fn order(number: u64, photos: Vec<String>, deadline: u64) -> Order {
    Order {
        spec: JobSpec {
            name: format!("visit {number}"),
            recogniser: "noop".to_owned(),
            deadline: Some(Deadline::DeadlineInUs(deadline)),
            ..JobSpec::default()
        },
        photos,
        key: Bytes::from(random_key()),
        trace_id: random_trace_id(),
    }
}
