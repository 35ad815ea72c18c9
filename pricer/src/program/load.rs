//! Files into a book.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use rebound_core::types::{MicroUsd, Pool, Time};
use rebound_pricer::advisor::Advice;
use rebound_pricer::book::{Bounds, PriceBook, Refused};
use rebound_pricer::error::FileError;
use rebound_pricer::feed::{self, Capacity, Format, Parsed};
use rebound_pricer::health::Told;
use rebound_pricer::limits::{FILE_BYTES_MAX, POINTS_MAX};
use rebound_pricer::money::parse_usd;
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::{ZoneNames, regions};

use super::failure::Failure;
use super::output::{Out, time};

/// Which files.
#[derive(Debug, Args)]
pub struct Files {
    /// A recorded file of any known format; may be repeated
    #[arg(long = "file", short = 'f', value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The on-demand price of a type in all regions, as m4.10xlarge=2.394; wins over files
    #[arg(long, value_name = "TYPE=USD")]
    pub on_demand: Vec<String>,
    /// The day for which on-demand files hold that do not say it in their name
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Zone ids of one account's zone names: a file of lines name,id
    #[arg(long, value_name = "FILE")]
    pub zones: Option<PathBuf>,
}

/// All that files said.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Prices that can be true.
    pub book: PriceBook,
    /// Bands and scores.
    pub advice: Advice,
    /// Capacities, by the file they came from.
    pub capacities: Vec<(String, Capacity)>,
    /// Prices that cannot be true, with the file they stood in.
    pub refused: Vec<(String, Told, Refused)>,
    /// What was in each file.
    pub files: Vec<Read>,
}

/// What was in one file.
#[derive(Debug)]
pub struct Read {
    /// Its name.
    pub file: String,
    /// How it is written.
    pub format: Format,
    /// Rows, entries or ticks that were read.
    pub rows: u64,
    /// Rows left out, by what they were for.
    pub skipped: BTreeMap<String, u64>,
    /// The oldest and the newest time, where it has times.
    pub span: Option<(Time, Time)>,
    /// Pools it has spot prices of.
    pub pools: usize,
}

/// A file's name, as messages have it.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// A file's bytes.
///
/// # Errors
///
/// Where it cannot be read, or is larger than the unpacked bound.
pub fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = name(path);
    let cannot = |error: std::io::Error| {
        FileError::whole(
            &file,
            format!("cannot be read: {error}"),
            "name a file that is there and may be read",
        )
    };
    if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        return Err(FileError::whole(
            &file,
            "is too large",
            "split it by time or by region",
        ));
    }
    std::fs::read(path).map_err(cannot)
}

/// A text file.
///
/// # Errors
///
/// Where it cannot be read or is not UTF-8.
pub fn text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| FileError::whole(&name(path), "is not UTF-8", "save it as UTF-8"))
}

impl Files {
    /// The zones that names stand for.
    ///
    /// # Errors
    ///
    /// Where the file has a fault.
    pub fn names(&self) -> Result<ZoneNames, Failure> {
        let mut names = ZoneNames::new();
        let Some(path) = &self.zones else {
            return Ok(names);
        };
        for (index, line) in text(path)?
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let pair = line.split_once(',').map(|(zone, id)| (zone.trim(), id.trim()));
            let Some((zone, id)) = pair.filter(|(_, id)| rebound_pricer::pool::is_zone_id(id)) else {
                let fix = "write name,id, as us-east-1a,use1-az4";
                return Err(FileError::at(&name(path), index as u64 + 1, "id", "is no zone id", fix).into());
            };
            names.insert(zone.to_owned(), id.to_owned());
        }
        Ok(names)
    }

    /// Reads all files. What cannot be true, seen at `now`, is set aside.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read as what it is.
    pub fn load(&self, now: Time) -> Result<Loaded, Failure> {
        let names = self.names()?;
        let as_of = self
            .as_of
            .as_ref()
            .map(|text| option_time("--as-of", text))
            .transpose()?;
        let mut all = Loaded {
            // Whoever looks at a recording wants all of it; the bound on all histories together stays.
            book: PriceBook::new(Bounds {
                points_per_pool: POINTS_MAX,
                ..Bounds::default()
            }),
            ..Loaded::default()
        };
        let mut on_demand = OnDemand::default();
        let mut told: Vec<(String, Vec<Told>)> = Vec::new();
        for path in &self.files {
            let file = name(path);
            let (format, parsed) = feed::parse(&file, bytes(path)?, &names, as_of)?;
            let mut read = Read {
                file: file.clone(),
                format,
                rows: 0,
                skipped: BTreeMap::new(),
                span: None,
                pools: 0,
            };
            match parsed {
                Parsed::Prices(prices) => {
                    read.rows = prices.told.len() as u64;
                    read.skipped = prices.skipped;
                    read.span = prices
                        .told
                        .first()
                        .zip(prices.told.last())
                        .map(|(a, b)| (a.at, b.at));
                    let pools: std::collections::BTreeSet<&Pool> =
                        prices.told.iter().map(|told| &told.pool).collect();
                    read.pools = pools.len();
                    if let Some(listed) = prices.on_demand {
                        on_demand.merge(listed).map_err(Failure::usage)?;
                    }
                    all.advice.merge(prices.advice);
                    told.push((file, prices.told));
                }
                Parsed::OnDemand(listed) => {
                    read.rows = listed.len() as u64;
                    read.span = listed.as_of().map(|at| (at, at));
                    on_demand.merge(listed).map_err(Failure::usage)?;
                }
                Parsed::Advisor(advice) => {
                    read.rows = advice.len().0 as u64;
                    all.advice.merge(advice);
                }
                Parsed::Capacity(capacity) => {
                    read.rows = capacity.rows;
                    all.capacities.push((file, capacity));
                }
            }
            all.files.push(read);
        }
        self.own_prices(&mut on_demand, now)?;
        all.book.set_on_demand(on_demand);
        // On-demand prices first, whatever the order of the files: they are the measure of what can be true.
        for (file, batch) in told {
            for told in batch {
                if let Err(why) = all.book.note(&told.pool, told.at, told.micros, now) {
                    all.refused.push((file.clone(), told, why));
                }
            }
        }
        Ok(all)
    }

    /// Prices given on the command line.
    fn own_prices(&self, all: &mut OnDemand, now: Time) -> Result<(), Failure> {
        let mut own = OnDemand::new(Some(all.as_of().unwrap_or(now)));
        for text in &self.on_demand {
            let bad = |problem: &str| {
                Failure::usage(format!(
                    "--on-demand {text}: {problem}: write TYPE=USD, as m4.large=0.1"
                ))
            };
            let (kind, price) = text.split_once('=').ok_or_else(|| bad("has no `=`"))?;
            let price: MicroUsd = parse_usd(price).map_err(|problem| bad(&problem))?;
            for (_, region) in regions() {
                own.list(region, kind, Listed::Price(price))
                    .map_err(Failure::usage)?;
            }
        }
        all.merge(own).map_err(Failure::usage)
    }
}

impl Loaded {
    /// Says what was set aside, and how old the on-demand prices are at `at`.
    pub fn notes(&self, at: Time, out: &mut Out) {
        let mut counts: BTreeMap<(&str, Refused), u64> = BTreeMap::new();
        for (file, _, why) in &self.refused {
            *counts.entry((file, *why)).or_default() += 1;
        }
        for ((file, why), count) in counts {
            out.note(&format!("{file}: {count} prices are not used: {why}"));
        }
        let on_demand = self.book.on_demand();
        if on_demand.is_empty() {
            out.note("No on-demand prices: nothing may be bought without. Add a list with --file, or --on-demand TYPE=USD.");
            return;
        }
        match on_demand.age(at) {
            None => out.note("On-demand prices are of an unknown day. Say it with --as-of."),
            Some((age, old)) => {
                let of = on_demand.as_of().unwrap_or_default();
                let days = |micros: u64| micros / 86_400_000_000;
                let warning = if old { ", which is old" } else { "" };
                let distance = match days(of.0.saturating_sub(at.0)) {
                    0 => format!("{} days before", days(age)),
                    after => format!("{after} days after"),
                };
                out.note(&format!(
                    "On-demand prices are of {}, {distance} the spot prices{warning}.",
                    time(of)
                ));
            }
        }
    }
}

/// A time given as an option.
///
/// # Errors
///
/// Where it is none.
pub fn option_time(option: &str, text: &str) -> Result<Time, Failure> {
    let day = format!("{text}T00:00:00Z");
    feed::parse_time(text)
        .or_else(|problem| feed::parse_time(&day).map_err(|_| problem))
        .map_err(|problem| {
            Failure::usage(format!(
                "{option}: {problem}: write 2016-03-01, 2016-03-01T12:00:00Z or seconds since 1970"
            ))
        })
}
