//! The pairs of a snapshot: cut into checked chunks by the sender, collected and checked by the receiver.

use bytes::Bytes;
use rebound_proto::v1::{SnapshotChunk, SnapshotPair};
use rocksdb::{DB, IteratorMode, ReadOptions};
use xxhash_rust::xxh3::Xxh3;

use super::{KEPT, STATE, family};

/// Format of chunks. Another one is refused.
pub const CHUNK_FORMAT: u32 = 1;
/// Bytes of keys and values after which a chunk is full. One record more may be in it.
pub const CHUNK_BYTES: usize = 1024 * 1024;

const STATE_FAMILY: u32 = 0;
const KEPT_FAMILY: u32 = 1;

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// All pairs of a received snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Live records.
    pub state: Vec<Pair>,
    /// Records that only the disk has.
    pub kept: Vec<Pair>,
    bytes: u64,
    next: u64,
    whole: bool,
}

impl Pairs {
    /// Takes the next chunk in; `most` is how many bytes the snapshot may have.
    pub fn take(&mut self, chunk: SnapshotChunk, most: u64) -> Result<(), String> {
        if chunk.format != CHUNK_FORMAT {
            return Err(format!("chunk format {} is not {CHUNK_FORMAT}", chunk.format));
        }
        if self.whole || chunk.number != self.next {
            return Err(format!("chunk {} came where {} should", chunk.number, self.next));
        }
        if checksum(&chunk.pairs) != chunk.checksum {
            return Err(format!("chunk {} has another checksum", chunk.number));
        }
        for pair in chunk.pairs {
            self.bytes += (pair.key.len() + pair.value.len()) as u64;
            match pair.family {
                STATE_FAMILY => self.state.push((pair.key, pair.value)),
                KEPT_FAMILY => self.kept.push((pair.key, pair.value)),
                other => return Err(format!("unknown family {other}")),
            }
        }
        if self.bytes > most {
            return Err(format!("more than {most} bytes; raise limits.snapshot_bytes"));
        }
        self.next += 1;
        self.whole = chunk.last;
        Ok(())
    }

    /// True when the last chunk has come.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Cuts a pinned view of `db` into chunks. `each` says whether to go on; the answer is whether all were taken.
/// `pinned` is called once the view is fixed: what is written later is not in it.
pub fn chunks(
    db: &DB,
    pinned: impl FnOnce(),
    mut each: impl FnMut(SnapshotChunk) -> bool,
) -> Result<bool, rocksdb::Error> {
    let view = db.snapshot();
    pinned();
    let (mut number, mut pairs, mut bytes) = (0, Vec::new(), 0);
    for (number_of_family, name) in [(STATE_FAMILY, STATE), (KEPT_FAMILY, KEPT)] {
        let mut options = ReadOptions::default();
        // Read once: it must not push out what reads need.
        options.fill_cache(false);
        for item in view.iterator_cf_opt(family(db, name), options, IteratorMode::Start) {
            let (key, value) = item?;
            bytes += key.len() + value.len();
            pairs.push(SnapshotPair {
                family: number_of_family,
                key: Bytes::from(key),
                value: Bytes::from(value),
            });
            if bytes >= CHUNK_BYTES {
                if !each(chunk(number, std::mem::take(&mut pairs), false)) {
                    return Ok(false);
                }
                (number, bytes) = (number + 1, 0);
            }
        }
    }
    Ok(each(chunk(number, pairs, true)))
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
        let mut pairs = Pairs::default();
        pairs.take(chunk(0, vec![pair(0, b"a")], false), 100).unwrap();
        assert!(
            pairs
                .take(chunk(2, vec![], false), 100)
                .unwrap_err()
                .contains("chunk 2 came where 1 should")
        );
        pairs.take(chunk(1, vec![pair(1, b"b")], true), 100).unwrap();
        assert!(pairs.is_whole());
        assert_eq!((pairs.state.len(), pairs.kept.len(), pairs.bytes()), (1, 1, 12));
        assert!(
            pairs.take(chunk(2, vec![], true), 100).is_err(),
            "nothing comes after the last"
        );
    }

    #[test]
    fn a_changed_byte_a_strange_family_and_too_much_are_refused() {
        let mut bad = chunk(0, vec![pair(0, b"a")], true);
        bad.pairs[0].value = Bytes::from_static(b"valuf");
        assert!(Pairs::default().take(bad, 100).unwrap_err().contains("checksum"));
        assert!(
            Pairs::default()
                .take(chunk(0, vec![pair(2, b"a")], true), 100)
                .unwrap_err()
                .contains("family 2")
        );
        assert!(
            Pairs::default()
                .take(chunk(0, vec![pair(0, b"a")], true), 5)
                .unwrap_err()
                .contains("snapshot_bytes")
        );
        let other = SnapshotChunk {
            format: 9,
            ..chunk(0, vec![], true)
        };
        assert!(
            Pairs::default()
                .take(other, 100)
                .unwrap_err()
                .contains("format 9")
        );
    }
}
