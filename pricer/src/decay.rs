//! Counts that fade: half is left after a half-life. Integers, so that each replica and each replay agrees.

use rebound_core::types::Time;
use serde::Serialize;

/// Steps into which a half-life is divided; a count fades in these.
const STEPS: u64 = 64;
/// 2^(-1/64), in parts of 2^32.
const STEP_Q32: u64 = 4_248_701_965;
/// Counts are kept in millionths, so that what fades does not vanish at once.
pub const UNIT: u64 = 1_000_000;

/// A count that fades with a half-life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fading {
    millionths: u64,
    at: Time,
}

impl Fading {
    /// What is left of `millionths` counted in full.
    pub fn left(&self, now: Time, half_life: u64) -> u64 {
        let steps = steps(self.at, now, half_life);
        fade(self.millionths, steps)
    }

    /// Counts `millionths` more at `now`. A `now` before an earlier one counts as that.
    pub fn add(&mut self, millionths: u64, now: Time, half_life: u64) {
        let steps = steps(self.at, now, half_life);
        self.millionths = fade(self.millionths, steps).saturating_add(millionths);
        // Whole steps only, or many small ones would round the time away.
        self.at = if self.at == Time(0) {
            now
        } else {
            Time(self.at.0 + steps * step(half_life))
        };
    }
}

fn step(half_life: u64) -> u64 {
    (half_life / STEPS).max(1)
}

fn steps(from: Time, to: Time, half_life: u64) -> u64 {
    if from == Time(0) {
        return 0;
    }
    to.0.saturating_sub(from.0) / step(half_life)
}

/// `count` × 2^(-steps/64), rounded down once: rounded at each step, a small count would be gone after a few
/// steps and back at the next halving.
fn fade(count: u64, steps: u64) -> u64 {
    let halvings = u32::try_from(steps / STEPS).unwrap_or(u32::MAX);
    let part = (0..steps % STEPS).fold(1u64 << 32, |part, _| (part * STEP_Q32) >> 32);
    let left = (u128::from(count) * u128::from(part)) >> 32;
    u64::try_from(left.checked_shr(halvings).unwrap_or(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF: u64 = 64_000;

    #[test]
    fn half_is_left_after_a_half_life() {
        let mut count = Fading::default();
        count.add(8 * UNIT, Time(1_000), HALF);
        let table = [
            (0, 8_000_000),
            (HALF, 4_000_000),
            (3 * HALF, 1_000_000),
            (90 * HALF, 0),
        ];
        for (later, left) in table {
            assert_eq!(count.left(Time(1_000 + later), HALF), left);
        }
        let quarter = count.left(Time(1_000 + HALF / 2), HALF);
        assert!(
            (5_656_800..=5_656_900).contains(&quarter),
            "8 ÷ √2 is 5.65685, not {quarter}"
        );
        assert_eq!(
            count.left(Time(0), HALF),
            8_000_000,
            "time that goes back fades nothing"
        );
    }

    #[test]
    fn small_counts_never_come_back() {
        for count in 0..200 {
            let left: Vec<u64> = (0..4 * STEPS).map(|steps| fade(count, steps)).collect();
            assert!(
                left.is_sorted_by(|before, after| before >= after),
                "{count}: {left:?}"
            );
        }
    }

    proptest! {
        /// Looking often is like looking once, but for rounding.
        #[test]
        fn many_small_steps_are_one_large(gaps in prop::collection::vec(1u64..5_000, 1..100)) {
            let mut often = Fading::default();
            often.add(1_000 * UNIT, Time(1), HALF);
            let once = often;
            let mut now = 1;
            for gap in &gaps {
                now += gap;
                often.add(0, Time(now), HALF);
            }
            let (often, once) = (often.left(Time(now), HALF), once.left(Time(now), HALF));
            prop_assert!(often.abs_diff(once) <= 200, "{often} {once}");
        }

        #[test]
        fn never_grows(count in 0u64..u64::MAX / 2, early in 0u64..10_000_000, more in 0u64..10_000_000) {
            let mut fading = Fading::default();
            fading.add(count, Time(1), HALF);
            let first = fading.left(Time(1 + early), HALF);
            prop_assert!(fading.left(Time(1 + early + more), HALF) <= first);
            prop_assert!(first <= count);
        }
    }
}
