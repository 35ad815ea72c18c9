//! What it costs to bring a photo from its bucket to another region.
//!
//! From `data/transfer.csv`, after EC2's public price pages: USD a GB out of a region to another one, and USD a GB that
//! a NAT gateway of a region handles (empty: not known here). A region that is not there cannot be reckoned with, so
//! nothing is bought across its border. Within a region S3 and EC2 exchange data for nothing. Results are small and
//! are not counted.

use std::collections::BTreeMap;

use rebound_core::types::MicroUsd;
use serde::{Deserialize, Serialize};

use crate::error::FileError;
use crate::money::{parse_usd, ratio};

const BUILT_IN: &str = include_str!("../data/transfer.csv");
/// A bill's GB. EC2 counts 2^30 bytes; this is the dearer reading.
const GB: u64 = 1_000_000_000;
/// Both of these pay half of the usual price to each other, and say so on the price page.
const NEIGHBOURS: [&str; 2] = ["us-east-1", "us-east-2"];

/// When photos pass a NAT gateway. A gateway endpoint of S3, which is free, works within its region alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// Never: agents have public addresses.
    None,
    /// From another region: private subnets with S3's endpoint.
    #[default]
    Away,
    /// Always: private subnets without one.
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    out: MicroUsd,
    nat: Option<MicroUsd>,
}

/// Why a transfer has no price.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Unpriced {
    /// Nothing is known of data that leaves this region.
    Out(String),
    /// Nothing is known of this region's NAT gateways.
    Nat(String),
}

/// What a thousand photos cost on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Between regions.
    pub transfer: MicroUsd,
    /// Through a NAT gateway.
    pub nat: MicroUsd,
}

/// Prices of data by region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfers {
    rates: BTreeMap<String, Rates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    region: String,
    out_usd_per_gb: String,
    nat_usd_per_gb: String,
}

impl Transfers {
    /// The prices that come with the program.
    ///
    /// # Errors
    ///
    /// Where the table is damaged; a test reads it.
    pub fn built_in() -> Result<Self, FileError> {
        Self::parse("transfer.csv", BUILT_IN.as_bytes())
    }

    /// Reads a table with the columns of the built-in one.
    ///
    /// # Errors
    ///
    /// The first fault, with its line.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, FileError> {
        let fix = "write region,out_usd_per_gb,nat_usd_per_gb, as us-east-1,0.02,0.045";
        let mut rates = BTreeMap::new();
        let mut reader = csv::Reader::from_reader(bytes);
        for (index, row) in reader.deserialize::<Row>().enumerate() {
            let line = index as u64 + 2;
            let row = row.map_err(|error| FileError::at(file, line, "", error.to_string(), fix))?;
            let out = parse_usd(&row.out_usd_per_gb)
                .map_err(|problem| FileError::at(file, line, "out_usd_per_gb", problem, fix))?;
            let nat = match row.nat_usd_per_gb.trim() {
                "" => None,
                text => Some(
                    parse_usd(text)
                        .map_err(|problem| FileError::at(file, line, "nat_usd_per_gb", problem, fix))?,
                ),
            };
            rates.insert(row.region, Rates { out, nat });
        }
        Ok(Self { rates })
    }

    /// Regions out of which data has a price.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.rates.keys().map(String::as_str)
    }

    /// What a thousand photos of `photo_bytes` in a bucket in `from` cost a machine in `to`.
    ///
    /// # Errors
    ///
    /// Which price is not known.
    pub fn of_thousand(&self, from: &str, to: &str, photo_bytes: u64, nat: Nat) -> Result<Cost, Unpriced> {
        let away = from != to;
        let bytes = photo_bytes.saturating_mul(1_000);
        let mut cost = Cost::default();
        if away {
            let rates = self
                .rates
                .get(from)
                .ok_or_else(|| Unpriced::Out(from.to_owned()))?;
            let near = NEIGHBOURS.contains(&from) && NEIGHBOURS.contains(&to);
            let a_gb = if near { rates.out.0 / 2 } else { rates.out.0 };
            cost.transfer = MicroUsd(ratio(bytes, a_gb, GB));
        }
        if nat == Nat::Always || (away && nat == Nat::Away) {
            let rate = self.rates.get(to).and_then(|rates| rates.nat);
            let a_gb = rate.ok_or_else(|| Unpriced::Nat(to.to_owned()))?;
            cost.nat = MicroUsd(ratio(bytes, a_gb.0, GB));
        }
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    #[test]
    fn data_that_stays_costs_nothing() {
        let all = Transfers::built_in().unwrap();
        let cost = |from, to, nat| all.of_thousand(from, to, 3 * MB, nat);
        assert_eq!(cost("us-east-1", "us-east-1", Nat::Away), Ok(Cost::default()));
        let nat_only = cost("us-east-1", "us-east-1", Nat::Always).unwrap();
        assert_eq!((nat_only.transfer.0, nat_only.nat.0), (0, 135_000));
        // 3 GB at .02, through a gateway at .048.
        let away = cost("us-east-1", "eu-west-1", Nat::Away).unwrap();
        assert_eq!((away.transfer.0, away.nat.0), (60_000, 144_000));
        assert_eq!(
            cost("us-east-1", "us-east-2", Nat::None).unwrap().transfer.0,
            30_000
        );
        // The region they leave is the one that charges.
        assert_eq!(
            cost("sa-east-1", "us-east-1", Nat::None).unwrap().transfer.0,
            414_000
        );
    }

    #[test]
    fn what_has_no_price_is_not_free() {
        let all = Transfers::built_in().unwrap();
        let cost = |from, to, nat| all.of_thousand(from, to, 3 * MB, nat);
        let unknown = Unpriced::Out("mars-1".into());
        assert_eq!(cost("mars-1", "us-east-1", Nat::None), Err(unknown));
        let unknown = Unpriced::Nat("af-south-1".into());
        assert_eq!(cost("us-east-1", "af-south-1", Nat::Away), Err(unknown));
        assert_eq!(cost("mars-1", "mars-1", Nat::Away), Ok(Cost::default()));
    }

    #[test]
    fn a_bad_table_is_told_with_its_line() {
        let bad = b"region,out_usd_per_gb,nat_usd_per_gb\nus-east-1,0.02,\nus-east-2,-1,\n";
        let error = Transfers::parse("t.csv", bad).unwrap_err();
        assert_eq!((error.line, error.field.as_str()), (3, "out_usd_per_gb"));
        assert!(
            error
                .to_string()
                .starts_with("t.csv:3: out_usd_per_gb: `-1` is negative")
        );
    }
}
