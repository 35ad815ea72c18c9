//! A server that nobody asks for its figures takes no more memory for them as it runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, which counts.
struct Counting;

/// Bytes that are allocated.
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the trait's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Times said in each round: several seconds of a busy server's.
const SAID: usize = 1_000_000;
const ROUNDS: usize = 3;
/// All of one round would take eight times as much.
const KEPT_MAX: usize = SAID;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn times_that_nobody_reads_take_no_memory_for_good() {
    rebound_scheduler::telemetry::install();
    let figure = metrics::histogram!("rebound_handle_seconds");
    figure.record(0.001);
    let before = LIVE.load(Ordering::Relaxed);
    for round in 1..=ROUNDS {
        (0..SAID).for_each(|_| figure.record(0.001));
        let kept = || LIVE.load(Ordering::Relaxed).saturating_sub(before);
        let until = Instant::now() + DEADLINE;
        while kept() > KEPT_MAX {
            assert!(
                Instant::now() < until,
                "{} bytes are kept of round {round}",
                kept()
            );
            // What is cleared is freed a little after, by whoever uses the figure next.
            figure.record(0.001);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
