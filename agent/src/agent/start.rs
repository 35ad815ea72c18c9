//! What must be there before the agent can work: its data directory, its recognisers.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::error;

use crate::config::Config;
use crate::fetch::Fetcher;
use crate::fetch::web::WebError;
use crate::imds::ImdsError;
use crate::machine::NOOP;
use crate::recognise::manifest::{self, Kind, Manifest};
use crate::runner::{Runner, RunnerConfig};
use crate::spool::SpoolError;

/// Name of the lock in the data directory.
pub const LOCK_FILE: &str = "lock";

/// Folder of photos loaded from http(s), in the data directory.
pub const PHOTO_FOLDER: &str = "photos";

/// Why the agent does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be made or locked.
    #[error("the data directory {path}: {error}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Another agent has it.
    #[error("the data directory {0} is in use by another agent; give each its own --data-dir")]
    InUse(PathBuf),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A recogniser that was asked for is not there or does not load.
    #[error("--recogniser {name}: {why}")]
    Recogniser {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// The metadata service cannot be watched.
    #[error("--imds: {0}")]
    Imds(ImdsError),
    /// Photos cannot be loaded.
    #[error(transparent)]
    Web(#[from] WebError),
    /// Something else of the system.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Makes the data directory and keeps others out of it while the file lives.
pub(super) fn lock(dir: &Path) -> Result<File, StartError> {
    let failed = |error| StartError::DataDir {
        path: dir.into(),
        error,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK_FILE))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse(dir.into())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// What is loaded lies in the data directory.
pub(super) fn open_fetcher(config: &Config) -> Result<Fetcher, StartError> {
    Ok(Fetcher::open(
        config.data_dir.join(PHOTO_FOLDER),
        config.allow_url.clone(),
        config.max_photo_bytes,
        config.max_loaded_bytes,
    )?)
}

/// Loads the recognisers that are offered; those named on the command line must load.
pub(super) async fn start_recognisers(config: &Config) -> Result<Runner, StartError> {
    let found = config
        .recognisers
        .as_deref()
        .map(manifest::discover)
        .unwrap_or_default();
    let mut manifests: BTreeMap<String, Manifest> = BTreeMap::new();
    let mut problems = Vec::new();
    for one in found {
        match one {
            // `noop` is built in; a folder of that kind adds nothing.
            Ok(manifest) if manifest.kind == Kind::Noop || manifest.name == NOOP => {}
            Ok(manifest) if config.wanted.is_empty() || config.wanted.contains(&manifest.name) => {
                manifests.insert(manifest.name.clone(), manifest);
            }
            Ok(_) => {}
            Err(problem) => {
                error!(%problem, "a recogniser cannot be used");
                problems.push(problem.to_string());
            }
        }
    }
    let system = |error| StartError::System {
        what: "the agent's own program is not to be found",
        error,
    };
    let runner = RunnerConfig {
        program: std::env::current_exe().map_err(system)?,
        slots: config.slots as usize,
        threads: config.threads,
        child_memory_mib: config.child_memory_mib,
    };
    let asked: Vec<String> = config
        .wanted
        .iter()
        .filter(|name| *name != NOOP)
        .cloned()
        .collect();
    if let Some(name) = asked.iter().find(|name| !manifests.contains_key(*name)) {
        let place = config.recognisers.as_deref().unwrap_or(Path::new("")).display();
        let seen = if problems.is_empty() {
            String::new()
        } else {
            format!(" ({})", problems.join("; "))
        };
        let why = format!("there is no such recogniser in {place}{seen}");
        return Err(StartError::Recogniser {
            name: name.clone(),
            why,
        });
    }
    let (runner, failed) = Runner::probe(runner, manifests.into_values().collect()).await;
    for (name, why) in failed {
        if asked.contains(&name) {
            return Err(StartError::Recogniser { name, why });
        }
        error!(
            recogniser = name,
            why, "a recogniser does not load and is not offered"
        );
    }
    Ok(runner)
}
