//! Results on disk until a leader has answered for them, so that they outlive the process.
//!
//! One file, `spool`, is only appended to: a record for each result, a record for each removal. A record is
//! `kind (1) · length (4) · xxh3 of kind, length and body (8) · body`, integers little-endian. When little of the file
//! is alive it is written anew beside itself and renamed. A process killed at any byte leaves at worst a torn tail,
//! which the next start cuts off.
//!
//! Nothing is synced: a machine that loses power may lose results here, and then their photos are done again. The
//! disk is a convenience, the cluster's log is the truth.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use rebound_proto::v1;
use thiserror::Error;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use crate::machine::limits::{MAX_CLUSTER_BYTES, MAX_RESULT_BYTES};
use crate::machine::{Spooled, TaskKey};

/// The spool's file in the data directory.
pub const SPOOL_FILE: &str = "spool";

/// First bytes of the file: name and format.
const MAGIC: &[u8; 8] = b"RBSPOOL1";

const HEADER_BYTES: usize = 13;
const KEY_BYTES: usize = 24;
const KIND_RESULT: u8 = 1;
const KIND_REMOVED: u8 = 2;

/// Longest body of a record: a result with its cluster's id. Longer removals are split.
pub const MAX_BODY_BYTES: usize = MAX_RESULT_BYTES + MAX_CLUSTER_BYTES + 256;

/// A file smaller than this is not written anew, whatever of it is alive.
pub const COMPACT_ABOVE_BYTES: u64 = 256 * 1024;

/// Why the spool cannot be used.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The file cannot be read or written.
    #[error("the spool {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is of another program, or of a later version of this one.
    #[error("the spool {path} has a format this version does not know; move it away to start without it")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// Where each living result's record is: offset and length, header included.
type Places = BTreeMap<TaskKey, (u64, u64)>;

/// The spool's file, open for appending.
pub struct Spool {
    path: PathBuf,
    file: File,
    /// End of the last whole record.
    end: u64,
    live: Places,
    live_bytes: u64,
}

impl Spool {
    /// Opens the spool in `dir`, and gives what it holds, oldest first. A torn tail is cut off.
    pub fn open(dir: &Path) -> Result<(Spool, Vec<Spooled>), SpoolError> {
        let path = dir.join(SPOOL_FILE);
        let of = |error| SpoolError::Io {
            path: path.clone(),
            error,
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options.open(&path).map_err(of)?;
        let len = file.metadata().map_err(of)?.len();
        let mut spool = Spool {
            path: path.clone(),
            file,
            end: 0,
            live: BTreeMap::new(),
            live_bytes: 0,
        };
        let results = spool.load(len)?;
        Ok((spool, results))
    }

    fn error(&self, error: io::Error) -> SpoolError {
        SpoolError::Io {
            path: self.path.clone(),
            error,
        }
    }

    fn load(&mut self, len: u64) -> Result<Vec<Spooled>, SpoolError> {
        let mut magic = [0; MAGIC.len()];
        let here = usize::try_from(len).unwrap_or(usize::MAX).min(magic.len());
        self.file
            .read_exact_at(&mut magic[..here], 0)
            .map_err(|error| self.error(error))?;
        if magic[..here] != MAGIC[..here] {
            return Err(SpoolError::Format {
                path: self.path.clone(),
            });
        }
        if here < MAGIC.len() {
            self.file
                .write_all_at(MAGIC, 0)
                .map_err(|error| self.error(error))?;
            self.end = MAGIC.len() as u64;
            return Ok(Vec::new());
        }
        self.end = MAGIC.len() as u64;
        let mut results = BTreeMap::new();
        let file = self.file.try_clone().map_err(|error| self.error(error))?;
        let mut reader = BufReader::with_capacity(1 << 16, At { file, at: self.end });
        while let Some((kind, body)) = next_record(&mut reader).map_err(|error| self.error(error))? {
            if !self.replay(kind, &body, &mut results) {
                break;
            }
        }
        if self.end < len {
            warn!(bytes = len - self.end, file = %self.path.display(), "the spool's torn tail is cut off");
            self.file.set_len(self.end).map_err(|error| self.error(error))?;
        }
        // Offsets grow with age.
        let mut results: Vec<(u64, Spooled)> = results
            .into_iter()
            .map(|(key, one)| (self.live[&key].0, one))
            .collect();
        results.sort_by_key(|(offset, _)| *offset);
        Ok(results.into_iter().map(|(_, one)| one).collect())
    }

    /// Takes one record of the file; false when it makes no sense.
    fn replay(&mut self, kind: u8, body: &[u8], results: &mut BTreeMap<TaskKey, Spooled>) -> bool {
        let size = (HEADER_BYTES + body.len()) as u64;
        match kind {
            KIND_RESULT => {
                let Some(spooled) = decode(body) else { return false };
                let key = TaskKey::of(&spooled.result);
                self.note_removed(key);
                self.note_added(key, size);
                results.insert(key, spooled);
            }
            KIND_REMOVED if body.len().is_multiple_of(KEY_BYTES) => {
                for key in body.chunks_exact(KEY_BYTES).filter_map(key_of) {
                    self.note_removed(key);
                    results.remove(&key);
                }
                self.end += size;
            }
            _ => return false,
        }
        true
    }

    fn note_added(&mut self, key: TaskKey, size: u64) {
        self.live.insert(key, (self.end, size));
        self.live_bytes += size;
        self.end += size;
    }

    fn note_removed(&mut self, key: TaskKey) {
        if let Some((_, size)) = self.live.remove(&key) {
            self.live_bytes -= size;
        }
    }

    /// Results it holds.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// It holds nothing.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Keeps a result. After an error the file is as before.
    pub fn add(&mut self, spooled: &Spooled) -> Result<(), SpoolError> {
        let record = record(KIND_RESULT, &encode(spooled));
        self.append(&record)?;
        let key = TaskKey::of(&spooled.result);
        self.note_removed(key);
        self.note_added(key, record.len() as u64);
        Ok(())
    }

    /// Drops results. After an error they may come back at the next start, which does no harm: they are answered again.
    pub fn remove(&mut self, keys: &[TaskKey]) -> Result<(), SpoolError> {
        for some in keys.chunks(MAX_BODY_BYTES / KEY_BYTES) {
            let body: Vec<u8> = some.iter().flat_map(key_bytes).collect();
            let record = record(KIND_REMOVED, &body);
            self.append(&record)?;
            self.end += record.len() as u64;
            for key in some {
                self.note_removed(*key);
            }
        }
        if self.end > COMPACT_ABOVE_BYTES && self.live_bytes < self.end / 2 {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes behind the last whole record, and leaves nothing behind if that fails.
    fn append(&mut self, record: &[u8]) -> Result<(), SpoolError> {
        let written = self.file.write_all_at(record, self.end);
        written.map_err(|error| {
            if let Err(error) = self.file.set_len(self.end) {
                warn!(%error, file = %self.path.display(), "a record cut short cannot be taken back");
            }
            self.error(error)
        })
    }

    /// Writes what is alive into a new file, and takes that one.
    fn compact(&mut self) -> Result<(), SpoolError> {
        if self.live.is_empty() {
            self.file
                .set_len(MAGIC.len() as u64)
                .map_err(|error| self.error(error))?;
            self.end = MAGIC.len() as u64;
            return Ok(());
        }
        let beside = self.path.with_extension("new");
        let (file, live, end) = self.copy_live(&beside).map_err(|error| self.error(error))?;
        std::fs::rename(&beside, &self.path).map_err(|error| self.error(error))?;
        info!(before = self.end, after = end, "the spool was written anew");
        (self.file, self.live, self.end) = (file, live, end);
        Ok(())
    }

    fn copy_live(&self, beside: &Path) -> io::Result<(File, Places, u64)> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(beside)?;
        file.write_all_at(MAGIC, 0)?;
        let mut end = MAGIC.len() as u64;
        let mut by_age: Vec<(TaskKey, (u64, u64))> =
            self.live.iter().map(|(key, place)| (*key, *place)).collect();
        by_age.sort_by_key(|(_, (offset, _))| *offset);
        let mut live = BTreeMap::new();
        let mut buffer = Vec::new();
        for (key, (offset, size)) in by_age {
            buffer.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
            self.file.read_exact_at(&mut buffer, offset)?;
            file.write_all_at(&buffer, end)?;
            live.insert(key, (end, size));
            end += size;
        }
        Ok((file, live, end))
    }
}

/// A file read from a place of its own, whatever others do with it.
struct At {
    file: File,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The next whole record; `None` at the end, or where the file is torn.
fn next_record(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    if !fill(from, &mut header)? {
        return Ok(None);
    }
    let [kind, l0, l1, l2, l3, sum @ ..] = header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if len > MAX_BODY_BYTES {
        return Ok(None);
    }
    let mut body = vec![0; len];
    if !fill(from, &mut body)? || checksum(kind, &body) != u64::from_le_bytes(sum) {
        return Ok(None);
    }
    Ok(Some((kind, body)))
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(kind: u8, body: &[u8]) -> u64 {
    let mut covered = Vec::with_capacity(5 + body.len());
    covered.push(kind);
    covered.extend_from_slice(&(body.len() as u32).to_le_bytes());
    covered.extend_from_slice(body);
    xxh3_64(&covered)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
    record.push(kind);
    record.extend_from_slice(&(body.len() as u32).to_le_bytes());
    record.extend_from_slice(&checksum(kind, body).to_le_bytes());
    record.extend_from_slice(body);
    record
}

fn encode(spooled: &Spooled) -> Vec<u8> {
    let cluster = spooled.cluster.as_bytes();
    let mut body = (cluster.len() as u16).to_le_bytes().to_vec();
    body.extend_from_slice(cluster);
    body.extend_from_slice(&spooled.result.encode_to_vec());
    body
}

fn decode(body: &[u8]) -> Option<Spooled> {
    let (len, rest) = body.split_first_chunk::<2>()?;
    let (cluster, result) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let cluster = std::str::from_utf8(cluster).ok()?.to_string();
    let result = v1::AttemptResult::decode(Bytes::copy_from_slice(result)).ok()?;
    Some(Spooled { cluster, result })
}

fn key_bytes(key: &TaskKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    for (place, number) in bytes.chunks_exact_mut(8).zip([key.job, key.task, key.given]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn key_of(bytes: &[u8]) -> Option<TaskKey> {
    let (job, rest) = bytes.split_first_chunk()?;
    let (task, rest) = rest.split_first_chunk()?;
    let (given, _) = rest.split_first_chunk()?;
    let [job, task, given] = [job, task, given].map(|number| u64::from_le_bytes(*number));
    Some(TaskKey { job, task, given })
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
