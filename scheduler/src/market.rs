//! Watches prices and tells the replica what pools cost: the pricer's book and ranking, kept up to date.

use std::sync::Arc;
use std::time::Duration;

use rebound_core::types::{Resources, Time};
use rebound_pricer::teller::{Beforehand, Teller};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::cloud::Cloud;
use crate::node::{Clock, Control};

pub mod files;

pub use files::{FilesError, load};

/// A recogniser that has work, and what one slot of it takes.
pub type Wanted = Vec<(String, Resources)>;

/// See the module.
pub struct Watch {
    cloud: Arc<dyn Cloud>,
    clock: Clock,
    every: Duration,
    teller: Teller,
    heard: Time,
}

impl Watch {
    /// One that asks the cloud for prices so often.
    ///
    /// # Errors
    ///
    /// When a table that the program brings along is damaged.
    pub fn new(
        cloud: Arc<dyn Cloud>,
        clock: Clock,
        known: Beforehand,
        every: Duration,
    ) -> Result<Watch, FilesError> {
        Ok(Watch {
            cloud,
            clock,
            every,
            teller: Teller::new(known).map_err(FilesError::File)?,
            heard: Time(0),
        })
    }

    /// Watches until nobody listens.
    pub async fn run(mut self, mut wanted: watch::Receiver<Wanted>, tell: mpsc::UnboundedSender<Control>) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fails = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.hear(&mut fails).await,
                changed = wanted.changed() => if changed.is_err() { return },
            }
            for (name, slot) in wanted.borrow_and_update().iter() {
                self.teller.wants(name, slot);
            }
            let now = self.clock.now().wall;
            let market = Arc::new(self.teller.market(now));
            if tell.send(Control::Market(market)).is_err() {
                return;
            }
        }
    }

    async fn hear(&mut self, fails: &mut bool) {
        let told = self.cloud.prices(self.heard).await;
        let now = self.clock.now().wall;
        match told {
            Ok(told) => {
                self.heard = told.iter().map(|one| one.at).max().unwrap_or(self.heard);
                let intake = self.teller.hear(&told, now);
                if let Some((at, why)) = intake.refused.first() {
                    let pool = told.get(*at).map(|one| rebound_pricer::pool::text(&one.pool));
                    tracing::warn!(count = intake.refused.len(), ?pool, %why, "prices that cannot be true");
                }
                if std::mem::take(fails) {
                    tracing::info!("prices are heard again");
                }
            }
            Err(why) if !*fails => {
                *fails = true;
                tracing::warn!(
                    why,
                    "no prices are heard; the last good ones count for a while, then on-demand's"
                );
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
