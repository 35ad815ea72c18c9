//! The agent's heart: a machine without clock, socket, disk or randomness.
//!
//! [`Machine::handle`] takes one [`Input`] with the time and says what is to be done as [`Action`]s; the drivers
//! do it and report back. The same machine runs in the agent and in the simulator.
//!
//! What the drivers owe it:
//! - each [`Action::Fetch`] is answered by one [`Input::Fetched`], unless the task was forgotten meanwhile;
//! - each [`Action::Start`] is answered by exactly one [`Input::Finished`], also after [`Action::Stop`]: the slot is
//!   free only then;
//! - actions are done in order, but that the starts of one call may go first; a result is spooled before it is sent;
//! - what comes in one call of [`Machine::handle_all`] is of one stream: [`Input::Connected`] and
//!   [`Input::Disconnected`] only come last;
//! - no message of an earlier stream is handed in after [`Input::Connected`] of the next;
//! - [`Machine::handle`] is called with [`Input::Tick`] when [`Machine::wake_at`] has come.
//!
//! ```text
//!  desired set ─▶ Waiting ─Fetch─▶ Fetching ─▶ Ready ─Start─▶ Running ─▶ Over ─(answer)─▶ gone from the spool
//!                    │                 └ failed ────────────────────────▶ │
//!                    └ leaving: released ────────────────────────────────▶┘
//! ```

mod check;
pub(crate) mod columns;
mod leave;
pub mod limits;
mod outbox;
mod pace;
mod photos;
pub mod plant;
#[cfg(test)]
mod random;
mod schedule;
mod session;
mod settle;
mod slots;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rebound_proto::v1;

use leave::Leave;
use outbox::Outbox;
use pace::Paces;
pub use photos::Uri;
use plant::Plant;
use session::{Link, Session};
use work::Work;

/// Name of the built-in recogniser that needs no photo and no child process.
pub const NOOP: &str = "noop";

/// The time, handed in with every input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds on a clock that never goes back; its origin does not matter.
    pub mono_us: u64,
    /// Microseconds since 1970 UTC; only ever copied into results.
    pub wall_us: u64,
}

/// One execution of a photo: the task and the log index of the entry that gave it. In this order consecutive tasks
/// with one fence are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The job's id.
    pub job: u64,
    /// Log index of the entry that gave it.
    pub given: u64,
    /// Index of the photo in its job.
    pub task: u64,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.job, self.task, self.given)
    }
}

impl TaskKey {
    /// True when `next` is the task behind this one, with the same fence.
    pub(crate) fn precedes(self, next: TaskKey) -> bool {
        (self.job, self.given, self.task.checked_add(1)) == (next.job, next.given, Some(next.task))
    }
}

/// Consecutive tasks with one fence, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRange {
    /// The job's id.
    pub job: u64,
    /// Log index of the entry that gave them.
    pub given: u64,
    /// The first task.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl TaskRange {
    fn key(&self, task: u64) -> TaskKey {
        let TaskRange { job, given, .. } = *self;
        TaskKey { job, given, task }
    }

    /// Key of the first task.
    pub fn first_key(&self) -> TaskKey {
        self.key(self.first)
    }

    /// Key of the last task.
    pub fn last_key(&self) -> TaskKey {
        self.key(self.last)
    }

    /// All of its tasks.
    pub fn keys(self) -> impl Iterator<Item = TaskKey> {
        (self.first..=self.last).map(move |task| self.key(task))
    }

    /// Sorted keys as ranges.
    pub(crate) fn together(keys: &[TaskKey]) -> Vec<TaskRange> {
        let chunks = keys.chunk_by(|a, b| a.precedes(*b));
        let range = |chunk: &[TaskKey]| TaskRange {
            job: chunk[0].job,
            given: chunk[0].given,
            first: chunk[0].task,
            last: chunk[chunk.len() - 1].task,
        };
        chunks.map(range).collect()
    }
}

/// Why a photo gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The retry rules go by it.
    pub cause: v1::Cause,
    /// For people; cut to [`limits::MAX_MESSAGE_BYTES`].
    pub message: String,
}

impl Failure {
    /// A failure of this cause.
    pub fn new(cause: v1::Cause, message: impl Into<String>) -> Failure {
        Failure {
            cause,
            message: message.into(),
        }
    }
}

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which one.
    pub task: TaskKey,
    /// Unspecified: it succeeded.
    pub cause: v1::Cause,
    /// What the recogniser answered, or why it did not.
    pub output: Bytes,
    /// By the machine's wall clock, µs since 1970.
    pub started_us: u64,
    /// The same; never before `started_us`.
    pub ended_us: u64,
}

/// A result that waits for its answer, with the cluster that gave the work: `given` says something only there.
#[derive(Debug, Clone, PartialEq)]
pub struct Spooled {
    /// Id of the cluster whose attempt this is.
    pub cluster: Arc<str>,
    /// What is reported.
    pub attempt: Attempt,
}

/// What the machine needs to know about itself. It does not change while the process lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// The machine's own name, at most 64 bytes.
    pub name: String,
    /// Drawn at each start of the process.
    pub boot_nonce: u64,
    /// Photos in recognisers at a time, 1..=[`limits::MAX_SLOTS`]; anything else is drawn into it.
    pub slots: u32,
    /// What the machine has for recognisers.
    pub resources: v1::Resources,
    /// Where it stands, on EC2.
    pub pool: Option<v1::Pool>,
    /// What it can run.
    pub recognisers: Vec<v1::RecogniserRef>,
    /// Version of the program.
    pub version: String,
    /// Most results kept until they are answered; room for work in progress counts.
    pub spool_max_results: usize,
    /// The same in bytes; each photo in work counts for the largest result.
    pub spool_max_bytes: usize,
    /// A machine that will be taken back hands over what is in recognisers so long before its end:
    /// [`NOTICE_MARGIN_US`](limits::NOTICE_MARGIN_US), less where a market is played fast.
    pub notice_margin_us: u64,
}

/// What happens to the agent.
#[derive(Debug, Clone)]
pub enum Input {
    /// A stream is up: Hello goes out.
    Connected,
    /// The stream is gone.
    Disconnected,
    /// A message came on the stream.
    Server(v1::ServerMessage),
    /// A fetch ended.
    Fetched {
        /// What was fetched.
        task: TaskKey,
        /// The photo is here, or why not.
        outcome: Result<(), Failure>,
    },
    /// An execution ended; its slot is free.
    Finished {
        /// What ran.
        task: TaskKey,
        /// What the recogniser said, or why it did not.
        outcome: Result<Bytes, Failure>,
    },
    /// Time has passed.
    Tick,
    /// The process was asked to end (SIGTERM), or the machine will be taken away. The second time it ends at once.
    Leave {
        /// For the server's history.
        why: String,
    },
    /// The machine will be taken back, so many µs from now. Said again it may only come sooner.
    Noticed {
        /// See above.
        within_us: u64,
    },
}

/// What the drivers are to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Say this on the stream.
    Send(v1::AgentMessage),
    /// Bring the photo here.
    Fetch {
        /// For which task.
        task: TaskKey,
        /// From where.
        uri: Uri,
    },
    /// Give the photo to a recogniser.
    Start {
        /// 0-based; free until now.
        slot: u32,
        /// What runs.
        task: TaskKey,
        /// How it runs.
        spec: Arc<v1::Spec>,
        /// Its photo, fetched before unless the recogniser is [`NOOP`].
        uri: Uri,
        /// A recogniser's process died of it before: it gets a new one, which does nothing else.
        alone: bool,
    },
    /// End the execution in this slot. `Finished` still comes.
    Stop {
        /// 0-based.
        slot: u32,
        /// What runs there.
        task: TaskKey,
    },
    /// The photo is not needed: end the fetch, or drop what it brought.
    Forget {
        /// Whose photo.
        task: TaskKey,
    },
    /// Keep the result on disk.
    Spool(Spooled),
    /// These results are answered (or no cluster can take them): remove them from disk.
    Unspool(Vec<TaskRange>),
    /// Give the stream up and look for the leader again.
    Disconnect {
        /// For the log.
        why: String,
    },
    /// End the process; what is still spooled stays on disk. Said last, once.
    Exit,
}

/// How often rare things happened, for the log and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions begun: 1 in a calm life.
    pub sessions: u64,
    /// Desired sets refused because a newer one had been taken.
    pub desired_refused: u64,
    /// Results dropped because another cluster gave their work.
    pub dropped_results: u64,
    /// Times that all unanswered results were sent again on one stream.
    pub resends: u64,
}

/// The agent's state. See the module's page.
pub struct Machine {
    config: Config,
    now_us: u64,
    link: Link,
    session: Option<Session>,
    /// Highest term seen of the session's cluster.
    term: u64,
    /// (term, generation) of the desired set last taken in this session.
    taken: Option<(u64, u64)>,
    heartbeat_us: u64,
    orphan_for_us: u64,
    /// When a message of a leader last came.
    heard_us: u64,
    /// When the present stream last gave a sign of life.
    stream_us: u64,
    next_heartbeat_us: u64,
    said_full: bool,
    orphaned: bool,
    work: Work,
    outbox: Outbox,
    paces: Paces,
    leave: Option<Leave>,
    exited: bool,
    counts: Counts,
    plant: Plant,
}

impl Machine {
    /// A machine that has just started; `spooled` is what its disk kept, oldest first.
    pub fn new(mut config: Config, spooled: Vec<Spooled>) -> Machine {
        config.slots = config.slots.clamp(1, limits::MAX_SLOTS);
        let work = Work::new(config.slots);
        let outbox = Outbox::new(config.spool_max_results, config.spool_max_bytes, spooled);
        Machine {
            config,
            now_us: 0,
            link: Link::Down,
            session: None,
            term: 0,
            taken: None,
            heartbeat_us: limits::DEFAULT_HEARTBEAT_US,
            orphan_for_us: limits::DEFAULT_ORPHAN_FOR_US,
            heard_us: 0,
            stream_us: 0,
            next_heartbeat_us: 0,
            said_full: false,
            orphaned: false,
            work,
            outbox,
            paces: Paces::default(),
            leave: None,
            exited: false,
            counts: Counts::default(),
            plant: Plant::None,
        }
    }

    /// The same machine with a planted bug, for tests of the tests.
    pub fn planted(self, plant: Plant) -> Machine {
        Machine { plant, ..self }
    }

    /// Takes one input and says what is to be done. Total: no input makes it fail.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Action> {
        self.handle_all(now, std::iter::once(input))
    }

    /// Takes all inputs that wait, and says what is to be done after the last of them.
    pub fn handle_all(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) -> Vec<Action> {
        let mut out = Vec::new();
        if self.exited {
            return out;
        }
        let now = Now {
            mono_us: now.mono_us.max(self.now_us),
            ..now
        };
        self.now_us = now.mono_us;
        self.watch(now, &mut out);
        for input in inputs {
            self.take(now, input, &mut out);
        }
        self.advance(now, &mut out);
        out
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Vec<Action>) {
        if self.exited {
            return;
        }
        match input {
            Input::Connected => self.connected(now, out),
            Input::Disconnected => self.link = Link::Down,
            Input::Server(message) => self.server(now, message, out),
            Input::Fetched { task, outcome } => self.fetched(now, task, outcome, out),
            Input::Finished { task, outcome } => self.finished(now, task, outcome, out),
            Input::Tick => {}
            Input::Leave { why } => self.leave(now, why, true, out),
            Input::Noticed { within_us } => self.noticed(now, within_us, out),
        }
    }

    /// When [`Input::Tick`] is due, on the monotonic clock; `u64::MAX`: never.
    pub fn wake_at(&self) -> u64 {
        if self.exited {
            return u64::MAX;
        }
        self.session_wake_at().min(self.leave_until().unwrap_or(u64::MAX))
    }

    /// Results that wait for their answers.
    pub fn spooled(&self) -> usize {
        self.outbox.len()
    }

    /// Those results, in no order that matters.
    pub fn spooled_results(&self) -> impl Iterator<Item = &Spooled> {
        self.outbox.iter()
    }

    /// What they take, in bytes: a bound, not a measure.
    pub fn spooled_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Photos in recognisers, those being stopped included.
    pub fn running(&self) -> usize {
        self.work.slots.running()
    }

    /// It said [`Action::Exit`].
    pub fn is_finished(&self) -> bool {
        self.exited
    }

    /// No leader was heard for `orphan_for`: nothing new starts until a Welcome.
    pub fn is_orphaned(&self) -> bool {
        self.orphaned
    }

    /// It was asked to leave.
    pub fn is_leaving(&self) -> bool {
        self.leave.is_some()
    }

    /// A Welcome came on the present stream.
    pub fn is_welcome(&self) -> bool {
        self.link == Link::Up
    }

    /// Cluster and worker id, once it has joined.
    pub fn session(&self) -> Option<(&str, u64)> {
        self.session
            .as_ref()
            .map(|session| (&*session.cluster, session.worker))
    }

    /// The trace id of the run a task came with, for log lines; empty if it is not in the desired set.
    pub fn trace_of(&self, task: TaskKey) -> Bytes {
        let found = self.work.find(task);
        found.map_or_else(Bytes::new, |(run, _)| self.work.runs[run].photos.trace_id.clone())
    }

    /// Rare things that happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What follows every input: start what can start, say what is to be said.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.exited {
            return;
        }
        self.stop_late(now, out);
        self.release_waiting(now, out);
        self.schedule(now, out);
        self.send_results(now, out);
        self.beat(now, out);
        self.end_leaving(now, out);
    }
}
