//! Submits a load: small jobs one call each, large ones opened, filled and closed, many calls on their way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rebound_proto::v1::{AppendRequest, JobSpec, OpenRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::load::{JobPart, Load, Photos};
use crate::client::{Client, ClientError};
use crate::exit::Failure;
use crate::local::asked;
use crate::submit::{random_key, random_trace_id};

/// Large jobs that are filled at once.
const LARGE_AT_ONCE: usize = 3;

/// A job that the cluster has taken, or takes.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its id.
    pub id: u64,
    /// Its tasks.
    pub part: JobPart,
}

/// Submits everything in jobs of this spec, `at_once` small jobs at a time, the clients in turn. Tells each small job
/// when it was acknowledged, and each large one when it was opened. Receivers that are gone are not told.
pub async fn fill(
    clients: &[Client],
    load: Arc<Load>,
    spec: JobSpec,
    at_once: usize,
    small: mpsc::UnboundedSender<Taken>,
    large: mpsc::UnboundedSender<Taken>,
) -> Result<(), Failure> {
    let next = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Arc<[Client]> = clients.into();
    let mut lanes = JoinSet::new();
    for _ in 0..at_once.min(load.small.len()) {
        let (clients, load, spec) = (clients.clone(), load.clone(), spec.clone());
        let (next, told) = (next.0.clone(), small.clone());
        lanes.spawn(async move {
            while let Some((client, part)) = turn(&next, &clients, &load.small) {
                let id = submit_small(client, &load.photos, part, &spec).await?;
                let _ = told.send(Taken { id, part });
            }
            Ok(())
        });
    }
    for _ in 0..LARGE_AT_ONCE.min(load.large.len()) {
        let (clients, load, spec) = (clients.clone(), load.clone(), spec.clone());
        let (next, told) = (next.1.clone(), large.clone());
        lanes.spawn(async move {
            while let Some((client, part)) = turn(&next, &clients, &load.large) {
                submit_large(client, &load, part, &spec, &told).await?;
            }
            Ok(())
        });
    }
    drop((small, large));
    while let Some(lane) = lanes.join_next().await {
        let lane: Result<(), ClientError> =
            lane.map_err(|error| Failure::failed(format!("a submitter ended early: {error}")))?;
        lane.map_err(asked("submit"))?;
    }
    Ok(())
}

/// The next job, and whose it is.
fn turn<'a>(next: &AtomicUsize, clients: &'a [Client], parts: &[JobPart]) -> Option<(&'a Client, JobPart)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((clients.get(at % clients.len().max(1))?, *parts.get(at)?))
}

fn open(spec: &JobSpec) -> OpenRequest {
    OpenRequest {
        timeout_us: 0,
        idempotency_key: Bytes::from(random_key()),
        spec: Some(spec.clone()),
        photos: Vec::new(),
        close: false,
        trace_id: random_trace_id(),
    }
}

/// One call; its job's id.
pub async fn submit_small(
    client: &Client,
    photos: &Photos,
    part: JobPart,
    spec: &JobSpec,
) -> Result<u64, ClientError> {
    let request = OpenRequest {
        photos: photos.piece(part, 0),
        close: true,
        ..open(spec)
    };
    Ok(client.open(request).await?.job)
}

async fn submit_large(
    client: &Client,
    load: &Load,
    part: JobPart,
    spec: &JobSpec,
    told: &mpsc::UnboundedSender<Taken>,
) -> Result<(), ClientError> {
    let id = client.open(open(spec)).await?.job;
    let _ = told.send(Taken { id, part });
    let mut offset = 0;
    while offset < part.count {
        let photos = load.photos.piece(part, offset);
        let sent = photos.len() as u64;
        let request = AppendRequest {
            timeout_us: 0,
            job: id,
            offset,
            photos,
        };
        client.append(request).await?;
        offset += sent;
    }
    client.close(id, part.count).await?;
    Ok(())
}
