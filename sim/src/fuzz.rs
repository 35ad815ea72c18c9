//! Many seeds, one after another or on several threads; and what they must have met.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use rebound_core::state::Plant;

use crate::world::{Counters, Outcome, World};

/// A run in which one of these never happened has tested too little.
pub const MUST_HAPPEN: [&str; 8] = [
    "leader changes",
    "crashes with unsynced loss",
    "partitions",
    "duplicated results refused",
    "WorkerLost",
    "tasks ended after a failover",
    "NotLeader answers",
    "Unknown answers",
];

/// What a fuzz run came to.
#[derive(Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Virtual time of all, in µs.
    pub virtual_us: u64,
    /// Rare things of all.
    pub counters: Counters,
    /// Seeds with broken invariants.
    pub failed: Vec<Outcome>,
    /// Seeds that gave another trace when run again.
    pub differing: Vec<u64>,
    /// Seeds run twice.
    pub twice: u64,
}

impl Summary {
    /// What must happen and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        MUST_HAPPEN
            .into_iter()
            .filter(|what| self.counters.get(what).is_none_or(|count| *count == 0))
            .collect()
    }
}

/// Runs one seed. An assertion of ours that fails is a violation like any other.
pub fn run_seed(seed: u64, plant: Plant) -> Outcome {
    let faults = World::new(seed, plant).faults.to_string();
    match std::panic::catch_unwind(|| World::new(seed, plant).run()) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            let violations = vec![format!("an assertion failed: {what}")];
            Outcome {
                seed,
                faults,
                trace: 0,
                virtual_us: 0,
                counters: Counters::new(),
                violations,
            }
        }
    }
}

/// Runs seeds `first..first + count` on `threads` threads, the first `twice` of them two times; `each` is told of
/// every outcome as it comes.
pub fn run(
    first: u64,
    count: u64,
    twice: u64,
    threads: usize,
    plant: Plant,
    mut each: impl FnMut(&Outcome),
) -> Summary {
    let next = AtomicU64::new(first);
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = run_seed(seed, plant);
                    let again = (seed < first + twice).then(|| run_seed(seed, plant).trace);
                    if sender.send((outcome, again)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (outcome, again) in receiver {
            each(&outcome);
            summary.add(outcome, again);
        }
    });
    summary.failed.sort_by_key(|outcome| outcome.seed);
    summary
}

impl Summary {
    fn add(&mut self, outcome: Outcome, again: Option<u64>) {
        self.seeds += 1;
        self.virtual_us += outcome.virtual_us;
        for (what, count) in &outcome.counters {
            *self.counters.entry(what).or_default() += count;
        }
        if let Some(again) = again {
            self.twice += 1;
            if again != outcome.trace {
                self.differing.push(outcome.seed);
            }
        }
        if !outcome.violations.is_empty() {
            self.failed.push(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short run for every test run; `rebound sim fuzz` does more.
    #[test]
    fn seeds_hold_the_invariants_and_repeat() {
        let summary = run(1, 40, 6, 2, Plant::None, |_| {});
        for outcome in &summary.failed {
            println!(
                "seed {}: {}\n{:#?}",
                outcome.seed, outcome.faults, outcome.violations
            );
        }
        assert!(
            summary.failed.is_empty(),
            "repeat one with: rebound sim fuzz --seed {}",
            summary.failed[0].seed
        );
        assert_eq!(
            summary.differing,
            Vec::<u64>::new(),
            "these seeds gave two traces"
        );
        assert_eq!(
            summary.missing(),
            Vec::<&str>::new(),
            "never happened; counters: {:?}",
            summary.counters
        );
    }
}
