//! A server's own settings, from one TOML file. What changes outcomes is not here: it is replicated.

use std::path::{Path, PathBuf};

use rebound_core::limits::{LOG_KEEP_ENTRIES, TASKS_PER_JOB_MAX};
use rebound_core::state::members::Founder;
use rebound_core::state::{Plant, State};
use rebound_core::types::{ClusterId, ReplicaId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod check;
mod locate;
mod market;

pub(crate) use check::loopback;
pub use check::{LOG_KEEP_MIN, MEMBERS_MAX};
use locate::Locate;
pub use market::{CLOCK_RATE_MAX, ClockConfig, CloudConfig, Driver, MarketConfig};

/// Bytes of a snapshot that is received, unless the configuration says otherwise.
const SNAPSHOT_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// What is wrong with a configuration: where, which field, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {field}: {message}", file.display())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// The field, with those it is in.
    pub field: String,
    /// What is wrong, and the fix.
    pub message: String,
}

/// One server of the member list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// Not 0.
    pub id: u64,
    /// `host:port` where other servers reach it.
    pub peer: String,
    /// `host:port` where clients and agents reach it.
    pub client: String,
}

/// Where a server listens, each `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// For clients and agents.
    pub client: String,
    /// For other servers.
    pub peer: String,
    /// For `/metrics` and `/healthz`.
    pub http: String,
}

/// The replicated log on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Entries kept behind the applied one, for followers that lag.
    pub keep: u64,
    /// Entries that are cut from the log stay on disk, for audits.
    pub archive: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            keep: LOG_KEEP_ENTRIES,
            archive: false,
        }
    }
}

/// RocksDB's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Cache of blocks read, in MiB.
    pub cache_mib: u64,
    /// Records not yet in files, of all families together, in MiB.
    pub write_buffer_mib: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            cache_mib: 64,
            write_buffer_mib: 64,
        }
    }
}

/// Bounds of this server alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes waiting to be sent to one peer; more are dropped.
    pub peer_queue_bytes: u64,
    /// Bytes of a snapshot that is received, on disk beside what is there.
    pub snapshot_bytes: u64,
    /// Messages waiting to be sent to one agent; more close its stream.
    pub agent_queue_messages: u32,
    /// Photo lists kept in memory.
    pub photo_lists: u32,
    /// Photos given to a worker as one run; more become several runs.
    pub run_photos: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            peer_queue_bytes: 64 * 1024 * 1024,
            snapshot_bytes: SNAPSHOT_BYTES,
            agent_queue_messages: 256,
            photo_lists: 256,
            run_photos: TASKS_PER_JOB_MAX,
        }
    }
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingConfig {
    /// As `tracing`'s filters: `info`, `rebound_scheduler=debug`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        LoggingConfig {
            filter: "info".to_owned(),
            json: false,
        }
    }
}

/// A server's settings. Made by [`Config::parse`], which checks them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name, the same on all its servers.
    pub cluster: String,
    /// This server's id in the member list.
    pub server: u64,
    /// Where it keeps its data. Its own alone.
    pub data_dir: PathBuf,
    /// A planted bug, for tests of the tests; only builds with the feature `planted` know any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plant: String,
    /// Where it listens.
    pub listen: ListenConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
    /// RocksDB.
    #[serde(default)]
    pub store: StoreConfig,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Log lines.
    #[serde(default)]
    pub logging: LoggingConfig,
    /// The cloud that machines are bought in.
    #[serde(default)]
    pub cloud: CloudConfig,
    /// What is known of the market beforehand.
    #[serde(default)]
    pub market: MarketConfig,
    /// A wall clock other than the system's, where a market is played; the same on all servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockConfig>,
    /// The servers that a new cluster begins with, this one included, the same list on each: for `--init` alone. A
    /// server that is added later needs none, and once a cluster has begun it knows its servers itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberConfig>,
}

impl Config {
    /// Reads and checks a configuration; `path` is only for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let locate = Locate::new(text, path)?;
        let config: Config = toml::from_str(text).map_err(|error| locate.serde(&error))?;
        config
            .check()
            .map_err(|(field, message)| locate.error(&field, message))?;
        Ok(config)
    }

    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: path.to_owned(),
            line: 1,
            field: "file".to_owned(),
            message: format!("cannot be read: {error}"),
        })?;
        Config::parse(&text, path)
    }

    /// The configuration as TOML, which [`Config::parse`] reads again.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data is always TOML")
    }

    /// The id of a cluster that begins with this list: the same on all servers that were given the same name and
    /// list. It stays when the members change: each data directory holds it. That of a single server ends with
    /// another number each time ([`Identity::found`](crate::store::Identity::found)).
    pub fn cluster_id(&self) -> ClusterId {
        let mut members: Vec<(u64, &str)> = self.members.iter().map(|m| (m.id, m.peer.as_str())).collect();
        members.sort_unstable();
        let mut hash = Sha256::new();
        hash.update(self.cluster.as_bytes());
        for (id, peer) in members {
            hash.update([0]);
            hash.update(id.to_be_bytes());
            hash.update(peer.as_bytes());
        }
        let hex: String = hash
            .finalize()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        ClusterId(format!("{}-{hex}", self.cluster))
    }

    /// This server's id.
    pub fn id(&self) -> ReplicaId {
        ReplicaId(self.server)
    }

    /// The servers that a new cluster begins with, by id.
    pub fn founders(&self) -> Vec<Founder> {
        let founder = |member: &MemberConfig| Founder {
            id: ReplicaId(member.id),
            peer: member.peer.clone(),
            client: member.client.clone(),
            incarnation: 0,
        };
        let mut founders: Vec<Founder> = self.members.iter().map(founder).collect();
        founders.sort_by_key(|founder| founder.id);
        founders
    }

    /// This server as others reach it: as the list has it, else where it listens.
    pub fn own(&self) -> Founder {
        let listed = self
            .founders()
            .into_iter()
            .find(|founder| founder.id == self.id());
        listed.unwrap_or_else(|| Founder {
            id: self.id(),
            peer: self.listen.peer.clone(),
            client: self.listen.client.clone(),
            incarnation: 0,
        })
    }

    /// How the list of members differs from what the cluster's state says, if it names any and the cluster has begun.
    pub fn differs_from(&self, state: &State) -> Option<String> {
        if self.members.is_empty() || state.members.is_empty() {
            return None;
        }
        let own: Vec<(u64, String)> = self
            .founders()
            .into_iter()
            .map(|one| (one.id.0, one.peer))
            .collect();
        let theirs: Vec<(u64, String)> = state
            .members
            .iter()
            .map(|(id, member)| (id.0, member.peer.clone()))
            .collect();
        let text = |list: &[(u64, String)]| {
            let one = |(id, peer): &(u64, String)| format!("{id} at {peer}");
            list.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        (own != theirs).then(|| format!("the file names {}; the cluster has {}", text(&own), text(&theirs)))
    }

    /// The planted bug.
    pub fn plant(&self) -> Plant {
        Plant::named(&self.plant).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
