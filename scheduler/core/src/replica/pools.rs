//! Reads of capacity pools: what the state remembers, and what the leader's market says.

use std::collections::BTreeSet;

use super::Replica;
use crate::io::{PoolView, PoolsView};
use crate::observe::fleet::fleet;
use crate::plan::capacity::standing;
use crate::types::{Pool, Time};

impl Replica {
    /// All pools that something is known of. A server that does not lead knows no prices.
    pub(super) fn pools_view(&self) -> PoolsView {
        let state = &self.state;
        let leader = self.leader.as_ref();
        let now = leader.map_or(state.now(), |leader| leader.clock.peek(self.now));
        let market = leader.map(|leader| leader.market.clone()).unwrap_or_default();
        let seen = leader.and_then(|leader| {
            let pace = |worker| leader.paces.get(&worker);
            fleet(state, now, &market, self.config.clock_rate, pace)
        });
        let remembered = state.pools.iter().map(|(pool, _)| pool);
        let all: BTreeSet<&Pool> = remembered.chain(market.pools.keys()).collect();
        let view = |pool: &Pool| {
            let speeds = market.speeds.iter().filter_map(|(name, speeds)| {
                let speed = speeds.get(pool)?;
                let why = seen.as_ref().and_then(|seen| standing(now, seen, pool, speed));
                Some((name.clone(), *speed, why))
            });
            let there = state.machines.live().filter(|(_, machine)| machine.pool == *pool);
            PoolView {
                pool: pool.clone(),
                record: state.pools.get(pool).cloned().unwrap_or_default(),
                quote: market.pools.get(pool).cloned(),
                speeds: speeds.collect(),
                machines: there.count() as u32,
            }
        };
        PoolsView {
            pools: all.into_iter().map(view).collect(),
            now,
            heard: leader.map_or(Time(0), |_| market.heard),
            ways: market.ways.clone(),
        }
    }
}
