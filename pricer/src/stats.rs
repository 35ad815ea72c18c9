//! What a series is like, recorded or generated: the figures by which a fit is judged.

use rebound_core::types::{MicroUsd, SECOND, Time};
use serde::Serialize;

use crate::feed::Capacity;
use crate::money::{permille, ratio};
use crate::series::Point;

const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
/// Percent of on-demand at which crossings are counted.
pub const MARKS: [u64; 3] = [50, 80, 100];

/// A price over time, measured by on-demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceStats {
    /// How long, in thousandths of a day.
    pub days_milli: u64,
    /// Mean over time, in permille of on-demand.
    pub mean_permille: u64,
    /// Highest, in permille of on-demand.
    pub max_permille: u64,
    /// Changes in a thousand days.
    pub changes_kday: u64,
    /// Times the price went over each of [`MARKS`], in a thousand days.
    pub up_kday: [u64; 3],
    /// Time over each of [`MARKS`], in permille.
    pub above_permille: [u64; 3],
    /// Largest single step, in permille of the price before it.
    pub step_permille: u64,
}

/// Measures `points` up to `end`. Nothing where there is no time to measure.
pub fn price(points: &[Point], end: Time, on_demand: MicroUsd) -> Option<PriceStats> {
    let first = points.first()?;
    let span = end.0.checked_sub(first.at.0).filter(|span| *span > 0)?;
    let marks = MARKS.map(|percent| ratio(on_demand.0, percent, 100));
    let mut weighted = 0u128;
    let mut above = [0u64; 3];
    let mut ups = [0u64; 3];
    let (mut highest, mut step, mut changes) = (0, 0, 0u64);
    let mut before: Option<u64> = None;
    let ends = points.iter().skip(1).map(|point| point.at).chain([end]);
    for (point, until) in points.iter().zip(ends) {
        let price = point.price.0;
        let held = until.0.saturating_sub(point.at.0);
        weighted += u128::from(price) * u128::from(held);
        highest = highest.max(price);
        for (index, mark) in marks.iter().enumerate() {
            if price > *mark {
                above[index] += held;
                ups[index] += u64::from(before.is_some_and(|before| before <= *mark));
            }
        }
        if let Some(before) = before {
            changes += 1;
            step = step.max(permille(price.abs_diff(before), before));
        }
        before = Some(price);
    }
    let mean = u64::try_from(weighted / u128::from(span)).unwrap_or(u64::MAX);
    let a_kday = |count: u64| ratio(count, 1_000 * DAY, span);
    Some(PriceStats {
        days_milli: ratio(span, 1_000, DAY),
        mean_permille: permille(mean, on_demand.0),
        max_permille: permille(highest, on_demand.0),
        changes_kday: a_kday(changes),
        up_kday: ups.map(a_kday),
        above_permille: above.map(|held| permille(held, span)),
        step_permille: step,
    })
}

/// Machines up over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CapacityStats {
    /// How long, in thousandths of a day.
    pub days_milli: u64,
    /// Time in which at least one machine was up, in permille.
    pub available_permille: u64,
    /// Machines up in the mean, in thousandths.
    pub mean_milli: u64,
    /// Machines lost.
    pub lost: u64,
    /// Machines lost in a thousand instance-hours.
    pub lost_khour: u64,
    /// Half of the lost ones lived longer, in seconds.
    pub median_life_s: u64,
    /// The longest time without any that ended, in seconds.
    pub longest_down_s: u64,
}

/// Measures a capacity. Nothing where there is no time to measure.
pub fn capacity(all: &Capacity) -> Option<CapacityStats> {
    let began = all.points.first()?.0;
    let span = all.end.checked_sub(began).filter(|span| *span > 0)?;
    let (up, some) = uptime(all);
    let mut lives = all.lives.clone();
    lives.sort_unstable();
    Some(CapacityStats {
        days_milli: ratio(span, 1_000, DAY),
        available_permille: permille(some, span),
        mean_milli: ratio(up, 1_000, span),
        lost: all.lost,
        lost_khour: ratio(all.lost, 1_000 * HOUR, up),
        median_life_s: lives.get(lives.len() / 2).copied().unwrap_or(0) / SECOND,
        longest_down_s: all.downs.iter().max().copied().unwrap_or(0) / SECOND,
    })
}

/// Machine time, and the time in which there was at least one machine; both in µs.
pub fn uptime(all: &Capacity) -> (u64, u64) {
    let ends = all.points.iter().skip(1).map(|(at, _)| *at).chain([all.end]);
    let (mut up, mut some) = (0u64, 0);
    for ((at, units), until) in all.points.iter().zip(ends) {
        let held = until.saturating_sub(*at);
        up = up.saturating_add(held.saturating_mul(u64::from(*units)));
        some += if *units > 0 { held } else { 0 };
    }
    (up, some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_measured_by_on_demand() {
        let at = |hours: u64, price: u64| Point {
            at: Time(hours * HOUR),
            price: MicroUsd(price),
        };
        // Twelve hours at .2, six at 1.01, six at .6 of on-demand.
        let points = [at(0, 20), at(12, 101), at(18, 60)];
        let stats = price(&points, Time(DAY), MicroUsd(100)).unwrap();
        let wanted = PriceStats {
            days_milli: 1_000,
            mean_permille: 500,
            max_permille: 1_010,
            changes_kday: 2_000,
            up_kday: [1_000, 1_000, 1_000],
            above_permille: [500, 250, 250],
            step_permille: 4_050,
        };
        assert_eq!(stats, wanted);
        assert_eq!(price(&[], Time(DAY), MicroUsd(1)), None);
        assert_eq!(price(&points, Time(0), MicroUsd(1)), None);
    }

    #[test]
    fn a_capacity_is_measured_by_machine_time() {
        let changes = [(0, 2), (HOUR, -1), (2 * HOUR, -1), (3 * HOUR, 1)];
        let all = Capacity::from_changes(&changes, 4 * HOUR);
        let stats = capacity(&all).unwrap();
        assert_eq!(
            (stats.available_permille, stats.mean_milli, stats.lost),
            (750, 1_000, 2)
        );
        assert_eq!((stats.lost_khour, stats.longest_down_s), (500, 3_600));
    }
}
