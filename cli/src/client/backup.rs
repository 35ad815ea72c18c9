//! Backups of any one server.

use rebound_proto::v1::{BackupRequest, SnapshotFrame};
use rebound_scheduler::peers::FRAME_BYTES_MAX;
use tonic::Streaming;

use super::{Client, ClientError, one_try, operator};
use crate::limits::CONNECT_TIMEOUT;

impl Client {
    /// A backup of the first server that answers.
    pub async fn backup(&self) -> Result<Streaming<SnapshotFrame>, ClientError> {
        let mut last = None;
        for address in self.servers() {
            match self.backup_of(address).await {
                Ok(frames) => return Ok(frames),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Unreachable {
            message: "no server was named".to_owned(),
        }))
    }

    /// A backup of the server at `address`. The answer is its beginning; the rest comes as it is read.
    pub async fn backup_of(&self, address: &str) -> Result<Streaming<SnapshotFrame>, ClientError> {
        let unreachable = |why| ClientError::Unreachable {
            message: format!("{address} ({why})"),
        };
        let channel = self
            .route
            .channel(address, CONNECT_TIMEOUT)
            .await
            .map_err(unreachable)?;
        let mut client = operator(channel).max_decoding_message_size(FRAME_BYTES_MAX);
        let asked = client.backup(self.request(BackupRequest {}));
        let answer = tokio::time::timeout(self.timeout, asked).await;
        let answer = answer.map_err(|_| ClientError::Timeout {
            message: format!("{address} said nothing for {:.1?}", self.timeout),
        })?;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| one_try(address, &status))
    }
}
