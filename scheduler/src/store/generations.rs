//! State and kept records are in two places on disk, of which one counts. A received snapshot is built in the other,
//! which takes its turn by one byte in one synced write, together with the log's new beginning. Whenever the process
//! ends, one of the two counts and is whole; what the other holds is left over from something that was not finished,
//! or was replaced, and goes at the next start.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rocksdb::{ColumnFamily, DB, IteratorMode, WriteBatch};

use super::{KEPT, KEPT_B, META, STATE, STATE_B, family};

/// Which generation counts, in `meta`: one byte. Missing: the first.
const LIVE: &[u8] = b"live";
/// Greater than every key.
const KEY_END: [u8; 64] = [0xff; 64];

/// One of the two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u8);

impl Generation {
    /// Reads which one counts.
    pub(crate) fn live(db: &DB) -> Result<Generation, String> {
        let found = db
            .get_cf(family(db, META), LIVE)
            .map_err(|error| error.to_string())?;
        match found.as_deref() {
            None | Some([0]) => Ok(Generation(0)),
            Some([1]) => Ok(Generation(1)),
            Some(other) => Err(format!("{other:?} names no generation")),
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Generation {
        Generation(1 - self.0)
    }

    /// Its families: state and kept records.
    pub(crate) fn families(self) -> [&'static str; 2] {
        match self.0 {
            0 => [STATE, KEPT],
            _ => [STATE_B, KEPT_B],
        }
    }

    /// Makes it the one that counts, once `batch` is written.
    pub(super) fn put(self, db: &DB, batch: &mut WriteBatch) {
        batch.put_cf(family(db, META), LIVE, [self.0]);
    }

    /// Takes away all that is in it. Iterators that are open keep what they see; a pinned view alone does not.
    pub(super) fn clear(self, db: &DB) -> Result<(), rocksdb::Error> {
        for name in self.families() {
            let family = family(db, name);
            if db
                .iterator_cf(family, IteratorMode::Start)
                .next()
                .transpose()?
                .is_none()
            {
                continue;
            }
            // Whole files at once, and what is left by a mark that compaction heeds.
            db.delete_file_in_range_cf(family, &[][..], &KEY_END[..])?;
            db.delete_range_cf(family, &[][..], &KEY_END[..])?;
        }
        Ok(())
    }
}

/// Which generation counts, as readers and the writer share it, and whether the other one is in use.
pub(super) struct Turn {
    live: AtomicU8,
    other_taken: AtomicBool,
}

impl Turn {
    pub(super) fn new(live: Generation) -> Turn {
        Turn {
            live: AtomicU8::new(live.0),
            other_taken: AtomicBool::new(false),
        }
    }

    pub(super) fn live(&self) -> Generation {
        Generation(self.live.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, live: Generation) {
        self.live.store(live.0, Ordering::Release);
    }

    /// False when somebody has the other generation.
    pub(super) fn take_other(&self) -> bool {
        !self.other_taken.swap(true, Ordering::AcqRel)
    }

    pub(super) fn give_other_back(&self) {
        self.other_taken.store(false, Ordering::Release);
    }
}

/// State and kept records of a generation.
pub(crate) fn handles(db: &DB, generation: Generation) -> [&ColumnFamily; 2] {
    generation.families().map(|name| family(db, name))
}
