//! Photos that come in the market's time: waves, as after shops' opening hours, or an even stream.

use rebound_core::types::{SECOND, Time};
use serde::Serialize;

use crate::rng::Rng;

/// Photos of one wave: between these, few of them large.
const WAVE: (u64, u64) = (200, 20_000);
/// Its photos come within so long, in µs.
const WAVE_OVER: (u64, u64) = (5 * SECOND, 60 * SECOND);
/// From one wave to the next, in µs.
const WAVE_GAP: (u64, u64) = (8 * 60 * SECOND, 40 * 60 * SECOND);
/// The first one comes so long after the beginning.
const FIRST: (u64, u64) = (2 * 60 * SECOND, 10 * 60 * SECOND);
/// Photos of an even stream in a minute.
const STEADY_A_MINUTE: u64 = 120;
/// Photos of a burst, and from one to the next.
const BURST: u64 = 5_000;
const BURST_GAP: u64 = 30 * MINUTE;
const MINUTE: u64 = 60 * SECOND;

/// How photos come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// 200 to 20 000 at once, then none for a while.
    Waves,
    /// 120 a minute.
    Steady,
    /// 5 000 at once, and 5 000 over a minute, in turns, each when the one before is long done.
    Bursts,
}

/// Photos that come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wave {
    /// The first one, by the market's clock.
    pub at: Time,
    /// How many.
    pub photos: u64,
    /// They come evenly within so long, in µs.
    pub over: u64,
}

/// All that comes between two instants. The same seed, the same photos.
pub fn waves(load: Load, seed: u64, from: Time, until: Time) -> Vec<Wave> {
    let mut rng = Rng::new(seed).branch("load");
    let mut all = Vec::new();
    match load {
        Load::Waves => {
            let mut at = from.0 + rng.within(FIRST.0, FIRST.1);
            while at < until.0 {
                all.push(Wave {
                    at: Time(at),
                    photos: rng.scaled(WAVE.0, WAVE.1),
                    over: rng.within(WAVE_OVER.0, WAVE_OVER.1),
                });
                at += rng.within(WAVE_GAP.0, WAVE_GAP.1);
            }
        }
        Load::Bursts => {
            let count = until.0.saturating_sub(from.0) / BURST_GAP;
            all.extend((0..count).map(|number| Wave {
                at: Time(from.0 + MINUTE + number * BURST_GAP),
                photos: BURST,
                over: number % 2 * MINUTE,
            }));
        }
        Load::Steady => {
            let minutes = until.0.saturating_sub(from.0) / MINUTE;
            all.extend((0..minutes).map(|minute| Wave {
                at: Time(from.0 + minute * MINUTE),
                photos: STEADY_A_MINUTE,
                over: MINUTE,
            }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_come_within_their_time_and_again_the_same() {
        let (from, until) = (Time(1_000 * MINUTE), Time(1_360 * MINUTE));
        let first = waves(Load::Waves, 7, from, until);
        assert_eq!(first, waves(Load::Waves, 7, from, until));
        assert_ne!(first, waves(Load::Waves, 8, from, until));
        assert!((8..=45).contains(&first.len()), "{}", first.len());
        let fits =
            |wave: &Wave| from <= wave.at && wave.at < until && (WAVE.0..=WAVE.1).contains(&wave.photos);
        assert!(first.iter().all(fits));
        let steady: u64 = waves(Load::Steady, 1, from, until)
            .iter()
            .map(|wave| wave.photos)
            .sum();
        assert_eq!(steady, 360 * STEADY_A_MINUTE);
        let bursts = waves(Load::Bursts, 1, from, until);
        assert_eq!((bursts.len(), bursts[0].over, bursts[1].over), (12, 0, MINUTE));
    }
}
