//! Idempotency keys: what was asked under a key, and which job it made.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::table::Table;
use crate::types::{EnvId, JobId, Time};

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Of the open request: canonical spec, and the photos when all are in it.
    pub digest: u128,
    /// What it made.
    pub job: JobId,
    /// Until when it is remembered.
    pub until: Time,
}

/// All keys, by hash: clients choose them, so the hash is a cryptographic one.
pub struct Keys {
    pub(crate) table: Table<(EnvId, u128), Known>,
}

impl Keys {
    pub(crate) fn new(number: u8) -> Self {
        Keys {
            table: Table::new(number),
        }
    }

    pub(crate) fn get(&self, env: EnvId, key: &[u8]) -> Option<Known> {
        self.table.get(&(env, hash(&[key]))).copied()
    }

    pub(crate) fn insert(&mut self, env: EnvId, key: &[u8], known: Known) {
        self.table.insert((env, hash(&[key])), known);
    }

    pub(crate) fn check(&self) {
        self.table.check();
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
