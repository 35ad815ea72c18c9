//! Whom a data directory belongs to.

use std::path::Path;

use rebound_core::state::members::Founder;
use rebound_core::table::{decode, encode};
use rocksdb::{ColumnFamily, DB, WriteBatch};

use super::{META, StoreError, get};

/// Format of the data directory. A newer one is refused.
pub const FORMAT: u64 = 7;
/// The oldest format that is taken. Records and entries of older ones are of a format that is read no more.
pub const FORMAT_OLDEST: u64 = 7;

const CLUSTER: &[u8] = b"cluster";
const SERVER: &[u8] = b"server";
const INCARNATION: &[u8] = b"incarnation";
const FOUNDERS: &[u8] = b"founders";
const FORMAT_KEY: &[u8] = b"format";

/// Whom a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: String,
    /// The server's id.
    pub server: u64,
    /// Drawn when the directory was made: a server that lost its disk has another one.
    pub incarnation: u64,
    /// The servers that the cluster begins with; empty on one that was added later. Once the cluster has begun, its
    /// state says who is a member.
    pub founders: Vec<Founder>,
}

impl Identity {
    /// That of a new directory.
    pub fn draw(cluster: String, server: u64, founders: Vec<Founder>) -> Identity {
        Identity {
            cluster,
            server,
            incarnation: rand::random::<u64>().max(1),
            founders,
        }
    }

    /// That of a founder's new directory. Of several founders none begins without the others, and those know a founder
    /// that lost its disk. A single one would begin again at once, after its disk was lost and other servers were added:
    /// so the id of its cluster ends with a number of this directory, and what it began before is another cluster.
    pub fn found(cluster: String, server: u64, founders: Vec<Founder>) -> Identity {
        let mut identity = Identity::draw(cluster, server, founders);
        if identity.founders.len() == 1
            && let Some((name, _)) = identity.cluster.rsplit_once('-')
        {
            identity.cluster = format!("{name}-{:08x}", identity.incarnation >> 32);
        }
        identity
    }

    pub(super) fn put(&self, batch: &mut WriteBatch, meta: &ColumnFamily) {
        Identity::put_format(batch, meta);
        batch.put_cf(meta, CLUSTER, &self.cluster);
        batch.put_cf(meta, SERVER, self.server.to_be_bytes());
        batch.put_cf(meta, INCARNATION, self.incarnation.to_be_bytes());
        batch.put_cf(meta, FOUNDERS, encode(&self.founders));
    }

    /// From now on the directory is of this build's format.
    pub(super) fn put_format(batch: &mut WriteBatch, meta: &ColumnFamily) {
        batch.put_cf(meta, FORMAT_KEY, FORMAT.to_be_bytes());
    }

    pub(crate) fn read(db: &DB, dir: &Path) -> Result<Identity, StoreError> {
        let number = |key: &[u8], what: &'static str| {
            let bytes = get(db, dir, META, key)?.unwrap_or_default();
            let why = format!("{} bytes where 8 should be", bytes.len());
            let corrupt = |_| StoreError::Corrupt {
                dir: dir.to_owned(),
                what,
                why,
            };
            <[u8; 8]>::try_from(bytes)
                .map(u64::from_be_bytes)
                .map_err(corrupt)
        };
        if get(db, dir, META, FORMAT_KEY)?.is_none() {
            let why = "its making was not finished; remove the directory and start with --init".to_owned();
            return Err(StoreError::Corrupt {
                dir: dir.to_owned(),
                what: "its format",
                why,
            });
        }
        let format = number(FORMAT_KEY, "its format")?;
        if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
            return Err(StoreError::OtherFormat {
                dir: dir.to_owned(),
                found: format,
                expected: FORMAT,
            });
        }
        let cluster = get(db, dir, META, CLUSTER)?.unwrap_or_default();
        let why = "it is not UTF-8".to_owned();
        let corrupt = |_| StoreError::Corrupt {
            dir: dir.to_owned(),
            what: "its cluster id",
            why,
        };
        let founders = get(db, dir, META, FOUNDERS)?.unwrap_or_default();
        let founders = decode(&founders).map_err(|why| StoreError::Corrupt {
            dir: dir.to_owned(),
            what: "its list of first servers",
            why: why.to_owned(),
        })?;
        Ok(Identity {
            founders,
            cluster: String::from_utf8(cluster).map_err(corrupt)?,
            server: number(SERVER, "its server id")?,
            incarnation: number(INCARNATION, "its incarnation")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rebound_core::types::ReplicaId;

    use super::*;

    fn cluster_of(count: u64) -> String {
        let founders = (1..=count).map(|id| Founder::named(ReplicaId(id))).collect();
        Identity::found("shelves-1a2b3c4d".into(), 1, founders).cluster
    }

    #[test]
    fn only_a_cluster_of_one_founder_is_another_each_time() {
        assert_eq!(cluster_of(3), "shelves-1a2b3c4d");
        let (first, again) = (cluster_of(1), cluster_of(1));
        assert!(
            first.starts_with("shelves-") && first.len() == "shelves-1a2b3c4d".len(),
            "{first}"
        );
        assert_ne!(first, again);
    }
}
