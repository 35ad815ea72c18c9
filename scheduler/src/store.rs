//! A server's data directory: one RocksDB with a column family for each kind of record and one log of writes.
//!
//! An order is written as at most two batches. The first, {entries, hard state}, is synced when the order asks for
//! it; the second, {state, kept records, digests, the log's cut}, never is. Both are in one log of writes, so what
//! is found after a crash is a prefix of what was written: state is never newer than the entries it came from, and
//! the log is never cut further than the state reaches. A write that fails ends the process: what the disk holds
//! is then unknown, and going on could tell others something that is not there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::replica::{Recovered, parse_log_entry};
use rebound_core::state::{NEWER, Plant, State};
use rebound_core::types::{Index, Term};
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use tokio::sync::watch;

use crate::config::StoreConfig;
use crate::offline::OfflineStore;

pub mod aside;
pub mod error;
pub(crate) mod generations;
pub mod identity;
mod open;
pub mod pairs;
pub mod photos;
pub mod promised;
pub mod thread;
mod wal;

use aside::Aside;
pub use error::StoreError;
pub(crate) use error::failed;
use generations::{Generation, Turn, handles};
use identity::Identity;
use open::{is_empty, make_dir, open_db};
use promised::Promised;

/// Families, in the order they are opened.
pub const FAMILIES: [&str; 7] = [LOG, META, STATE, KEPT, ARCHIVE, STATE_B, KEPT_B];
/// raft's entries by index.
pub const LOG: &str = "log";
/// What there is one of, and digests.
pub const META: &str = "meta";
/// Live records, of the first generation.
const STATE: &str = "state";
/// Records that only the disk has, of the first generation.
const KEPT: &str = "kept";
/// Live records of the other generation; see [`generations`].
const STATE_B: &str = "state-b";
/// Records that only the disk has, of the other generation.
const KEPT_B: &str = "kept-b";
/// Entries that were cut from the log.
pub const ARCHIVE: &str = "archive";

/// Most bytes of entries moved to the archive in one batch.
const ARCHIVE_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Greater than every key.
const KEY_END: [u8; 64] = [0xff; 64];

pub(crate) const HARD_STATE: &[u8] = b"hard_state";
pub(crate) const COMPACTED: &[u8] = b"compacted";
pub(crate) const DIGEST_PREFIX: &[u8] = b"digest/";

/// RocksDB as readers and the writer share it.
pub struct Disk {
    /// The database.
    pub db: DB,
    /// Where it is.
    pub dir: PathBuf,
    turn: Turn,
    /// After `db`, so that whoever waits for its end hears of it when the database is closed, not when it begins to.
    open: watch::Sender<()>,
}

impl Disk {
    /// Resolves when the database is closed, by whichever thread let go of it last. A process that ends before that
    /// is aborted by RocksDB, whose threads then use what the process has already torn down.
    pub fn closed(&self) -> impl Future<Output = ()> + use<> {
        let mut open = self.open.subscribe();
        async move { while open.changed().await.is_ok() {} }
    }

    /// The generation of state and kept records that counts.
    pub(crate) fn live(&self) -> Generation {
        self.turn.live()
    }

    /// The kept records that count.
    pub(crate) fn kept(&self) -> &rocksdb::ColumnFamily {
        handles(&self.db, self.live())[1]
    }

    /// True once a flush or a compaction has failed.
    pub fn failed_in_background(&self) -> bool {
        let errors = self.db.property_int_value("rocksdb.background-errors");
        errors.ok().flatten().unwrap_or(0) > 0
    }

    /// RocksDB's memory in bytes, by use. Blocks read are in one cache that all families share.
    pub fn memory(&self) -> [(&'static str, u64); 3] {
        let of = |name: &str, property: &str| {
            let value = self.db.property_int_value_cf(family(&self.db, name), property);
            value.ok().flatten().unwrap_or(0)
        };
        let sum = |property: &str| FAMILIES.iter().map(|name| of(name, property)).sum();
        [
            ("block_cache", of(LOG, "rocksdb.block-cache-usage")),
            ("memtables", sum("rocksdb.size-all-mem-tables")),
            ("table_readers", sum("rocksdb.estimate-table-readers-mem")),
        ]
    }
}

/// An open data directory. There is one writer.
pub struct Store {
    disk: Arc<Disk>,
    identity: Identity,
    promised: Promised,
    /// Entries that are cut off go to the archive.
    archive: bool,
    /// Last entry cut off, with its term.
    compacted: (Index, Term),
    /// Last entry of the log, or the one cut off last.
    last: Index,
}

impl Store {
    /// Makes a data directory for a new cluster. The directory must be empty or missing.
    pub fn init(dir: &Path, identity: &Identity, config: &StoreConfig) -> Result<(), StoreError> {
        if !is_empty(dir)? {
            return Err(StoreError::NotEmpty(dir.to_owned()));
        }
        make_dir(dir).map_err(|error| failed(dir, error))?;
        let db = open_db(dir, config, true)?;
        let mut batch = WriteBatch::default();
        identity.put(&mut batch, family(&db, META));
        batch.put_cf(family(&db, META), COMPACTED, pair_bytes((0, 0)));
        db.write_opt(batch, &synced()).map_err(|error| failed(dir, error))
    }

    /// Whose directory this is; `None` when nothing is there.
    pub fn identity_in(dir: &Path) -> Result<Option<Identity>, StoreError> {
        match is_empty(dir)? {
            true => Ok(None),
            // Something else is there.
            false => match OfflineStore::open(dir) {
                Err(StoreError::Empty(dir)) => Err(StoreError::NotEmpty(dir)),
                found => found?.meta().map(Some),
            },
        }
    }

    /// Opens a data directory of this server, in a cluster of this name.
    pub fn open(
        dir: &Path,
        cluster: &str,
        server: u64,
        config: &StoreConfig,
        archive: bool,
    ) -> Result<Store, StoreError> {
        if is_empty(dir)? {
            return Err(StoreError::Empty(dir.to_owned()));
        }
        let unreadable = wal::make_readable(dir).map_err(|error| failed(dir, error))?;
        if unreadable > 0 {
            tracing::error!(dir = %dir.display(), records = unreadable, "the log of writes is damaged");
        }
        let db = open_db(dir, config, false)?;
        let identity = Identity::read(&db, dir)?;
        if identity.cluster.rsplit_once('-').map(|(name, _)| name) != Some(cluster) {
            let (found, expected) = (identity.cluster, cluster.to_owned());
            return Err(StoreError::OtherCluster {
                dir: dir.to_owned(),
                found,
                expected,
            });
        }
        if identity.server != server {
            return Err(StoreError::OtherServer {
                dir: dir.to_owned(),
                found: identity.server,
                expected: server,
            });
        }
        let promised = Promised::check(dir, db.latest_sequence_number())?;
        let mut batch = WriteBatch::default();
        Identity::put_format(&mut batch, family(&db, META));
        db.write_opt(batch, &synced())
            .map_err(|error| failed(dir, error))?;
        let compacted = read_compacted(&db, dir)?;
        let live = live(&db, dir)?;
        // Left over from a snapshot that did not come whole, or was installed.
        live.other().clear(&db).map_err(|error| failed(dir, error))?;
        let disk = Arc::new(Disk {
            db,
            dir: dir.to_owned(),
            turn: Turn::new(live),
            open: watch::Sender::new(()),
        });
        Ok(Store {
            disk,
            identity,
            promised,
            archive,
            compacted,
            last: compacted.0,
        })
    }

    /// Who this directory belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For reads.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Reads all that a replica starts from. Kept records stay on disk.
    pub fn recover(&mut self, plant: Plant) -> Result<Recovered, StoreError> {
        let hard_state = get(&self.disk.db, &self.disk.dir, META, HARD_STATE)?.map(Bytes::from);
        let entries = self.scan_log()?;
        self.last = self.compacted.0 + entries.len() as u64;
        let state = read_state(&self.disk.db, &self.disk.dir, self.disk.live(), plant)?;
        Ok(Recovered {
            hard_state,
            compacted: self.compacted,
            entries,
            state,
        })
    }

    fn scan_log(&self) -> Result<Vec<Bytes>, StoreError> {
        let Disk { db, dir, .. } = &*self.disk;
        let corrupt = |why: String| StoreError::Corrupt {
            dir: dir.clone(),
            what: "the log",
            why,
        };
        let mut entries = Vec::new();
        let records = db.iterator_cf(family(db, LOG), IteratorMode::Start);
        for (expected, item) in (self.compacted.0 + 1..).zip(records) {
            let (key, value) = item.map_err(|error| failed(dir, error))?;
            let index = index_of(&key).ok_or_else(|| corrupt(format!("a key of {} bytes", key.len())))?;
            if index != expected {
                return Err(corrupt(format!("entry {index} is where {expected} should be")));
            }
            entries.push(Bytes::from(value));
        }
        Ok(entries)
    }

    /// Writes one order; `received` is the snapshot that the order installs. Panics when the disk fails: see the
    /// module.
    pub fn write(&mut self, order: &Persist, received: Option<Aside>) {
        let mut batch = WriteBatch::default();
        let installed = order.install.map(|at| {
            let aside = received.expect("an installed snapshot was received");
            self.install(at, &aside, &mut batch);
            aside
        });
        self.put_entries(&order.entries, &mut batch);
        if let Some(hard) = &order.hard_state {
            batch.put_cf(family(&self.disk.db, META), HARD_STATE, hard);
        }
        if !batch.is_empty() || order.sync {
            match order.sync || order.install.is_some() {
                true => self.commit_synced(batch),
                false => self.commit(batch, &WriteOptions::default()),
            }
        }
        if let Some(aside) = installed {
            aside.installed();
        }
        let mut batch = WriteBatch::default();
        self.put_applied(order, &mut batch);
        if !batch.is_empty() {
            self.commit(batch, &WriteOptions::default());
        }
        if let Some(cut) = order.compacted {
            self.cut_log(cut);
        }
    }

    fn commit(&self, batch: WriteBatch, options: &WriteOptions) {
        if let Err(error) = self.disk.db.write_opt(batch, options) {
            self.write_failed(error);
        }
    }

    fn commit_synced(&self, batch: WriteBatch) {
        // Others write beside this one: only what was written before it is certainly synced with it.
        let (before, len) = (self.disk.db.latest_sequence_number(), batch.len() as u64);
        self.commit(batch, &synced());
        if let Err(error) = self.promised.note(before + len) {
            self.write_failed(error);
        }
    }

    fn write_failed(&self, error: impl std::fmt::Display) -> ! {
        panic!(
            "data_dir {}: a write failed, so this server stops: {error}",
            self.disk.dir.display()
        );
    }

    /// Entries take the place of whatever is at and after the first of them.
    fn put_entries(&mut self, entries: &[(Index, Bytes)], batch: &mut WriteBatch) {
        let Some((new_last, _)) = entries.last() else {
            return;
        };
        let log = family(&self.disk.db, LOG);
        for (index, bytes) in entries {
            batch.put_cf(log, index.to_be_bytes(), bytes);
        }
        for stale in new_last + 1..=self.last {
            batch.delete_cf(log, stale.to_be_bytes());
        }
        self.last = *new_last;
    }

    fn put_applied(&self, order: &Persist, batch: &mut WriteBatch) {
        let meta = family(&self.disk.db, META);
        let [state, kept] = handles(&self.disk.db, self.disk.live());
        for (key, value) in &order.state {
            match value {
                Some(value) => batch.put_cf(state, key, value),
                None => batch.delete_cf(state, key),
            }
        }
        for (key, value) in &order.kept {
            batch.put_cf(kept, key, value);
        }
        for (from, to) in &order.kept_gone {
            batch.delete_range_cf(kept, &from[..], &to[..]);
        }
        for (index, digest) in &order.digests {
            batch.put_cf(meta, digest_key(*index), digest.0.to_be_bytes());
        }
    }

    /// A received snapshot takes the place of state, kept records and log, all by the order's synced batch.
    fn install(&mut self, at: (Index, Term), aside: &Aside, batch: &mut WriteBatch) {
        aside.put(batch);
        batch.delete_range_cf(family(&self.disk.db, LOG), &[][..], &KEY_END[..]);
        batch.put_cf(family(&self.disk.db, META), COMPACTED, pair_bytes(at));
        self.compacted = at;
        self.last = at.0;
    }

    /// Cuts the log after its entries were applied; into the archive piece by piece, so that no batch is large.
    fn cut_log(&mut self, (index, term): (Index, Term)) {
        if !self.archive {
            let mut batch = WriteBatch::default();
            let end = (index + 1).to_be_bytes();
            batch.delete_range_cf(family(&self.disk.db, LOG), &0u64.to_be_bytes()[..], &end[..]);
            batch.put_cf(family(&self.disk.db, META), COMPACTED, pair_bytes((index, term)));
            self.commit(batch, &WriteOptions::default());
            self.compacted = (index, term);
            return;
        }
        while self.compacted.0 < index {
            self.archive_some(index);
        }
        assert_eq!(
            self.compacted,
            (index, term),
            "the log on disk is the one in memory"
        );
    }

    fn archive_some(&mut self, up_to: Index) {
        let (log, archive) = (family(&self.disk.db, LOG), family(&self.disk.db, ARCHIVE));
        let mut batch = WriteBatch::default();
        let mut cut = self.compacted;
        while cut.0 < up_to && batch.size_in_bytes() < ARCHIVE_BATCH_BYTES {
            let key = (cut.0 + 1).to_be_bytes();
            let bytes = match self.disk.db.get_cf(log, key) {
                Ok(Some(bytes)) => Bytes::from(bytes),
                other => panic!(
                    "data_dir {}: log entry {} cannot be read: {other:?}",
                    self.disk.dir.display(),
                    cut.0 + 1
                ),
            };
            let Ok((index, term, _)) = parse_log_entry(&bytes) else {
                panic!(
                    "data_dir {}: log entry {} is unreadable",
                    self.disk.dir.display(),
                    cut.0 + 1
                );
            };
            batch.put_cf(archive, key, &bytes);
            cut = (index, term);
        }
        let end = (cut.0 + 1).to_be_bytes();
        batch.delete_range_cf(log, &0u64.to_be_bytes()[..], &end[..]);
        batch.put_cf(family(&self.disk.db, META), COMPACTED, pair_bytes(cut));
        self.commit(batch, &WriteOptions::default());
        self.compacted = cut;
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.disk
            .db
            .flush_wal(true)
            .map_err(|error| failed(&self.disk.dir, error))
    }
}

/// A family that was opened with the directory.
pub(crate) fn family<'a>(db: &'a DB, name: &str) -> &'a rocksdb::ColumnFamily {
    db.cf_handle(name).expect("all families are opened together")
}

/// Which generation of state and kept records counts.
pub(crate) fn live(db: &DB, dir: &Path) -> Result<Generation, StoreError> {
    Generation::live(db).map_err(|why| StoreError::Corrupt {
        dir: dir.to_owned(),
        what: "which of its generations counts",
        why,
    })
}

/// The state from its records, one of which is in memory besides it.
pub(crate) fn read_state(
    db: &DB,
    dir: &Path,
    generation: Generation,
    plant: Plant,
) -> Result<State, StoreError> {
    let [state, _] = handles(db, generation);
    let mut broken = None;
    let records = db.iterator_cf(state, IteratorMode::Start);
    let records = records.map_while(|item| item.map_err(|error| broken = Some(error)).ok());
    let loaded = State::load(records, plant);
    if let Some(error) = broken {
        return Err(failed(dir, error));
    }
    loaded.map_err(|error| match error.why {
        NEWER => StoreError::Newer(dir.to_owned()),
        _ => StoreError::Corrupt {
            dir: dir.to_owned(),
            what: "the state",
            why: error.to_string(),
        },
    })
}

pub(crate) fn read_compacted(db: &DB, dir: &Path) -> Result<(Index, Term), StoreError> {
    let bytes = get(db, dir, META, COMPACTED)?.unwrap_or_default();
    let read = || {
        let (index, rest) = bytes.split_first_chunk()?;
        Some((
            u64::from_be_bytes(*index),
            u64::from_be_bytes(rest.try_into().ok()?),
        ))
    };
    let why = || format!("{} bytes where 16 should be", bytes.len());
    read().ok_or_else(|| StoreError::Corrupt {
        dir: dir.to_owned(),
        what: "where the log begins",
        why: why(),
    })
}

pub(crate) fn get(db: &DB, dir: &Path, name: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    db.get_cf(family(db, name), key)
        .map_err(|error| failed(dir, error))
}

pub(crate) fn index_of(key: &[u8]) -> Option<Index> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn digest_key(index: Index) -> Vec<u8> {
    [DIGEST_PREFIX, &index.to_be_bytes()].concat()
}

fn pair_bytes((index, term): (Index, Term)) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&index.to_be_bytes());
    bytes[8..].copy_from_slice(&term.to_be_bytes());
    bytes
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[cfg(test)]
mod aside_tests;
#[cfg(test)]
mod promised_tests;
#[cfg(test)]
mod tests;
