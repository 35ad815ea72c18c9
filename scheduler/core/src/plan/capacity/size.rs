//! How much is missing: what is due by when, against what there is and what comes.

use std::collections::BTreeMap;

use crate::observe::fleet::{Fleet, Place, Unit};
use crate::types::{EnvId, SpecId, Time};

/// Photos of a spec that nobody will do in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The spec.
    pub spec: SpecId,
    /// Whose it is.
    pub env: EnvId,
    /// Where its photos are, and may go.
    pub place: Place,
    /// Its recogniser.
    pub recogniser: String,
    /// All photos of it that have not ended.
    pub photos: u64,
    /// So many are missing by then, each of them once, the earliest first.
    pub missing: Vec<(Time, u64)>,
}

impl Gap {
    /// Photos missing in all.
    pub fn count(&self) -> u64 {
        self.missing.iter().map(|(_, photos)| photos).sum()
    }

    /// The rate that is missing, in photos in 10^12 µs, of machines that are ready so long after `now`; and the instant
    /// that asks for it. What they could not do in time has `late_within` from when they are ready.
    pub fn rate(&self, now: Time, ready_in: u64, late_within: u64) -> (u128, Time) {
        let ready = now.0.saturating_add(ready_in);
        let mut by_due: BTreeMap<u64, u64> = BTreeMap::new();
        for (due, photos) in &self.missing {
            let due = if due.0 > ready {
                due.0
            } else {
                ready.saturating_add(late_within)
            };
            *by_due.entry(due).or_default() += photos;
        }
        let mut sum = 0u128;
        let mut most = (0, Time(ready));
        for (due, photos) in by_due {
            sum += u128::from(photos);
            let rate = (sum * RATE).div_ceil(u128::from(due - ready));
            if rate > most.0 {
                most = (rate, Time(due));
            }
        }
        most
    }
}

/// Rates are photos in so many µs.
pub const RATE: u128 = 1_000_000_000_000;

/// What is missing of each spec. Units do what is due first, each as long as it has time; those that leave, and those in
/// pools that are too dear, do nothing.
pub fn gaps(now: Time, fleet: &Fleet) -> Vec<Gap> {
    let scaling = &fleet.control.scaling;
    let mut free: Vec<(&Unit, u64)> = fleet
        .units
        .iter()
        .filter(|unit| !unit.leaves && !super::rebound::is_dear(fleet, &unit.pool))
        .map(|unit| (unit, unit.ready.max(now).0))
        .collect();
    let mut classes: Vec<(u64, usize, u64)> = Vec::new();
    for (at, need) in fleet.needs.iter().enumerate() {
        for (due, photos) in &need.due {
            let due = match due {
                Some(due) if due.0 > now.0 => due.0,
                Some(_) => now.0.saturating_add(scaling.late_within),
                None => now.0.saturating_add(scaling.within),
            };
            classes.push((due, at, *photos));
        }
    }
    classes.sort_unstable();
    let ready = now.0.saturating_add(slowest(fleet));
    let late = ready.saturating_add(scaling.late_within);
    let mut missing: BTreeMap<usize, Vec<(Time, u64)>> = BTreeMap::new();
    for (mut due, at, photos) in classes {
        let mut left = work_off(&mut free, fleet.needs[at].spec, due, photos);
        if left > 0 && due < ready {
            // No machine that is bought now could do it in time: those that come have as long for it as that one.
            due = late;
            left = work_off(&mut free, fleet.needs[at].spec, due, left);
        }
        if left > 0 {
            missing.entry(at).or_default().push((Time(due), left));
        }
    }
    let gap = |(at, missing): (usize, Vec<(Time, u64)>)| Gap {
        spec: fleet.needs[at].spec,
        env: fleet.needs[at].env,
        place: fleet.needs[at].place.clone(),
        recogniser: fleet.needs[at].recogniser.clone(),
        photos: fleet.needs[at].due.iter().map(|(_, photos)| photos).sum(),
        missing,
    };
    missing.into_iter().map(gap).collect()
}

/// Whether there is work until then, when all do what they can.
pub fn lasts(fleet: &Fleet, now: Time, until: Time) -> bool {
    let there = fleet.units.iter().filter(|unit| !unit.leaves);
    let mut free: Vec<(&Unit, u64)> = there.map(|unit| (unit, unit.ready.max(now).0)).collect();
    fleet.needs.iter().any(|need| {
        let photos = need.due.iter().map(|(_, photos)| photos).sum();
        work_off(&mut free, need.spec, until.0, photos) > 0
    })
}

/// µs until a machine bought now is ready, wherever it is bought.
fn slowest(fleet: &Fleet) -> u64 {
    let measured = fleet.pools.values().filter_map(|record| record.ready_p90()).max();
    measured.unwrap_or(fleet.control.scaling.ready)
}

/// Photos due at an instant go to whoever has time until then; how many are left.
fn work_off(free: &mut [(&Unit, u64)], spec: SpecId, due: u64, photos: u64) -> u64 {
    let mut left = photos;
    for (unit, from) in free.iter_mut() {
        let Some(us) = unit.speeds.get(&spec).copied().filter(|us| *us > 0) else {
            continue;
        };
        let taken = left.min(due.saturating_sub(*from) / us);
        *from += taken * us;
        left -= taken;
        if left == 0 {
            break;
        }
    }
    left
}

/// Whether it is time to buy for what is missing. The first gap is bought for at once. While work comes, the next is
/// waited for until more is missing than a part of what there is, so that a burst takes few calls; when no more has come
/// for a while, or waiting would ask for more machines, it is bought for.
pub fn is_time(now: Time, fleet: &Fleet, gaps: &[Gap]) -> bool {
    if gaps.is_empty() {
        return false;
    }
    let scaling = &fleet.control.scaling;
    let Some(last) = fleet.last_launch else {
        return true;
    };
    let have = fleet.units.iter().filter(|unit| !unit.leaves).count() as u128;
    if have == 0 {
        return true;
    }
    let passed = now.0.saturating_sub(last.0);
    let quiet = fleet
        .last_work
        .is_none_or(|at| now.0.saturating_sub(at.0) >= scaling.again);
    if passed >= scaling.again && quiet {
        return true;
    }
    let rate = |later: u64| -> u128 {
        let at = Time(now.0.saturating_add(later));
        gaps.iter()
            .map(|gap| gap.rate(at, scaling.ready, scaling.late_within).0)
            .sum()
    };
    let there = |unit: &Unit| unit.speeds.values().min().map_or(0, |us| RATE / u128::from(*us));
    let have: u128 = fleet.units.iter().filter(|unit| !unit.leaves).map(there).sum();
    let missing = rate(0);
    missing * 1_000 >= have * u128::from(scaling.grown)
        || passed >= scaling.again && rate(scaling.again) * 10 > missing * 11
}
