//! `rebound bench throughput --command`: the program `true` for each task, beside the rate at which this machine can
//! start it at all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rebound_proto::v1::JobSpec;
use serde::Serialize;

use super::figures::{Machine, cores, seconds};
use super::load::{Answers, Load, Photos};
use super::throughput::{ThroughputArgs, through};
use super::yardstick::{spawns_per_s, true_program};
use super::{QUIET_WITHIN, or_logs};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, Layout, round};
use crate::output::{Align, Table};
use crate::spec::file_uri;

/// Tasks of a round, unless told otherwise.
pub const TASKS: u64 = 4_000;
/// Slots of the round with many.
const MANY_SLOTS: u32 = 64;
/// How long the machine's own rate is measured, before and after each round.
const SPAWN_FOR: Duration = Duration::from_secs(2);
/// The recogniser's name.
const NAME: &str = "true";

#[derive(Debug, Serialize)]
struct Figures {
    bench: &'static str,
    machine: Machine,
    servers: u64,
    rounds: Vec<Round>,
}

/// One agent with so many slots.
#[derive(Debug, Serialize)]
struct Round {
    slots: u32,
    tasks: u64,
    wall_s: f64,
    tasks_per_s: f64,
    /// What the machine starts without us, before and after.
    spawns_per_s: [f64; 2],
    /// Tasks a second to the mean of both.
    ratio: f64,
}

/// Runs both rounds.
pub async fn run(ctx: &mut Context, args: &ThroughputArgs) -> Result<Exit, Failure> {
    let dir = DataDir::open(args.data_dir.as_ref(), "rebound-bench-")?;
    let machine = Machine::here(dir.path());
    let rounds = rounds(args, dir.path()).await;
    let rounds = or_logs(ctx, dir, rounds)?;
    let figures = Figures {
        bench: "throughput --command",
        machine,
        servers: args.servers,
        rounds,
    };
    show(ctx, &figures)?;
    Ok(Exit::Ok)
}

async fn rounds(args: &ThroughputArgs, dir: &Path) -> Result<Vec<Round>, Failure> {
    let mut rounds = Vec::new();
    for slots in [cores() as u32, MANY_SLOTS] {
        let place = dir.join(format!("{slots}-slots"));
        rounds.push(round_of(args, &place, slots).await?);
    }
    Ok(rounds)
}

async fn round_of(args: &ThroughputArgs, dir: &Path, slots: u32) -> Result<Round, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", dir.display()));
    let folder = dir.join("recognisers").join(NAME);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let program = true_program()?;
    let manifest = format!(
        "format = 1\nname = \"{NAME}\"\nkind = \"command\"\n\n[command]\nprogram = [\"{}\"]\nsilent = true\n",
        program.display()
    );
    std::fs::write(folder.join("manifest.toml"), manifest).map_err(failed)?;
    let photo = dir.join("photo.jpg");
    std::fs::write(&photo, b"no program looks at it").map_err(failed)?;
    let layout = Layout {
        cluster: "bench".into(),
        servers: args.servers,
        workers: 1,
        slots,
        recogniser: Some((dir.join("recognisers"), NAME.to_owned())),
        ..Layout::default()
    };
    let mut house = House::start(&layout, dir).await?;
    let round = measured(&mut house, args, slots, &program, file_uri(&photo)).await;
    house.stop().await;
    round
}

async fn measured(
    house: &mut House,
    args: &ThroughputArgs,
    slots: u32,
    program: &Path,
    uri: String,
) -> Result<Round, Failure> {
    house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    let spec = JobSpec {
        recogniser: NAME.into(),
        ..JobSpec::default()
    };
    // Recognisers are started when they are first needed: that is not what is measured.
    let all = |tasks| Arc::new(Load::halves(tasks, Photos::Same(uri.clone())));
    let warm_up = all(u64::from(slots) * 4);
    through(house, warm_up, spec.clone(), Answers::Null, args.at_once).await?;
    let before = own_rate(program).await?;
    let tasks = args.tasks.unwrap_or(TASKS);
    let times = through(house, all(tasks), spec, Answers::Null, args.at_once).await?;
    let after = own_rate(program).await?;
    let tasks_per_s = tasks as f64 / times.wall.as_secs_f64();
    Ok(Round {
        slots,
        tasks,
        wall_s: seconds(times.wall),
        tasks_per_s: round(tasks_per_s, 1),
        spawns_per_s: [before, after],
        ratio: round(tasks_per_s * 2.0 / (before + after), 3),
    })
}

async fn own_rate(program: &Path) -> Result<f64, Failure> {
    let program = program.to_owned();
    tokio::task::spawn_blocking(move || spawns_per_s(&program, SPAWN_FOR))
        .await
        .map_err(|error| Failure::failed(format!("the yardstick ended early: {error}")))?
}

fn show(ctx: &mut Context, figures: &Figures) -> Result<(), Failure> {
    ctx.out.one(figures, |out, figures| {
        let columns = [
            ("SLOTS", Align::Right),
            ("TASKS", Align::Right),
            ("SECONDS", Align::Right),
            ("TASKS/S", Align::Right),
            ("SPAWNS/S BEFORE", Align::Right),
            ("AFTER", Align::Right),
            ("RATIO", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in &figures.rounds {
            table.row([
                one.slots.to_string(),
                one.tasks.to_string(),
                format!("{:.2}", one.wall_s),
                format!("{:.0}", one.tasks_per_s),
                format!("{:.0}", one.spawns_per_s[0]),
                format!("{:.0}", one.spawns_per_s[1]),
                format!("{:.2}", one.ratio),
            ]);
        }
        out.table(&mut table)
    })?;
    Ok(())
}
