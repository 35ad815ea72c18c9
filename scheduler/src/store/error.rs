//! Why a data directory cannot be used.

use std::path::{Path, PathBuf};

use rebound_core::state::NEWER;

/// A data directory that cannot be used, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is there.
    #[error("data_dir {}: is empty or missing; start with --init to begin a cluster, with --join to come to one, or correct the path", .0.display())]
    Empty(PathBuf),
    /// Something is there.
    #[error("data_dir {}: is not empty, and nothing that is there may be lost; start without --init, or name an empty one", .0.display())]
    NotEmpty(PathBuf),
    /// Somebody else's.
    #[error("data_dir {}: belongs to cluster {found}, not to one named {expected}; name this cluster's own directory", dir.display())]
    OtherCluster {
        dir: PathBuf,
        found: String,
        expected: String,
    },
    /// Another server's.
    #[error("data_dir {}: belongs to server {found}, not {expected}; each server has its own directory", dir.display())]
    OtherServer { dir: PathBuf, found: u64, expected: u64 },
    /// Made by another version.
    #[error("data_dir {}: has format {found}, this build reads {expected}", dir.display())]
    OtherFormat { dir: PathBuf, found: u64, expected: u64 },
    /// A process has it.
    #[error("data_dir {}: another process has it open; stop that one, or name another directory", .0.display())]
    Locked(PathBuf),
    /// Bytes that are not what they should be.
    #[error("data_dir {}: {what} is unreadable: {why}", dir.display())]
    Corrupt {
        dir: PathBuf,
        what: &'static str,
        why: String,
    },
    /// What was synced is not there any more.
    #[error("data_dir {}: its log of writes ends at {last}, and {synced} were synced: the disk lost or damaged what this server had promised, and it must not go on with the rest; replace it with a server of a new id and an empty directory (rebound operator add --replace)", dir.display())]
    Forgot { dir: PathBuf, last: u64, synced: u64 },
    /// A newer build's.
    #[error("data_dir {}: {NEWER}", .0.display())]
    Newer(PathBuf),
    /// The disk or RocksDB.
    #[error("data_dir {}: {why}", dir.display())]
    Failed { dir: PathBuf, why: String },
}

/// What RocksDB or the file system says.
pub(crate) fn failed(dir: &Path, why: impl std::fmt::Display) -> StoreError {
    let why = why.to_string();
    match why.contains("lock") && (why.contains("LOCK") || why.contains("hold")) {
        true => StoreError::Locked(dir.to_owned()),
        false => StoreError::Failed {
            dir: dir.to_owned(),
            why,
        },
    }
}
