//! `rebound bench failover`: the leader killed again and again under a steady load; how long no writes are taken, and
//! an audit of what was acknowledged.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rebound_core::limits::{ELECTION_TICKS_MAX, TICK};
use rebound_scheduler::config::LogConfig;
use rebound_sim::rng::Rng;
use serde::Serialize;
use tokio::time::Instant;

use super::check_cluster;
use super::drill::{Drill, check_rate};
use super::figures::{Machine, seconds};
use super::yardstick::ms;
use crate::cmd::Context;
use crate::dev::audit::Audit;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, Quantiles, round};
use crate::output::Table;

/// Most kills of a run.
const KILLS_MAX: usize = 10_000;
/// From a victim's return to the next kill, and from the first job to the first kill.
const REST: Duration = Duration::from_millis(500);
/// How long a new leader, or a victim's return, may take.
const WITHIN: Duration = Duration::from_secs(60);
/// The median gap must be below this many election timeouts, where gaps are judged.
const MEDIAN_MAX: f64 = 2.0;
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
    /// How often a server is killed, each time when the last victim has caught up
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub kills: usize,
    /// Jobs of 12 tasks submitted a second, whatever is answered
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rate: u64,
    /// Who is killed
    #[arg(long, value_name = "WHO", default_value = "leader")]
    pub victim: Victim,
    /// What draws the victims, with `--victim any`
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Fail also when writes stopped for too long: a median of 2 election timeouts, or more than one gap of a hundred
    /// above 4
    #[arg(long)]
    pub judge_gaps: bool,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    /// Whoever leads
    Leader,
    /// Any server, drawn by the seed
    Any,
}

/// The run.
#[derive(Debug, Serialize)]
struct Figures {
    bench: &'static str,
    machine: Machine,
    servers: u64,
    workers: u64,
    kills: usize,
    /// Of these, so many were of the leader.
    leaders: usize,
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
    fn is_good(&self, judge_gaps: bool) -> bool {
        let quick = self.gap_in_timeouts.p50 < MEDIAN_MAX && self.above_four <= self.kills.div_ceil(100);
        self.audit.is_clean() && (quick || !judge_gaps)
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
    check_rate(args.rate)?;
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
    let is_good = figures
        .as_ref()
        .is_ok_and(|figures| figures.is_good(args.judge_gaps));
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
    let mut drill = Drill::start(house, args.rate).await?;
    let killed = kill(ctx, &mut drill, args).await;
    let ended = drill.end(killed).await?;
    let (killed, audit, load) = (ended.done, ended.audit, ended.load);
    let gaps: Option<Vec<f64>> = killed.iter().map(|one| ended.answers.gap_ms(one.at)).collect();
    let gaps = gaps.ok_or_else(|| Failure::failed("no commit was answered round one of the kills"))?;
    let in_timeouts: Vec<f64> = gaps.iter().map(|gap| gap / ELECTION_MS).collect();
    Ok(Figures {
        bench: "failover",
        machine,
        servers: args.servers,
        workers: args.workers,
        kills: gaps.len(),
        leaders: killed.iter().filter(|one| one.led).count(),
        jobs_per_s: args.rate,
        wall_s: seconds(ended.wall),
        above_four: in_timeouts.iter().filter(|gap| **gap > 4.0).count(),
        gap_in_timeouts: Quantiles::of(in_timeouts, 2),
        gap_ms: Quantiles::of(gaps, 0),
        election_timeout_ms: ELECTION_MS,
        back_ms: Quantiles::of(killed.iter().map(|one| ms(one.back)).collect(), 0),
        jobs_acknowledged: load.taken.len() as u64,
        jobs_unanswered: load.unanswered,
        acknowledged_ms: Quantiles::of(load.acknowledged_ms, 1),
        lag_ms: round(load.lag_ms, 1),
        results_compared: ended.results_compared,
        audit,
    })
}

/// A server's death.
struct Killed {
    at: Instant,
    led: bool,
    /// Until it had caught up again.
    back: Duration,
}

async fn kill(ctx: &mut Context, drill: &mut Drill<'_>, args: &FailoverArgs) -> Result<Vec<Killed>, Failure> {
    let (mut killed, mut rng) = (Vec::new(), Rng::new(args.seed));
    let kills = args.kills;
    for number in 1..=kills {
        tokio::time::sleep(REST).await;
        let house = &mut *drill.house;
        let (leader, _) = house.leader(WITHIN).await?;
        let victim = match args.victim {
            Victim::Leader => leader,
            Victim::Any => rng.within(0, args.servers - 1) as usize,
        };
        let (at, led) = (Instant::now(), victim == leader);
        house.kill_server(victim);
        house.leader(WITHIN).await?;
        house.start_server(victim, false)?;
        house.caught_up(victim, WITHIN).await?;
        let back = at.elapsed();
        let role = if led { "the leader" } else { "a follower" };
        ctx.out.note(&format!(
            "kill {number} of {kills}: server {} was {role}; it has caught up after {:.2} s",
            victim + 1,
            back.as_secs_f64()
        ));
        killed.push(Killed { at, led, back });
    }
    tokio::time::sleep(REST).await;
    Ok(killed)
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
                "servers killed, leaders of them",
                format!(
                    "{}, {} in {:.0} s",
                    figures.kills, figures.leaders, figures.wall_s
                ),
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
        ]
        .into_iter()
        .chain(audit.facts())
        {
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
