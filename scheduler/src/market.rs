//! Watches prices and tells the replica what pools cost: the pricer's book and ranking, kept up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rebound_core::market::{Market, Quote, Speed};
use rebound_core::types::{Market as Kind, MicroUsd, Pool, Resources, Time};
use rebound_pricer::book::PriceBook;
use rebound_pricer::catalogue::Catalogue;
use rebound_pricer::health::{Feed, Health};
use rebound_pricer::pool::{chosen, on_demand};
use rebound_pricer::rank::{Known, Photos, Row, rank};
use rebound_pricer::risk::Risks;
use rebound_pricer::series::Point;
use rebound_pricer::throughput::Need;
use rebound_pricer::transfer::{Nat, Transfers};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::cloud::Cloud;
use crate::node::{Clock, Control};

pub mod files;

pub use files::{Files, FilesError};

/// Recognisers that are ranked for: those that have work, and those that had it before.
pub const RECOGNISERS_MAX: usize = 64;
/// Prices of a pool are told so far back, in µs: as far as any threshold looks.
pub const LATELY: u64 = 2 * 3_600 * rebound_core::types::SECOND;
/// Most prices of one pool that are told.
pub const LATELY_MAX: usize = 256;
/// Memory of a slot of a recogniser that does not say what it takes, in MiB.
const SLOT_MIB: u32 = 1_024;

/// A recogniser that has work, and what one slot of it takes.
pub type Wanted = Vec<(String, Resources)>;

/// See the module.
pub struct Watch {
    cloud: Arc<dyn Cloud>,
    clock: Clock,
    files: Files,
    every: Duration,
    book: PriceBook,
    feed: Feed,
    catalogue: Catalogue,
    transfers: Transfers,
    heard: Time,
    needs: BTreeMap<String, Need>,
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
        mut files: Files,
        every: Duration,
    ) -> Result<Watch, FilesError> {
        let mut book = PriceBook::default();
        book.set_on_demand(std::mem::take(&mut files.on_demand));
        Ok(Watch {
            cloud,
            clock,
            every,
            book,
            feed: Feed::new(),
            catalogue: Catalogue::built_in().map_err(FilesError::File)?,
            transfers: Transfers::built_in().map_err(FilesError::File)?,
            files,
            heard: Time(0),
            needs: BTreeMap::new(),
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
            self.wants(&wanted.borrow_and_update());
            let now = self.clock.now().wall;
            if tell.send(Control::Market(Arc::new(self.market(now)))).is_err() {
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
                let intake = self.feed.take(&mut self.book, &told, now);
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

    fn wants(&mut self, wanted: &Wanted) {
        for (name, slot) in wanted {
            if self.needs.len() >= RECOGNISERS_MAX && !self.needs.contains_key(name) {
                self.needs.clear();
            }
            let mut need = Need::new(name, SLOT_MIB);
            if slot.milli_cpu > 0 || slot.gpus > 0 {
                need.slot.milli_cpu = slot.milli_cpu.max(1);
                need.slot.gpus = slot.gpus;
            }
            if slot.memory_mib > 0 {
                need.slot.memory_mib = slot.memory_mib;
            }
            self.needs.insert(name.clone(), need);
        }
    }

    /// The market as it is at an instant.
    pub fn market(&self, now: Time) -> Market {
        let candidates = self
            .book
            .pools()
            .flat_map(|(pool, _)| [pool.clone(), on_demand(pool)])
            .filter(|pool| chosen(&self.files.pools, pool));
        let mut all: Vec<Pool> = candidates.collect();
        all.sort();
        let price = |pool: &Pool| match pool.market {
            Kind::Spot => {
                let offer = self.book.offer(pool, now)?;
                let quote = self.feed.quote(&self.book, pool, now)?;
                Ok(rebound_pricer::book::Offer {
                    price: quote.price,
                    ..offer
                })
            }
            _ => self.book.offer(pool, now),
        };
        let known = Known {
            catalogue: &self.catalogue,
            throughputs: &self.files.throughputs,
            advice: &self.files.advice,
            risks: &Risks::default(),
            transfers: &self.transfers,
        };
        let photos = Photos {
            region: None,
            bytes: 0,
            nat: Nat::None,
        };
        let mut market = Market {
            heard: self.believed(now),
            ..Market::default()
        };
        for need in self.needs.values() {
            let ranking = rank(&known, &self.files.limits, need, &photos, &all, now, &price);
            let mut speeds = BTreeMap::new();
            for row in &ranking.rows {
                if !market.pools.contains_key(&row.pool) {
                    market.pools.insert(row.pool.clone(), self.quote(row, now));
                }
                speeds.insert(row.pool.clone(), speed(row));
            }
            market.speeds.insert(need.recogniser.clone(), speeds);
        }
        market
    }

    /// Until when the feed was believed.
    fn believed(&self, now: Time) -> Time {
        match self.feed.health(now) {
            Health::Live => now,
            Health::Never => Time(0),
            Health::Gone { since } | Health::Frozen { since } | Health::Absurd { since, .. } => since,
        }
    }

    fn quote(&self, row: &Row, now: Time) -> Quote {
        let facts = self.catalogue.facts(&row.pool.instance_type);
        let resources = facts.as_ref().map_or(Resources::default(), |facts| Resources {
            milli_cpu: facts.vcpu.saturating_mul(1_000),
            memory_mib: facts.memory_mib,
            gpus: facts.gpus,
        });
        let points = match row.pool.market {
            Kind::Spot => self
                .book
                .series(&row.pool)
                .map_or(&[][..], |series| series.points()),
            _ => &[],
        };
        Quote {
            price: row.price,
            on_demand: row.on_demand,
            lately: lately(points, now),
            vcpus: facts.map_or(0, |facts| facts.vcpu),
            resources,
            interruptions: row.risk.interruptions_ppm_hour,
        }
    }
}

/// The prices since [`LATELY`], and the one in force then.
fn lately(points: &[Point], now: Time) -> Vec<(Time, MicroUsd)> {
    let known = &points[..points.partition_point(|point| point.at <= now)];
    let from = Time(now.0.saturating_sub(LATELY));
    let first = known.partition_point(|point| point.at <= from).saturating_sub(1);
    let first = first.max(known.len().saturating_sub(LATELY_MAX));
    known[first..]
        .iter()
        .map(|point| (point.at, point.price))
        .collect()
}

fn speed(row: &Row) -> Speed {
    Speed {
        slots: row.speed.slots,
        us_per_photo: row.speed.us_per_photo,
        machine: row.machine_k,
        way: MicroUsd(row.transfer_k.0.saturating_add(row.nat_k.0)),
        risk: row.risk_k,
        most: row.cap,
    }
}

#[cfg(test)]
mod tests;
