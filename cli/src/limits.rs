//! Every bound of the command line, named. Those the cluster has too are the core's own.

use std::time::Duration;

pub use rebound_core::limits::{
    APPEND_BYTES_MAX, APPEND_PHOTOS_MAX, ATTEMPTS_MAX, DEADLINE_MAX, KEY_BYTES_MAX, LABELS_MAX, LIST_MAX,
    NAME_BYTES_MAX, PHOTO_TIMEOUT_MAX, PRIORITY_MAX, RESULTS_PAGE_MAX, TASKS_PER_JOB_MAX, URI_BYTES_MAX,
    WEIGHT_MAX,
};

/// Longest job specification or list of photos read, in bytes.
pub const SPEC_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Longest command-line settings file read, in bytes.
pub const SETTINGS_BYTES_MAX: u64 = 64 * 1024;
/// Most YAML nodes in a specification: ten times what the largest job needs, so that a list that is
/// too long is told its length and not just that it is long.
pub const SPEC_NODES_MAX: usize = 1_000_000;
/// Deepest nesting of a specification.
pub const SPEC_DEPTH_MAX: usize = 16;
/// Most photos gathered for one `submit`, over all its jobs.
pub const SUBMIT_PHOTOS_MAX: usize = 1_000_000;
/// Most folders below one another that a directory of photos may have.
pub const PHOTO_FOLDERS_DEEP_MAX: usize = 16;
/// Jobs of one `submit --batch` that are being submitted, or watched, at once.
pub const JOBS_AT_ONCE: usize = 16;

/// How long a call may take over all its tries, if the caller does not say.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest `--timeout`: what a server allows a call.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// A repeatable call that got no answer for so long is asked elsewhere.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest wait for one server's word about itself.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the next part of a backup.
pub const FRAME_WAIT: Duration = Duration::from_secs(60);
/// First pause between two tries; each later one is up to twice as long.
pub const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two tries.
pub const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Leaders followed one after the other without a pause.
pub const HOPS_WITHOUT_PAUSE: u32 = 3;
/// Longest answer taken from a server, in bytes.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a server holds a question about a job that has not changed.
pub const WATCH_POLL: Duration = Duration::from_secs(5);
/// Shortest time between two questions about the same job.
pub const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two lines of progress where there is no terminal.
pub const PROGRESS_LINE_PAUSE: Duration = Duration::from_secs(1);

/// Jobs that `job list` shows, if the caller does not say.
pub const LIST_DEFAULT: u32 = 20;
/// Labels or words that `job report` shows, if the caller does not say.
pub const REPORT_TOP_DEFAULT: usize = 20;
/// Most different labels or words that a report counts one by one; the rest are counted together.
pub const REPORT_DISTINCT_MAX: usize = 100_000;
/// Longest recogniser's answer shown in a table, in characters.
pub const SUMMARY_CHARS_MAX: usize = 60;
