//! `rebound server`: one server of a cluster.

use std::path::PathBuf;

use clap::Args;
use rebound_scheduler::config::Config;
use rebound_scheduler::{End, Start};

use crate::exit::{Exit, Failure};

/// Runs one server until SIGTERM or SIGINT.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Its configuration; `rebound config check FILE` checks one
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Make its data directory first: once, on each server of a new cluster
    #[arg(long)]
    pub init: bool,
    /// Come to a running cluster that this server was added to: the address of any of its servers. Makes the data
    /// directory
    #[arg(long, value_name = "ADDRESS", conflicts_with = "init")]
    pub join: Option<String>,
}

/// Runs it. Its log goes to stderr.
pub fn run(args: &ServerArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config).map_err(|error| Failure::usage(error.to_string()))?;
    let start = match (&args.join, args.init) {
        (Some(address), _) => Start::Join(address.clone()),
        (None, true) => Start::Init,
        (None, false) => Start::Again,
    };
    Ok(match rebound_scheduler::server::main(config, &start) {
        End::Stopped => Exit::Ok,
        End::Failed => Exit::Failed,
        End::Dismissed => Exit::Dismissed,
        End::OtherVersion => Exit::OtherVersion,
    })
}
