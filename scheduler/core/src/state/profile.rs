//! What each quarter hour of the week took in past weeks, and how good the forecasts from it were.

use serde::{Deserialize, Serialize};

use super::{Context, State};
use crate::limits::{PROFILE_WEEKS, PROFILED_MAX};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::schedule::{QUARTER, QUARTERS};
use crate::table::Table;
use crate::types::Time;

/// Weeks of which something is known before a quarter hour is forecast.
pub const WEEKS_MIN: usize = 2;

/// One quarter hour of the week, of one recogniser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarterRecord {
    /// What it took in each week, in photos in 10^12 µs: the newest last.
    pub took: Vec<u64>,
    /// Weeks in which the forecast was enough, and in which it was not.
    pub hits: u32,
    /// See `hits`.
    pub misses: u32,
    /// By how much forecasts were too high, together, in photos in 10^12 µs.
    pub wasted: u64,
}

impl QuarterRecord {
    /// What nine of ten weeks took at most; none before there were [`WEEKS_MIN`].
    pub fn forecast(&self) -> Option<u64> {
        if self.took.len() < WEEKS_MIN {
            return None;
        }
        let mut all = self.took.clone();
        all.sort_unstable();
        let at = (all.len() * 9).div_ceil(10).checked_sub(1)?;
        all.get(at).copied().filter(|rate| *rate > 0)
    }

    fn note(&mut self, took: u64) {
        if let Some(forecast) = self.forecast() {
            match took <= forecast {
                true => self.hits += 1,
                false => self.misses += 1,
            }
            self.wasted = self.wasted.saturating_add(forecast.saturating_sub(took));
        }
        if self.took.len() >= PROFILE_WEEKS {
            self.took.remove(0);
        }
        self.took.push(took);
    }
}

/// By quarter hour of the week and recogniser.
pub struct Profile {
    pub(crate) table: Table<(u16, String), QuarterRecord>,
}

impl Profile {
    pub(crate) fn new(number: u8) -> Self {
        Profile {
            table: Table::new(number),
        }
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (&(u16, String), &QuarterRecord)> {
        self.table.iter()
    }

    /// One quarter hour.
    pub fn of(&self, quarter: u16) -> impl Iterator<Item = (&str, &QuarterRecord)> {
        let all = self
            .table
            .range((quarter, String::new())..(quarter + 1, String::new()));
        all.map(|((_, name), record)| (name.as_str(), record))
    }

    /// True when something is known of a quarter hour.
    pub fn knows(&self, quarter: u16) -> bool {
        self.of(quarter).next().is_some()
    }

    pub(crate) fn check(&self) {
        self.table.check();
        for ((quarter, name), record) in self.table.iter() {
            assert!(u64::from(*quarter) < QUARTERS, "{quarter} {name}");
            assert!(
                (1..=PROFILE_WEEKS).contains(&record.took.len()),
                "{quarter} {name}"
            );
        }
        assert!(self.table.len() <= QUARTERS as usize * PROFILED_MAX);
    }
}

impl State {
    /// A quarter hour is over: what it took, by recogniser. Those that are known and had nothing took nothing.
    pub(super) fn quarter_over(
        &mut self,
        context: &mut Context,
        begun: Time,
        quarter: u16,
        took: &[(String, u64)],
    ) -> Result<Reply, Rejected> {
        let noted = self.control.get().quarter_noted;
        if u64::from(quarter) >= QUARTERS
            || begun.0.saturating_add(QUARTER) > context.at.0
            || noted.is_some_and(|at| begun <= at)
        {
            return Ok(Reply::Done);
        }
        self.control.get_mut().quarter_noted = Some(begun);
        let known: Vec<String> = self
            .profile
            .of(quarter)
            .map(|(name, _)| name.to_owned())
            .collect();
        let rate = |name: &String| {
            took.iter()
                .find(|(of, _)| of == name)
                .map_or(0, |(_, rate)| *rate)
        };
        for name in &known {
            let took = rate(name);
            if let Some(record) = self.profile.table.get_mut(&(quarter, name.clone())) {
                record.note(took);
            }
        }
        let new = took
            .iter()
            .filter(|(name, rate)| *rate > 0 && !known.contains(name));
        for (name, rate) in new.take(PROFILED_MAX.saturating_sub(known.len())) {
            let mut record = QuarterRecord::default();
            record.note(*rate);
            self.profile.table.insert((quarter, name.clone()), record);
            if self.plant.is(Plant::QuarterUnnoted) {
                self.profile.table.forget_change(&(quarter, name.clone()));
            }
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_make_a_forecast_and_the_third_judges_it() {
        let mut record = QuarterRecord::default();
        record.note(10);
        assert_eq!(record.forecast(), None);
        record.note(30);
        assert_eq!((record.forecast(), record.hits, record.misses), (Some(30), 0, 0));
        record.note(20);
        assert_eq!((record.hits, record.misses, record.wasted), (1, 0, 10));
        record.note(40);
        assert_eq!((record.hits, record.misses, record.wasted), (1, 1, 10));
        for _ in 0..2 * PROFILE_WEEKS {
            record.note(0);
        }
        assert_eq!((record.took.len(), record.forecast()), (PROFILE_WEEKS, None));
    }
}
