//! Prices that machines are paid by go into the log when they change, each with the time since when it is in force: of
//! machines that run, and of those that have just ended and ran when it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::Command;
use crate::limits::{PRICES_PER_ENTRY_MAX, REPRICED_WITHIN};
use crate::market::{Market, Quote};
use crate::replica::Replica;
use crate::state::State;
use crate::state::buying::is_spot;
use crate::state::machines::Machine;
use crate::state::sightings::by_cloud;
use crate::types::{MicroUsd, Pool, Time};

/// What is to be told of a pool.
struct Change {
    /// The prices since then, …
    from: Time,
    /// … and the one that is believed now, since then at the earliest; none: those that run are at it.
    now: Option<(MicroUsd, Time)>,
}

/// What machines that run are not paid by yet.
fn of_live(quote: &Quote, machine: &Machine) -> Option<Change> {
    let differs = quote.price.0 > 0 && quote.price.min(machine.bound) != machine.price;
    differs.then_some(Change {
        from: machine.priced,
        now: Some((quote.price, machine.priced)),
    })
}

/// What a machine that has ended was not paid by.
fn of_ended(quote: &Quote, machine: &Machine) -> Option<Change> {
    let (_, ended) = machine.gone.filter(|_| machine.running.is_some())?;
    let before = |(at, price): &&(Time, MicroUsd)| *at <= ended && price.0 > 0;
    let (at, price) = quote.lately.iter().rfind(before)?;
    let differs = *at > machine.priced && price.min(&machine.bound) != &machine.price;
    differs.then_some(Change {
        from: machine.priced,
        now: None,
    })
}

/// What is to be told of all pools.
fn changes(state: &State, market: &Market) -> Vec<(Pool, MicroUsd, Time)> {
    let now = state.now();
    let lately = Time(now.0.saturating_sub(REPRICED_WITHIN));
    let live = state
        .machines
        .live()
        .map(|(_, one)| (one, of_live as fn(&Quote, &Machine) -> _));
    let ended = state
        .machines
        .ended_since(lately)
        .map(|(_, one)| (one, of_ended as _));
    let mut changed: BTreeMap<&Pool, Change> = BTreeMap::new();
    for (machine, of) in live.chain(ended).filter(|(one, _)| is_spot(&one.pool)) {
        let Some(one) = market
            .pools
            .get(&machine.pool)
            .and_then(|quote| of(quote, machine))
        else {
            continue;
        };
        let all = changed
            .entry(&machine.pool)
            .or_insert(Change { now: None, ..one });
        all.from = all.from.min(one.from);
        all.now = all.now.max(one.now);
    }
    let mut told = Vec::new();
    for (pool, change) in changed {
        let lately = market.pools.get(pool).map_or(&[][..], |quote| &quote.lately);
        let unseen = lately
            .iter()
            .filter(|(at, price)| *at > change.from && *at <= by_cloud(now) && price.0 > 0);
        let mut of_pool: Vec<_> = unseen.map(|(at, price)| (pool.clone(), *price, *at)).collect();
        // What is believed may be another price than the last that was told.
        if let Some((price, noted)) = change.now
            && of_pool.last().is_none_or(|(_, last, _)| *last != price)
        {
            of_pool.push((pool.clone(), price, now.max(noted)));
        }
        told.extend(of_pool);
    }
    // The newest are what holds from now on.
    let over = told.len().saturating_sub(PRICES_PER_ENTRY_MAX);
    told.drain(..over);
    told
}

impl Replica {
    /// The market was looked at.
    pub(in crate::replica) fn market(&mut self, market: Arc<Market>) {
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        let changes = changes(&self.state, &market);
        leader.market = market;
        leader.fleet_wanted = true;
        if !changes.is_empty() {
            self.duty(Command::Prices(changes));
        }
    }
}
