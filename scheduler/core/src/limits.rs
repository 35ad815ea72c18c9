//! Every bound of the core, named. A limit that changes what `apply` answers is a default of
//! [`crate::state::settings::Settings`], which is in the log; the others are local.

use crate::types::{MILLISECOND, SECOND};

/// Time between two raft ticks, in µs.
pub const TICK: u64 = 50 * MILLISECOND;
/// Shortest election timeout, in ticks.
pub const ELECTION_TICKS_MIN: usize = 10;
/// Upper end (not reached) of the election window, in ticks.
pub const ELECTION_TICKS_MAX: usize = 20;
/// Ticks between two raft heartbeats.
pub const HEARTBEAT_TICKS: usize = 2;
/// Clocks that a follower told its leader and has not heard back. Those of longer ago are forgotten: its age is then not known
/// to be less.
pub const STAMPS_MAX: usize = 256;

/// How often a worker speaks, in µs.
pub const WORKER_HEARTBEAT: u64 = SECOND;
/// Silence after which a worker is lost, in µs of the leader's own running time.
pub const WORKER_LEASE: u64 = 10 * SECOND;
/// Added to the lease while the worker has not yet spoken to this leader, in µs.
pub const FAILOVER_GRACE: u64 = 60 * SECOND;
/// Shortest lease: workers speak each second.
pub const WORKER_LEASE_MIN: u64 = 2 * WORKER_HEARTBEAT;
/// A suspect photo whose worker was lost waits so long, in µs. An agent that hears no leader ends such a photo after
/// 10 s; twice that is for what was on its way, for clocks, and for the end of the process.
pub const SUSPECT_WAIT: u64 = 30 * SECOND;
/// An open job closes by itself after so long, in µs.
pub const OPEN_FOR: u64 = 15 * 60 * SECOND;
/// How long an idempotency key is remembered, in µs.
pub const KEY_FOR: u64 = 24 * 3600 * SECOND;
/// How long a job is kept after it ended, in µs.
pub const RETENTION: u64 = 7 * 24 * 3600 * SECOND;
/// Most photos of an environment in the queue, unless it has a limit of its own.
pub const WAITING_PER_ENVIRONMENT_MAX: u64 = 20_000_000;
/// Most photos of an environment with workers at once, unless it has a limit of its own.
pub const GIVEN_PER_ENVIRONMENT_MAX: u64 = 10_000_000;
/// Most photos in the queues of the whole cluster.
pub const PHOTOS_WAITING_MAX: u64 = 20_000_000;
/// Most bytes kept for the jobs of the whole cluster that have not ended.
pub const OPEN_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// What a job counts for there beside its own words, and a photo beside its URI, in bytes.
pub const JOB_BYTES: u64 = 512;
/// See [`JOB_BYTES`].
pub const PHOTO_BYTES: u64 = 16;
/// An environment whose waiting photos would take longer than this to work off is overloaded, in µs.
pub const SHED_AFTER: u64 = 2 * SECOND;
/// Largest weight of an environment.
pub const WEIGHT_MAX: u32 = 1_000;
/// Most keys forgotten by one entry.
pub const EXPIRE_KEYS_MAX: usize = 1_024;
/// Most jobs deleted by one entry.
pub const EXPIRE_JOBS_MAX: usize = 512;
/// Most appends whose deadline one entry says has passed.
pub const OVERDUE_APPENDS_MAX: usize = 1_024;
/// An entry that says so of so many photos names no further append.
pub const OVERDUE_TASKS_MAX: u64 = 16_384;
/// Rows of deleted jobs that one entry takes away; what a job has more goes with later ones.
pub const EXPIRE_ROWS_MAX: usize = 2_048;
/// Most idempotency keys an environment has remembered at once.
pub const KEYS_PER_ENVIRONMENT_MAX: u64 = 1_000_000;

/// Most photos in a job.
pub const TASKS_PER_JOB_MAX: u64 = 100_000;
/// Most photos in one append.
pub const APPEND_PHOTOS_MAX: usize = 2_000;
/// Most bytes of URIs in one append.
pub const APPEND_BYTES_MAX: usize = 256 * 1024;
/// Most appends to one job: 100 000 photos with URIs of the greatest length fit.
pub const APPENDS_PER_JOB_MAX: u32 = 1_024;
/// Longest URI, in bytes.
pub const URI_BYTES_MAX: usize = 1_024;
/// Longest log entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Longest result, in bytes.
pub const RESULT_BYTES_MAX: usize = 16 * 1024;
/// Longest failure message kept, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1_024;
/// Longest name of a job, environment, actor, worker, recogniser, zone, …, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Most labels of a job.
pub const LABELS_MAX: usize = 16;
/// Highest priority.
pub const PRIORITY_MAX: u32 = 100;
/// Most attempts a spec may ask for.
pub const ATTEMPTS_MAX: u32 = 10;
/// Longest time limit of one photo, in µs.
pub const PHOTO_TIMEOUT_MAX: u64 = 3600 * SECOND;
/// A deadline is at most so far away, in µs.
pub const DEADLINE_MAX: u64 = 366 * 24 * 3600 * SECOND;

/// Jobs that are proposed and not yet applied for which a leader plans.
pub const COMING_MAX: usize = 64;

/// Photos a worker holds for each slot until its speed is known: one in the recogniser, one behind it.
pub const CREDIT_PER_SLOT: u32 = 2;
/// Most photos a worker holds for each slot, however fast it is.
pub const CREDIT_MAX: u32 = 64;
/// Most photos a worker holds, however fast it is and however many slots it has: half of what an agent takes.
pub const CREDIT_TASKS_MAX: u32 = 4_096;
/// Answers' times from a result until new work: the result's entry, and the plan's.
pub const TURN_ANSWERS: u64 = 2;
/// A task is taken back from its worker at most so often.
pub const REGIVES_MAX: u32 = 3;
/// Most pieces that one plan takes back; one that stops here says `more`.
pub const REGIVES_PER_PLAN_MAX: usize = 64;
/// What is taken back must end sooner by this, in µs.
pub const REGIVE_MARGIN: u64 = 500 * MILLISECOND;
/// Time from a plan until a worker that has measured nothing yet has its photo, in µs.
pub const REGIVE_TURN: u64 = 100 * MILLISECOND;
/// So often a leader looks for what might be taken back, in µs of its running time.
pub const REGIVE_EVERY: u64 = 500 * MILLISECOND;
/// Most tails that one observation shows.
pub const TAILS_MAX: usize = 4_096;
/// Most of them of one worker.
pub const TAILS_PER_WORKER_MAX: usize = 4;
/// Most runs of which a worker says in one heartbeat how far they are; what it says of more is left out.
pub const STARTED_MAX: usize = 8_192;
/// No time that a worker says of itself counts for more, in µs: the longest time limit of a photo.
pub const PACE_US_MAX: u64 = PHOTO_TIMEOUT_MAX;
/// Most specs whose times a worker says in one heartbeat; what it says of more is left out.
pub const PACES_MAX: usize = 64;
/// Photos of one spec that fail at a worker in a row, while others do such photos, until it gets none for a while.
pub const BRAKE_AFTER: u32 = 2;
/// The first such while, in µs of running time; each further one is twice as long.
pub const BRAKE_MIN: u64 = SECOND;
/// The longest.
pub const BRAKE_MAX: u64 = 30 * SECOND;
/// Most slots of a worker.
pub const SLOTS_MAX: u32 = 1_024;
/// Most recognisers a worker may name.
pub const RECOGNISERS_PER_WORKER_MAX: usize = 64;
/// Most workers at once.
pub const WORKERS_MAX: usize = 10_000;
/// Workers that have gone and are still shown.
pub const WORKERS_GONE_KEPT: usize = 1_000;
/// Most environments.
pub const ENVIRONMENTS_MAX: usize = 1_000;
/// Most jobs in a cluster, ended ones included.
pub const JOBS_MAX: usize = 4_000_000;
/// Most distinct specs.
pub const SPECS_MAX: usize = 10_000;
/// Tasks whose outcomes share one record.
pub const PAGE_TASKS: u64 = 4_096;
/// Most results in one report of a worker.
pub const RESULTS_PER_REPORT_MAX: usize = 1_024;

/// Most runs given by one plan; a plan that stops here says `more`.
pub const RUNS_PER_PLAN_MAX: usize = 1_024;
/// Most jobs one observation shows: twice what one plan gives.
pub const DEMAND_MAX: usize = 2 * RUNS_PER_PLAN_MAX;

/// Jobs that wait which estimates of another job's end look at one by one, of all environments that have work; those
/// behind count on the whole. One call of `handle` may have to look at all of them: they are some ten milliseconds.
pub const LINE_JOBS_MAX: usize = 10_000;
/// So many of each environment at least, however many have work.
pub const LINE_JOBS_MIN: usize = 128;
/// What was seen of them counts for so long, in µs for each job and for each environment that has work: a look takes a
/// µs a job where the queue is long and cold, so that all looks together take a twentieth of a processor.
pub const LINE_STAYS: u64 = 20;
/// So few are looked at anew whenever something was applied.
pub const LINE_FRESH: usize = 16;
/// As long as nothing is applied it counts for so long, in µs.
pub const LINE_STAYS_SAME: u64 = 100 * MILLISECOND;
/// Environments whose queues a leader keeps in mind so.
pub const LINES_MAX: usize = 1_024;
/// Specs whose speed a leader keeps in mind.
pub const SPEED_SPECS: usize = 1_024;
/// How much comes out of the workers is counted for so long at least, in µs; a quarter of it the first time.
pub const SPEED_WINDOW: u64 = SECOND;
/// And until so many photos ended.
pub const SPEED_PHOTOS: u64 = 32;
/// But no longer than this, in µs.
pub const SPEED_WINDOW_MAX: u64 = 60 * SECOND;
/// What was counted across a gap longer than this says nothing, in µs.
pub const SPEED_GAP_MAX: u64 = SECOND;
/// Under overload the time until a submit is done is taken for so many parts in four of what is expected.
pub const SHED_CAUTION: u64 = 6;
/// Who is refused under overload comes back after so long at most on the whole, in µs.
pub const SHED_RETRY_MAX: u64 = 30 * SECOND;
/// And who is refused by a full cluster where nobody measured how fast it works, in µs.
pub const FULL_RETRY: u64 = SECOND;
/// A cluster is said to shed for so long after the last refusal, in µs.
pub const SHED_SHOWN: u64 = 5 * SECOND;

/// Most bytes proposed in one `handle`: well below what one peer message may carry.
pub const PROPOSE_BYTES_PER_HANDLE: usize = 2 * 1024 * 1024;
/// Of the bytes proposed in one `handle`, one part in so many is left to clients while results, plans and leases wait too.
pub const OWN_PART: usize = 4;
/// When the oldest request waits so long to be proposed, what cannot make its deadline is refused, in µs of running time.
pub const BUSY_AGE: u64 = 500 * MILLISECOND;
/// When it waits so long, callers are told to come back, in µs of running time.
pub const OVERLOAD_AGE: u64 = 2 * SECOND;
/// They come back after so long on the whole, in µs, from half to one and a half of it.
pub const OVERLOAD_RETRY: u64 = 200 * MILLISECOND;
/// How fast entries in raft's log are applied is measured for so long at least, in µs of running time.
pub const PENDING_MEASURED: u64 = 250 * MILLISECOND;
/// Bytes of entries the log cache keeps at most, beyond what a snapshot under way needs.
pub const LOG_CACHE_BYTES: usize = 2 * RAFT_UNCOMMITTED_BYTES as usize;
/// Most bytes waiting to be proposed; beyond, callers are told to come back.
pub const PROPOSE_BYTES_WAITING: usize = 32 * 1024 * 1024;
/// Most questions a replica keeps open.
pub const ASKS_MAX: usize = 65_536;
/// A question without a time limit of its own gets this one, in µs.
pub const ASK_TIMEOUT: u64 = 10 * SECOND;
/// Longest time limit of a question, in µs.
pub const ASK_TIMEOUT_MAX: u64 = 120 * SECOND;
/// Jobs in one page of a list.
pub const LIST_MAX: u32 = 1_000;
/// Results in one page.
pub const RESULTS_PAGE_MAX: u32 = 256;

/// raft: bytes of entries in one append message.
pub const RAFT_MESSAGE_BYTES: u64 = 1024 * 1024;
/// raft: append messages on their way to one follower.
pub const RAFT_INFLIGHT_MESSAGES: usize = 64;
/// raft: bytes proposed and not yet committed; beyond, proposals are refused.
pub const RAFT_UNCOMMITTED_BYTES: u64 = 64 * 1024 * 1024;
/// raft: bytes of committed entries handed over at once.
pub const RAFT_COMMITTED_BYTES_PER_READY: u64 = 1024 * 1024;
/// Orders to the store under way at once, so that inputs gather while it syncs.
pub const PERSISTS_IN_FLIGHT: usize = 2;
/// Orders under way at once while the store stands still: one more with each raft heartbeat.
pub const PERSISTS_IN_FLIGHT_MAX: usize = 64;
/// A store may stand still for so long before its server falls silent, in µs of running time.
pub const STALL_MAX: u64 = 3 * SECOND;
/// A peer message is at most so long, in bytes.
pub const PEER_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Entries the log keeps behind the applied index before it is cut.
pub const LOG_KEEP_ENTRIES: u64 = 100_000;
/// A snapshot under way keeps the log that its receiver will need for so long, in µs of running time: longer than any
/// send may take.
pub const SNAPSHOT_HOLDS_LOG: u64 = 7 * 3600 * SECOND;
/// A snapshot under way keeps at most so many bytes of the log; then its receiver will need another one.
pub const SNAPSHOT_LOG_BYTES: usize = 512 * 1024 * 1024;
/// Digests are noted at every index that divides by this.
pub const DIGEST_EVERY: u64 = 1_000;

/// Longest name of a machine, in bytes.
pub const INSTANCE_BYTES_MAX: usize = 32;
/// Launches that one plan may have.
pub const LAUNCHES_PER_PLAN_MAX: u64 = 16;
/// Kinds of machines that one launch may be answered with: EC2 takes 300 overrides.
pub const CHOICES_PER_LAUNCH_MAX: usize = 60;
/// Machines that one launch may ask for.
pub const MACHINES_PER_LAUNCH_MAX: u32 = 1_000;
/// Machines that have not ended, at once.
pub const MACHINES_MAX: usize = 10_000;
/// Machines that have ended and launches that are settled, kept for questions; the oldest go first.
pub const MACHINES_GONE_KEPT: usize = 4_096;
/// Machines that one plan lets go.
pub const DRAINS_PER_PLAN_MAX: usize = 256;
/// Machines that one entry says something of.
pub const SIGHTINGS_PER_ENTRY_MAX: usize = 1_024;
/// Pools that the state remembers something of; those of which nothing is in force go first.
pub const POOLS_KEPT: usize = 4_096;
/// Times to readiness kept of a pool.
pub const READY_KEPT: usize = 16;
/// Hours of which the spending is kept: a week and a day.
pub const SPEND_HOURS_KEPT: usize = 8 * 24;
/// No call of a launch begins so long after its entry, in µs.
pub const LAUNCH_VALID: u64 = 120 * SECOND;
/// No call to start a machine that stands still begins so long after it was decided, in µs.
pub const START_VALID: u64 = 120 * SECOND;
/// What was started, but whose answer was lost, is seen in a list of machines after at most so long, in µs. EC2 says: "up
/// to a few minutes"; what is tried again meanwhile has the same token.
pub const SIGHT_DELAY_MAX: u64 = 300 * SECOND;
/// What the cloud tells of machines may be so far ahead of the cluster's clock, in µs; that stands still while nobody leads.
pub const CLOUD_AHEAD_MAX: u64 = 3_600 * SECOND;
/// A machine that has ended for so long is not paid again, whatever its price turns out to have been, in µs.
pub const REPRICED_WITHIN: u64 = 3_600 * SECOND;
/// Shortest time that EC2 bills at each start, in µs.
pub const BILLED_MIN: u64 = 60 * SECOND;

/// First wait before a call of the cloud is made again, in µs of running time; each failure in a row doubles it.
pub const CALL_BACKOFF: u64 = SECOND;
/// Longest such wait, in µs.
pub const CALL_BACKOFF_MAX: u64 = 60 * SECOND;
/// Launch calls of one region that may begin at once, where none began for a while. EC2's own bucket for
/// `RunInstances` holds five requests (EC2 developer guide, "Request throttling").
pub const CALLS_AHEAD: u64 = 5;
/// Most such calls in 1 000 s; EC2 refills two a second.
pub const CALLS_RATE_MAX: u64 = 2_000;
/// Fewest, however often they are throttled.
pub const CALLS_RATE_MIN: u64 = 200;
/// So many more for each that is taken.
pub const CALLS_RATE_STEP: u64 = 100;
/// A machine that shall end is asked to again after so long, in µs.
pub const TERMINATE_AGAIN: u64 = 30 * SECOND;
/// A region is listed so often, in µs.
pub const LIST_EVERY: u64 = 60 * SECOND;
/// The same while something is on its way there, in µs.
pub const LIST_SOON: u64 = 5 * SECOND;
/// Machines and money are looked at so often, in µs, whatever happens.
pub const FLEET_TICK: u64 = SECOND;
/// They are looked at no sooner than so long after the last time, in µs.
pub const FLEET_LOOK: u64 = 100 * MILLISECOND;

/// Most schedules of a policy.
pub const SCHEDULES_MAX: usize = 32;
/// Longest text of a schedule, in bytes.
pub const SCHEDULE_TEXT_MAX: usize = 200;
/// Environments of which one policy says something.
pub const ENV_RULES_MAX: usize = 256;
/// Regions to which one of them is limited.
pub const REGIONS_PER_RULE_MAX: usize = 32;
/// Bytes of a region's name.
pub const REGION_TEXT_MAX: usize = 32;
/// Commitments of one policy.
pub const COMMITMENTS_MAX: usize = 256;
/// Most bytes of a photo that a policy may reckon with, in thousands.
pub const PHOTO_KB_MAX: u32 = 1_000_000;
/// Recognisers whose weeks are remembered.
pub const PROFILED_MAX: usize = 16;
/// Weeks of each quarter hour that are remembered.
pub const PROFILE_WEEKS: usize = 10;
/// Arrivals within a quarter hour that are told apart.
pub const ARRIVALS_MAX: usize = 4_096;
/// What the profile knows is acted on so long before a machine that takes as long as any did would be ready, in µs.
pub const PROFILE_MARGIN: u64 = 10 * SECOND;

/// Types whose measured speeds are remembered, each with each recogniser.
pub const MEASURES_KEPT: usize = 1_024;
/// Measured speeds in one entry.
pub const MEASURED_PER_ENTRY_MAX: usize = 256;
/// Speeds are looked at so often, in µs.
pub const MEASURE_EVERY: u64 = 10 * SECOND;
/// A speed goes into the log when it is another one by so many thousandths.
pub const MEASURE_CHANGED: u64 = 50;
/// Decisions about machines that are kept; the oldest go first.
pub const DECISIONS_KEPT: usize = 8_192;
/// No decision is kept for longer, in µs.
pub const DECISIONS_KEPT_FOR: u64 = 7 * 24 * 3_600 * SECOND;
/// Decisions that one look shows, the newest.
pub const DECISIONS_SHOWN: usize = 500;
/// Policies that are kept to go back to.
pub const POLICIES_KEPT: usize = 32;
/// Differences between a tried policy and the one in force that are shown, the newest.
pub const TRIAL_DIFFERENCES_KEPT: usize = 20;
/// Hours of a bill in one entry.
pub const BILLED_PER_ENTRY_MAX: usize = 48;
/// Hours over which the bill is held against the cluster's own books.
pub const BILL_HOURS: u64 = 24;
/// So many of the last hours are not: what was bought towards their end may not be known yet.
pub const BILL_OPEN_HOURS: u64 = 1;
/// Price changes in one entry.
pub const PRICES_PER_ENTRY_MAX: usize = 256;
/// The two are never too far apart by less, in millionths of USD.
pub const BILL_LEAST: u64 = 50_000;
/// Photos done in a week before their cost is a measure of what comes after.
pub const WEEK_PHOTOS_LEAST: u64 = 10_000;
/// Interruptions of a pool that are remembered by their time.
pub const TAKEN_KEPT: usize = 32;

/// Most servers of a cluster.
pub const MEMBERS_MAX: usize = 9;
/// A learner becomes a voter when it is at most so many entries behind the log's end.
pub const MEMBER_CAUGHT_UP: u64 = 1_000;
/// A server that said nothing to the leader for so long is not counted as alive, in µs of its running time.
pub const MEMBER_SILENT: u64 = ELECTION_TICKS_MAX as u64 * TICK;
/// A leadership on its way to another server that has not come for so long stays, in µs of running time.
pub const TRANSFER_TIMEOUT: u64 = 2 * SECOND;
/// A leader that is no member any more tells the others so for so long, in µs of its running time.
pub const REMOVED_LEADS: u64 = SECOND;
/// Longest address of a server, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Longest name of a build, in bytes.
pub const BUILD_BYTES_MAX: usize = 64;

/// The stamp follows the wall clock by at most 1/20 of the time passed.
pub const CLOCK_SLEW_DIVISOR: u64 = 20;
/// A wall clock further away than this is reported, not followed, in µs.
pub const CLOCK_OFF_MAX: u64 = 600 * SECOND;

/// Those of the local limits that a replica takes from its configuration: simulation draws extreme ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`PROPOSE_BYTES_PER_HANDLE`].
    pub propose_bytes_per_handle: usize,
    /// See [`PROPOSE_BYTES_WAITING`].
    pub propose_bytes_waiting: usize,
    /// See [`ASKS_MAX`].
    pub asks: usize,
    /// See [`PERSISTS_IN_FLIGHT`].
    pub persists_in_flight: usize,
    /// See [`PERSISTS_IN_FLIGHT_MAX`]; at least `persists_in_flight`.
    pub persists_in_flight_max: usize,
    /// See [`DIGEST_EVERY`]; at least 1.
    pub digest_every: u64,
    /// See [`RAFT_MESSAGE_BYTES`]; a message has one entry at least.
    pub raft_message_bytes: u64,
    /// See [`RAFT_INFLIGHT_MESSAGES`]; at least 1.
    pub raft_inflight_messages: usize,
    /// See [`RAFT_UNCOMMITTED_BYTES`].
    pub raft_uncommitted_bytes: u64,
    /// See [`RAFT_COMMITTED_BYTES_PER_READY`].
    pub raft_committed_bytes_per_ready: u64,
    /// See [`SNAPSHOT_HOLDS_LOG`].
    pub snapshot_holds: u64,
    /// See [`SNAPSHOT_LOG_BYTES`].
    pub snapshot_log_bytes: usize,
    /// See [`LOG_CACHE_BYTES`].
    pub log_cache_bytes: usize,
    /// Most results in one entry; see [`RESULTS_PER_REPORT_MAX`].
    pub entry_results: usize,
    /// See [`COMING_MAX`].
    pub coming: usize,
    /// See [`OVERLOAD_AGE`].
    pub overload_age: u64,
    /// See [`MEMBER_CAUGHT_UP`].
    pub caught_up: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            propose_bytes_per_handle: PROPOSE_BYTES_PER_HANDLE,
            propose_bytes_waiting: PROPOSE_BYTES_WAITING,
            asks: ASKS_MAX,
            persists_in_flight: PERSISTS_IN_FLIGHT,
            persists_in_flight_max: PERSISTS_IN_FLIGHT_MAX,
            digest_every: DIGEST_EVERY,
            raft_message_bytes: RAFT_MESSAGE_BYTES,
            raft_inflight_messages: RAFT_INFLIGHT_MESSAGES,
            raft_uncommitted_bytes: RAFT_UNCOMMITTED_BYTES,
            raft_committed_bytes_per_ready: RAFT_COMMITTED_BYTES_PER_READY,
            snapshot_holds: SNAPSHOT_HOLDS_LOG,
            snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
            log_cache_bytes: LOG_CACHE_BYTES,
            entry_results: RESULTS_PER_REPORT_MAX,
            coming: COMING_MAX,
            overload_age: OVERLOAD_AGE,
            caught_up: MEMBER_CAUGHT_UP,
        }
    }
}

/// Launches that one look shows, the newest.
pub const LAUNCHES_SHOWN: usize = 200;
