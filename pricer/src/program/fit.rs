//! `rebound-pricer fit`: how well generated markets resemble recorded ones.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rebound_core::types::{MicroUsd, Pool, Time};
use rebound_pricer::book::PriceBook;
use rebound_pricer::feed::Capacity;
use rebound_pricer::generate::capacity::Spells;
use rebound_pricer::generate::fit::{self, Compared};
use rebound_pricer::generate::{Era, Prices, Profile};
use rebound_pricer::money::usd;
use rebound_pricer::pool;
use rebound_pricer::series::Point;
use rebound_pricer::stats::{self, CapacityStats, PriceStats};
use serde::Serialize;

use super::failure::Failure;
use super::load::{Files, Loaded, name};
use super::output::{Out, milli};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EraArg {
    /// 2010 to 2017: prices are bids, and jump
    Auction,
    /// Since then: prices are smooth, capacity falls out by itself
    Modern,
}

/// What to fit, and to what.
#[derive(Debug, Args)]
pub struct FitArgs {
    #[command(flatten)]
    files: Files,
    /// How prices are made
    #[arg(long, value_enum, default_value_t = EraArg::Auction)]
    era: EraArg,
    /// Pools, as 'm4.10xlarge@us-east-1*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pools: Vec<String>,
    /// Where all randomness comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Writes the fit of one pool, with the capacity of one file if there is any, as a profile
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes a generated series of one pool, as long as its recording, as CSV
    #[arg(long, value_name = "FILE")]
    series: Option<PathBuf>,
}

/// One recording beside what was made of it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "of")]
enum Row {
    Price {
        what: String,
        #[serde(flatten)]
        both: Compared<PriceStats>,
    },
    Capacity {
        what: String,
        recorded: CapacityStats,
        generated: Option<CapacityStats>,
    },
}

struct Fitted<'a> {
    pool: &'a Pool,
    points: &'a [Point],
    end: Time,
    on_demand: MicroUsd,
    prices: Prices,
}

/// Runs it.
///
/// # Errors
///
/// Exit 2 for a bad file or option, 4 where there is nothing to fit.
pub fn run(args: &FitArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = args.files.load(super::now())?;
    let era = match args.era {
        EraArg::Auction => Era::Auction,
        EraArg::Modern => Era::Modern,
    };
    let fitted = fit_all(args, &loaded.book, era, out);
    let mut rows = Vec::new();
    for one in &fitted {
        let mut rng = SmallRng::seed_from_u64(args.seed);
        let compared = fit::compare_prices(&one.prices, one.points, one.end, one.on_demand, &mut rng);
        rows.extend(compared.map(|both| Row::Price {
            what: pool::text(one.pool),
            both,
        }));
    }
    let mut spells = Vec::new();
    for (file, capacity) in &loaded.capacities {
        rows.extend(capacity_row(args, file, capacity, &mut spells));
    }
    if rows.is_empty() {
        return Err(Failure::not_found(
            "nothing to fit: no pool with an on-demand price and some days of changes fits, and no capacity was given",
        ));
    }
    show(&rows, out)?;
    out.note(&format!(
        "Generated: {} times as long as recorded, seed {}. /D: times a day. >: share of time over so many % of on-demand.",
        fit::TIMES,
        args.seed
    ));
    write(args, era, &fitted, &spells, &loaded, out)
}

fn fit_all<'a>(args: &FitArgs, book: &'a PriceBook, era: Era, out: &mut Out) -> Vec<Fitted<'a>> {
    let mut all = Vec::new();
    let mut without = 0;
    for (one, series) in book.pools().filter(|(one, _)| pool::chosen(&args.pools, one)) {
        let Ok(on_demand) = book.reference(one) else {
            without += 1;
            continue;
        };
        let (points, end) = (series.points(), series.heard());
        all.extend(fit::prices(era, points, end, on_demand).map(|prices| Fitted {
            pool: one,
            points,
            end,
            on_demand,
            prices,
        }));
    }
    if without > 0 {
        out.note(&format!(
            "{without} pools without an on-demand price are left out: their level has no measure."
        ));
    }
    all
}

fn capacity_row(args: &FitArgs, file: &str, all: &Capacity, spells: &mut Vec<Spells>) -> Option<Row> {
    let recorded = stats::capacity(all)?;
    // Several machines at once live and die by themselves; the spells of a zone are fitted to one machine.
    let single = all.points.iter().all(|(_, units)| *units <= 1);
    let mut rng = SmallRng::seed_from_u64(args.seed);
    let made = single.then(|| fit::compare_capacity(all, &mut rng)).flatten();
    let generated = made.map(|(fitted, both)| {
        spells.push(fitted);
        both.generated
    });
    let what: Vec<&str> = file.rsplit('/').take(2).collect();
    Some(Row::Capacity {
        what: what.into_iter().rev().collect::<Vec<_>>().join("/"),
        recorded,
        generated,
    })
}

fn show(rows: &[Row], out: &mut Out) -> Result<(), Failure> {
    if !out.for_people() {
        out.many(rows, &[], |_| Vec::new())?;
        return Ok(());
    }
    let mut prices = Vec::new();
    let mut capacities = Vec::new();
    for row in rows {
        match row {
            Row::Price { what, both } => {
                prices.push(price_cells(what, "recorded", &both.recorded));
                prices.push(price_cells("", "generated", &both.generated));
            }
            Row::Capacity {
                what,
                recorded,
                generated,
            } => {
                capacities.push(capacity_cells(what, "recorded", recorded));
                capacities.extend(generated.map(|made| capacity_cells("", "generated", &made)));
            }
        }
    }
    if !prices.is_empty() {
        let head = [
            "PRICE",
            "",
            "DAYS",
            "MEAN",
            "MAX",
            "CHANGES/D",
            "UP50/D",
            "UP80/D",
            "UP100/D",
            ">50",
            ">80",
            ">100",
        ];
        out.many(&prices, &head, |cells: &Vec<String>| cells.clone())?;
    }
    if !capacities.is_empty() {
        let head = [
            "CAPACITY",
            "",
            "DAYS",
            "UP",
            "MACHINES",
            "LOST",
            "LOST/INST-H",
            "MEDIAN LIFE H",
            "LONGEST DOWN H",
        ];
        out.many(&capacities, &head, |cells: &Vec<String>| cells.clone())?;
    }
    Ok(())
}

fn price_cells(what: &str, which: &str, stats: &PriceStats) -> Vec<String> {
    let mut cells = vec![
        what.to_owned(),
        which.to_owned(),
        milli(stats.days_milli, 1),
        milli(stats.mean_permille, 3),
        milli(stats.max_permille, 2),
        milli(stats.changes_kday, 1),
    ];
    cells.extend(stats.up_kday.map(|ups| milli(ups, 2)));
    cells.extend(stats.above_permille.map(|above| milli(above, 3)));
    cells
}

fn capacity_cells(what: &str, which: &str, stats: &CapacityStats) -> Vec<String> {
    vec![
        what.to_owned(),
        which.to_owned(),
        milli(stats.days_milli, 1),
        milli(stats.available_permille, 3),
        milli(stats.mean_milli, 2),
        stats.lost.to_string(),
        milli(stats.lost_khour, 3),
        format!("{:.2}", stats.median_life_s as f64 / 3_600.0),
        format!("{:.1}", stats.longest_down_s as f64 / 3_600.0),
    ]
}

fn write(
    args: &FitArgs,
    era: Era,
    fitted: &[Fitted<'_>],
    spells: &[Spells],
    loaded: &Loaded,
    out: &mut Out,
) -> Result<(), Failure> {
    if args.out.is_none() && args.series.is_none() {
        return Ok(());
    }
    let [one] = fitted else {
        let fix = "name one with --pools, as m4.10xlarge@us-east-1a";
        return Err(Failure::usage(format!(
            "--out and --series are for one pool, and {} fit: {fix}",
            fitted.len()
        )));
    };
    if spells.len() > 1 {
        return Err(Failure::usage(
            "--out takes the capacity of one file: give one --file of that kind",
        ));
    }
    let mut sources = vec![pool::text(one.pool)];
    sources.extend(
        loaded
            .capacities
            .iter()
            .map(|(file, _)| file.rsplit('/').next().unwrap_or_default().to_owned()),
    );
    let profile = Profile {
        era,
        fitted_to: sources.join(", "),
        prices: one.prices.clone(),
        capacity: spells.first().cloned(),
    };
    if let Some(path) = &args.out {
        let text = serde_json::to_string(&profile).map_err(|error| Failure::failed(error.to_string()))?;
        put(path, &(text + "\n"), out)?;
    }
    if let Some(path) = &args.series {
        let mut rng = SmallRng::seed_from_u64(args.seed);
        let from = one.points.first().map_or(Time(0), |point| point.at);
        let mut text = String::from("instance_type,zone,epoch_s,usd_per_hour\n");
        for point in profile.price(one.on_demand, from, one.end, &mut rng) {
            let second = point.at.0 / 1_000_000;
            text += &format!(
                "{},{},{second},{}\n",
                one.pool.instance_type,
                one.pool.zone_id,
                usd(point.price)
            );
        }
        put(path, &text, out)?;
    }
    Ok(())
}

fn put(path: &Path, text: &str, out: &mut Out) -> Result<(), Failure> {
    let file = name(path);
    std::fs::write(path, text)
        .map_err(|error| Failure::failed(format!("{file}: cannot be written: {error}")))?;
    out.note(&format!("{file}: written"));
    Ok(())
}
