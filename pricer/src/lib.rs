//! What EC2's capacity pools cost, how risky they are, and which is the cheapest for a photo.
//!
//! Pure: no clock, no randomness of its own, money and rates in integers. Times come in, generators come in, files
//! come in as bytes. The leader's observation, the simulator and the program `rebound-pricer` share it.
//!
//! - [`book::PriceBook`]: prices of pools, bounded in memory, and what may be bought at all.
//! - [`health`]: whether a feed can be believed, and what is used in its place.
//! - [`risk`]: interruptions and failed launches, counted with a half-life over stated priors.
//! - [`rank`]: dollars for a thousand photos, with every column.
//! - [`teller::Teller`]: all of it together, as the market that the policy sees.
//! - [`feed`]: recorded files; [`generate`]: series from a seed, fitted to recordings; [`stats`]: what both are like.

pub mod advisor;
pub mod book;
pub mod catalogue;
pub mod decay;
pub mod eligible;
pub mod error;
pub mod experience;
pub mod feed;
pub mod generate;
pub mod health;
pub mod limits;
pub mod money;
pub mod on_demand;
pub mod pool;
pub mod rank;
pub mod risk;
pub mod series;
pub mod stats;
pub mod teller;
pub mod throughput;
pub mod transfer;
