//! Where to buy what is missing: the cheapest thousand photos first, several pools beside each other so that the loss of
//! one does not cost the deadline, as much as the caps allow.

use std::collections::BTreeMap;

use super::floor::Floor;
use super::offers::{Row, rows};
use super::{Buy, Capped, Gap, NotChosen, Sizing};
use crate::bill::cost;
use crate::limits::{CHOICES_PER_LAUNCH_MAX, LAUNCHES_PER_PLAN_MAX, MACHINES_MAX, MACHINES_PER_LAUNCH_MAX};
use crate::observe::fleet::{Fleet, Place, Unit};
use crate::scaling::WHOLE;
use crate::state::buying::Committed;
use crate::state::launches::{Choice, Wanted};
use crate::types::{EnvId, Market, MicroUsd, Time};

/// Pools of which a thousand photos cost at most so many thousandths of the cheapest share a purchase.
const NEAR: u64 = 1_500;

/// What is still free under the caps while a plan is made.
pub(super) struct Room<'a> {
    fleet: &'a Fleet,
    used: Committed,
    canary: u64,
    instances: (u32, Capped),
    /// Millionths of USD that may still be reserved for environments that are limited.
    left: BTreeMap<EnvId, u64>,
}

impl Room<'_> {
    pub fn new(now: Time, fleet: &Fleet) -> Room<'_> {
        let unproven = fleet
            .units
            .iter()
            .filter(|unit| unit.worker.is_none() && !unit.leaves)
            .count() as u64;
        let proven = fleet.control.proven >= fleet.control.scaling.template;
        let canary = u64::from(fleet.control.scaling.brakes.canary).saturating_sub(unproven);
        Room {
            fleet,
            used: fleet.committed,
            canary: if proven { u64::MAX } else { canary },
            instances: super::floor::instances_max(now, fleet),
            left: fleet.left.clone(),
        }
    }

    /// The cap that a launch for an environment would break, if it would.
    fn breaks(&self, env: EnvId, wanted: &Wanted) -> Option<Capped> {
        let caps = &self.fleet.control.scaling.caps;
        let (burn, vcpus) = wanted.dearest();
        let ahead = cost(MicroUsd(self.used.burn.saturating_add(burn)), caps.committed);
        let (hour, day) = self.fleet.spent;
        let instances = self.used.instances + u64::from(wanted.count);
        let own = self.left.get(&env).copied().unwrap_or(u64::MAX);
        match () {
            () if u64::from(wanted.count) > self.canary => Some(Capped::Canary),
            () if instances > u64::from(self.instances.0).min(MACHINES_MAX as u64) => Some(self.instances.1),
            () if self.used.vcpus + vcpus > u64::from(caps.vcpus) => Some(Capped::Vcpus),
            () if hour.saturating_add(ahead) > caps.hour => Some(Capped::Hour),
            () if day.saturating_add(ahead) > caps.day => Some(Capped::Day),
            () if cost(MicroUsd(burn), caps.committed) > own => Some(Capped::Environment),
            () => None,
        }
    }

    /// As many machines of a launch as the caps allow, and the cap that stopped more.
    pub fn fit(&self, env: EnvId, wanted: Wanted) -> (Wanted, Option<Capped>) {
        let Some(capped) = self.breaks(env, &wanted) else {
            return (wanted, None);
        };
        let of = |count: u32| Wanted {
            count,
            ..wanted.clone()
        };
        // What fits is below what does not: halved until they meet.
        let (mut fits, mut breaks) = (0, wanted.count);
        while breaks - fits > 1 {
            let middle = fits + (breaks - fits) / 2;
            match self.breaks(env, &of(middle)) {
                None => fits = middle,
                Some(_) => breaks = middle,
            }
        }
        (of(fits), Some(capped))
    }

    fn take(&mut self, env: EnvId, wanted: &Wanted) {
        let (burn, vcpus) = wanted.dearest();
        let reserved = cost(MicroUsd(burn), self.fleet.control.scaling.caps.committed);
        if let Some(left) = self.left.get_mut(&env) {
            *left = left.saturating_sub(reserved);
        }
        self.used.instances += u64::from(wanted.count);
        self.used.vcpus += vcpus;
        self.used.burn = self.used.burn.saturating_add(burn);
        self.canary = self.canary.saturating_sub(u64::from(wanted.count));
    }
}

/// Launches for the gaps, those of the first deadline first; then for the floors, where what is bought for the gaps does
/// not hold them.
pub fn pick(now: Time, fleet: &Fleet, gaps: &[Gap], floors: &[Floor]) -> Vec<Buy> {
    let mut room = Room::new(now, fleet);
    let mut gaps: Vec<&Gap> = gaps.iter().collect();
    gaps.sort_by_key(|gap| gap.missing.first().map(|(due, _)| *due));
    let mut buys = Vec::new();
    for gap in gaps {
        buys.extend(for_gap(now, fleet, gap, &mut room));
    }
    if buys.is_empty() {
        // One floor at a time: what is bought for it may hold the others too.
        let mut each = floors.iter().map(|floor| for_floor(now, fleet, floor, &mut room));
        buys = each.find(|buys| !buys.is_empty()).unwrap_or_default();
    }
    buys.truncate(LAUNCHES_PER_PLAN_MAX as usize);
    buys
}

/// What stands in the way of one machine for a gap.
pub enum Obstacle {
    /// Nothing.
    None,
    /// A cap.
    Cap(Capped),
    /// No pool is known.
    NoPool,
    /// No pool may be bought in; a machine is ready then at the earliest, if it is only a matter of time.
    Closed(Option<Time>),
}

/// See [`Obstacle`].
pub fn obstacle(now: Time, fleet: &Fleet, gap: &Gap) -> Obstacle {
    let (rows, others) = rows(now, fleet, &gap.recogniser, &gap.place);
    if let Some(row) = rows.first() {
        let wanted = Wanted {
            region: row.pool.region.clone(),
            market: row.pool.market,
            count: 1,
            choices: vec![choice(row)],
            template: fleet.control.scaling.template,
        };
        return Room::new(now, fleet)
            .breaks(gap.env, &wanted)
            .map_or(Obstacle::None, Obstacle::Cap);
    }
    if others.is_empty() {
        return Obstacle::NoPool;
    }
    let opens = others
        .iter()
        .filter(|(_, _, why)| *why == NotChosen::Closed)
        .filter_map(|(pool, ..)| fleet.pools.get(pool))
        .filter_map(|record| Some((record.closed_until?, record.ready_p90())));
    let ready = opens.map(|(opens, ready)| {
        let ready = ready.unwrap_or(fleet.control.scaling.ready);
        Time(opens.max(now).0.saturating_add(ready))
    });
    Obstacle::Closed(ready.min())
}

fn for_gap(now: Time, fleet: &Fleet, gap: &Gap, room: &mut Room) -> Vec<Buy> {
    let scaling = &fleet.control.scaling;
    let (rows, others) = rows(now, fleet, &gap.recogniser, &gap.place);
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let ready = fleet.pools.get(first.pool).and_then(|record| record.ready_p90());
    let ready_in = ready.unwrap_or(scaling.ready);
    let (rate, due) = gap.rate(now, ready_in, scaling.late_within);
    let rate = rate * u128::from(WHOLE + scaling.spare) / u128::from(WHOLE);
    let counts = spread(&rows, rate, scaling.share);
    let machines: u32 = counts.iter().sum();
    let have = fleet.units.iter().filter(|unit| !unit.leaves).count() as u32;
    let instead_of = others.first().cloned().or_else(|| {
        let next = rows.iter().zip(&counts).find(|(_, count)| **count == 0)?.0;
        Some((next.pool.clone(), MicroUsd(next.total), NotChosen::Dearer))
    });
    let mut buys = Vec::new();
    for (lead, wanted) in launches(&rows, &counts, scaling.template) {
        let (wanted, capped) = room.fit(gap.env, wanted);
        if wanted.count == 0 {
            continue;
        }
        room.take(gap.env, &wanted);
        let because = Sizing {
            spec: gap.spec,
            env: gap.env,
            photos: gap.photos,
            missing: gap.count(),
            due,
            ready_in,
            machines,
            have,
            capped,
            chosen: MicroUsd(lead.total),
            instead_of: instead_of.clone(),
            ahead: None,
            escape: lead.escape,
            committed: lead.committed,
        };
        buys.push(Buy { wanted, because });
    }
    buys
}

/// Machines that a floor lacks.
fn for_floor(now: Time, fleet: &Fleet, floor: &Floor, room: &mut Room) -> Vec<Buy> {
    let scaling = &fleet.control.scaling;
    let (mut rows, others) = rows(now, fleet, &floor.recogniser, &Place::default());
    rows.retain(|row| floor.takes(row.pool));
    let Some(first) = rows.first() else {
        return Vec::new();
    };
    let stays = |unit: &&Unit| !super::rebound::is_dear(fleet, &unit.pool);
    let (machines, rate) = super::floor::have(fleet, floor, fleet.units.iter().filter(stays));
    let want = floor.rate * u128::from(WHOLE + scaling.spare) / u128::from(WHOLE);
    // What holds the floor is not topped up for the spare alone.
    let missing = if rate >= floor.rate { 0 } else { want - rate };
    let by_count = u128::from(floor.machines.saturating_sub(machines)) * first.rate();
    let counts = spread(&rows, missing.max(by_count), scaling.share);
    let lacking: u32 = counts.iter().sum();
    let ready = fleet.pools.get(first.pool).and_then(|record| record.ready_p90());
    // Work that has not come is of no environment yet.
    let nobody = EnvId::default();
    let mut buys = Vec::new();
    for (lead, wanted) in launches(&rows, &counts, scaling.template) {
        let (wanted, capped) = room.fit(nobody, wanted);
        if wanted.count == 0 {
            continue;
        }
        room.take(nobody, &wanted);
        let because = Sizing {
            ready_in: ready.unwrap_or(scaling.ready),
            machines: lacking,
            have: machines,
            capped,
            chosen: MicroUsd(lead.total),
            instead_of: others.first().cloned(),
            ahead: Some(floor.because.clone()),
            due: now,
            escape: lead.escape,
            committed: lead.committed,
            ..Sizing::default()
        };
        buys.push(Buy { wanted, because });
    }
    buys
}

/// Machines of each row that together have the rate: what is paid for already first; then equal parts for as many of the
/// most wanted as the share asks for, while they cost about as much and none is away where another is not. What a row has
/// no room for goes to the next.
fn spread(rows: &[Row], rate: u128, share: u32) -> Vec<u32> {
    let mut counts = vec![0u32; rows.len()];
    let paid = rows.iter().take_while(|row| row.committed).count();
    let left = fill(&rows[..paid], &mut counts[..paid], rate, rate);
    let rows = &rows[paid..];
    let Some(first) = rows.first() else { return counts };
    let near = |row: &&Row| {
        row.total <= first.total.saturating_mul(NEAR) / 1_000
            && row.step == first.step
            && (first.away || !row.away)
    };
    let parts = WHOLE.div_ceil(share.max(1)) as usize;
    let parts = rows.iter().take(parts).take_while(near).count().max(1);
    let part = left.div_ceil(parts as u128);
    let counts_left = &mut counts[paid..];
    let parts = parts.min(rows.len());
    let left = fill(&rows[..parts], &mut counts_left[..parts], left, part);
    fill(rows, counts_left, left, left);
    counts
}

/// Adds machines to rows in their order, for at most `most` of each, until they have the rate; what is left of it.
fn fill(rows: &[Row], counts: &mut [u32], rate: u128, most: u128) -> u128 {
    let mut left = rate;
    for (row, count) in rows.iter().zip(counts) {
        if left == 0 {
            break;
        }
        let machines = left.min(most).div_ceil(row.rate().max(1));
        let machines = u32::try_from(machines).unwrap_or(u32::MAX).min(row.most - *count);
        *count += machines;
        left = left.saturating_sub(u128::from(machines) * row.rate());
    }
    left
}

/// One launch for each region and market, and one for each pool that no more than a few machines may be of; each with the
/// first pool it is for.
fn launches<'r, 'a>(rows: &'r [Row<'a>], counts: &[u32], template: u32) -> Vec<(&'r Row<'a>, Wanted)> {
    let mut groups: BTreeMap<(&str, Market, usize), Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate().filter(|(at, _)| counts[*at] > 0) {
        let alone = if row.most == u32::MAX { usize::MAX } else { at };
        groups
            .entry((&row.pool.region, row.pool.market, alone))
            .or_default()
            .push(at);
    }
    let mut all: Vec<Vec<usize>> = groups.into_values().collect();
    all.sort_by_key(|members| members[0]);
    let wanted = |members: Vec<usize>| Wanted {
        region: rows[members[0]].pool.region.clone(),
        market: rows[members[0]].pool.market,
        count: members
            .iter()
            .map(|at| counts[*at])
            .fold(0, u32::saturating_add)
            .min(MACHINES_PER_LAUNCH_MAX),
        choices: members
            .iter()
            .take(CHOICES_PER_LAUNCH_MAX)
            .map(|at| choice(&rows[*at]))
            .collect(),
        template,
    };
    let launch = |members: Vec<usize>| (&rows[members[0]], wanted(members));
    all.into_iter().map(launch).collect()
}

pub(super) fn choice(row: &Row) -> Choice {
    Choice {
        zone_id: row.pool.zone_id.clone(),
        instance_type: row.pool.instance_type.clone(),
        vcpus: row.quote.vcpus,
        price: row.quote.price.min(row.quote.on_demand),
        bound: row.quote.on_demand,
    }
}
