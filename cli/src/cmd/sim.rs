//! `rebound sim`: the cluster in a simulated world, from a seed.

use clap::{Args, Subcommand};
use rebound_core::state::Plant;
use rebound_sim::fuzz::{self, Summary};
use rebound_sim::world::Outcome;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};

/// Most seeds of one run.
const SEEDS_MAX: u64 = 1_000_000;
/// Seeds that are run twice when none are named.
const TWICE: u64 = 20;

/// The cluster in a simulated world.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Break things at random, seed by seed, and look for broken invariants
    Fuzz(FuzzArgs),
}

/// Which seeds.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// How many seeds, from --first on
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// This seed alone: repeats a failure
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first"])]
    pub seed: Option<u64>,
    /// Threads; all processors if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// A planted bug to be found; only builds with the feature `planted` have any
    #[arg(long, value_name = "NAME", default_value = "")]
    pub plant: String,
}

#[derive(Serialize)]
struct Violation {
    seed: u64,
    faults: String,
    violations: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    seeds: u64,
    simulated_s: f64,
    wall_s: f64,
    run_twice: u64,
    differing: Vec<u64>,
    counters: std::collections::BTreeMap<&'static str, u64>,
    never_happened: Vec<&'static str>,
    failed: Vec<Violation>,
}

/// Runs the seeds.
pub fn run(ctx: &mut Context, command: &SimCommand) -> Result<Exit, Failure> {
    let SimCommand::Fuzz(args) = command;
    let plant = Plant::named(&args.plant).ok_or_else(|| {
        let why = format!(
            "this build has no planted bug named {:?}; build with --features planted",
            args.plant
        );
        Failure::usage(why).at("--plant")
    })?;
    let (first, seeds) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    if seeds == 0 || seeds > SEEDS_MAX {
        return Err(Failure::usage(format!("must be 1 to {SEEDS_MAX}")).at("--seeds"));
    }
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    // A seed's panic is a violation, told with its seed; the default message would only add noise.
    std::panic::set_hook(Box::new(|_| {}));
    let began = std::time::Instant::now();
    let repeat = |outcome: &Outcome| match args.plant.as_str() {
        "" => format!("rebound sim fuzz --seed {}", outcome.seed),
        plant => format!("rebound sim fuzz --seed {} --plant {plant}", outcome.seed),
    };
    let summary = fuzz::run(first, seeds, TWICE.min(seeds), threads, plant, |outcome| {
        if args.seed.is_some() || !outcome.violations.is_empty() {
            ctx.out
                .note(&format!("seed {}: {}", outcome.seed, outcome.faults));
        }
        for violation in &outcome.violations {
            ctx.out.note(&format!("  {violation}"));
        }
        if !outcome.violations.is_empty() {
            ctx.out.note(&format!("  repeat: {}", repeat(outcome)));
        }
    });
    let whole_run = args.seed.is_none();
    report(ctx, &summary, whole_run, began.elapsed().as_secs_f64())
}

fn report(ctx: &mut Context, summary: &Summary, whole_run: bool, wall_s: f64) -> Result<Exit, Failure> {
    // One seed cannot meet everything; a run of many must.
    let never_happened = if whole_run { summary.missing() } else { Vec::new() };
    let failed = summary.failed.iter().map(|outcome| Violation {
        seed: outcome.seed,
        faults: outcome.faults.clone(),
        violations: outcome.violations.clone(),
    });
    let report = Report {
        seeds: summary.seeds,
        simulated_s: summary.virtual_us as f64 / 1e6,
        wall_s,
        run_twice: summary.twice,
        differing: summary.differing.clone(),
        counters: summary.counters.clone(),
        never_happened,
        failed: failed.collect(),
    };
    let good = report.failed.is_empty() && report.differing.is_empty() && report.never_happened.is_empty();
    ctx.out.one(&report, |out, report| {
        for (what, count) in &report.counters {
            out.line(&format!("{count:>9}  {what}"))?;
        }
        out.line(&format!(
            "{} seeds, {:.1} simulated hours in {:.0} s; {} violations; {} seeds run twice, {} differ",
            report.seeds,
            report.simulated_s / 3600.0,
            report.wall_s,
            report.failed.len(),
            report.run_twice,
            report.differing.len(),
        ))?;
        for what in &report.never_happened {
            out.line(&format!("never happened: {what}; the run tested too little"))?;
        }
        Ok(())
    })?;
    Ok(if good { Exit::Ok } else { Exit::Failed })
}
