//! Tells the core what pools cost: the price book, what was heard and whether it is believed, and the ranking, as the
//! market that the policy sees. The leader's driver and the simulator share it.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::market::{Market, Quote, Speed};
use rebound_core::types::{Market as Kind, MicroUsd, Pool, Resources, SECOND, Time};

use crate::advisor::Advice;
use crate::book::{Offer, PriceBook};
use crate::catalogue::Catalogue;
use crate::eligible::Limits;
use crate::error::FileError;
use crate::experience::{Experience, Totals};
use crate::health::{Feed, Health, Intake, Told};
use crate::on_demand::OnDemand;
use crate::pool::{chosen, on_demand};
use crate::rank::{Known, Photos, Row, rank};
use crate::risk::Risks;
use crate::series::Point;
use crate::throughput::{Need, Throughputs};
use crate::transfer::{Nat, Transfers};

/// Recognisers that are ranked for: those that have work, and those that had it before.
pub const RECOGNISERS_MAX: usize = 64;
/// Prices of a pool are told so far back, in µs: as far as any threshold looks.
pub const LATELY: u64 = 2 * 3_600 * SECOND;
/// Most prices of one pool that are told.
pub const LATELY_MAX: usize = 256;
/// Bytes of a photo of which a thousand are a GB.
const GB_OF_A_THOUSAND: u64 = 1_000_000;
/// Interruptions of one pool that are counted at once.
const TAKEN_MAX: u64 = 1_000;
/// Memory of a slot of a recogniser that does not say what it takes, in MiB.
pub const SLOT_MIB: u32 = 1_024;

/// What is known of the market beforehand.
#[derive(Clone, Debug, Default)]
pub struct Beforehand {
    /// Machines that were measured.
    pub throughputs: Throughputs,
    /// Bands and scores.
    pub advice: Advice,
    /// On-demand prices.
    pub on_demand: OnDemand,
    /// Which machines may be used.
    pub limits: Limits,
    /// Patterns of pools; all if empty.
    pub pools: Vec<String>,
}

/// See the module.
pub struct Teller {
    known: Beforehand,
    book: PriceBook,
    feed: Feed,
    catalogue: Catalogue,
    transfers: Transfers,
    needs: BTreeMap<String, Need>,
    risks: Risks,
    /// What of a cluster's experience is in `risks`.
    counted: BTreeMap<Pool, Totals>,
}

impl Teller {
    /// One that has heard nothing yet.
    ///
    /// # Errors
    ///
    /// When a table that the program brings along is damaged.
    pub fn new(mut known: Beforehand) -> Result<Teller, FileError> {
        let mut book = PriceBook::default();
        book.set_on_demand(std::mem::take(&mut known.on_demand));
        Ok(Teller {
            known,
            book,
            feed: Feed::new(),
            catalogue: Catalogue::built_in()?,
            transfers: Transfers::built_in()?,
            needs: BTreeMap::new(),
            risks: Risks::default(),
            counted: BTreeMap::new(),
        })
    }

    /// Prices were heard. What cannot be true is left out, and said.
    pub fn hear(&mut self, told: &[Told], now: Time) -> Intake {
        self.feed.take(&mut self.book, told, now)
    }

    /// A recogniser has work; what one slot of it takes.
    pub fn wants(&mut self, recogniser: &str, slot: &Resources) {
        if self.needs.len() >= RECOGNISERS_MAX && !self.needs.contains_key(recogniser) {
            self.needs.clear();
        }
        let mut need = Need::new(recogniser, SLOT_MIB);
        if slot.milli_cpu > 0 || slot.gpus > 0 {
            need.slot.milli_cpu = slot.milli_cpu.max(1);
            need.slot.gpus = slot.gpus;
        }
        if slot.memory_mib > 0 {
            need.slot.memory_mib = slot.memory_mib;
        }
        self.needs.insert(recogniser.to_owned(), need);
    }

    /// What a cluster learnt: its own measurements count for more than those of files, and what pools did to it is
    /// counted once. What happened before this was first asked counts as of now.
    pub fn learn(&mut self, experience: &Experience, now: Time) {
        for (name, slot) in &experience.wants {
            self.wants(name, slot);
        }
        for (name, kind, us) in &experience.speeds {
            // What is no speed is not measured yet.
            let _ = self.known.throughputs.note(name, kind, 1, *us);
        }
        for (pool, totals) in &experience.pools {
            let before = self.counted.insert(pool.clone(), *totals).unwrap_or_default();
            let started = totals.started.saturating_sub(before.started);
            let lacked = totals.lacked.saturating_sub(before.lacked);
            let of = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            if started + lacked > 0 {
                let asked = of(started.saturating_add(lacked));
                self.risks.note_launch(pool, asked, of(started), now);
            }
            let ran = totals.ran.saturating_sub(before.ran);
            if ran > 0 {
                self.risks.note_running(pool, ran, now);
            }
            for _ in before.taken..totals.taken.min(before.taken.saturating_add(TAKEN_MAX)) {
                self.risks.note_interruption(pool, now);
            }
        }
        self.counted.retain(|pool, _| experience.pools.contains_key(pool));
    }

    /// The market as it is at an instant.
    pub fn market(&self, now: Time) -> Market {
        let candidates = self
            .book
            .pools()
            .flat_map(|(pool, _)| [pool.clone(), on_demand(pool)])
            .filter(|pool| chosen(&self.known.pools, pool));
        let mut all: Vec<Pool> = candidates.collect();
        all.sort();
        let price = |pool: &Pool| match pool.market {
            Kind::Spot => {
                let offer = self.book.offer(pool, now)?;
                let quote = self.feed.quote(&self.book, pool, now)?;
                Ok(Offer {
                    price: quote.price,
                    ..offer
                })
            }
            _ => self.book.offer(pool, now),
        };
        let known = Known {
            catalogue: &self.catalogue,
            throughputs: &self.known.throughputs,
            advice: &self.known.advice,
            risks: &self.risks,
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
            let ranking = rank(&known, &self.known.limits, need, &photos, &all, now, &price);
            let mut speeds = BTreeMap::new();
            for row in &ranking.rows {
                if !market.pools.contains_key(&row.pool) {
                    market.pools.insert(row.pool.clone(), self.quote(row, now));
                }
                speeds.insert(row.pool.clone(), speed(row));
            }
            market.speeds.insert(need.recogniser.clone(), speeds);
        }
        market.ways = self.ways(&market);
        market
    }

    /// What a GB costs on its way into each region where something may be bought.
    fn ways(&self, market: &Market) -> BTreeMap<(String, String), MicroUsd> {
        let into: BTreeSet<&str> = market.pools.keys().map(|pool| pool.region.as_str()).collect();
        let mut ways = BTreeMap::new();
        for to in into {
            for from in self.transfers.regions().filter(|from| *from != to) {
                if let Ok(cost) = self.transfers.of_thousand(from, to, GB_OF_A_THOUSAND, Nat::None) {
                    ways.insert((from.to_owned(), to.to_owned()), cost.transfer);
                }
            }
        }
        ways
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
pub fn lately(points: &[Point], now: Time) -> Vec<(Time, MicroUsd)> {
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
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_learnt_counts_once_and_for_more_than_files() {
        let mut teller = Teller::new(Beforehand::default()).unwrap();
        let pool = crate::pool::spot("c5.large", "euw1-az1", &crate::pool::ZoneNames::new()).unwrap();
        let totals = Totals {
            started: 10,
            lacked: 10,
            taken: 5,
            ran: 10 * 3_600 * SECOND,
        };
        let mut learnt = Experience {
            wants: vec![("shelf-text".to_owned(), Resources::default())],
            speeds: vec![("shelf-text".to_owned(), "c5.large".to_owned(), 400_000)],
            pools: BTreeMap::from([(pool.clone(), totals)]),
        };
        let now = Time(1_700_000_000_000_000);
        let risk = |teller: &Teller| teller.risks.of_pool(&pool, &Advice::default(), now);
        let before = risk(&teller);
        teller.learn(&learnt, now);
        let first = risk(&teller);
        assert!(
            first.interruptions_ppm_hour > 10 * before.interruptions_ppm_hour,
            "{first:?}"
        );
        assert!(
            first.launch_failures_ppm > 2 * before.launch_failures_ppm,
            "{first:?}"
        );
        teller.learn(&learnt, now);
        assert_eq!(risk(&teller), first, "heard again it is the same");
        learnt.pools.get_mut(&pool).unwrap().taken += 1;
        teller.learn(&learnt, now);
        assert_eq!(
            risk(&teller).own_interruptions,
            first.own_interruptions + 1_000_000
        );
        let need = Need::new("shelf-text", SLOT_MIB);
        let facts = Catalogue::built_in().unwrap().facts("c5.large").unwrap();
        let speed = teller.known.throughputs.speed(&need, "c5.large", &facts).unwrap();
        assert_eq!((speed.us_per_photo, speed.cap()), (400_000, None));
    }

    #[test]
    fn of_a_restless_price_the_newest_are_told() {
        let point = |at| Point {
            at: Time(at),
            price: MicroUsd(at),
        };
        let points: Vec<Point> = (1..=1_000).map(|n| point(n * 1_000_000)).collect();
        let all = lately(&points, Time(2_000_000_000));
        assert_eq!((all.len(), all[LATELY_MAX - 1].1.0), (LATELY_MAX, 1_000_000_000));
        assert_eq!(lately(&points, Time(1)), [], "none of the future");
    }
}
