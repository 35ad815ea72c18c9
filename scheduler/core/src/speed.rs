//! How fast the cluster works photos off, as its leader sees it: what workers measured of each spec, and how much of
//! their slots' time comes out as photos while there is more to do. Volatile, and for estimates alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{SPEED_GAP_MAX, SPEED_PHOTOS, SPEED_SPECS, SPEED_WINDOW, SPEED_WINDOW_MAX};
use crate::pace::Pace;
use crate::state::State;
use crate::state::workers::{Standing, Worker};
use crate::types::{Mono, SpecId, WorkerId};

/// Rates are counted in photos in so many µs.
const RATE: u64 = 1_000_000_000_000;
/// The whole of a slot's time.
const WHOLE: u64 = 1_000_000_000;
/// µs of running time for which what was seen of the workers counts, for each of them: to look costs far less.
const EACH: u64 = 50;
/// So few workers are looked at each time.
const FEW: usize = 16;
/// A newer value of a service time counts for one in so many, at most once in [`SPEED_WINDOW`].
const SMOOTHING: u64 = 4;

/// What runs a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Slots of the workers that could.
    pub slots: u64,
    /// µs that one photo takes in its slot, on the whole; none: nobody has measured it.
    pub service: Option<u64>,
    at: Mono,
    smoothed: Mono,
}

/// See the module.
#[derive(Default)]
pub struct Speed {
    specs: BTreeMap<SpecId, Measured>,
    /// Workers that had no reason to stand idle at the last sample, and their slots together.
    busy: BTreeSet<WorkerId>,
    slots: u64,
    sampled: Mono,
    /// Since when is counted.
    since: Mono,
    /// µs of busy workers' slots, and what of them came out as photos.
    spent: u128,
    done: u128,
    photos: u64,
    /// Photos ended that nobody had measured.
    blind: bool,
    /// Of [`WHOLE`].
    comes_out: Option<u64>,
}

impl Speed {
    /// What is known of a spec; none when no worker could run it.
    pub fn of(&self, spec: SpecId) -> Option<Measured> {
        self.specs.get(&spec).copied().filter(|one| one.slots > 0)
    }

    /// µs until so much work is done, in µs of slots, by so many slots.
    pub fn takes(&self, work: u128, slots: u64) -> u64 {
        let whole = work * u128::from(WHOLE);
        let us = whole / (u128::from(slots.max(1)) * u128::from(self.comes_out.unwrap_or(WHOLE)));
        u64::try_from(us).unwrap_or(u64::MAX)
    }

    /// Looks at the workers again for a spec, unless that was just done.
    pub fn look(&mut self, now: Mono, state: &State, paces: &BTreeMap<WorkerId, Pace>, spec: SpecId) {
        let before = self.specs.get(&spec).copied();
        let stays = EACH * state.workers.live_count().saturating_sub(FEW) as u64;
        if before.is_some_and(|one| now.0 < one.at.0 + stays) {
            return;
        }
        if state.specs.get(spec).is_none() {
            return;
        }
        let (mut slots, mut known, mut rate) = (0, 0, 0u64);
        for (id, worker) in state.workers.iter_live() {
            if worker.standing != Standing::Active || !state.may_run(&worker.join, spec) {
                continue;
            }
            let of = u64::from(worker.join.slots);
            slots += of;
            if let Some(us) = paces.get(&id).and_then(|pace| pace.service(spec)) {
                known += of;
                rate += of * RATE / us;
            }
        }
        let service = (known * RATE).checked_div(rate).filter(|_| known > 0);
        let (service, smoothed) = match before {
            Some(one) if one.service.is_some() && now.0 < one.smoothed.0 + SPEED_WINDOW / 2 => {
                (one.service, one.smoothed)
            }
            Some(Measured {
                service: Some(old), ..
            }) => {
                let mixed = service.map(|new| (old * (SMOOTHING - 1) + new).div_ceil(SMOOTHING));
                (mixed.or(Some(old)), now)
            }
            _ => (service, now),
        };
        if self.specs.len() >= SPEED_SPECS {
            self.specs.clear();
        }
        let measured = Measured {
            slots,
            service,
            at: now,
            smoothed,
        };
        self.specs.insert(spec, measured);
    }

    /// Photos of a spec have ended on a worker.
    pub fn ended(&mut self, worker: WorkerId, spec: SpecId, count: u64) {
        if !self.busy.contains(&worker) {
            return;
        }
        match self.of(spec).and_then(|one| one.service) {
            Some(us) => self.done += u128::from(us) * u128::from(count),
            None => self.blind = true,
        }
        self.photos += count;
    }

    /// Notes who has no reason to stand idle: who holds a photo a slot, or could run what waits.
    pub fn sample(
        &mut self,
        now: Mono,
        state: &State,
        paces: &BTreeMap<WorkerId, Pace>,
        takes: impl Fn(WorkerId) -> bool,
    ) {
        let workers = state.workers.live_count() as u64;
        let passed = now.0.saturating_sub(self.sampled.0);
        if passed < 2 * EACH * workers {
            return;
        }
        self.sampled = now;
        self.spent += u128::from(passed) * u128::from(self.slots);
        let idle = state.runs.is_empty() && state.jobs.nothing_queued();
        if passed > SPEED_GAP_MAX || idle {
            self.begin(now);
        }
        self.busy.clear();
        self.slots = 0;
        if idle {
            return;
        }
        let limited = |spec: &SpecId| {
            let env = state.specs.home(*spec);
            env.is_none_or(|env| {
                let given = state.environments.get(env).map_or(0, |one| one.counts.given);
                given >= state.allotment(env).given
            })
        };
        let wanted: Vec<SpecId> = state.jobs.queued_specs().take(SPEED_SPECS_LOOKED).collect();
        wanted.iter().for_each(|spec| self.look(now, state, paces, *spec));
        let wanted: Vec<_> = wanted.iter().filter(|spec| !limited(spec)).collect();
        let could = |worker: &Worker| wanted.iter().any(|spec| state.may_run(&worker.join, **spec));
        for (id, worker) in state.workers.iter_live() {
            let full = state.runs.held_by(id) >= u64::from(worker.join.slots);
            if full || worker.standing == Standing::Active && takes(id) && could(worker) {
                self.busy.insert(id);
                self.slots += u64::from(worker.join.slots);
            }
        }
        self.close(now);
    }

    /// What was counted long enough tells how much of the slots' time comes out.
    fn close(&mut self, now: Mono) {
        let long = now.0.saturating_sub(self.since.0);
        let least = match self.comes_out {
            None => SPEED_WINDOW / 4,
            Some(_) => SPEED_WINDOW,
        };
        if long < least || (self.photos < SPEED_PHOTOS && long < SPEED_WINDOW_MAX) {
            return;
        }
        if !self.blind && self.spent > 0 && self.done > 0 {
            let new = (self.done * u128::from(WHOLE) / self.spent).clamp(1, u128::from(u32::MAX)) as u64;
            self.comes_out = Some(match self.comes_out {
                None => new,
                Some(old) => (old * (SMOOTHING - 1) + new).div_ceil(SMOOTHING),
            });
        }
        self.begin(now);
    }

    fn begin(&mut self, now: Mono) {
        (self.since, self.spent, self.done) = (now, 0, 0);
        (self.photos, self.blind) = (0, false);
    }
}

/// Queued specs that a sample looks at.
const SPEED_SPECS_LOOKED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SECOND;

    fn speed(spec: u64, service: Option<u64>) -> Speed {
        let measured = Measured {
            slots: 4,
            service,
            at: Mono(0),
            smoothed: Mono(0),
        };
        Speed {
            specs: BTreeMap::from([(SpecId(spec), measured)]),
            busy: BTreeSet::from([WorkerId(1)]),
            slots: 4,
            ..Speed::default()
        }
    }

    /// `windows` seconds, in each of which so many photos end.
    fn run(speed: &mut Speed, windows: u64, photos: u64) {
        for _ in 0..windows {
            speed.ended(WorkerId(1), SpecId(7), photos);
            speed.spent += u128::from(4 * SECOND);
            let now = Mono(speed.since.0 + SECOND);
            speed.close(now);
        }
    }

    #[test]
    fn slots_count_for_what_comes_out_of_them() {
        let mut speed = speed(7, Some(10_000));
        // Four slots of 10 ms are 400 photos a second.
        assert_eq!(speed.takes(400 * 10_000, 4), SECOND);
        run(&mut speed, 1, 200);
        assert_eq!(speed.takes(400 * 10_000, 4), 2 * SECOND);
        run(&mut speed, 60, 400);
        assert!(speed.takes(400 * 10_000, 4).abs_diff(SECOND) < SECOND / 100);
    }

    #[test]
    fn who_may_stand_idle_or_was_not_measured_says_nothing() {
        let mut idle = speed(7, Some(10_000));
        idle.ended(WorkerId(2), SpecId(7), 100);
        assert_eq!((idle.done, idle.photos), (0, 0));
        let mut blind = speed(7, None);
        run(&mut blind, 3, 100);
        assert_eq!(blind.comes_out, None);
    }

    #[test]
    fn few_photos_are_counted_for_longer() {
        let mut slow = speed(7, Some(SECOND));
        run(&mut slow, 1, 1);
        assert_eq!((slow.comes_out, slow.photos), (None, 1));
        slow.ended(WorkerId(1), SpecId(7), SPEED_PHOTOS);
        slow.close(Mono(2 * SECOND));
        assert!(slow.comes_out.is_some());
    }

    #[test]
    fn samples_are_taken_when_enough_time_has_passed_for_the_workers_there_are() {
        let (mut speed, paces) = (Speed::default(), BTreeMap::new());
        let state = State::new(crate::plant::Plant::None);
        speed.sample(Mono(5), &state, &paces, |_| true);
        assert_eq!(
            (speed.sampled, speed.since),
            (Mono(5), Mono(5)),
            "nobody has work: counted anew"
        );
    }
}
