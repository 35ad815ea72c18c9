//! Whether a seed's cluster buys machines, how its cloud is when it is well, and what the operator wants of it. Drawn
//! from a branch of its own. What goes wrong there are [kinds](super::Kind) of faults.

use std::fmt;

use rebound_core::types::{MILLISECOND, SECOND};

use super::seconds;
use crate::cloud::Nature;
use crate::rng::Rng;

/// Of all seeds so many have a cloud, in a million.
const WITH_CLOUD: u64 = 400_000;
/// Machines of a pool, and vCPUs of the account, where nothing runs dry.
const PLENTY: (u32, u32) = (1_000, 10_000);

/// What is drawn. Times in µs, shares in a million; `every` 0: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// How lists are, and how many machines there are.
    pub nature: Nature,
    /// From running to the agent's start.
    pub boot: (u64, u64),
    /// Prices come so often.
    pub prices_every: u64,
    /// A photo takes so many times as long as without a cloud: there is work for many machines.
    pub photo_times: u64,
    /// Most machines, and most vCPUs.
    pub caps: (u32, u32),
    /// Photos without deadline, and late ones, shall be done within so long.
    pub hurry: u64,
    /// Spot may be bought.
    pub spot: bool,
    /// Spot may be too dear.
    pub threshold: bool,
    /// Machines that a schedule wants at least, each odd minute.
    pub floor: u32,
    /// Caps are halved, and whole again, so often.
    pub recap: u64,
    /// Photos of a burst that machines are kept for, and within what.
    pub spares: Option<(u32, u64)>,
}

impl Cloud {
    /// Draws it, if the seed has one; `needed`: it has.
    pub fn draw(rng: &mut Rng, needed: bool) -> Option<Cloud> {
        if !rng.chance(WITH_CLOUD) && !needed {
            return None;
        }
        let mut some = |from, to| {
            if rng.chance(600_000) {
                rng.scaled(from, to)
            } else {
                0
            }
        };
        let nature = Nature {
            lag: some(MILLISECOND, SECOND),
            room: some(1, 4) as u32 + 1,
            quota: 2 * some(4, 40) as u32 + 8,
        };
        let mut drawn = Cloud {
            nature,
            boot: (2 * SECOND, rng.scaled(3 * SECOND, 90 * SECOND)),
            prices_every: rng.scaled(SECOND, 60 * SECOND),
            photo_times: rng.scaled(16, 64),
            caps: (rng.within(1, 16) as u32, rng.within(8, 64) as u32),
            hurry: rng.scaled(SECOND, 60 * SECOND),
            threshold: rng.chance(500_000),
            spot: rng.chance(750_000),
            floor: match rng.chance(600_000) {
                true => rng.within(2, 6) as u32,
                false => 0,
            },
            recap: match rng.chance(500_000) {
                true => rng.scaled(5 * SECOND, 60 * SECOND),
                false => 0,
            },
            spares: match rng.chance(500_000) {
                true => Some((rng.within(1, 200) as u32, rng.scaled(12 * SECOND, 60 * SECOND))),
                false => None,
            },
        };
        if drawn.spares.is_some() {
            // Whoever comes must be in a hurry, or nobody who stands still is asked.
            drawn.hurry = drawn.hurry.min(4 * SECOND);
        }
        Some(drawn)
    }

    /// Whatever is asked for is there.
    pub fn has_plenty(&mut self) {
        (self.nature.room, self.nature.quota) = PLENTY;
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nature { lag, room, quota } = self.nature;
        write!(
            f,
            "photos take {} times as long; buys at most {} machines and {} vCPUs to be done within {}{}, {} at least by a schedule, caps halved each {}{}; \
             pools have {room}, the account {quota} vCPUs; lists lag {}; boot to {}; prices each {}",
            self.photo_times,
            self.caps.0,
            self.caps.1,
            seconds(self.hurry),
            match (self.spot, self.threshold) {
                (false, _) => ", none of spot",
                (true, true) => ", of spot below a threshold",
                (true, false) => "",
            },
            self.floor,
            seconds(self.recap),
            match self.spares {
                Some((photos, within)) => format!(", kept for {photos} photos within {}", seconds(within)),
                None => String::new(),
            },
            seconds(lag),
            seconds(self.boot.1),
            seconds(self.prices_every),
        )
    }
}
