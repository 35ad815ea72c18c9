//! Workers at which one photo after the other fails while others do such photos well: a mount that is gone, a recogniser
//! that does not load, a rule that forbids where the photos are. They fail at once, so that their slots are always free:
//! whoever gives to free slots would give them everything, and good photos would use up their attempts there.

use std::collections::BTreeMap;

use crate::event::{Cause, Event, Fact};
use crate::limits::{BRAKE_AFTER, BRAKE_MAX, BRAKE_MIN};
use crate::types::{JobId, SpecId, WorkerId};

/// Failures in a row of one spec at one worker.
#[derive(Clone, Copy, Debug)]
struct Streak {
    /// Running time of the first of them.
    since: u64,
    count: u32,
    /// It gets none of them until then, in running time; and for how long that is.
    until: u64,
    pause: u64,
}

/// What fails at one worker.
#[derive(Clone, Debug, Default)]
pub struct Trouble(BTreeMap<SpecId, Streak>);

impl Trouble {
    /// True while the worker gets no photos of a spec.
    pub fn is_braked(&self, spec: SpecId, elapsed: u64) -> bool {
        self.0.get(&spec).is_some_and(|streak| elapsed < streak.until)
    }
}

/// What a leader has seen fail, and be done.
#[derive(Clone, Debug, Default)]
pub struct Brakes {
    workers: BTreeMap<WorkerId, Trouble>,
    /// Running time when a photo of a spec was last done, by whomever.
    done: BTreeMap<SpecId, u64>,
}

impl Brakes {
    /// Something became true; `spec_of` says what runs a job.
    pub fn note(&mut self, event: &Event, elapsed: u64, spec_of: impl Fn(JobId) -> Option<SpecId>) {
        let of_photos = matches!(event.fact, Fact::Recorded { .. } | Fact::Requeued { .. });
        let Some(spec) = event.job.filter(|_| of_photos).and_then(spec_of) else {
            return;
        };
        match &event.fact {
            Fact::Recorded {
                worker, cause: None, ..
            } => self.did(*worker, spec, elapsed),
            Fact::Recorded {
                worker,
                cause: Some(cause),
                ..
            }
            | Fact::Requeued { worker, cause, .. }
                if may_be_the_workers(*cause) =>
            {
                self.failed(*worker, spec, elapsed);
            }
            _ => {}
        }
    }

    fn did(&mut self, worker: WorkerId, spec: SpecId, elapsed: u64) {
        self.done.insert(spec, elapsed);
        if let Some(trouble) = self.workers.get_mut(&worker) {
            trouble.0.remove(&spec);
            if trouble.0.is_empty() {
                self.workers.remove(&worker);
            }
        }
    }

    fn failed(&mut self, worker: WorkerId, spec: SpecId, elapsed: u64) {
        let streak = self.workers.entry(worker).or_default().0.entry(spec);
        let streak = streak.or_insert(Streak {
            since: elapsed,
            count: 0,
            until: 0,
            pause: 0,
        });
        streak.count = streak.count.saturating_add(1);
        // Where nobody does such photos well it is not the worker.
        let others_do = self.done.get(&spec).is_some_and(|at| *at >= streak.since);
        if streak.count >= BRAKE_AFTER && others_do && elapsed >= streak.until {
            streak.pause = (streak.pause * 2).clamp(BRAKE_MIN, BRAKE_MAX);
            streak.until = elapsed.saturating_add(streak.pause);
        }
    }

    /// What fails at a worker, if anything does.
    pub fn of(&self, worker: WorkerId) -> Option<&Trouble> {
        self.workers.get(&worker)
    }

    /// Forgets workers and specs that are gone.
    pub fn retain(&mut self, is_live: impl Fn(WorkerId) -> bool, is_known: impl Fn(SpecId) -> bool) {
        self.workers.retain(|worker, _| is_live(*worker));
        self.done.retain(|spec, _| is_known(*spec));
    }

    /// True when a pause has ended between two running times: its worker may be given something again.
    pub fn any_ended(&self, before: u64, elapsed: u64) -> bool {
        let ended = |streak: &Streak| before < streak.until && streak.until <= elapsed;
        self.workers.values().any(|trouble| trouble.0.values().any(ended))
    }
}

/// A photo that is no image is so everywhere, and what the cluster did is nobody's fault.
fn may_be_the_workers(cause: Cause) -> bool {
    match cause {
        Cause::Fetch | Cause::Crashed | Cause::Timeout | Cause::Recogniser | Cause::Released => true,
        Cause::Input
        | Cause::ResultTooLarge
        | Cause::WorkerLost
        | Cause::Quarantined
        | Cause::TakenBack
        | Cause::Dropped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SECOND;

    const SPEC: SpecId = SpecId(7);
    const BAD: WorkerId = WorkerId(1);
    const GOOD: WorkerId = WorkerId(2);

    fn braked(brakes: &Brakes, worker: WorkerId, elapsed: u64) -> bool {
        brakes.of(worker).is_some_and(|one| one.is_braked(SPEC, elapsed))
    }

    #[test]
    fn who_fails_what_others_do_is_braked_for_longer_and_longer() {
        let mut brakes = Brakes::default();
        let mut now = SECOND;
        for _ in 0..BRAKE_AFTER {
            brakes.failed(BAD, SPEC, now);
        }
        assert!(!braked(&brakes, BAD, now), "nobody has done one yet");
        brakes.did(GOOD, SPEC, now);
        let mut pause = BRAKE_MIN;
        for _ in 0..10 {
            brakes.failed(BAD, SPEC, now);
            // What it held fails, too, and makes it no longer.
            brakes.failed(BAD, SPEC, now + 1);
            assert!(braked(&brakes, BAD, now) && braked(&brakes, BAD, now + pause - 1));
            assert!(!brakes.any_ended(now, now + pause - 1));
            assert!(!braked(&brakes, BAD, now + pause) && brakes.any_ended(now, now + pause));
            assert!(!braked(&brakes, GOOD, now));
            now += pause;
            pause = (pause * 2).min(BRAKE_MAX);
        }
        brakes.did(BAD, SPEC, now);
        assert!(brakes.of(BAD).is_none());
    }

    #[test]
    fn what_nobody_does_well_brakes_nobody() {
        let mut brakes = Brakes::default();
        brakes.did(GOOD, SPEC, 5);
        for now in 6..100 {
            brakes.failed(BAD, SPEC, now);
            brakes.failed(GOOD, SPEC, now);
        }
        assert!(!braked(&brakes, BAD, 100) && !braked(&brakes, GOOD, 100));
        brakes.retain(|worker| worker == GOOD, |_| false);
        assert!(brakes.of(BAD).is_none() && brakes.of(GOOD).is_some() && brakes.done.is_empty());
    }
}
