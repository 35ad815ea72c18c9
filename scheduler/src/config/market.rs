//! The cloud that a server buys in, and what it knows of the market beforehand.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::loopback;

/// Prices are asked for so often, unless the configuration says otherwise: EC2 changes them a few times a day, and some
/// at once with a few minutes' notice.
const PRICES_EVERY_MS: u64 = 60_000;
/// Fastest clock, in times of the real one.
pub const CLOCK_RATE_MAX: u64 = 3_600;
/// Most files that are named.
const FILES_MAX: usize = 64;

/// Which cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// None: nothing can be bought.
    #[default]
    None,
    /// One on this machine, at `address`: that of `rebound dev`.
    Local,
}

/// The cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CloudConfig {
    /// Which.
    pub driver: Driver,
    /// Where a local one listens.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Spot prices are asked for so often, in milliseconds.
    pub prices_every_ms: u64,
}

impl Default for CloudConfig {
    fn default() -> Self {
        CloudConfig {
            driver: Driver::None,
            address: String::new(),
            prices_every_ms: PRICES_EVERY_MS,
        }
    }
}

/// What is known of the market beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketConfig {
    /// Lists of on-demand prices, and EC2's bands of interruption, in any form that `rebound-pricer` reads. A pool whose
    /// on-demand price is not in one is never bought.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Measured machines: lines of `instance_type,recogniser,photos_per_hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<PathBuf>,
    /// Which machines may be used, as `rebound-pricer rank --limits` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<PathBuf>,
    /// Pools that may be bought in, as `c5.*@use1-*`; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
}

/// A wall clock that shows another time and goes faster: for a market that is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockConfig {
    /// So many times as fast as the real one.
    pub rate: u64,
    /// At this time of the real clock, in µs since 1970.
    pub at_us: u64,
    /// It shows this.
    pub shows_us: u64,
}

impl CloudConfig {
    /// Where a local one is.
    pub fn socket(&self) -> Option<SocketAddr> {
        self.address.parse().ok()
    }

    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fault = |field: &str, why: &str| Err((format!("cloud.{field}"), why.to_owned()));
        let listens = self.socket().is_some() && loopback(&self.address).is_ok();
        if self.driver == Driver::Local && !listens {
            return fault(
                "address",
                "must be where the local cloud listens, on loopback, as \"127.0.0.1:7400\"",
            );
        }
        if self.driver == Driver::None && !self.address.is_empty() {
            return fault("address", "has no driver: write driver = \"local\", or remove it");
        }
        if !(10..=3_600_000).contains(&self.prices_every_ms) {
            return fault("prices_every_ms", "must be 10 to 3600000");
        }
        Ok(())
    }
}

impl MarketConfig {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        match self.files.len().max(self.pools.len()) > FILES_MAX {
            true => Err((
                "market.files".to_owned(),
                format!("must be at most {FILES_MAX}, and so must market.pools"),
            )),
            false => Ok(()),
        }
    }
}

impl ClockConfig {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        match (1..=CLOCK_RATE_MAX).contains(&self.rate) {
            true => Ok(()),
            false => Err((
                "clock.rate".to_owned(),
                format!("must be 1 to {CLOCK_RATE_MAX}; leave [clock] out for the real time"),
            )),
        }
    }
}
