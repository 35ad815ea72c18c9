//! `rebound bench failover`: the leader killed again and again under a steady load; how long no writes are taken, and
//! an audit of what was acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rebound_core::limits::{ELECTION_TICKS_MAX, TICK};
use rebound_proto::v1::JobSpec;
use rebound_scheduler::config::LogConfig;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::collect::Expected;
use super::figures::{Machine, seconds};
use super::fill::{Taken, submit_small};
use super::load::{Answers, JobPart, Photos, SMALL_TASKS};
use super::yardstick::ms;
use super::{QUIET_WITHIN, check_cluster};
use crate::client::Client;
use crate::cmd::Context;
use crate::dev::audit::{Audit, audit};
use crate::dev::burst::Acknowledged;
use crate::dev::probe;
use crate::exit::{Exit, Failure};
use crate::limits::RESULTS_PAGE_MAX;
use crate::local::{DataDir, House, Layout, Quantiles, asked, round};
use crate::output::Table;

/// Most kills of a run.
const KILLS_MAX: usize = 10_000;
/// Most jobs a second.
const RATE_MAX: u64 = 10_000;
/// Submits under way at most; more wait, and the generator says by how much it lags.
const UNDER_WAY: usize = 8_192;
/// Results read back at once.
const READS_AT_ONCE: usize = 32;
/// From a victim's return to the next kill, and from the first job to the first kill.
const REST: Duration = Duration::from_millis(500);
/// How long a new leader, or a victim's return, may take.
const WITHIN: Duration = Duration::from_secs(60);
/// The election timeout's upper bound, in milliseconds.
const ELECTION_MS: f64 = (TICK * ELECTION_TICKS_MAX as u64) as f64 / 1e3;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// Servers: 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub servers: u64,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub workers: u64,
    /// Tasks an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub slots: u32,
    /// How often the leader is killed, each time when the last victim has caught up
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub kills: usize,
    /// Jobs of 12 tasks submitted a second, whatever is answered
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rate: u64,
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
    kills: usize,
    jobs_per_s: u64,
    wall_s: f64,
    /// From the last commit answered before a kill to the first after it, in milliseconds.
    gap_ms: Quantiles,
    /// The same in upper bounds of the election timeout.
    gap_in_timeouts: Quantiles,
    election_timeout_ms: f64,
    /// Gaps above four of them.
    above_four: usize,
    /// From a kill until the victim, started again when there is a new leader, has caught up, in milliseconds.
    back_ms: Quantiles,
    jobs_acknowledged: u64,
    /// Jobs whose submit gave no answer within a minute: nothing is promised about them.
    jobs_unanswered: u64,
    /// From a submit to its acknowledgement, in milliseconds; those in a gap included.
    acknowledged_ms: Quantiles,
    /// How late the generator was at most, in milliseconds.
    lag_ms: f64,
    results_compared: u64,
    audit: Audit,
}

impl Figures {
    fn is_good(&self) -> bool {
        let audit = &self.audit;
        audit.acknowledged_lost == 0
            && audit.recorded_twice == 0
            && audit.digests_equal
            && audit.findings.is_empty()
    }
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: FailoverArgs) -> Result<Exit, Failure> {
    check_cluster(args.servers, args.workers, args.slots)?;
    if args.servers == 1 {
        return Err(Failure::usage("needs at least 3, so that one can be missed").at("--servers"));
    }
    if args.kills == 0 || args.kills > KILLS_MAX {
        return Err(Failure::usage(format!("must be 1 to {KILLS_MAX}")).at("--kills"));
    }
    if args.rate == 0 || args.rate > RATE_MAX {
        return Err(Failure::usage(format!("must be 1 to {RATE_MAX}")).at("--rate"));
    }
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-bench-")?;
    let layout = Layout {
        cluster: "bench".into(),
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        log: LogConfig {
            archive: true,
            ..LogConfig::default()
        },
        ..Layout::default()
    };
    let machine = Machine::here(dir.path());
    let mut house = House::start(&layout, dir.path()).await?;
    let figures = measured(ctx, &mut house, &args, machine).await;
    house.stop().await;
    let is_good = figures.as_ref().is_ok_and(Figures::is_good);
    if !is_good {
        ctx.out
            .note(&format!("Logs and data are in {}", dir.keep().display()));
    }
    show(ctx, &figures?)?;
    Ok(if is_good { Exit::Ok } else { Exit::Failed })
}

async fn measured(
    ctx: &mut Context,
    house: &mut House,
    args: &FailoverArgs,
    machine: Machine,
) -> Result<Figures, Failure> {
    house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    let begun = Instant::now();
    let (stop, stopped) = watch::channel(false);
    // Connections of its own: the probe drops those that do not answer at once.
    let (_kept, always) = watch::channel(0);
    let probe = tokio::spawn(probe::run(house.client(), always, 0, stopped.clone()));
    let load = tokio::spawn(steady(house.client(), args.rate, stopped));
    let killed = kill(ctx, house, args.kills).await;
    stop.send_replace(true);
    let load = joined(load).await?;
    let answers = joined(probe).await?;
    let killed = killed?;
    house.quiet(QUIET_WITHIN).await?;
    let wall = begun.elapsed();
    let acked = read_back(&house.client(), &load.taken).await?;
    let results_compared = acked.iter().map(|job| job.results.len() as u64).sum();
    // Agents that leave say so in the log: all servers must have that too before they stop.
    house.stop_agents().await;
    house.quiet(QUIET_WITHIN).await?;
    house.stop().await;
    let dirs = house.data_dirs();
    let audit = joined(tokio::task::spawn_blocking(move || audit(&dirs, &acked, ""))).await??;
    let gaps: Option<Vec<f64>> = killed.iter().map(|one| answers.gap_ms(one.at)).collect();
    let gaps = gaps.ok_or_else(|| Failure::failed("no commit was answered round one of the kills"))?;
    let in_timeouts: Vec<f64> = gaps.iter().map(|gap| gap / ELECTION_MS).collect();
    Ok(Figures {
        bench: "failover",
        machine,
        servers: args.servers,
        workers: args.workers,
        kills: gaps.len(),
        jobs_per_s: args.rate,
        wall_s: seconds(wall),
        above_four: in_timeouts.iter().filter(|gap| **gap > 4.0).count(),
        gap_in_timeouts: Quantiles::of(in_timeouts, 2),
        gap_ms: Quantiles::of(gaps, 0),
        election_timeout_ms: ELECTION_MS,
        back_ms: Quantiles::of(killed.iter().map(|one| ms(one.back)).collect(), 0),
        jobs_acknowledged: load.taken.len() as u64,
        jobs_unanswered: load.unanswered,
        acknowledged_ms: Quantiles::of(load.acknowledged_ms, 1),
        lag_ms: round(load.lag_ms, 1),
        results_compared,
        audit,
    })
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, Failure> {
    task.await
        .map_err(|error| Failure::failed(format!("a part of the bench ended early: {error}")))
}

/// A leader's death.
struct Killed {
    at: Instant,
    /// Until it had caught up again.
    back: Duration,
}

async fn kill(ctx: &mut Context, house: &mut House, kills: usize) -> Result<Vec<Killed>, Failure> {
    let mut killed = Vec::new();
    for number in 1..=kills {
        tokio::time::sleep(REST).await;
        let (victim, _) = house.leader(WITHIN).await?;
        let at = Instant::now();
        house.kill_server(victim);
        house.leader(WITHIN).await?;
        house.start_server(victim, false)?;
        house.caught_up(victim, WITHIN).await?;
        let back = at.elapsed();
        ctx.out.note(&format!(
            "kill {number} of {kills}: server {} was the leader; it has caught up after {:.2} s",
            victim + 1,
            back.as_secs_f64()
        ));
        killed.push(Killed { at, back });
    }
    tokio::time::sleep(REST).await;
    Ok(killed)
}

/// What a steady load came to.
struct Steady {
    taken: Vec<Taken>,
    acknowledged_ms: Vec<f64>,
    unanswered: u64,
    lag_ms: f64,
}

/// Submits so many small jobs a second, until told to stop.
async fn steady(client: Client, rate: u64, mut stop: watch::Receiver<bool>) -> Steady {
    let mut ticks = interval(Duration::from_secs(1) / rate as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut submits = JoinSet::new();
    let mut load = Steady {
        taken: Vec::new(),
        acknowledged_ms: Vec::new(),
        unanswered: 0,
        lag_ms: 0.0,
    };
    let mut number = 0;
    loop {
        let due = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            due = ticks.tick() => due,
        };
        let permit = room.clone().acquire_owned().await.expect("never closed");
        load.lag_ms = load.lag_ms.max(ms(due.elapsed()));
        let part = JobPart {
            first: number,
            count: SMALL_TASKS,
        };
        number += SMALL_TASKS;
        let client = client.clone();
        submits.spawn(async move {
            let spec = JobSpec {
                recogniser: "noop".into(),
                ..JobSpec::default()
            };
            let id = submit_small(&client, &Photos::Numbered, part, &spec).await;
            drop(permit);
            (id.map(|id| Taken { id, part }), ms(due.elapsed()))
        });
        while let Some(submit) = submits.try_join_next() {
            load.note(submit);
        }
    }
    while let Some(submit) = submits.join_next().await {
        load.note(submit);
    }
    load
}

type Submit = Result<(Result<Taken, crate::client::ClientError>, f64), tokio::task::JoinError>;

impl Steady {
    fn note(&mut self, submit: Submit) {
        match submit {
            Ok((Ok(taken), ms)) => {
                self.taken.push(taken);
                self.acknowledged_ms.push(ms);
            }
            _ => self.unanswered += 1,
        }
    }
}

/// Reads all results of what was acknowledged, and compares them.
async fn read_back(client: &Client, taken: &[Taken]) -> Result<Vec<Acknowledged>, Failure> {
    let room = Arc::new(Semaphore::new(READS_AT_ONCE));
    let mut reads = JoinSet::new();
    for job in taken.iter().copied() {
        let permit = room.clone().acquire_owned().await.expect("never closed");
        let client = client.clone();
        reads.spawn(async move {
            let page = client.results(job.id, 0, RESULTS_PAGE_MAX).await;
            drop(permit);
            let results = page.map_err(asked("results"))?.results;
            let expected = Expected {
                photos: Photos::Numbered,
                answers: Answers::Noop(64),
            };
            expected.compare(job, 0, &results)?;
            let numbers = job.part.first..job.part.first + job.part.count;
            Ok(Acknowledged {
                job: job.id,
                photos: numbers.map(|number| Photos::Numbered.uri(number)).collect(),
                results,
            })
        });
    }
    let mut acked = Vec::new();
    while let Some(read) = reads.join_next().await {
        let read: Result<Acknowledged, Failure> =
            read.map_err(|error| Failure::failed(format!("a reader ended early: {error}")))?;
        acked.push(read?);
    }
    Ok(acked)
}

fn show(ctx: &mut Context, figures: &Figures) -> Result<(), Failure> {
    ctx.out.one(figures, |out, figures| {
        let quantiles = |q: &Quantiles, unit: &str| {
            format!(
                "p50 {:.2}{unit}, p95 {:.2}{unit}, p99 {:.2}{unit}, at most {:.2}{unit}",
                q.p50, q.p95, q.p99, q.max
            )
        };
        let audit = &figures.audit;
        let mut table = Table::facts();
        for (name, value) in [
            (
                "leaders killed",
                format!("{} in {:.0} s", figures.kills, figures.wall_s),
            ),
            ("no commits", quantiles(&figures.gap_ms, " ms")),
            (
                "in election timeouts",
                format!(
                    "{}; {} above 4",
                    quantiles(&figures.gap_in_timeouts, ""),
                    figures.above_four
                ),
            ),
            ("victim caught up after", quantiles(&figures.back_ms, " ms")),
            (
                "jobs acknowledged, unanswered",
                format!("{}, {}", figures.jobs_acknowledged, figures.jobs_unanswered),
            ),
            (
                "submit to acknowledged",
                quantiles(&figures.acknowledged_ms, " ms"),
            ),
            (
                "the generator lagged at most",
                format!("{:.1} ms", figures.lag_ms),
            ),
            (
                "recorded twice, acknowledged lost",
                format!("{}, {}", audit.recorded_twice, audit.acknowledged_lost),
            ),
            (
                "audited",
                format!(
                    "{} entries, {} digests, {} stored results",
                    audit.entries, audit.digests_compared, audit.acknowledged_compared
                ),
            ),
        ] {
            table.row([name.to_owned(), value]);
        }
        out.table(&mut table)?;
        for finding in &audit.findings {
            out.line(&format!("audit: {finding}"))?;
        }
        Ok(())
    })?;
    Ok(())
}
