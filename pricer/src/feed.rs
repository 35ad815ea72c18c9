//! Recorded files, as they come: what is in them is told by their content, not by their names.
//!
//! | format | told by |
//! |---|---|
//! | prices, CSV | columns `instance_type,zone,epoch_s,usd_per_hour`, maybe `on_demand`, `placement_score`, `interruption_free_score` |
//! | on-demand prices, CSV | columns `instance_type,region,usd_per_hour`, maybe `operating_system`, `currency` |
//! | spot advisor, CSV | columns `instance_type,region,interruption_band` |
//! | EC2 | JSON of `aws ec2 describe-spot-price-history`, one page or several behind each other |
//! | SkyPilot spot traces | JSON `{"metadata": {"gap_seconds": G}, "data": [machines up], "prices": […]}` |
//! | Bamboo | lines `milliseconds,add\|remove,node` |
//!
//! Each may be packed with gzip.

mod bamboo;
mod ec2;
mod table;
mod traces;

use std::collections::BTreeMap;
use std::io::Read;

use rebound_core::types::{MicroUsd, Time};
use serde::Serialize;

use crate::advisor::Advice;
use crate::error::FileError;
use crate::health::Told;
use crate::limits::FILE_BYTES_MAX;
use crate::on_demand::OnDemand;
use crate::pool::ZoneNames;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const KNOWN: &str = "known are CSV with a header (instance_type,zone,epoch_s,usd_per_hour; instance_type,region,usd_per_hour; \
                     instance_type,region,interruption_band), JSON of `aws ec2 describe-spot-price-history`, SkyPilot \
                     spot traces and Bamboo's ms,add|remove,node; each may be gzipped";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Spot prices of pools over time, in columns.
    Prices,
    /// On-demand prices.
    OnDemand,
    /// Bands of the spot advisor.
    Advisor,
    /// The answer of `describe-spot-price-history`.
    Ec2,
    /// Machines up, tick by tick.
    SpotTrace,
    /// Machines that came and went.
    Bamboo,
}

/// Spot prices, and what else stood beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Prices, oldest first; not believed yet.
    pub told: Vec<Told>,
    /// Rows left out, by what they were for: other operating systems.
    pub skipped: BTreeMap<String, u64>,
    /// On-demand prices that stood in the same file.
    pub on_demand: Option<OnDemand>,
    /// Scores and bands that stood in the same file.
    pub advice: Advice,
}

/// How many machines a pool had, over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Ticks or lines that were read.
    pub rows: u64,
    /// From a time on (µs since the recording began) so many machines were up.
    pub points: Vec<(u64, u32)>,
    /// When the recording ended.
    pub end: u64,
    /// Machines lost.
    pub lost: u64,
    /// How long the machines lived that were lost, in µs; in the order in which they were lost.
    pub lives: Vec<u64>,
    /// How long there was none, in µs, where that began and ended within the recording.
    pub downs: Vec<u64>,
    /// Prices beside the ticks, where the file has any.
    pub prices: Vec<(u64, MicroUsd)>,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Spot prices.
    Prices(Prices),
    /// On-demand prices.
    OnDemand(OnDemand),
    /// The spot advisor's bands.
    Advisor(Advice),
    /// A pool's capacity.
    Capacity(Capacity),
}

/// Unpacks `bytes` where they are gzipped.
///
/// # Errors
///
/// Where they are damaged or too large.
pub fn unpack(file: &str, bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
    let mut text = bytes;
    if text.starts_with(&GZIP) {
        let packed = std::mem::take(&mut text);
        flate2::read::MultiGzDecoder::new(packed.as_slice())
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| {
                FileError::whole(file, format!("cannot be unpacked: {error}"), "copy the file anew")
            })?;
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("is larger than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(FileError::whole(file, problem, "split it by time or by region"));
    }
    Ok(text)
}

/// A list of on-demand prices, dated by its name.
///
/// # Errors
///
/// The first fault, with its line and field.
pub fn on_demand_list(file: &str, text: &[u8]) -> Result<OnDemand, FileError> {
    table::on_demand(file, text, date_in(file))
}

/// What `text` is.
///
/// # Errors
///
/// Where it is nothing known.
pub fn detect(file: &str, text: &[u8]) -> Result<Format, FileError> {
    let text = table::without_mark(text);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => Err(FileError::whole(file, "is empty", KNOWN)),
        Some(b'{') if traces::is_one(text) => Ok(Format::SpotTrace),
        Some(b'{') => Ok(Format::Ec2),
        Some(_) if bamboo::is_one(text) => Ok(Format::Bamboo),
        Some(_) => table::detect(text)
            .ok_or_else(|| FileError::at(file, 1, "", "is in no format that is known", KNOWN)),
    }
}

/// Reads a file. `as_of` is the day of an on-demand list that does not say it itself.
///
/// # Errors
///
/// The first fault, with its line and field.
pub fn parse(
    file: &str,
    bytes: Vec<u8>,
    names: &ZoneNames,
    as_of: Option<Time>,
) -> Result<(Format, Parsed), FileError> {
    let text = unpack(file, bytes)?;
    let format = detect(file, &text)?;
    let text = table::without_mark(&text);
    let parsed = match format {
        Format::Prices => Parsed::Prices(table::prices(file, text, names)?),
        Format::Ec2 => Parsed::Prices(ec2::prices(file, text, names)?),
        Format::OnDemand => Parsed::OnDemand(table::on_demand(file, text, as_of.or_else(|| date_in(file)))?),
        Format::Advisor => Parsed::Advisor(table::advisor(file, text)?),
        Format::SpotTrace => Parsed::Capacity(traces::capacity(file, text)?),
        Format::Bamboo => Parsed::Capacity(bamboo::capacity(file, text)?),
    };
    Ok((format, parsed))
}

/// The date in a file's name (`2025-03-02`, or `2025-03` for the first of the month), at midnight UTC.
pub fn date_in(file: &str) -> Option<Time> {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let parts: Vec<&str> = name.split(|c: char| !c.is_ascii_digit()).collect();
    let number =
        |part: &str, digits: usize| (part.len() == digits).then(|| part.parse::<i16>().ok()).flatten();
    let (at, year) = parts
        .iter()
        .enumerate()
        .find_map(|(at, part)| Some((at, number(part, 4).filter(|year| (2006..2100).contains(year))?)))?;
    let month = number(parts.get(at + 1)?, 2)?;
    let day = parts.get(at + 2).and_then(|part| number(part, 2)).unwrap_or(1);
    let date = jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let second = date
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_second();
    Some(Time(u64::try_from(second).ok()? * 1_000_000))
}

/// An RFC 3339 time as EC2 writes it, or whole seconds since 1970.
///
/// # Errors
///
/// A sentence for people.
pub fn parse_time(text: &str) -> Result<Time, String> {
    let bad = || format!("`{}` is no time", crate::money::shown(text));
    let micros = match text.trim().parse::<i64>() {
        Ok(seconds) => seconds.checked_mul(1_000_000).ok_or_else(bad)?,
        Err(_) => text
            .trim()
            .parse::<jiff::Timestamp>()
            .map_err(|_| bad())?
            .as_microsecond(),
    };
    match u64::try_from(micros) {
        // Before EC2 there were no prices; later than this, seconds were milliseconds.
        Ok(micros) if (1_136_073_600_000_000..7_258_118_400_000_000).contains(&micros) => Ok(Time(micros)),
        _ => Err(bad()),
    }
}

impl Capacity {
    /// Makes one from changes: from a time on so many more or fewer machines. Machines are lost oldest first.
    pub(crate) fn from_changes(changes: &[(u64, i64)], end: u64) -> Self {
        let mut all = Self {
            end,
            ..Self::default()
        };
        let mut up = std::collections::VecDeque::new();
        let mut empty_since = None;
        for (at, by) in changes {
            for _ in 0..*by {
                up.push_back(*at);
            }
            for _ in *by..0 {
                if let Some(since) = up.pop_front() {
                    all.lost += 1;
                    all.lives.push(at.saturating_sub(since));
                }
            }
            let units = u32::try_from(up.len()).unwrap_or(u32::MAX);
            match all.points.last_mut() {
                Some(last) if last.0 == *at => last.1 = units,
                Some(last) if last.1 == units => {}
                _ => all.points.push((*at, units)),
            }
            if units > 0 {
                all.downs
                    .extend(empty_since.take().map(|since| at.saturating_sub(since)));
            } else if all.lost > 0 && empty_since.is_none() {
                empty_since = Some(*at);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests;
