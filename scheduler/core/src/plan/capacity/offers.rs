//! What may be bought for photos, and in which order: by what a thousand of them cost, their way included; what is paid
//! for already before all else; photos leave their region only for a saving; and when the best pool cannot be had, those
//! first that the policy's order of escape names first.

use super::NotChosen;
use super::size::RATE;
use crate::market::{Quote, Speed};
use crate::observe::fleet::{Fleet, Place, Unit};
use crate::scaling::{Commitment, Escape, Scaling, WHOLE};
use crate::types::{Market, MicroUsd, Pool, Time};

/// A pool that may be bought in.
pub(super) struct Row<'a> {
    pub pool: &'a Pool,
    pub quote: &'a Quote,
    pub speed: &'a Speed,
    /// Most machines more.
    pub most: u32,
    /// What a thousand photos cost.
    pub total: u64,
    /// In another region than the photos.
    pub away: bool,
    /// Paid for already.
    pub committed: bool,
    /// The pool has nothing, and a capacity reservation there has.
    pub reserved: bool,
    /// What it differs in from the best pool, which cannot be had.
    pub escape: Option<Escape>,
    /// The place of that in the policy's order.
    pub step: usize,
}

impl Row<'_> {
    pub fn rate(&self) -> u128 {
        RATE / u128::from(self.speed.us_per_photo.max(1))
    }

    /// What it is ranked by: what is away must save something.
    fn rank(&self, scaling: &Scaling) -> u64 {
        ranked(self.total, self.away, scaling)
    }
}

fn ranked(total: u64, away: bool, scaling: &Scaling) -> u64 {
    match away {
        true => {
            total.saturating_mul(u64::from(WHOLE))
                / u64::from(WHOLE.saturating_sub(scaling.away_saving).max(1))
        }
        false => total,
    }
}

/// A pool that may not be bought in, what a thousand photos would cost there, and why not.
pub(super) type Other = (Pool, MicroUsd, NotChosen);

/// Pools that may be bought in, the most wanted first; and those that may not, the cheapest first.
pub(super) fn rows<'a>(
    now: Time,
    fleet: &'a Fleet,
    recogniser: &str,
    place: &Place,
) -> (Vec<Row<'a>>, Vec<Other>) {
    let scaling = &fleet.control.scaling;
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    let speeds = fleet.market.speeds.get(recogniser).into_iter().flatten();
    for (pool, speed) in speeds {
        let Some(quote) = fleet.market.pools.get(pool).filter(|quote| quote.on_demand.0 > 0) else {
            continue;
        };
        let way = fleet.market.way(&place.home, &pool.region, scaling.photo_kb);
        let total = speed.total().0.saturating_add(way.unwrap_or_default().0);
        let may = match () {
            () if !place.allows(&pool.region) => Err(NotChosen::Region),
            () if way.is_none() => Err(NotChosen::Way),
            () => may_buy(now, fleet, pool, speed),
        };
        let kept = match may {
            Err(NotChosen::Closed) => reserved(fleet, pool),
            _ => None,
        };
        match kept.map_or(may, Ok) {
            Ok(most) => rows.push(Row {
                pool,
                quote,
                speed,
                most,
                total,
                away: !place.home.is_empty() && place.home != pool.region,
                committed: false,
                reserved: kept.is_some(),
                escape: None,
                step: 0,
            }),
            Err(why) => others.push((pool.clone(), MicroUsd(total), why)),
        }
    }
    others.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    escape(scaling, place, &mut rows, &others);
    rows.sort_by_key(|row| (row.step, row.rank(scaling), row.pool));
    let mut paid = committed(fleet, &rows);
    rows.retain(|row| !row.reserved);
    paid.append(&mut rows);
    (paid, others)
}

/// Marks what differs from the best pool, where that cannot be had now.
fn escape(scaling: &Scaling, place: &Place, rows: &mut [Row], others: &[Other]) {
    let away = |pool: &Pool| !place.home.is_empty() && place.home != pool.region;
    let not_now = |why: NotChosen| {
        matches!(
            why,
            NotChosen::Closed | NotChosen::AboveThreshold | NotChosen::Banned | NotChosen::PriceOld
        )
    };
    let wanted = others
        .iter()
        .filter(|(_, _, why)| not_now(*why))
        .min_by_key(|(pool, total, _)| ranked(total.0, away(pool), scaling));
    let Some((best, total, _)) = wanted else { return };
    let cheapest = rows.iter().map(|row| row.rank(scaling)).min();
    if cheapest.is_none_or(|cheapest| cheapest < ranked(total.0, away(best), scaling)) {
        return;
    }
    for row in rows {
        let furthest = differences(best, row.pool)
            .into_iter()
            .map(|one| {
                let place = scaling.escape.iter().position(|step| *step == one);
                (place.unwrap_or(scaling.escape.len()), one)
            })
            .max();
        row.step = furthest.map_or(0, |(step, _)| step);
        row.escape = furthest.map(|(_, one)| one);
    }
}

/// In what two pools differ.
fn differences(one: &Pool, other: &Pool) -> Vec<Escape> {
    let parts = |pool: &Pool| {
        let (family, size) = pool
            .instance_type
            .split_once('.')
            .unwrap_or((&pool.instance_type, ""));
        (family.to_owned(), size.to_owned())
    };
    let ((family, size), (others_family, others_size)) = (parts(one), parts(other));
    let here = one.region == other.region;
    let all = [
        (Escape::Market, one.market != other.market),
        (Escape::Zone, here && one.zone_id != other.zone_id),
        (Escape::Type, family != others_family),
        (Escape::Size, family == others_family && size != others_size),
        (Escape::Region, !here),
    ];
    all.into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(one, _)| one)
        .collect()
}

/// True when a pool's machines are a commitment's.
fn covers(one: &Commitment, pool: &Pool) -> bool {
    pool.market == Market::OnDemand
        && pool.region == one.region
        && (one.zone_id.is_empty() || pool.zone_id == one.zone_id)
        && pool.instance_type == one.instance_type
}

/// Machines of a commitment that are not there.
fn left(fleet: &Fleet, one: &Commitment) -> u32 {
    let of = |unit: &&Unit| !unit.leaves && covers(one, &unit.pool);
    let there = fleet.units.iter().filter(of).count() as u32;
    one.machines.saturating_sub(there)
}

/// Machines that a capacity reservation has for us in a pool, whatever else that has.
fn reserved(fleet: &Fleet, pool: &Pool) -> Option<u32> {
    let all = fleet.control.scaling.commitments.iter();
    let here = all.filter(|one| !one.zone_id.is_empty() && covers(one, pool));
    let most = here.map(|one| left(fleet, one)).max()?;
    let banned = fleet
        .pools
        .get(pool)
        .is_some_and(|record| record.banned.is_some());
    (most > 0 && !banned).then_some(most)
}

/// What is paid for already and not there: of each commitment in the first of its pools, costing only the way.
fn committed<'a>(fleet: &Fleet, rows: &[Row<'a>]) -> Vec<Row<'a>> {
    let mut paid = Vec::new();
    for one in &fleet.control.scaling.commitments {
        let left = left(fleet, one);
        let first = rows.iter().find(|row| covers(one, row.pool));
        if let Some(row) = first.filter(|_| left > 0) {
            let spent = row.speed.machine.0.saturating_add(row.speed.risk.0);
            paid.push(Row {
                most: left.min(row.most),
                total: row.total.saturating_sub(spent),
                committed: true,
                ..*row
            });
        }
    }
    paid.sort_by_key(|row| (row.away, row.total, row.pool));
    paid
}

/// How many machines more may be bought in a pool, or why none.
pub(super) fn may_buy(now: Time, fleet: &Fleet, pool: &Pool, speed: &Speed) -> Result<u32, NotChosen> {
    let scaling = &fleet.control.scaling;
    let record = fleet.pools.get(pool);
    let allowed = match pool.market {
        Market::Spot => scaling.spot,
        Market::OnDemand => scaling.on_demand,
        Market::None => false,
    };
    let old = now.0.saturating_sub(fleet.market.heard.0) > scaling.stale_after;
    match () {
        () if !allowed => return Err(NotChosen::NotAllowed),
        () if record.is_some_and(|record| record.is_banned(now)) => return Err(NotChosen::Banned),
        () if record.is_some_and(|record| record.is_closed(now)) => return Err(NotChosen::Closed),
        () if super::rebound::is_dear(fleet, pool) => return Err(NotChosen::AboveThreshold),
        () if old && pool.market == Market::Spot => return Err(NotChosen::PriceOld),
        () => {}
    }
    let same = |unit: &&Unit| unit.pool == *pool && unit.worker.is_none() && !unit.leaves;
    let coming = fleet.units.iter().filter(same).count() as u32;
    // One that had nothing is asked for one machine, until it gives that.
    let probes = record.is_some_and(|record| record.refusals > 0);
    let of_type = |unit: &&Unit| unit.pool.instance_type == pool.instance_type && !unit.leaves;
    let there = fleet.units.iter().filter(of_type).count() as u32;
    let unmeasured = speed.most.map_or(u32::MAX, |most| most.saturating_sub(there));
    let most = if probes {
        1u32.saturating_sub(coming)
    } else {
        u32::MAX
    };
    match most.min(unmeasured) {
        0 => Err(NotChosen::Closed),
        most => Ok(most),
    }
}
