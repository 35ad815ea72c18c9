//! Prices that are bids: a chain of bands of the price, with how long each price holds and what it then is.
//!
//! Which band follows is drawn by what followed in the recording; how long a price holds and what it is are drawn
//! within its band. So the fit keeps the level, the changes a day, the crossings of each band's edge and the time
//! above it, in the mean. It forgets what lies further back than one price: days of calm and days of war are shorter
//! than they were, and there is no hour of the day.

use rand::RngCore;
use rebound_core::types::{MicroUsd, SECOND, Time};
use serde::{Deserialize, Serialize};

use super::GRAIN;
use super::draws::{Draws, below, draw_part, mean_of, parts};
use crate::limits::GENERATED_POINTS_MAX;
use crate::money::ratio;
use crate::series::Point;

/// Where a band begins, in ten-thousandths of on-demand. Thresholds that matter are edges: over 50, 80 and 100 %. Many
/// bid exactly the on-demand price, and were not interrupted at it: that is below the edge.
const EDGES: [u64; 30] = [
    0, 500, 750, 1_000, 1_250, 1_500, 1_750, 2_000, 2_250, 2_500, 2_750, 3_000, 3_500, 4_000, 4_500, 5_001,
    5_500, 6_000, 7_000, 8_001, 9_000, 10_001, 11_000, 12_500, 15_000, 20_000, 30_000, 40_000, 60_000,
    90_000,
];
const MYRIAD: u64 = 10_000;
/// Prices hold at least a second.
const HOLD_LEAST: u64 = 1;

/// One band of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// Prices seen.
    of: u32,
    /// What they are, in ten-thousandths of on-demand: the means over time of nearly equal parts of them, sorted.
    price: Vec<u64>,
    /// How long a price of each part holds in the mean, in seconds.
    hold_s: Vec<u64>,
    /// How long one holds, in permille of that.
    shape: Draws,
    /// Which band follows, by its place in the list, and how often it did.
    next: Vec<(u32, u32)>,
}

/// A fitted chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jumps {
    bands: Vec<Band>,
}

/// The band of a price in ten-thousandths of on-demand.
fn band_of(share: u64) -> usize {
    EDGES.partition_point(|edge| *edge <= share).saturating_sub(1)
}

impl Band {
    /// Fits prices with how long each held. What is dear holds shorter or longer than what is not: each part of the
    /// prices keeps its own mean.
    fn fit(mut seen: Vec<(u64, u64)>, next: Vec<(u32, u32)>) -> Self {
        seen.sort_unstable();
        let mut band = Self {
            of: u32::try_from(seen.len()).unwrap_or(u32::MAX),
            next,
            ..Self::default()
        };
        let mut shape = Vec::new();
        for part in parts(seen.len()) {
            let part = seen.get(part).unwrap_or_default();
            let held: u128 = part.iter().map(|(_, hold)| u128::from(*hold)).sum();
            let paid: u128 = part
                .iter()
                .map(|(share, hold)| u128::from(*share) * u128::from(*hold))
                .sum();
            let shares: Vec<u64> = part.iter().map(|(share, _)| *share).collect();
            let holds: Vec<u64> = part.iter().map(|(_, hold)| *hold).collect();
            let mean = mean_of(&holds);
            let price = paid
                .checked_div(held)
                .map_or_else(|| mean_of(&shares), |mean| mean as u64);
            band.price.push(price);
            band.hold_s.push(mean);
            shape.extend(holds.iter().map(|hold| ratio(*hold, 1_000, mean.max(1))));
        }
        band.shape = Draws::fit(shape);
        band
    }

    /// A price in ten-thousandths of on-demand, and how many seconds it holds.
    fn draw(&self, rng: &mut dyn RngCore) -> (u64, u64) {
        let part = draw_part(self.of, rng);
        let of = |values: &[u64]| values.get(part).copied().unwrap_or(0);
        let hold = ratio(of(&self.hold_s), self.shape.draw(rng), 1_000);
        (of(&self.price), hold.max(HOLD_LEAST))
    }

    fn is_sound(&self, bands: usize) -> bool {
        let leads = self.next.iter().any(|(_, count)| *count > 0);
        let inside = self.next.iter().all(|(to, _)| (*to as usize) < bands);
        let parts = parts(self.of as usize).count();
        let whole = parts > 0 && self.price.len() == parts && self.hold_s.len() == parts;
        leads && inside && whole && !self.shape.is_empty()
    }
}

impl Jumps {
    /// Fits one or more series, each with its end and its on-demand price. Nothing where they never change.
    pub fn fit(series: &[(&[Point], Time, MicroUsd)]) -> Option<Self> {
        let mut seen = vec![Vec::new(); EDGES.len()];
        let mut next = vec![vec![0u32; EDGES.len()]; EDGES.len()];
        for (points, end, on_demand) in series {
            let ends = points.iter().skip(1).map(|point| point.at).chain([*end]);
            let mut before: Option<usize> = None;
            for (point, until) in points.iter().zip(ends) {
                let share = ratio(point.price.0, MYRIAD, on_demand.0);
                let band = band_of(share);
                seen[band].push((share, until.0.saturating_sub(point.at.0) / SECOND));
                if let Some(before) = before.replace(band) {
                    next[before][band] += 1;
                }
            }
        }
        // Only bands that were met and left, so that the chain never ends.
        let used: Vec<usize> = (0..EDGES.len())
            .filter(|band| next[*band].iter().any(|count| *count > 0))
            .collect();
        let place = |band: usize| used.iter().position(|other| *other == band);
        let bands: Vec<Band> = used
            .iter()
            .map(|band| {
                let next = (0..EDGES.len())
                    .filter(|to| next[*band][*to] > 0)
                    .filter_map(|to| Some((u32::try_from(place(to)?).ok()?, next[*band][to])));
                Band::fit(std::mem::take(&mut seen[*band]), next.collect())
            })
            .collect();
        let fitted = Self { bands };
        fitted.check().is_ok().then_some(fitted)
    }

    /// Whether a series can be made of it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        if self.bands.is_empty() {
            return Err("there is no band".into());
        }
        for (at, band) in self.bands.iter().enumerate() {
            if !band.is_sound(self.bands.len()) {
                return Err(format!("band {at} leads nowhere"));
            }
        }
        Ok(())
    }

    /// A series from `from` up to `until`.
    pub fn series(&self, on_demand: MicroUsd, from: Time, until: Time, rng: &mut dyn RngCore) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        let mut at = from;
        // The band that was left most often is where a market mostly is.
        let most = |band: &Band| band.next.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        let mut band = self.bands.iter().max_by_key(|band| most(band));
        while let Some(here) = band.filter(|_| at < until && points.len() < GENERATED_POINTS_MAX) {
            let (share, hold) = here.draw(rng);
            let mut price = ratio(on_demand.0, share, MYRIAD * GRAIN)
                .max(1)
                .saturating_mul(GRAIN);
            if points.last().is_some_and(|last| last.price.0 == price) {
                // The recording changed here, if by no more than the grain.
                price = price.saturating_add(GRAIN);
            }
            let price = MicroUsd(price);
            points.push(Point { at, price });
            at = Time(at.0.saturating_add(hold.saturating_mul(SECOND)));
            band = self.follow(here, rng);
        }
        points
    }

    fn follow(&self, here: &Band, rng: &mut dyn RngCore) -> Option<&Band> {
        let all = here.next.iter().map(|(_, count)| u64::from(*count)).sum();
        let mut drawn = below(all, rng);
        let (to, _) = here.next.iter().find(|(_, count)| {
            let found = drawn < u64::from(*count);
            drawn = drawn.saturating_sub(u64::from(*count));
            found
        })?;
        self.bands.get(*to as usize)
    }
}
