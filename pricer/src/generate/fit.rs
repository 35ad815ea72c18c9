//! From recordings to profiles, and how well a profile does.

use rand::RngCore;
use rebound_core::types::{MicroUsd, Time};
use serde::Serialize;

use super::auction::Jumps;
use super::capacity::Spells;
use super::modern::Steps;
use super::{Era, Prices};
use crate::feed::Capacity;
use crate::series::Point;
use crate::stats::{self, CapacityStats, PriceStats};

/// A generated series is so many times as long as the recording it is compared with, so that its own chance is small.
pub const TIMES: u64 = 8;

/// A recording and what a generator makes of it, in the same figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compared<S> {
    /// As it was.
    pub recorded: S,
    /// As it is made.
    pub generated: S,
}

/// Fits prices of one pool. Nothing where the recording does not say enough.
pub fn prices(era: Era, points: &[Point], end: Time, on_demand: MicroUsd) -> Option<Prices> {
    match era {
        Era::Auction => Jumps::fit(&[(points, end, on_demand)]).map(Prices::Jumps),
        Era::Modern => Steps::fit(points, end, on_demand).map(Prices::Steps),
    }
}

/// Makes prices like a recording's and measures both. Nothing where there is no time to measure.
pub fn compare_prices(
    prices: &Prices,
    points: &[Point],
    end: Time,
    on_demand: MicroUsd,
    rng: &mut dyn RngCore,
) -> Option<Compared<PriceStats>> {
    let recorded = stats::price(points, end, on_demand)?;
    let from = points.first()?.at;
    let until = Time(from.0 + (end.0 - from.0).saturating_mul(TIMES));
    let made = match prices {
        Prices::Jumps(jumps) => jumps.series(on_demand, from, until, rng),
        Prices::Steps(steps) => steps.series(on_demand, from, until, rng),
    };
    let generated = stats::price(&made, until, on_demand)?;
    Some(Compared { recorded, generated })
}

/// Makes a capacity like a recording's and measures both. Nothing where the recording does not say enough.
pub fn compare_capacity(all: &Capacity, rng: &mut dyn RngCore) -> Option<(Spells, Compared<CapacityStats>)> {
    let spells = Spells::fit(all)?;
    let recorded = stats::capacity(all)?;
    let made = spells.series(all.end.saturating_mul(TIMES), rng);
    let generated = stats::capacity(&made)?;
    Some((spells, Compared { recorded, generated }))
}
