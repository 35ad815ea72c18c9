//! What the market offers, as the policy sees it: the pricer's ranking, already in money for a thousand photos. Made
//! outside of the core; volatile.

use std::collections::BTreeMap;

use crate::types::{MicroUsd, Pool, Resources, Time};

/// The offers of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Market {
    /// When prices were last heard, by the cluster's clock.
    pub heard: Time,
    /// What each pool is and costs.
    pub pools: BTreeMap<Pool, Quote>,
    /// For each recogniser that somebody asked for, what each pool it may run on gives for the money.
    pub speeds: BTreeMap<String, BTreeMap<Pool, Speed>>,
    /// USD for a GB of photos from one region on machines in another, in millionths; none: not known, and nothing is
    /// bought across that border. Within a region it is nothing.
    pub ways: BTreeMap<(String, String), MicroUsd>,
}

impl Market {
    /// What the way of a thousand photos of so many kB costs; none: nobody knows. Photos of which nobody says where they
    /// are cost nothing on their way.
    pub fn way(&self, from: &str, to: &str, photo_kb: u32) -> Option<MicroUsd> {
        if from.is_empty() || from == to {
            return Some(MicroUsd(0));
        }
        let a_gb = self.ways.get(&(from.to_owned(), to.to_owned()))?;
        Some(MicroUsd(a_gb.0.saturating_mul(u64::from(photo_kb)) / 1_000))
    }
}

/// What a pool is and costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quote {
    /// USD an hour, in millionths.
    pub price: MicroUsd,
    /// The same machine on demand.
    pub on_demand: MicroUsd,
    /// What it was lately, the earliest first: each price from its time until the next.
    pub lately: Vec<(Time, MicroUsd)>,
    /// vCPUs, as quotas count them.
    pub vcpus: u32,
    /// What the machine has.
    pub resources: Resources,
    /// Interruptions in a million machine-hours.
    pub interruptions: u64,
}

/// How fast a machine of a pool is with a recogniser, and what a thousand photos cost there in millionths of USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Slots of the machine.
    pub slots: u32,
    /// µs of the machine for one photo, all slots at work.
    pub us_per_photo: u64,
    /// The machine.
    pub machine: MicroUsd,
    /// The way of the photos: between regions, and through NAT gateways.
    pub way: MicroUsd,
    /// What interruptions and failed launches waste.
    pub risk: MicroUsd,
    /// Most machines of the type at once, of one whose speed is only assumed.
    pub most: Option<u32>,
}

impl Speed {
    /// All of it: what pools are ranked by.
    pub fn total(&self) -> MicroUsd {
        MicroUsd(
            self.machine
                .0
                .saturating_add(self.way.0)
                .saturating_add(self.risk.0),
        )
    }

    /// Photos done in so many µs.
    pub fn photos_in(&self, us: u64) -> u64 {
        us / self.us_per_photo.max(1)
    }
}

impl Quote {
    /// The least and the greatest price since `from`, if the price was known throughout.
    pub fn range_since(&self, from: Time) -> Option<(MicroUsd, MicroUsd)> {
        let behind = self.lately.partition_point(|(at, _)| *at <= from);
        let first = behind.checked_sub(1)?;
        let prices = self.lately[first..].iter().map(|(_, price)| *price);
        let (low, high) = prices.fold((MicroUsd(u64::MAX), MicroUsd(0)), |(low, high), price| {
            (low.min(price), high.max(price))
        });
        Some((low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_price_is_of_what_was_in_force() {
        let quote = Quote {
            lately: vec![
                (Time(10), MicroUsd(5)),
                (Time(20), MicroUsd(9)),
                (Time(30), MicroUsd(7)),
            ],
            ..Quote::default()
        };
        let range = |from| quote.range_since(Time(from)).map(|(low, high)| (low.0, high.0));
        assert_eq!(range(9), None, "not known that long");
        assert_eq!(range(10), Some((5, 9)));
        assert_eq!(range(29), Some((7, 9)));
        assert_eq!(range(99), Some((7, 7)));
    }
}
