//! The command line.

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cmd;
use crate::output::Format;

/// Raft-replicated job scheduler for photo recognition in bursts.
#[derive(Debug, Parser)]
#[command(name = "rebound", version = cmd::version::VERSION, after_help = EXITS, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 accepted but not placeable now, 4 not found, 5 denied, \
6 conflict, 7 no leader or unreachable, 8 overloaded, 9 some tasks failed, 10 server removed from its cluster, 11 build too old for its cluster, 124 timeout.\n\
Settings: options, then the environment, then the file $REBOUND_CONFIG, or ./.rebound.toml, \
$XDG_CONFIG_HOME/rebound/config.toml, /etc/rebound/config.toml; `rebound config show` tells them.";

/// Options of all commands.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Servers' host:port, separated by commas; one is enough [env: REBOUND_SERVERS] [default: 127.0.0.1:7401]
    #[arg(
        long,
        global = true,
        value_name = "ADDRESSES",
        help_heading = "Global options"
    )]
    pub server: Option<String>,
    /// How answers are written [env: REBOUND_OUTPUT] [default: table]
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Option<Format>,
    /// Longest time of one call, over all its tries [env: REBOUND_TIMEOUT] [default: 10s]
    #[arg(long, global = true, value_name = "DURATION", help_heading = "Global options")]
    pub timeout: Option<String>,
    /// No colours [env: NO_COLOR]
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// Only the essential [env: REBOUND_TERSE]
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Say on stderr what is tried; twice for more [env: REBOUND_VERBOSE]
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one server of a cluster
    Server(cmd::server::ServerArgs),
    /// A whole cluster on this machine, a burst of photos through it, and its figures
    Dev(crate::dev::DevArgs),
    /// How fast a cluster of real processes is on this machine: throughput, latency, queue,
    /// failover
    #[command(subcommand)]
    Bench(cmd::bench::BenchCommand),
    /// Faults against a cluster of real processes on this machine: power-cut, network, pause,
    /// disk-full, clock, soak
    #[command(subcommand)]
    Campaign(cmd::campaign::CampaignCommand),
    /// The cluster in a simulated world
    #[command(subcommand)]
    Sim(cmd::sim::SimCommand),
    /// Submit photos: a job specification, a directory, a glob, a list of photos, or - for stdin
    Submit(cmd::submit::SubmitArgs),
    /// Jobs: list, show, watch, wait, cancel, results, report
    #[command(subcommand)]
    Job(cmd::job::JobCommand),
    /// Tasks: the photos of a job, one by one
    #[command(subcommand)]
    Task(cmd::task::TaskCommand),
    /// Workers: list, show, explain, drain
    #[command(subcommand)]
    Worker(cmd::worker::WorkerCommand),
    /// Machines that the cluster buys: status, explain, events, forecast, set, freeze, thaw
    #[command(subcommand)]
    Scale(cmd::scale::ScaleCommand),
    /// EC2's capacity pools: experience, bans
    #[command(subcommand)]
    Pool(cmd::pool::PoolCommand),
    /// What capacity pools cost, and a thousand photos there
    #[command(subcommand)]
    Market(cmd::market::MarketCommand),
    /// What machines cost: report
    #[command(subcommand)]
    Cost(cmd::cost::CostCommand),
    /// What is bought, when and where: show, validate, plan, apply, history, rollback, shadow
    Policy(cmd::policy::PolicyArgs),
    /// The cluster itself: status, members, add, remove, transfer-leader, ping, accept-clock
    #[command(subcommand)]
    Operator(cmd::operator::OperatorCommand),
    /// Run a worker: the `rebound-agent` beside this program, with its own options
    Agent(cmd::agent::AgentArgs),
    /// Sample photos: render, score
    #[command(subcommand)]
    Photos(cmd::photos::PhotosCommand),
    /// This program's settings; a check of a server's configuration
    #[command(subcommand)]
    Config(cmd::config::ConfigCommand),
    /// A completion script for a shell
    Completion(cmd::completion::CompletionArgs),
    /// This program's version
    Version,
}
