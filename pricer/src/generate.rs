//! Markets from a seed, for two eras.
//!
//! - `auction` (2010 to 2017): the price is a bid. It jumps, also far over on-demand, and it is what interrupts.
//! - `modern` (since): the price moves in small steps and announces nothing; capacity falls out independently of it.
//!
//! Every draw comes from the generator that is handed in: one seed, one series. Profiles are integers fitted to
//! recordings by [`fit`]; the built-in ones were fitted to recordings of both eras. What a profile keeps and what not
//! is said with each kind. No libm, so that a series is the same everywhere.

pub mod auction;
pub mod capacity;
pub mod draws;
pub mod fit;
pub mod modern;

use rand::RngCore;
use rebound_core::types::{MicroUsd, SECOND, Time};
use serde::{Deserialize, Serialize};

use crate::error::FileError;
use crate::limits::GENERATED_MINUTES_MAX;
use crate::series::Point;

const AUCTION: &str = include_str!("../profiles/auction.json");
const MODERN: &str = include_str!("../profiles/modern.json");

/// The smallest step of a price, in millionths of USD: EC2's have four decimals.
pub const GRAIN: u64 = 100;

/// How prices and capacity belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    /// Bids: a price above one's own ends the machine.
    Auction,
    /// Smooth prices; capacity ends the machine.
    Modern,
}

/// What prices do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Prices {
    /// Jumps between bands.
    Jumps(auction::Jumps),
    /// Small steps round a level.
    Steps(modern::Steps),
}

/// A fitted market of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Which era it is of.
    pub era: Era,
    /// What it was fitted to, in words.
    pub fitted_to: String,
    /// What prices do.
    pub prices: Prices,
    /// What capacity does; nothing in the auction era, where the price takes machines.
    pub capacity: Option<capacity::Spells>,
}

impl Profile {
    /// The profile of an era that comes with the program.
    ///
    /// # Errors
    ///
    /// Where it is damaged; a test reads both.
    pub fn built_in(era: Era) -> Result<Self, FileError> {
        match era {
            Era::Auction => Self::parse("auction.json", AUCTION),
            Era::Modern => Self::parse("modern.json", MODERN),
        }
    }

    /// Reads a profile that [`fit`] made.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let fix = "make one with `rebound-pricer fit --out FILE`";
        let profile: Self = serde_json::from_str(text)
            .map_err(|error| FileError::at(file, error.line() as u64, "", error.to_string(), fix))?;
        let sound = match &profile.prices {
            Prices::Jumps(jumps) => jumps.check(),
            Prices::Steps(steps) => steps.check(),
        };
        sound.map_err(|problem| FileError::at(file, 0, "prices", problem, fix))?;
        let capacity = profile.capacity.as_ref().map_or(Ok(()), capacity::Spells::check);
        capacity.map_err(|problem| FileError::at(file, 0, "capacity", problem, fix))?;
        Ok(profile)
    }

    /// A price series from `from` up to `until`, at most [`GENERATED_MINUTES_MAX`] long.
    pub fn price(&self, on_demand: MicroUsd, from: Time, until: Time, rng: &mut dyn RngCore) -> Vec<Point> {
        let longest = from.0.saturating_add(GENERATED_MINUTES_MAX * 60 * SECOND);
        let until = Time(until.0.min(longest));
        match &self.prices {
            Prices::Jumps(jumps) => jumps.series(on_demand, from, until, rng),
            Prices::Steps(steps) => steps.series(on_demand, from, until, rng),
        }
    }
}

#[cfg(test)]
mod tests;
