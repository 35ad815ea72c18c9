//! Machines kept for a burst that nobody announces, in three grades: hot ones run and wait, stopped ones cost their volume
//! alone and are started when photos come, cold ones are bought then. What is kept costs as little as the burst's
//! deadline and the caps on machines allow.

use super::floor::{self, Floor};
use super::offers::rows;
use super::size::gaps as gaps_of;
use super::{Ahead, Gap, LetGo, Rest, Sizing, Start, keep};
use crate::limits::DRAINS_PER_PLAN_MAX;
use crate::observe::fleet::{Fleet, Place, Resting, Unit};
use crate::scaling::WHOLE;
use crate::state::machines::EndWhy;
use crate::types::{Market, MicroUsd, Time};

/// What is kept for the burst, and what is bought when it comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// Of this instance type.
    pub instance_type: String,
    /// Machines that run.
    pub hot: u32,
    /// Machines that stand still.
    pub stopped: u32,
    /// Machines that are bought then.
    pub cold: u32,
    /// Millionths of USD an hour for what is kept.
    pub standing: MicroUsd,
    /// With all machines that caps allow, not all of it is done in time.
    pub late: bool,
}

/// One grade: photos that one machine of it does in time, and what keeping one costs an hour.
#[derive(Clone, Copy)]
struct Grade {
    photos: u64,
    price: MicroUsd,
}

/// How many of each grade. The cheapest to keep come first; dearer ones take their place only as far as these, with all
/// machines that may be, do not do it in time.
fn fill(burst: u64, most: u32, hot: Grade, stopped: Grade, cold: Grade) -> Mix {
    let cold_alone = burst
        .checked_div(cold.photos)
        .map(|_| burst.div_ceil(cold.photos));
    if let Some(machines) = cold_alone.filter(|machines| *machines <= u64::from(most)) {
        return Mix {
            cold: machines as u32,
            ..Mix::default()
        };
    }
    // So many of the better grade that, with the others in the rest of what may be, all is done.
    let better = |better: Grade, worse: Grade| {
        let missing = burst.saturating_sub(worse.photos.saturating_mul(u64::from(most)));
        let gain = better.photos.checked_sub(worse.photos).filter(|gain| *gain > 0)?;
        u32::try_from(missing.div_ceil(gain))
            .ok()
            .filter(|machines| *machines <= most)
    };
    // What is left for the worse grade, no more of it than is needed.
    let rest = |of: Grade, by: Grade, count: u32| {
        let left = burst.saturating_sub(by.photos.saturating_mul(u64::from(count)));
        let machines = left
            .checked_div(of.photos)
            .map_or(0, |_| left.div_ceil(of.photos));
        u32::try_from(machines).unwrap_or(u32::MAX).min(most - count)
    };
    if let Some(count) = better(stopped, cold) {
        return Mix {
            stopped: count,
            cold: rest(cold, stopped, count),
            standing: MicroUsd(stopped.price.0.saturating_mul(u64::from(count))),
            ..Mix::default()
        };
    }
    let enough = better(hot, stopped);
    let count = enough.unwrap_or(most);
    let stopped_count = rest(stopped, hot, count);
    let standing = hot.price.0.saturating_mul(u64::from(count));
    let volumes = stopped.price.0.saturating_mul(u64::from(stopped_count));
    Mix {
        hot: count,
        stopped: stopped_count,
        cold: 0,
        standing: MicroUsd(standing.saturating_add(volumes)),
        late: enough.is_none(),
        ..Mix::default()
    }
}

/// What is to be kept now; none: the policy keeps nothing, or no pool is known for it. All of it is of one type, the
/// cheapest on demand, so that what prices of spot do from hour to hour changes nothing.
pub fn mix(now: Time, fleet: &Fleet) -> Option<Mix> {
    let scaling = &fleet.control.scaling;
    let spares = scaling.spares.as_ref()?;
    let (rows, _) = rows(now, fleet, &spares.recogniser, &Place::default());
    let stopped = rows.iter().find(|row| row.pool.market == Market::OnDemand)?;
    let instance_type = &stopped.pool.instance_type;
    let same = || {
        fleet
            .pools
            .iter()
            .filter(|(pool, _)| pool.instance_type == *instance_type)
    };
    let ready = same().filter_map(|(_, record)| record.ready_p90()).max();
    let restart = same().filter_map(|(_, record)| record.restart_p90()).max();
    let hot = rows.iter().find(|row| row.pool.instance_type == *instance_type)?;
    let grade = |ready: u64, price: MicroUsd| Grade {
        photos: stopped.speed.photos_in(spares.within.saturating_sub(ready)),
        price,
    };
    let caps = &scaling.caps;
    let most = floor::instances_max(now, fleet)
        .0
        .min(caps.vcpus / stopped.quote.vcpus.max(1));
    let burst = u64::from(spares.photos) * u64::from(WHOLE + scaling.spare) / u64::from(WHOLE);
    let mix = fill(
        burst,
        most,
        grade(0, hot.quote.price.min(hot.quote.on_demand)),
        grade(scaling.restart(restart), MicroUsd(spares.volume)),
        grade(ready.unwrap_or(scaling.ready), MicroUsd(0)),
    );
    Some(Mix {
        instance_type: instance_type.clone(),
        ..mix
    })
}

/// Machines that there shall be for it before it comes: hot ones anywhere, those on demand that are to stand still, and as
/// many as both together. None of them follows from what there is, so that letting one go asks for no other.
pub fn floors(fleet: &Fleet, mix: Option<&Mix>) -> Vec<Floor> {
    let (Some(spares), Some(mix)) = (&fleet.control.scaling.spares, mix) else {
        return Vec::new();
    };
    let because = Ahead::Burst {
        hot: mix.hot,
        stopped: mix.stopped,
    };
    let floor = |machines, on_demand, resting| Floor {
        recogniser: spares.recogniser.clone(),
        machines,
        rate: 0,
        instance_type: mix.instance_type.clone(),
        on_demand,
        resting,
        because: because.clone(),
    };
    let mut all = vec![
        floor(mix.hot, false, false),
        floor(mix.stopped, true, true),
        floor(mix.hot + mix.stopped, false, true),
    ];
    all.retain(|floor| floor.machines > 0);
    all
}

/// A machine that stands still, as it will be when it is started now.
fn started(now: Time, fleet: &Fleet, one: &Resting) -> Unit {
    let measured = fleet.pools.get(&one.pool).and_then(|record| record.restart_p90());
    let ready = Time(now.0.saturating_add(fleet.control.scaling.restart(measured)));
    let speed = |need: &crate::observe::fleet::Need| {
        let speed = fleet.market.speeds.get(&need.recogniser)?.get(&one.pool)?;
        Some((need.spec, speed.us_per_photo))
    };
    let may = |need: &&crate::observe::fleet::Need| need.place.allows(&one.pool.region);
    Unit {
        machine: Some(one.machine.clone()),
        pool: one.pool.clone(),
        worker: None,
        ready,
        speeds: fleet.needs.iter().filter(may).filter_map(speed).collect(),
        held: 0,
        idle: None,
        leaves: false,
        over: None,
        paid_for_until: ready,
        since: None,
        price: one.price,
    }
}

/// Machines that stand still and shall start for what is missing, the cheapest first, one after the other until nothing
/// is; with the fleet as it is then, and what is missing in it. None: no machine shall start.
#[allow(clippy::type_complexity)]
pub fn starts(now: Time, fleet: &Fleet, gaps: &[Gap]) -> (Vec<Start>, Option<(Fleet, Vec<Gap>)>) {
    let may = |one: &&Resting| {
        let record = fleet.pools.get(&one.pool);
        one.stopped && !record.is_some_and(|record| record.is_closed(now) || record.is_banned(now))
    };
    let mut resting: Vec<&Resting> = fleet.resting.iter().filter(may).collect();
    if gaps.is_empty() || resting.is_empty() {
        return (Vec::new(), None);
    }
    resting.sort_by_key(|one| (one.price, &one.machine));
    let (mut after, mut left, mut starts) = (fleet.clone(), gaps.to_vec(), Vec::new());
    for one in resting.into_iter().take(DRAINS_PER_PLAN_MAX) {
        let unit = started(now, fleet, one);
        let Some(gap) = left.iter().find(|gap| unit.speeds.contains_key(&gap.spec)) else {
            continue;
        };
        let because = Sizing {
            spec: gap.spec,
            env: gap.env,
            photos: gap.photos,
            missing: gap.count(),
            due: gap.missing.first().map_or(now, |(due, _)| *due),
            ready_in: unit.ready.0.saturating_sub(now.0),
            machines: 1,
            have: after.units.iter().filter(|unit| !unit.leaves).count() as u32,
            ..Sizing::default()
        };
        starts.push(Start {
            machine: one.machine.clone(),
            because,
        });
        after.committed.instances += 1;
        after.units.push(unit);
        after.resting.retain(|other| other.machine != one.machine);
        left = gaps_of(now, &after);
        if left.is_empty() {
            break;
        }
    }
    let some = (!starts.is_empty()).then_some((after, left));
    (starts, some)
}

/// Idle machines on demand that shall stand still from now on, as many as are lacking.
pub fn rest(now: Time, fleet: &Fleet, mix: Option<&Mix>, gaps: &[Gap], floors: &[Floor]) -> Vec<Rest> {
    let Some(mix) = mix.filter(|_| gaps.is_empty()) else {
        return Vec::new();
    };
    let mut lacking = mix.stopped.saturating_sub(fleet.resting.len() as u32);
    let mut gone: Vec<&Unit> = Vec::new();
    let mut rests = Vec::new();
    for unit in &fleet.units {
        let may = unit.pool.market == Market::OnDemand
            && unit.pool.instance_type == mix.instance_type
            && !unit.leaves;
        let idle = keep::idle_too_long(now, fleet, unit).filter(|_| may && lacking > 0);
        let Some(idle) = idle else { continue };
        // One that stands still counts for the floors of those as before.
        let held = floors
            .iter()
            .filter(|floor| !floor.resting)
            .all(|floor| floor::holds_without(fleet, floor, unit, &gone));
        if held {
            lacking -= 1;
            gone.push(unit);
            rests.push(Rest {
                machine: idle.machine,
                idle: idle.idle,
            });
        }
    }
    rests.truncate(DRAINS_PER_PLAN_MAX);
    rests
}

/// Machines that the cloud does not stop, for so long that it never will: they run and do nothing.
pub fn stuck(now: Time, fleet: &Fleet) -> Vec<LetGo> {
    let within = fleet.control.scaling.brakes.join_within;
    let is = |one: &&Resting| {
        one.stopping
            .is_some_and(|since| now.0.saturating_sub(since.0) > within)
    };
    fleet.resting.iter().filter(is).map(let_go).collect()
}

fn let_go(one: &Resting) -> LetGo {
    LetGo {
        machine: one.machine.clone(),
        why: EndWhy::Spare,
        idle: 0,
        keep: 0,
    }
}

/// Machines that stand still and are more than are kept by a quarter, so that a mix that changes a little moves nothing;
/// or of a kind that does not do it. Those dearest to run go.
pub fn surplus(fleet: &Fleet, mix: Option<&Mix>) -> Vec<LetGo> {
    // Nothing is heard of the market: nothing is known to be too much.
    if fleet.control.scaling.spares.is_some() && mix.is_none() {
        return Vec::new();
    }
    let fits = |one: &Resting| mix.is_some_and(|mix| mix.instance_type == one.pool.instance_type);
    let mut resting: Vec<&Resting> = fleet.resting.iter().filter(|one| one.stopped).collect();
    resting.sort_by_key(|one| (!fits(one), one.price, &one.machine));
    let kept = mix.map_or(0, |mix| (mix.stopped + mix.stopped / 4) as usize);
    let fitting = resting.iter().filter(|one| fits(one)).count();
    let over = resting.into_iter().skip(kept.min(fitting));
    over.map(let_go).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grade(photos: u64, price: u64) -> Grade {
        Grade {
            photos,
            price: MicroUsd(price),
        }
    }

    fn counts(burst: u64, most: u32, photos: [u64; 3]) -> (u32, u32, u32, bool) {
        let [hot, stopped, cold] = photos;
        let mix = fill(burst, most, grade(hot, 100), grade(stopped, 1), grade(cold, 0));
        (mix.hot, mix.stopped, mix.cold, mix.late)
    }

    #[test]
    fn as_little_is_kept_as_the_deadline_asks_for() {
        assert_eq!(
            counts(1_000, 10, [300, 200, 100]),
            (0, 0, 10, false),
            "cold ones do it"
        );
        assert_eq!(counts(1_500, 10, [300, 200, 100]), (0, 5, 5, false));
        assert_eq!(counts(2_000, 10, [300, 200, 100]), (0, 10, 0, false));
        assert_eq!(counts(2_500, 10, [300, 200, 100]), (5, 5, 0, false));
        assert_eq!(
            counts(3_001, 10, [300, 200, 100]),
            (10, 0, 0, true),
            "caps beat the deadline"
        );
        assert_eq!(
            counts(300, 10, [300, 0, 0]),
            (1, 0, 0, false),
            "only hot ones are in time"
        );
        assert_eq!(counts(300, 10, [300, 200, 0]), (0, 2, 0, false));
        assert_eq!(counts(300, 0, [300, 200, 100]), (0, 0, 0, true));
    }

    proptest! {
        #[test]
        fn all_is_done_in_time_or_it_is_said(burst in 1u64..5_000, most in 0u32..40, a in 0u64..300, b in 0u64..300, c in 0u64..300) {
            let mut photos = [a, b, c];
            photos.sort_unstable_by(|a, b| b.cmp(a));
            let (hot, stopped, cold, late) = counts(burst, most, photos);
            prop_assert!(hot + stopped + cold <= most);
            let done = u64::from(hot) * photos[0] + u64::from(stopped) * photos[1] + u64::from(cold) * photos[2];
            prop_assert_eq!(done < burst, late);
            prop_assert_eq!(late, u64::from(most) * photos[0] < burst);
        }
    }
}
