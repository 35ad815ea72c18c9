//! Capacity that comes and goes, whatever the price does.
//!
//! Times with a machine and times without one follow each other, each drawn by itself. The fit keeps the share of time
//! with a machine and the machines lost an instance-hour. It forgets hours of the day and what other zones do: zones
//! fail fairly independently, so each takes a generator of its own.

use rand::RngCore;
use rebound_core::types::SECOND;
use serde::{Deserialize, Serialize};

use super::draws::{Draws, below};
use crate::advisor::interruptions_of;
use crate::feed::Capacity;
use crate::money::ratio;
use crate::stats::uptime;

/// Means of -ln(1 - u) over 16 equal parts, in thousandths: spells that end by chance alone, with a mean of 1000.
const BY_CHANCE: [u64; 16] = [
    32, 99, 170, 247, 331, 422, 522, 633, 758, 902, 1_069, 1_271, 1_523, 1_863, 2_386, 3_773,
];
/// Most spells of one series, so that spells of a second do not fill the memory.
const SPELLS_MAX: usize = 4_000_000;

/// Fitted spells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spells {
    /// Time with a machine, in seconds.
    up_s: Draws,
    /// Time without one, in seconds.
    down_s: Draws,
}

impl Spells {
    /// Fits a capacity of one machine, or of several that are taken for one. Nothing where none was ever lost, or none
    /// ever came back.
    pub fn fit(all: &Capacity) -> Option<Self> {
        let began = all.points.first()?.0;
        let (up, some) = uptime(all);
        let down = (all.end - began).saturating_sub(some);
        let pairs = all.points.iter().zip(all.points.iter().skip(1));
        let returns = pairs.filter(|(a, b)| a.1 == 0 && b.1 > 0).count() as u64;
        if all.lost == 0 || returns == 0 {
            return None;
        }
        let seconds = |spells: &[u64]| Draws::fit(spells.iter().map(|spell| spell / SECOND).collect());
        // Spells that the recording cuts off count by their time: means are of all time, shapes of whole spells.
        Some(Self {
            up_s: seconds(&all.lives).with_mean(up / all.lost / SECOND),
            down_s: seconds(&all.downs).with_mean(down / returns / SECOND),
        })
    }

    /// Whether a series can be made of it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        if self.up_s.is_empty() || self.down_s.is_empty() {
            return Err("up_s or down_s is empty, or not as long as its sample says".into());
        }
        Ok(())
    }

    /// As the spot advisor has it: interruptions by a band, each followed by `down_s` seconds without capacity in the
    /// mean.
    pub fn of_band(band: Option<u8>, down_s: u64) -> Self {
        let life_s = ratio(3_600, 1_000_000, interruptions_of(band));
        let chance = Draws::fit(BY_CHANCE.to_vec());
        Self {
            up_s: chance.with_mean(life_s),
            down_s: chance.with_mean(down_s),
        }
    }

    /// One zone's capacity for `span` µs: 0 or 1.
    pub fn series(&self, span: u64, rng: &mut dyn RngCore) -> Capacity {
        let (up, down) = (self.up_s.mean(), self.down_s.mean());
        let mut with = below(up.saturating_add(down), rng) < up;
        let mut changes = vec![(0, i64::from(with))];
        let mut at = 0u64;
        while changes.len() < SPELLS_MAX {
            let spell = if with { &self.up_s } else { &self.down_s };
            at = at.saturating_add(spell.draw(rng).max(1).saturating_mul(SECOND));
            if at >= span {
                break;
            }
            with = !with;
            changes.push((at, if with { 1 } else { -1 }));
        }
        Capacity::from_changes(&changes, span)
    }
}
