//! How far RocksDB's log of writes was synced when this server last ran, beside the database.
//!
//! A write that was cut off by a crash and one that was synced and is damaged since look the same in that log: RocksDB
//! takes what is before and starts. Without a second witness a server would forget what it had promised, and vote
//! twice. The number of the last synced write is put into a file of its own after each sync, and never synced itself:
//! it is never ahead of the database, and a loss of power at most leaves it behind. A database that ends before it is
//! damaged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::{StoreError, failed};

/// Name of the file in the data directory.
pub const FILE: &str = "PROMISED";

/// See the module.
pub(super) struct Promised {
    file: File,
}

impl Promised {
    /// Opens the file, or makes it, and compares it with the database, whose last write has the number `last`.
    pub fn check(dir: &Path, last: u64) -> Result<Promised, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(FILE));
        let promised = Promised {
            file: file.map_err(|error| failed(dir, error))?,
        };
        match promised.read() {
            Some(synced) if synced > last => Err(StoreError::Forgot {
                dir: dir.to_owned(),
                last,
                synced,
            }),
            _ => Ok(promised),
        }
    }

    /// The number that was noted last; none when nothing whole is there, as after a loss of power.
    fn read(&self) -> Option<u64> {
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (number, sum) = bytes.split_at(8);
        let sum = u64::from_be_bytes(sum.try_into().ok()?);
        (xxh3_64(number) == sum)
            .then(|| u64::from_be_bytes(number.try_into().expect("half of sixteen bytes")))
    }

    /// Notes that this write and all before it are synced.
    pub fn note(&self, number: u64) -> std::io::Result<()> {
        let number = number.to_be_bytes();
        let sum = xxh3_64(&number).to_be_bytes();
        self.file.write_all_at(&[number, sum].concat(), 0)
    }
}
