//! What goes into a replica and what comes out: one call takes all inputs that wait and gives one [`Output`].

use std::sync::Arc;

use bytes::Bytes;

use crate::cloud::{CloudCall, CloudOutcome};
use crate::command::{Allot, Command, Join, Open, Report};
use crate::effects::Desired;
use crate::event::Event;
use crate::key::Kept;
use crate::market::Market;
use crate::observe::Observation;
use crate::observe::tails::Cursors;
use crate::pace::Pace;
use crate::photos::Photos;
use crate::plan::Plan;
use crate::replica::{Outlook, Refusals};
use crate::reply::{Judged, Refused, Reply};
use crate::state::State;
use crate::state::environments::{Allotment, Environment};
use crate::state::jobs::Job;
use crate::state::members::{Founder, Member};
use crate::state::settings::{Setting, Settings};
use crate::state::workers::Worker;
use crate::table::{Change, Digest};
use crate::types::*;
use crate::version::{Build, OtherVersion};
use crate::view::{CostView, DecisionsView, PoliciesView};
pub use crate::view::{FleetView, ForecastView, PoolView, PoolsView};

/// Something that happened outside.
pub enum Input {
    /// Time has passed.
    Tick,
    /// A raft message from another replica.
    Peer(Bytes),
    /// An order to the store is durable. They come back in order.
    Persisted(PersistId),
    /// A question from a client or a joining worker.
    Client(Box<Question>),
    /// A worker speaks, on a stream this replica welcomed.
    Worker { worker: WorkerId, report: WorkerReport },
    /// What the policy made of the last observation.
    Planned(Plan),
    /// A message to this replica was dropped.
    Unreachable(ReplicaId),
    /// A snapshot has been sent, or not.
    SnapshotSent { to: ReplicaId, ok: bool },
    /// A snapshot has come whole: raft's message and the state built from its checked pairs. If raft takes it, one of
    /// the next outputs orders its installation; the driver keeps the pairs until then, or until another comes.
    SnapshotReceived { message: Bytes, state: Box<State> },
    /// Another server said who it is and which data directory it has; whoever heard it asks [`State::admits`].
    Met {
        id: ReplicaId,
        incarnation: u64,
        /// The build it runs, as it says.
        build: Build,
    },
    /// This server is about to stop: leadership goes to another one, if it can.
    Resign,
    /// The market was looked at.
    Market(Arc<Market>),
    /// What the cloud's bill says of hours that are over: hours since 1970, millionths of USD.
    Billed(Vec<(u64, u64)>),
    /// A call of the cloud has come to something.
    CloudDone { call: CallId, outcome: CloudOutcome },
}

/// A question with who asks it.
pub struct Question {
    /// Where the answer goes.
    pub ask: AskId,
    /// From the listener.
    pub by: Caller,
    /// The caller's, or drawn by the listener.
    pub trace: TraceId,
    /// µs until it must be answered; 0 takes [`crate::limits::ASK_TIMEOUT`].
    pub timeout: u64,
    /// What is asked.
    pub request: Request,
}

/// What can be asked.
pub enum Request {
    /// Opens a job.
    Open(Box<Open>),
    /// Adds photos.
    Append { job: JobId, offset: u64, photos: Photos },
    /// No more photos.
    Close { job: JobId, total: u64 },
    /// Ends a job with what it has.
    Cancel { job: JobId },
    /// A worker gets nothing new; by name when the id is 0.
    Drain { worker: WorkerId, name: String },
    /// Counts.
    Count,
    /// The clock follows the leader's wall clock at once.
    AcceptClock,
    /// Changes limits that change outcomes.
    Settings(Vec<(Setting, u64)>),
    /// Changes what an environment may have.
    Environment(Box<Allot>),
    /// Steers the buying of machines: one of [`Command::Steer`], [`Command::Freeze`], [`Command::Thaw`], [`Command::Ban`].
    Steer(Box<Command>),
    /// A read: answered by the leader after a quorum check.
    Read(Read),
    /// A read that any replica answers from what it has applied.
    Stale(Read),
    /// An agent's first word on a stream, with the session it had, if any.
    Hello {
        join: Box<Join>,
        session: Option<(ClusterId, WorkerId)>,
    },
    /// A server is added, perhaps in place of another.
    AddMember {
        new: Founder,
        replaces: Option<ReplicaId>,
    },
    /// A server goes. The leader hands over first and lets the next one do it.
    RemoveMember(ReplicaId),
    /// A server that starts for the first time says who it is, and hears whether it was added.
    Join { new: Founder, build: Build },
    /// Another server shall lead: this one, or the best.
    Transfer(Option<ReplicaId>),
    /// The cluster shall run at this version, or at the newest that its servers know.
    Upgrade(Option<u16>),
}

impl Request {
    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        /// Of what is not counted one by one.
        const HEAD: usize = 512;
        HEAD + match self {
            Request::Open(open) => open.photos.packed().len(),
            Request::Append { photos, .. } => photos.packed().len(),
            _ => 0,
        }
    }
}

/// What can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One job; answered when it has changed after `seen`, or at the time limit.
    Job { job: JobId, seen: Index },
    /// Jobs older than `before`, newest first.
    Jobs { before: JobId, limit: u32 },
    /// Results from task `first` on.
    Results { job: JobId, first: u64, limit: u32 },
    /// One task.
    Task { job: JobId, task: u64 },
    /// All workers.
    Workers,
    /// The limits that change outcomes.
    Settings,
    /// All environments.
    Environments,
    /// All servers.
    Members,
    /// Machines, launches, and what people decided of them.
    Fleet,
    /// What is known of past weeks.
    Forecast,
    /// Capacity pools.
    Pools,
    /// What machines cost.
    Costs,
    /// What was decided about machines up to an instant; none: up to now.
    Decisions { until: Option<Time> },
    /// Policies that were in force, and the one that is tried.
    Policies,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerReport {
    /// Each second.
    Heartbeat {
        running: u32,
        spooled: u32,
        spool_full: bool,
        /// How fast it is.
        pace: Pace,
        /// How far it is in its runs.
        cursors: Cursors,
    },
    /// Attempts that ended.
    Results {
        reports: Vec<Report>,
        running: u32,
        spooled: u32,
    },
    /// It ends; `empty`: nothing is left.
    Leaving { empty: bool },
    /// Its machine will be taken back, so many µs from now.
    Noticed { within: u64 },
}

/// All that a replica wants done, in this order: `send` may go at once; `persist` must be written before anything
/// that reads the disk; the rest may go when `persist` was handed to the store.
#[derive(Default)]
pub struct Output {
    /// Raft messages that may go now.
    pub send: Vec<(ReplicaId, Bytes)>,
    /// What must be written, and the sends that wait for it.
    pub persist: Option<Persist>,
    /// Answers.
    pub replies: Vec<(AskId, Result<Answer, Refused>)>,
    /// Desired sets; the driver adds the photos' URIs from the disk.
    pub desired: Vec<(WorkerId, Desired)>,
    /// Verdicts on reported results.
    pub verdicts: Vec<(WorkerId, Vec<Judged>)>,
    /// Streams of workers whose session has ended: they must join again.
    pub hang_up: Vec<WorkerId>,
    /// This replica no longer leads: all streams of workers end, and so do snapshots on their way; no
    /// `Input::SnapshotSent` follows for those.
    pub hang_up_all: bool,
    /// The policy is asked; `Input::Planned` answers.
    pub plan: Option<Observation>,
    /// A snapshot for a follower, of the state as `persist` leaves it.
    pub snapshots: Vec<SnapshotOrder>,
    /// Calls of the cloud; [`Input::CloudDone`] answers each.
    pub calls: Vec<(CallId, CloudCall)>,
    /// What became true.
    pub events: Vec<Event>,
    /// The state that a snapshot took the place of. To free it takes long where the queue is long: not here.
    pub retired: Option<Box<State>>,
    /// The cluster runs at a version that this build does not know: the process must end. Nothing else is to be done.
    pub halt: Option<OtherVersion>,
}

/// An order to the store: one synced batch of entries and hard state, then one unsynced batch of the rest.
#[derive(Default)]
pub struct Persist {
    /// Comes back in `Input::Persisted`; 0: nothing waits for it.
    pub id: PersistId,
    /// The first batch must be durable before `sends_after` go and the order is answered.
    pub sync: bool,
    /// Entries of the log, as bytes of raft's own message; they replace whatever is at and after the first of them.
    pub entries: Vec<(Index, Bytes)>,
    /// raft's hard state.
    pub hard_state: Option<Bytes>,
    /// Raft messages that may go once the first batch is durable.
    pub sends_after: Vec<(ReplicaId, Bytes)>,
    /// The received snapshot of this index takes the place of state, kept records and log.
    pub install: Option<(Index, Term)>,
    /// Records of state.
    pub state: Vec<Change>,
    /// Kept records.
    pub kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Kept records that go, after those above have come: from a key up to, but not with, another.
    pub kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
    /// The log may be cut: nothing up to this entry, of this term, is needed any more.
    pub compacted: Option<(Index, Term)>,
    /// Digests to be noted.
    pub digests: Vec<(Index, Digest)>,
}

impl Persist {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.hard_state.is_none()
            && self.install.is_none()
            && self.state.is_empty()
            && self.kept.is_empty()
            && self.kept_gone.is_empty()
            && self.compacted.is_none()
            && self.digests.is_empty()
    }
}

/// A snapshot to send.
pub struct SnapshotOrder {
    /// Who needs it.
    pub to: ReplicaId,
    /// raft's message, to be handed to the receiver's replica with the state.
    pub message: Bytes,
    /// The state's index.
    pub index: Index,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// Of an applied command; of an open also whether some worker that could run the job is here, and its outlook.
    Applied {
        reply: Reply,
        placeable: bool,
        outlook: Option<Outlook>,
    },
    /// A job.
    Job(Box<JobView>),
    /// Jobs, and `before` of the next page.
    Jobs { jobs: Vec<JobView>, next: Option<JobId> },
    /// To be read from the disk by the driver, after `persist`.
    Fetch(Fetch),
    /// What this replica has applied, up to `index`; `age` is how many µs ago a leader said that it was all, none: never
    /// since this replica started.
    Stale {
        answer: Box<Answer>,
        index: Index,
        age: Option<u64>,
    },
    /// Workers.
    Workers(Vec<(WorkerId, Worker, Option<Heard>)>),
    /// The session is on.
    Welcome {
        worker: WorkerId,
        cluster: ClusterId,
        term: Term,
        now: Time,
        /// Silence of every leader after which the session has ended, in µs.
        orphan_for: u64,
    },
    /// The limits that change outcomes.
    Settings(Settings),
    /// All environments: each with what it may have and the keys it has remembered.
    Environments(Vec<(Environment, Allotment, u64)>),
    /// Machines, launches, and what people decided of them.
    Fleet(Box<FleetView>),
    /// What is known of past weeks.
    Forecast(Box<ForecastView>),
    /// Capacity pools.
    Pools(Box<PoolsView>),
    /// What machines cost.
    Costs(Box<CostView>),
    /// What was decided about machines.
    Decisions(Box<DecisionsView>),
    /// Policies that were in force, and the one that is tried.
    Policies(Box<PoliciesView>),
    /// All servers, and where the leader's log ends.
    Members {
        members: Vec<MemberView>,
        last: Index,
        /// The version at which the cluster runs.
        version: u16,
    },
    /// This server leads now.
    Leads(ReplicaId),
}

/// A server as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: ReplicaId,
    /// Its record.
    pub member: Member,
    /// It is the one that answers.
    pub leads: bool,
    /// It has spoken to this leader lately.
    pub alive: bool,
    /// µs of the leader's running time since its last word; none: it has not spoken to this leader.
    pub heard_ago: Option<u64>,
    /// It is known to have the log up to here.
    pub matched: Index,
    /// Another data directory that came under this id, and how long ago in µs.
    pub stranger: Option<(u64, u64)>,
    /// The build it runs; none: it has not said so.
    pub build: Option<MemberBuild>,
}

/// Which build a server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberBuild {
    /// The build.
    pub build: Build,
    /// As it was last recorded; else as the server says now.
    pub is_recorded: bool,
}

/// What is on disk only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// A page of results.
    Results {
        env: EnvId,
        job: JobId,
        first: u64,
        limit: u32,
        tasks: u64,
    },
    /// All there is about a task.
    Task(TaskView),
}

impl Fetch {
    /// Tables to be read.
    pub fn tables(&self) -> &'static [Kept] {
        match self {
            Fetch::Results { .. } => &[Kept::Photos, Kept::Results],
            Fetch::Task(_) => &[Kept::Photos, Kept::Results, Kept::Attempts],
        }
    }
}

/// A job with what its record leaves out.
#[derive(Clone, Debug)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Its environment's name.
    pub environment: String,
    /// Its record.
    pub job: Job,
    /// What runs its photos.
    pub spec: crate::command::Spec,
    /// Why nothing of it runs, if so.
    pub waiting_for: &'static str,
    /// Photos with which a recogniser's process ended.
    pub suspects: u64,
    /// When it will be done, if somebody asked for this job alone.
    pub outlook: Option<Outlook>,
}

/// A task as the live state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// The environment.
    pub env: EnvId,
    /// The job.
    pub job: JobId,
    /// Its index.
    pub task: u64,
    /// waiting, given, succeeded, failed, cancelled.
    pub state: &'static str,
    /// While given: the fence and who holds it.
    pub held: Option<(Given, WorkerId)>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Attempts lost through machines.
    pub losses: u32,
    /// Recognisers' processes that ended with it.
    pub deaths: u32,
    /// It waits until then.
    pub not_before: Option<Time>,
}

/// What a worker last said to this leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The leader's running time at its last word, in µs.
    pub at: u64,
    /// µs since.
    pub ago: u64,
    /// Photos in recognisers.
    pub running: u32,
    /// Results not yet answered.
    pub spooled: u32,
    /// It takes no new work.
    pub full: bool,
    /// It said that it ends.
    pub leaving: bool,
}

/// Where a replica stands, for people.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// leader, follower, candidate.
    pub role: &'static str,
    /// It leads and has applied an entry of its own term.
    pub ready: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// Current term.
    pub term: Term,
    /// Committed index.
    pub committed: Index,
    /// Applied index.
    pub applied: Index,
    /// Last index in the log.
    pub last: Index,
    /// First index in the log.
    pub first: Index,
    /// Digest at `applied`.
    pub digest: Digest,
    /// The cluster's clock.
    pub now: Time,
    /// The wall clock less the cluster's, in µs, of a leader.
    pub clock_off: i64,
    /// As workers last said.
    pub running: u64,
    /// As workers last said.
    pub spooled: u64,
    /// Requests that this server refused under overload, since it started.
    pub refusals: Refusals,
    /// Why it refuses some now; empty when it does not.
    pub sheds: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_at_least_as_large_as_its_photos() {
        let append = |count: u64| Request::Append {
            job: JobId(1),
            offset: 0,
            photos: (0..count).map(|at| format!("file:///{at:072}")).collect(),
        };
        assert!(append(100).bytes() >= append(0).bytes() + 100 * 80);
    }
}
