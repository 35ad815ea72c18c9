//! Command: spot prices have changed. What machines have cost so far was at the old ones; what was paid already for a
//! time in which the new one was in force is put right.

use super::buying::is_spot;
use super::sightings::by_cloud;
use super::spend::hour_of;
use super::{Context, State};
use crate::bill::cost;
use crate::limits::{PRICES_PER_ENTRY_MAX, REPRICED_WITHIN};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::types::{InstanceId, MicroUsd, Pool, Time};

impl State {
    pub(super) fn prices(
        &mut self,
        context: &mut Context,
        prices: &[(Pool, MicroUsd, Time)],
    ) -> Result<Reply, Rejected> {
        for (pool, price, since) in prices.iter().take(PRICES_PER_ENTRY_MAX) {
            if !is_spot(pool) {
                continue;
            }
            let from = (*since).min(by_cloud(context.at));
            let live = self.machines.live().filter(|(_, one)| one.pool == *pool);
            let ids: Vec<InstanceId> = live.map(|(id, _)| id.clone()).collect();
            for id in ids {
                self.pay(&id, from);
                self.price_from(&id, *price, from);
            }
            for id in self.repriced(context.at, pool, from) {
                self.price_from(&id, *price, from);
            }
        }
        Ok(Reply::Done)
    }

    /// Machines of a pool that have just ended, and ran when a price came into force: it was told later than they ended.
    fn repriced(&self, at: Time, pool: &Pool, from: Time) -> Vec<InstanceId> {
        let since = Time(at.0.saturating_sub(REPRICED_WITHIN));
        let ended = self.machines.ended_since(since.max(from));
        let is = |(id, one): (&InstanceId, &super::machines::Machine)| {
            (one.pool == *pool && one.running.is_some()).then(|| id.clone())
        };
        ended.filter_map(is).collect()
    }

    /// From an instant on a machine's price was this one, whatever is noted.
    fn price_from(&mut self, id: &InstanceId, price: MicroUsd, from: Time) {
        let unbounded = self.plant.is(Plant::PriceUnbounded);
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        // A newer price is noted: what was in force before that has been paid for.
        if from < machine.priced {
            return;
        }
        let before = machine.price;
        machine.priced = from;
        machine.price = if unbounded {
            price
        } else {
            price.min(machine.bound)
        };
        let from = from.max(machine.running.unwrap_or(machine.paid_to));
        let to = machine.paid_to;
        if from >= to || machine.price == before {
            return;
        }
        let ran = to.0 - from.0;
        let (less, more) = (cost(before, ran).min(machine.paid), cost(machine.price, ran));
        machine.paid = (machine.paid - less).saturating_add(more);
        let pool = machine.pool.clone();
        self.spend.take_back(from, to, less);
        self.spend.note(from, to, more, 0);
        let record = self.pools.of(&pool, to);
        record.paid = record.paid.saturating_sub(less).saturating_add(more);
        if self.plant.is(Plant::SpendUnnoted) {
            self.spend.table.forget_change(&hour_of(to));
        }
    }
}
