//! `rebound server`: one server of a cluster.

use std::path::PathBuf;

use clap::Args;
use rebound_scheduler::config::Config;

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
}

/// Runs it. Its log goes to stderr.
pub fn run(args: &ServerArgs) -> Result<Exit, Failure> {
    let config = Config::load(&args.config).map_err(|error| Failure::usage(error.to_string()))?;
    match rebound_scheduler::server::main(config, args.init) == std::process::ExitCode::SUCCESS {
        true => Ok(Exit::Ok),
        false => Ok(Exit::Failed),
    }
}
