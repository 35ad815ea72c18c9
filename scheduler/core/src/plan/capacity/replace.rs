//! The way back to cheaper machines, replacement first: one that works, or is kept for work, is let go only when another
//! one is there in its place.
//!
//! When a cheaper pool may be bought in again, nobody knows for how long machines will be busy. So a machine is replaced
//! once what its photos have cost more than they would have there comes to several times what a replacement costs before
//! it works: the rule for renting or buying skis (Karlin et al., Competitive snoopy caching, 1988), but later than that
//! has it, since most work comes in bursts that are over by then. Nor is it, when none has come for a while and what there
//! is will be done before a replacement has worked for as long as it took to be ready.

use super::floor::{self, Floor};
use super::offers::{Row, rows};
use super::pick::{Room, choice};
use super::size::{gaps, lasts};
use super::{Ahead, Buy, LetGo, Sizing};
use crate::bill::cost;
use crate::limits::DRAINS_PER_PLAN_MAX;
use crate::observe::fleet::{Fleet, Place, Unit};
use crate::state::launches::Wanted;
use crate::state::machines::EndWhy;
use crate::types::{EnvId, Market, MicroUsd, Time};

/// What was paid more must come to so many times what a replacement costs before it works.
const TIMES: u64 = 10;

/// What one machine has cost more than another one of a cheaper pool would have.
struct Dearer<'a> {
    unit: &'a Unit,
    /// Millionths of USD.
    extra: u64,
}

/// Replacing a machine takes so long, in µs.
fn ready_in(fleet: &Fleet, row: &Row) -> u64 {
    let ready = fleet.pools.get(row.pool).and_then(|record| record.ready_p90());
    ready.unwrap_or(fleet.control.scaling.ready)
}

/// Machines on demand that are there and have cost enough more than spot, the dearest first.
fn dearer<'a>(now: Time, fleet: &'a Fleet, recogniser: &str, row: &Row) -> Vec<Dearer<'a>> {
    let record = fleet.pools.get(row.pool);
    // Since when that pool may be bought in again.
    let opened = record.and_then(|record| record.flipped.max(record.closed_until));
    let speeds = fleet.market.speeds.get(recogniser);
    let of = |unit: &'a Unit| {
        let speed = speeds?.get(&unit.pool)?;
        let since = unit.since?.max(opened.unwrap_or_default());
        let ran = now.0.saturating_sub(since.0);
        // The same photos in the same time there.
        let there = u128::from(row.quote.price.0) * u128::from(row.speed.us_per_photo)
            / u128::from(speed.us_per_photo.max(1));
        let saved = unit.price.0.checked_sub(u64::try_from(there).ok()?)?;
        let extra = cost(MicroUsd(saved), ran);
        let replacing = cost(row.quote.price, ready_in(fleet, row));
        (extra > replacing.saturating_mul(TIMES)).then_some(Dearer { unit, extra })
    };
    let mut all: Vec<Dearer> = fleet.units.iter().filter(works).filter_map(of).collect();
    all.sort_by(|a, b| (b.extra, &b.unit.machine).cmp(&(a.extra, &a.unit.machine)));
    all
}

fn works(unit: &&Unit) -> bool {
    unit.pool.market == Market::OnDemand && unit.machine.is_some() && unit.worker.is_some() && !unit.leaves
}

/// The best spot pool for what is done now, and who is dearer than that and may go as far as these floors say.
fn look<T>(
    now: Time,
    fleet: &Fleet,
    floors: &[Floor],
    asked: impl Fn(&Floor) -> bool,
    then: impl FnOnce(&Row, Vec<Dearer>) -> T,
) -> Option<T> {
    // Machines with a commitment cost the same whether they work or not.
    if !fleet.control.scaling.commitments.is_empty() || !fleet.units.iter().any(|unit| works(&unit)) {
        return None;
    }
    let worked_on = fleet.needs.first().map(|need| &need.recogniser);
    let recogniser = worked_on.or(floors.first().map(|floor| &floor.recogniser))?;
    let (rows, _) = rows(now, fleet, recogniser, &Place::default());
    // In whose place it comes may be one that a floor counts.
    let counts = |row: &&Row| {
        floors
            .iter()
            .all(|floor| floor.on_demand || floor.takes(row.pool))
    };
    let spot = rows.iter().filter(|row| row.pool.market == Market::Spot);
    let row = spot.filter(counts).find(|row| row.most == u32::MAX)?;
    let mut dearer = dearer(now, fleet, recogniser, row);
    let mut gone: Vec<&Unit> = Vec::new();
    dearer.retain(|one| {
        let held = |floor: &Floor| floor::holds_without(fleet, floor, one.unit, &gone);
        let may = floors.iter().filter(|floor| asked(floor)).all(held);
        if may {
            gone.push(one.unit);
        }
        may
    });
    (!dearer.is_empty()).then(|| then(row, dearer))
}

/// The fleet without some of its units.
fn without(fleet: &Fleet, gone: &[&Unit]) -> Fleet {
    let stays = |unit: &&Unit| !gone.iter().any(|one| one.machine == unit.machine);
    Fleet {
        units: fleet.units.iter().filter(stays).cloned().collect(),
        ..fleet.clone()
    }
}

/// One launch for the machines that are to be replaced, unless one is on its way.
pub fn buys(now: Time, fleet: &Fleet, floors: &[Floor]) -> Vec<Buy> {
    let coming = |unit: &Unit| unit.worker.is_none() && !unit.leaves;
    if fleet.units.iter().any(coming) {
        return Vec::new();
    }
    let buy = |row: &Row, dearer: Vec<Dearer>| {
        let ready_in = ready_in(fleet, row);
        let comes = fleet
            .last_work
            .is_some_and(|at| now.0.saturating_sub(at.0) < ready_in);
        let units: Vec<&Unit> = dearer.iter().map(|one| one.unit).collect();
        let after = without(fleet, &units);
        let held = |floor: &Floor| floor::holds(&after, floor);
        if floors.iter().all(held) {
            let twice = Time(now.0.saturating_add(ready_in.saturating_mul(2)));
            // What else is there does it without them, or there is nothing to do soon: they go.
            if gaps(now, &after).is_empty() || !comes && !lasts(fleet, now, twice) {
                return None;
            }
        }
        let scaling = &fleet.control.scaling;
        let wanted = Wanted {
            region: row.pool.region.clone(),
            market: row.pool.market,
            choices: vec![choice(row)],
            count: dearer.len() as u32,
            template: scaling.template,
        };
        let (wanted, capped) = Room::new(now, fleet).fit(EnvId::default(), wanted);
        let first = dearer.first().filter(|_| wanted.count > 0)?;
        let because = Sizing {
            ready_in,
            machines: dearer.len() as u32,
            have: fleet.units.iter().filter(|unit| !unit.leaves).count() as u32,
            capped,
            due: now,
            chosen: MicroUsd(row.total),
            ahead: Some(Ahead::Cheaper {
                machine: first.unit.machine.clone()?,
                extra: first.extra,
            }),
            ..Sizing::default()
        };
        Some(Buy { wanted, because })
    };
    // What people want to be there on demand stays.
    look(now, fleet, floors, |floor| floor.on_demand, buy)
        .flatten()
        .into_iter()
        .collect()
}

/// Machines in whose place others work by now: those without which nothing is missing, the dearest first.
pub fn replaced(now: Time, fleet: &Fleet, floors: &[Floor]) -> Vec<LetGo> {
    let cheaper = |unit: &Unit| unit.pool.market == Market::Spot && unit.worker.is_some() && !unit.leaves;
    if !fleet.units.iter().any(cheaper) {
        return Vec::new();
    }
    let go = |_: &Row, dearer: Vec<Dearer>| {
        let mut gone: Vec<&Unit> = Vec::new();
        for one in dearer.iter().take(DRAINS_PER_PLAN_MAX) {
            gone.push(one.unit);
            if !gaps(now, &without(fleet, &gone)).is_empty() {
                gone.pop();
                break;
            }
        }
        let let_go = |unit: &Unit| {
            Some(LetGo {
                machine: unit.machine.clone()?,
                why: EndWhy::TooDear,
                idle: 0,
                keep: 0,
            })
        };
        gone.into_iter().filter_map(let_go).collect()
    };
    look(now, fleet, floors, |_| true, go).unwrap_or_default()
}
