//! Money spent, by the hour: what caps are held against.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

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

/// The day of an instant, counted from 1970 (UTC).
pub fn day_of(at: Time) -> u64 {
    at.0 / (24 * HOUR)
}

/// What an hour cost and gave. Money in millionths of USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// Spent on machines.
    pub money: u64,
    /// What the same machines could have cost at most: those bought as spot, on demand.
    pub at_most: u64,
    /// Photos that ended well.
    pub photos: u64,
    /// What the cloud's bill says, if it is known.
    pub billed: Option<u64>,
}

impl Hour {
    /// What a thousand photos cost.
    pub fn a_thousand(&self) -> u64 {
        let whole = u128::from(self.money) * 1_000 / u128::from(self.photos.max(1));
        u64::try_from(whole).unwrap_or(u64::MAX)
    }
}

/// Money spread evenly over a time, by the hour: nothing of it is lost.
fn split(from: Time, to: Time, money: u64) -> impl Iterator<Item = (u64, u64)> {
    let whole = to.0.saturating_sub(from.0);
    let (first, last) = (hour_of(from), hour_of(to));
    let mut left = money;
    (first..=last).map(move |hour| {
        let begins = from.0.max(hour * HOUR);
        let ends = to.0.min((hour + 1).saturating_mul(HOUR));
        let part = match hour == last || whole == 0 {
            true => left,
            false => (u128::from(money) * u128::from(ends - begins) / u128::from(whole)) as u64,
        };
        left -= part;
        (hour, part)
    })
}

/// Each hour in which something was spent or done, counted from 1970.
pub struct Spend {
    pub(crate) table: Table<u64, Hour>,
}

impl Spend {
    pub(crate) fn new(number: u8) -> Self {
        Spend {
            table: Table::new(number),
        }
    }

    /// So much was spent between two instants, evenly, of at most so much. Hours that are kept no longer go.
    pub(crate) fn note(&mut self, from: Time, to: Time, money: u64, at_most: u64) {
        let parts = split(from, to, money).zip(split(from, to, at_most));
        for ((hour, money), (_, at_most)) in parts.filter(|((_, money), (_, most))| (*money, *most) != (0, 0))
        {
            let record = self.of(hour);
            record.money = record.money.saturating_add(money);
            record.at_most = record.at_most.saturating_add(at_most);
        }
    }

    /// So much of what was noted for a time was not spent; of hours that are kept.
    pub(crate) fn take_back(&mut self, from: Time, to: Time, money: u64) {
        for (hour, money) in split(from, to, money) {
            if let Some(record) = self.table.get_mut(&hour) {
                record.money = record.money.saturating_sub(money);
            }
        }
    }

    /// So many photos ended well.
    pub(crate) fn note_photos(&mut self, at: Time, photos: u64) {
        let record = self.of(hour_of(at));
        record.photos = record.photos.saturating_add(photos);
    }

    /// The cloud's bill of an hour; of those that are kept.
    pub(crate) fn note_billed(&mut self, hour: u64, money: u64) {
        if let Some(record) = self.table.get_mut(&hour) {
            record.billed = Some(money);
        }
    }

    fn of(&mut self, hour: u64) -> &mut Hour {
        if self.table.get(&hour).is_none() {
            self.table.insert(hour, Hour::default());
            while self.table.len() > SPEND_HOURS_KEPT {
                // One that is older than all that are kept stays while it is written.
                let oldest = self.table.iter().map(|(hour, _)| *hour).find(|one| *one != hour);
                self.table.remove(&oldest.expect("there are some"));
            }
        }
        self.table.get_mut(&hour).expect("just made")
    }

    /// The sum of hours.
    pub fn sum(&self, hours: RangeInclusive<u64>) -> Hour {
        let mut sum = Hour::default();
        for (_, hour) in self.range(hours) {
            sum.money = sum.money.saturating_add(hour.money);
            sum.at_most = sum.at_most.saturating_add(hour.at_most);
            sum.photos = sum.photos.saturating_add(hour.photos);
        }
        sum
    }

    /// Those hours of which something is known; none when the last is before the first.
    pub fn range(&self, hours: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &Hour)> {
        let some = (!hours.is_empty()).then(|| self.table.range(hours));
        some.into_iter().flatten().map(|(hour, record)| (*hour, record))
    }

    /// Millionths of USD spent in the hour of an instant, and in its day (UTC).
    pub fn at(&self, at: Time) -> (u64, u64) {
        let hour = hour_of(at);
        let midnight = hour - hour % DAY_HOURS;
        let sum = |from, to| self.sum(from..=to).money;
        (sum(hour, hour), sum(midnight, midnight + DAY_HOURS - 1))
    }

    /// Every hour that is kept, the oldest first.
    pub fn hours(&self) -> impl DoubleEndedIterator<Item = (u64, &Hour)> {
        self.table.iter().map(|(hour, record)| (*hour, record))
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

    fn money(spend: &Spend) -> Vec<(u64, u64)> {
        spend.hours().map(|(hour, one)| (hour, one.money)).collect()
    }

    #[test]
    fn money_is_of_the_hour_in_which_it_was_spent() {
        let mut spend = Spend::new(1);
        spend.note(Time(HOUR / 2), Time(2 * HOUR + HOUR / 2), 400, 800);
        assert_eq!(money(&spend), [(0, 100), (1, 200), (2, 100)]);
        assert_eq!(spend.sum(1..=2).at_most, 600);
        assert_eq!(spend.at(Time(HOUR)), (200, 400));
        spend.note(Time(24 * HOUR), Time(24 * HOUR), 7, 7);
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
                spend.note(Time(from), Time(from + long), money, 2 * money);
                sum += money;
            }
            let all = spend.sum(0..=u64::MAX);
            prop_assert_eq!((all.money, all.at_most), (sum, 2 * sum));
            spend.table.settle(&mut Vec::new());
            spend.check();
        }
    }
}
