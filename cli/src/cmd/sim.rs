//! `rebound sim`: the cluster in a simulated world, from a seed.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rebound_sim::faults::{Choice, Kind};
use rebound_sim::fuzz::{self, Run, Summary};
use rebound_sim::plant::Plant;
use rebound_sim::shrink;
use rebound_sim::world::Outcome;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};

/// Most seeds of one run.
const SEEDS_MAX: u64 = 1_000_000;
/// Longest run, in minutes.
const MINUTES_MAX: u64 = 7 * 24 * 60;
/// Seeds that are run twice when none are named.
const TWICE: u64 = 20;
/// A run of so many seeds must meet every kind of fault and every rare branch.
const WHOLE_RUN: u64 = 100;

/// The cluster in a simulated world.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Break things at random, seed by seed, and look for broken invariants
    #[command(after_long_help = kinds_help())]
    Fuzz(FuzzArgs),
    /// Play a market under several policies with the same photos, and compare what they cost and how late they are
    Compare(Box<super::compare::CompareArgs>),
    /// Hunt each planted bug, seed by seed, until a check finds it
    #[cfg(feature = "planted")]
    Hunt(super::hunt::HuntArgs),
}

/// Its lines are broken where the terminal ends.
fn kinds_help() -> String {
    let kinds = Kind::ALL.map(|(kind, ..)| kind.name()).join(", ");
    format!(
        "Kinds of faults: {kinds}.\n\nA trace has one line an event, in four columns: seconds of virtual time; who (s2 a \
         server, a0 an agent, c7 a client, - the world); what happens, or * for something that is counted; more about it."
    )
}

/// Which seeds.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// How many seeds, from --first on
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
    /// Stops after so many minutes, if the seeds are not done before
    #[arg(long, value_name = "M")]
    pub minutes: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// This seed alone: repeats a failure
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first", "minutes"])]
    pub seed: Option<u64>,
    /// Tells each event of the seed as one line
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// Turns faults of the seed off one by one while the same invariant breaks, and prints what is left
    #[arg(long, requires = "seed", conflicts_with = "trace")]
    pub shrink: bool,
    /// These kinds of faults alone, of those the seed has: loss,crash
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub only: Option<Vec<String>>,
    /// Not these kinds of faults: poison,herd
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub without: Vec<String>,
    /// Threads; all processors if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// A planted bug to be found; only builds with the feature `planted` have any
    #[arg(long, value_name = "NAME", default_value = "")]
    pub plant: String,
}

impl FuzzArgs {
    fn choice(&self) -> Result<Choice, Failure> {
        let kinds = |names: &[String], field| -> Result<BTreeSet<Kind>, Failure> {
            names.iter().map(|name| kind(name, field)).collect()
        };
        Ok(Choice {
            only: self
                .only
                .as_deref()
                .map(|only| kinds(only, "--only"))
                .transpose()?,
            without: kinds(&self.without, "--without")?,
        })
    }

    /// The command that repeats a seed.
    fn repeat(&self, seed: u64, choice: &Choice) -> String {
        let names =
            |kinds: &BTreeSet<Kind>| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",");
        let mut line = format!("rebound sim fuzz --seed {seed}");
        if let Some(only) = &choice.only {
            line += &format!(" --only {}", names(only));
        }
        if !choice.without.is_empty() {
            line += &format!(" --without {}", names(&choice.without));
        }
        if !self.plant.is_empty() {
            line += &format!(" --plant {}", self.plant);
        }
        line
    }
}

fn kind(name: &str, field: &'static str) -> Result<Kind, Failure> {
    Kind::named(name).ok_or_else(|| {
        let all = Kind::ALL.map(|(kind, ..)| kind.name()).join(", ");
        Failure::usage(format!(
            "there is no kind of fault named {name:?}; there are {all}"
        ))
        .at(field)
    })
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

/// Runs what was asked for.
pub fn run(ctx: &mut Context, command: &SimCommand) -> Result<Exit, Failure> {
    match command {
        SimCommand::Fuzz(args) => run_seeds(ctx, args),
        SimCommand::Compare(args) => super::compare::run(ctx, args),
        #[cfg(feature = "planted")]
        SimCommand::Hunt(args) => super::hunt::run(ctx, args),
    }
}

/// Runs the seeds.
fn run_seeds(ctx: &mut Context, args: &FuzzArgs) -> Result<Exit, Failure> {
    let plant = Plant::named(&args.plant).ok_or_else(|| {
        let why = format!(
            "this build has no planted bug named {:?}; build with --features planted",
            args.plant
        );
        Failure::usage(why).at("--plant")
    })?;
    let choice = args.choice()?;
    if args.seeds == 0 || args.seeds > SEEDS_MAX {
        return Err(Failure::usage(format!("must be 1 to {SEEDS_MAX}")).at("--seeds"));
    }
    if args
        .minutes
        .is_some_and(|minutes| minutes == 0 || minutes > MINUTES_MAX)
    {
        return Err(Failure::usage(format!("must be 1 to {MINUTES_MAX}")).at("--minutes"));
    }
    fuzz::keep_panics_quiet();
    if let Some(seed) = args.seed {
        // A run that hangs or ends the process says nothing more.
        let faults = fuzz::faults_of(seed, &choice);
        ctx.out.note(&format!("seed {seed}: {faults}"));
    }
    match args.seed {
        Some(seed) if args.trace => trace(ctx, args, seed, plant, &choice),
        Some(seed) if args.shrink => shrink_one(ctx, args, seed, plant, &choice),
        _ => fuzz(ctx, args, plant, choice),
    }
}

fn fuzz(ctx: &mut Context, args: &FuzzArgs, plant: Plant, choice: Choice) -> Result<Exit, Failure> {
    let (first, count) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let until = args
        .minutes
        .map(|minutes| began + Duration::from_secs(60 * minutes));
    let run = Run {
        first,
        count,
        twice: TWICE.min(count),
        threads: args.threads.unwrap_or_else(processors),
        plant,
        choice,
    };
    let go_on = || until.is_none_or(|until| Instant::now() < until);
    let shows = args.seed.is_none() && !ctx.out.quiet;
    let begins = |seeds: &BTreeSet<u64>| {
        if shows {
            note_under_way(seeds);
        }
    };
    let summary = fuzz::run(&run, go_on, begins, |outcome| {
        if !outcome.violations.is_empty() {
            tell(ctx, args, outcome, &run.choice);
        }
    });
    let whole_run = summary.seeds >= WHOLE_RUN && run.choice == Choice::default();
    report(ctx, &summary, whole_run, began.elapsed().as_secs_f64())
}

/// One line a seed, before it begins: the last line names a seed that hangs or ends the process, among those beside it.
fn note_under_way(seeds: &BTreeSet<u64>) {
    let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>();
    // A note that nobody reads must not end the run.
    drop(writeln!(
        std::io::stderr(),
        "under way: seeds {}",
        seeds.join(", ")
    ));
}

fn tell(ctx: &mut Context, args: &FuzzArgs, outcome: &Outcome, choice: &Choice) {
    // Of the one seed that was asked for they were said before it ran.
    if args.seed.is_none() {
        ctx.out
            .note(&format!("seed {}: {}", outcome.seed, outcome.faults));
    }
    for violation in &outcome.violations {
        ctx.out.note(&format!("  {violation}"));
    }
    if !outcome.violations.is_empty() {
        let line = args.repeat(outcome.seed, choice);
        ctx.out.note(&format!("  repeat: {line}"));
    }
}

/// Tells each event of a seed on stdout.
fn trace(
    ctx: &mut Context,
    args: &FuzzArgs,
    seed: u64,
    plant: Plant,
    choice: &Choice,
) -> Result<Exit, Failure> {
    let mut to = BufWriter::new(std::io::stdout());
    // A reader who has seen enough does not end the run.
    let line = move |line: &str| drop(writeln!(to, "{line}"));
    let outcome = fuzz::trace_seed(seed, plant, choice, Box::new(line));
    tell(ctx, args, &outcome, choice);
    Ok(if outcome.violations.is_empty() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Finds the kinds of faults that a failure needs.
fn shrink_one(
    ctx: &mut Context,
    args: &FuzzArgs,
    seed: u64,
    plant: Plant,
    choice: &Choice,
) -> Result<Exit, Failure> {
    let shrunk = shrink::shrink(seed, plant, choice, |kind, stays| {
        let what = if stays { "fails without it" } else { "needed" };
        ctx.out.note(&format!("{:<12} {what}", kind.name()));
    });
    let Some(shrunk) = shrunk else {
        ctx.out.note(&format!("seed {seed} does not fail"));
        return Ok(Exit::Ok);
    };
    let choice = Choice {
        only: Some(shrunk.kinds),
        ..Choice::default()
    };
    tell(ctx, args, &shrunk.outcome, &choice);
    Ok(Exit::Failed)
}

fn report(ctx: &mut Context, summary: &Summary, whole_run: bool, wall_s: f64) -> Result<Exit, Failure> {
    // A few seeds cannot meet everything; a run of many must.
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
