//! Photos that will be late, and nothing may be bought for them: said once when it begins, with what stands in the way
//! and when that may be over, and once when it ends.

use super::{Capped, Gap, Lacking, Short, pick, size};
use crate::observe::fleet::{Fleet, Unit};
use crate::types::Time;

/// What there is to say, if it is something new. `nothing`: nothing is bought now.
pub fn change(now: Time, fleet: &Fleet, gaps: &[Gap], nothing: bool) -> Option<Option<Short>> {
    let said = fleet.control.short.map(|(short, _)| short);
    let photos: Vec<&Gap> = gaps.iter().filter(|gap| gap.count() > 0).collect();
    if photos.is_empty() {
        // A machine that is only asked for ends nothing: pools that were asked before had none.
        let asked = |unit: &&Unit| {
            let record = fleet.pools.get(&unit.pool);
            unit.machine.is_none() && unit.worker.is_none() && record.is_some_and(|one| one.refusals > 0)
        };
        return said
            .filter(|_| !fleet.units.iter().any(|unit| asked(&unit)))
            .map(|_| None);
    }
    let waits =
        fleet.control.frozen.is_none() && fleet.control.brake.is_none() && !size::is_time(now, fleet, gaps);
    if !nothing || waits {
        return None;
    }
    let (why, not_before) = lacking(now, fleet, &photos)?;
    if said.is_some_and(|said| said.why == why) {
        return None;
    }
    let due = photos
        .iter()
        .filter_map(|gap| gap.missing.first())
        .map(|(due, _)| *due);
    Some(Some(Short {
        why,
        missing: photos.iter().map(|gap| gap.count()).sum(),
        due: due.min().unwrap_or(now),
        not_before,
    }))
}

/// What stands in the way, and until when at least.
fn lacking(now: Time, fleet: &Fleet, gaps: &[&Gap]) -> Option<(Lacking, Option<Time>)> {
    if fleet.control.frozen.is_some() {
        return Some((Lacking::Frozen, None));
    }
    if fleet.control.brake.is_some() {
        return Some((Lacking::Braked, None));
    }
    let mut closed = None;
    for gap in gaps {
        match pick::obstacle(now, fleet, gap) {
            // Something may be bought, only not now: no need to say anything.
            pick::Obstacle::None => return None,
            // The first machines of an image are on their way: that is no lack.
            pick::Obstacle::Cap(Capped::Canary) => return None,
            pick::Obstacle::Cap(cap) => return Some((Lacking::Capped(cap), None)),
            pick::Obstacle::NoPool => closed = closed.or(Some((Lacking::NoPool, None))),
            pick::Obstacle::Closed(until) => closed = Some((Lacking::AllClosed, until)),
        }
    }
    closed
}
