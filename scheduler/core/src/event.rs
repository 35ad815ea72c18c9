//! Facts that applying yields: the one source of metrics, explanations, audit and the simulator's checkers.

use serde::{Deserialize, Serialize};

use crate::plan::capacity::{Flip, Short, Sizing};
use crate::state::control::Brake;
use crate::state::launches::{Lack, Outcome};
use crate::state::machines::{EndWhy, Gone};
use crate::types::{
    ClusterId, EnvId, Given, Index, InstanceId, JobId, LaunchId, Pool, ReplicaId, Time, TraceId, WorkerId,
};
use crate::version::Build;

/// A fact, with where and when it became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The entry that made it a fact.
    pub index: Index,
    /// By the cluster's clock.
    pub at: Time,
    /// Whose it is; `EnvId(0)` for the cluster's own.
    pub env: EnvId,
    /// The job, if it is about one.
    pub job: Option<JobId>,
    /// The trace of the entry, or of the job it is about.
    pub trace: TraceId,
    /// What happened.
    pub fact: Fact,
}

/// Why a photo's attempt gave no result. The retry rules go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// The photo itself. Never tried again.
    Input,
    /// It could not be fetched.
    Fetch,
    /// The recogniser's process died while it held the photo.
    Crashed,
    /// No answer within the photo's time limit.
    Timeout,
    /// The recogniser answered that it failed.
    Recogniser,
    /// The result was too large. Never tried again.
    ResultTooLarge,
    /// Handed back, not the photo's fault.
    Released,
    /// The worker's lease ended, not the photo's fault.
    WorkerLost,
    /// It took too many recognisers with it. Never tried again.
    Quarantined,
    /// Its worker had not started it, and another one would end it sooner.
    TakenBack,
    /// Its deadline passed before it was given, and its job wants no late ones. Never tried again.
    Dropped,
}

impl Cause {
    /// True when the machine is to blame, not the photo or the recogniser: such attempts are counted apart.
    pub fn is_loss(self) -> bool {
        matches!(self, Cause::Released | Cause::WorkerLost | Cause::TakenBack)
    }

    /// True when another attempt can only end the same way.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Cause::Input | Cause::ResultTooLarge | Cause::Quarantined | Cause::Dropped
        )
    }

    /// True when a worker may say so: the others are the leader's to find.
    pub fn is_workers(self) -> bool {
        !matches!(
            self,
            Cause::WorkerLost | Cause::Quarantined | Cause::TakenBack | Cause::Dropped
        )
    }

    /// True when the recogniser's process ended with the photo: by itself, or because it hung.
    pub fn is_death(self) -> bool {
        matches!(self, Cause::Crashed | Cause::Timeout)
    }
}

/// The answer to one reported result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It counts: this entry recorded it.
    Recorded,
    /// It counted before.
    AlreadyRecorded,
    /// Another attempt is or was the current one, or the job has ended.
    Stale,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The cluster's first entry.
    Began { cluster: ClusterId },
    /// A job was opened.
    JobOpened { name: String },
    /// Photos were added to a job; `first` is the index of the first of them.
    TasksQueued { first: u64, count: u64 },
    /// The deadline of these photos has passed; so many of them had not ended.
    TasksLate { first: u64, count: u64, late: u64 },
    /// Late photos ended without having been given to anybody.
    Dropped { first: u64, count: u64 },
    /// The job takes no more photos.
    JobClosed { by_itself: bool },
    /// All tasks are ended.
    JobDone { succeeded: u64, failed: u64 },
    /// The job was cancelled; so many of its tasks had not ended.
    JobCancelled { unended: u64 },
    /// Consecutive tasks were given to a worker together.
    RunGiven {
        worker: WorkerId,
        first: u64,
        count: u64,
        given: Given,
    },
    /// Consecutive tasks were taken from a worker that had not started them and given to another.
    RunRegiven {
        from: WorkerId,
        to: WorkerId,
        first: u64,
        count: u64,
        was: Given,
        given: Given,
    },
    /// A piece of a plan no longer fitted and was dropped.
    PieceDropped {
        worker: WorkerId,
        first: u64,
        count: u64,
        why: &'static str,
    },
    /// Results of consecutive tasks were recorded. `cause` is set when the photos failed for good.
    Recorded {
        worker: WorkerId,
        first: u64,
        count: u64,
        given: Given,
        cause: Option<Cause>,
    },
    /// Results of consecutive tasks did not count.
    Refused {
        worker: WorkerId,
        first: u64,
        count: u64,
        given: Given,
        verdict: Verdict,
    },
    /// A task went back into the queue.
    Requeued {
        worker: WorkerId,
        task: u64,
        given: Given,
        cause: Cause,
        not_before: Time,
    },
    /// A worker's session began.
    WorkerJoined { worker: WorkerId, name: String },
    /// A worker's session ended by silence, or because its machine joined again.
    WorkerLost {
        worker: WorkerId,
        tasks: u64,
        why: String,
    },
    /// A worker said good-bye with nothing left to do.
    WorkerLeft { worker: WorkerId },
    /// A worker gets nothing new.
    WorkerDraining { worker: WorkerId },
    /// The cluster's clock was set forward.
    ClockAccepted { by: u64 },
    /// Keys are no longer remembered.
    KeysForgotten { count: u64 },
    /// A job was deleted with all its records, so long after it ended.
    JobDeleted { tasks: u64 },
    /// What an environment may have was changed.
    EnvironmentAllotted { name: String },
    /// A limit that changes outcomes has another value.
    SettingChanged { name: &'static str, value: u64 },
    /// A server was added as a learner.
    MemberAdded {
        server: ReplicaId,
        replaces: Option<ReplicaId>,
    },
    /// A server was met with its data directory for the first time.
    MemberMet { server: ReplicaId, incarnation: u64 },
    /// A learner becomes a voter; from here on old and new voters must agree.
    MemberPromoted {
        server: ReplicaId,
        replaces: Option<ReplicaId>,
    },
    /// A voter goes; from here on old and new voters must agree.
    MemberLeaving { server: ReplicaId },
    /// A server is no member any more.
    MemberRemoved { server: ReplicaId },
    /// The new voters alone count.
    MembersSettled { voters: Vec<ReplicaId> },
    /// The state was another cluster's before, which was backed up.
    Restored { cluster: ClusterId, before: ClusterId },
    /// The cluster runs at a higher version from the next entry on.
    Upgraded { from: u16, to: u16 },
    /// A server runs another build than before.
    MemberBuild { server: ReplicaId, build: Build },
    /// It is committed that machines shall be started.
    Launched {
        launch: LaunchId,
        pools: Vec<Pool>,
        count: u32,
        because: Sizing,
    },
    /// A launch that was planned may not be.
    LaunchDropped { count: u32, why: &'static str },
    /// A launch is settled.
    LaunchSettled {
        launch: LaunchId,
        got: u32,
        of: u32,
        outcome: Outcome,
    },
    /// A machine is known.
    MachineKnown {
        machine: InstanceId,
        launch: LaunchId,
        pool: Pool,
    },
    /// It runs.
    MachineRunning { machine: InstanceId, since: Time },
    /// The cloud takes it back then.
    MachineNoticed { machine: InstanceId, ends: Time },
    /// A stopped machine shall start again, and why.
    SpareStarting { machine: InstanceId, because: Sizing },
    /// A machine with nothing to do for so many µs shall stop, and is kept for a burst.
    SpareStopping { machine: InstanceId, idle: u64 },
    /// It has stopped.
    MachineStopped { machine: InstanceId },
    /// The policy lets it go, after so many idle µs, where keeping it was worth so many; one with work drains first.
    MachineLetGo {
        machine: InstanceId,
        why: EndWhy,
        idle: u64,
        keep: u64,
    },
    /// It shall end.
    MachineEnding { machine: InstanceId, why: EndWhy },
    /// It has ended, and cost so many millionths of USD.
    MachineGone {
        machine: InstanceId,
        how: Gone,
        paid: u64,
    },
    /// Spot is too dear in a pool, or no longer.
    PoolDear { flip: Flip },
    /// A pool had no machine, so many times in a row, and is left alone until then.
    PoolClosed {
        pool: Pool,
        lack: Lack,
        refusals: u32,
        until: Time,
    },
    /// A person wants nothing of a pool, or no longer so.
    PoolBanned { pool: Pool, banned: bool },
    /// Another policy is in force.
    PolicyChanged { since: Index },
    /// Launches and scale-in stand still, for a reason; or go on.
    Frozen { why: Option<String> },
    /// A policy is tried beside the one in force, or no longer.
    Shadowed { on: bool },
    /// Launches are stopped until a person says otherwise.
    Braked { brake: Brake },
    /// Photos will be late and nothing may be bought for them; or no longer.
    Short { short: Option<Short> },
    /// A person said so.
    Thawed,
}
