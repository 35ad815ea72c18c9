//! The answer of `aws ec2 describe-spot-price-history`, as it comes: one JSON value, or one a page.

use serde::Deserialize;

use super::{Prices, parse_time};
use crate::error::FileError;
use crate::health::Told;
use crate::money::parse_micros;
use crate::on_demand::System;
use crate::pool::{ZoneNames, spot};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    spot_price_history: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    availability_zone: Option<String>,
    availability_zone_id: Option<String>,
    instance_type: String,
    product_description: String,
    spot_price: String,
    timestamp: String,
}

/// Reads all pages. Entries of other operating systems are counted and left out.
///
/// # Errors
///
/// The first fault: with its line where it is not JSON of this kind, else with the entry.
pub fn prices(file: &str, text: &[u8], names: &ZoneNames) -> Result<Prices, FileError> {
    let mut all = Prices::default();
    let mut index = 0u64;
    for page in serde_json::Deserializer::from_slice(text).into_iter::<Page>() {
        let page = page.map_err(|error| {
            let fix = "give the output of `aws ec2 describe-spot-price-history --output json` as it is";
            FileError::at(file, error.line() as u64, "", error.to_string(), fix)
        })?;
        for entry in &page.spot_price_history {
            take(file, index, entry, names, &mut all)?;
            index += 1;
        }
    }
    // EC2 tells the newest first.
    all.told.sort_by_key(|told| told.at);
    Ok(all)
}

fn take(file: &str, index: u64, entry: &Entry, names: &ZoneNames, all: &mut Prices) -> Result<(), FileError> {
    let bad = |field: &str, problem: String, fix: &str| {
        FileError::at(
            file,
            0,
            &format!("SpotPriceHistory[{index}].{field}"),
            problem,
            fix,
        )
    };
    if let System::Other(system) = System::parse(&entry.product_description) {
        *all.skipped.entry(system).or_default() += 1;
        return Ok(());
    }
    let zone = entry
        .availability_zone_id
        .as_ref()
        .or(entry.availability_zone.as_ref())
        .ok_or_else(|| {
            bad(
                "AvailabilityZone",
                "is missing".into(),
                "ask EC2 without a --query that drops it",
            )
        })?;
    let pool = spot(&entry.instance_type, zone, names)
        .map_err(|problem| bad("AvailabilityZone", problem, "is this region one of EC2's?"))?;
    let at = parse_time(&entry.timestamp)
        .map_err(|problem| bad("Timestamp", problem, "write it as 2016-02-25T10:38:07Z"))?;
    let micros = parse_micros(&entry.spot_price)
        .map_err(|problem| bad("SpotPrice", problem, "write USD an hour in quotes, as \"0.0312\""))?;
    all.told.push(Told {
        pool,
        at,
        micros,
        line: 0,
    });
    Ok(())
}
