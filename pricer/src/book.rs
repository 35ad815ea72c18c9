//! The price book: prices of pools over time, and what may be bought at all.
//!
//! A price is noted only when it can be true; see [`Refused`]. A pool whose on-demand price is not known, or is for
//! another operating system or in another currency, is never bought and never a threshold: without it nobody can say
//! what is dear.

use std::collections::BTreeMap;
use std::fmt;

use rebound_core::types::{Market, MicroUsd, Pool, Time};
use serde::Serialize;

use crate::limits::{
    ABSURD_OVER_ON_DEMAND, ABSURD_STEP, ABSURD_UNDER_ON_DEMAND, FUTURE_SLACK, POINTS_MAX,
    POINTS_PER_POOL_MAX, POOLS_MAX,
};
use crate::money::ratio;
use crate::on_demand::{Listed, OnDemand};
use crate::series::{Noted, Point, Series};

/// Why a price was not noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Nothing is sold for nothing.
    Zero,
    /// Below zero.
    Negative,
    /// Stamped ahead of the reader's clock.
    Future,
    /// Too many times the on-demand price, or the last good one.
    TooHigh,
    /// Too small a part of the on-demand price, or of the last good one.
    TooLow,
    /// The book is full, and the pool is not in it.
    TooManyPools,
    /// On-demand prices come from their own list.
    NotSpot,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("the price is 0"),
            Self::Negative => f.write_str("the price is negative"),
            Self::Future => f.write_str("the price is stamped in the future"),
            Self::TooHigh => write!(
                f,
                "the price is more than {ABSURD_OVER_ON_DEMAND} times on-demand (or {ABSURD_STEP} times the last)"
            ),
            Self::TooLow => write!(
                f,
                "the price is less than on-demand ÷ {ABSURD_UNDER_ON_DEMAND} (or the last ÷ {ABSURD_STEP})"
            ),
            Self::TooManyPools => f.write_str("the book has no room for another pool"),
            Self::NotSpot => f.write_str("the pool is not a spot pool"),
        }
    }
}

/// Why a pool may not be bought, nor be a threshold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "what")]
pub enum NotBuyable {
    /// No on-demand price is listed for the type in the region.
    OnDemandUnknown,
    /// It is listed for this operating system alone.
    OtherSystem(String),
    /// It is listed in this currency alone.
    OtherCurrency(String),
    /// No spot price is known at that time.
    NoSpotPrice,
    /// Not a machine of EC2's.
    NoMarket,
}

impl fmt::Display for NotBuyable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnDemandUnknown => f.write_str("on-demand price unknown"),
            Self::OtherSystem(system) => write!(f, "on-demand price is for {system}"),
            Self::OtherCurrency(currency) => write!(f, "on-demand price is in {currency}"),
            Self::NoSpotPrice => f.write_str("no spot price"),
            Self::NoMarket => f.write_str("not EC2's"),
        }
    }
}

/// What a pool costs, where it may be bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// USD an hour, in millionths.
    pub price: MicroUsd,
    /// Since when.
    pub since: Time,
    /// The same machine on demand.
    pub on_demand: MicroUsd,
}

/// How much a book may hold. The defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pools.
    pub pools: usize,
    /// Points of one pool.
    pub points_per_pool: usize,
    /// Points in all; at least one a pool stays, whatever this says.
    pub points: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            pools: POOLS_MAX,
            points_per_pool: POINTS_PER_POOL_MAX,
            points: POINTS_MAX,
        }
    }
}

/// Prices of all pools.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    bounds: Bounds,
    spot: BTreeMap<Pool, Series>,
    on_demand: OnDemand,
    points: usize,
    dropped: u64,
}

impl PriceBook {
    /// An empty book.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Puts new on-demand prices in place of the old ones.
    pub fn set_on_demand(&mut self, on_demand: OnDemand) {
        self.on_demand = on_demand;
    }

    /// The on-demand prices.
    pub fn on_demand(&self) -> &OnDemand {
        &self.on_demand
    }

    /// Whether a price can be true, seen at `now`; the price itself, if so.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, pool: &Pool, at: Time, micros: i64, now: Time) -> Result<MicroUsd, Refused> {
        if pool.market != Market::Spot {
            return Err(Refused::NotSpot);
        }
        let price = match micros {
            0 => return Err(Refused::Zero),
            below if below < 0 => return Err(Refused::Negative),
            above => above.unsigned_abs(),
        };
        if at.0 > now.0.saturating_add(FUTURE_SLACK) {
            return Err(Refused::Future);
        }
        let series = self.spot.get(pool);
        let bounds = match self.on_demand.get(&pool.region, &pool.instance_type) {
            Some(Listed::Price(listed)) => Some((listed.0, ABSURD_OVER_ON_DEMAND, ABSURD_UNDER_ON_DEMAND)),
            _ => series
                .and_then(Series::last)
                .map(|last| (last.price.0, ABSURD_STEP, ABSURD_STEP)),
        };
        if let Some((measure, over, under)) = bounds {
            if price > measure.saturating_mul(over) {
                return Err(Refused::TooHigh);
            }
            if price < measure / under {
                return Err(Refused::TooLow);
            }
        }
        if series.is_none() && self.spot.len() >= self.bounds.pools {
            return Err(Refused::TooManyPools);
        }
        Ok(MicroUsd(price))
    }

    /// Notes that the spot price of `pool` was `micros` at `at`, seen at `now`.
    ///
    /// # Errors
    ///
    /// Why it was not noted; the book is as before.
    pub fn note(&mut self, pool: &Pool, at: Time, micros: i64, now: Time) -> Result<Noted, Refused> {
        let price = self.check(pool, at, micros, now)?;
        if !self.spot.contains_key(pool) {
            self.spot.insert(pool.clone(), Series::default());
        }
        let Some(series) = self.spot.get_mut(pool) else {
            return Ok(Noted::Same);
        };
        let before = series.points().len();
        let noted = series.note(at, price);
        self.points += series.points().len() - before;
        let mut gone = 0;
        if series.points().len() > self.bounds.points_per_pool {
            // An eighth at once, so that a full history does not move with each point.
            gone = series.keep(self.bounds.points_per_pool - self.bounds.points_per_pool / 8);
        }
        self.points -= gone;
        self.dropped += gone as u64;
        if self.points > self.bounds.points {
            self.shorten();
        }
        Ok(noted)
    }

    /// Takes the older half of the longest history away.
    fn shorten(&mut self) {
        let longest = self.spot.values_mut().max_by_key(|series| series.points().len());
        if let Some(series) = longest {
            let gone = series.keep(series.points().len() / 2);
            self.points -= gone;
            self.dropped += gone as u64;
        }
    }

    /// What `pool` costs at `at`.
    ///
    /// # Errors
    ///
    /// Why it may not be bought.
    pub fn offer(&self, pool: &Pool, at: Time) -> Result<Offer, NotBuyable> {
        let on_demand = self.reference(pool)?;
        match pool.market {
            Market::OnDemand => Ok(Offer {
                price: on_demand,
                since: self.on_demand.as_of().unwrap_or_default(),
                on_demand,
            }),
            Market::Spot => {
                let point = self.price_at(pool, at).ok_or(NotBuyable::NoSpotPrice)?;
                Ok(Offer {
                    price: point.price,
                    since: point.at,
                    on_demand,
                })
            }
            Market::None => Err(NotBuyable::NoMarket),
        }
    }

    /// The on-demand price that `pool` is measured by.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn reference(&self, pool: &Pool) -> Result<MicroUsd, NotBuyable> {
        match self.on_demand.get(&pool.region, &pool.instance_type) {
            Some(Listed::Price(price)) => Ok(*price),
            Some(Listed::OtherSystem(system)) => Err(NotBuyable::OtherSystem(system.clone())),
            Some(Listed::OtherCurrency(currency)) => Err(NotBuyable::OtherCurrency(currency.clone())),
            None => Err(NotBuyable::OnDemandUnknown),
        }
    }

    /// `percent` of the on-demand price: where spot is too dear.
    ///
    /// # Errors
    ///
    /// Why `pool` has no threshold.
    pub fn threshold(&self, pool: &Pool, percent: u32) -> Result<MicroUsd, NotBuyable> {
        self.reference(pool)
            .map(|price| MicroUsd(ratio(price.0, u64::from(percent), 100)))
    }

    /// The spot price of `pool` in force at `at`, whether it may be bought or not.
    pub fn price_at(&self, pool: &Pool, at: Time) -> Option<Point> {
        self.spot.get(pool)?.at(at)
    }

    /// The history kept of `pool`.
    pub fn series(&self, pool: &Pool) -> Option<&Series> {
        self.spot.get(pool)
    }

    /// Every spot pool with its history, in order.
    pub fn pools(&self) -> impl Iterator<Item = (&Pool, &Series)> {
        self.spot.iter()
    }

    /// The newest time of which any feed said something.
    pub fn newest(&self) -> Option<Time> {
        self.spot.values().map(Series::heard).max()
    }

    /// Points kept, and points that had to go for the bounds' sake.
    pub fn points(&self) -> (usize, u64) {
        (self.points, self.dropped)
    }
}

#[cfg(test)]
mod tests;
