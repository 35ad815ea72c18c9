//! `rebound sim hunt`: each planted bug, and how many seeds the simulator needs to find it. Only in builds with the
//! feature `planted`.

use std::io;
use std::time::Instant;

use clap::Args;
use rebound_core::state::State;
use rebound_sim::fuzz;
use rebound_sim::plant::{Plant, hunt};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Out, Table};

/// Most seeds for one bug.
const SEEDS_MAX: u64 = 100_000;
/// Of a violation in the table, in characters: some tell whole histories.
const SHOWN: usize = 140;

/// Which bugs, and how long.
#[derive(Debug, Args)]
pub struct HuntArgs {
    /// These bugs alone; all if none is named
    pub names: Vec<String>,
    /// How many seeds for each bug, from 1 on
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub seeds: u64,
    /// Threads; all processors if not given
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

#[derive(Serialize)]
struct Hunted {
    bug: &'static str,
    what: &'static str,
    /// The first that found it; none: not found.
    seed: Option<u64>,
    violation: Option<String>,
    /// The type of record whose own check failed, if that is what found it.
    record: Option<&'static str>,
    wall_s: f64,
}

/// A type of record of the state, and the bugs that its own check found.
#[derive(Serialize)]
struct Tripped {
    record: &'static str,
    bugs: Vec<&'static str>,
}

#[derive(Serialize)]
struct Report {
    seeds: u64,
    bugs: usize,
    found: usize,
    hunted: Vec<Hunted>,
    records: Vec<Tripped>,
}

/// Which bugs the check of each type of record found.
fn tripped(hunted: &[Hunted]) -> Vec<Tripped> {
    let of = |record| hunted.iter().filter(move |one| one.record == Some(record));
    let records = State::CHECKS.iter().map(|(_, record, _)| *record);
    let tripped = |record| Tripped {
        record,
        bugs: of(record).map(|one| one.bug).collect(),
    };
    records.map(tripped).collect()
}

/// Hunts them one after another.
pub fn run(ctx: &mut Context, args: &HuntArgs) -> Result<Exit, Failure> {
    if args.seeds == 0 || args.seeds > SEEDS_MAX {
        return Err(Failure::usage(format!("must be 1 to {SEEDS_MAX}")).at("--seeds"));
    }
    if let Some(unknown) = args.names.iter().find(|name| Plant::named(name).is_none()) {
        let all: Vec<&str> = Plant::all().map(|(_, name, _)| name).collect();
        let why = format!(
            "there is no planted bug named {unknown:?}; there are {}",
            all.join(", ")
        );
        return Err(Failure::usage(why).at("NAMES"));
    }
    fuzz::keep_panics_quiet();
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(processors);
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|one| one == name);
    let mut hunted = Vec::new();
    for (plant, bug, what) in Plant::all().filter(|(_, name, _)| wanted(name)) {
        let began = Instant::now();
        let outcome = hunt(plant, args.seeds, threads);
        let one = Hunted {
            bug,
            what,
            seed: outcome.as_ref().map(|outcome| outcome.seed),
            record: outcome.as_ref().and_then(|outcome| outcome.tripped),
            violation: outcome.and_then(|outcome| outcome.violations.into_iter().next()),
            wall_s: began.elapsed().as_secs_f64(),
        };
        tell(ctx, &one);
        hunted.push(one);
    }
    report(ctx, args, hunted)
}

fn tell(ctx: &mut Context, one: &Hunted) {
    let Hunted { bug, wall_s, .. } = one;
    ctx.out.note(&match one.seed {
        Some(seed) => format!("{bug}: found by seed {seed} after {wall_s:.1} s"),
        None => format!("{bug}: NOT FOUND after {wall_s:.1} s"),
    });
}

fn report(ctx: &mut Context, args: &HuntArgs, hunted: Vec<Hunted>) -> Result<Exit, Failure> {
    let report = Report {
        seeds: args.seeds,
        bugs: hunted.len(),
        found: hunted.iter().filter(|one| one.seed.is_some()).count(),
        records: tripped(&hunted),
        hunted,
    };
    let some = !args.names.is_empty();
    // Some bugs alone need not trip every check.
    let idle = report.records.iter().any(|one| one.bugs.is_empty());
    let all = report.found == report.bugs && (some || !idle);
    ctx.out.one(&report, |out, report| {
        let columns = [
            ("BUG", Align::Left),
            ("SEEDS", Align::Right),
            ("FOUND BY", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in &report.hunted {
            let seed = one
                .seed
                .map_or_else(|| "none".to_owned(), |seed| seed.to_string());
            table.row(vec![one.bug.to_owned(), seed, shown(one.violation.as_deref())]);
        }
        out.table(&mut table)?;
        let Report {
            seeds, bugs, found, ..
        } = report;
        out.line(&format!(
            "{found} of {bugs} planted bugs found, each within {seeds} seeds"
        ))?;
        tell_records(out, &report.records, some)
    })?;
    Ok(if all { Exit::Ok } else { Exit::Failed })
}

/// Each type of record with the bugs that made its own check fail. One without any was never seen to fail.
fn tell_records(out: &mut Out, records: &[Tripped], some: bool) -> io::Result<()> {
    let columns = [("RECORD", Align::Left), ("ITS CHECK FOUND", Align::Left)];
    let mut table = Table::new(&columns);
    for one in records.iter().filter(|one| !some || !one.bugs.is_empty()) {
        let bugs = match one.bugs.is_empty() {
            true => "NOTHING".to_owned(),
            false => one.bugs.join(", "),
        };
        table.row(vec![one.record.to_owned(), bugs]);
    }
    out.line("")?;
    out.table(&mut table)
}

/// The beginning of a violation, on one line.
fn shown(violation: Option<&str>) -> String {
    let words: Vec<&str> = violation.unwrap_or("NOT FOUND").split_whitespace().collect();
    words.join(" ").chars().take(SHOWN).collect()
}
