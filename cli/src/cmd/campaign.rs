//! `rebound campaign`: faults against a cluster of real processes on this machine.

use clap::Subcommand;

use super::Context;
use crate::campaign::clock::{self, ClockArgs};
use crate::campaign::disk_full::{self, DiskFullArgs};
use crate::campaign::overload::{self, OverloadArgs};
use crate::campaign::partition::{self, NetworkArgs};
use crate::campaign::pause::{self, PauseArgs};
use crate::campaign::power::{self, PowerArgs};
use crate::campaign::soak::{self, SoakArgs};
use crate::campaign::upgrade::{self, UpgradeArgs};
use crate::exit::{Exit, Failure};

/// Faults against a cluster of real processes on this machine, and an audit of what they left.
#[derive(Debug, Subcommand)]
pub enum CampaignCommand {
    /// Servers lose power, one at a time and all at once: each goes on from a copy of its disk without the last writes
    /// (needs root)
    PowerCut(PowerArgs),
    /// The network between servers and agents breaks in many ways (needs root and iptables)
    Network(NetworkArgs),
    /// Servers stand still for a while
    Pause(PauseArgs),
    /// A server's disk fills up (needs root)
    DiskFull(DiskFullArgs),
    /// A server's wall clock jumps by an hour (needs libfaketime)
    Clock(ClockArgs),
    /// Ten times what the cluster can do, for minutes (needs root and two cores)
    Overload(OverloadArgs),
    /// A steady load for a long time: memory, open files, disks, digests
    Soak(SoakArgs),
    /// Servers and agents are replaced by those of a newer build, one by one, back, and up again; then the upgrade is
    /// finalized (needs the programs of that build: `make upgrade`)
    Upgrade(UpgradeArgs),
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: CampaignCommand) -> Result<Exit, Failure> {
    match command {
        CampaignCommand::PowerCut(args) => power::run(ctx, args).await,
        CampaignCommand::Network(args) => partition::run(ctx, args).await,
        CampaignCommand::Pause(args) => pause::run(ctx, args).await,
        CampaignCommand::DiskFull(args) => disk_full::run(ctx, args).await,
        CampaignCommand::Clock(args) => clock::run(ctx, args).await,
        CampaignCommand::Overload(args) => overload::run(ctx, args).await,
        CampaignCommand::Soak(args) => soak::run(ctx, args).await,
        CampaignCommand::Upgrade(args) => upgrade::run(ctx, args).await,
    }
}
