//! `rebound dev`: a whole cluster on this machine, a burst of photos through it, perhaps with processes killed in
//! the middle, and figures that come from outside the servers.

pub mod audit;
pub mod burst;
mod figures;
mod kills;
pub mod market;
mod policy;
pub mod probe;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rebound_scheduler::config::LogConfig;

use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout};
use crate::photos::DEFAULT_QUALITY;
use crate::photos::render::{RenderOptions, render};

/// Photos of a job: a store visit.
pub const PHOTOS_PER_JOB: usize = 12;
/// Most photos of a burst.
const BURST_MAX: u64 = 1_000_000;
/// Photos rendered when none are given, at most.
const RENDERED_MAX: u64 = 24;
/// Their size in pixels: words of 15 px and more, read in about a second on one processor.
const RENDERED_SIZE: (u32, u32) = (1024, 768);
/// How long the cluster may take to be as quiet as it should be.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct DevArgs {
    /// Servers: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub servers: u64,
    /// Agents
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub workers: u64,
    /// Photos an agent works on at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slots: u32,
    /// Folder of photos, taken in order and again from the first; rendered ones if not given
    #[arg(long, value_name = "DIR")]
    pub photos: Option<PathBuf>,
    /// What recognises them: a folder of the recognisers' folder, or noop
    #[arg(long, value_name = "NAME", default_value = "noop")]
    pub recogniser: String,
    /// Folder of the recognisers' folders; found beside the program or in the working tree if not given
    #[arg(long, value_name = "DIR", env = "REBOUND_RECOGNISERS")]
    pub recognisers: Option<PathBuf>,
    /// Photos, in jobs of 12; 0 submits nothing
    #[arg(long, value_name = "N", default_value_t = 240)]
    pub burst: u64,
    /// Kill the leader when so many percent of the results are recorded
    #[arg(long, value_name = "PERCENT")]
    pub kill_leader: Option<u8>,
    /// Kill a worker when so many percent of the results are recorded
    #[arg(long, value_name = "PERCENT")]
    pub kill_worker: Option<u8>,
    /// Kill a follower when so many percent of the results are recorded; it comes back when the log no longer
    /// reaches back to it (needs --compact-every)
    #[arg(long, value_name = "PERCENT", requires = "compact_every")]
    pub kill_follower: Option<u8>,
    /// Cut the log so that about so many entries stay; the rest is kept aside for the audit
    #[arg(long, value_name = "ENTRIES")]
    pub compact_every: Option<u64>,
    /// Keep the cluster up after the burst, until interrupted
    #[arg(long)]
    pub keep: bool,
    /// Folder for the data of all processes; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A planted bug for the servers; only builds with the feature `planted` have any
    #[arg(long, value_name = "NAME", default_value = "")]
    pub plant: String,
    #[command(flatten)]
    pub market: market::MarketArgs,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: DevArgs) -> Result<Exit, Failure> {
    if let Some(path) = args.market.market.clone() {
        check_servers(&args)?;
        return market::run(ctx, &args, &path).await;
    }
    check(&args)?;
    let kept = DataDir::open(args.data_dir.as_ref(), "rebound-dev-")?;
    let layout = layout(&args)?;
    let photos = photos(ctx, &args, kept.path())?;
    ctx.out.note(&format!(
        "Starting {} servers and {} workers with {} slots; data in {}",
        args.servers,
        args.workers,
        args.slots,
        kept.path().display()
    ));
    let mut house = House::start(&layout, kept.path()).await?;
    house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    ctx.out
        .note(&format!("The cluster is up: {}", house.addresses().join(",")));
    if args.burst == 0 {
        stay(ctx, &house).await;
        house.stop().await;
        return Ok(Exit::Ok);
    }
    let seen = burst::run(ctx, &mut house, &args, &photos).await;
    let outcome = match seen {
        Ok(seen) => finish(ctx, &mut house, &args, seen).await,
        Err(failure) => Err(failure),
    };
    if !matches!(outcome, Ok(Exit::Ok)) {
        ctx.out
            .note(&format!("The processes' logs are in {}", kept.keep().display()));
    }
    house.stop().await;
    outcome
}

/// What was seen of the burst, by the client.
pub struct Seen {
    /// Jobs, as the client knows them.
    pub burst: burst::Burst,
    /// The probe's answers.
    pub probe: probe::Answers,
    /// What was killed, and when.
    pub kills: Vec<kills::Killed>,
}

async fn finish(ctx: &mut Context, house: &mut House, args: &DevArgs, seen: Seen) -> Result<Exit, Failure> {
    let last = house.quiet(QUIET_WITHIN).await?;
    let results = seen.burst.results(&house.client()).await?;
    if args.keep {
        stay(ctx, house).await;
    }
    // Agents that leave say so in the log: all servers must have that too before they stop.
    house.stop_agents().await;
    house.quiet(QUIET_WITHIN).await?;
    house.stop().await;
    let dirs = house.data_dirs();
    let plant = args.plant.clone();
    let acked = seen.burst.acknowledged(&results);
    let audit = tokio::task::spawn_blocking(move || audit::audit(&dirs, &acked, &plant))
        .await
        .map_err(|error| Failure::failed(format!("the audit ended early: {error}")))??;
    let figures = figures::of(args, &seen, &results, &last, &audit);
    figures::show(ctx, args, &figures, &results)?;
    Ok(if figures.is_good(args) {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

async fn stay(ctx: &mut Context, house: &House) {
    let servers = house.addresses().join(",");
    ctx.out.note("Still up until Ctrl-C. Talk to it:");
    ctx.out.note(&format!("  export REBOUND_SERVERS={servers}"));
    ctx.out
        .note("  rebound operator status; rebound worker list; rebound job list");
    for (name, id) in house.pids() {
        ctx.out.note(&format!("  {name}: process {id}"));
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn check_servers(args: &DevArgs) -> Result<(), Failure> {
    match args.servers {
        1 | 3 | 5 => Ok(()),
        _ => Err(
            Failure::usage("must be 1, 3 or 5: an even number survives no more than one less")
                .at("--servers"),
        ),
    }
}

fn check(args: &DevArgs) -> Result<(), Failure> {
    check_servers(args)?;
    if args.workers == 0 || args.workers > 64 {
        return Err(Failure::usage("must be 1 to 64").at("--workers"));
    }
    if args.slots == 0 || args.slots > rebound_core::limits::SLOTS_MAX {
        return Err(Failure::usage("must be 1 to 1024").at("--slots"));
    }
    if args.burst > BURST_MAX {
        return Err(Failure::usage(format!("at most {BURST_MAX}")).at("--burst"));
    }
    let percents = [
        ("--kill-leader", args.kill_leader),
        ("--kill-worker", args.kill_worker),
    ];
    for (flag, percent) in percents
        .into_iter()
        .chain([("--kill-follower", args.kill_follower)])
    {
        if percent.is_some_and(|percent| percent == 0 || percent > 90) {
            return Err(Failure::usage("must be 1 to 90: there must be work before and after").at(flag));
        }
    }
    let kills = args.kill_leader.or(args.kill_worker).or(args.kill_follower);
    if kills.is_some() && args.recogniser == "noop" {
        let why = "noop holds no photo for long enough to be killed with it; name another recogniser";
        return Err(Failure::usage(why).at("--recogniser"));
    }
    if args.servers == 1 && (args.kill_leader.is_some() || args.kill_follower.is_some()) {
        return Err(Failure::usage("needs at least 3, so that one can be missed").at("--servers"));
    }
    if args.workers == 1 && args.kill_worker.is_some() {
        return Err(Failure::usage("needs at least 2 for --kill-worker").at("--workers"));
    }
    Ok(())
}

fn layout(args: &DevArgs) -> Result<Layout, Failure> {
    Ok(Layout {
        cluster: "dev".into(),
        servers: args.servers,
        workers: args.workers,
        slots: args.slots,
        recogniser: recognisers(args)?.map(|dir| (dir, args.recogniser.clone())),
        log: LogConfig {
            keep: args.compact_every.unwrap_or(LogConfig::default().keep),
            archive: true,
        },
        plant: args.plant.clone(),
        gates: true,
        ..Layout::default()
    })
}

/// The folder that has the recogniser; none for `noop`.
fn recognisers(args: &DevArgs) -> Result<Option<PathBuf>, Failure> {
    if args.recogniser == "noop" {
        return Ok(None);
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("recognisers")));
    let tried: Vec<PathBuf> = match &args.recognisers {
        Some(dir) => vec![dir.clone()],
        None => beside
            .into_iter()
            .chain([PathBuf::from("agent/recognisers")])
            .collect(),
    };
    let found = tried
        .iter()
        .find(|dir| dir.join(&args.recogniser).join("manifest.toml").exists());
    match found {
        Some(dir) => Ok(Some(dir.canonicalize().unwrap_or_else(|_| dir.clone()))),
        None => {
            let tried = tried
                .iter()
                .map(|dir| dir.display().to_string())
                .collect::<Vec<_>>()
                .join(", ");
            let why = format!(
                "no recogniser {:?} in {tried}; name its folder with --recognisers",
                args.recogniser
            );
            Err(Failure::usage(why).at("--recogniser"))
        }
    }
}

/// The photos' paths: those given, or rendered ones.
fn photos(ctx: &mut Context, args: &DevArgs, data: &std::path::Path) -> Result<Vec<PathBuf>, Failure> {
    let dir = match &args.photos {
        Some(dir) => dir.clone(),
        None if args.burst == 0 => return Ok(Vec::new()),
        None => {
            let out = data.join("photos");
            let count = args.burst.clamp(1, RENDERED_MAX) as u32;
            ctx.out
                .note(&format!("Rendering {count} shelves into {}", out.display()));
            let size = RENDERED_SIZE;
            let options = RenderOptions {
                out: out.clone(),
                count,
                seed: 1,
                width: size.0,
                height: size.1,
                quality: DEFAULT_QUALITY,
            };
            render(&options).map_err(|error| Failure::failed(error.to_string()))?;
            out
        }
    };
    let at = |error: std::io::Error| Failure::usage(format!("{}: {error}", dir.display())).at("--photos");
    let dir = dir.canonicalize().map_err(at)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let kind = path
            .extension()
            .and_then(|kind| kind.to_str())
            .map(str::to_ascii_lowercase);
        if matches!(kind.as_deref(), Some("jpg" | "jpeg" | "png" | "webp")) {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        true => {
            Err(Failure::usage(format!("{} has no .jpg, .jpeg, .png or .webp", dir.display())).at("--photos"))
        }
        false => Ok(found),
    }
}
