//! Reads of a data directory whose server is stopped, for audits. Nothing is written.

use std::path::Path;

use bytes::Bytes;
use rebound_core::state::{Plant, State};
use rebound_core::table::Digest;
use rebound_core::types::{Index, Term};
use rocksdb::{DB, Direction, IteratorMode, Options};

use crate::store::generations::{Generation, handles};
use crate::store::identity::Identity;
use crate::store::{
    ARCHIVE, DIGEST_PREFIX, HARD_STATE, LOG, META, StoreError, failed, family, get, index_of, live,
    read_compacted, read_state,
};

/// A key and its value, or why the disk could not be read.
pub type Record = Result<(Bytes, Bytes), StoreError>;

/// A data directory, opened for reading alone.
pub struct OfflineStore {
    db: DB,
    dir: std::path::PathBuf,
    live: Generation,
}

impl OfflineStore {
    /// Opens a data directory. Its server must be stopped: what a running one writes is not seen.
    pub fn open(dir: &Path) -> Result<OfflineStore, StoreError> {
        if !dir.join("CURRENT").exists() {
            return Err(StoreError::Empty(dir.to_owned()));
        }
        let options = Options::default();
        // One of an older format has fewer than this build's.
        let families = DB::list_cf(&options, dir).map_err(|error| failed(dir, error))?;
        let db =
            DB::open_cf_for_read_only(&options, dir, families, false).map_err(|error| failed(dir, error))?;
        Identity::read(&db, dir)?;
        let live = live(&db, dir)?;
        Ok(OfflineStore {
            db,
            dir: dir.to_owned(),
            live,
        })
    }

    /// Whom it belongs to.
    pub fn meta(&self) -> Result<Identity, StoreError> {
        Identity::read(&self.db, &self.dir)
    }

    /// Entries by index, those that were cut off and archived first. Where a snapshot was installed, entries may be
    /// missing before it.
    pub fn log_entries(&self) -> impl Iterator<Item = Result<(Index, Bytes), StoreError>> + '_ {
        let of = |name| self.records(name, &[]);
        of(ARCHIVE).chain(of(LOG)).map(|record| {
            let (key, value) = record?;
            let why = || format!("a key of {} bytes", key.len());
            let corrupt = || StoreError::Corrupt {
                dir: self.dir.clone(),
                what: "the log",
                why: why(),
            };
            Ok((index_of(&key).ok_or_else(corrupt)?, value))
        })
    }

    /// The last entry that was cut from the log, and its term.
    pub fn compacted(&self) -> Result<(Index, Term), StoreError> {
        read_compacted(&self.db, &self.dir)
    }

    /// raft's hard state.
    pub fn hard_state(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(get(&self.db, &self.dir, META, HARD_STATE)?.map(Bytes::from))
    }

    /// The digests that were noted, by index.
    pub fn digests(&self) -> Result<Vec<(Index, Digest)>, StoreError> {
        let corrupt = |why: &str| StoreError::Corrupt {
            dir: self.dir.clone(),
            what: "a digest",
            why: why.to_owned(),
        };
        let digest = |record: Record| {
            let (key, value) = record?;
            let index =
                index_of(&key[DIGEST_PREFIX.len()..]).ok_or_else(|| corrupt("its key has another length"))?;
            let value = <[u8; 16]>::try_from(&value[..]).map_err(|_| corrupt("it has not 16 bytes"))?;
            Ok((index, Digest(u128::from_be_bytes(value))))
        };
        self.records(META, DIGEST_PREFIX).map(digest).collect()
    }

    /// The state.
    pub fn state(&self) -> Result<State, StoreError> {
        read_state(&self.db, &self.dir, self.live, Plant::None)
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> Result<Index, StoreError> {
        Ok(self.state()?.applied())
    }

    /// Live records, as they are on disk.
    pub fn state_pairs(&self) -> impl Iterator<Item = Record> + '_ {
        self.records(self.live.families()[0], &[])
    }

    /// The last kept record whose key is not after this one.
    pub fn kept_at_or_before(&self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        let mode = IteratorMode::From(key, Direction::Reverse);
        let found = self
            .db
            .iterator_cf(handles(&self.db, self.live)[1], mode)
            .next()
            .transpose();
        let found = found.map_err(|error| failed(&self.dir, error))?;
        Ok(found.map(|(key, value)| (key.into(), value.into())))
    }

    /// Kept records whose keys begin with `prefix`.
    pub fn kept_iter(&self, prefix: &[u8]) -> impl Iterator<Item = Record> + '_ {
        self.records(self.live.families()[1], prefix)
    }

    fn records(&self, name: &str, prefix: &[u8]) -> impl Iterator<Item = Record> + use<'_> {
        let prefix = prefix.to_vec();
        let records = self.db.iterator_cf(
            family(&self.db, name),
            IteratorMode::From(&prefix, Direction::Forward),
        );
        let records = records.map(|item| match item {
            Ok((key, value)) => Ok((Bytes::from(key), Bytes::from(value))),
            Err(error) => Err(failed(&self.dir, error)),
        });
        records.take_while(move |item| item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
    }
}
