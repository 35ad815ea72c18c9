//! Money spent, by the hour: what caps are held against.

use std::collections::BTreeMap;

use crate::bill::HOUR;
use crate::limits::SPEND_HOURS_KEPT;
use crate::table::Table;
use crate::types::Time;

/// Hours of a day.
const DAY_HOURS: u64 = 24;

/// The hour of an instant, counted from 1970.
pub fn hour_of(at: Time) -> u64 {
    at.0 / HOUR
}

/// Millionths of USD spent in each hour.
pub struct Spend {
    pub(crate) table: Table<u64, u64>,
}

impl Spend {
    pub(crate) fn new(number: u8) -> Self {
        Spend {
            table: Table::new(number),
        }
    }

    /// So much was spent between two instants, evenly. Hours that are kept no longer go.
    pub(crate) fn note(&mut self, from: Time, to: Time, money: u64) {
        let whole = to.0.saturating_sub(from.0);
        let (first, last) = (hour_of(from), hour_of(to));
        let mut left = money;
        for hour in first..=last {
            let begins = from.0.max(hour * HOUR);
            let ends = to.0.min((hour + 1).saturating_mul(HOUR));
            let part = match hour == last || whole == 0 {
                true => left,
                false => (u128::from(money) * u128::from(ends - begins) / u128::from(whole)) as u64,
            };
            left -= part;
            if part > 0 {
                let before = self.table.get(&hour).copied().unwrap_or(0);
                self.table.insert(hour, before.saturating_add(part));
            }
        }
        while self.table.len() > SPEND_HOURS_KEPT {
            let oldest = self.table.iter().next().map(|(hour, _)| *hour);
            self.table.remove(&oldest.expect("there are some"));
        }
    }

    /// Millionths of USD spent in the hour of an instant, and in its day (UTC).
    pub fn at(&self, at: Time) -> (u64, u64) {
        let hour = hour_of(at);
        let midnight = hour - hour % DAY_HOURS;
        let sum = |from, to| {
            self.table
                .range(from..=to)
                .map(|(_, money)| *money)
                .fold(0, u64::saturating_add)
        };
        (sum(hour, hour), sum(midnight, midnight + DAY_HOURS - 1))
    }

    /// Every hour that is kept, and what was spent in it.
    pub fn hours(&self) -> BTreeMap<u64, u64> {
        self.table.iter().map(|(hour, money)| (*hour, *money)).collect()
    }

    pub(crate) fn check(&self) {
        self.table.check();
        assert!(self.table.len() <= SPEND_HOURS_KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_is_of_the_hour_in_which_it_was_spent() {
        let mut spend = Spend::new(1);
        spend.note(Time(HOUR / 2), Time(2 * HOUR + HOUR / 2), 400);
        assert_eq!(spend.hours(), BTreeMap::from([(0, 100), (1, 200), (2, 100)]));
        assert_eq!(spend.at(Time(HOUR)), (200, 400));
        spend.note(Time(24 * HOUR), Time(24 * HOUR), 7);
        assert_eq!(
            (spend.at(Time(25 * HOUR)), spend.at(Time(HOUR))),
            ((0, 7), (200, 400))
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_hours(parts in prop::collection::vec((0..40 * HOUR, 0..9 * HOUR, 0u64..1_000_000), 0..20)) {
            let mut spend = Spend::new(1);
            let mut sum = 0;
            for (from, long, money) in parts {
                spend.note(Time(from), Time(from + long), money);
                sum += money;
            }
            prop_assert_eq!(spend.hours().values().sum::<u64>(), sum);
            spend.table.settle(&mut Vec::new());
            spend.check();
        }
    }
}
