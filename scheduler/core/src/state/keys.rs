//! Idempotency keys: what was asked under a key, and which job it made. A key is remembered for a time from when its
//! job was opened, and its job at least as long; jobs are opened in the order of their ids, so keys expire in it, too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::table::once::OnceTable;
use crate::types::{EnvId, JobId};

/// 16 bytes of a hash, as two numbers: a row with them packs more tightly than one with a `u128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hash([u64; 2]);

impl From<u128> for Hash {
    fn from(hash: u128) -> Self {
        Hash([(hash >> 64) as u64, hash as u64])
    }
}

/// What was asked, kept under the job it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Of the key. Clients choose keys, so it is a cryptographic one.
    pub key: Hash,
    /// Of the open request: canonical spec, and the photos when all are in it.
    pub digest: Hash,
}

/// All keys.
pub struct Keys {
    pub(crate) table: OnceTable<(EnvId, JobId), Asked>,
    /// The first half of each key's hash, to find it by.
    by_key: BTreeSet<(u64, JobId)>,
    /// How many an environment has.
    counts: BTreeMap<EnvId, u64>,
    /// The oldest key of each environment.
    oldest: BTreeSet<(JobId, EnvId)>,
}

impl Keys {
    pub(crate) fn new(number: u8) -> Self {
        Keys {
            table: OnceTable::new(number),
            by_key: BTreeSet::new(),
            counts: BTreeMap::new(),
            oldest: BTreeSet::new(),
        }
    }

    /// The job that a key made and the digest of what was asked, whether or not its time is over.
    pub fn get(&self, env: EnvId, key: &[u8]) -> Option<(JobId, Hash)> {
        let key = Hash::from(hash(&[key]));
        let alike = self
            .by_key
            .range((key.0[0], JobId(0))..=(key.0[0], JobId(u64::MAX)));
        alike.map(|(_, job)| *job).find_map(|job| {
            let asked = self.table.get(&(env, job))?;
            (asked.key == key).then_some((job, asked.digest))
        })
    }

    /// How many keys an environment has.
    pub fn count(&self, env: EnvId) -> u64 {
        self.counts.get(&env).copied().unwrap_or(0)
    }

    /// The oldest key of an environment, by its job.
    pub fn oldest_of(&self, env: EnvId) -> Option<JobId> {
        self.of(env).next()
    }

    /// Environments that have keys, that with the oldest one first.
    pub fn environments(&self) -> impl Iterator<Item = EnvId> + '_ {
        self.oldest.iter().map(|(_, env)| *env)
    }

    /// The keys of an environment by their jobs, the oldest first.
    pub fn of(&self, env: EnvId) -> impl Iterator<Item = JobId> + '_ {
        let all = (env, JobId(0))..=(env, JobId(u64::MAX));
        self.table.range(all).map(|((_, job), _)| *job)
    }

    pub(crate) fn insert(&mut self, env: EnvId, key: &[u8], job: JobId, digest: u128) {
        let (key, digest) = (Hash::from(hash(&[key])), Hash::from(digest));
        self.table.insert((env, job), Asked { key, digest });
        self.index(env, job, key);
    }

    fn index(&mut self, env: EnvId, job: JobId, key: Hash) {
        self.by_key.insert((key.0[0], job));
        let count = self.counts.entry(env).or_default();
        *count += 1;
        if *count == 1 {
            self.oldest.insert((job, env));
        }
    }

    /// Forgets the key that made a job, if it has one that is remembered.
    pub(crate) fn remove(&mut self, env: EnvId, job: JobId) -> bool {
        let Some(asked) = self.table.remove(&(env, job)) else {
            return false;
        };
        self.by_key.remove(&(asked.key.0[0], job));
        let count = self.counts.get_mut(&env).expect("counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&env);
        }
        if self.oldest.remove(&(job, env))
            && let Some(next) = self.oldest_of(env)
        {
            self.oldest.insert((next, env));
        }
        true
    }

    pub(crate) fn reindex(&mut self) {
        self.by_key.clear();
        self.counts.clear();
        self.oldest.clear();
        // In order, so the first of each environment is its oldest.
        let rows: Vec<_> = self.table.iter().map(|(at, asked)| (*at, asked.key)).collect();
        for ((env, job), key) in rows {
            self.index(env, job, key);
        }
    }

    pub(crate) fn check(&self) {
        self.table.check();
        assert_eq!(self.by_key.len(), self.table.len());
        let mut counts: BTreeMap<EnvId, u64> = BTreeMap::new();
        let mut oldest: BTreeMap<EnvId, JobId> = BTreeMap::new();
        for ((env, job), asked) in self.table.iter() {
            assert!(self.by_key.contains(&(asked.key.0[0], *job)));
            *counts.entry(*env).or_default() += 1;
            oldest.entry(*env).or_insert(*job);
        }
        assert_eq!(counts, self.counts);
        let oldest: BTreeSet<_> = oldest.into_iter().map(|(env, job)| (job, env)).collect();
        assert_eq!(oldest, self.oldest);
    }
}

/// The first 16 bytes of sha256 over the parts, each after its length.
pub fn hash(parts: &[&[u8]]) -> u128 {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    let bytes: [u8; 32] = sha.finalize().into();
    u128::from_be_bytes(*bytes.first_chunk().expect("sha256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment may have a million of them.
    #[test]
    fn a_key_takes_no_more_than_64_bytes() {
        let row = size_of::<(EnvId, JobId)>() + size_of::<Asked>();
        let index = size_of::<(u64, JobId)>();
        assert_eq!((row, index), (48, 16));
    }

    #[test]
    fn keys_are_found_in_their_environment_alone() {
        let mut keys = Keys::new(4);
        let (paris, berlin) = (EnvId(1), EnvId(2));
        keys.insert(paris, b"monday", JobId(7), 1);
        keys.insert(berlin, b"monday", JobId(8), 2);
        keys.insert(paris, b"tuesday", JobId(9), 3);
        assert_eq!(keys.get(paris, b"monday"), Some((JobId(7), Hash::from(1))));
        assert_eq!(keys.get(berlin, b"monday"), Some((JobId(8), Hash::from(2))));
        assert_eq!(keys.get(berlin, b"tuesday"), None);
        assert_eq!((keys.count(paris), keys.oldest_of(paris)), (2, Some(JobId(7))));
        assert_eq!(keys.environments().collect::<Vec<_>>(), [paris, berlin]);
        assert!(keys.remove(paris, JobId(7)) && !keys.remove(paris, JobId(7)));
        assert_eq!(keys.get(paris, b"monday"), None);
        assert_eq!((keys.count(paris), keys.oldest_of(paris)), (1, Some(JobId(9))));
        assert_eq!(keys.environments().collect::<Vec<_>>(), [berlin, paris]);
        keys.table.settle(&mut Vec::new());
        keys.check();
    }
}
