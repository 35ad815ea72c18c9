//! Which pool does a photo for the least money, with every part of the figure beside it.
//!
//! Dollars for a thousand photos = price ÷ throughput + data transfer + NAT + risk. Risk is machine time paid for
//! nothing: what each interruption wastes, and the wait after a launch that failed, at the pool's own price. The
//! break-even is the hourly price at which a pool's total would equal its best rival's in the photos' region.

use rebound_core::types::{Market, MicroUsd, Pool, Time};
use serde::Serialize;

use crate::advisor::Advice;
use crate::book::{NotBuyable, Offer, PriceBook};
use crate::catalogue::Catalogue;
use crate::eligible::{Barred, Limits};
use crate::limits::{AWAY_SAVING_PERMILLE, LAUNCH_RETRY, LOST_PER_INTERRUPTION, MACHINE_LIFE};
use crate::money::ratio;
use crate::pool;
use crate::risk::{Risk, Risks};
use crate::throughput::{Need, Speed, Throughputs};
use crate::transfer::{Cost, Nat, Transfers};

const MILLION: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * MILLION;
/// A pool whose launches fail more often than this, of a million, is reckoned as if it were this often.
const FAILURES_MAX: u64 = 990_000;

/// Where the photos are, and how large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Photos {
    /// Their bucket's region; nothing where they come from elsewhere and cost nothing to fetch.
    pub region: Option<String>,
    /// Bytes of one.
    pub bytes: u64,
    /// When they pass a NAT gateway.
    pub nat: Nat,
}

/// All that a rank follows from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Instance types.
    pub catalogue: &'a Catalogue,
    /// What was measured.
    pub throughputs: &'a Throughputs,
    /// What EC2 says of risk.
    pub advice: &'a Advice,
    /// What happened to us.
    pub risks: &'a Risks,
    /// Prices of data.
    pub transfers: &'a Transfers,
}

/// One pool in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The pool.
    #[serde(serialize_with = "as_text")]
    pub pool: Pool,
    /// USD an hour, in millionths.
    pub price: MicroUsd,
    /// The same machine on demand.
    pub on_demand: MicroUsd,
    /// How fast it is, and whether that was measured.
    pub speed: Speed,
    /// How risky it is.
    pub risk: Risk,
    /// Millionths of USD for a thousand photos: the machine.
    pub machine_k: MicroUsd,
    /// The same: photos between regions.
    pub transfer_k: MicroUsd,
    /// The same: photos through a NAT gateway.
    pub nat_k: MicroUsd,
    /// The same: what interruptions and failed launches waste.
    pub risk_k: MicroUsd,
    /// The same: all of it.
    pub total_k: MicroUsd,
    /// Hourly price at which the total equals that of the best other pool in the photos' region; 0 where the way of
    /// the photos alone costs more than that.
    pub break_even: Option<MicroUsd>,
    /// Most machines that may run of it; nothing where there is no such limit.
    pub cap: Option<u32>,
}

fn as_text<S: serde::Serializer>(pool: &Pool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&pool::text(pool))
}

/// Pools from the cheapest to the dearest, and those that are out of the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Eligible pools, cheapest first.
    pub rows: Vec<Row>,
    /// The others, in order of pools, each with the first reason against it.
    pub barred: Vec<(Pool, Barred)>,
}

/// Where to work on photos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In their region: nothing elsewhere is so much cheaper.
    Home,
    /// Elsewhere: the saving beats transfer, NAT and the extra latency.
    Away,
    /// Elsewhere: nothing can be had in their region.
    HomeDry,
    /// Nowhere.
    Nowhere,
}

/// Every pool of a book: the spot pools, and on-demand machines of the same types in the same zones.
pub fn candidates(book: &PriceBook) -> Vec<Pool> {
    let mut all: Vec<Pool> = book
        .pools()
        .flat_map(|(pool, _)| [pool.clone(), pool::on_demand(pool)])
        .collect();
    all.sort();
    all
}

/// Ranks `pools` for photos at `at`. `price` says what a pool costs, from a book or from a feed's quote.
pub fn rank(
    market: &Known<'_>,
    limits: &Limits,
    need: &Need,
    photos: &Photos,
    pools: &[Pool],
    at: Time,
    price: &dyn Fn(&Pool) -> Result<Offer, NotBuyable>,
) -> Ranking {
    let mut ranking = Ranking::default();
    for pool in pools {
        match row(market, limits, need, photos, pool, at, price) {
            Ok(row) => ranking.rows.push(row),
            Err(barred) => ranking.barred.push((pool.clone(), barred)),
        }
    }
    ranking
        .rows
        .sort_by(|a, b| (a.total_k, &a.pool).cmp(&(b.total_k, &b.pool)));
    break_even(&mut ranking.rows, photos);
    ranking
}

fn row(
    market: &Known<'_>,
    limits: &Limits,
    need: &Need,
    photos: &Photos,
    pool: &Pool,
    at: Time,
    price: &dyn Fn(&Pool) -> Result<Offer, NotBuyable>,
) -> Result<Row, Barred> {
    let facts = limits.allow(pool, need, market.catalogue)?;
    let offer = price(pool).map_err(Barred::Price)?;
    let speed = market
        .throughputs
        .speed(need, &pool.instance_type, &facts)
        .ok_or(Barred::Memory(facts.memory_mib))?;
    let way = match &photos.region {
        None => Cost::default(),
        Some(region) => market
            .transfers
            .of_thousand(region, &pool.region, photos.bytes, photos.nat)
            .map_err(Barred::Transfer)?,
    };
    let risk = market.risks.of_pool(pool, market.advice, at);
    let machine_k = machine(offer.price, &speed);
    let risk_k = MicroUsd(ratio(machine_k.0, wasted_ppm(&risk), MILLION));
    let total = [machine_k, way.transfer, way.nat, risk_k]
        .iter()
        .fold(0u64, |sum, part| sum.saturating_add(part.0));
    Ok(Row {
        pool: pool.clone(),
        price: offer.price,
        on_demand: offer.on_demand,
        speed,
        risk,
        machine_k,
        transfer_k: way.transfer,
        nat_k: way.nat,
        risk_k,
        total_k: MicroUsd(total),
        break_even: None,
        cap: speed.cap(),
    })
}

/// What the machine costs for a thousand photos.
fn machine(price: MicroUsd, speed: &Speed) -> MicroUsd {
    MicroUsd(ratio(price.0, speed.us_per_photo.saturating_mul(1_000), HOUR_US))
}

/// Machine time paid for nothing, in millionths of the time used.
fn wasted_ppm(risk: &Risk) -> u64 {
    let interrupted = ratio(risk.interruptions_ppm_hour, LOST_PER_INTERRUPTION, HOUR_US);
    let failures = risk.launch_failures_ppm.min(FAILURES_MAX);
    // Failed launches before one that works: p ÷ (1 - p).
    let before_one = ratio(failures, MILLION, MILLION - failures);
    interrupted.saturating_add(ratio(before_one, LAUNCH_RETRY, MACHINE_LIFE))
}

/// Fills in each row's break-even. Rows are in order of their totals.
fn break_even(rows: &mut [Row], photos: &Photos) {
    let at_home = |row: &Row| {
        photos
            .region
            .as_ref()
            .is_none_or(|region| *region == row.pool.region)
    };
    let mut best = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| at_home(row))
        .map(|(index, row)| (index, row.total_k));
    let Some((first, first_total)) = best.next() else {
        return;
    };
    // The best at home is measured by the best of all others.
    let rival = rows
        .iter()
        .enumerate()
        .find(|(index, _)| *index != first)
        .map(|(_, row)| row.total_k);
    for (index, row) in rows.iter_mut().enumerate() {
        let measure = if index == first { rival } else { Some(first_total) };
        row.break_even = measure.map(|total| price_for(row, total));
    }
}

/// The hourly price at which `row` would cost `total` for a thousand photos.
fn price_for(row: &Row, total: MicroUsd) -> MicroUsd {
    let left = total
        .0
        .saturating_sub(row.transfer_k.0)
        .saturating_sub(row.nat_k.0);
    let machine = ratio(left, MILLION, MILLION.saturating_add(wasted_ppm(&row.risk)));
    MicroUsd(ratio(
        machine,
        HOUR_US,
        row.speed.us_per_photo.saturating_mul(1_000),
    ))
}

/// Where photos of `region` are best worked on. Another region must save [`AWAY_SAVING_PERMILLE`] for its latency.
pub fn place(rows: &[Row], region: &str) -> Place {
    let best = |home: bool| {
        rows.iter()
            .filter(|row| (row.pool.region == region) == home)
            .map(|row| row.total_k.0)
            .min()
    };
    match (best(true), best(false)) {
        (None, None) => Place::Nowhere,
        (None, Some(_)) => Place::HomeDry,
        (Some(_), None) => Place::Home,
        (Some(home), Some(away)) if away > ratio(home, 1_000 - AWAY_SAVING_PERMILLE, 1_000) => Place::Home,
        _ => Place::Away,
    }
}

/// Prices straight from a book, for a book that is a recording.
pub fn from_book(book: &PriceBook, at: Time) -> impl Fn(&Pool) -> Result<Offer, NotBuyable> {
    move |pool| match pool.market {
        Market::None => Err(NotBuyable::NoMarket),
        _ => book.offer(pool, at),
    }
}

#[cfg(test)]
mod tests;
