//! How fast a worker is, as it measured itself, and how many photos it may hold for it. Volatile: a leader knows what
//! its workers said to it, and nothing of this is in the log.

use std::collections::BTreeMap;

use crate::limits::{CREDIT_TASKS_MAX, PACE_US_MAX, TURN_ANSWERS};
use crate::plan::Policy;
use crate::types::SpecId;

/// What a worker measured of itself. Times are µs, at most [`PACE_US_MAX`]; 0: not measured yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From sending results to their answer: the network there and back, and one entry.
    pub answer: u64,
    /// From the order to fetch a photo until it is there.
    pub fetch: u64,
    /// Of one photo in its slot, by what runs it.
    pub service: BTreeMap<SpecId, u64>,
    /// How long the oldest photo in a slot has been in it.
    pub running: BTreeMap<SpecId, u64>,
}

impl Pace {
    /// µs of one photo of a spec in its slot, if that was measured.
    pub fn service(&self, spec: SpecId) -> Option<u64> {
        let measured = self.service.get(&spec).copied().filter(|us| *us > 0);
        measured.map(|us| us.min(PACE_US_MAX))
    }

    /// µs that one photo of a spec takes at least: as long as measured, or as one has been in its slot now. One that
    /// hangs shows before it ends.
    pub fn at_least(&self, spec: SpecId) -> Option<u64> {
        let running = self.running.get(&spec).copied().filter(|us| *us > 0);
        self.service(spec).max(running.map(|us| us.min(PACE_US_MAX)))
    }

    /// µs from a result's sending until what is given for it has come and is fetched: the result's entry, and then the
    /// plan's, take an answer's time each.
    pub fn turn(&self) -> u64 {
        let answer = self.answer.min(PACE_US_MAX);
        TURN_ANSWERS * answer + self.fetch.min(PACE_US_MAX)
    }
}

/// How many photos of a spec a worker of so many slots may hold: one a slot, and those that it ends until new ones
/// have come, `rate × (round trip + fetch)`. As many as the policy says until all of it was measured.
pub fn credit(policy: &Policy, slots: u32, pace: Option<&Pace>, spec: SpecId) -> u32 {
    let measured = pace.and_then(|pace| {
        let service = pace.service(spec)?;
        (pace.answer > 0).then(|| u64::from(slots) * pace.turn() / service)
    });
    let most = slots
        .saturating_mul(policy.credit_max.max(1))
        .min(CREDIT_TASKS_MAX.max(slots));
    let held = match measured {
        // Rounded up: a slot that falls free finds a photo.
        Some(ahead) => slots.saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1)),
        None => slots.saturating_mul(policy.credit_per_slot),
    };
    held.clamp(slots.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CREDIT_MAX;
    use crate::types::{MILLISECOND, SECOND};

    fn of(slots: u32, answer: u64, fetch: u64, service: u64) -> u32 {
        let pace = Pace {
            answer,
            fetch,
            service: BTreeMap::from([(SpecId(1), service)]),
            ..Pace::default()
        };
        credit(&Policy::default(), slots, Some(&pace), SpecId(1))
    }

    #[test]
    fn two_a_slot_until_measured() {
        let policy = Policy::default();
        assert_eq!(credit(&policy, 4, None, SpecId(1)), 8);
        assert_eq!(of(4, 0, 0, 10), 8, "no answer yet");
        assert_eq!(of(4, MILLISECOND, 0, 0), 8, "no photo yet");
        let other = Pace {
            answer: MILLISECOND,
            service: BTreeMap::from([(SpecId(2), 5)]),
            ..Pace::default()
        };
        assert_eq!(
            credit(&policy, 4, Some(&other), SpecId(1)),
            8,
            "only another spec"
        );
    }

    #[test]
    fn what_hangs_is_slow_though_never_measured() {
        let pace = Pace {
            running: BTreeMap::from([(SpecId(1), SECOND), (SpecId(2), SECOND)]),
            service: BTreeMap::from([(SpecId(2), 3 * SECOND)]),
            ..Pace::default()
        };
        let at_least = |spec| pace.at_least(SpecId(spec));
        assert_eq!(
            (at_least(1), at_least(2), at_least(3)),
            (Some(SECOND), Some(3 * SECOND), None)
        );
        assert_eq!(pace.service(SpecId(1)), None);
    }

    #[test]
    fn a_slow_recogniser_has_one_photo_more_than_slots() {
        assert_eq!(of(4, 3 * MILLISECOND, 10 * MILLISECOND, SECOND), 5);
        assert_eq!(of(1, 3 * MILLISECOND, 500 * MILLISECOND, SECOND), 2);
    }

    #[test]
    fn a_fast_one_has_what_it_ends_in_a_round_trip() {
        // 4 slots at 1 ms do 4 photos a ms; an answer of 3 ms, twice, is 6 ms.
        assert_eq!(of(4, 3 * MILLISECOND, 0, MILLISECOND), 4 + 24 + 1);
        assert_eq!(of(4, 3 * MILLISECOND, 10 * MILLISECOND, MILLISECOND), 4 + 64 + 1);
    }

    #[test]
    fn whatever_was_said_the_bounds_hold() {
        assert_eq!(of(4, u64::MAX, u64::MAX, 1), 4 * CREDIT_MAX);
        assert_eq!(of(1_024, u64::MAX, u64::MAX, 1), CREDIT_TASKS_MAX);
        assert_eq!(of(4, 1, 0, u64::MAX), 5);
        let narrow = Policy {
            credit_max: 1,
            ..Policy::default()
        };
        assert_eq!(credit(&narrow, 4, None, SpecId(1)), 4);
    }
}
