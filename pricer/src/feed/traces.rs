//! SkyPilot's spot traces: how many machines were up, tick by tick.

use serde::Deserialize;

use super::Capacity;
use crate::error::FileError;
use crate::limits::MACHINES_MAX;
use crate::money::parse_usd;

/// Longest tick, in seconds.
const GAP_MAX: u64 = 86_400;

#[derive(Deserialize)]
struct Trace {
    metadata: Metadata,
    data: Vec<u32>,
    #[serde(default)]
    prices: Vec<serde_json::Number>,
}

#[derive(Deserialize)]
struct Metadata {
    gap_seconds: serde_json::Number,
}

/// Whether JSON text looks like one, by the members it begins with.
pub fn is_one(text: &[u8]) -> bool {
    let head = String::from_utf8_lossy(text.get(..text.len().min(4_096)).unwrap_or(text));
    let any = ["\"metadata\"", "\"data\""]
        .iter()
        .any(|member| head.contains(member));
    any && !head.contains("\"SpotPriceHistory\"")
}

/// Reads a trace.
///
/// # Errors
///
/// The first fault.
pub fn capacity(file: &str, text: &[u8]) -> Result<Capacity, FileError> {
    let trace: Trace = serde_json::from_slice(text).map_err(|error| {
        let fix = "write {\"metadata\": {\"gap_seconds\": 600}, \"data\": [machines up at each tick]}";
        FileError::at(file, error.line() as u64, "", error.to_string(), fix)
    })?;
    let gap = seconds(&trace.metadata.gap_seconds).ok_or_else(|| {
        let problem = format!("{} is no tick", trace.metadata.gap_seconds);
        FileError::at(
            file,
            0,
            "metadata.gap_seconds",
            problem,
            "write whole seconds, 1 to 86400",
        )
    })?;
    if trace.data.is_empty() {
        return Err(FileError::at(
            file,
            0,
            "data",
            "is empty",
            "write the machines up at each tick",
        ));
    }
    let ticks = trace.data.len();
    if !trace.prices.is_empty() && trace.prices.len() != ticks {
        let problem = format!("has {} values, data has {ticks}", trace.prices.len());
        return Err(FileError::at(
            file,
            0,
            "prices",
            problem,
            "write one for each tick, or none",
        ));
    }
    if let Some((tick, units)) = trace
        .data
        .iter()
        .enumerate()
        .find(|(_, units)| **units > MACHINES_MAX)
    {
        let problem = format!("{units} is more than {MACHINES_MAX} machines");
        return Err(FileError::at(
            file,
            0,
            &format!("data[{tick}]"),
            problem,
            "write the machines up at each tick",
        ));
    }
    let mut changes = Vec::new();
    let mut before = 0;
    for (tick, units) in trace.data.iter().enumerate() {
        let by = i64::from(*units) - before;
        if by != 0 || tick == 0 {
            changes.push((tick as u64 * gap, by));
        }
        before = i64::from(*units);
    }
    let mut all = Capacity::from_changes(&changes, ticks as u64 * gap);
    all.rows = ticks as u64;
    for (tick, price) in trace.prices.iter().enumerate() {
        let price = parse_usd(&price.to_string()).map_err(|problem| {
            FileError::at(
                file,
                0,
                &format!("prices[{tick}]"),
                problem,
                "write USD an hour, as 0.918",
            )
        })?;
        if all.prices.last().is_none_or(|(_, last)| *last != price) {
            all.prices.push((tick as u64 * gap, price));
        }
    }
    Ok(all)
}

/// A tick in µs.
fn seconds(number: &serde_json::Number) -> Option<u64> {
    // Some traces write 600.0.
    let text = number.to_string();
    let whole: u64 = text.strip_suffix(".0").unwrap_or(&text).parse().ok()?;
    (1..=GAP_MAX).contains(&whole).then_some(whole * 1_000_000)
}
