//! Campaigns: faults against a cluster of real processes on this machine, under a steady load, and what must hold
//! afterwards: nothing acknowledged is lost, nothing is recorded twice, all servers hold the same.
//!
//! What needs root and is not run by root, or needs a tool that is missing, is skipped and says so.

pub mod clock;
mod disk;
pub mod disk_full;
mod network;
pub mod overload;
pub mod partition;
pub mod pause;
mod pin;
pub mod power;
mod recogniser;
mod root;
pub mod soak;
pub mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rebound_core::limits::PRIORITY_MAX;
use rebound_proto::v1::{JobSpec, JobState};
use rebound_scheduler::config::LogConfig;
use rebound_sim::rng::Rng;
use serde::Serialize;
use tokio::time::Instant;

use crate::bench::check_cluster;
use crate::bench::drill::{Drill, check_rate};
use crate::bench::figures::seconds;
use crate::bench::fill::submit_small;
use crate::bench::load::{JobPart, Photos};
use crate::cmd::Context;
use crate::dev::audit::Audit;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, Quantiles, asked, round};
use crate::output::Table;

/// Servers of a campaign's cluster.
const SERVERS: u64 = 3;
/// Between two faults, and before the first.
const REST: Duration = Duration::from_millis(500);
/// How long a new leader, or a server's return, may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(20);
/// Most of anything that is counted on the command line.
const COUNT_MAX: u64 = 10_000;

/// What all campaigns take.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: u64,
    /// Tasks an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub slots: u32,
    /// Jobs of 12 tasks submitted a second, whatever is answered
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub rate: u64,
    /// What draws victims and moments
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// A planted bug for the servers, in a build that has it
    #[arg(long, value_name = "NAME", default_value = "")]
    pub plant: String,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Common {
    fn check(&self) -> Result<(), Failure> {
        check_cluster(SERVERS, self.workers, self.slots)?;
        check_rate(self.rate)
    }

    fn layout(&self) -> Layout {
        Layout {
            cluster: "campaign".into(),
            servers: SERVERS,
            workers: self.workers,
            slots: self.slots,
            log: LogConfig {
                archive: true,
                ..LogConfig::default()
            },
            plant: self.plant.clone(),
            ..Layout::default()
        }
    }
}

/// Whether something can be asked for so many times.
fn check_count(count: u64, least: u64, flag: &str) -> Result<(), Failure> {
    match (least..=COUNT_MAX).contains(&count) {
        true => Ok(()),
        false => Err(Failure::usage(format!("must be {least} to {COUNT_MAX}")).at(flag)),
    }
}

/// What a campaign has done so far.
#[derive(Debug, Serialize)]
struct Record<C> {
    /// Each fault.
    cases: Vec<C>,
    /// What should hold and does not.
    broken: Vec<String>,
}

impl<C> Record<C> {
    /// Says what must hold.
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<C> {
    campaign: &'static str,
    /// All that must hold does.
    held: bool,
    wall_s: f64,
    jobs_acknowledged: u64,
    /// Jobs whose submit gave no answer within a minute: nothing is promised about them.
    jobs_unanswered: u64,
    /// From a submit to its acknowledgement, in milliseconds; those during a fault included.
    acknowledged_ms: Quantiles,
    results_compared: u64,
    #[serde(flatten)]
    record: Record<C>,
    audit: Audit,
}

/// Where a campaign does its work.
struct Stage<'a, 'h, C, R> {
    ctx: &'a mut Context,
    drill: &'a mut Drill<'h>,
    record: &'a mut Record<C>,
    rng: Rng,
    /// What the campaign's cluster was put on.
    with: &'a mut R,
}

/// Runs a campaign: a cluster where `place` puts it, a load, `work`, then everything is read back and audited.
async fn campaign<C: Serialize, R>(
    ctx: &mut Context,
    name: &'static str,
    common: &Common,
    place: impl FnOnce(&Path, &mut Layout) -> Result<R, Failure>,
    work: impl AsyncFnOnce(Stage<'_, '_, C, R>) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let dir = DataDir::open(common.data_dir.as_ref(), "rebound-campaign-")?;
    let mut layout = common.layout();
    let mut with = place(dir.path(), &mut layout)?;
    let mut house = House::start(&layout, dir.path()).await?;
    let mut record = Record {
        cases: Vec::new(),
        broken: Vec::new(),
    };
    let ended = async {
        let mut drill = Drill::start(&mut house, common.rate).await?;
        let stage = Stage {
            ctx,
            drill: &mut drill,
            record: &mut record,
            rng: Rng::new(common.seed),
            with: &mut with,
        };
        let done = work(stage).await;
        drill.end(done).await
    };
    let ended = ended.await;
    house.stop().await;
    // Disks are unmounted before their folder goes.
    drop(with);
    let held = record.broken.is_empty() && ended.as_ref().is_ok_and(|ended| ended.audit.is_clean());
    if !held {
        let kept = dir.keep();
        ctx.out
            .note(&format!("The processes' logs are in {}", kept.display()));
        record
            .broken
            .iter()
            .for_each(|what| ctx.out.note(&format!("broken: {what}")));
    }
    let ended = ended?;
    let report = Report {
        campaign: name,
        held,
        wall_s: seconds(ended.wall),
        jobs_acknowledged: ended.load.taken.len() as u64,
        jobs_unanswered: ended.load.unanswered,
        acknowledged_ms: Quantiles::of(ended.load.acknowledged_ms, 1),
        results_compared: ended.results_compared,
        record,
        audit: ended.audit,
    };
    ctx.out.one(&report, |out, report| {
        let mut table = Table::facts();
        let audit = &report.audit;
        for (name, value) in [
            ("campaign", report.campaign.to_owned()),
            ("held", if report.held { "yes" } else { "NO" }.to_owned()),
            (
                "faults",
                format!("{} in {:.0} s", report.record.cases.len(), report.wall_s),
            ),
            (
                "jobs acknowledged, unanswered",
                format!("{}, {}", report.jobs_acknowledged, report.jobs_unanswered),
            ),
        ]
        .into_iter()
        .chain(audit.facts())
        {
            table.row([name.to_owned(), value]);
        }
        out.table(&mut table)?;
        let findings = audit.findings.iter().map(|finding| format!("audit: {finding}"));
        let broken = report.record.broken.iter().map(|what| format!("broken: {what}"));
        findings.chain(broken).try_for_each(|line| out.line(&line))
    })?;
    Ok(if held { Exit::Ok } else { Exit::Failed })
}

/// One line: why nothing was run.
fn skipped(ctx: &mut Context, name: &'static str, why: &str) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Skipped<'a> {
        campaign: &'static str,
        skipped: &'a str,
    }
    let skipped = Skipped {
        campaign: name,
        skipped: why,
    };
    ctx.out
        .one(&skipped, |out, _| out.line(&format!("{name}: skipped: {why}")))?;
    Ok(Exit::Ok)
}

/// Submits a job ahead of all others and waits until it is done, and until all servers have caught up: how long that
/// took.
async fn normal(house: &mut House) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let client = house.client();
    let spec = JobSpec {
        recogniser: "noop".into(),
        priority: PRIORITY_MAX,
        ..JobSpec::default()
    };
    let part = JobPart { first: 0, count: 12 };
    let id = submit_small(&client, &Photos::Numbered, part, &spec)
        .await
        .map_err(asked("submit"))?;
    while client.get(id).await.map_err(asked("get"))?.state() != JobState::Done {
        if begun.elapsed() > WITHIN {
            return Err(Failure::timeout("a job submitted after the fault is not done"));
        }
        tokio::time::sleep(LOOK).await;
    }
    for at in 0..SERVERS as usize {
        house.caught_up(at, WITHIN).await?;
    }
    Ok(begun.elapsed())
}

fn in_ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e3, 0)
}

/// Hands the lead to a server, or away from it; who leads then.
async fn lead(house: &mut House, server: usize, leads: bool) -> Result<usize, Failure> {
    let until = Instant::now() + WITHIN;
    loop {
        let (leader, _) = house.leader(WITHIN).await?;
        if (leader == server) == leads {
            return Ok(leader);
        }
        if Instant::now() > until {
            return Err(Failure::timeout("the lead could not be handed over"));
        }
        let another = (server as u64 + 1) % SERVERS;
        let to = if leads { server as u64 } else { another };
        // It may be refused while the other lags.
        let _ = house.client().transfer_leader(to + 1).await;
        tokio::time::sleep(LOOK).await;
    }
}
