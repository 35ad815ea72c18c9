//! `rebound-pricer watch`: prices as they go over a threshold and back; a recording at once, or files as they grow.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use clap::Args;
use rebound_core::types::{Pool, Time};
use rebound_pricer::book::PriceBook;
use rebound_pricer::feed::{self, Parsed};
use rebound_pricer::health::{Basis, Feed, Health, Told};
use rebound_pricer::money::{permille, usd};
use rebound_pricer::pool;
use serde::Serialize;

use super::failure::Failure;
use super::load::{Files, bytes, name, option_time};
use super::output::{Out, dollars, milli, time};

/// Largest threshold, in percent of on-demand.
const PERCENT_MAX: u32 = 100;

/// What to watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    files: Files,
    /// Pools, as 'm4.10xlarge@us-east-1*'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pools: Vec<String>,
    /// Percent of on-demand over which a price is too dear, 1 to 100
    #[arg(long, value_name = "PERCENT", default_value_t = 80)]
    threshold: u32,
    /// Percent of on-demand at which it is cheap again; the threshold if not given
    #[arg(long, value_name = "PERCENT")]
    back: Option<u32>,
    /// From this time on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Reads the files again every so many seconds, and says when they cannot be believed
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["from", "to"])]
    follow: Option<u64>,
    /// Ends after so many readings
    #[arg(long, value_name = "N", requires = "follow")]
    rounds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Over,
    Back,
    Health,
    Basis,
}

#[derive(Debug, Serialize)]
struct Happening {
    at: String,
    what: What,
    pool: Option<String>,
    usd_per_hour: Option<f64>,
    on_demand_share_permille: Option<u64>,
    text: String,
}

/// Which pools are over the threshold.
struct Thresholds {
    over: u32,
    back: u32,
    is_over: BTreeMap<Pool, bool>,
}

/// Runs it.
///
/// # Errors
///
/// Exit 2 for a bad file or option, 4 where no pool fits.
pub fn run(args: &WatchArgs, out: &mut Out) -> Result<(), Failure> {
    let back = args.back.unwrap_or(args.threshold);
    for (option, percent) in [("--threshold", args.threshold), ("--back", back)] {
        if !(1..=PERCENT_MAX).contains(&percent) {
            let fix = "write 1 to 100; on-demand is bought at 100";
            return Err(Failure::usage(format!(
                "{option}: {percent} is no percentage of on-demand: {fix}"
            )));
        }
    }
    if back > args.threshold {
        let problem = format!("--back: {back} is over --threshold, {}: ", args.threshold);
        return Err(Failure::usage(
            problem + "write the same or less, or a price would be dear and cheap at once",
        ));
    }
    let thresholds = Thresholds {
        over: args.threshold,
        back,
        is_over: BTreeMap::new(),
    };
    match args.follow {
        Some(seconds) => follow(args, thresholds, seconds.max(1), out),
        None => replay(args, thresholds, out),
    }
}

impl Thresholds {
    /// What happens when `pool` costs so much at `at`. Pools without a reference have no threshold.
    fn see(&mut self, book: &PriceBook, pool: &Pool, at: Time, micros: u64) -> Option<Happening> {
        let limit = if self.is_over.get(pool).copied().unwrap_or(false) {
            self.back
        } else {
            self.over
        };
        let limit = book.threshold(pool, limit).ok()?;
        let on_demand = book.reference(pool).ok()?;
        let over = micros > limit.0;
        let was = self.is_over.insert(pool.clone(), over).unwrap_or(false);
        if over == was {
            return None;
        }
        let price = rebound_core::types::MicroUsd(micros);
        let share = permille(micros, on_demand.0);
        let verb = if over { "over" } else { "back" };
        let whole = pool::text(pool);
        Some(Happening {
            at: time(at),
            what: if over { What::Over } else { What::Back },
            text: format!(
                "{}  {verb}  {whole}  {} $/h, {} % of on-demand",
                time(at),
                usd(price),
                milli(share * 100, 1)
            ),
            pool: Some(whole),
            usd_per_hour: Some(dollars(price)),
            on_demand_share_permille: Some(share),
        })
    }
}

/// A whole recording, in order of time.
fn replay(args: &WatchArgs, mut thresholds: Thresholds, out: &mut Out) -> Result<(), Failure> {
    let loaded = args.files.load(super::now())?;
    let from = args
        .from
        .as_ref()
        .map(|text| option_time("--from", text))
        .transpose()?;
    let to = args
        .to
        .as_ref()
        .map(|text| option_time("--to", text))
        .transpose()?;
    let from = from.unwrap_or(Time(0));
    let to = to.unwrap_or(Time(u64::MAX));
    let mut changes: Vec<(Time, &Pool, u64)> = Vec::new();
    let mut chosen = 0;
    for (one, series) in loaded
        .book
        .pools()
        .filter(|(one, _)| pool::chosen(&args.pools, one))
    {
        chosen += 1;
        // The price in force when the window opens is the first one seen.
        let first = series.at(from).map(|point| (from, one, point.price.0));
        let rest = series
            .points()
            .iter()
            .filter(|point| point.at > from && point.at <= to);
        changes.extend(
            first
                .into_iter()
                .chain(rest.map(|point| (point.at, one, point.price.0))),
        );
    }
    if chosen == 0 {
        return Err(Failure::not_found(
            "no pool fits: see `rebound-pricer import` for what the files have",
        ));
    }
    changes.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    loaded.notes(changes.last().map_or(from, |change| change.0), out);
    let (mut over, mut back) = (0, 0);
    for (at, one, micros) in changes {
        if let Some(happening) = thresholds.see(&loaded.book, one, at, micros) {
            over += u64::from(happening.what == What::Over);
            back += u64::from(happening.what == What::Back);
            out.event(&happening, |happening| happening.text.clone())?;
        }
    }
    out.note(&format!(
        "{chosen} pools: {over} times over {} % of on-demand, {back} times back.",
        args.threshold
    ));
    Ok(())
}

/// Files that somebody else writes, read again and again.
fn follow(args: &WatchArgs, mut thresholds: Thresholds, seconds: u64, out: &mut Out) -> Result<(), Failure> {
    let mut book = PriceBook::default();
    let mut source = Feed::new();
    let mut health: Option<Health> = None;
    let mut bases: BTreeMap<Pool, &'static str> = BTreeMap::new();
    let mut round = 0;
    let loaded = args.files.load(super::now())?;
    book.set_on_demand(loaded.book.on_demand().clone());
    loop {
        let now = super::now();
        match read(args) {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => {
                let intake = source.take(&mut book, &batch, now);
                for (index, why) in intake
                    .refused
                    .iter()
                    .take(rebound_pricer::limits::FAULTS_TOLD_MAX)
                {
                    let whose = batch
                        .get(*index)
                        .map(|told| pool::text(&told.pool))
                        .unwrap_or_default();
                    out.note(&format!("{whose}: not used: {why}"));
                }
            }
            // A file that cannot be read is a feed that says nothing: the health tells.
            Err(error) => out.note(&error.to_string()),
        }
        let is = source.health(now);
        if health.is_none_or(|was| std::mem::discriminant(&was) != std::mem::discriminant(&is)) {
            health = Some(is);
            out.event(&plain(What::Health, now, None, format!("feed  {is}")), |one| {
                one.text.clone()
            })?;
        }
        let pools: Vec<Pool> = book
            .pools()
            .map(|(one, _)| one.clone())
            .filter(|one| pool::chosen(&args.pools, one))
            .collect();
        for one in pools {
            let Ok(quote) = source.quote(&book, &one, now) else {
                continue;
            };
            let basis = match quote.basis {
                Basis::Live => "live",
                Basis::LastGood { .. } => "last good price",
                Basis::OnDemand { .. } => "on-demand price",
            };
            if bases.insert(one.clone(), basis).is_some_and(|was| was != basis) {
                let text = format!("{}  reckoned with the {basis}", pool::text(&one));
                out.event(&plain(What::Basis, now, Some(&one), text), |one| one.text.clone())?;
            }
            if let Some(happening) = thresholds.see(&book, &one, now, quote.price.0) {
                out.event(&happening, |happening| happening.text.clone())?;
            }
        }
        round += 1;
        if args.rounds.is_some_and(|rounds| round >= rounds) {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(seconds));
    }
}

fn plain(what: What, at: Time, one: Option<&Pool>, text: String) -> Happening {
    Happening {
        at: time(at),
        what,
        pool: one.map(pool::text),
        usd_per_hour: None,
        on_demand_share_permille: None,
        text: format!("{}  {text}", time(at)),
    }
}

/// The newest prices of all files.
fn read(args: &WatchArgs) -> Result<Vec<Told>, rebound_pricer::error::FileError> {
    let names = args.files.names().unwrap_or_default();
    let mut batch = Vec::new();
    for path in &args.files.files {
        if let (_, Parsed::Prices(prices)) = feed::parse(&name(path), bytes(path)?, &names, None)? {
            batch.extend(prices.told);
        }
    }
    batch.sort_by_key(|told: &Told| told.at);
    Ok(batch)
}
