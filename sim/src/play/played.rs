//! What is played: prices of pools over time, how many machines they have, and by which era's rules EC2 takes machines
//! back.

use std::collections::BTreeMap;
use std::path::Path;

use rebound_core::bill::{Step, Terms};
use rebound_core::types::{Market, MicroUsd, Pool, SECOND, Time};
use rebound_pricer::feed::{Parsed, parse, parse_time};
pub use rebound_pricer::generate::Era;
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::{ZoneNames, chosen};
use rebound_pricer::series::Series;

/// A spot machine hears of its end so long before, in µs.
pub const NOTICE: u64 = 120 * SECOND;
/// The auction's last day: since then prices are smooth, and do not interrupt.
const AUCTION_UNTIL: &str = "2017-11-28T00:00:00Z";

/// What cannot be played.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlayedError(pub String);

/// See the module.
#[derive(Clone, Debug)]
pub struct Played {
    /// The rules.
    pub era: Era,
    /// Spot prices.
    pub spot: BTreeMap<Pool, Vec<Step>>,
    /// The same machines on demand.
    pub on_demand: BTreeMap<Pool, MicroUsd>,
    /// From then on a pool has so many machines; those that are not here have plenty.
    pub rooms: BTreeMap<Pool, Vec<(Time, u32)>>,
    /// How machines are billed.
    pub terms: Terms,
    /// The first and the last time of a price; of a generated market, the hours it was asked for.
    pub span: (Time, Time),
}

impl Played {
    /// Reads a recording of prices, as far as `pools` name them. `on_demand` says what they cost on demand.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, with its line; or that none of its pools is wanted, or has no on-demand price.
    pub fn load(
        path: &Path,
        pools: &[String],
        on_demand: &OnDemand,
        era: Option<Era>,
    ) -> Result<Played, PlayedError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| PlayedError(format!("{name}: {error}")))?;
        let (_, parsed) =
            parse(&name, bytes, &ZoneNames::new(), None).map_err(|error| PlayedError(error.to_string()))?;
        let Parsed::Prices(prices) = parsed else {
            return Err(PlayedError(format!("{name}: has no spot prices")));
        };
        let mut series: BTreeMap<Pool, Series> = BTreeMap::new();
        for told in prices.told.iter().filter(|told| chosen(pools, &told.pool)) {
            let price = u64::try_from(told.micros).ok().filter(|price| *price > 0);
            let price = price.ok_or_else(|| {
                PlayedError(format!(
                    "{name}:{}: usd_per_hour: a price of {} millionths cannot be played; remove the line",
                    told.line, told.micros
                ))
            })?;
            series
                .entry(told.pool.clone())
                .or_default()
                .note(told.at, MicroUsd(price));
        }
        let mut all = Played {
            era: era.unwrap_or(Era::Modern),
            spot: BTreeMap::new(),
            on_demand: BTreeMap::new(),
            rooms: BTreeMap::new(),
            terms: Terms::default(),
            span: (Time(u64::MAX), Time(0)),
        };
        for (pool, series) in series {
            let listed = on_demand.get(&pool.region, &pool.instance_type);
            let listed = listed.or_else(|| prices.on_demand.as_ref()?.get(&pool.region, &pool.instance_type));
            let Some(Listed::Price(price)) = listed else {
                return Err(PlayedError(format!(
                    "{}: no on-demand price is known of {} in {}; give it with --on-demand {0}=USD",
                    pool.instance_type, pool.instance_type, pool.region
                )));
            };
            let points = series.points();
            let (Some(first), Some(last)) = (points.first(), points.last()) else {
                continue;
            };
            all.span = (all.span.0.min(first.at), all.span.1.max(last.at));
            all.on_demand.insert(pool.clone(), *price);
            let steps = points.iter().map(|point| Step {
                at: point.at,
                price: point.price,
            });
            all.spot.insert(pool, steps.collect());
        }
        if all.spot.is_empty() {
            return Err(PlayedError(format!(
                "{name}: no pool of it fits --pools {}",
                pools.join(" ")
            )));
        }
        let auction_until = parse_time(AUCTION_UNTIL).unwrap_or_default();
        all.era = era.unwrap_or(if all.span.1 < auction_until {
            Era::Auction
        } else {
            Era::Modern
        });
        Ok(all)
    }

    /// What spot of a pool costs at an instant.
    pub fn spot_at(&self, pool: &Pool, at: Time) -> Option<MicroUsd> {
        let steps = self.spot.get(pool)?;
        let behind = steps.partition_point(|step| step.at <= at);
        Some(steps.get(behind.checked_sub(1)?)?.price)
    }

    /// When a machine of a pool that pays at most `bound` is outbid, from an instant on.
    pub fn outbid(&self, pool: &Pool, bound: MicroUsd, from: Time) -> Option<Time> {
        if self.era == Era::Modern || pool.market != Market::Spot {
            return None;
        }
        if self.spot_at(pool, from)? > bound {
            return Some(from);
        }
        let steps = self.spot.get(pool)?;
        let later = &steps[steps.partition_point(|step| step.at <= from)..];
        Some(later.iter().find(|step| step.price > bound)?.at)
    }

    /// Prices that begin within a span, and those in force at its beginning, as CSV that the pricer reads.
    pub fn csv(&self, after: Time, until: Time) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (pool, steps) in &self.spot {
            let from = steps.partition_point(|step| step.at <= after).saturating_sub(1);
            for step in steps[from..].iter().take_while(|step| step.at <= until) {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{},{},{},{}.{:06}",
                    pool.instance_type,
                    pool.zone_id,
                    step.at.0 / SECOND,
                    step.price.0 / 1_000_000,
                    step.price.0 % 1_000_000
                );
            }
        }
        match text.is_empty() {
            true => text,
            false => format!("instance_type,zone,epoch_s,usd_per_hour\n{text}"),
        }
    }
}

/// When spot of some pool went over its on-demand price, or back, within a span: the pool, when, and whether it is over.
pub fn crossings(played: &Played, from: Time, until: Time) -> Vec<(Time, Pool, bool)> {
    let mut all = Vec::new();
    for (pool, steps) in &played.spot {
        let Some(on_demand) = played.on_demand.get(pool) else {
            continue;
        };
        let mut over = played.spot_at(pool, from).is_some_and(|price| price > *on_demand);
        for step in steps.iter().filter(|step| from < step.at && step.at <= until) {
            let now = step.price > *on_demand;
            if now != over {
                all.push((step.at, pool.clone(), now));
            }
            over = now;
        }
    }
    all.sort();
    all
}
