//! What the agent measures of itself, so that its leader knows how many photos to give it: how long answers, fetches
//! and photos take. Moving averages in whole µs.

use std::collections::{BTreeMap, BTreeSet};

use rebound_proto::v1;

use super::TaskKey;
use super::limits::{MAX_PACE_US, MAX_PACES};

/// A newer value counts for one in so many.
const SMOOTHING: u64 = 8;

/// A moving average; 0: nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ewma(u64);

impl Ewma {
    pub fn note(&mut self, us: u64) {
        let us = us.clamp(1, MAX_PACE_US);
        self.0 = match self.0 {
            0 => us,
            before => (before * (SMOOTHING - 1) + us).div_ceil(SMOOTHING),
        };
    }

    pub fn us(self) -> u64 {
        self.0
    }
}

/// What was measured in this session.
#[derive(Debug, Default)]
pub(super) struct Paces {
    fetch: Ewma,
    service: BTreeMap<u64, Ewma>,
    /// When the fetches that are under way began.
    fetching: BTreeMap<TaskKey, u64>,
}

impl Paces {
    pub fn fetch_begins(&mut self, task: TaskKey, now_us: u64) {
        self.fetching.insert(task, now_us);
    }

    /// A fetch that brought its photo ended; one that failed says nothing of how long they take.
    pub fn fetched(&mut self, task: TaskKey, now_us: u64, good: bool) {
        let began = self.fetching.remove(&task);
        if let Some(began) = began.filter(|_| good) {
            self.fetch.note(now_us.saturating_sub(began));
        }
    }

    /// A fetch is not wanted any more.
    pub fn forget(&mut self, task: TaskKey) {
        self.fetching.remove(&task);
    }

    /// A photo of this spec was so long in its slot.
    pub fn served(&mut self, spec: u64, us: u64) {
        if self.service.len() >= MAX_PACES && !self.service.contains_key(&spec) {
            self.service.pop_first();
        }
        self.service.entry(spec).or_default().note(us);
    }

    pub fn fetch_us(&self) -> u64 {
        self.fetch.us()
    }

    /// µs of a photo of this spec in its slot; 0: not measured.
    pub fn service_us(&self, spec: u64) -> u64 {
        self.service.get(&spec).map_or(0, |ewma| ewma.us())
    }

    /// What is said of it; `now` are the specs in slots, and for how long the oldest of each is: a photo that hangs
    /// shows before it ends.
    pub fn said(&self, now: &BTreeMap<u64, u64>) -> Vec<v1::Pace> {
        let specs: BTreeSet<u64> = now.keys().chain(self.service.keys()).copied().collect();
        let pace = |spec| v1::Pace {
            spec,
            service_us: self.service_us(spec),
            running_us: now.get(&spec).map_or(0, |age| (*age).min(MAX_PACE_US)),
        };
        specs.into_iter().map(pace).take(MAX_PACES).collect()
    }

    pub fn check(&self, ahead: usize) {
        assert!(self.service.len() <= MAX_PACES);
        assert!(
            self.fetching.len() <= ahead,
            "fetches that nobody wants are measured"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_follow_what_changes() {
        let mut ewma = Ewma::default();
        assert_eq!(ewma.us(), 0);
        ewma.note(0);
        assert_eq!(ewma.us(), 1, "measured, however short");
        ewma = Ewma::default();
        ewma.note(1_000);
        assert_eq!(ewma.us(), 1_000, "the first counts whole");
        ewma.note(9_000);
        assert_eq!(ewma.us(), 2_000);
        (0..100).for_each(|_| ewma.note(u64::MAX));
        assert!(ewma.us() <= MAX_PACE_US);
    }

    #[test]
    fn what_hangs_shows_before_it_ends_and_specs_are_bounded() {
        let mut paces = Paces::default();
        paces.served(1, 1_000);
        let said = paces.said(&BTreeMap::from([(2, 5_000_000)]));
        let said = said.iter().map(|one| (one.spec, one.service_us, one.running_us));
        assert_eq!(said.collect::<Vec<_>>(), [(1, 1_000, 0), (2, 0, 5_000_000)]);
        (0..500).for_each(|spec| paces.served(spec, 5));
        assert_eq!(paces.said(&BTreeMap::new()).len(), MAX_PACES);
    }
}
