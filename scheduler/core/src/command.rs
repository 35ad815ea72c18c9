//! All that is ever in the log.

use serde::{Deserialize, Serialize};

use crate::event::Cause;
use crate::photos::Photos;
use crate::plan::Plan;
use crate::plan::capacity::Scale;
use crate::rows::Rows;
use crate::scaling::Scaling;
use crate::state::buying::Settled;
use crate::state::members::Founder;
use crate::state::settings::{Setting, Settings};
use crate::state::sightings::Sighting;
use crate::types::{
    Caller, ClusterId, Given, Index, InstanceId, JobId, MicroUsd, Pool, Recogniser, ReplicaId, Resources,
    Time, TraceId, WorkerId,
};
use crate::version::{self, Build};

/// The version of an entry that every build reads: [`version::FIRST`](crate::version::FIRST).
pub const ENTRY_VERSION: u16 = crate::version::FIRST;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The version at which the cluster ran when it was proposed, as the leader had applied it. First, so that a build
    /// that does not know it reads no further.
    pub version: u16,
    /// The leader's stamp.
    pub at: Time,
    /// Who asked.
    pub by: Caller,
    /// The caller's trace.
    pub trace: TraceId,
    /// What to do.
    pub command: Command,
}

/// What the log can say. New ones are added at the end only: the encoding is by position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of every cluster.
    Begin {
        cluster: ClusterId,
        cluster_version: u16,
        settings: Box<Settings>,
        /// The servers it begins with, all voters.
        founders: Vec<Founder>,
    },
    /// Opens a job, perhaps with all its photos.
    Open(Box<Open>),
    /// Adds photos to an open job.
    Append { job: JobId, offset: u64, photos: Photos },
    /// The job takes no more photos; `total` is how many it has.
    Close { job: JobId, total: u64 },
    /// The job was open for too long.
    CloseExpired { job: JobId },
    /// Ends the job with what it has.
    Cancel { job: JobId },
    /// A worker's session begins; an earlier one of the same name ends.
    WorkerJoined(Box<Join>),
    /// A worker's session ended by silence.
    WorkerLost { worker: WorkerId },
    /// A worker gets nothing new.
    WorkerDrain { worker: WorkerId },
    /// A worker said good-bye.
    WorkerLeft { worker: WorkerId },
    /// What the policy decided.
    Adopt(Plan),
    /// What a worker reports of its attempts.
    Ended { worker: WorkerId, reports: Vec<Report> },
    /// Counts: proof that the cluster takes writes.
    Count,
    /// Changes limits that change outcomes.
    Settings(Vec<(Setting, u64)>),
    /// The cluster's clock follows the wall clock at once.
    AcceptClock { wall: Time },
    /// Forgets the keys that made these jobs, and deletes those other jobs: their time is over.
    Expire { keys: Vec<JobId>, jobs: Vec<JobId> },
    /// Changes what an environment may have; makes it when it is new.
    Environment(Box<Allot>),
    /// A server is added, as a learner; the voter it replaces goes when it becomes one.
    MemberAdd {
        new: Founder,
        replaces: Option<ReplicaId>,
    },
    /// A server was met with this data directory, and must have it from now on.
    MemberMet { server: ReplicaId, incarnation: u64 },
    /// A learner becomes a voter: a joint configuration begins.
    MemberPromote { server: ReplicaId },
    /// A learner goes at once; a voter through a joint configuration, which begins.
    MemberRemove { server: ReplicaId },
    /// The joint configuration ends.
    MembersSettle,
    /// The deadlines of these appends have passed: job, and first photo.
    Overdue { appends: Vec<(JobId, u64)> },
    /// The state of a backup is another cluster's from here on: the first entry after those that were backed up. Only
    /// a restore writes it.
    Restore {
        cluster: ClusterId,
        /// The servers that it goes on with, all voters.
        founders: Vec<Founder>,
    },
    /// The cluster runs at a higher version from the next entry on.
    Upgrade { to: u16 },
    /// A server runs this build.
    MemberBuild { server: ReplicaId, build: Build },
    /// What the policy decided to buy and to let go.
    Scale(Box<Scale>),
    /// What a launch's call came to.
    LaunchSettled(Box<Settled>),
    /// What was seen of machines.
    Seen(Vec<Sighting>),
    /// Spot prices of pools in which machines run have changed, and since when each is in force: those of one pool in the
    /// order of time.
    Prices(Vec<(Pool, MicroUsd, Time)>),
    /// These machines have not joined in time.
    NeverJoined(Vec<InstanceId>),
    /// A policy of buying machines, in place of the one that an entry brought.
    Steer {
        scaling: Box<Scaling>,
        check: Option<Index>,
    },
    /// Launches and scale-in stand still, for a reason; or go on.
    Freeze { why: Option<String> },
    /// A brake is released.
    Thaw,
    /// Nothing is launched in a pool until then; or again.
    Ban {
        pool: Pool,
        until: Option<Time>,
        why: String,
    },
    /// A quarter hour is over, of the week so many: what it took, by recogniser, in photos in 10^12 µs.
    QuarterOver {
        begun: Time,
        quarter: u16,
        took: Vec<(String, u64)>,
    },
    /// Machines of a type turned out to take so many µs for a photo with a recogniser, all slots at work: recogniser,
    /// type, µs.
    Measured(Vec<(String, String, u64)>),
    /// The cloud says what hours cost: hours since 1970, millionths of USD.
    Billed(Vec<(u64, u64)>),
    /// A policy is tried beside the one in force, buying nothing; none: no longer.
    Shadow { scaling: Option<Box<Scaling>> },
}

impl Command {
    /// The version that brought it: it is proposed at none below.
    pub fn since(&self) -> u16 {
        match self {
            Command::MemberBuild { .. } => version::BUILDS,
            _ => version::FIRST,
        }
    }
}

/// Changes of what an environment may have; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allot {
    /// The environment.
    pub name: String,
    /// Its part of the workers beside other environments, 1 to [`crate::limits::WEIGHT_MAX`].
    pub weight: Option<u32>,
    /// Most photos in the queue; 0: the setting's.
    pub max_waiting: Option<u64>,
    /// Most jobs that have not ended; 0: the setting's.
    pub max_jobs: Option<u64>,
    /// Most photos with workers at once; 0: the setting's.
    pub max_given: Option<u64>,
}

/// A job to open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The caller's idempotency key; empty: none.
    pub key: Vec<u8>,
    /// Shown to people.
    pub name: String,
    /// Sorted by key, each key once.
    pub labels: Vec<(String, String)>,
    /// 0..=100, higher first.
    pub priority: u8,
    /// When it should be done.
    pub deadline: Deadline,
    /// What many jobs share.
    pub spec: Spec,
    /// The first photos, or all.
    pub photos: Photos,
    /// The photos are all here.
    pub close: bool,
}

/// A deadline as it was asked for. State holds the instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// None.
    None,
    /// So many µs after the entry's stamp; of a job that takes photos, after the stamp of each photo's.
    In(u64),
    /// At this instant.
    At(Time),
}

impl Deadline {
    /// The instant, for an entry stamped `at`.
    pub fn instant(self, at: Time) -> Option<Time> {
        match self {
            Deadline::None => None,
            Deadline::In(us) => Some(Time(at.0.saturating_add(us))),
            Deadline::At(time) => Some(time),
        }
    }
}

/// What runs a photo, and how: equal ones are kept once for all the jobs of an environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spec {
    /// Recogniser's name, perhaps with `@` and the beginning of its digest in hex.
    pub recogniser: String,
    /// What one photo needs.
    pub resources: Resources,
    /// Longest time of one photo in the recogniser, in µs; 0: the recogniser's own.
    pub photo_timeout: u64,
    /// Attempts that may fail; 0: the setting's.
    pub max_attempts: u32,
    /// A photo whose deadline has passed is not given to anybody: it ends as dropped.
    pub drop_late: bool,
    /// The region of the photos' bucket; empty: not said. Their way to a machine in another one costs.
    pub region: String,
}

/// A worker that joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The machine's own name.
    pub name: String,
    /// Drawn at each start of the agent.
    pub nonce: u64,
    /// Photos it works on at once.
    pub slots: u32,
    /// What it has.
    pub resources: Resources,
    /// Where it runs, if on EC2.
    pub pool: Pool,
    /// What it can run.
    pub recognisers: Vec<Recogniser>,
    /// The agent's version.
    pub version: String,
}

/// Attempts of consecutive tasks that ended alike, reported together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The job.
    pub job: JobId,
    /// Index of the first photo in it.
    pub first: u64,
    /// The attempts' fence.
    pub given: Given,
    /// None: they succeeded.
    pub cause: Option<Cause>,
    /// What each of them gave, in order.
    pub rows: Rows,
}

impl Report {
    /// Index behind the last task; no task has the greatest one.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.rows.len())
    }
}
