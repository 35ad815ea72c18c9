//! `rebound bench queue`: a long queue; what it takes in memory, and whether anything becomes slower with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rebound_proto::v1::JobSpec;
use rebound_scheduler::config::LimitsConfig;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::figures::{Machine, mib, seconds};
use super::fill::fill;
use super::level::{Level, OneRate, Rates, level};
use super::load::{Load, Photos};
use super::scrape::Scrape;
use super::usage::Usage;
use super::yardstick::{WithSyncs, brief, measured_syncs};
use super::{QUIET_WITHIN, check_cluster, or_logs};
use crate::client::{Client, ClientError};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, asked, round};
use crate::output::{Align, Table};

/// Most tasks of a run.
const TASKS_MAX: u64 = 20_000_000;
/// Most environments of a run.
const ENVIRONMENTS_MAX: usize = 900;
/// Fewest tasks of a run.
const TASKS_MIN: u64 = 1_000;
/// Tasks queued when rates are first measured, at most.
const SHORT: u64 = 10_000;
/// What was only just queued gets so long to reach files before memory is measured.
const SETTLE: Duration = Duration::from_secs(3);
/// Small jobs being submitted at once.
const AT_ONCE: usize = 64;
/// How long anything may take that is waited for.
pub(super) const WITHIN: Duration = Duration::from_secs(600);
/// A snapshot of the longest queue fits.
const SNAPSHOT_BYTES: u64 = 8 << 30;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct QueueArgs {
    /// Servers: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub servers: u64,
    /// Agents, while it is measured how fast tasks are given
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub workers: u64,
    /// Tasks an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub slots: u32,
    /// Tasks queued, half of them in jobs of 12 and half in jobs of 100 000
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub tasks: u64,
    /// Environments that the jobs belong to in turn
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub environments: usize,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The run.
#[derive(Debug, Serialize)]
struct Figures {
    bench: &'static str,
    machine: Machine,
    servers: u64,
    environments: usize,
    tasks: u64,
    /// Until the servers were killed to measure restarts.
    leader_changes: u64,
    /// With a short queue, then with all of it.
    levels: [Level; 2],
    /// Rates with the long queue to those with the short one, median to median.
    ratio: Rates,
    /// Filling the queue.
    fill_s: f64,
    fill_tasks_per_s: f64,
    /// With all of it queued and nothing else to do.
    memory: Memory,
    /// A follower killed and started again, until it has applied what the leader has.
    restart_follower_s: Option<f64>,
    /// All servers killed and started again, until one leads and is ready.
    restart_all_s: f64,
    /// A follower started again after the log was cut past its end, until it has applied what the leader has.
    snapshot_s: Option<f64>,
}

/// The leader's memory.
#[derive(Debug, Serialize)]
struct Memory {
    rss_mib: f64,
    peak_rss_mib: f64,
    block_cache_mib: f64,
    memtables_mib: f64,
    table_readers_mib: f64,
    /// What is left of the RSS without RocksDB's, a task, in bytes.
    rest_bytes_per_task: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: QueueArgs) -> Result<Exit, Failure> {
    check_cluster(args.servers, args.workers, args.slots)?;
    if args.tasks < TASKS_MIN || args.tasks > TASKS_MAX {
        return Err(Failure::usage(format!("must be {TASKS_MIN} to {TASKS_MAX}")).at("--tasks"));
    }
    if args.environments == 0 || args.environments > ENVIRONMENTS_MAX {
        return Err(Failure::usage(format!("must be 1 to {ENVIRONMENTS_MAX}")).at("--environments"));
    }
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-bench-")?;
    let layout = Layout {
        cluster: "bench".into(),
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        limits: LimitsConfig {
            snapshot_bytes: SNAPSHOT_BYTES,
            ..LimitsConfig::default()
        },
        ..Layout::default()
    };
    let machine = Machine::here(dir.path());
    let before = measured_syncs(dir.path()).await?;
    let mut house = House::start(&layout, dir.path()).await?;
    let figures = measured(ctx, &mut house, &args, machine).await;
    house.stop().await;
    let raw_syncs = [before, measured_syncs(dir.path()).await?];
    let figures = or_logs(ctx, dir, figures)?;
    show(ctx, &WithSyncs { figures, raw_syncs })?;
    Ok(Exit::Ok)
}

async fn measured(
    ctx: &mut Context,
    house: &mut House,
    args: &QueueArgs,
    machine: Machine,
) -> Result<Figures, Failure> {
    let (_, first) = house.leader(QUIET_WITHIN).await?;
    let client = house.client();
    let clients: Vec<Client> = (1..=args.environments)
        .map(|number| client.in_environment(&format!("bench-{number:03}")))
        .collect();
    submit(&clients, SHORT.min(args.tasks / 10)).await?;
    let short = level(house, &clients, args.tasks).await?;
    ctx.out
        .note(&format!("measured with {} tasks queued", short.queued));
    let missing = args.tasks.saturating_sub(waiting(house).await?);
    let begun = Instant::now();
    submit(&clients, missing).await?;
    let fill_time = begun.elapsed();
    ctx.out.note(&format!(
        "{missing} more queued in {:.1} s",
        fill_time.as_secs_f64()
    ));
    tokio::time::sleep(SETTLE).await;
    let memory = memory(house, args.tasks).await?;
    let long = level(house, &clients, args.tasks).await?;
    ctx.out
        .note(&format!("measured with {} tasks queued", long.queued));
    let (_, last) = house.leader(QUIET_WITHIN).await?;
    let (restart_follower_s, snapshot_s) = match args.servers {
        1 => (None, None),
        _ => (
            Some(restart_follower(house).await?),
            told(ctx, snapshot(house, &client).await),
        ),
    };
    let restart_all_s = restart_all(house).await?;
    let per_s = [short.per_s, long.per_s];
    let ratio = |of: OneRate| round(of(&per_s[1]) / of(&per_s[0]).max(1e-9), 3);
    Ok(Figures {
        bench: "queue",
        machine,
        servers: args.servers,
        environments: args.environments,
        tasks: args.tasks,
        leader_changes: last.term - first.term,
        levels: [short, long],
        ratio: Rates {
            submitted_tasks: ratio(|rates| rates.submitted_tasks),
            listed_pages: ratio(|rates| rates.listed_pages),
            given_tasks: ratio(|rates| rates.given_tasks),
        },
        fill_s: seconds(fill_time),
        fill_tasks_per_s: round(missing as f64 / fill_time.as_secs_f64(), 0),
        memory,
        restart_follower_s,
        restart_all_s,
        snapshot_s,
    })
}

/// So many tasks at the end of the queue.
pub(super) async fn submit(clients: &[Client], tasks: u64) -> Result<(), Failure> {
    submit_load(clients, Load::halves(tasks, Photos::Numbered), 0).await
}

/// These tasks, before all of a lower priority.
pub(super) async fn submit_load(clients: &[Client], load: Load, priority: u32) -> Result<(), Failure> {
    let spec = JobSpec {
        recogniser: "noop".into(),
        priority,
        ..JobSpec::default()
    };
    // Nobody reads what is only queued.
    let (small, large) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
    fill(clients, Arc::new(load), spec, AT_ONCE, small, large).await
}

pub(super) async fn waiting(house: &mut House) -> Result<u64, Failure> {
    Ok(house.leader(QUIET_WITHIN).await?.1.tasks_waiting)
}

async fn memory(house: &mut House, tasks: u64) -> Result<Memory, Failure> {
    let (leader, _) = house.leader(QUIET_WITHIN).await?;
    let name = format!("server {}", leader + 1);
    let process = house
        .pids()
        .into_iter()
        .find_map(|(one, id)| (one == name).then_some(id));
    let usage = process
        .and_then(Usage::of)
        .ok_or_else(|| Failure::failed(format!("{name} is gone")))?;
    let scrape = Scrape::of(house.http(leader)).await?;
    let of = |name: &str| scrape.count(&format!("rebound_store_memory_bytes{{of=\"{name}\"}}"));
    let (cache, memtables, readers) = (of("block_cache"), of("memtables"), of("table_readers"));
    let rest = usage.rss.saturating_sub(cache + memtables + readers);
    Ok(Memory {
        rss_mib: mib(usage.rss),
        peak_rss_mib: mib(usage.peak_rss),
        block_cache_mib: mib(cache),
        memtables_mib: mib(memtables),
        table_readers_mib: mib(readers),
        rest_bytes_per_task: round(rest as f64 / tasks as f64, 1),
    })
}

/// A server that does not lead.
async fn a_follower(house: &mut House) -> Result<usize, Failure> {
    let (leader, _) = house.leader(QUIET_WITHIN).await?;
    Ok((leader + 1) % house.addresses().len())
}

async fn restart_follower(house: &mut House) -> Result<f64, Failure> {
    let at = a_follower(house).await?;
    house.kill_server(at);
    let begun = Instant::now();
    house.start_server(at, false)?;
    house.caught_up(at, WITHIN).await?;
    Ok(seconds(begun.elapsed()))
}

async fn restart_all(house: &mut House) -> Result<f64, Failure> {
    let servers = house.addresses().len();
    (0..servers).for_each(|at| house.kill_server(at));
    let begun = Instant::now();
    for at in 0..servers {
        house.start_server(at, false)?;
    }
    house.leader(WITHIN).await?;
    Ok(seconds(begun.elapsed()))
}

/// What failed is told; what was measured before counts all the same.
fn told(ctx: &mut Context, measured: Result<f64, Failure>) -> Option<f64> {
    measured
        .inspect_err(|failure| {
            ctx.out
                .note(&format!("no snapshot was measured: {}", failure.message))
        })
        .ok()
}

/// Kills a follower, has the log cut past what it has, and starts it again.
async fn snapshot(house: &mut House, client: &Client) -> Result<f64, Failure> {
    let at = a_follower(house).await?;
    let (_, had) = house.leader(QUIET_WITHIN).await?;
    house.kill_server(at);
    let until = Instant::now() + WITHIN;
    while house.leader(QUIET_WITHIN).await?.1.first_index <= had.applied + 1 {
        if Instant::now() > until {
            return Err(Failure::timeout("the log was not cut while a follower was down"));
        }
        let mut lanes = JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = client.clone();
            lanes.spawn(async move {
                for _ in 0..AT_ONCE {
                    match client.ping().await {
                        // Counted or not: there is one more entry, or the next call makes it.
                        Ok(_) | Err(ClientError::Unknown { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            });
        }
        while let Some(lane) = lanes.join_next().await {
            let lane = lane.map_err(|error| Failure::failed(format!("a lane ended early: {error}")))?;
            lane.map_err(asked("ping"))?;
        }
    }
    let begun = Instant::now();
    house.start_server(at, false)?;
    house.caught_up(at, WITHIN).await?;
    Ok(seconds(begun.elapsed()))
}

fn show(ctx: &mut Context, figures: &WithSyncs<Figures>) -> Result<(), Failure> {
    ctx.out.one(figures, |out, WithSyncs { figures, raw_syncs }| {
        let columns = [
            ("", Align::Left),
            ("SHORT QUEUE", Align::Right),
            ("LONG QUEUE", Align::Right),
            ("RATIO", Align::Right),
        ];
        let [short, long] = &figures.levels;
        let mut table = Table::new(&columns);
        let mut row = |name: &str, values: [f64; 2], ratio: Option<f64>| {
            let [short, long] = values.map(|value| format!("{value:.0}"));
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            table.row([name.to_owned(), short, long, ratio]);
        };
        row("tasks queued", [short.queued as f64, long.queued as f64], None);
        let rates: [(&str, OneRate); 3] = [
            ("tasks submitted a second", |rates| rates.submitted_tasks),
            ("pages of 20 jobs listed a second", |rates| rates.listed_pages),
            ("tasks given a second", |rates| rates.given_tasks),
        ];
        for (name, of) in rates {
            row(
                name,
                [of(&short.per_s), of(&long.per_s)],
                Some(of(&figures.ratio)),
            );
        }
        row(
            "longest handle so far, ms",
            [short.longest_handle_ms, long.longest_handle_ms],
            None,
        );
        row(
            "of one, processor time, ms",
            [short.longest_handle_cpu_ms, long.longest_handle_cpu_ms],
            None,
        );
        out.table(&mut table)?;
        out.line("")?;
        let memory = &figures.memory;
        let time = |time: Option<f64>| time.map_or("not measured".to_owned(), |s| format!("{s:.2} s"));
        let mut table = Table::facts();
        for (name, value) in [
            (
                "queue filled",
                format!("{:.1} s, {:.0} tasks/s", figures.fill_s, figures.fill_tasks_per_s),
            ),
            (
                "leader's memory",
                format!("{:.0} MiB, at most {:.0}", memory.rss_mib, memory.peak_rss_mib),
            ),
            (
                "of it RocksDB's",
                format!(
                    "block cache {:.0} MiB, memtables {:.0}, table readers {:.0}",
                    memory.block_cache_mib, memory.memtables_mib, memory.table_readers_mib
                ),
            ),
            (
                "the rest, a task",
                format!("{:.1} bytes", memory.rest_bytes_per_task),
            ),
            ("raw synced writes", brief(raw_syncs)),
            ("leader changes", figures.leader_changes.to_string()),
            ("follower restarted", time(figures.restart_follower_s)),
            ("all servers restarted", time(Some(figures.restart_all_s))),
            ("snapshot to a follower", time(figures.snapshot_s)),
        ] {
            table.row([name.to_owned(), value]);
        }
        out.table(&mut table)
    })?;
    Ok(())
}
