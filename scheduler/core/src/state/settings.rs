//! Limits that change what `apply` answers: one replicated record, changed by a command.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::types::SECOND;

/// See the fields. Times are µs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Attempts a task may fail, for specs that do not say.
    pub max_attempts: u32,
    /// Attempts a task may lose through machines.
    pub max_losses: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub backoff_initial: u64,
    /// Longest wait between attempts.
    pub backoff_max: u64,
    /// An open job closes by itself after so long.
    pub open_for: u64,
    /// How long an idempotency key is remembered.
    pub key_for: u64,
    /// Most photos in a job.
    pub tasks_per_job_max: u64,
    /// Most jobs, ended ones included.
    pub jobs_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_attempts: 3,
            max_losses: 10,
            backoff_initial: SECOND,
            backoff_max: 30 * SECOND,
            open_for: limits::OPEN_FOR,
            key_for: limits::KEY_FOR,
            tasks_per_job_max: limits::TASKS_PER_JOB_MAX,
            jobs_max: limits::JOBS_MAX as u64,
        }
    }
}

impl Settings {
    /// Wait before the next attempt after `attempts` failed ones.
    pub fn backoff(&self, attempts: u32) -> u64 {
        let doublings = attempts.saturating_sub(1).min(32);
        self.backoff_initial
            .saturating_mul(1 << doublings)
            .min(self.backoff_max)
    }
}
