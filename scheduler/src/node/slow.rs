//! Calls of the replica that take long: all else waits meanwhile, so each of them is worth knowing.

use std::time::{Duration, Instant};

use rebound_core::io::{Input, Output};
use tracing::warn;

use crate::telemetry;

/// A call that takes more processor time than this is told of, whatever the queue's length.
const SLOW: Duration = Duration::from_millis(10);
/// Slow calls are told of at most so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Measures calls.
#[derive(Default)]
pub(super) struct Slow {
    told: Option<Instant>,
}

/// A call under way.
pub(super) struct Call {
    begun: Instant,
    cpu: Duration,
    inputs: usize,
    /// Of them, from clients and from workers.
    asks: usize,
    reports: usize,
}

impl Call {
    /// Begins with these inputs.
    pub fn begin(inputs: &[Input]) -> Call {
        let asks = inputs.iter().filter(|input| matches!(input, Input::Client(_)));
        let reports = inputs
            .iter()
            .filter(|input| matches!(input, Input::Worker { .. }));
        Call {
            inputs: inputs.len(),
            asks: asks.count(),
            reports: reports.count(),
            cpu: thread_time(),
            begun: Instant::now(),
        }
    }
}

impl Slow {
    /// The call has ended with this output.
    pub fn end(&mut self, call: Call, out: &Output) {
        let (took, cpu) = (call.begun.elapsed(), thread_time().saturating_sub(call.cpu));
        telemetry::handled(took, cpu, call.inputs);
        let told_lately = self.told.is_some_and(|told| told.elapsed() < TELL_EVERY);
        if cpu < SLOW || told_lately {
            return;
        }
        self.told = Some(Instant::now());
        let persist = out.persist.as_ref();
        warn!(
            ms = took.as_secs_f64() * 1e3,
            cpu_ms = cpu.as_secs_f64() * 1e3,
            inputs = call.inputs,
            asks = call.asks,
            reports = call.reports,
            replies = out.replies.len(),
            events = out.events.len(),
            entries = persist.map_or(0, |persist| persist.entries.len()),
            rows = persist.map_or(0, |persist| persist.state.len() + persist.kept.len()),
            desired = out.desired.len(),
            demand = out.plan.as_ref().map_or(0, |seen| seen.demand.len()),
            snapshots = out.snapshots.len(),
            "a call of the replica was slow"
        );
    }
}

/// Processor time this thread has used; nothing where the system does not say.
fn thread_time() -> Duration {
    // SAFETY: an all-zero timespec is a valid one, and the call writes nothing else.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        time
    };
    let of = |part: i64| u64::try_from(part).unwrap_or(0);
    Duration::from_secs(of(time.tv_sec)) + Duration::from_nanos(of(time.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_time_goes_on_only_while_it_works() {
        let before = thread_time();
        let mut sum = 0u64;
        while thread_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(thread_time() > before);
    }
}
