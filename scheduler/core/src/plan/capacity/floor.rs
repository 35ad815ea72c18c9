//! Machines that there shall be before any work asks for them: what people scheduled, and what past weeks foresee.

use super::size::RATE;
use super::{Ahead, Capped};
use crate::market::Speed;
use crate::observe::fleet::{Fleet, Unit};
use crate::scaling::Foresight;
use crate::types::{Market, Pool, Time};

/// What there shall be of machines for a recogniser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// What they are for.
    pub recogniser: String,
    /// So many of them, …
    pub machines: u32,
    /// … and together this rate, in photos in 10^12 µs.
    pub rate: u128,
    /// Only those of this type count; empty: of any.
    pub instance_type: String,
    /// Only those on demand count.
    pub on_demand: bool,
    /// Those that stand still count too.
    pub resting: bool,
    /// Why.
    pub because: Ahead,
}

impl Floor {
    /// True where its machines may be.
    pub fn takes(&self, pool: &Pool) -> bool {
        let of_type = self.instance_type.is_empty() || pool.instance_type == self.instance_type;
        of_type && (!self.on_demand || pool.market == Market::OnDemand)
    }
}

/// µs before a schedule begins at which machines for it are bought.
fn ahead(fleet: &Fleet) -> u64 {
    let measured = fleet.pools.values().filter_map(|record| record.ready_p90()).max();
    measured.unwrap_or(fleet.control.scaling.ready)
}

/// All that is in force now, or will be before a machine is ready that is bought now.
pub fn floors(now: Time, fleet: &Fleet) -> Vec<Floor> {
    let ahead = ahead(fleet);
    let schedules = fleet.control.scaling.schedules.iter();
    let scheduled = schedules.filter(|one| one.at_least > 0 && one.holds(now, ahead));
    let scheduled = scheduled.map(|one| Floor {
        recogniser: one.recogniser.clone(),
        machines: one.at_least,
        rate: 0,
        instance_type: String::new(),
        on_demand: false,
        resting: false,
        because: Ahead::Schedule {
            name: one.name.clone(),
        },
    });
    let acts = fleet.control.scaling.foresight == Foresight::Act;
    let foreseen = fleet.foreseen.iter().filter(|_| acts).map(|one| Floor {
        recogniser: one.recogniser.clone(),
        machines: 0,
        rate: u128::from(one.rate),
        instance_type: String::new(),
        on_demand: false,
        resting: false,
        because: Ahead::Week {
            quarter: one.quarter,
            rate: one.rate,
        },
    });
    scheduled.chain(foreseen).collect()
}

/// The most machines that schedules allow now, and caps besides.
pub fn instances_max(now: Time, fleet: &Fleet) -> (u32, Capped) {
    let caps = &fleet.control.scaling.caps;
    let scheduled = fleet
        .control
        .scaling
        .schedules
        .iter()
        .filter(|one| one.holds(now, 0))
        .filter_map(|one| one.at_most)
        .min();
    match scheduled {
        Some(most) if most < caps.instances => (most, Capped::Schedule),
        _ => (caps.instances, Capped::Instances),
    }
}

/// The rate that a pool's machine adds to a floor, if it counts.
fn counts(fleet: &Fleet, floor: &Floor, pool: &Pool) -> Option<u128> {
    if !floor.takes(pool) {
        return None;
    }
    let speeds = fleet.market.speeds.get(&floor.recogniser)?;
    let speed: &Speed = speeds.get(pool)?;
    Some(RATE / u128::from(speed.us_per_photo.max(1)))
}

/// What a floor has of machines, and of rate, in units that stay, and in those that stand still if they count.
pub fn have<'a>(fleet: &Fleet, floor: &Floor, units: impl Iterator<Item = &'a Unit>) -> (u32, u128) {
    let running = units.filter(|unit| !unit.leaves).map(|unit| &unit.pool);
    let resting = fleet
        .resting
        .iter()
        .filter(|_| floor.resting)
        .map(|one| &one.pool);
    let rates = running
        .chain(resting)
        .filter_map(|pool| counts(fleet, floor, pool));
    rates.fold((0, 0), |(machines, rate), one| (machines + 1, rate + one))
}

/// True when a floor is held.
pub fn holds(fleet: &Fleet, floor: &Floor) -> bool {
    let (machines, rate) = have(fleet, floor, fleet.units.iter());
    machines >= floor.machines && rate >= floor.rate
}

/// True when a floor is held without one of its units, by those that are there: what comes may not come.
pub fn holds_without(fleet: &Fleet, floor: &Floor, unit: &Unit, gone: &[&Unit]) -> bool {
    let Some(own) = counts(fleet, floor, &unit.pool) else {
        return true;
    };
    let stays = |one: &&Unit| one.worker.is_some() && !gone.iter().any(|gone| std::ptr::eq(*gone, *one));
    let (machines, rate) = have(fleet, floor, fleet.units.iter().filter(stays));
    machines > floor.machines && rate >= floor.rate + own
}
