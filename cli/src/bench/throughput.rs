//! `rebound bench throughput`: tasks through submit, log, plan, worker, log and back to the client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rebound_core::limits::RESULT_BYTES_MAX;
use rebound_proto::v1::JobSpec;
use rebound_scheduler::config::LimitsConfig;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::collect::{Expected, large_jobs, small_jobs};
use super::figures::{Machine, PerTask, ProcessFigures, Reading, cores, per_task, process_table, seconds};
use super::fill::fill;
use super::load::{Answers, Load, Photos};
use super::yardstick::{WithSyncs, brief, measured_syncs};
use super::{QUIET_WITHIN, check_cluster, command, or_logs};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, round};
use crate::output::Table;

/// Tasks of a run, unless told otherwise.
const TASKS: u64 = 500_000;
/// Most tasks of a run.
const TASKS_MAX: u64 = 20_000_000;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct ThroughputArgs {
    /// Servers: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub servers: u64,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub workers: u64,
    /// Tasks an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub slots: u32,
    /// Tasks, half of them in jobs of 12 and half in jobs of 100 000; 500 000 if not given, 4 000 with --command
    #[arg(long, value_name = "N")]
    pub tasks: Option<u64>,
    /// The program `true` for each task, on one agent with as many slots as processors and then with 64
    #[arg(long, conflicts_with_all = ["workers", "slots", "result_bytes", "no_ranges"])]
    pub command: bool,
    /// Bytes of each result
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub result_bytes: usize,
    /// Give tasks one by one, not as runs
    #[arg(long)]
    pub no_ranges: bool,
    /// Small jobs being submitted at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub at_once: usize,
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
    workers: u64,
    slots: u32,
    tasks: u64,
    jobs: u64,
    result_bytes: usize,
    ranges: bool,
    /// Results read back and found right: all of them, or the run fails.
    results_compared: u64,
    /// From the first submit to the last job acknowledged.
    submit_s: f64,
    /// From the first submit to the last result read.
    wall_s: f64,
    tasks_per_s: f64,
    cpu_us_per_task: PerTask,
    /// Share of all processors that all processes together took.
    processors_used: f64,
    leader_changes: u64,
    processes: Vec<ProcessFigures>,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: ThroughputArgs) -> Result<Exit, Failure> {
    check(&args)?;
    if args.command {
        return command::run(ctx, &args).await;
    }
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-bench-")?;
    let layout = Layout {
        cluster: "bench".into(),
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        agent_flags: vec!["--noop-bytes".into(), args.result_bytes.to_string()],
        limits: LimitsConfig {
            run_photos: match args.no_ranges {
                true => 1,
                false => LimitsConfig::default().run_photos,
            },
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

fn check(args: &ThroughputArgs) -> Result<(), Failure> {
    check_cluster(args.servers, args.workers, args.slots)?;
    if args.tasks.is_some_and(|tasks| tasks == 0 || tasks > TASKS_MAX) {
        return Err(Failure::usage(format!("must be 1 to {TASKS_MAX}")).at("--tasks"));
    }
    if args.result_bytes == 0 || args.result_bytes > RESULT_BYTES_MAX {
        return Err(Failure::usage(format!("must be 1 to {RESULT_BYTES_MAX}")).at("--result-bytes"));
    }
    if args.at_once == 0 || args.at_once > 1_024 {
        return Err(Failure::usage("must be 1 to 1024").at("--at-once"));
    }
    Ok(())
}

async fn measured(
    ctx: &mut Context,
    house: &mut House,
    args: &ThroughputArgs,
    machine: Machine,
) -> Result<Figures, Failure> {
    let tasks = args.tasks.unwrap_or(TASKS);
    let (_, begun) = house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    ctx.out.note(&format!(
        "{} servers and {} agents are up; {} tasks",
        args.servers, args.workers, tasks
    ));
    let load = Arc::new(Load::halves(tasks, Photos::Numbered));
    let spec = JobSpec {
        recogniser: "noop".into(),
        ..JobSpec::default()
    };
    let before = Reading::take(house).await?;
    let times = through(
        house,
        load.clone(),
        spec,
        Answers::Noop(args.result_bytes),
        args.at_once,
    )
    .await?;
    let after = Reading::take(house).await?;
    let (leader, ended) = house.leader(QUIET_WITHIN).await?;
    let processes = after.since(&before, leader);
    let cpu_us_per_task = per_task(&processes, tasks);
    let wall_s = times.wall.as_secs_f64();
    Ok(Figures {
        bench: "throughput",
        machine,
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        tasks,
        jobs: load.jobs(),
        result_bytes: args.result_bytes,
        ranges: !args.no_ranges,
        results_compared: times.compared,
        submit_s: seconds(times.submit),
        wall_s: seconds(times.wall),
        tasks_per_s: round(tasks as f64 / wall_s, 1),
        cpu_us_per_task,
        processors_used: round(
            cpu_us_per_task.all * tasks as f64 / 1e6 / wall_s / cores() as f64,
            3,
        ),
        leader_changes: ended.term - begun.term,
        processes,
    })
}

/// When a load was through.
pub struct Times {
    /// From the first submit to the last acknowledgement.
    pub submit: Duration,
    /// From the first submit to the last result read.
    pub wall: Duration,
    /// Results read and found right.
    pub compared: u64,
}

/// Submits a load and reads its results back, both at once. An error if a result is missing or wrong.
pub async fn through(
    house: &mut House,
    load: Arc<Load>,
    spec: JobSpec,
    answers: Answers,
    at_once: usize,
) -> Result<Times, Failure> {
    let client = house.client();
    let (small, small_told) = mpsc::unbounded_channel();
    let (large, large_told) = mpsc::unbounded_channel();
    let expected = Expected {
        photos: load.photos.clone(),
        answers,
    };
    let begun = Instant::now();
    let readers = [
        tokio::spawn(small_jobs(client.clone(), expected.clone(), small_told)),
        tokio::spawn(large_jobs(client.clone(), expected, large_told)),
    ];
    let tasks = load.tasks();
    let filled = fill(&[client], load, spec, at_once, small, large).await;
    let submit = begun.elapsed();
    let mut compared = 0;
    for reader in readers {
        compared += read(reader).await?;
    }
    let wall = begun.elapsed();
    // What readers found wrong says more than that nobody was left to submit to.
    filled?;
    house.check_alive()?;
    if compared != tasks {
        return Err(Failure::failed(format!(
            "{compared} results were compared of {tasks}"
        )));
    }
    Ok(Times {
        submit,
        wall,
        compared,
    })
}

async fn read(reader: JoinHandle<Result<u64, Failure>>) -> Result<u64, Failure> {
    reader
        .await
        .map_err(|error| Failure::failed(format!("a reader ended early: {error}")))?
}

fn show(ctx: &mut Context, figures: &WithSyncs<Figures>) -> Result<(), Failure> {
    ctx.out.one(figures, |out, WithSyncs { figures, raw_syncs }| {
        let mut table = Table::facts();
        let cpu = &figures.cpu_us_per_task;
        let facts = [
            ("tasks", format!("{} in {} jobs", figures.tasks, figures.jobs)),
            ("results read and right", figures.results_compared.to_string()),
            (
                "time",
                format!("{:.2} s, submitted in {:.2} s", figures.wall_s, figures.submit_s),
            ),
            ("tasks a second", format!("{:.0}", figures.tasks_per_s)),
            (
                "processor time a task",
                format!(
                    "{:.1} µs: leader {:.1}, followers {:.1}, agents {:.1}, client {:.1}",
                    cpu.all, cpu.leader, cpu.followers, cpu.agents, cpu.client
                ),
            ),
            (
                "processors used",
                format!("{:.0} %", figures.processors_used * 100.0),
            ),
            ("raw synced writes", brief(raw_syncs)),
            ("leader changes", figures.leader_changes.to_string()),
        ];
        for (name, value) in facts {
            table.row([name.to_owned(), value]);
        }
        out.table(&mut table)?;
        out.line("")?;
        out.table(&mut process_table(&figures.processes))
    })?;
    Ok(())
}
