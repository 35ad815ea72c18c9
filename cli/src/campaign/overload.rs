//! `rebound campaign overload`: ten times what the cluster can do, for minutes. Servers and workers share one core, an
//! open-loop generator has another. Photos done in time must stay near the peak, refusals must be quick, memory bounded,
//! and soon after the last of it all must be as before.

mod generator;
mod records;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::generator::Generator;
use self::report::{Done, Peak, Process, show};
use super::pin::Core;
use super::recogniser::shell;
use super::{SERVERS, WITHIN, skipped};
use crate::bench::check_cluster;
use crate::bench::figures::{Machine, cores};
use crate::bench::load::{Photos, SMALL_TASKS};
use crate::bench::usage::Usage;
use crate::client::Client;
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, asked, round};
use crate::spec::file_uri;

/// Longest part of the run that can be asked for, in seconds.
const SECONDS_MAX: u64 = 3_600;
/// Of the peak, the load before and afterwards.
const MODEST: f64 = 0.3;
/// Photos that wait or run while the peak is looked for, at first; doubled as long as that helps.
const BACKLOG: u64 = 2 * SMALL_TASKS;
/// It helps when so many times as much is done.
const HELPS: f64 = 1.03;
/// What waits at the peak takes no longer than this: all of it is in time.
const BACKLOG_MAX: Duration = Duration::from_secs(1);
/// Between two looks at how much waits.
const LOOK: Duration = Duration::from_millis(20);
/// Until a step towards the peak has settled.
const SETTLE: Duration = Duration::from_secs(1);
/// Until the cluster is quiet again.
const QUIET_WITHIN: Duration = Duration::from_secs(180);
/// Turns of a shell's loop that a photo takes with `work`: some milliseconds.
const TURNS: u32 = 20_000;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct OverloadArgs {
    /// Length of the overload
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub seconds: u64,
    /// Length of the load before it
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub before: u64,
    /// Length of the load after it; what comes back later is not seen
    #[arg(long, value_name = "SECONDS", default_value_t = 40)]
    pub after: u64,
    /// Length of each step on the way to the peak
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    pub step: u64,
    /// How many times the peak is submitted
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub times: u64,
    /// Within how many seconds photos are wanted
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub deadline: u64,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: u64,
    /// Photos an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub slots: u32,
    /// What runs photos: `work`, a program that keeps the core busy for some milliseconds; `noop`, which costs nothing, so
    /// that the servers themselves are the limit; or one of `--recognisers`, with a `--photo` for it
    #[arg(long, value_name = "NAME", default_value = WORK)]
    pub recogniser: String,
    /// Folder of recognisers
    #[arg(long, value_name = "DIR", default_value = "agent/recognisers")]
    pub recognisers: PathBuf,
    /// The photo that all are
    #[arg(long, value_name = "FILE")]
    pub photo: Option<PathBuf>,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The built-in program.
const WORK: &str = "work";

/// Runs it.
pub async fn run(ctx: &mut Context, args: OverloadArgs) -> Result<Exit, Failure> {
    check(&args)?;
    // SAFETY: it only reads the process' own id.
    if unsafe { libc::geteuid() } != 0 {
        return skipped(ctx, "overload", "needs root, to put processes on cores");
    }
    if cores() < 2 {
        return skipped(ctx, "overload", "needs two cores");
    }
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-campaign-")?;
    let (theirs, own) = (Core::take(0, "cluster"), Core::take(1, "generator"));
    own.enter()?;
    let machine = Machine::here(dir.path());
    let (mut layout, photos) = house_of(&args, dir.path())?;
    (layout.places, layout.agents_at) = (vec![theirs.place(); SERVERS as usize], theirs.place());
    let mut house = House::start(&layout, dir.path()).await?;
    let done = phases(ctx, &mut house, &args, photos).await;
    house.stop().await;
    let report = done.map(|done| done.report(&args, machine, theirs.how()));
    drop((theirs, own));
    let held = report.as_ref().is_ok_and(|report| report.held);
    if !held {
        ctx.out
            .note(&format!("The processes' logs are in {}", dir.keep().display()));
    }
    show(ctx, &report?)?;
    Ok(if held { Exit::Ok } else { Exit::Failed })
}

fn check(args: &OverloadArgs) -> Result<(), Failure> {
    check_cluster(SERVERS, args.workers, args.slots)?;
    let lengths = [
        (args.seconds, "--seconds"),
        (args.before, "--before"),
        (args.after, "--after"),
        (args.step, "--step"),
        (args.deadline, "--deadline"),
    ];
    for (seconds, flag) in lengths {
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Err(Failure::usage(format!("must be 1 to {SECONDS_MAX}")).at(flag));
        }
    }
    if !(2..=100).contains(&args.times) {
        return Err(Failure::usage("must be 2 to 100").at("--times"));
    }
    let own = [WORK, "noop"].contains(&args.recogniser.as_str());
    match (&args.photo, own) {
        (None, false) => Err(Failure::usage("is needed for such a recogniser").at("--photo")),
        (Some(photo), false) if !photo.is_file() => Err(Failure::usage("is no file").at("--photo")),
        _ => Ok(()),
    }
}

/// The cluster, and the photos that are submitted.
fn house_of(args: &OverloadArgs, dir: &Path) -> Result<(Layout, Photos), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", dir.display()));
    let layout = Layout {
        cluster: "campaign".into(),
        servers: SERVERS,
        workers: args.workers,
        slots: args.slots,
        ..Layout::default()
    };
    let with = |folder: PathBuf, photo: &Path| {
        let layout = Layout {
            recogniser: Some((folder, args.recogniser.clone())),
            ..layout.clone()
        };
        (layout, Photos::Same(file_uri(photo)))
    };
    match &args.photo {
        _ if args.recogniser == "noop" => Ok((layout, Photos::Numbered)),
        _ if args.recogniser == WORK => {
            let line = format!("i=0; while [ $i -lt {TURNS} ]; do i=$((i+1)); done");
            let mut layout = layout;
            let photos = shell(&mut layout, dir, WORK, &line)?;
            Ok((layout, photos))
        }
        Some(photo) => {
            let folder = args.recognisers.canonicalize();
            let folder = folder.map_err(|error| Failure::usage(error.to_string()).at("--recognisers"))?;
            let photo = photo.canonicalize().map_err(failed)?;
            Ok(with(folder, &photo))
        }
        None => Err(Failure::usage("is needed for such a recogniser").at("--photo")),
    }
}

async fn phases(
    ctx: &mut Context,
    house: &mut House,
    args: &OverloadArgs,
    photos: Photos,
) -> Result<Done, Failure> {
    house.leader(WITHIN).await?;
    house.start_workers().await?;
    let deadline = Duration::from_secs(args.deadline);
    let generator = Generator::new(house.addresses(), photos, &args.recogniser, deadline)?;
    let generator = Arc::new(generator);
    let step = Duration::from_secs(args.step);
    let peak = peak(ctx, house, &generator, step).await?;
    house.quiet(QUIET_WITHIN).await?;
    let modest = peak.photos_per_s * MODEST / SMALL_TASKS as f64;
    let flood = peak.photos_per_s * args.times as f64 / SMALL_TASKS as f64;
    let before = generator.phase(modest, Duration::from_secs(args.before)).await;
    ctx.out.note(&format!(
        "overload: {flood:.1} jobs a second for {} s",
        args.seconds
    ));
    let used = usage(house);
    let flood = generator.phase(flood, Duration::from_secs(args.seconds)).await;
    let processes = processes(house, &used, args.seconds);
    let after = generator.phase(modest, Duration::from_secs(args.after)).await;
    let mut phases = Vec::new();
    for mut phase in [before, flood, after] {
        phase.settle().await;
        phases.push(phase);
    }
    let drained = house.quiet(QUIET_WITHIN).await.is_ok();
    ctx.out.note("reading everything back");
    let client = house.client();
    let mut read = Vec::new();
    for phase in phases {
        let photos = records::read(&client, &phase.taken).await?;
        read.push((phase, photos));
    }
    Ok(Done {
        peak,
        phases: read,
        processes,
        drained,
    })
}

/// The most photos a second: with more and more that wait, until that does not help any more.
async fn peak(
    ctx: &mut Context,
    house: &mut House,
    generator: &Arc<Generator>,
    step: Duration,
) -> Result<Peak, Failure> {
    let (leader, _) = house.leader(WITHIN).await?;
    let (client, leader) = (house.client(), house.addresses().swap_remove(leader));
    let mut best = Peak::default();
    let mut backlog = BACKLOG;
    loop {
        fed(&client, &leader, generator, backlog, SETTLE).await?;
        let (begun, before) = (Instant::now(), ended(&client).await?);
        fed(&client, &leader, generator, backlog, step).await?;
        let photos_per_s = (ended(&client).await? - before) as f64 / begun.elapsed().as_secs_f64();
        ctx.out.note(&format!(
            "peak: {photos_per_s:.0} photos a second with {backlog} at once"
        ));
        let helps = photos_per_s > best.photos_per_s * HELPS;
        if photos_per_s > best.photos_per_s {
            best = Peak {
                photos_per_s: round(photos_per_s, 1),
                backlog,
            };
        }
        backlog *= 2;
        if !helps || backlog as f64 > photos_per_s * BACKLOG_MAX.as_secs_f64() {
            break;
        }
    }
    match best.photos_per_s > 0.0 {
        true => Ok(best),
        false => Err(Failure::failed("no photo was done while the peak was looked for")),
    }
}

/// Keeps so many photos waiting or running, for so long.
async fn fed(
    client: &Client,
    leader: &str,
    generator: &Arc<Generator>,
    backlog: u64,
    length: Duration,
) -> Result<(), Failure> {
    let until = Instant::now() + length;
    let mut submits = JoinSet::new();
    while Instant::now() < until {
        let status = client.status_of(leader).await.map_err(asked("status"))?;
        while submits.try_join_next().is_some() {}
        let there = status.tasks_waiting + status.tasks_given + submits.len() as u64 * SMALL_TASKS;
        for _ in 0..backlog.saturating_sub(there).div_ceil(SMALL_TASKS) {
            let generator = generator.clone();
            submits.spawn(async move { generator.one().await });
        }
        sleep(LOOK).await;
    }
    while submits.join_next().await.is_some() {}
    Ok(())
}

/// Photos that have ended well so far.
async fn ended(client: &Client) -> Result<u64, Failure> {
    let all = client.environments().await.map_err(asked("environments"))?;
    Ok(all.iter().map(|one| one.succeeded).sum())
}

fn usage(house: &House) -> Vec<(String, Usage)> {
    let of = |(name, id)| Some((name, Usage::of(id)?));
    house.pids().into_iter().filter_map(of).collect()
}

fn processes(house: &House, before: &[(String, Usage)], seconds: u64) -> Vec<Process> {
    let now = usage(house).into_iter().zip(before);
    let process = |((name, now), (_, before)): ((String, Usage), &(String, Usage))| {
        let used = now.since(before);
        Process {
            name,
            peak_rss_mib: round(now.peak_rss as f64 / 1024.0 / 1024.0, 1),
            core: round((used.user + used.system).as_secs_f64() / seconds as f64, 3),
        }
    };
    now.map(process).collect()
}
