//! Limits that change what `apply` answers: one replicated record, changed field by field by a command.

use serde::{Deserialize, Serialize};

use super::{Context, State};
use crate::event::Fact;
use crate::limits;
use crate::reply::{Rejected, Reply};
use crate::types::{EnvId, SECOND};

/// What the number of a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// µs.
    Duration,
}

/// What is to be known of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// As users write it.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// Of a new cluster.
    pub default: u64,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
}

macro_rules! settings {
    ($($(#[doc = $what:literal])+ $field:ident $setting:ident: $unit:ident, $default:expr, $min:expr, $max:expr;)*) => {
        /// One field of [`Settings`]. New ones are added at the end only: the log has them by position.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Setting {
            $($(#[doc = $what])+ $setting,)*
        }

        /// All of them. Times are µs.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Settings {
            $($(#[doc = $what])+ pub $field: u64,)*
        }

        impl Setting {
            /// Every setting, in the order they are shown.
            pub const ALL: &'static [Setting] = &[$(Setting::$setting,)*];

            /// What is to be known of it.
            pub fn about(self) -> About {
                match self {
                    $(Setting::$setting => About {
                        name: stringify!($field),
                        what: concat!($($what,)+).trim_ascii_start(),
                        unit: Unit::$unit,
                        default: $default,
                        min: $min,
                        max: $max,
                    },)*
                }
            }
        }

        impl Settings {
            /// The value of a setting.
            pub fn get(&self, setting: Setting) -> u64 {
                match setting {
                    $(Setting::$setting => self.$field,)*
                }
            }

            fn set(&mut self, setting: Setting, value: u64) {
                match setting {
                    $(Setting::$setting => self.$field = value,)*
                }
            }
        }

        impl Default for Settings {
            fn default() -> Self {
                Settings {
                    $($field: $default,)*
                }
            }
        }
    };
}

/// Longest time any setting takes, in µs.
const YEAR: u64 = 366 * 24 * 3600 * SECOND;

settings! {
    /// attempts a photo may fail, for jobs that do not say
    max_attempts MaxAttempts: Count, 3, 1, limits::ATTEMPTS_MAX as u64;
    /// attempts a photo may lose through machines
    max_losses MaxLosses: Count, 10, 0, 1_000;
    /// wait before the second attempt; doubled for each further one
    backoff_initial BackoffInitial: Duration, SECOND, 0, 3600 * SECOND;
    /// longest wait between attempts
    backoff_max BackoffMax: Duration, 30 * SECOND, 0, 3600 * SECOND;
    /// silence after which a worker is lost
    lease Lease: Duration, limits::WORKER_LEASE, limits::WORKER_LEASE_MIN, 1800 * SECOND;
    /// added to the lease while a worker has not yet spoken to a new leader
    grace Grace: Duration, limits::FAILOVER_GRACE, 0, 1800 * SECOND;
    /// an open job closes by itself after so long
    open_for OpenFor: Duration, limits::OPEN_FOR, SECOND, YEAR;
    /// how long an idempotency key is remembered, from when its job was opened
    key_for KeyFor: Duration, limits::KEY_FOR, SECOND, YEAR;
    /// how long a job and its results are kept after it ended; never shorter than key_for
    retention Retention: Duration, limits::RETENTION, SECOND, YEAR;
    /// most photos in a job
    tasks_per_job_max TasksPerJobMax: Count, limits::TASKS_PER_JOB_MAX, 1, limits::TASKS_PER_JOB_MAX;
    /// most jobs in the cluster, ended ones that are still kept included
    jobs_max JobsMax: Count, limits::JOBS_MAX as u64, 1, limits::JOBS_MAX as u64;
    /// most idempotency keys an environment may have remembered
    keys_max KeysMax: Count, limits::KEYS_PER_ENVIRONMENT_MAX, 1, limits::JOBS_MAX as u64;
    /// most photos an environment may have in the queue, if it has no limit of its own
    waiting_max WaitingMax: Count, limits::WAITING_PER_ENVIRONMENT_MAX, 1, u64::MAX;
    /// most jobs an environment may have that have not ended, if it has no limit of its own
    live_jobs_max LiveJobsMax: Count, limits::JOBS_MAX as u64, 1, u64::MAX;
    /// most photos of an environment that workers may hold at once, if it has no limit of its own
    given_max GivenMax: Count, limits::GIVEN_PER_ENVIRONMENT_MAX, 1, u64::MAX;
    /// recognisers' processes that a photo may take with it
    max_deaths MaxDeaths: Count, 3, 1, limits::ATTEMPTS_MAX as u64;
    /// wait of a suspect photo whose worker was lost, until that worker can no longer be at it
    suspect_wait SuspectWait: Duration, limits::SUSPECT_WAIT, limits::SUSPECT_WAIT, 1800 * SECOND;
    /// most records of deleted jobs that go with one entry; the rest goes with the next ones
    expire_rows ExpireRows: Count, limits::EXPIRE_ROWS_MAX as u64, 1, limits::EXPIRE_ROWS_MAX as u64;
    /// most photos that may wait in the whole cluster
    photos_waiting_max PhotosWaitingMax: Count, limits::PHOTOS_WAITING_MAX, 1, u64::MAX;
    /// most bytes kept for jobs that have not ended, in the whole cluster
    open_bytes_max OpenBytesMax: Count, limits::OPEN_BYTES_MAX, 16 * 1024, u64::MAX;
    /// a submit that cannot make its deadline is refused while what waits takes longer than this to work off
    shed_after ShedAfter: Duration, limits::SHED_AFTER, 0, YEAR;
}

impl Setting {
    /// The setting of a name.
    pub fn named(name: &str) -> Option<Setting> {
        Setting::ALL
            .iter()
            .copied()
            .find(|setting| setting.about().name == name)
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

    /// Silence of every leader after which an agent starts nothing new: by then its session has ended.
    pub fn orphan_for(&self) -> u64 {
        self.lease + self.grace
    }

    /// These settings with some changed.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of its range, or that does not go with another.
    pub fn with(&self, changes: &[(Setting, u64)]) -> Result<Settings, Rejected> {
        let mut new = self.clone();
        for (setting, value) in changes {
            let about = setting.about();
            if !(about.min..=about.max).contains(value) {
                let (from, to) = (about.unit.say(about.min), about.unit.say(about.max));
                return Err(Rejected::Invalid {
                    field: about.name,
                    why: format!("{} is not within {from} to {to}", about.unit.say(*value)),
                });
            }
            new.set(*setting, *value);
        }
        // A key answers with its job as long as it is remembered, so the job must be there.
        if new.retention < new.key_for {
            let (retention, key_for) = (Unit::Duration.say(new.retention), Unit::Duration.say(new.key_for));
            return Err(Rejected::Invalid {
                field: "retention",
                why: format!(
                    "{retention} would delete jobs whose keys are remembered for {key_for} (key_for); make it no shorter, or key_for too"
                ),
            });
        }
        Ok(new)
    }
}

impl Unit {
    /// A value with its unit, in words.
    pub fn say(self, value: u64) -> String {
        const DAY: u64 = 24 * 3600 * SECOND;
        match self {
            Unit::Count => value.to_string(),
            Unit::Duration if value > 0 && value.is_multiple_of(DAY) => format!("{}d", value / DAY),
            Unit::Duration if value.is_multiple_of(SECOND) => format!("{}s", value / SECOND),
            Unit::Duration => format!("{}us", value),
        }
    }
}

impl State {
    pub(super) fn set_settings(
        &mut self,
        context: &mut Context,
        changes: &[(Setting, u64)],
    ) -> Result<Reply, Rejected> {
        let settings = self.meta().settings.with(changes)?;
        self.meta_mut().settings = settings;
        for (setting, value) in changes {
            let fact = Fact::SettingChanged {
                name: setting.about().name,
                value: *value,
            };
            context.tell(EnvId::default(), None, fact);
        }
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_ranges() {
        let settings = Settings::default();
        for setting in Setting::ALL {
            let about = setting.about();
            assert_eq!(settings.get(*setting), about.default);
            let same = settings.with(&[(*setting, about.default)]);
            assert_eq!(same.as_ref(), Ok(&settings), "{}", about.name);
            assert_eq!(Setting::named(about.name), Some(*setting));
            assert!(!about.what.is_empty() && !about.what.starts_with(' '));
        }
        assert_eq!(Setting::named("leas"), None);
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_range() {
        let settings = Settings::default();
        for setting in Setting::ALL {
            let about = setting.about();
            for value in [about.min.checked_sub(1), about.max.checked_add(1)]
                .into_iter()
                .flatten()
            {
                let rejected = settings.with(&[(*setting, value)]).unwrap_err();
                assert_eq!(rejected.field(), about.name);
                let range = format!("{} to {}", about.unit.say(about.min), about.unit.say(about.max));
                assert!(rejected.to_string().ends_with(&range), "{rejected}");
            }
        }
        let rejected = settings.with(&[(Setting::Lease, 10)]).unwrap_err();
        assert_eq!(rejected.to_string(), "lease: 10us is not within 2s to 1800s");
    }

    #[test]
    fn a_job_outlives_its_key() {
        let settings = Settings::default();
        let rejected = settings.with(&[(Setting::Retention, 60 * SECOND)]).unwrap_err();
        assert_eq!(rejected.field(), "retention");
        let both = [(Setting::Retention, 60 * SECOND), (Setting::KeyFor, 60 * SECOND)];
        assert_eq!(settings.with(&both).unwrap().retention, 60 * SECOND);
    }
}
