//! Sending a job: in one call where it fits, else opened, filled and closed, each step repeatable.

use bytes::Bytes;
use rand::Rng;
use rebound_proto::v1::{AppendRequest, JobSpec, JobState, OpenRequest, Outlook, Photo};

use crate::client::{Client, ClientError};
use crate::limits::{APPEND_BYTES_MAX, APPEND_PHOTOS_MAX};

/// Bytes a photo takes on the wire beside its URI, at most.
const PHOTO_OVERHEAD: usize = 8;

/// A job to send.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is to be done.
    pub spec: JobSpec,
    /// The photos' URIs, each within the limits of `Gather`.
    pub photos: Vec<String>,
    /// Makes every step repeatable; see [`random_key`].
    pub key: Bytes,
    /// 16 bytes that log lines and events about the job will carry.
    pub trace_id: Bytes,
}

/// A job the cluster has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The job's id.
    pub job: u64,
    /// How many photos it has.
    pub photos: u64,
    /// As the last step left it.
    pub state: JobState,
    /// Whether a worker that could run it is there now.
    pub placeable: bool,
    /// When it will be done, as far as the cluster can tell.
    pub outlook: Option<Outlook>,
    /// Whether the key was known: this job was submitted before.
    pub repeated: bool,
    /// The trace id under which the cluster knows it.
    pub trace_id: Bytes,
}

/// A new idempotency key: 32 hex digits.
pub fn random_key() -> String {
    let bytes: [u8; 16] = rand::rng().random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A new trace id.
pub fn random_trace_id() -> Bytes {
    let bytes: [u8; 16] = rand::rng().random();
    Bytes::copy_from_slice(&bytes)
}

/// Sends a job. When it fails on the way, the same order may be sent again and goes on where it stopped.
pub async fn submit(client: &Client, order: &Order) -> Result<Submitted, ClientError> {
    let total = order.photos.len() as u64;
    let chunks = chunks(&order.photos);
    let whole = chunks.len() <= 1;
    let first = if whole { wire(&order.photos) } else { Vec::new() };
    let request = OpenRequest {
        timeout_us: 0,
        idempotency_key: order.key.clone(),
        spec: Some(order.spec.clone()),
        photos: first,
        close: whole,
        trace_id: order.trace_id.clone(),
    };
    let opened = client.open(request).await?;
    let mut submitted = Submitted {
        job: opened.job,
        photos: total,
        state: opened.state(),
        placeable: opened.placeable,
        outlook: opened.outlook,
        repeated: opened.repeated,
        trace_id: opened.trace_id.clone(),
    };
    if opened.state() != JobState::Open {
        // Sent before and complete, then or now. The key covers no photos that were appended: their number must do.
        return match opened.next_offset {
            n if n == total => Ok(submitted),
            n => Err(ClientError::Conflict {
                message: format!(
                    "the key belongs to job {} of {n} photos, which takes no more; these are {total}",
                    opened.job
                ),
            }),
        };
    }
    if !whole {
        let mut offset = 0;
        for chunk in chunks {
            let request = AppendRequest {
                timeout_us: 0,
                job: opened.job,
                offset,
                photos: wire(chunk),
            };
            client.append(request).await?;
            offset += chunk.len() as u64;
        }
    }
    let closed = client.close(opened.job, total).await?;
    (submitted.state, submitted.outlook) = (closed.state(), closed.outlook);
    Ok(submitted)
}

/// Consecutive photos that fit into one append each.
fn chunks(photos: &[String]) -> Vec<&[String]> {
    let mut chunks = Vec::new();
    let mut rest = photos;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |uri: &&String| {
            bytes += uri.len() + PHOTO_OVERHEAD;
            bytes <= APPEND_BYTES_MAX
        };
        // One photo always fits: a URI is far shorter than an append may be.
        let count = rest
            .iter()
            .take(APPEND_PHOTOS_MAX)
            .take_while(fits)
            .count()
            .max(1);
        let (chunk, later) = rest.split_at(count);
        chunks.push(chunk);
        rest = later;
    }
    chunks
}

fn wire(photos: &[String]) -> Vec<Photo> {
    photos.iter().map(|uri| Photo { uri: uri.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::URI_BYTES_MAX;

    fn sizes(photos: usize, uri_bytes: usize) -> Vec<usize> {
        let photos = vec!["x".repeat(uri_bytes); photos];
        chunks(&photos).iter().map(|chunk| chunk.len()).collect()
    }

    #[test]
    fn chunks_keep_both_limits() {
        assert_eq!(sizes(0, 10), Vec::<usize>::new());
        assert_eq!(sizes(APPEND_PHOTOS_MAX, 100), [2_000]);
        assert_eq!(sizes(APPEND_PHOTOS_MAX + 1, 100), [2_000, 1]);
        let each = APPEND_BYTES_MAX / (URI_BYTES_MAX + PHOTO_OVERHEAD);
        assert_eq!(sizes(each, URI_BYTES_MAX), [each]);
        assert_eq!(sizes(each * 2 + 1, URI_BYTES_MAX), [each, each, 1]);
    }
}
