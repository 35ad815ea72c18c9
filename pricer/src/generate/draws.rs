//! A distribution as a short list of equally likely values.

use rand::RngCore;
use serde::{Deserialize, Serialize};

/// Most values of a list. More follow the tails better and say more about the one recording than about the market.
pub const VALUES_MAX: usize = 24;

/// A sample in a few numbers: the means of nearly equal parts of it, sorted. Each part is as likely as it is large, so
/// that the mean of the sample is kept, and its tails but for what lies beyond the last part's mean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draws {
    /// Size of the sample.
    of: u32,
    /// Means of its parts.
    means: Vec<u64>,
}

impl Draws {
    /// Fits a sample.
    pub fn fit(mut sample: Vec<u64>) -> Self {
        sample.sort_unstable();
        Self {
            of: u32::try_from(sample.len()).unwrap_or(u32::MAX),
            means: parts(sample.len())
                .map(|part| mean_of(sample.get(part).unwrap_or_default()))
                .collect(),
        }
    }

    /// The same shape with another mean.
    pub fn with_mean(&self, mean: u64) -> Self {
        let own = self.mean();
        if own == 0 {
            return Self {
                of: 1,
                means: vec![mean],
            };
        }
        let scaled = self
            .means
            .iter()
            .map(|value| crate::money::ratio(*value, mean, own));
        Self {
            of: self.of,
            means: scaled.collect(),
        }
    }

    /// The mean of what is drawn; 0 where there is nothing.
    pub fn mean(&self) -> u64 {
        let sizes = parts(self.of as usize).map(|part| part.len() as u128);
        let sum: u128 = self
            .means
            .iter()
            .zip(sizes)
            .map(|(value, size)| u128::from(*value) * size)
            .sum();
        let of = u128::from(self.of.max(1));
        u64::try_from((sum + of / 2) / of).unwrap_or(u64::MAX)
    }

    /// Whether there is nothing to draw, or not what was fitted.
    pub fn is_empty(&self) -> bool {
        self.of == 0 || self.means.len() != parts(self.of as usize).count()
    }

    /// One of the values; 0 where there are none.
    pub fn draw(&self, rng: &mut dyn RngCore) -> u64 {
        self.means.get(draw_part(self.of, rng)).copied().unwrap_or(0)
    }
}

/// Ranges of a sorted sample, at most [`VALUES_MAX`] of them and nearly equal.
pub(super) fn parts(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = len.min(VALUES_MAX);
    (0..parts).map(move |part| part * len / parts..(part + 1) * len / parts)
}

/// Which of the [`parts`] of so large a sample one of its values, all being equally likely, is in.
pub(super) fn draw_part(of: u32, rng: &mut dyn RngCore) -> usize {
    let at = u128::from(below(u64::from(of), rng)) + 1;
    let parts = u128::from(of.min(VALUES_MAX as u32));
    ((at * parts).saturating_sub(1) / u128::from(of.max(1))) as usize
}

pub(super) fn mean_of(values: &[u64]) -> u64 {
    let sum: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let count = values.len().max(1) as u128;
    u64::try_from((sum + count / 2) / count).unwrap_or(u64::MAX)
}

/// A number below `bound`; 0 where that is 0. Does not depend on how a library maps bits to ranges.
pub fn below(bound: u64, rng: &mut dyn RngCore) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    proptest! {
        #[test]
        fn the_mean_is_kept_and_nothing_is_invented(sample in prop::collection::vec(0u64..100_000, 1..300), seed: u64) {
            let draws = Draws::fit(sample.clone());
            let mean = mean_of(&sample);
            prop_assert!(draws.mean().abs_diff(mean) <= 1, "{} {}", draws.mean(), mean);
            let mut rng = SmallRng::seed_from_u64(seed);
            let (low, high) = (*sample.iter().min().unwrap(), *sample.iter().max().unwrap());
            for _ in 0..20 {
                prop_assert!((low..=high).contains(&draws.draw(&mut rng)));
            }
        }

        /// Every value of the sample is drawn by the part it is in.
        #[test]
        fn parts_are_as_likely_as_they_are_large(len in 1usize..200) {
            struct Step(u64);
            impl rand::RngCore for Step {
                fn next_u32(&mut self) -> u32 { 0 }
                fn next_u64(&mut self) -> u64 { self.0 }
                fn fill_bytes(&mut self, _: &mut [u8]) {}
            }
            for at in 0..len {
                // The smallest word that `below` maps to this place.
                let word = ((at as u128) << 64).div_ceil(len as u128) as u64;
                let part = draw_part(len as u32, &mut Step(word));
                prop_assert!(parts(len).nth(part).unwrap().contains(&at));
            }
        }

        #[test]
        fn below_is_below(bound in 1u64.., seed: u64) {
            prop_assert!(below(bound, &mut SmallRng::seed_from_u64(seed)) < bound);
        }
    }

    #[test]
    fn nothing_fitted_draws_nothing() {
        let none = Draws::fit(Vec::new());
        assert!(none.is_empty());
        assert_eq!(none.draw(&mut SmallRng::seed_from_u64(1)), 0);
        assert_eq!(none.with_mean(7).mean(), 7);
    }
}
