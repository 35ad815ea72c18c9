//! `rebound bench latency`: one small job at a time on an idle cluster, beside one replicated synced commit.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use rebound_proto::v1::{JobSpec, JobState};
use rebound_scheduler::config::LoggingConfig;
use serde::Serialize;
use tokio::time::Instant;

use super::collect::Expected;
use super::figures::Machine;
use super::fill::{Taken, submit_small};
use super::load::{Answers, JobPart, Photos, SMALL_TASKS};
use super::trace::{Moment, Trace};
use super::yardstick::{Syncs, aside, measured_syncs, ms, round_trips};
use super::{QUIET_WITHIN, check_cluster, or_logs};
use crate::client::{Client, ClientError};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, Quantiles, asked, round};
use crate::output::{Align, Table};

/// Most jobs of a run.
const JOBS_MAX: u64 = 100_000;
/// Jobs before the clock runs: connections, caches and plans are there then.
const WARM_UP: u64 = 20;
/// Jobs of which one is traced.
const TRACED: u64 = 21;
/// Between two questions, so that each finds the cluster idle.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest wait of one look at a job.
const WATCH: Duration = Duration::from_secs(5);
/// What a server logs of a job that is traced.
const TRACE_FILTER: &str = "info,rebound_scheduler::telemetry=debug";

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct LatencyArgs {
    /// Servers: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub servers: u64,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub workers: u64,
    /// Tasks an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub slots: u32,
    /// Jobs of 12 tasks, one after another
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub jobs: u64,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The run. Times are in milliseconds, as the client saw them.
#[derive(Debug, Serialize)]
struct Figures {
    bench: &'static str,
    machine: Machine,
    servers: u64,
    workers: u64,
    jobs: u64,
    /// One counter committed: asked, replicated, synced, answered. Taken in turns with the jobs.
    commit_ms: Quantiles,
    /// From the submit to its acknowledgement.
    acknowledged_ms: Quantiles,
    /// From the submit to the start of the job's first task in a worker's slot.
    started_ms: Quantiles,
    /// From the submit to all results in the client's hands.
    readable_ms: Quantiles,
    /// Started to commit, p50 to p50 and p99 to p99.
    started_ratio: Ratio,
    /// Readable to commit.
    readable_ratio: Ratio,
    /// Writes of 1 KiB with `fdatasync` where the servers' data is, before and after.
    syncs: [Syncs; 2],
    /// 128 bytes over loopback to another thread and back, before and after, in milliseconds.
    round_trip_ms: [Quantiles; 2],
    /// The job in the middle of 21 others, on servers that log every fact.
    trace: Vec<Moment>,
}

#[derive(Debug, Serialize)]
struct Ratio {
    p50: f64,
    p99: f64,
}

impl Ratio {
    fn of(one: &Quantiles, other: &Quantiles) -> Ratio {
        Ratio {
            p50: round(one.p50 / other.p50.max(1e-9), 2),
            p99: round(one.p99 / other.p99.max(1e-9), 2),
        }
    }
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: LatencyArgs) -> Result<Exit, Failure> {
    check_cluster(args.servers, args.workers, args.slots)?;
    if args.jobs == 0 || args.jobs > JOBS_MAX {
        return Err(Failure::usage(format!("must be 1 to {JOBS_MAX}")).at("--jobs"));
    }
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-bench-")?;
    let figures = both(&args, dir.path()).await;
    let figures = or_logs(ctx, dir, figures)?;
    show(ctx, &figures)?;
    Ok(Exit::Ok)
}

/// First the figures, on servers as they are in production, then the trace, on others.
async fn both(args: &LatencyArgs, dir: &Path) -> Result<Figures, Failure> {
    let machine = Machine::here(dir);
    let yardsticks = (measured_syncs(dir).await?, measured_round_trips().await?);
    let mut layout = Layout {
        cluster: "bench".into(),
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        ..Layout::default()
    };
    let mut house = House::start(&layout, &place(dir, "timed")?).await?;
    let timed = timed(&mut house, args.jobs).await;
    house.stop().await;
    let Timed { commits, jobs } = timed?;
    layout.logging = LoggingConfig {
        filter: TRACE_FILTER.into(),
        ..LoggingConfig::default()
    };
    let mut house = House::start(&layout, &place(dir, "traced")?).await?;
    let trace = traced(&mut house).await;
    house.stop().await;
    let of = |time: fn(&OneJob) -> f64| Quantiles::of(jobs.iter().map(time).collect(), 3);
    let commit_ms = Quantiles::of(commits, 3);
    let (started_ms, readable_ms) = (of(|job| job.started), of(|job| job.readable));
    Ok(Figures {
        bench: "latency",
        machine,
        servers: args.servers,
        workers: args.workers,
        jobs: args.jobs,
        commit_ms,
        acknowledged_ms: of(|job| job.acknowledged),
        started_ms,
        readable_ms,
        started_ratio: Ratio::of(&started_ms, &commit_ms),
        readable_ratio: Ratio::of(&readable_ms, &commit_ms),
        syncs: [yardsticks.0, measured_syncs(dir).await?],
        round_trip_ms: [yardsticks.1, measured_round_trips().await?],
        trace: trace?,
    })
}

fn place(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let place = dir.join(name);
    std::fs::create_dir_all(&place)
        .map_err(|error| Failure::failed(format!("{}: {error}", place.display())))?;
    Ok(place)
}

async fn measured_round_trips() -> Result<Quantiles, Failure> {
    aside(round_trips).await
}

struct Timed {
    commits: Vec<f64>,
    jobs: Vec<OneJob>,
}

/// What became of one job, in milliseconds from its submit.
struct OneJob {
    id: u64,
    /// The submit, in µs since 1970.
    asked_us: u64,
    acknowledged: f64,
    started: f64,
    last_started: f64,
    last_ended: f64,
    known: f64,
    readable: f64,
}

async fn timed(house: &mut House, count: u64) -> Result<Timed, Failure> {
    house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    let client = house.client();
    for number in 0..WARM_UP {
        one_job(&client, number).await?;
    }
    let mut found = Timed {
        commits: Vec::new(),
        jobs: Vec::new(),
    };
    for number in WARM_UP..WARM_UP + count {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        client.ping().await.map_err(asked("ping"))?;
        found.commits.push(ms(begun.elapsed()));
        tokio::time::sleep(PAUSE).await;
        found.jobs.push(one_job(&client, number).await?);
    }
    house.check_alive()?;
    Ok(found)
}

async fn one_job(client: &Client, number: u64) -> Result<OneJob, Failure> {
    let part = JobPart {
        first: number * SMALL_TASKS,
        count: SMALL_TASKS,
    };
    let photos = Photos::Numbered;
    let spec = JobSpec {
        recogniser: "noop".into(),
        ..JobSpec::default()
    };
    let (asked_us, begun) = (wall_us(), Instant::now());
    let id = submit_small(client, &photos, part, &spec)
        .await
        .map_err(asked("submit"))?;
    let acknowledged = ms(begun.elapsed());
    watch_done(client, id).await.map_err(asked("watch"))?;
    let known = ms(begun.elapsed());
    let page = client
        .results(id, 0, SMALL_TASKS as u32)
        .await
        .map_err(asked("results"))?;
    let readable = ms(begun.elapsed());
    let expected = Expected {
        photos,
        answers: Answers::Noop(64),
    };
    if page.results.len() as u64 != SMALL_TASKS {
        return Err(Failure::failed(format!(
            "job {id} is done and has {} results",
            page.results.len()
        )));
    }
    expected.compare(Taken { id, part }, 0, &page.results)?;
    let after = |time: u64| (time as f64 - asked_us as f64) / 1e3;
    let results = &page.results;
    Ok(OneJob {
        id,
        asked_us,
        acknowledged,
        started: after(results.iter().map(|one| one.started_us).min().unwrap_or(0)),
        last_started: after(results.iter().map(|one| one.started_us).max().unwrap_or(0)),
        last_ended: after(results.iter().map(|one| one.ended_us).max().unwrap_or(0)),
        known,
        readable,
    })
}

/// A job's id is the index of the entry that opened it: changes after that are waited for.
async fn watch_done(client: &Client, id: u64) -> Result<(), ClientError> {
    let mut seen = id;
    loop {
        let job = client.watch(id, seen, WATCH).await?;
        if matches!(job.state(), JobState::Done | JobState::Cancelled) {
            return Ok(());
        }
        seen = job.changed;
    }
}

fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

async fn traced(house: &mut House) -> Result<Vec<Moment>, Failure> {
    let Timed { mut jobs, .. } = timed(house, TRACED).await?;
    let (leader, _) = house.leader(QUIET_WITHIN).await?;
    jobs.sort_by(|one, other| one.readable.total_cmp(&other.readable));
    let job = &jobs[jobs.len() / 2];
    let log = std::fs::read_to_string(house.log(leader))
        .map_err(|error| Failure::failed(format!("{}: {error}", house.log(leader).display())))?;
    let mut trace = Trace::of_log(&log, job.id, job.asked_us);
    for (what, at) in [
        ("client: the submit is acknowledged", job.acknowledged),
        ("worker: the first task starts", job.started),
        ("worker: the last task starts", job.last_started),
        ("worker: the last task ends", job.last_ended),
        ("client: knows that the job is done", job.known),
        ("client: has all results", job.readable),
    ] {
        trace.add(at, what);
    }
    Ok(trace.in_order())
}

fn show(ctx: &mut Context, figures: &Figures) -> Result<(), Failure> {
    ctx.out.one(figures, |out, figures| {
        let columns = [
            ("", Align::Left),
            ("P50 MS", Align::Right),
            ("P99 MS", Align::Right),
            ("TO A COMMIT, P50", Align::Right),
            ("P99", Align::Right),
        ];
        let mut table = Table::new(&columns);
        let mut row = |name: &str, quantiles: &Quantiles, ratio: Option<&Ratio>| {
            let ratio = ratio.map_or([String::new(), String::new()], |ratio| {
                [format!("{:.2}", ratio.p50), format!("{:.2}", ratio.p99)]
            });
            let [p50, p99] = ratio;
            let of = |value: f64| format!("{value:.3}");
            table.row([name.to_owned(), of(quantiles.p50), of(quantiles.p99), p50, p99]);
        };
        row("one replicated synced commit", &figures.commit_ms, None);
        row("submit to acknowledged", &figures.acknowledged_ms, None);
        row(
            "submit to started",
            &figures.started_ms,
            Some(&figures.started_ratio),
        );
        row(
            "submit to result readable",
            &figures.readable_ms,
            Some(&figures.readable_ratio),
        );
        for (when, (syncs, trips)) in ["before", "after"]
            .iter()
            .zip(figures.syncs.iter().zip(&figures.round_trip_ms))
        {
            row(&format!("raw synced write, {when}"), &syncs.ms, None);
            row(&format!("loopback round trip, {when}"), trips, None);
        }
        out.table(&mut table)?;
        out.line("\nOne job:")?;
        let columns = [("AT MS", Align::Right), ("WHAT", Align::Left)];
        let mut table = Table::new(&columns);
        for moment in &figures.trace {
            table.row([format!("{:.3}", moment.at_ms), moment.what.clone()]);
        }
        out.table(&mut table)
    })?;
    Ok(())
}
