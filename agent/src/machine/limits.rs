//! Every bound of the machine, by name.

/// Version of the agents' protocol, said in Hello.
pub const PROTOCOL: u32 = 1;

/// Most slots of one agent.
pub const MAX_SLOTS: u32 = 1024;

/// Photos fetched ahead of the recognisers, for each slot, when a fetch takes no longer than a photo in its slot. One
/// more for each time that it takes longer …
pub const PREFETCH_PER_SLOT: usize = 1;

/// … up to so many.
pub const MAX_PREFETCH_PER_SLOT: usize = 8;

/// No time that is measured counts for more, in µs.
pub const MAX_PACE_US: u64 = 3_600_000_000;

/// Most specs whose times are kept: as many as a server takes in one heartbeat.
pub const MAX_PACES: usize = 64;

/// Most tasks of a desired set: twice what a leader gives the fastest of workers. A larger set is refused.
pub const MAX_DESIRED_TASKS: usize = 8192;

/// Most specs kept of one stream. One more, and the stream begins anew, which forgets those not in use.
pub const MAX_SPECS: usize = 4096;

/// Largest output of a recogniser that may be reported, in bytes.
pub const MAX_RESULT_BYTES: usize = 16 * 1024;

/// What a result takes in the spool beside its output, in bytes: a bound, not a measure.
pub const RESULT_OVERHEAD_BYTES: usize = 256;

/// Longest message of a failure, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Longest id of a cluster, in bytes.
pub const MAX_CLUSTER_BYTES: usize = 128;

/// Most results in one message.
pub const MAX_BATCH_RESULTS: usize = 1024;

/// Most bytes of results in one message, so that a message stays well below what a server takes.
pub const MAX_BATCH_BYTES: usize = 384 * 1024;

/// Full messages of results that may be unanswered on a stream. With so many under way further results gather.
pub const MAX_BATCHES_IN_FLIGHT: usize = 8;

/// With so many unanswered, results gather until a message is full or an answer comes.
pub const SMALL_BATCHES_IN_FLIGHT: usize = 1;

/// After so much time without any answer, everything unanswered is sent again on the same stream.
pub const RESEND_AFTER_US: u64 = 5_000_000;

/// Heartbeat before a Welcome names one.
pub const DEFAULT_HEARTBEAT_US: u64 = 1_000_000;

/// Bounds of a heartbeat a Welcome may ask for.
pub const HEARTBEAT_RANGE_US: (u64, u64) = (50_000, 60_000_000);

/// Silence of all leaders after which nothing new starts, before a Welcome names one.
pub const DEFAULT_ORPHAN_FOR_US: u64 = 70_000_000;

/// Bounds of `orphan_for` a Welcome may ask for.
pub const ORPHAN_FOR_RANGE_US: (u64, u64) = (1_000_000, 3_600_000_000);

/// Silence of every leader after which a suspect photo is ended, and none is started: long before the cluster gives it
/// to somebody else.
pub const SUSPECT_SILENCE_US: u64 = 10_000_000;

/// A stream silent for so many heartbeats is given up …
pub const SILENT_HEARTBEATS: u64 = 3;

/// … but not before this: a leader speaks at least each second.
pub const MIN_SILENCE_US: u64 = 3_000_000;

/// After being asked to leave, work in recognisers may take so long.
pub const LEAVE_WORK_US: u64 = 30_000_000;

/// A machine that will be taken back hands over what is in recognisers so long before its end.
pub const NOTICE_MARGIN_US: u64 = 15_000_000;

/// Once nothing runs, answers to the last results may take so long.
pub const LEAVE_ANSWERS_US: u64 = 5_000_000;
