//! Randomness as a tree: each user draws from a branch of its own, so that a new draw in one place leaves all the
//! others as they were.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A branch of the tree.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: u64,
    own: SmallRng,
}

impl Rng {
    /// The root.
    pub fn new(seed: u64) -> Rng {
        Rng {
            seed,
            own: SmallRng::seed_from_u64(seed),
        }
    }

    /// The branch of a name: the same for the same root, whatever was drawn before.
    pub fn branch(&self, name: &str) -> Rng {
        Rng::new(xxh3_64_with_seed(name.as_bytes(), self.seed))
    }

    /// A number within `from..=to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        self.own.random_range(from..=to)
    }

    /// A number within `from..=to`, small ones as likely as large ones: first its magnitude is drawn, then itself.
    /// `from` is at least 1.
    pub fn scaled(&mut self, from: u64, to: u64) -> u64 {
        let doublings = (to / from.max(1)).max(1).ilog2();
        let low = from << self.within(0, u64::from(doublings));
        self.within(low, to.min(low.saturating_mul(2)))
    }

    /// True `times` in a million.
    pub fn chance(&mut self, ppm: u64) -> bool {
        self.within(0, 999_999) < ppm
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.own.random()
    }

    /// For what draws by itself.
    pub fn draws(&mut self) -> &mut SmallRng {
        &mut self.own
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let last = among.len().checked_sub(1)?;
        among.get(self.within(0, last as u64) as usize)
    }
}
