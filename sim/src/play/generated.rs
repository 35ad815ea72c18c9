//! A market that nobody recorded: prices and capacity of a few pools, drawn from a seed by the pricer's generators.
//!
//! What is drawn is the same [`Played`] that a recording becomes. Each pool draws from a branch of its own, and from its
//! beginning on: what other pools are wanted, and how long the market lasts, changes nothing in it.

use std::collections::BTreeMap;

use rebound_core::bill::{Step, Terms};
use rebound_core::types::{MicroUsd, Pool, SECOND, Time};
use rebound_pricer::feed::Capacity;
use rebound_pricer::generate::Profile;
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::{ZoneNames, chosen, spot, text};

use super::{Era, POOL_ROOM, Played, PlayedError};
use crate::rng::Rng;

/// Types that have prices in [`OnDemand::of_2016`]: two small ones, and one with twenty times their processors.
const TYPES: [&str; 3] = ["m3.large", "m4.10xlarge", "r3.large"];
/// Zones of one region. With nine pools there is hardly an hour in which all of them are without a machine.
const ZONES: [&str; 3] = ["use1-az1", "use1-az2", "use1-az4"];
const HOUR: u64 = 3_600 * SECOND;
/// Drawn so long before the first hour, in µs: servers come up earlier, by up to 4 s at 3600 times the speed.
const BEFORE: u64 = 6 * HOUR;
/// And so long after the last one, in µs: photos that came late are still worked on.
const AFTER: u64 = 6 * HOUR;

/// When a generated market begins if nobody says: in the days that its generators were fitted to.
pub fn begins(era: Era) -> Time {
    Time(match era {
        // 2016-03-01.
        Era::Auction => 1_456_790_400 * SECOND,
        // 2024-01-01.
        Era::Modern => 1_704_067_200 * SECOND,
    })
}

/// Draws a market for the `hours` from one instant to another, of those generated pools that `pools` name (all, if it is
/// empty). `on_demand` says what their types cost; prices are drawn as shares of that.
///
/// The same arguments, the same market. In the era of auctions prices pass on-demand and capacity is plenty; in the
/// modern one they stay below it, and each pool has [`POOL_ROOM`] spot machines or none.
///
/// # Errors
///
/// When no generated pool is wanted, or one has no on-demand price.
pub fn generated(
    era: Era,
    seed: u64,
    hours: (Time, Time),
    pools: &[String],
    on_demand: &OnDemand,
) -> Result<Played, PlayedError> {
    let broken = |error: rebound_pricer::error::FileError| PlayedError(error.to_string());
    let profile = Profile::built_in(era).map_err(broken)?;
    let root = Rng::new(seed).branch("market");
    let (first, last) = hours;
    let from = Time(first.0.saturating_sub(BEFORE));
    let until = Time(last.0.saturating_add(AFTER));
    let mut all = Played {
        era,
        spot: BTreeMap::new(),
        on_demand: BTreeMap::new(),
        rooms: BTreeMap::new(),
        terms: Terms::default(),
        span: hours,
    };
    for pool in wanted(pools)? {
        let price = price_of(&pool, on_demand)?;
        let own = root.branch(&text(&pool));
        let points = profile.price(price, from, until, own.branch("prices").draws());
        let steps = points.iter().map(|point| Step {
            at: point.at,
            price: point.price,
        });
        all.spot.insert(pool.clone(), steps.collect());
        all.on_demand.insert(pool.clone(), price);
        if let Some(spells) = &profile.capacity {
            let span = until.0.saturating_sub(from.0);
            let capacity = spells.series(span, own.branch("capacity").draws());
            all.rooms.insert(pool, rooms(from, &capacity));
        }
    }
    Ok(all)
}

/// The generated pools that patterns name.
fn wanted(patterns: &[String]) -> Result<Vec<Pool>, PlayedError> {
    let names = ZoneNames::new();
    let every = TYPES
        .iter()
        .flat_map(|kind| ZONES.iter().map(|zone| spot(kind, zone, &names)));
    let every = every
        .collect::<Result<Vec<Pool>, String>>()
        .map_err(PlayedError)?;
    let fit: Vec<Pool> = every.into_iter().filter(|pool| chosen(patterns, pool)).collect();
    if fit.is_empty() {
        return Err(PlayedError(format!(
            "no generated pool fits --pools {}; there are {} in {}: write {}@us-east-1*, or leave --pools out",
            patterns.join(" "),
            TYPES.join(", "),
            ZONES.join(", "),
            TYPES[1]
        )));
    }
    Ok(fit)
}

fn price_of(pool: &Pool, on_demand: &OnDemand) -> Result<MicroUsd, PlayedError> {
    let kind = &pool.instance_type;
    match on_demand.get(&pool.region, kind) {
        Some(Listed::Price(price)) => Ok(*price),
        _ => Err(PlayedError(format!(
            "{kind}: no on-demand price is known of it in {}; give it with --on-demand {kind}=USD",
            pool.region
        ))),
    }
}

/// A capacity of one machine stands for the pool's: it has plenty, or nothing.
fn rooms(from: Time, capacity: &Capacity) -> Vec<(Time, u32)> {
    let points = capacity.points.iter();
    let room = |(at, units): &(u64, u32)| {
        let machines = if *units > 0 { POOL_ROOM } else { 0 };
        (Time(from.0.saturating_add(*at)), machines)
    };
    points.map(room).collect()
}

#[cfg(test)]
mod tests;
