//! The renderer's own random numbers: SplitMix64, so that a seed means the same pictures on every machine and
//! with every version of any library.

/// A stream of random numbers that depends on nothing but its seed.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of one photo: `seed` is the run's, `photo` the photo's place in it, counted from 1.
    pub fn of_photo(seed: u64, photo: u32) -> Dice {
        let mut mixed = Dice { state: seed };
        let start = mixed.word() ^ (u64::from(photo) << 20);
        let mut dice = Dice { state: start };
        dice.state = dice.word();
        dice
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number from 0 up to, not including, `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u32) -> u32 {
        (((self.word() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// A whole number from `least` to `most`, both included.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// A number from `least` up to, not including, `end`. 24 random bits, exact in `f32`.
    pub fn real(&mut self, least: f32, end: f32) -> f32 {
        least + (end - least) * ((self.word() >> 40) as f32 / 16_777_216.0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`, `None` when there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len() as u32) as usize)
    }

    /// Puts `things` into a random order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let take = |seed, photo| {
            let mut dice = Dice::of_photo(seed, photo);
            [dice.word(), dice.word(), dice.word()]
        };
        assert_eq!(take(7, 1), take(7, 1));
        assert_ne!(take(7, 1), take(7, 2));
        assert_ne!(take(7, 1), take(8, 1));
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut dice = Dice::of_photo(1, 1);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[(dice.between(3, 7) - 3) as usize] = true;
            let real = dice.real(-1.0, 2.0);
            assert!((-1.0..2.0).contains(&real));
        }
        assert_eq!(seen, [true; 5], "every value turns up");
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
