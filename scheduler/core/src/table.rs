//! A typed table of replicated state: an ordered map that notes what each apply changed and keeps a digest of all
//! it holds, so that the driver writes exactly those keys and a digest at any index costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_128;

use crate::key::Key;

pub mod once;

/// Format of records on disk and in snapshots, and of entries. An unknown one stops the replica. 1 had a string for each
/// photo.
pub const RECORD_FORMAT: u8 = 5;

/// A sum of hashes modulo 2^128: the order of changes does not matter.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(pub u128);

impl Digest {
    /// Adds one record.
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// Takes one record away.
    pub fn sub(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Hash of one record, as summed in a [`Digest`]. The key's length comes first, so that no two records share bytes.
pub fn record_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut bytes = Vec::with_capacity(8 + key.len() + value.len());
    bytes.extend_from_slice(&(key.len() as u64).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    xxh3_128(&bytes)
}

/// One change for the disk: a key of all tables together, and its new value, or none.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A record on disk that cannot be read: the process must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {key:02x?} of table {table}: {why}")]
pub struct Corrupt {
    /// The table's number.
    pub table: u8,
    /// The record's key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub why: &'static str,
}

#[derive(Clone)]
struct Row<V> {
    value: V,
    /// Of the value as last settled; 0 when it is not in the digest.
    hash: u128,
}

/// An ordered map with a number of its own among all tables.
#[derive(Clone)]
pub struct Table<K, V> {
    number: u8,
    rows: BTreeMap<K, Row<V>>,
    digest: Digest,
    dirty: BTreeSet<K>,
    /// Hashes of removed rows that are still in the digest.
    removed: Digest,
}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    /// An empty table; `number` is the first byte of its keys on disk, for ever.
    pub fn new(number: u8) -> Self {
        Table {
            number,
            rows: BTreeMap::new(),
            digest: Digest::default(),
            dirty: BTreeSet::new(),
            removed: Digest::default(),
        }
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// The row of a key, which is noted as changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        self.dirty.insert(key.clone());
        Some(&mut row.value)
    }

    /// Puts a row, in place of any other.
    pub fn insert(&mut self, key: K, value: V) {
        self.dirty.insert(key.clone());
        match self.rows.get_mut(&key) {
            Some(row) => row.value = value,
            None => {
                self.rows.insert(key, Row { value, hash: 0 });
            }
        }
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.removed.add(row.hash);
        self.dirty.insert(key.clone());
        Some(row.value)
    }

    /// The disk is not told of a row that changed: a mistake, which only planted bugs make.
    pub(crate) fn forget_change(&mut self, key: &K) {
        self.dirty.remove(key);
    }

    /// All rows in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// Rows of a range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, row)| (key, &row.value))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The digest of all rows, changed ones included once settled.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Brings the digest up to date and hands out what changed since the last time.
    pub fn settle(&mut self, changes: &mut Vec<Change>) {
        self.digest.sub(std::mem::take(&mut self.removed).0);
        for key in std::mem::take(&mut self.dirty) {
            let bytes = self.key_bytes(&key);
            let Some(row) = self.rows.get_mut(&key) else {
                changes.push((bytes, None));
                continue;
            };
            let value = encode(&row.value);
            let hash = record_hash(&bytes, &value);
            self.digest.sub(row.hash);
            self.digest.add(hash);
            row.hash = hash;
            changes.push((bytes, Some(value)));
        }
    }

    /// Takes one record of this table in, as it was on disk. `key` is without the table's number.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
        let corrupt = |why| Corrupt {
            table: self.number,
            key: key.to_vec(),
            why,
        };
        let mut rest = key;
        let parsed = K::take(&mut rest)
            .filter(|_| rest.is_empty())
            .ok_or_else(|| corrupt("key of another shape"))?;
        let decoded: V = decode(value).map_err(corrupt)?;
        let bytes = self.key_bytes(&parsed);
        let hash = record_hash(&bytes, value);
        self.digest.add(hash);
        self.rows.insert(parsed, Row { value: decoded, hash });
        Ok(())
    }

    /// Hands every row to `each` as it is on disk, in order. The table must be settled.
    pub fn dump(&self, mut each: impl FnMut(Vec<u8>, Vec<u8>)) {
        assert!(self.dirty.is_empty());
        for (key, row) in &self.rows {
            each(self.key_bytes(key), encode(&row.value));
        }
    }

    /// Recounts the digest from the rows. Only for a settled table.
    pub fn check(&self) {
        assert!(self.dirty.is_empty());
        assert_eq!(self.removed, Digest::default());
        let mut digest = Digest::default();
        self.dump(|key, value| digest.add(record_hash(&key, &value)));
        assert_eq!(digest, self.digest, "digest of table {}", self.number);
    }

    fn key_bytes(&self, key: &K) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        bytes.push(self.number);
        key.put(&mut bytes);
        bytes
    }
}

/// A record as bytes: its format, then the value by position. The encoding of a value is unique, so equal values
/// have equal digests on every replica.
pub fn encode<V: Serialize>(value: &V) -> Vec<u8> {
    let out = vec![RECORD_FORMAT];
    postcard::to_extend(value, out).expect("a vector takes any record")
}

/// The other way.
pub fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, &'static str> {
    match bytes.split_first() {
        Some((&RECORD_FORMAT, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err("bytes behind the record"),
            Err(_) => Err("unreadable record"),
        },
        Some(_) => Err("unknown format"),
        None => Err("empty record"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However rows come and go, the digest is that of what is there, and the changes rebuild the table.
        #[test]
        fn digest_is_of_what_is_there(ops in prop::collection::vec((0u64..20, prop::option::of(0u32..5), any::<bool>()), 0..200)) {
            let mut table: Table<u64, u32> = Table::new(9);
            let mut disk = BTreeMap::new();
            let mut changes = Vec::new();
            for (key, value, settle) in ops {
                match value {
                    Some(value) => table.insert(key, value),
                    None => { table.remove(&key); }
                }
                if settle {
                    table.settle(&mut changes);
                }
            }
            table.settle(&mut changes);
            table.check();
            for (key, value) in changes {
                match value {
                    Some(value) => { disk.insert(key, value); }
                    None => { disk.remove(&key); }
                }
            }
            let mut again: Table<u64, u32> = Table::new(9);
            for (key, value) in &disk {
                again.load(&key[1..], value).unwrap();
            }
            prop_assert_eq!(again.digest(), table.digest());
            prop_assert_eq!(again.len(), table.len());
        }
    }

    #[test]
    #[should_panic(expected = "digest of table 9")]
    fn a_digest_that_is_not_of_the_rows_is_found() {
        let mut table: Table<u64, u32> = Table::new(9);
        table.insert(1, 2);
        table.settle(&mut Vec::new());
        table.digest.add(1);
        table.check();
    }

    #[test]
    fn bad_records_are_named() {
        let mut table: Table<u64, u32> = Table::new(9);
        assert_eq!(
            table.load(&[1], &encode(&1u32)).unwrap_err().why,
            "key of another shape"
        );
        assert_eq!(table.load(&[0; 8], &[]).unwrap_err().why, "empty record");
        assert_eq!(table.load(&[0; 8], &[99, 1]).unwrap_err().why, "unknown format");
        assert_eq!(
            table.load(&[0; 8], &[RECORD_FORMAT, 1, 1]).unwrap_err().why,
            "bytes behind the record"
        );
    }
}
