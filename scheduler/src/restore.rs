//! A backup becomes the data directory of a server of a new cluster.
//!
//! All servers of the new cluster are made from the same file with the same list of members and the same token, and so
//! begin with the same state. It is built in a directory beside, which takes its place when it is whole.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rebound_core::command::{Command, ENTRY_VERSION, Entry};
use rebound_core::io::Persist;
use rebound_core::replica::snapshot::{About, first_entry};
use rebound_core::state::Plant;
use rebound_core::table::Digest;
use rebound_core::types::{Caller, ClusterId, TraceId};
use sha2::{Digest as _, Sha256};

use crate::backup::{BackupError, BackupReader};
use crate::config::Config;
use crate::store::aside::Aside;
use crate::store::identity::Identity;
use crate::store::{Store, StoreError, failed};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No list of members.
    #[error("members: name the servers that the restored cluster begins with, this one included")]
    NoMembers,
    /// The place where the directory is to be.
    #[error("data_dir {}: {}", .0.display(), .1)]
    Place(PathBuf, &'static str),
    /// A token that is none.
    #[error("--token: must be 1 to {TOKEN_BYTES_MAX} letters, digits or hyphens")]
    Token,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the backup is of.
    pub about: About,
    /// The new cluster.
    pub cluster: String,
    /// Tasks that went back into the queue.
    pub tasks: u64,
    /// Of the state after the restore.
    pub digest: Digest,
}

/// Makes the data directory that `config` names from a backup. `token` is the same on all servers of the new cluster,
/// and another at each restore: it is part of the cluster's id.
pub fn restore(file: &Path, config: &Config, token: &str) -> Result<Restored, RestoreError> {
    if config.members.is_empty() {
        return Err(RestoreError::NoMembers);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.chars().all(fits) {
        return Err(RestoreError::Token);
    }
    let mut reader = BackupReader::open(file)?;
    let place = Place::of(&config.data_dir)?;
    let built = build(&mut reader, file, &place.aside, config, token);
    let restored = built.and_then(|restored| {
        place.take().map_err(|error| failed(&place.dir, error))?;
        Ok(restored)
    });
    if restored.is_err() {
        remove(&place.aside)?;
    }
    restored
}

/// The new cluster's id: no other restore has it, of whatever file, with whatever members.
fn cluster_id(config: &Config, about: &About, token: &str) -> ClusterId {
    let mut hash = Sha256::new();
    hash.update(config.cluster_id().0);
    hash.update([0]);
    hash.update(&about.cluster.0);
    hash.update([0]);
    hash.update(about.index.to_be_bytes());
    hash.update(about.digest.to_be_bytes());
    hash.update(token);
    let bytes = hash.finalize();
    let hex: String = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    ClusterId(format!("{}-{hex}", config.cluster))
}

fn build(
    reader: &mut BackupReader,
    file: &Path,
    dir: &Path,
    config: &Config,
    token: &str,
) -> Result<Restored, RestoreError> {
    let about = reader.about().clone();
    let cluster = cluster_id(config, &about, token);
    let identity = Identity::draw(cluster.0.clone(), config.server, config.founders());
    Store::init(dir, &identity, &config.store)?;
    let mut store = Store::open(
        dir,
        &config.cluster,
        config.server,
        &config.store,
        config.log.archive,
    )?;
    let differs = |what: String| BackupError::Differs {
        file: file.to_owned(),
        what,
    };
    let mut aside = Aside::begin(store.disk()).expect("nobody else has this directory");
    while let Some(chunk) = reader.chunk()? {
        aside.take(&chunk, u64::MAX).map_err(differs)?;
    }
    // Its digest and that of its kept records are counted anew, and are what they were when it was saved.
    let mut state = aside.load(&about, Plant::None).map_err(differs)?;
    let (index, term) = (about.index, about.term);
    let installs = Persist {
        install: Some((index, term)),
        digests: vec![(index, state.digest())],
        ..Persist::default()
    };
    store.write(&installs, Some(aside));

    let entry = Entry {
        version: ENTRY_VERSION,
        at: state.now(),
        by: Caller {
            environment: String::new(),
            actor: "restore".to_owned(),
        },
        trace: TraceId::default(),
        command: Command::Restore {
            cluster: cluster.clone(),
            founders: config.founders(),
        },
    };
    let given = state
        .environments
        .iter()
        .map(|(_, environment)| environment.counts.given);
    let tasks = given.sum();
    let applied = state.apply(index + 1, term, Some(&entry));
    applied.reply.map_err(|why| differs(why.to_string()))?;
    let (bytes, hard_state) = first_entry(index + 1, term, &entry);
    let begins = Persist {
        sync: true,
        entries: vec![(index + 1, bytes)],
        hard_state: Some(hard_state),
        state: state.settle(),
        kept: applied.kept,
        kept_gone: applied.kept_gone,
        ..Persist::default()
    };
    store.write(&begins, None);
    store.flush()?;
    Ok(Restored {
        about,
        cluster: cluster.0,
        tasks,
        digest: state.digest(),
    })
}

/// Where the directory is to be, and where it is made.
struct Place {
    dir: PathBuf,
    aside: PathBuf,
    /// No other restore to the same place while this one runs.
    lock: (PathBuf, fs::File),
}

impl Drop for Place {
    fn drop(&mut self) {
        // Held until the process lets go of it: another one finds it gone, or locked.
        let _ = fs::remove_file(&self.lock.0);
    }
}

impl Place {
    /// A place that can be taken: nothing is there, and it can be reached from beside it by one rename.
    fn of(data_dir: &Path) -> Result<Place, RestoreError> {
        // Without what a path may end with: "data/1/" is beside "data", too.
        let dir: PathBuf = data_dir.components().collect();
        let Some(name) = dir.file_name() else {
            return Err(RestoreError::Place(
                dir,
                "has no name; name a directory that is to be made",
            ));
        };
        let named = |ending: &str| {
            let mut name = name.to_owned();
            name.push(ending);
            dir.with_file_name(name)
        };
        let (aside, lock) = (named(".restoring"), named(".restoring.lock"));
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        if device(&dir).is_some_and(|own| Some(own) != device(parent)) {
            let why = "is a file system of its own, whose place nothing can take; name a directory in it";
            return Err(RestoreError::Place(dir, why));
        }
        let file = fs::File::create(&lock).map_err(|error| failed(&lock, error))?;
        if file.try_lock().is_err() {
            return Err(RestoreError::Place(
                dir,
                "is being restored by another process; wait for it",
            ));
        }
        let place = Place {
            dir,
            aside,
            lock: (lock, file),
        };
        if Store::identity_in(&place.dir)?.is_some() {
            return Err(StoreError::NotEmpty(place.dir.clone()).into());
        }
        remove(&place.aside)?;
        Ok(place)
    }

    /// What was made takes the place.
    fn take(&self) -> std::io::Result<()> {
        // An empty directory at the place goes by this.
        fs::rename(&self.aside, &self.dir)?;
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// What a restore that was cut short has left.
fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(dir, error)),
        _ => Ok(()),
    }
}
