//! `rebound bench`: how fast a cluster of real processes is on this machine.

use clap::Subcommand;

use super::Context;
use crate::bench::failover::{self, FailoverArgs};
use crate::bench::latency::{self, LatencyArgs};
use crate::bench::queue::{self, QueueArgs};
use crate::bench::throughput::{self, ThroughputArgs};
use crate::exit::{Exit, Failure};

/// How fast a cluster of real processes is on this machine.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Tasks a second through servers and workers that do nothing else, every result read back and compared
    Throughput(ThroughputArgs),
    /// One small job at a time on an idle cluster, beside one replicated commit
    Latency(LatencyArgs),
    /// A long queue: its memory, rates with it and without, restarts
    Queue(QueueArgs),
    /// The leader killed again and again: how long no writes are taken, and whether anything is lost
    Failover(FailoverArgs),
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: BenchCommand) -> Result<Exit, Failure> {
    match command {
        BenchCommand::Throughput(args) => throughput::run(ctx, args).await,
        BenchCommand::Latency(args) => latency::run(ctx, args).await,
        BenchCommand::Queue(args) => queue::run(ctx, args).await,
        BenchCommand::Failover(args) => failover::run(ctx, args).await,
    }
}
