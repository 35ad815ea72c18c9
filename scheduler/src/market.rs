//! Watches prices and tells the replica what pools cost: the pricer's book and ranking, kept up to date.

use std::sync::Arc;
use std::time::Duration;

use rebound_core::state::spend::hour_of;
use rebound_core::types::Time;
use rebound_pricer::experience::Experience;
use rebound_pricer::teller::{Beforehand, Teller};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::cloud::Cloud;
use crate::node::{Clock, Control};

pub mod files;

pub use files::{FilesError, load};

/// See the module.
pub struct Watch {
    cloud: Arc<dyn Cloud>,
    clock: Clock,
    every: Duration,
    teller: Teller,
    heard: Time,
    billed: u64,
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
            billed: 0,
        })
    }

    /// Watches until nobody listens.
    pub async fn run(
        mut self,
        mut experience: watch::Receiver<Experience>,
        tell: mpsc::UnboundedSender<Control>,
    ) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fails = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.hear(&mut fails).await;
                    self.hear_bill(&tell).await;
                }
                changed = experience.changed() => if changed.is_err() { return },
            }
            let now = self.clock.now().wall;
            let learnt = experience.borrow_and_update().clone();
            self.teller.learn(&learnt, now);
            let market = Arc::new(self.teller.market(now));
            if tell.send(Control::Market(market)).is_err() {
                return;
            }
        }
    }

    /// Each hour that is over is asked for once.
    async fn hear_bill(&mut self, tell: &mpsc::UnboundedSender<Control>) {
        let hour = hour_of(self.clock.now().wall);
        if hour == self.billed {
            return;
        }
        match self.cloud.bill().await {
            Ok(hours) => {
                self.billed = hour;
                if !hours.is_empty() {
                    let _ = tell.send(Control::Billed(hours));
                }
            }
            Err(why) => tracing::debug!(why, "no bill is heard"),
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
