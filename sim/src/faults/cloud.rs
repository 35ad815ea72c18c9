//! Whether a seed's cluster buys machines, and how its cloud behaves meanwhile. Drawn from a branch of its own.

use std::fmt;

use rebound_core::types::{MILLISECOND, SECOND};

use super::seconds;
use crate::cloud::Nature;
use crate::rng::Rng;

/// Of all seeds so many have a cloud, in a million.
const WITH_CLOUD: u64 = 400_000;

/// What is drawn. Times in µs, shares in a million; `every` 0: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// How calls are answered during the storm.
    pub nature: Nature,
    /// From running to the agent's start.
    pub boot: (u64, u64),
    /// Of machines so many never join.
    pub never_joins: u64,
    /// Prices come so often.
    pub prices_every: u64,
    /// The feed of prices is gone each so often, for so long.
    pub feed_gone: (u64, u64),
    /// A machine is taken back so often.
    pub reclaim_every: u64,
    /// Of notices so many never come.
    pub no_notice: u64,
    /// A zone loses all its machines within three minutes so often, and has nothing for so long.
    pub zone_lost: (u64, u64),
    /// No call has an answer each so often, for so long.
    pub cut: (u64, u64),
    /// Most machines, and most vCPUs.
    pub caps: (u32, u32),
    /// Photos without deadline, and late ones, shall be done within so long.
    pub hurry: u64,
    /// Spot may be too dear.
    pub threshold: bool,
    /// Machines that a schedule wants at least, each odd minute.
    pub floor: u32,
    /// Caps are halved, and whole again, so often.
    pub recap: u64,
}

impl Cloud {
    /// Draws it, if the seed has one.
    pub fn draw(rng: &mut Rng) -> Option<Cloud> {
        if !rng.chance(WITH_CLOUD) {
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
            lag: some(SECOND, 300 * SECOND),
            throttled: some(10_000, 500_000),
            failing: some(10_000, 200_000),
            lost: some(10_000, 200_000),
            empty: some(10_000, 200_000),
            room: some(1, 4) as u32 + 1,
            quota: 2 * some(4, 40) as u32 + 8,
        };
        Some(Cloud {
            nature,
            never_joins: some(20_000, 400_000),
            feed_gone: (some(20 * SECOND, 120 * SECOND), some(5 * SECOND, 1_200 * SECOND)),
            reclaim_every: some(10 * SECOND, 200 * SECOND),
            no_notice: some(50_000, 500_000),
            zone_lost: (some(60 * SECOND, 300 * SECOND), some(10 * SECOND, 300 * SECOND)),
            cut: (some(30 * SECOND, 300 * SECOND), some(5 * SECOND, 400 * SECOND)),
            boot: (2 * SECOND, rng.scaled(3 * SECOND, 90 * SECOND)),
            prices_every: rng.scaled(SECOND, 60 * SECOND),
            caps: (rng.within(1, 12) as u32, rng.within(8, 40) as u32),
            hurry: rng.scaled(SECOND, 60 * SECOND),
            threshold: rng.chance(500_000),
            floor: match rng.chance(300_000) {
                true => rng.within(1, 3) as u32,
                false => 0,
            },
            recap: match rng.chance(500_000) {
                true => rng.scaled(5 * SECOND, 60 * SECOND),
                false => 0,
            },
        })
    }

    /// The same without what breaks.
    pub fn calm(&self) -> Nature {
        Nature {
            lag: 10 * MILLISECOND,
            throttled: 0,
            failing: 0,
            lost: 0,
            empty: 0,
            ..self.nature
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |ppm: u64| format!("{} %", ppm / 10_000);
        let every = |(every, long): (u64, u64)| match every {
            0 => "never".to_owned(),
            _ => format!("each {} for {}", seconds(every), seconds(long)),
        };
        let Nature {
            lag,
            throttled,
            failing,
            lost,
            empty,
            room,
            quota,
        } = self.nature;
        write!(
            f,
            "buys at most {} machines and {} vCPUs to be done within {}{}, {} at least by a schedule, caps halved each {}; pools have {room}, the account {quota} vCPUs; lists lag {}; of calls {} \
             throttled, {} failing, {} unanswered, {} empty; boot to {}, {} never join; taken back each {}, {} without notice; \
             unanswered {}; a zone lost {}; prices each {}, gone {}",
            self.caps.0,
            self.caps.1,
            seconds(self.hurry),
            if self.threshold {
                ", of spot below a threshold"
            } else {
                ""
            },
            self.floor,
            seconds(self.recap),
            seconds(lag),
            share(throttled),
            share(failing),
            share(lost),
            share(empty),
            seconds(self.boot.1),
            share(self.never_joins),
            seconds(self.reclaim_every),
            share(self.no_notice),
            every(self.cut),
            every(self.zone_lost),
            seconds(self.prices_every),
            every(self.feed_gone),
        )
    }
}
