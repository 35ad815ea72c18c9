//! Ids, time, money and machines: the words everything else is written in. Integers only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position in the replicated log, from 1. 0 means "before the first".
pub type Index = u64;
/// Raft term.
pub type Term = u64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// An environment (tenant). First in every key.
    EnvId(u32)
);
id!(
    /// A job: the log index of the entry that opened it. Never repeats in a cluster.
    JobId(u64)
);
id!(
    /// What is common to many jobs: the log index of the entry that first brought it.
    SpecId(u64)
);
id!(
    /// A worker's session with this cluster: the log index of its `WorkerJoined`. A machine that joins again gets
    /// another one, so a session once ended can never be meant by mistake.
    WorkerId(u64)
);
id!(
    /// The fence of an attempt: the log index of the entry that gave the task. Never repeats in a cluster.
    Given(u64)
);
id!(
    /// A server, as the member list names it. Never 0.
    ReplicaId(u64)
);
id!(
    /// One question from outside to one replica. Chosen by the driver, unique while the question is open.
    AskId(u64)
);
id!(
    /// One order to the store. Rises by one.
    PersistId(u64)
);
id!(
    /// A committed intent to start machines: [`LAUNCHES_PER_PLAN_MAX`](crate::limits::LAUNCHES_PER_PLAN_MAX) × the log
    /// index of its plan + its place there. Never repeats in a cluster.
    LaunchId(u64)
);
id!(
    /// One call of the cloud, as the leader that ordered it counts them.
    CallId(u64)
);
id!(
    /// Microseconds since 1970-01-01 UTC, by the cluster's clock unless said otherwise.
    Time(u64)
);
id!(
    /// Microseconds of a monotonic clock with an origin of its own.
    Mono(u64)
);
id!(
    /// Money, in millionths of a US dollar. A price is per hour unless said otherwise.
    MicroUsd(u64)
);

/// A second, in the unit of [`Time`] and [`Mono`].
pub const SECOND: u64 = 1_000_000;
/// A millisecond, in the unit of [`Time`] and [`Mono`].
pub const MILLISECOND: u64 = 1_000;

/// What the driver's clocks say, handed into every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back. Ticks, leases and timers run on this alone.
    pub mono: Mono,
    /// The wall clock: may jump, may be wrong. Only the leader's stamps lean on it, gently.
    pub wall: Time,
}

/// Names a cluster for ever. A restore makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The caller's own id for a piece of work, returned in every answer, log line and event about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who asks: always from the listener, never from the request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The environment's name.
    pub environment: String,
    /// The person or program.
    pub actor: String,
}

/// What a photo needs in the recogniser, or what a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor.
    pub milli_cpu: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Whole GPUs.
    pub gpus: u32,
}

impl Resources {
    /// How many of `each` fit into `self`; `u32::MAX` when `each` asks for nothing.
    pub fn holds(&self, each: &Resources) -> u32 {
        let by = |have: u32, need: u32| have.checked_div(need).unwrap_or(u32::MAX);
        by(self.milli_cpu, each.milli_cpu)
            .min(by(self.memory_mib, each.memory_mib))
            .min(by(self.gpus, each.gpus))
    }

    /// `self` less `times` × `each`, never below zero.
    pub fn less(&self, each: &Resources, times: u32) -> Resources {
        Resources {
            milli_cpu: self
                .milli_cpu
                .saturating_sub(each.milli_cpu.saturating_mul(times)),
            memory_mib: self
                .memory_mib
                .saturating_sub(each.memory_mib.saturating_mul(times)),
            gpus: self.gpus.saturating_sub(each.gpus.saturating_mul(times)),
        }
    }

    /// `self` and `other` together.
    pub fn plus(&self, other: &Resources) -> Resources {
        Resources {
            milli_cpu: self.milli_cpu.saturating_add(other.milli_cpu),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// `self` × `times`.
    pub fn times(&self, times: u32) -> Resources {
        Resources {
            milli_cpu: self.milli_cpu.saturating_mul(times),
            memory_mib: self.memory_mib.saturating_mul(times),
            gpus: self.gpus.saturating_mul(times),
        }
    }
}

/// How EC2 sells a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Market {
    /// Not said: a machine that is not EC2's.
    #[default]
    None,
    /// May be taken back at two minutes' notice.
    Spot,
    /// Stays until it is ended.
    OnDemand,
}

/// EC2's "capacity pool".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pool {
    /// Region, as `eu-west-1`.
    pub region: String,
    /// Zone **id** (`euw1-az2`), which means the same in every account.
    pub zone_id: String,
    /// Instance type, as `c7g.xlarge`.
    pub instance_type: String,
    /// Spot or on-demand.
    pub market: Market,
}

/// A machine as its cloud names it, as `i-0123456789abcdef0`: at most [`INSTANCE_BYTES_MAX`] letters, digits, `-`, `_`, `.`.
/// Its agent joins under this name.
///
/// [`INSTANCE_BYTES_MAX`]: crate::limits::INSTANCE_BYTES_MAX
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId(pub String);

impl InstanceId {
    /// True when it can be an id, and a key.
    pub fn is_sound(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=crate::limits::INSTANCE_BYTES_MAX).contains(&self.0.len()) && self.0.bytes().all(plain)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A recogniser as a worker has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recogniser {
    /// Its folder's name.
    pub name: String,
    /// sha256 of its manifest; empty for built-in ones.
    pub digest: Vec<u8>,
}
