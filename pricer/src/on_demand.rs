//! On-demand prices: from a dated file, one price for each type and region.

use std::collections::BTreeMap;

use rebound_core::types::{MicroUsd, Time};
use serde::Serialize;

use crate::error::FileError;
use crate::limits::{ON_DEMAND_MAX, ON_DEMAND_OLD_AFTER};

/// The operating system that a price is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum System {
    /// Plain Linux, without a licence in the price: what the agents run on.
    Linux,
    /// Another, as the source calls it.
    Other(String),
}

impl System {
    /// From EC2's product descriptions and price lists' names.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "Linux" | "linux" | "Linux/UNIX" | "Linux/UNIX (Amazon VPC)" => Self::Linux,
            other => Self::Other(crate::money::shown(other)),
        }
    }
}

/// What a source says of one type in one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Listed {
    /// USD an hour on Linux.
    Price(MicroUsd),
    /// Listed, but for another operating system.
    OtherSystem(String),
    /// Listed, but in another currency.
    OtherCurrency(String),
}

/// On-demand prices by region and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDemand {
    listed: BTreeMap<String, BTreeMap<String, Listed>>,
    rows: usize,
    as_of: Option<Time>,
}

impl OnDemand {
    /// No prices; `as_of` is the day for which those to come hold.
    pub fn new(as_of: Option<Time>) -> Self {
        Self {
            as_of,
            ..Self::default()
        }
    }

    /// Those of us-east-1 in February 2016, of the types whose spot prices of then were recorded.
    ///
    /// # Errors
    ///
    /// When the list that the program brings along is damaged.
    pub fn of_2016() -> Result<Self, FileError> {
        let file = "on-demand-us-east-1-2016-02.csv";
        crate::feed::on_demand_list(file, include_bytes!("../data/on-demand-us-east-1-2016-02.csv"))
    }

    /// The same prices, which hold for the day of `as_of`.
    #[must_use]
    pub fn dated(self, as_of: Time) -> Self {
        Self {
            as_of: Some(as_of),
            ..self
        }
    }

    /// Lists one price. A Linux price in dollars wins over a listing that is of no use; of two of them the later one
    /// counts.
    ///
    /// # Errors
    ///
    /// Where there are too many.
    pub fn list(&mut self, region: &str, instance_type: &str, listed: Listed) -> Result<(), String> {
        let types = self.listed.entry(region.to_owned()).or_default();
        match types.get_mut(instance_type) {
            Some(old) if matches!(listed, Listed::Price(_)) || !matches!(old, Listed::Price(_)) => {
                *old = listed;
            }
            Some(_) => {}
            None if self.rows >= ON_DEMAND_MAX => {
                return Err(format!("more than {ON_DEMAND_MAX} types in regions"));
            }
            None => {
                types.insert(instance_type.to_owned(), listed);
                self.rows += 1;
            }
        }
        Ok(())
    }

    /// Takes in `other`, which wins. The older of the two dates counts for all: an age is never understated.
    ///
    /// # Errors
    ///
    /// Where there are too many.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        let both = (self.rows > 0)
            .then_some(self.as_of)
            .map(|own| own.zip(other.as_of));
        self.as_of = both.map_or(other.as_of, |both| both.map(|(a, b)| a.min(b)));
        for (region, types) in other.listed {
            for (name, listed) in types {
                self.list(&region, &name, listed)?;
            }
        }
        Ok(())
    }

    /// What is listed for a type in a region.
    pub fn get(&self, region: &str, instance_type: &str) -> Option<&Listed> {
        self.listed.get(region)?.get(instance_type)
    }

    /// Types of a region that have a price, with it.
    pub fn of_region(&self, region: &str) -> impl Iterator<Item = (&str, MicroUsd)> {
        let types = self.listed.get(region).into_iter().flatten();
        types.filter_map(|(name, listed)| match listed {
            Listed::Price(price) => Some((name.as_str(), *price)),
            _ => None,
        })
    }

    /// Listings, useful or not.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The day for which the prices hold, where the source says so.
    pub fn as_of(&self) -> Option<Time> {
        self.as_of
    }

    /// How old the prices are at `now`, in µs, and whether that is too old to pass over. Nothing where no date is known.
    pub fn age(&self, now: Time) -> Option<(u64, bool)> {
        let age = now.0.saturating_sub(self.as_of?.0);
        Some((age, age > ON_DEMAND_OLD_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_useful_listing_wins() {
        let mut prices = OnDemand::new(Some(Time(5)));
        let price = Listed::Price(MicroUsd(9));
        let windows = Listed::OtherSystem("Windows".into());
        prices.list("us-east-1", "m4.large", windows.clone()).unwrap();
        assert_eq!(prices.get("us-east-1", "m4.large"), Some(&windows));
        prices.list("us-east-1", "m4.large", price.clone()).unwrap();
        prices.list("us-east-1", "m4.large", windows).unwrap();
        assert_eq!(prices.get("us-east-1", "m4.large"), Some(&price));
        assert_eq!(prices.len(), 1);
        assert_eq!(prices.get("us-east-2", "m4.large"), None);
    }

    #[test]
    fn an_age_is_never_understated() {
        let mut all = OnDemand::default();
        let mut dated = OnDemand::new(Some(Time(70)));
        dated.list("r", "t", Listed::Price(MicroUsd(1))).unwrap();
        all.merge(dated.clone()).unwrap();
        assert_eq!(all.age(Time(100)), Some((30, false)));
        let mut older = dated.clone();
        older.as_of = Some(Time(20));
        all.merge(older).unwrap();
        assert_eq!(all.as_of(), Some(Time(20)));
        assert!(all.age(Time(20 + ON_DEMAND_OLD_AFTER + 1)).unwrap().1);
        dated.as_of = None;
        all.merge(dated).unwrap();
        assert_eq!(all.age(Time(100)), None);
    }

    #[test]
    fn only_plain_linux_is_linux() {
        assert_eq!(System::parse("Linux/UNIX"), System::Linux);
        assert_eq!(System::parse("Linux/UNIX (Amazon VPC)"), System::Linux);
        for other in ["Windows", "SUSE Linux", "Red Hat Enterprise Linux", ""] {
            assert_eq!(System::parse(other), System::Other(other.into()));
        }
    }
}
