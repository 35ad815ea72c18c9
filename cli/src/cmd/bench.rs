//! `rebound bench`: how fast a cluster of real processes is on this machine.

use clap::Subcommand;

use super::Context;
use crate::bench::throughput::{self, ThroughputArgs};
use crate::exit::{Exit, Failure};

/// How fast a cluster of real processes is on this machine.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Photos a second through servers and workers that do nothing else, every result read back and compared
    Throughput(ThroughputArgs),
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: BenchCommand) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Throughput(args) => throughput::run(ctx, args).await,
    }
}
