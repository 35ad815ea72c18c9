//! A snapshot on its way in: its chunks go to disk as they come, beside what counts, and are checked there. Memory
//! holds one chunk, and at the end the live records, as any server does.

use std::sync::Arc;

use rebound_core::replica::snapshot::About;
use rebound_core::state::{Plant, State};
use rebound_core::table::{Digest, record_hash};
use rebound_proto::v1::SnapshotChunk;
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};

use super::Disk;
use super::generations::{Generation, handles};
use super::pairs::{Order, STATE_FAMILY};

/// See the module. Dropped without being installed, it leaves nothing.
pub struct Aside {
    disk: Arc<Disk>,
    generation: Generation,
    order: Order,
    bytes: u64,
    kept: Digest,
}

impl Aside {
    /// Takes the place beside what counts; `None` while another snapshot is there. What may be left in it goes.
    pub fn begin(disk: &Arc<Disk>) -> Option<Aside> {
        if !disk.turn.take_other() {
            return None;
        }
        let aside = Aside {
            disk: disk.clone(),
            generation: disk.live().other(),
            order: Order::default(),
            bytes: 0,
            kept: Digest::default(),
        };
        aside.clear();
        Some(aside)
    }

    /// Takes the next chunk in; `most` is how many bytes of keys and values the snapshot may have. A disk that fails
    /// ends the process, as with every other write.
    pub fn take(&mut self, chunk: &SnapshotChunk, most: u64) -> Result<(), String> {
        self.order.next(chunk)?;
        let [state, kept] = handles(&self.disk.db, self.generation);
        let mut batch = WriteBatch::default();
        for pair in &chunk.pairs {
            self.bytes += (pair.key.len() + pair.value.len()) as u64;
            if pair.family == STATE_FAMILY {
                batch.put_cf(state, &pair.key, &pair.value);
            } else {
                self.kept.add(record_hash(&pair.key, &pair.value));
                batch.put_cf(kept, &pair.key, &pair.value);
            }
        }
        if self.bytes > most {
            return Err(format!("more than {most} bytes; raise limits.snapshot_bytes"));
        }
        let mut options = WriteOptions::default();
        // What this server writes of itself goes before.
        options.set_low_pri(true);
        self.ended(self.disk.db.write_opt(batch, &options));
        Ok(())
    }

    /// True when the last chunk has come.
    pub fn is_whole(&self) -> bool {
        self.order.is_whole()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The state from the records on disk, if all that came is what was described.
    pub fn load(&self, about: &About, plant: Plant) -> Result<Box<State>, String> {
        let [state, _] = handles(&self.disk.db, self.generation);
        let records = self.disk.db.iterator_cf(state, IteratorMode::Start);
        let loaded = State::load(records.map(|item| self.ended(item)), plant);
        let loaded = loaded.map_err(|error| error.to_string())?;
        match about.differs(&loaded, self.kept) {
            None => Ok(Box::new(loaded)),
            Some(why) => Err(why),
        }
    }

    /// It takes its turn once `batch` is written.
    pub(super) fn put(&self, batch: &mut WriteBatch) {
        assert!(self.is_whole(), "only a whole snapshot is installed");
        self.generation.put(&self.disk.db, batch);
    }

    /// The write that [`Aside::put`] was for is durable.
    pub(super) fn installed(mut self) {
        self.disk.turn.set(self.generation);
        // What it replaced is what goes.
        self.generation = self.generation.other();
    }

    fn clear(&self) {
        self.ended(self.generation.clear(&self.disk.db));
    }

    fn ended<T>(&self, done: Result<T, rocksdb::Error>) -> T {
        match done {
            Ok(done) => done,
            Err(error) => panic!(
                "data_dir {}: a snapshot cannot be kept, so this server stops: {error}",
                self.disk.dir.display()
            ),
        }
    }
}

impl Drop for Aside {
    /// What did not take its turn goes, or what it took the place of.
    fn drop(&mut self) {
        self.clear();
        self.disk.turn.give_other_back();
    }
}
