//! Which machines to let go. An idle one stays while keeping it costs less than the getting ready that it is likely to
//! save, and to the end of the shortest time that is billed.

use super::floor::{self, Floor};
use super::{Gap, LetGo};
use crate::bill::cost;
use crate::observe::fleet::{Fleet, Unit};
use crate::scaling::WHOLE;
use crate::state::machines::EndWhy;
use crate::types::{Market, MicroUsd, Time};

/// See the module. While something is missing nobody goes but who is too dear and not needed any more.
pub fn let_go(now: Time, fleet: &Fleet, gaps: &[Gap], floors: &[Floor]) -> Vec<LetGo> {
    let mut all: Vec<LetGo> = Vec::new();
    if gaps.is_empty() {
        // What is too dear counts for nothing in the gaps: without it nothing is missing.
        let replaced = |unit: &&Unit| super::rebound::is_dear(fleet, &unit.pool);
        let others_ready = fleet
            .units
            .iter()
            .any(|unit| !unit.leaves && unit.worker.is_some() && !replaced(&unit));
        let busy = fleet.needs.iter().any(|need| !need.due.is_empty());
        let dear = fleet.units.iter().filter(|unit| !unit.leaves).filter(replaced);
        for unit in dear.filter(|_| others_ready || !busy) {
            all.extend(gone(unit, EndWhy::TooDear, 0, 0));
        }
        let idle = fleet.units.iter().filter(|unit| !unit.leaves && !replaced(unit));
        // One after the other, so that together they leave the floors as they are.
        let mut gone: Vec<&Unit> = Vec::new();
        for unit in idle {
            let Some(let_go) = idle_too_long(now, fleet, unit) else {
                continue;
            };
            if floors
                .iter()
                .all(|floor| floor::holds_without(fleet, floor, unit, &gone))
            {
                gone.push(unit);
                all.push(let_go);
            }
        }
    }
    all
}

/// Machines that caps no longer allow: those with nothing to do first, then the dearest. A cap beats a deadline.
pub fn over_caps(now: Time, fleet: &Fleet) -> Vec<LetGo> {
    let caps = &fleet.control.scaling.caps;
    let vcpus = |unit: &Unit| {
        fleet
            .market
            .pools
            .get(&unit.pool)
            .map_or(0, |quote| u64::from(quote.vcpus))
    };
    let mut there: Vec<&Unit> = fleet
        .units
        .iter()
        .filter(|unit| !unit.leaves && unit.pool.market != Market::None)
        .collect();
    // Those that stay come first.
    there.sort_by_key(|unit| (unit.machine.is_some(), unit.held == 0, unit.price, &unit.machine));
    let (hour, day) = fleet.spent;
    let money = caps.hour.saturating_sub(hour).min(caps.day.saturating_sub(day));
    let (mut count, mut cpus, mut burn) = (0u64, 0u64, 0u64);
    let mut all = Vec::new();
    for unit in there {
        let (more_cpus, more_burn) = (cpus + vcpus(unit), burn.saturating_add(unit.price.0));
        let fits = count < u64::from(floor::instances_max(now, fleet).0)
            && more_cpus <= u64::from(caps.vcpus)
            && cost(MicroUsd(more_burn), caps.committed) <= money;
        if fits || unit.machine.is_none() {
            (count, cpus, burn) = (count + 1, more_cpus, more_burn);
        } else {
            all.extend(gone(unit, EndWhy::Cap, 0, 0));
        }
    }
    all
}

/// Machines of which nothing comes any more: they end whatever people froze.
pub fn over(fleet: &Fleet) -> Vec<LetGo> {
    let over = fleet.units.iter().filter_map(|unit| gone(unit, unit.over?, 0, 0));
    over.collect()
}

fn gone(unit: &Unit, why: EndWhy, idle: u64, keep: u64) -> Option<LetGo> {
    let machine = unit.machine.clone()?;
    Some(LetGo {
        machine,
        why,
        idle,
        keep,
    })
}

/// What lets an idle machine go, or stand still.
pub fn idle_too_long(now: Time, fleet: &Fleet, unit: &Unit) -> Option<LetGo> {
    let idle = now.0.saturating_sub(unit.idle?.0);
    let ready = fleet.pools.get(&unit.pool).and_then(|record| record.ready_p90());
    let ready = ready.unwrap_or(fleet.control.scaling.ready);
    // Both cost the same by the µs, so that times are compared.
    let keep = (u128::from(ready) * u128::from(fleet.control.scaling.keep) / u128::from(WHOLE)) as u64;
    let over =
        unit.held == 0 && idle >= keep && now >= unit.paid_for_until && unit.pool.market != Market::None;
    over.then(|| gone(unit, EndWhy::Idle, idle, keep)).flatten()
}
