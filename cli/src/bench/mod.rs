//! `rebound bench`: servers and agents as processes of their own on loopback with synced logs and default settings, a
//! client that checks all it is told, and figures from the processes themselves. `docs/BENCHMARKS.md` says what each
//! figure means.

pub mod collect;
mod command;
pub mod drill;
pub mod failover;
pub mod figures;
pub mod fill;
pub mod latency;
mod level;
pub mod load;
pub mod queue;
pub mod scrape;
pub mod throughput;
mod trace;
pub mod usage;
mod yardstick;

use std::time::Duration;

use crate::cmd::Context;
use crate::exit::Failure;
use crate::local::DataDir;

/// How long the cluster may take to have a leader, or to be as quiet as it should be.
pub const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// Whether there can be such a cluster.
pub fn check_cluster(servers: u64, workers: u64, slots: u32) -> Result<(), Failure> {
    if !matches!(servers, 1 | 3 | 5) {
        return Err(Failure::usage("must be 1, 3 or 5").at("--servers"));
    }
    if workers == 0 || workers > 64 {
        return Err(Failure::usage("must be 1 to 64").at("--workers"));
    }
    if slots == 0 || slots > rebound_core::limits::SLOTS_MAX {
        return Err(Failure::usage("must be 1 to 1024").at("--slots"));
    }
    Ok(())
}

/// What was measured in a directory. Where that failed, the processes' logs stay there, and it is said where.
fn or_logs<F>(ctx: &mut Context, dir: DataDir, measured: Result<F, Failure>) -> Result<F, Failure> {
    if measured.is_err() {
        let kept = dir.keep();
        ctx.out
            .note(&format!("The processes' logs are in {}", kept.display()));
    }
    measured
}
