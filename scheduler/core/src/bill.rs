//! What machines cost: one function for the cluster's own ledger, for simulated clouds and for reports.
//!
//! EC2 bills Linux machines by the second, from `running` to `shutting-down`, 60 s at least at each start
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/concepts.html>, "Per Second Billing"); spot at the price in
//! force. A spot machine that EC2 takes back within its first hour is free of charge
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html>).

use crate::limits::BILLED_MIN;
use crate::types::{MicroUsd, SECOND, Time};

/// An hour, in µs.
pub const HOUR: u64 = 3_600 * SECOND;

/// A price from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// From when.
    pub at: Time,
    /// USD an hour, in millionths.
    pub price: MicroUsd,
}

/// How machines are billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// As EC2 did until 2017: each hour begun at the price of its beginning, and the last one free if EC2 took the
    /// machine.
    pub by_hour: bool,
    /// A spot machine that EC2 takes back within its first hour costs nothing.
    pub first_hour_free: bool,
    /// Millionths of USD an hour for the root volume.
    pub volume: MicroUsd,
    /// Millionths of USD an hour for the public address.
    pub address: MicroUsd,
}

/// What one machine costs, in millionths of USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// The machine.
    pub machine: u64,
    /// Its root volume.
    pub volume: u64,
    /// Its public address.
    pub address: u64,
    /// What the machine would have cost, had EC2 not taken it back: on no other line, and nobody's merit.
    pub free: u64,
}

impl Bill {
    /// What is to be paid.
    pub fn total(&self) -> u64 {
        self.machine + self.volume + self.address
    }
}

/// What so many µs at a price an hour cost, in millionths of USD, rounded up.
pub fn cost(price: MicroUsd, us: u64) -> u64 {
    u64::try_from((u128::from(price.0) * u128::from(us)).div_ceil(u128::from(HOUR))).unwrap_or(u64::MAX)
}

/// What a machine costs that ran from one instant to another at these prices, the earliest first; the first one also
/// counts before its own instant. `reclaimed`: EC2 took it.
pub fn bill(terms: &Terms, prices: &[Step], from: Time, to: Time, reclaimed: bool) -> Bill {
    let ran = to.0.saturating_sub(from.0);
    let billed = ran.max(BILLED_MIN);
    let machine = match terms.by_hour {
        true => by_hour(prices, from, ran, reclaimed),
        false => by_second(prices, from, Time(from.0.saturating_add(billed))),
    };
    let free = terms.first_hour_free && reclaimed && ran < HOUR;
    Bill {
        machine: if free { 0 } else { machine },
        volume: cost(terms.volume, billed),
        address: cost(terms.address, billed),
        free: if free { machine } else { 0 },
    }
}

fn price_at(prices: &[Step], at: Time) -> MicroUsd {
    let behind = prices.partition_point(|step| step.at <= at);
    prices
        .get(behind.saturating_sub(1))
        .map_or(MicroUsd(0), |step| step.price)
}

fn by_second(prices: &[Step], from: Time, to: Time) -> u64 {
    let mut sum = 0u64;
    let mut at = from;
    for step in prices.iter().filter(|step| from < step.at && step.at < to) {
        sum = sum.saturating_add(cost(price_at(prices, at), step.at.0 - at.0));
        at = step.at;
    }
    sum.saturating_add(cost(price_at(prices, at), to.0 - at.0))
}

fn by_hour(prices: &[Step], from: Time, ran: u64, reclaimed: bool) -> u64 {
    let begun = match reclaimed {
        true => ran / HOUR,
        false => ran.div_ceil(HOUR).max(1),
    };
    let of = |hour: u64| price_at(prices, Time(from.0.saturating_add(hour * HOUR))).0;
    (0..begun).map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [
        Step {
            at: Time(0),
            price: MicroUsd(3_600),
        },
        Step {
            at: Time(100 * SECOND),
            price: MicroUsd(7_200),
        },
        Step {
            at: Time(2 * HOUR),
            price: MicroUsd(36_000),
        },
    ];

    fn of(terms: &Terms, from: u64, to: u64, reclaimed: bool) -> Bill {
        bill(terms, &STEPS, Time(from * SECOND), Time(to * SECOND), reclaimed)
    }

    #[test]
    fn seconds_are_billed_at_the_price_in_force_and_a_minute_at_least() {
        let terms = Terms::default();
        assert_eq!(of(&terms, 0, 100, false).machine, 100);
        assert_eq!(of(&terms, 50, 150, false).machine, 50 + 2 * 50);
        assert_eq!(of(&terms, 0, 0, false).machine, 60);
        assert_eq!(
            of(&terms, 70, 71, false).machine,
            30 + 2 * 30,
            "the minute goes on at the next price"
        );
    }

    #[test]
    fn hours_are_billed_at_their_first_price_and_the_last_one_is_free_when_it_was_taken() {
        let terms = Terms {
            by_hour: true,
            ..Terms::default()
        };
        assert_eq!(of(&terms, 0, 3_601, false).machine, 3_600 + 7_200);
        assert_eq!(of(&terms, 0, 3_601, true).machine, 3_600);
        assert_eq!(of(&terms, 0, 10, true).machine, 0);
        assert_eq!(of(&terms, 0, 10, false).machine, 3_600);
    }

    #[test]
    fn what_is_given_free_has_a_line_of_its_own() {
        let terms = Terms {
            first_hour_free: true,
            ..Terms::default()
        };
        let (taken, kept) = (of(&terms, 0, 100, true), of(&terms, 0, 100, false));
        assert_eq!((taken.total(), taken.free), (0, 100));
        assert_eq!((kept.total(), kept.free), (100, 0));
        assert_eq!(
            of(&terms, 0, 3_600, true).free,
            0,
            "an hour is not within the first hour"
        );
    }

    #[test]
    fn volume_and_address_cost_by_the_second_too() {
        let terms = Terms {
            volume: MicroUsd(7_200),
            address: MicroUsd(3_600),
            ..Terms::default()
        };
        let bill = of(&terms, 0, 10, false);
        assert_eq!((bill.volume, bill.address), (120, 60));
        assert_eq!(bill.total(), 60 + 120 + 60);
    }
}
