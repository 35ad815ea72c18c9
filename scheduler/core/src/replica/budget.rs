//! How many launch calls of a region may begin: more, little by little, while they are taken, and half as many when one is
//! throttled (additive increase, multiplicative decrease; Chiu and Jain, "Analysis of the increase and decrease algorithms",
//! 1989). EC2 throttles each account and region by token buckets whose sizes it may change; what others of the account call
//! counts in them too, so that a fixed rate of our own would be wrong either way.

use crate::limits::{CALLS_AHEAD, CALLS_RATE_MAX, CALLS_RATE_MIN, CALLS_RATE_STEP};
use crate::types::SECOND;

/// Thousandths of a call.
const CALL: u64 = 1_000;

/// One region's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Thousandths of a call that come in a second.
    rate: u64,
    /// Thousandths of a call that may begin now.
    tokens: u64,
    /// Up to when tokens have come, in µs of running time as the cluster's clock counts it.
    at: u64,
}

impl Budget {
    /// A full one.
    pub fn new(elapsed: u64) -> Budget {
        Budget {
            rate: CALLS_RATE_MAX,
            tokens: CALLS_AHEAD * CALL,
            at: elapsed,
        }
    }

    /// Takes one call, if one may begin.
    pub fn take(&mut self, elapsed: u64) -> bool {
        let came = elapsed.saturating_sub(self.at).saturating_mul(self.rate) / SECOND;
        // What is less than a thousandth of a call goes on coming.
        self.at = elapsed.min(self.at + came.saturating_mul(SECOND).div_ceil(self.rate));
        self.tokens = self.tokens.saturating_add(came).min(CALLS_AHEAD * CALL);
        let may = self.tokens >= CALL;
        self.tokens -= if may { CALL } else { 0 };
        may
    }

    /// µs until the next call may begin.
    pub fn wait(&self) -> u64 {
        CALL.saturating_sub(self.tokens)
            .saturating_mul(SECOND)
            .div_ceil(self.rate)
    }

    /// A call was taken.
    pub fn taken(&mut self) {
        self.rate = (self.rate + CALLS_RATE_STEP).min(CALLS_RATE_MAX);
    }

    /// A call was throttled: nothing is left of what was saved up.
    pub fn throttled(&mut self) {
        self.rate = (self.rate / 2).max(CALLS_RATE_MIN);
        self.tokens = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_halves_when_throttled_and_comes_back_little_by_little() {
        let mut budget = Budget::new(0);
        let burst = (0..100).filter(|_| budget.take(0)).count() as u64;
        assert_eq!(burst, CALLS_AHEAD);
        let next = budget.wait();
        assert!(!budget.take(next - 1) && budget.take(next + SECOND / CALLS_RATE_MAX));
        for _ in 0..20 {
            budget.throttled();
        }
        assert_eq!(budget.rate, CALLS_RATE_MIN);
        let begun = 100 * SECOND;
        let mut slow = budget;
        slow.at = begun;
        let calls = (0..60)
            .filter(|second| slow.take(begun + second * SECOND))
            .count() as u64;
        assert_eq!(calls, 59 * CALLS_RATE_MIN / CALL, "as slow as it gets");
        for _ in 0..CALLS_RATE_MAX / CALLS_RATE_STEP {
            budget.taken();
        }
        assert_eq!(budget.rate, CALLS_RATE_MAX);
    }

    proptest! {
        /// However calls come and go, no more begin than its greatest rate allows, and what waits may begin in the end.
        #[test]
        fn it_is_never_exceeded_and_never_stops(steps in prop::collection::vec((0u64..3_000_000, 0u8..8), 1..200)) {
            let mut budget = Budget::new(0);
            let (mut now, mut begun) = (0, 0);
            for (gap, what) in steps {
                now += gap;
                match what {
                    0 => budget.throttled(),
                    1 => budget.taken(),
                    _ => begun += u64::from(budget.take(now)),
                }
                prop_assert!(begun * CALL <= CALLS_AHEAD * CALL + now * CALLS_RATE_MAX / SECOND);
            }
            // It counts whole thousandths.
            prop_assert!(budget.take(now + budget.wait() + SECOND / CALLS_RATE_MIN));
        }
    }
}
