//! When spot is too dear, and when it no longer is: with a hold on both sides, so that a price that jumps about moves
//! nothing.

use super::Flip;
use crate::observe::fleet::Fleet;
use crate::scaling::{Threshold, WHOLE};
use crate::types::{Market, MicroUsd, Pool, Time};

/// True while the policy calls a pool too dear.
pub fn is_dear(fleet: &Fleet, pool: &Pool) -> bool {
    fleet.pools.get(pool).is_some_and(|record| record.dear.is_some())
}

/// Pools that are too dear from now on, or no longer.
pub fn flips(now: Time, fleet: &Fleet) -> Vec<Flip> {
    let Some(threshold) = fleet.control.scaling.threshold else {
        // Another policy has none: nothing is too dear.
        let dear = fleet.pools.iter().filter(|(_, record)| record.dear.is_some());
        let over = |(pool, _): (&Pool, _)| Flip {
            pool: pool.clone(),
            ..Flip::default()
        };
        return dear.map(over).collect();
    };
    let spot = fleet
        .market
        .pools
        .iter()
        .filter(|(pool, _)| pool.market == Market::Spot);
    let flip = |(pool, quote): (&Pool, &crate::market::Quote)| {
        let record = fleet.pools.get(pool);
        let flipped = record.and_then(|record| record.flipped);
        if flipped.is_some_and(|at| now.0.saturating_sub(at.0) < threshold.hold) {
            return None;
        }
        let dear = record.is_some_and(|record| record.dear.is_some());
        crosses(now, quote, &threshold, dear).then(|| Flip {
            pool: pool.clone(),
            dear: !dear,
            price: quote.price,
            on_demand: quote.on_demand,
        })
    };
    spot.filter_map(flip).collect()
}

/// True when a price has been on the other side for long enough.
fn crosses(now: Time, quote: &crate::market::Quote, threshold: &Threshold, dear: bool) -> bool {
    let of = |share: u32| part(quote.on_demand, share);
    match dear {
        false => {
            let from = Time(now.0.saturating_sub(threshold.high_for));
            quote
                .range_since(from)
                .is_some_and(|(low, _)| low >= of(threshold.high))
        }
        true => {
            let from = Time(now.0.saturating_sub(threshold.low_for));
            quote
                .range_since(from)
                .is_some_and(|(_, high)| high <= of(threshold.low))
        }
    }
}

/// Thousandths of a price.
pub fn part(price: MicroUsd, share: u32) -> MicroUsd {
    MicroUsd(price.0.saturating_mul(u64::from(share)) / u64::from(WHOLE))
}
