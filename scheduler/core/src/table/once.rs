//! A table whose rows are never changed, only put and taken away: no hash is kept beside them, so that a small row
//! stays small. On disk and in digests it is as any other table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, Corrupt, Digest, decode, encode, record_hash};
use crate::key::Key;

/// See the module.
pub struct OnceTable<K, V> {
    number: u8,
    rows: BTreeMap<K, V>,
    digest: Digest,
    dirty: BTreeSet<K>,
    /// Hashes of removed rows that are still in the digest.
    removed: Digest,
}

impl<K: Key, V: Serialize + DeserializeOwned> OnceTable<K, V> {
    /// An empty table; `number` is the first byte of its keys on disk, for ever.
    pub fn new(number: u8) -> Self {
        OnceTable {
            number,
            rows: BTreeMap::new(),
            digest: Digest::default(),
            dirty: BTreeSet::new(),
            removed: Digest::default(),
        }
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Puts a row where there is none.
    pub fn insert(&mut self, key: K, value: V) {
        self.dirty.insert(key.clone());
        let before = self.rows.insert(key, value);
        assert!(before.is_none(), "rows of table {} are not changed", self.number);
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.rows.remove(key)?;
        // A row that was put since the last call of `settle` is not in the digest.
        if self.dirty.insert(key.clone()) {
            self.removed
                .add(record_hash(&self.key_bytes(key), &encode(&value)));
        }
        Some(value)
    }

    /// All rows in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// Rows of a range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The digest of all rows, once settled.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Brings the digest up to date and hands out what changed since the last time.
    pub fn settle(&mut self, changes: &mut Vec<Change>) {
        self.digest.sub(std::mem::take(&mut self.removed).0);
        for key in std::mem::take(&mut self.dirty) {
            let bytes = self.key_bytes(&key);
            let value = self.rows.get(&key).map(encode);
            if let Some(value) = &value {
                self.digest.add(record_hash(&bytes, value));
            }
            changes.push((bytes, value));
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
        self.digest.add(record_hash(&self.key_bytes(&parsed), value));
        self.rows.insert(parsed, decoded);
        Ok(())
    }

    /// Hands every row to `each` as it is on disk, in order. The table must be settled.
    pub fn dump(&self, mut each: impl FnMut(Vec<u8>, Vec<u8>)) {
        assert!(self.dirty.is_empty());
        for (key, value) in &self.rows {
            each(self.key_bytes(key), encode(value));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use proptest::prelude::*;

    proptest! {
        /// However rows come and go, digest, changes and dump are those of the table that keeps hashes.
        #[test]
        fn it_is_as_any_other_table(ops in prop::collection::vec((0u64..20, prop::option::of(0u32..5), any::<bool>()), 0..200)) {
            let (mut once, mut any): (OnceTable<u64, u32>, Table<u64, u32>) = (OnceTable::new(9), Table::new(9));
            for (key, value, settle) in ops {
                once.remove(&key);
                any.remove(&key);
                if let Some(value) = value {
                    once.insert(key, value);
                    any.insert(key, value);
                }
                if settle {
                    let (mut one, mut other) = (Vec::new(), Vec::new());
                    once.settle(&mut one);
                    any.settle(&mut other);
                    prop_assert_eq!(one, other);
                    once.check();
                }
                prop_assert_eq!(once.get(&key), any.get(&key));
            }
            once.settle(&mut Vec::new());
            any.settle(&mut Vec::new());
            prop_assert_eq!(once.digest(), any.digest());
            prop_assert_eq!(once.len(), any.len());
            let mut again: OnceTable<u64, u32> = OnceTable::new(9);
            once.dump(|key, value| again.load(&key[1..], &value).unwrap());
            prop_assert_eq!(again.digest(), once.digest());
        }
    }
}
