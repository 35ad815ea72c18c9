//! The price of one pool over time: a step function, bounded in length.

use rebound_core::types::{MicroUsd, Time};
use serde::Serialize;

/// From `at` on the price is `price`, until the next point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// When it began.
    pub at: Time,
    /// USD an hour, in millionths.
    pub price: MicroUsd,
}

/// What noting a price did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A new price.
    Changed,
    /// The price that was in force already.
    Same,
    /// Older than what is known; left out.
    Late,
}

/// Prices of one pool, oldest first. At least the last one is always kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    points: Vec<Point>,
    heard: Time,
}

impl Series {
    /// Notes that the price was `price` at `at`. Two prices at one time: the later word counts.
    pub fn note(&mut self, at: Time, price: MicroUsd) -> Noted {
        let Some(last) = self.points.last_mut() else {
            self.points.push(Point { at, price });
            self.heard = at;
            return Noted::Changed;
        };
        if at < last.at {
            return Noted::Late;
        }
        self.heard = self.heard.max(at);
        if last.price == price {
            return Noted::Same;
        }
        if last.at == at {
            last.price = price;
        } else {
            self.points.push(Point { at, price });
        }
        Noted::Changed
    }

    /// The point in force at `at`; nothing before the first one kept.
    pub fn at(&self, at: Time) -> Option<Point> {
        let after = self.points.partition_point(|point| point.at <= at);
        self.points.get(after.checked_sub(1)?).copied()
    }

    /// The newest point.
    pub fn last(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// The newest time of which anything was said, a repeated price too.
    pub fn heard(&self) -> Time {
        self.heard
    }

    /// All points kept, oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Leaves the newest `keep` points, at least one; says how many went.
    pub fn keep(&mut self, keep: usize) -> usize {
        let gone = self.points.len().saturating_sub(keep.max(1));
        self.points.drain(..gone);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_holds_until_the_next() {
        let mut series = Series::default();
        assert_eq!(series.note(Time(10), MicroUsd(5)), Noted::Changed);
        assert_eq!(series.note(Time(20), MicroUsd(5)), Noted::Same);
        assert_eq!(series.note(Time(30), MicroUsd(7)), Noted::Changed);
        assert_eq!(series.note(Time(15), MicroUsd(9)), Noted::Late);
        assert_eq!(series.note(Time(30), MicroUsd(8)), Noted::Changed);
        assert_eq!(series.at(Time(9)), None);
        assert_eq!(series.at(Time(29)).unwrap().price, MicroUsd(5));
        assert_eq!(series.at(Time(31)).unwrap().price, MicroUsd(8));
        assert_eq!(series.heard(), Time(30));
        assert_eq!(series.keep(0), 1);
        assert_eq!(series.points().len(), 1);
    }

    proptest! {
        /// Beside the plainest thing that does the same: all that was said, looked through from the end.
        #[test]
        fn like_a_list(words in prop::collection::vec((0u64..50, 1u64..4), 1..60), asked in 0u64..60) {
            let mut series = Series::default();
            let mut said: Vec<(u64, u64)> = Vec::new();
            let mut newest_change = 0;
            for (at, price) in words {
                let noted = series.note(Time(at), MicroUsd(price));
                if said.is_empty() || at >= newest_change {
                    if said.last().is_none_or(|(_, last)| *last != price) {
                        newest_change = at;
                        prop_assert_eq!(noted, Noted::Changed);
                    }
                    said.push((at, price));
                } else {
                    prop_assert_eq!(noted, Noted::Late);
                }
            }
            let wanted = said.iter().rev().find(|(at, _)| *at <= asked).map(|(_, price)| *price);
            prop_assert_eq!(series.at(Time(asked)).map(|point| point.price.0), wanted);
            prop_assert!(series.points().windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }
}
