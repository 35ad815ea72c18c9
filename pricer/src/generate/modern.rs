//! Prices that EC2 sets: small steps round a level, a few a day.
//!
//! The fit keeps the level, the range, the changes a day and the size of steps. A step goes towards the level the more
//! likely the further the price is from it. It forgets drifts over weeks.

use rand::RngCore;
use rebound_core::types::{MicroUsd, SECOND, Time};
use serde::{Deserialize, Serialize};

use super::GRAIN;
use super::draws::{Draws, below};
use crate::limits::GENERATED_POINTS_MAX;
use crate::money::ratio;
use crate::series::Point;

const MYRIAD: u64 = 10_000;
const MILLION: u64 = 1_000_000;
/// How strongly the level draws: at the end of the range so many of a thousand steps go back to it.
const BACK_PERMILLE: u64 = 950;

/// Fitted steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Mean over time, in ten-thousandths of on-demand.
    level: u64,
    /// Lowest, in ten-thousandths of on-demand.
    low: u64,
    /// Highest, in ten-thousandths of on-demand.
    high: u64,
    /// Between two changes, in seconds.
    gap_s: Draws,
    /// Size of a step, in millionths of on-demand.
    step: Draws,
}

impl Steps {
    /// Fits a series. Nothing where it has no time.
    pub fn fit(points: &[Point], end: Time, on_demand: MicroUsd) -> Option<Self> {
        let stats = crate::stats::price(points, end, on_demand)?;
        let share = |price: u64| ratio(price, MYRIAD, on_demand.0);
        let pairs = || {
            points
                .windows(2)
                .filter_map(|pair| Some((pair.first()?, pair.last()?)))
        };
        // The last price holds at least until the end: one more gap, so that a still series is fitted as still.
        let last = points
            .last()
            .map(|point| end.0.saturating_sub(point.at.0) / SECOND);
        let gaps = pairs().map(|(a, b)| (b.at.0 - a.at.0) / SECOND).chain(last);
        let steps = pairs().map(|(a, b)| ratio(a.price.0.abs_diff(b.price.0), MILLION, on_demand.0));
        Some(Self {
            level: stats.mean_permille * 10,
            low: share(points.iter().map(|point| point.price.0).min()?),
            high: share(points.iter().map(|point| point.price.0).max()?),
            gap_s: Draws::fit(gaps.collect()),
            step: Draws::fit(steps.collect()),
        })
    }

    /// Whether a series can be made of it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        // The level is in permille, the range is finer.
        let near = MYRIAD / 1_000;
        let below = self.low > self.level.saturating_add(near);
        if below || self.level > self.high.saturating_add(near) || self.high == 0 {
            return Err(format!(
                "level {} is not within {} to {}",
                self.level, self.low, self.high
            ));
        }
        if self.gap_s.is_empty() {
            return Err("gap_s is empty".into());
        }
        Ok(())
    }

    /// A series from `from` up to `until`.
    pub fn series(&self, on_demand: MicroUsd, from: Time, until: Time, rng: &mut dyn RngCore) -> Vec<Point> {
        let amount = |share: u64| {
            ratio(on_demand.0, share, MYRIAD * GRAIN)
                .max(1)
                .saturating_mul(GRAIN)
        };
        let (level, low, high) = (amount(self.level), amount(self.low), amount(self.high));
        let mut price = level;
        let mut at = from;
        let mut points = Vec::new();
        while at < until && points.len() < GENERATED_POINTS_MAX {
            points.push(Point {
                at,
                price: MicroUsd(price),
            });
            let gap = self.gap_s.draw(rng).max(1);
            at = Time(at.0.saturating_add(gap.saturating_mul(SECOND)));
            let step = ratio(on_demand.0, self.step.draw(rng), MILLION * GRAIN)
                .max(1)
                .saturating_mul(GRAIN);
            let up = below(1_000, rng) < self.up_permille(price, (low, level, high));
            price = if up {
                price
                    .saturating_add(step)
                    .min(high.max(low.saturating_add(GRAIN)))
            } else {
                price.saturating_sub(step).max(low).max(GRAIN)
            };
            if self.step.is_empty() {
                price = level;
            }
        }
        points.dedup_by_key(|point| point.price);
        points
    }

    /// How many of a thousand steps go up from `price`.
    fn up_permille(&self, price: u64, (low, level, high): (u64, u64, u64)) -> u64 {
        let pull =
            |far: u64, range: u64| ratio(far, BACK_PERMILLE - 500, range.max(1)).min(BACK_PERMILLE - 500);
        if price < level {
            500 + pull(level - price, level - low.min(level))
        } else {
            500 - pull(price - level, high.max(level) - level)
        }
    }
}
