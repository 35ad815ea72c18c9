//! A cluster on this machine: its processes, for `rebound dev` and `rebound bench`.

mod gate;
mod house;
mod process;
mod quantiles;

pub use house::{House, agent_program, asked};
pub use process::{Place, Process, bind_thread};
pub use quantiles::{Quantiles, round};

use std::path::PathBuf;

use rebound_scheduler::config::{
    ClockConfig, CloudConfig, LimitsConfig, LogConfig, LoggingConfig, MarketConfig, StoreConfig,
};

use crate::exit::Failure;

/// What a cluster is made of. The rest is production's defaults.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The cluster's name.
    pub cluster: String,
    /// Servers, at least 1.
    pub servers: u64,
    /// Agents.
    pub workers: u64,
    /// Photos an agent works on at once.
    pub slots: u32,
    /// What the agents offer beside `noop`: a recognisers' folder and a name in it.
    pub recogniser: Option<(PathBuf, String)>,
    /// Further flags of each agent.
    pub agent_flags: Vec<String>,
    /// The servers' log.
    pub log: LogConfig,
    /// The servers' RocksDB.
    pub store: StoreConfig,
    /// The servers' bounds.
    pub limits: LimitsConfig,
    /// The servers' log lines.
    pub logging: LoggingConfig,
    /// The cloud that the servers buy in.
    pub cloud: CloudConfig,
    /// What they know of its market.
    pub market: MarketConfig,
    /// The wall clock that they go by; the system's if none.
    pub clock: Option<ClockConfig>,
    /// A planted bug for the servers; empty for none.
    pub plant: String,
    /// Agents reach servers through gates of this process, which can hold what they say.
    pub gates: bool,
    /// Where servers run, in their order; those not named run here.
    pub places: Vec<Place>,
    /// Where agents run.
    pub agents_at: Place,
}

/// The folder for all data; a temporary one goes with it.
pub struct DataDir {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    /// The folder named, made if need be, or a temporary one. One that was used before is refused.
    pub fn open(named: Option<&PathBuf>, prefix: &str) -> Result<DataDir, Failure> {
        let wrong = |why: String| Failure::usage(why).at("--data-dir");
        let Some(path) = named else {
            let dir = tempfile::Builder::new().prefix(prefix).tempdir();
            let dir = dir.map_err(|error| Failure::failed(format!("no temporary folder: {error}")))?;
            return Ok(DataDir {
                path: dir.path().to_owned(),
                temporary: Some(dir),
            });
        };
        if path.join("server-1").exists() {
            return Err(wrong(format!(
                "{} has the data of an earlier run; name another folder",
                path.display()
            )));
        }
        std::fs::create_dir_all(path).map_err(|error| wrong(error.to_string()))?;
        let path = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
        Ok(DataDir {
            path,
            temporary: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Leaves it there after all.
    pub fn keep(self) -> PathBuf {
        match self.temporary {
            Some(dir) => dir.keep(),
            None => self.path,
        }
    }
}
