//! The pairs of a snapshot: cut into checked chunks by the sender, and checked as they come.

use bytes::Bytes;
use rebound_proto::v1::{SnapshotChunk, SnapshotPair};
use rocksdb::{IteratorMode, ReadOptions};
use xxhash_rust::xxh3::Xxh3;

use super::Disk;
use super::generations::handles;

/// Format of chunks. Another one is refused.
pub const CHUNK_FORMAT: u32 = 1;
/// Bytes of keys and values after which a chunk is full. One record more may be in it.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes read ahead of a chunk.
const READ_AHEAD_BYTES: usize = 2 * CHUNK_BYTES;

/// Live records.
pub(super) const STATE_FAMILY: u32 = 0;
/// Records that only the disk has.
pub const KEPT_FAMILY: u32 = 1;

/// Checks chunks as they come: format, order, checksum, families.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    next: u64,
    whole: bool,
}

impl Order {
    /// Whether this is the next chunk, and whole.
    pub fn next(&mut self, chunk: &SnapshotChunk) -> Result<(), String> {
        if chunk.format != CHUNK_FORMAT {
            return Err(format!("chunk format {} is not {CHUNK_FORMAT}", chunk.format));
        }
        if self.whole || chunk.number != self.next {
            return Err(format!("chunk {} came where {} should", chunk.number, self.next));
        }
        if checksum(&chunk.pairs) != chunk.checksum {
            return Err(format!("chunk {} has another checksum", chunk.number));
        }
        let strange = chunk.pairs.iter().find(|pair| pair.family > KEPT_FAMILY);
        if let Some(pair) = strange {
            return Err(format!("unknown family {}", pair.family));
        }
        self.next += 1;
        self.whole = chunk.last;
        Ok(())
    }

    /// True when the last chunk has come.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

/// Cuts a pinned view of `disk` into chunks, of which one is in memory. `each` says whether to go on; the answer is whether all were taken.
/// `pinned` is called once the view is fixed: what is written later is not in it.
pub fn chunks(
    disk: &Disk,
    pinned: impl FnOnce(),
    mut each: impl FnMut(SnapshotChunk) -> bool,
) -> Result<bool, rocksdb::Error> {
    let view = disk.db.snapshot();
    // Both are opened now: a generation that is replaced meanwhile goes for all but open iterators.
    let records = handles(&disk.db, disk.live()).map(|family| {
        let mut options = ReadOptions::default();
        // Read once: it must not push out what reads need.
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD_BYTES);
        view.iterator_cf_opt(family, options, IteratorMode::Start)
    });
    pinned();
    let mut cutter = Cutter::default();
    for (family, records) in [STATE_FAMILY, KEPT_FAMILY].into_iter().zip(records) {
        for item in records {
            let (key, value) = item?;
            let full = cutter.put(SnapshotPair {
                family,
                key: Bytes::from(key),
                value: Bytes::from(value),
            });
            if full.is_some_and(|chunk| !each(chunk)) {
                return Ok(false);
            }
        }
    }
    Ok(each(cutter.end()))
}

/// Gathers pairs into chunks.
#[derive(Default)]
pub struct Cutter {
    number: u64,
    pairs: Vec<SnapshotPair>,
    bytes: usize,
}

impl Cutter {
    /// Takes a pair; the chunk that is full with it, if one is.
    pub fn put(&mut self, pair: SnapshotPair) -> Option<SnapshotChunk> {
        self.bytes += pair.key.len() + pair.value.len();
        self.pairs.push(pair);
        (self.bytes >= CHUNK_BYTES).then(|| self.cut(false))
    }

    /// The last chunk.
    pub fn end(mut self) -> SnapshotChunk {
        self.cut(true)
    }

    fn cut(&mut self, last: bool) -> SnapshotChunk {
        self.bytes = 0;
        self.number += 1;
        chunk(self.number - 1, std::mem::take(&mut self.pairs), last)
    }
}

fn chunk(number: u64, pairs: Vec<SnapshotPair>, last: bool) -> SnapshotChunk {
    SnapshotChunk {
        format: CHUNK_FORMAT,
        number,
        checksum: checksum(&pairs),
        pairs,
        last,
    }
}

fn checksum(pairs: &[SnapshotPair]) -> u64 {
    let mut hash = Xxh3::new();
    for pair in pairs {
        hash.update(&pair.family.to_be_bytes());
        for part in [&pair.key, &pair.value] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(family: u32, key: &'static [u8]) -> SnapshotPair {
        SnapshotPair {
            family,
            key: Bytes::from_static(key),
            value: Bytes::from_static(b"value"),
        }
    }

    #[test]
    fn chunks_are_taken_in_order_and_whole() {
        let mut order = Order::default();
        order.next(&chunk(0, vec![pair(0, b"a")], false)).unwrap();
        let early = order.next(&chunk(2, vec![], false)).unwrap_err();
        assert!(early.contains("chunk 2 came where 1 should"), "{early}");
        assert!(!order.is_whole());
        order.next(&chunk(1, vec![pair(1, b"b")], true)).unwrap();
        assert!(order.is_whole());
        let late = order.next(&chunk(2, vec![], true));
        assert!(late.is_err(), "nothing comes after the last");
    }

    #[test]
    fn a_changed_byte_and_a_strange_family_or_format_are_refused() {
        let refused = |chunk: SnapshotChunk| Order::default().next(&chunk).unwrap_err();
        let mut bad = chunk(0, vec![pair(0, b"a")], true);
        bad.pairs[0].value = Bytes::from_static(b"valuf");
        assert!(refused(bad).contains("checksum"));
        assert!(refused(chunk(0, vec![pair(2, b"a")], true)).contains("family 2"));
        let other = SnapshotChunk {
            format: 9,
            ..chunk(0, vec![], true)
        };
        assert!(refused(other).contains("format 9"));
    }
}
