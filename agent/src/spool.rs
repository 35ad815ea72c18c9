//! Results on disk until a leader has answered for them, so that they outlive the process.
//!
//! One file, `spool`, is only appended to: a record for the results that came together, a record for the answers that
//! came together. A record is `kind (1) · length (4) · xxh3 of kind, length and body (8) · body`, integers little-endian.
//! When little of the file is alive it is written anew beside itself and renamed. A process killed at any byte leaves
//! at worst a torn tail, which the next start cuts off.
//!
//! Nothing is synced: a machine that loses power may lose results here, and then their photos are done again. The
//! disk is a convenience, the cluster's log is the truth.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rebound_proto::v1;
use thiserror::Error;
use tracing::{debug, warn};
use xxhash_rust::xxh3::xxh3_64;

use crate::machine::limits::{MAX_BATCH_BYTES, MAX_CLUSTER_BYTES, MAX_RESULT_BYTES, RESULT_OVERHEAD_BYTES};
use crate::machine::{Attempt, Spooled, TaskKey, TaskRange, columns};

/// The spool's file in the data directory.
pub const SPOOL_FILE: &str = "spool";

/// First bytes of the file: name and format.
const MAGIC: &[u8; 8] = b"RBSPOOL1";

const HEADER_BYTES: usize = 13;
const RANGE_BYTES: usize = 32;
const KIND_RESULTS: u8 = 1;
const KIND_REMOVED: u8 = 2;

/// Results of one record take no more than this, beside the last of them.
const RECORD_BYTES: usize = MAX_BATCH_BYTES;

/// Longest body of a record. Longer removals are split.
pub const MAX_BODY_BYTES: usize =
    RECORD_BYTES + MAX_RESULT_BYTES + RESULT_OVERHEAD_BYTES + MAX_CLUSTER_BYTES + 2;

/// A file smaller than this is not written anew, whatever of it is alive.
pub const COMPACT_ABOVE_BYTES: u64 = 4 * 1024 * 1024;

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

/// The spool's file, open for appending.
pub struct Spool {
    path: PathBuf,
    file: File,
    /// End of the last whole record.
    end: u64,
    /// Taken in and not yet written.
    pending: Vec<Spooled>,
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
            pending: Vec::new(),
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
        let (mut results, mut order) = (BTreeMap::new(), 0u64);
        let file = self.file.try_clone().map_err(|error| self.error(error))?;
        let mut reader = BufReader::with_capacity(1 << 16, At { file, at: self.end });
        while let Some((kind, body)) = next_record(&mut reader).map_err(|error| self.error(error))? {
            if !replay(kind, &body, &mut order, &mut results) {
                break;
            }
            self.end += (HEADER_BYTES + body.len()) as u64;
        }
        if self.end < len {
            warn!(bytes = len - self.end, file = %self.path.display(), "the spool's torn tail is cut off");
            self.file.set_len(self.end).map_err(|error| self.error(error))?;
        }
        let mut results: Vec<(u64, Spooled)> = results.into_values().collect();
        results.sort_by_key(|(order, _)| *order);
        Ok(results.into_iter().map(|(_, one)| one).collect())
    }

    /// Takes a result in; it is on disk once [`Spool::flush`] has written it.
    pub fn add(&mut self, spooled: Spooled) {
        self.pending.push(spooled);
    }

    /// True when all that was taken in is written.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes what was taken in, all at once. After an error the file is as before, and what was taken in is not kept.
    pub fn flush(&mut self) -> Result<(), SpoolError> {
        if self.is_flushed() {
            return Ok(());
        }
        let records = records(&std::mem::take(&mut self.pending));
        self.append(&records)
    }

    /// Drops results. After an error they may come back at the next start, which does no harm: they are answered again.
    pub fn remove(&mut self, ranges: &[TaskRange]) -> Result<(), SpoolError> {
        self.flush()?;
        let mut records = Vec::new();
        for some in ranges.chunks(MAX_BODY_BYTES / RANGE_BYTES) {
            let body: Vec<u8> = some.iter().flat_map(range_bytes).collect();
            record(KIND_REMOVED, &body, &mut records);
        }
        self.append(&records)
    }

    /// Writes what is alive into a new file and takes that one, if little of the file is: `live_bytes` is what `live`
    /// takes.
    pub fn compact<'a>(
        &mut self,
        live_bytes: usize,
        live: impl Iterator<Item = &'a Spooled>,
    ) -> Result<(), SpoolError> {
        if self.end <= COMPACT_ABOVE_BYTES || live_bytes as u64 > self.end / 2 {
            return Ok(());
        }
        self.pending.clear();
        let live: Vec<Spooled> = live.cloned().collect();
        let beside = self.path.with_extension("new");
        let (file, end) = write_anew(&beside, &live).map_err(|error| self.error(error))?;
        std::fs::rename(&beside, &self.path).map_err(|error| self.error(error))?;
        debug!(before = self.end, after = end, "the spool was written anew");
        (self.file, self.end) = (file, end);
        Ok(())
    }

    /// Writes behind the last whole record, and leaves nothing behind if that fails.
    fn append(&mut self, records: &[u8]) -> Result<(), SpoolError> {
        let written = self.file.write_all_at(records, self.end);
        if written.is_err()
            && let Err(error) = self.file.set_len(self.end)
        {
            warn!(%error, file = %self.path.display(), "a record cut short cannot be taken back");
        }
        written.map_err(|error| self.error(error))?;
        self.end += records.len() as u64;
        Ok(())
    }
}

fn write_anew(path: &Path, live: &[Spooled]) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.mode(0o600).open(path)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(records(live));
    file.write_all_at(&bytes, 0)?;
    Ok((file, bytes.len() as u64))
}

/// Takes one record of the file; false when it makes no sense.
fn replay(kind: u8, body: &[u8], order: &mut u64, results: &mut BTreeMap<TaskKey, (u64, Spooled)>) -> bool {
    match kind {
        KIND_RESULTS => {
            let Some(spooled) = decode(body) else { return false };
            for one in spooled {
                *order += 1;
                results.insert(one.attempt.task, (*order, one));
            }
        }
        KIND_REMOVED if body.len().is_multiple_of(RANGE_BYTES) => {
            for range in body.chunks_exact(RANGE_BYTES).filter_map(range_of) {
                let here = results.range(range.first_key()..=range.last_key());
                let here: Vec<TaskKey> = here.map(|(task, _)| *task).collect();
                here.iter().for_each(|task| drop(results.remove(task)));
            }
        }
        _ => return false,
    }
    true
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

fn record(kind: u8, body: &[u8], into: &mut Vec<u8>) {
    into.push(kind);
    into.extend_from_slice(&(body.len() as u32).to_le_bytes());
    into.extend_from_slice(&checksum(kind, body).to_le_bytes());
    into.extend_from_slice(body);
}

/// Results as records: those of one cluster together, up to a bound.
fn records(spooled: &[Spooled]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut rest = spooled;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |one: &&Spooled| {
            let fits = bytes < RECORD_BYTES && one.cluster == first.cluster;
            bytes += one.attempt.output.len() + RESULT_OVERHEAD_BYTES;
            fits
        };
        let count = rest.iter().take_while(fits).count();
        let (some, others) = rest.split_at(count);
        record(KIND_RESULTS, &encode(&first.cluster, some), &mut records);
        rest = others;
    }
    records
}

fn encode(cluster: &str, spooled: &[Spooled]) -> Vec<u8> {
    let runs = columns::together(spooled.iter().map(|one| &one.attempt).collect());
    let results = v1::Results {
        runs,
        ..v1::Results::default()
    };
    let mut body = (cluster.len() as u16).to_le_bytes().to_vec();
    body.extend_from_slice(cluster.as_bytes());
    results.encode_raw(&mut body);
    body
}

fn decode(body: &[u8]) -> Option<Vec<Spooled>> {
    let (len, rest) = body.split_first_chunk::<2>()?;
    let (cluster, results) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let cluster: Arc<str> = std::str::from_utf8(cluster).ok()?.into();
    let results = v1::Results::decode(Bytes::copy_from_slice(results)).ok()?;
    let mut spooled = Vec::new();
    for run in results.runs {
        let attempts: Vec<Attempt> = columns::apart(run)?;
        spooled.extend(attempts.into_iter().map(|attempt| Spooled {
            cluster: cluster.clone(),
            attempt,
        }));
    }
    Some(spooled)
}

fn range_bytes(range: &TaskRange) -> [u8; RANGE_BYTES] {
    let mut bytes = [0; RANGE_BYTES];
    let numbers = [range.job, range.given, range.first, range.last];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn range_of(bytes: &[u8]) -> Option<TaskRange> {
    let mut numbers = bytes.chunks_exact(8).map(|number| {
        let number: Option<[u8; 8]> = number.try_into().ok();
        number.map(u64::from_le_bytes)
    });
    let mut next = || numbers.next().flatten();
    let (job, given, first, last) = (next()?, next()?, next()?, next()?);
    (first <= last).then_some(TaskRange {
        job,
        given,
        first,
        last,
    })
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
