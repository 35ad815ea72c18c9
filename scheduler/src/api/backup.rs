//! A backup of this server, streamed as followers get snapshots.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use rebound_proto::v1;
use rebound_proto::v1::snapshot_frame::Body;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Api, overloaded, unavailable};

/// Backups under way at once: each pins what the disk holds.
pub const BACKUPS_MAX: usize = 2;
/// What is said beyond them.
const NO_ROOM: &str = "2 backups are under way, and no more are made at once; ask again when one has ended";
/// A backup of which the caller takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// Frames ahead of what the caller takes.
const FRAMES_AHEAD: usize = 2;

/// What a backup comes as.
pub type Frames = Pin<Box<dyn Stream<Item = Result<v1::SnapshotFrame, Status>> + Send>>;

impl Api {
    pub(super) async fn backup_frames(&self) -> Result<Response<Frames>, Status> {
        let Ok(permit) = self.backups.clone().try_acquire_owned() else {
            return Err(overloaded(NO_ROOM));
        };
        let Some((head, chunks)) = self.handle.backup().await else {
            return Err(unavailable("this server has nothing to back up yet, or stops"));
        };
        let (frames, out) = mpsc::channel(FRAMES_AHEAD);
        tokio::spawn(forward(head, chunks, frames, permit));
        Ok(Response::new(Box::pin(ReceiverStream::new(out))))
    }
}

/// Ends when the caller has everything, has gone, or takes nothing: then the pinned view is let go.
async fn forward(
    head: Bytes,
    mut chunks: mpsc::Receiver<v1::SnapshotChunk>,
    frames: mpsc::Sender<Result<v1::SnapshotFrame, Status>>,
    _permit: OwnedSemaphorePermit,
) {
    let mut next = Some(Body::Head(v1::SnapshotHead { message: head }));
    while let Some(body) = next {
        let frame = v1::SnapshotFrame { body: Some(body) };
        if frames.send_timeout(Ok(frame), STALL).await.is_err() {
            tracing::warn!("a backup was given up: its caller takes nothing more");
            return;
        }
        next = chunks.recv().await.map(Body::Chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_named() {
        assert!(NO_ROOM.starts_with(&format!("{BACKUPS_MAX} backups ")));
    }
}
