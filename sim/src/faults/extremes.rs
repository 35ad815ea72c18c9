//! Extreme values of limits: the local ones of `limits.rs`, the policy's, and the replicated ones.

use std::fmt;

use rebound_core::limits::{Limits, WORKER_LEASE_MIN};
use rebound_core::plan::Policy;
use rebound_core::state::settings::Settings;
use rebound_core::types::{MILLISECOND, SECOND};

use crate::rng::Rng;

/// A minute, in µs.
const MINUTE: u64 = 60 * SECOND;

/// Limits as one seed has them.
#[derive(Clone, Debug)]
pub struct Extremes {
    /// Local ones.
    pub limits: Limits,
    /// The policy's.
    pub policy: Policy,
    /// Replicated ones.
    pub settings: Settings,
}

impl Extremes {
    /// Each is production's, very small or, where that may matter, very large.
    pub fn draw(rng: &mut Rng) -> Extremes {
        let plain = (Limits::default(), Policy::default(), Settings::default());
        let mut more = rng.branch("more");
        let limits = Limits {
            propose_bytes_per_handle: pick(rng, plain.0.propose_bytes_per_handle, &[1, 4_096]),
            propose_bytes_waiting: pick(rng, plain.0.propose_bytes_waiting, &[1_024, 16_384]),
            asks: pick(rng, plain.0.asks, &[2, 8]),
            persists_in_flight: pick(rng, plain.0.persists_in_flight, &[1, 3, 16]),
            persists_in_flight_max: pick(rng, plain.0.persists_in_flight_max, &[16, 1_000]),
            digest_every: pick(rng, plain.0.digest_every, &[1, 7]),
            raft_message_bytes: pick(rng, plain.0.raft_message_bytes, &[0, 1_024]),
            raft_inflight_messages: pick(rng, plain.0.raft_inflight_messages, &[1, 2]),
            raft_uncommitted_bytes: pick(rng, plain.0.raft_uncommitted_bytes, &[4_096, 65_536]),
            raft_committed_bytes_per_ready: pick(rng, plain.0.raft_committed_bytes_per_ready, &[1, 1_024]),
            snapshot_holds: pick(rng, plain.0.snapshot_holds, &[0, 2 * SECOND]),
            snapshot_log_bytes: pick(rng, plain.0.snapshot_log_bytes, &[0, 65_536]),
            log_cache_bytes: pick(&mut more, plain.0.log_cache_bytes, &[4_096, 65_536]),
            entry_results: pick(&mut more, plain.0.entry_results, &[1, 3]),
            coming: pick(&mut more, plain.0.coming, &[0, 1]),
            overload_age: pick(&mut more, plain.0.overload_age, &[MILLISECOND, 30 * SECOND]),
            caught_up: pick(&mut more, plain.0.caught_up, &[1, 20]),
        };
        // raft refuses anything else.
        let least = limits.raft_message_bytes.max(limits.raft_uncommitted_bytes);
        let limits = Limits {
            raft_uncommitted_bytes: least,
            ..limits
        };
        let policy = Policy {
            credit_per_slot: pick(rng, plain.1.credit_per_slot, &[1, 8]),
            credit_max: pick(rng, plain.1.credit_max, &[1, 2]),
            runs_max: pick(rng, plain.1.runs_max, &[1, 3]),
            run_tasks_max: pick(rng, plain.1.run_tasks_max, &[1, 7]),
            demand_max: pick(&mut more, plain.1.demand_max, &[1, 3]),
            tails_max: pick(&mut more, plain.1.tails_max, &[1, 2]),
            regives_max: pick(&mut more, plain.1.regives_max, &[1, 2]),
        };
        // Clients give up before a key is forgotten, so what they opened must close by itself.
        let forgets = rng.chance(300_000);
        let settings = Settings {
            key_for: if forgets { MINUTE } else { plain.2.key_for },
            retention: if forgets { MINUTE } else { plain.2.retention },
            lease: pick(rng, plain.2.lease, &[WORKER_LEASE_MIN, 30 * SECOND]),
            grace: pick(rng, plain.2.grace, &[0, 5 * SECOND]),
            max_attempts: pick(rng, plain.2.max_attempts, &[1, 2, 10]),
            max_deaths: pick(rng, plain.2.max_deaths, &[1, 2]),
            max_losses: pick(rng, plain.2.max_losses, &[0, 1]),
            backoff_initial: pick(rng, plain.2.backoff_initial, &[0, 10 * MILLISECOND]),
            backoff_max: pick(rng, plain.2.backoff_max, &[0, 60 * SECOND]),
            expire_rows: pick(rng, plain.2.expire_rows, &[1, 5]),
            // A job has up to 40 photos, which must fit.
            waiting_max: pick(rng, plain.2.waiting_max, &[80, 300]),
            live_jobs_max: pick(rng, plain.2.live_jobs_max, &[4, 20]),
            given_max: pick(rng, plain.2.given_max, &[10, 40]),
            open_for: match forgets {
                true => 10 * SECOND,
                false => pick(rng, plain.2.open_for, &[SECOND, 10 * SECOND]),
            },
            ..plain.2
        };
        Extremes {
            limits,
            policy,
            settings,
        }
    }
}

/// Half of the times what production has.
fn pick<T: Copy>(rng: &mut Rng, plain: T, extreme: &[T]) -> T {
    match rng.chance(500_000) {
        true => plain,
        false => *rng.pick(extreme).unwrap_or(&plain),
    }
}

impl fmt::Display for Extremes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.limits, self.policy, self.settings)
    }
}
