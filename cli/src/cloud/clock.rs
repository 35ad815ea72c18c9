//! The clock of a market that is played: it shows the recording's time and may go faster than the real one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rebound_core::types::Time;
use rebound_scheduler::config::ClockConfig;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct MarketClock(ClockConfig);

impl MarketClock {
    /// Shows `shows` now, and goes so many times as fast as the real one.
    pub fn start(shows: Time, rate: u64) -> MarketClock {
        MarketClock(ClockConfig {
            rate,
            at_us: real_us(),
            shows_us: shows.0,
        })
    }

    /// For servers.
    pub fn config(&self) -> ClockConfig {
        self.0
    }

    /// So many times as fast as the real one.
    pub fn rate(&self) -> u64 {
        self.0.rate
    }

    /// What it shows.
    pub fn now(&self) -> Time {
        let passed = real_us().saturating_sub(self.0.at_us);
        Time(self.0.shows_us.saturating_add(passed.saturating_mul(self.0.rate)))
    }

    /// How long it really takes until it shows that; nothing when it has.
    pub fn until(&self, at: Time) -> Duration {
        let market = at.0.saturating_sub(self.now().0);
        Duration::from_micros(market.div_ceil(self.0.rate))
    }

    /// The real time at which it shows that, in µs since 1970.
    pub fn real_at(&self, at: Time) -> u64 {
        let market = at.0.saturating_sub(self.0.shows_us);
        self.0.at_us.saturating_add(market / self.0.rate)
    }

    /// Waits until it shows that.
    pub async fn reach(&self, at: Time) {
        tokio::time::sleep(self.until(at)).await;
    }
}

fn real_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
