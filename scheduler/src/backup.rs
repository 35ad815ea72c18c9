//! A backup: the stream that a follower gets as a snapshot, in a file.
//!
//! The file begins with [`MAGIC`] and the format as 4 bytes. Then come frames, each with its length in 4 bytes and its
//! xxh3 in 8, big-endian: first the head, which says what the backup is of, then chunks up to the last. Nothing is
//! behind it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use rebound_core::key::kept_job;
use rebound_core::replica::snapshot::{About, about};
use rebound_core::state::{Plant, State};
use rebound_core::table::{Digest, record_hash};
use rebound_core::types::JobId;
use rebound_core::version::{OtherVersion, Versions};
use rebound_proto::v1;
use rebound_proto::v1::snapshot_frame::Body;
use xxhash_rust::xxh3::xxh3_64;

use crate::peers::FRAME_BYTES_MAX;
use crate::store::pairs::{KEPT_FAMILY, Order};

/// What every backup begins with.
pub const MAGIC: [u8; 8] = *b"RBNDBKUP";
/// Format of the file. Another one is refused.
pub const FILE_FORMAT: u32 = 5;
/// Jobs named of those whose kept records are not what they should be.
pub const JOBS_NAMED_MAX: usize = 16;

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system.
    #[error("{}: {why}", file.display())]
    Io { file: PathBuf, why: io::Error },
    /// Something else's.
    #[error("{}: is no backup; `rebound operator snapshot save` makes one", .0.display())]
    Foreign(PathBuf),
    /// Another build's.
    #[error("{}: has format {found}, this build reads {FILE_FORMAT}", file.display())]
    OtherFormat { file: PathBuf, found: u32 },
    /// A newer build's.
    #[error("{}: {why}", file.display())]
    OtherVersion { file: PathBuf, why: OtherVersion },
    /// The end is missing.
    #[error("{}: is cut off at byte {at}: the end is missing; take another copy of it", file.display())]
    Cut { file: PathBuf, at: u64 },
    /// Bytes that are not what they were.
    #[error("{}: is damaged at byte {at}: {what}; take another copy of it", file.display())]
    Damaged { file: PathBuf, at: u64, what: String },
    /// Each part is whole, and together they are not what the head says.
    #[error("{}: is not what it says it is: {what}", file.display())]
    Differs { file: PathBuf, what: String },
}

/// Writes a backup, frame by frame, checking what it writes.
pub struct BackupWriter {
    file: BufWriter<File>,
    path: PathBuf,
    about: Option<About>,
    order: Order,
    bytes: u64,
}

impl BackupWriter {
    /// Into a new file that only its owner may read.
    pub fn create(path: &Path) -> Result<BackupWriter, BackupError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let failed = |why| BackupError::Io {
            file: path.to_owned(),
            why,
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let mut writer = BackupWriter {
            file: BufWriter::new(file.map_err(failed)?),
            path: path.to_owned(),
            about: None,
            order: Order::default(),
            bytes: 0,
        };
        writer.write(&MAGIC)?;
        writer.write(&FILE_FORMAT.to_be_bytes())?;
        Ok(writer)
    }

    /// Takes the next frame in.
    pub fn put(&mut self, frame: &v1::SnapshotFrame) -> Result<(), BackupError> {
        let differs = |what: String| BackupError::Differs {
            file: self.path.clone(),
            what,
        };
        match (&frame.body, &self.about) {
            (Some(Body::Head(head)), None) => self.about = Some(about(&head.message).map_err(differs)?),
            (Some(Body::Chunk(chunk)), Some(_)) => self.order.next(chunk).map_err(differs)?,
            _ => return Err(differs("a frame of another kind was due".to_owned())),
        }
        let bytes = frame.encode_to_vec();
        self.write(&(bytes.len() as u32).to_be_bytes())?;
        self.write(&xxh3_64(&bytes).to_be_bytes())?;
        self.write(&bytes)
    }

    /// True when the last chunk is written.
    pub fn is_whole(&self) -> bool {
        self.order.is_whole()
    }

    /// Makes it durable; what it is of, and its length in bytes.
    pub fn finish(mut self) -> Result<(About, u64), BackupError> {
        let path = self.path.clone();
        let failed = |why| BackupError::Io {
            file: path.clone(),
            why,
        };
        self.file.flush().map_err(failed)?;
        self.file.get_ref().sync_all().map_err(failed)?;
        match self.about {
            Some(about) if self.order.is_whole() => Ok((about, self.bytes)),
            _ => Err(BackupError::Cut {
                file: self.path,
                at: self.bytes,
            }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|why| BackupError::Io {
            file: self.path.clone(),
            why,
        })
    }
}

/// Reads a backup, one chunk in memory at a time.
pub struct BackupReader {
    file: BufReader<File>,
    path: PathBuf,
    about: About,
    order: Order,
    at: u64,
}

impl BackupReader {
    /// Opens it and reads its head.
    pub fn open(path: &Path) -> Result<BackupReader, BackupError> {
        let failed = |why| BackupError::Io {
            file: path.to_owned(),
            why,
        };
        let file = File::open(path).map_err(failed)?;
        let mut reader = BackupReader {
            file: BufReader::new(file),
            path: path.to_owned(),
            about: About::of(&State::new(Plant::None)),
            order: Order::default(),
            at: 0,
        };
        let mut magic = [0; MAGIC.len()];
        if !reader.fill(&mut magic)? || magic != MAGIC {
            return Err(BackupError::Foreign(path.to_owned()));
        }
        let mut format = [0; 4];
        reader
            .fill(&mut format)?
            .then_some(())
            .ok_or_else(|| reader.cut())?;
        let found = u32::from_be_bytes(format);
        if found != FILE_FORMAT {
            let file = path.to_owned();
            return Err(BackupError::OtherFormat { file, found });
        }
        let begin = reader.at;
        let Some(Body::Head(head)) = reader.frame()? else {
            return Err(reader.damaged(begin, "it does not begin with its head"));
        };
        reader.about = about(&head.message).map_err(|why| reader.damaged(begin, &why))?;
        let allowed = Versions::OURS.allow(reader.about.version);
        let file = path.to_owned();
        allowed.map_err(|why| BackupError::OtherVersion { file, why })?;
        Ok(reader)
    }

    /// What it says it is of.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// The next chunk; `None` behind the last.
    pub fn chunk(&mut self) -> Result<Option<v1::SnapshotChunk>, BackupError> {
        let begin = self.at;
        if self.order.is_whole() {
            return match self.fill(&mut [0])? {
                false => Ok(None),
                true => Err(self.damaged(begin, "something is behind its end")),
            };
        }
        let Some(Body::Chunk(chunk)) = self.frame()? else {
            return Err(self.damaged(begin, "a chunk was due"));
        };
        self.order.next(&chunk).map_err(|why| self.damaged(begin, &why))?;
        Ok(Some(chunk))
    }

    fn frame(&mut self) -> Result<Option<Body>, BackupError> {
        let begin = self.at;
        let (mut length, mut sum) = ([0; 4], [0; 8]);
        if !self.fill(&mut length)? || !self.fill(&mut sum)? {
            return Err(self.cut());
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged(begin, "a frame is too long"));
        }
        let mut bytes = vec![0; length];
        if !self.fill(&mut bytes)? {
            return Err(self.cut());
        }
        if xxh3_64(&bytes) != u64::from_be_bytes(sum) {
            return Err(self.damaged(begin, "a frame has another checksum"));
        }
        let frame = v1::SnapshotFrame::decode(Bytes::from(bytes));
        let frame = frame.map_err(|_| self.damaged(begin, "a frame is unreadable"))?;
        Ok(frame.body)
    }

    /// False when the file ends first.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, BackupError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(why) => Err(BackupError::Io {
                file: self.path.clone(),
                why,
            }),
        }
    }

    fn cut(&self) -> BackupError {
        BackupError::Cut {
            file: self.path.clone(),
            at: self.at,
        }
    }

    fn damaged(&self, at: u64, what: &str) -> BackupError {
        BackupError::Damaged {
            file: self.path.clone(),
            at,
            what: what.to_owned(),
        }
    }
}

/// All of a backup, read through.
pub struct Contents {
    /// What it says it is of.
    pub about: About,
    /// The state in it.
    pub state: State,
    /// Live records.
    pub records: u64,
    /// Records that only disks have.
    pub kept: u64,
    /// Bytes of the file.
    pub bytes: u64,
    sum: Digest,
    sums: BTreeMap<JobId, Digest>,
}

impl Contents {
    /// Reads a backup through. Memory holds its live records, as a server does.
    pub fn read(path: &Path) -> Result<Contents, BackupError> {
        let mut reader = BackupReader::open(path)?;
        let (mut live, mut kept, mut sum, mut sums) = (Vec::new(), 0, Digest::default(), BTreeMap::new());
        while let Some(chunk) = reader.chunk()? {
            for pair in chunk.pairs {
                if pair.family != KEPT_FAMILY {
                    // Copied out, so that the chunk goes.
                    live.push((pair.key.to_vec(), pair.value.to_vec()));
                    continue;
                }
                kept += 1;
                let hash = record_hash(&pair.key, &pair.value);
                sum.add(hash);
                let job = kept_job(&pair.key).unwrap_or_default();
                sums.entry(job).or_insert_with(Digest::default).add(hash);
            }
        }
        let records = live.len() as u64;
        let state = State::load(live.into_iter(), Plant::None).map_err(|error| BackupError::Differs {
            file: path.to_owned(),
            what: error.to_string(),
        })?;
        Ok(Contents {
            about: reader.about.clone(),
            state,
            records,
            kept,
            bytes: reader.bytes(),
            sum,
            sums,
        })
    }

    /// What is not as the backup says, each as a sentence. Everything is counted anew.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        differences.extend(self.about.differs(&self.state, self.sum));
        let jobs = self.state.jobs_that_differ(&self.sums, JOBS_NAMED_MAX);
        differences.extend(
            jobs.iter()
                .map(|job| format!("the kept records of job {job} are not what was written")),
        );
        differences
    }
}
