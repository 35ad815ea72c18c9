//! Many seeds, one after another or on several threads; and what they must have met.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::check::records;
use crate::faults::{Choice, Faults};
use crate::plant::Plant;
use crate::rng::Rng;
use crate::tally;
use crate::trace::Tell;
use crate::world::{Counters, Outcome, World};

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
        tally::missing(&self.counters)
    }
}

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub struct Run {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// So many of the first are run two times.
    pub twice: u64,
    /// Threads.
    pub threads: usize,
    /// A planted bug.
    pub plant: Plant,
    /// Kinds of faults that may be there.
    pub choice: Choice,
}

thread_local! {
    /// Where this thread last panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a panic of this process says nothing by itself: a seed's is a violation, told with its place.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|at| format!(" ({}:{})", short(at.file()), at.line()));
        PLACE.set(place.unwrap_or_default());
    }));
}

/// A file by its crate: where crates are kept says nothing.
fn short(file: &str) -> &str {
    match file.split_once("/registry/src/") {
        Some((_, of_crate)) => of_crate.split_once('/').map_or(of_crate, |(_, path)| path),
        None => file,
    }
}

/// What a seed brings, in words, without running it: to be said before, for a run may hang or end the process.
pub fn faults_of(seed: u64, choice: &Choice) -> String {
    Faults::of_seed(&Rng::new(seed), choice).to_string()
}

/// Runs one seed. An assertion of ours that fails is a violation like any other.
pub fn run_seed(seed: u64, plant: Plant, choice: &Choice) -> Outcome {
    guarded(seed, plant, choice, |world| world.run())
}

/// Runs one seed and tells each event as one line; see [`crate::trace`].
pub fn trace_seed(seed: u64, plant: Plant, choice: &Choice, tell: Tell) -> Outcome {
    guarded(seed, plant, choice, |world| world.traced(tell).run())
}

fn guarded(seed: u64, plant: Plant, choice: &Choice, run: impl FnOnce(World) -> Outcome) -> Outcome {
    let world = World::new(seed, plant, choice);
    let (faults, kinds) = (
        world.faults.to_string(),
        world.faults.kinds.keys().copied().collect(),
    );
    let panic = match std::panic::catch_unwind(AssertUnwindSafe(|| run(world))) {
        Ok(outcome) => return outcome,
        Err(panic) => panic,
    };
    let tripped = records::tripped();
    let what = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default();
    Outcome {
        seed,
        faults,
        kinds,
        trace: 0,
        virtual_us: 0,
        counters: Counters::new(),
        violations: vec![match tripped {
            Some(record) => format!("check of {record}: {what}{}", PLACE.take()),
            None => format!("assertion: {what}{}", PLACE.take()),
        }],
        tripped,
    }
}

/// Runs seeds one after another on several threads while `go_on` says so. `begins` is told which seeds are under way
/// each time before one more begins, so that one which hangs or ends the process has been named; `each` is told of
/// every outcome as it comes.
pub fn run(
    run: &Run,
    go_on: impl Fn() -> bool + Sync,
    begins: impl Fn(&BTreeSet<u64>) + Sync,
    mut each: impl FnMut(&Outcome),
) -> Summary {
    let next = AtomicU64::new(run.first);
    let under_way = Mutex::new(BTreeSet::new());
    let (sender, receiver) = mpsc::channel();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for _ in 0..run.threads.max(1) {
            let (next, under_way, begins) = (&next, &under_way, &begins);
            let (sender, go_on) = (sender.clone(), &go_on);
            scope.spawn(move || {
                let changes = |change: &dyn Fn(&mut BTreeSet<u64>)| {
                    change(&mut under_way.lock().unwrap_or_else(PoisonError::into_inner));
                };
                while go_on() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= run.first + run.count {
                        break;
                    }
                    changes(&|seeds| {
                        seeds.insert(seed);
                        begins(seeds);
                    });
                    let outcome = run_seed(seed, run.plant, &run.choice);
                    let again = seed < run.first + run.twice;
                    let again = again.then(|| run_seed(seed, run.plant, &run.choice).trace);
                    changes(&|seeds| _ = seeds.remove(&seed));
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
    use crate::faults::Kind;

    #[test]
    fn what_a_seed_brings_is_known_before_it_runs() {
        for seed in 1..=20 {
            let world = World::new(seed, Plant::default(), &Choice::default());
            assert_eq!(faults_of(seed, &Choice::default()), world.faults.to_string());
        }
    }

    /// A short run for every test run; `rebound sim fuzz` does more.
    #[test]
    fn seeds_hold_the_invariants_and_repeat() {
        let seeds = Run {
            first: 1,
            count: 60,
            twice: 4,
            threads: 2,
            plant: Plant::default(),
            choice: Choice::default(),
        };
        let begun = Mutex::new(BTreeSet::new());
        let begins = |under_way: &BTreeSet<u64>| {
            assert!(under_way.len() <= seeds.threads);
            begun.lock().expect("nobody panicked").extend(under_way);
        };
        let summary = run(&seeds, || true, begins, |_| {});
        assert_eq!(
            begun.into_inner().expect("nobody panicked"),
            (1..=60).collect(),
            "each seed is named before it runs"
        );
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
        // A short run cannot meet every rare branch, but each kind of fault.
        let never: Vec<_> = Kind::ALL
            .iter()
            .map(|(kind, ..)| kind.name())
            .filter(|name| !summary.counters.contains_key(name))
            .collect();
        assert_eq!(never, Vec::<&str>::new(), "counters: {:?}", summary.counters);
    }
}
