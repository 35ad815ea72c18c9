//! Every bound and every stated assumption of the price book, named.

use rebound_core::types::SECOND;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Most pools in a book. All of EC2 had 9 100 priced spot pools on one day of 2022.
pub const POOLS_MAX: usize = 50_000;
/// Most changes of price kept for one pool: two weeks of the most restless pool recorded (277 changes a day).
pub const POINTS_PER_POOL_MAX: usize = 4_096;
/// Most changes of price kept in all, of 16 bytes each: 32 MiB. The longest histories give way first.
pub const POINTS_MAX: usize = 2_000_000;
/// Most (type, region) pairs with an on-demand price.
pub const ON_DEMAND_MAX: usize = 100_000;
/// Most pools with counts of their own interruptions and launches.
pub const RISKS_MAX: usize = 50_000;

/// Largest input file, unpacked, in bytes.
pub const FILE_BYTES_MAX: u64 = 512 << 20;
/// Most faults of a file that are told one by one.
pub const FAULTS_TOLD_MAX: usize = 10;

/// A price above so many times on-demand is a mistake of the feed. The highest recorded was 10.5 times (2016).
pub const ABSURD_OVER_ON_DEMAND: u64 = 20;
/// A price below on-demand divided by this is a mistake of the feed. The lowest recorded is a thirtieth or so.
pub const ABSURD_UNDER_ON_DEMAND: u64 = 200;
/// The same against the last good price, where on-demand is not known: EC2 never moved so far at once.
pub const ABSURD_STEP: u64 = 100;
/// A price may be stamped so far ahead of the reader's clock, in µs: clocks differ.
pub const FUTURE_SLACK: u64 = 5 * MINUTE;
/// A batch with more refused prices than this, in permille, is not believed at all.
pub const ABSURD_BATCH_PERMILLE: u64 = 100;

/// A feed that said nothing for so long is gone, in µs. It is asked every minute.
pub const GONE_AFTER: u64 = 15 * MINUTE;
/// Changes a day of the calmest pool recorded (2024, t3.medium: 1.9). With it a feed's silence is judged.
pub const CHANGES_A_DAY_EXPECTED: u64 = 2;
/// A feed in which so many changes were to be expected and none came is frozen.
pub const FROZEN_CHANGES: u64 = 20;
/// No feed is called frozen sooner than this, in µs: EC2 changes many prices at once, and none for a while.
pub const FROZEN_AFTER_LEAST: u64 = HOUR;
/// How long the last good price stands in for a feed that cannot be believed, in µs; then on-demand does.
pub const LAST_GOOD_FOR: u64 = HOUR;
/// An on-demand file older than this is said to be old, in µs. It is still used: on-demand prices hardly move.
pub const ON_DEMAND_OLD_AFTER: u64 = 400 * DAY;

/// Own interruptions count half after so long, in µs.
pub const INTERRUPTION_HALF_LIFE: u64 = DAY;
/// Own launches count half after so long, in µs: capacity comes and goes within minutes.
pub const LAUNCH_HALF_LIFE: u64 = 15 * MINUTE;
/// What the advisor's band weighs, in instance-minutes: about four machine-days of own experience.
pub const INTERRUPTION_PRIOR_MINUTES: u64 = 100 * 60;
/// What the placement score weighs, in launches.
pub const LAUNCH_PRIOR_LAUNCHES: u64 = 2;
/// Interruptions a million instance-hours where no band is known: the middle band.
pub const INTERRUPTION_PRIOR_UNKNOWN: u64 = 223;
/// Launches of a million that fail where no score is known.
pub const LAUNCH_PRIOR_UNKNOWN: u64 = 100_000;
/// Launches of a million that fail on demand where nothing was counted.
pub const LAUNCH_PRIOR_ON_DEMAND: u64 = 10_000;

/// Photos of so many machine-seconds of one vCPU each are assumed where nothing was measured, in µs.
pub const PRIOR_VCPU_US_PER_PHOTO: u64 = 2 * SECOND;
/// Machines of a type that was never measured that may run at once.
pub const PROBE_MAX: u32 = 1;
/// Paid machine time that an interruption wastes, in µs: a new machine's boot, and the photo begun anew.
pub const LOST_PER_INTERRUPTION: u64 = 2 * MINUTE;
/// Time that a failed launch costs before the next try, in µs.
pub const LAUNCH_RETRY: u64 = 30 * SECOND;
/// How long a machine is used, in µs, over which its launches are spread.
pub const MACHINE_LIFE: u64 = HOUR;
/// Another region must be cheaper by so much, in permille, to be worth its latency.
pub const AWAY_SAVING_PERMILLE: u64 = 100;

/// Longest series the generator makes, in minutes: ten years.
pub const GENERATED_MINUTES_MAX: u64 = 10 * 366 * 24 * 60;
/// Most changes of price in a generated series; ten years of the most restless pool have a million.
pub const GENERATED_POINTS_MAX: usize = 5_000_000;
/// Most machines of one recording of capacity.
pub const MACHINES_MAX: u32 = 100_000;
