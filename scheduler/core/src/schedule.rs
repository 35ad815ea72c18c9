//! Schedules of people: from each of these moments on, for so long, there are at least so many machines, or at most.
//! Moments are cron's, in a time zone whose rules come with the program.

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::limits::{SCHEDULE_TEXT_MAX, SCHEDULES_MAX};
use crate::reply::Rejected;
use crate::types::{SECOND, Time};

/// Longest time that one lasts, in µs: a week.
const LASTS_MAX: u64 = 7 * 24 * 3_600 * SECOND;
/// One that does not fire from here on, in some year, never does: 2020, the first of March.
const SAMPLE: i64 = 1_583_020_800;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// For people.
    pub name: String,
    /// When it begins: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// In which zone that is meant, as `Europe/Berlin`.
    pub time_zone: String,
    /// How long it lasts, in µs.
    pub lasts: u64,
    /// What machines are for, where there shall be some.
    pub recogniser: String,
    /// Machines that there are at least.
    pub at_least: u32,
    /// Machines that there are at most, whatever the deadlines.
    pub at_most: Option<u32>,
}

impl Schedule {
    /// True while it holds: it has begun, or begins within `ahead` µs, and has not ended.
    pub fn holds(&self, now: Time, ahead: u64) -> bool {
        let latest = Time(now.0.saturating_add(ahead));
        let begun = self.begun(latest);
        begun.is_some_and(|at| now.0 < at.0.saturating_add(self.lasts))
    }

    /// When it last began, up to an instant.
    fn begun(&self, until: Time) -> Option<Time> {
        let cron = Cron::from_str(&self.cron).ok()?;
        let zone = TimeZone::get(&self.time_zone).ok()?;
        let at = cron.find_previous_occurrence(&zoned(until, zone)?, true).ok()?;
        u64::try_from(at.timestamp().as_microsecond()).ok().map(Time)
    }

    fn named(&self, why: String) -> String {
        format!("of {:?} {why}", self.name)
    }

    /// What cron and time zones have to say.
    fn check_words(&self) -> Result<(), Rejected> {
        let no = |field: &'static str, why: String| {
            let why = self.named(why);
            Err(Rejected::Invalid { field, why })
        };
        let Ok(zone) = TimeZone::get(&self.time_zone) else {
            let why = format!("is {:?}: write one as Europe/Berlin or UTC", self.time_zone);
            return no("schedule.time_zone", why);
        };
        let cron = match Cron::from_str(&self.cron) {
            Ok(cron) => cron,
            Err(why) => {
                let why = format!("is {:?}: {why}; write one as 45 8 * * 1-5", self.cron);
                return no("schedule.cron", why);
            }
        };
        let sample = Timestamp::from_second(SAMPLE).ok().map(|at| at.to_zoned(zone));
        match sample.is_none_or(|at| cron.find_next_occurrence(&at, false).is_err()) {
            true => no("schedule.cron", format!("is {:?}: it never fires", self.cron)),
            false => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), Rejected> {
        let no = |field: &'static str, why: String| {
            let why = self.named(why);
            Err(Rejected::Invalid { field, why })
        };
        let texts = [&self.name, &self.cron, &self.time_zone, &self.recogniser];
        if texts.iter().any(|text| text.len() > SCHEDULE_TEXT_MAX) {
            let why = format!("or another text of it is longer than {SCHEDULE_TEXT_MAX} bytes");
            return no("schedule.name", why);
        }
        if !(SECOND..=LASTS_MAX).contains(&self.lasts) {
            let why = format!("is {} µs: a second to a week make sense", self.lasts);
            return no("schedule.lasts", why);
        }
        match self.at_most {
            None if self.at_least == 0 => no(
                "schedule.at_least",
                "and at_most are not set: it would change nothing".to_owned(),
            ),
            Some(most) if most < self.at_least => no(
                "schedule.at_most",
                format!("is {most}, and at_least {}: no number is both", self.at_least),
            ),
            _ if self.at_least > 0 && self.recogniser.is_empty() => no(
                "schedule.recogniser",
                "is empty: at_least needs to know what machines are for".to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// Refuses what no schedule can mean.
pub fn check(all: &[Schedule]) -> Result<(), Rejected> {
    check_numbers(all)?;
    all.iter().try_for_each(Schedule::check_words)
}

/// The same, of what every build answers alike.
pub fn check_numbers(all: &[Schedule]) -> Result<(), Rejected> {
    if all.len() > SCHEDULES_MAX {
        return Err(Rejected::TooMany {
            field: "schedule",
            limit: SCHEDULES_MAX as u64,
            what: "schedules",
        });
    }
    all.iter().try_for_each(Schedule::check_numbers)
}

fn zoned(at: Time, zone: TimeZone) -> Option<Zoned> {
    let at = Timestamp::from_microsecond(i64::try_from(at.0).ok()?).ok()?;
    Some(at.to_zoned(zone))
}

/// True when a time zone of this name is known.
pub fn zone_is_known(name: &str) -> bool {
    name.len() <= SCHEDULE_TEXT_MAX && TimeZone::get(name).is_ok()
}

/// Quarter hours of a week.
pub const QUARTERS: u64 = 7 * 24 * 4;
/// µs of a quarter hour.
pub const QUARTER: u64 = 900 * SECOND;

/// The quarter hour of the week of an instant, in a time zone: 0 begins on Monday at midnight. UTC where the zone is not
/// known.
pub fn quarter_of(at: Time, time_zone: &str) -> u16 {
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    let Some(at) = zoned(at, zone) else { return 0 };
    let day = at.weekday().to_monday_zero_offset() as u16;
    (day * 24 + at.hour() as u16) * 4 + at.minute() as u16 / 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weekdays() -> Schedule {
        Schedule {
            name: "opening".into(),
            cron: "45 8 * * 1-5".into(),
            time_zone: "Europe/Berlin".into(),
            lasts: 3_600 * SECOND,
            recogniser: "shelf".into(),
            at_least: 4,
            at_most: None,
        }
    }

    fn at(text: &str) -> Time {
        let at: Timestamp = text.parse().expect("a time");
        Time(at.as_microsecond() as u64)
    }

    #[test]
    fn it_holds_on_its_days_by_its_own_clock_and_a_little_before() {
        let one = weekdays();
        let ahead = 120 * SECOND;
        // A Friday in summer: Berlin is two hours ahead of UTC.
        assert!(!one.holds(at("2026-07-03T06:42:59Z"), ahead));
        assert!(one.holds(at("2026-07-03T06:43:00Z"), ahead));
        assert!(one.holds(at("2026-07-03T07:44:59Z"), ahead));
        assert!(!one.holds(at("2026-07-03T07:45:00Z"), ahead));
        assert!(!one.holds(at("2026-07-04T07:00:00Z"), ahead), "a Saturday");
        // In winter one hour.
        assert!(one.holds(at("2026-12-04T07:45:00Z"), 0));
        assert!(!one.holds(at("2026-12-04T07:00:00Z"), 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let field = |change: &dyn Fn(&mut Schedule)| {
            let mut one = weekdays();
            change(&mut one);
            check(&[one]).map_or_else(|rejected| rejected.field(), |()| "")
        };
        assert_eq!(field(&|_| ()), "");
        assert_eq!(field(&|one| one.cron = "61 8 * * *".into()), "schedule.cron");
        assert_eq!(
            field(&|one| one.cron = "0 8 30 2 *".into()),
            "schedule.cron",
            "never"
        );
        assert_eq!(
            field(&|one| one.time_zone = "Berlin".into()),
            "schedule.time_zone"
        );
        assert_eq!(field(&|one| one.lasts = 0), "schedule.lasts");
        assert_eq!(field(&|one| one.at_least = 0), "schedule.at_least");
        assert_eq!(field(&|one| one.at_most = Some(3)), "schedule.at_most");
        assert_eq!(field(&|one| one.recogniser.clear()), "schedule.recogniser");
        assert_eq!(
            field(&|one| one.name = "x".repeat(SCHEDULE_TEXT_MAX + 1)),
            "schedule.name"
        );
        assert!(check(&vec![weekdays(); SCHEDULES_MAX + 1]).is_err());
    }

    #[test]
    fn quarters_of_the_week_begin_on_monday_by_the_zones_clock() {
        assert_eq!(quarter_of(at("2026-07-06T00:00:00Z"), "UTC"), 0);
        assert_eq!(quarter_of(at("2026-07-05T22:00:00Z"), "Europe/Berlin"), 0);
        assert_eq!(quarter_of(at("2026-07-06T09:14:59Z"), "UTC"), 36);
        assert_eq!(
            u64::from(quarter_of(at("2026-07-05T23:59:59Z"), "UTC")),
            QUARTERS - 1
        );
    }
}
