//! `rebound operator snapshot`: backups of a cluster, and a cluster from a backup.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rand::Rng as _;
use rebound_scheduler::backup::{BackupError, BackupWriter, Contents};
use rebound_scheduler::config::Config;
use rebound_scheduler::restore::{RestoreError, restore};
use rebound_scheduler::store::StoreError;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::limits::FRAME_WAIT;
use crate::output::counted;

/// Backups.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save a backup of the running cluster
    Save(SaveArgs),
    /// Make the data directory of a server of a new cluster from a backup
    Restore(RestoreArgs),
    /// Show what a backup is of
    Inspect {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a backup: every checksum, and every digest counted anew
    Verify {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Where a backup comes from and goes.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// A file that is not there yet; only its owner may read it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Of this server; without it of the first that answers. Any server has what was acknowledged up to its index
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
}

/// What a cluster is restored from.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The server's configuration, with the list of members of the new cluster. Its data directory must be empty
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What tells this restore from others of the same backup: drawn for the first server and shown, and given again for
    /// the other servers of the new cluster
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: SnapshotCommand) -> Result<Exit, Failure> {
    match command {
        SnapshotCommand::Save(args) => save(ctx, &args).await,
        SnapshotCommand::Restore(args) => offline(ctx, move |ctx| restore_one(ctx, &args)),
        SnapshotCommand::Inspect { file } => offline(ctx, move |ctx| inspect(ctx, &file)),
        SnapshotCommand::Verify { file } => offline(ctx, move |ctx| verify(ctx, &file)),
    }
}

/// Reads and writes of files, which may take a while: no other task is on this thread.
fn offline(
    ctx: &mut Context,
    work: impl FnOnce(&mut Context) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    tokio::task::block_in_place(|| work(ctx))
}

#[derive(Serialize)]
struct Saved {
    file: PathBuf,
    cluster: String,
    index: u64,
    term: u64,
    digest: String,
    bytes: u64,
}

async fn save(ctx: &mut Context, args: &SaveArgs) -> Result<Exit, Failure> {
    let file = &args.file;
    if file.exists() {
        let message = format!("{}: is there already; name a new file", file.display());
        return Err(Failure::usage(message).at("FILE"));
    }
    let part = beside(file);
    let saved = save_into(ctx, args, &part).await;
    let placed = saved.and_then(|(about, bytes)| {
        place(&part, file).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
        Ok(Saved {
            file: file.clone(),
            cluster: about.cluster.0,
            index: about.index,
            term: about.term,
            digest: format!("{:032x}", about.digest),
            bytes,
        })
    });
    if placed.is_err() {
        // What there is of it is of no use, and may not have been made.
        let _ = fs::remove_file(&part);
    }
    let saved = placed?;
    ctx.out.one(&saved, |out, saved| {
        out.line(&format!(
            "Saved cluster {} at index {} to {}: {}.",
            crate::output::clean(&saved.cluster),
            saved.index,
            saved.file.display(),
            counted(saved.bytes, "byte")
        ))
    })?;
    Ok(Exit::Ok)
}

async fn save_into(
    ctx: &Context,
    args: &SaveArgs,
    part: &Path,
) -> Result<(rebound_core::replica::snapshot::About, u64), Failure> {
    let client = ctx.client();
    let mut frames = match &args.from {
        Some(address) => client.backup_of(address).await?,
        None => client.backup().await?,
    };
    let mut writer = BackupWriter::create(part).map_err(|error| bad_file(&error))?;
    while !writer.is_whole() {
        let frame = tokio::time::timeout(FRAME_WAIT, frames.message()).await;
        let frame = frame.map_err(|_| Failure::timeout("the server sends nothing more of its backup"))?;
        let frame =
            frame.map_err(|status| Failure::failed(format!("the backup broke off: {}", status.message())))?;
        let Some(frame) = frame else { break };
        writer.put(&frame).map_err(|error| bad_file(&error))?;
    }
    writer.finish().map_err(|error| bad_file(&error))
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    PathBuf::from(name)
}

/// From here on the backup has its name, also after a loss of power.
fn place(part: &Path, file: &Path) -> std::io::Result<()> {
    fs::rename(part, file)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn bad_file(error: &BackupError) -> Failure {
    if let BackupError::OtherVersion { .. } = error {
        return Failure {
            exit: Exit::OtherVersion,
            kind: "other_version",
            message: error.to_string(),
            field: None,
        };
    }
    Failure::failed(error.to_string())
}

#[derive(Serialize)]
struct Inspected {
    file: PathBuf,
    format: u32,
    cluster: String,
    version: u16,
    index: u64,
    term: u64,
    digest: String,
    members: Vec<u64>,
    bytes: u64,
    live_records: u64,
    kept_records: u64,
    environments: u64,
    jobs: u64,
    tasks: u64,
    tasks_waiting: u64,
    tasks_given: u64,
    workers: u64,
}

impl Inspected {
    fn of(file: &Path, contents: &Contents) -> Inspected {
        let (about, state) = (&contents.about, &contents.state);
        let (jobs, tasks) = state.job_counts();
        let sum = |of: fn(&rebound_core::state::environments::Environment) -> u64| {
            state
                .environments
                .iter()
                .map(|(_, environment)| of(environment))
                .sum()
        };
        Inspected {
            file: file.to_owned(),
            format: rebound_scheduler::backup::FILE_FORMAT,
            cluster: about.cluster.0.clone(),
            version: about.version,
            index: about.index,
            term: about.term,
            digest: format!("{:032x}", about.digest),
            members: about.members.iter().map(|id| id.0).collect(),
            bytes: contents.bytes,
            live_records: contents.records,
            kept_records: contents.kept,
            environments: state.environments.iter().count() as u64,
            jobs,
            tasks,
            tasks_waiting: sum(|environment| environment.counts.waiting),
            tasks_given: sum(|environment| environment.counts.given),
            workers: state.workers.live_count() as u64,
        }
    }
}

fn inspect(ctx: &mut Context, file: &Path) -> Result<Exit, Failure> {
    let contents = Contents::read(file).map_err(|error| bad_file(&error))?;
    let view = Inspected::of(file, &contents);
    ctx.out.one(&view, |out, view| {
        let members: Vec<String> = view.members.iter().map(u64::to_string).collect();
        out.line(&format!(
            "Cluster   {} at version {}",
            crate::output::clean(&view.cluster),
            view.version
        ))?;
        out.line(&format!("Index     {} of term {}", view.index, view.term))?;
        out.line(&format!("Digest    {}", view.digest))?;
        out.line(&format!("Members   {}", members.join(", ")))?;
        out.line(&format!(
            "Jobs      {}, with {}: {} wait, {} given",
            view.jobs,
            counted(view.tasks, "photo"),
            view.tasks_waiting,
            view.tasks_given
        ))?;
        out.line(&format!("Workers   {}", view.workers))?;
        out.line(&format!(
            "Records   {} live, {} kept; {} in format {}",
            view.live_records,
            view.kept_records,
            counted(view.bytes, "byte"),
            view.format
        ))
    })?;
    Ok(Exit::Ok)
}

fn verify(ctx: &mut Context, file: &Path) -> Result<Exit, Failure> {
    let contents = Contents::read(file).map_err(|error| bad_file(&error))?;
    let differences = contents.differences();
    if !differences.is_empty() {
        let what = differences.join("; ");
        return Err(Failure::failed(format!(
            "{}: is not what it says it is: {what}",
            file.display()
        )));
    }
    let about = &contents.about;
    let answer = serde_json::json!({
        "file": file, "whole": true, "cluster": about.cluster.0, "index": about.index,
        "digest": format!("{:032x}", about.digest),
    });
    ctx.out.one(&answer, |out, _| {
        out.line(&format!(
            "{} is whole: cluster {} at index {}, digest {:032x}.",
            file.display(),
            crate::output::clean(&about.cluster.0),
            about.index,
            about.digest
        ))
    })?;
    Ok(Exit::Ok)
}

fn restore_one(ctx: &mut Context, args: &RestoreArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config).map_err(|error| Failure::usage(error.to_string()))?;
    let drawn = || format!("{:016x}", rand::rng().random::<u64>());
    let token = args.token.clone().unwrap_or_else(drawn);
    let restored = restore(&args.file, &config, &token).map_err(|error| {
        let message = error.to_string();
        match error {
            RestoreError::NoMembers => Failure::usage(message).at("members"),
            RestoreError::Place(..) => Failure::usage(message).at("data_dir"),
            RestoreError::Token => Failure::usage(message).at("--token"),
            RestoreError::Store(StoreError::NotEmpty(_)) => Failure::usage(message).at("data_dir"),
            RestoreError::Backup(_) | RestoreError::Store(_) => Failure::failed(message),
        }
    })?;
    let about = &restored.about;
    let answer = serde_json::json!({
        "cluster": restored.cluster, "from": about.cluster.0, "index": about.index, "token": token,
        "digest": format!("{:032x}", about.digest), "digest_after": format!("{:032x}", restored.digest.0),
        "tasks_requeued": restored.tasks, "data_dir": config.data_dir,
    });
    ctx.out.one(&answer, |out, _| {
        out.line(&format!(
            "Restored index {} of {} as cluster {} in {}: {} back in the queue.",
            about.index,
            crate::output::clean(&about.cluster.0),
            restored.cluster,
            config.data_dir.display(),
            counted(restored.tasks, "photo")
        ))
    })?;
    if args.token.is_none() && config.members.len() > 1 {
        ctx.out.note(&format!(
            "On the other servers of the new cluster, with the same file: --token {token}. Then start each without --init."
        ));
    }
    Ok(Exit::Ok)
}
