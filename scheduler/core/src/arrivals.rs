//! What came in a quarter hour, as a leader saw it, and what it would have taken to do it in time: volatile.

use std::collections::BTreeMap;

use crate::limits::ARRIVALS_MAX;
use crate::schedule::QUARTER;
use crate::types::{SECOND, Time};

/// Arrivals are told apart by so much, in µs.
const GRAIN: u64 = 2 * SECOND;
/// Rates are photos in so many µs.
const RATE: u128 = 1_000_000_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// When the quarter hour began; 0: nobody looked yet.
    begun: u64,
    of: BTreeMap<String, BTreeMap<(u64, u64), u64>>,
    /// The one before, until somebody asks for it.
    before: Option<(Time, Vec<(String, u64)>)>,
}

impl Arrivals {
    /// Photos came that are due then.
    pub fn note(&mut self, recogniser: &str, at: Time, due: Time, photos: u64) {
        self.turn(at);
        if !self.of.contains_key(recogniser) {
            if self.of.len() >= crate::limits::PROFILED_MAX {
                return;
            }
            self.of.insert(recogniser.to_owned(), BTreeMap::new());
        }
        let all = self.of.get_mut(recogniser).expect("just made");
        let (at, due) = (at.0 / GRAIN, due.0.div_ceil(GRAIN));
        let key = match all.len() < ARRIVALS_MAX {
            true => (at, due),
            // What is too much to tell apart counts with what came last.
            false => all.last_key_value().map_or((at, due), |(last, _)| *last),
        };
        *all.entry(key).or_default() += photos;
    }

    /// The quarter hour that is over at `now` and was not told yet, if there is one: when it began, and the least rate,
    /// in photos in 10^12 µs, at which a fleet that is ready would have done all of it in time, by recogniser.
    pub fn over(&mut self, now: Time) -> Option<(Time, Vec<(String, u64)>)> {
        self.turn(now);
        self.before.take()
    }

    /// What comes from then on is another quarter hour's. Of a leader's first one the beginning may be missing.
    fn turn(&mut self, now: Time) {
        let begun = now.0 / QUARTER * QUARTER;
        if self.begun < begun {
            let over = std::mem::replace(&mut self.begun, begun);
            let took = self.take();
            self.before = (over > 0).then_some((Time(over), took));
        }
    }

    fn take(&mut self) -> Vec<(String, u64)> {
        let all = std::mem::take(&mut self.of);
        let rate = |arrivals: &BTreeMap<(u64, u64), u64>| intensity(arrivals);
        all.iter()
            .map(|(name, arrivals)| (name.clone(), rate(arrivals)))
            .collect()
    }
}

/// The greatest of all intervals' work by their length: what begins and ends within it must be done within it (Yao,
/// Demers and Shenker, "A scheduling model for reduced CPU energy", 1995).
fn intensity(arrivals: &BTreeMap<(u64, u64), u64>) -> u64 {
    let mut by_due: Vec<(u64, u64, u64)> = arrivals
        .iter()
        .map(|((at, due), photos)| (*due, *at, *photos))
        .collect();
    by_due.sort_unstable();
    let mut begins: Vec<u64> = arrivals.keys().map(|(at, _)| *at).collect();
    begins.dedup();
    let mut most = 0;
    for begin in begins {
        let mut photos = 0u128;
        for (due, _, count) in by_due.iter().filter(|(_, at, _)| *at >= begin) {
            photos += u128::from(*count);
            let within = u128::from(due.saturating_sub(begin).max(1)) * u128::from(GRAIN);
            most = most.max(photos * RATE / within);
        }
    }
    u64::try_from(most).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_second(rate: u64) -> f64 {
        rate as f64 / 1_000_000.0
    }

    #[test]
    fn a_wave_takes_its_photos_by_its_deadline_and_a_stream_its_own_rate() {
        let mut wave = Arrivals::default();
        wave.note("shelf", Time(0), Time(60 * SECOND), 1_200);
        assert_eq!(wave.take(), [("shelf".to_owned(), 20 * 1_000_000)]);
        assert_eq!(wave.take(), [], "it is forgotten");
        let quarter = |n: u64| Time(n * QUARTER);
        let mut turns = Arrivals::default();
        turns.note("shelf", Time(QUARTER + 5), quarter(2), 10);
        assert_eq!(turns.over(quarter(1)), None, "it is under way");
        turns.note("shelf", quarter(2), quarter(3), 20);
        let (begun, took) = turns.over(quarter(2)).expect("the first is over");
        assert_eq!((begun, took.len()), (quarter(1), 1));
        assert_eq!(turns.over(quarter(2)), None, "it was told");
        assert!(
            turns
                .over(quarter(3))
                .is_some_and(|(begun, _)| begun == quarter(2))
        );
        let mut stream = Arrivals::default();
        for second in 0..900 {
            let at = Time(second * SECOND);
            stream.note("shelf", at, Time(at.0 + 60 * SECOND), 10);
        }
        let rate = a_second(stream.take()[0].1);
        assert!((9.0..=10.0).contains(&rate), "{rate}");
    }

    #[test]
    fn nothing_that_comes_makes_it_grow_without_end() {
        let mut all = Arrivals::default();
        for n in 0..3 * ARRIVALS_MAX as u64 {
            all.note("shelf", Time(n), Time(n * 7 * SECOND), 1);
            all.note(&format!("{n}"), Time(0), Time(SECOND), 1);
        }
        assert_eq!(all.of["shelf"].len(), ARRIVALS_MAX);
        assert_eq!(all.of.len(), crate::limits::PROFILED_MAX);
    }
}
