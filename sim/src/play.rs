//! A cluster that buys its machines on a played market, in virtual time: the same replica, policy and launches as live,
//! on one server without wire or disk, with the simulated cloud and workers that do what they are told.
//!
//! What the [world](crate::world) breaks is whole here: this is for what a policy costs and whether it is in time. One
//! seed, one run.

pub mod bill;
pub mod generated;
mod hand;
pub mod load;
mod outcome;
pub mod played;
mod run;

use std::sync::Arc;

use rebound_core::scaling::Scaling;
use rebound_core::types::{SECOND, Time};
use rebound_pricer::catalogue::{Catalogue, Facts};
use rebound_pricer::teller::{Beforehand, SLOT_MIB};
use rebound_pricer::throughput::{Need, Throughputs};

pub use load::Wave;
pub use outcome::{Aged, Outcome};
pub use played::{Era, Played, PlayedError, crossings};

use crate::cloud::Nature;

/// What all photos of a played market are recognised by.
pub const RECOGNISER: &str = "noop";
/// Machines that a pool has, where no recording says how many.
pub const POOL_ROOM: u32 = 200;
/// vCPUs that the account may have.
pub const QUOTA: u32 = 10_000;

/// What is played, to whom.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Prices and capacity.
    pub market: Arc<Played>,
    /// The first moment at which photos may come.
    pub from: Time,
    /// None come later.
    pub until: Time,
    /// What comes.
    pub waves: Vec<Wave>,
    /// Each job shall be done so long after it was submitted, in µs.
    pub deadline: u64,
    /// Photos of one job.
    pub photos_per_job: u64,
    /// Median µs of one photo in a slot.
    pub photo: u64,
    /// From `running` to the agent's start, in µs: drawn between the two.
    pub boot: (u64, u64),
    /// Of machines so many in a million never join.
    pub never_join: u64,
    /// The policy.
    pub policy: Scaling,
    /// How the cloud behaves.
    pub nature: Nature,
    /// Draws boots, photos and the cloud's weather.
    pub seed: u64,
}

/// A cloud that gives what is asked for.
pub fn kind() -> Nature {
    Nature {
        room: POOL_ROOM,
        quota: QUOTA,
        ..Nature::default()
    }
}

/// Slots of a machine of a type; none where it has no room for a photo.
pub fn slots(catalogue: &Catalogue, instance_type: &str) -> Option<(Facts, u32)> {
    let facts = catalogue.facts(instance_type)?;
    let slots = Need::new(RECOGNISER, SLOT_MIB).slots(&facts);
    let slots = slots.min(rebound_core::limits::SLOTS_MAX);
    (slots > 0).then_some((facts, slots))
}

/// What is known of a market beforehand, when a photo takes `photo` µs in a slot.
///
/// # Errors
///
/// Which type is not known, or has no room for a photo.
pub fn beforehand(played: &Played, photo: u64) -> Result<Beforehand, PlayedError> {
    let catalogue = Catalogue::built_in().map_err(|error| PlayedError(error.to_string()))?;
    let mut known = Beforehand::default();
    let mut speeds = "instance_type,recogniser,photos_per_hour\n".to_owned();
    for (pool, price) in &played.on_demand {
        let kind = &pool.instance_type;
        let listed = rebound_pricer::on_demand::Listed::Price(*price);
        known
            .on_demand
            .list(&pool.region, kind, listed)
            .map_err(PlayedError)?;
        let (_, slots) = slots(&catalogue, kind).ok_or_else(|| {
            PlayedError(format!(
                "{kind} is no type that is known, or has no room for a photo"
            ))
        })?;
        let hour = u64::from(slots) * 3_600 * SECOND;
        let speed = format!("{kind},{RECOGNISER},{}\n", (hour / photo.max(1)).max(1));
        if !speeds.contains(&speed) {
            speeds.push_str(&speed);
        }
    }
    known.throughputs =
        Throughputs::parse("speeds", &speeds).map_err(|error| PlayedError(error.to_string()))?;
    Ok(known)
}

/// Plays it to its end.
///
/// # Errors
///
/// When a type of the market is not known.
///
/// # Panics
///
/// When an invariant of ours is broken: a bug.
pub fn play(scenario: &Scenario) -> Result<Outcome, PlayedError> {
    run::Play::new(scenario)?.run()
}

#[cfg(test)]
mod tests;
