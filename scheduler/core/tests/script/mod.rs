//! The language of the scripts.

pub mod player;
mod values;

use values::{Amount, Filler, Size, Span, Tasks, Who};

/// What a script can say. Words without a name come first, in this order.
#[derive(goldenscript::Command)]
pub enum Command {
    /// Begins: so many servers with empty disks, and time passes until one leads. `log_keep`: entries kept behind
    /// the applied one.
    Servers {
        count: u64,
        #[arg(key)]
        log_keep: Option<u64>,
    },
    /// So many ticks of 50 ms pass.
    Tick(u64),
    /// Time passes, as `10s` or `250ms`. Workers that are not silent speak once a second.
    Advance(Span),
    /// All machines stand still for so long.
    Pause(Span),
    /// Time passes until a server leads that others can hear.
    Elect,

    /// Power cut of a server: a number, or `leader`.
    Crash(Who),
    /// It starts again from its disk.
    Start(u64),
    /// No other server hears it, nor it them. Clients and workers do.
    Cut(Who),
    /// All servers hear each other.
    Heal,
    /// Messages between servers wait.
    Hold,
    /// Those that wait arrive, and what they bring about waits.
    Deliver,
    /// Those that wait are lost.
    Drop,
    /// Messages arrive at once again.
    Release,
    /// A server's disk writes only when it is told to; `slow=false`: at once again.
    Disk {
        who: Who,
        #[arg(key)]
        slow: bool,
    },
    /// A server's disk writes all it was ordered to.
    Sync(Who),
    /// Where each server stands.
    Status,
    /// What a server would answer from without asking the leader, and how old it says that is.
    Stale(Who),
    /// A server that was not there yet starts with an empty disk.
    Join(u64),
    /// A server loses its disk and is started again under its id.
    Wipe(u64),
    /// The operator adds a server, at the leader. `replace`: the one that goes.
    Add {
        server: u64,
        #[arg(key)]
        replace: Option<u64>,
        #[arg(key)]
        timeout: Option<Span>,
    },
    /// The operator removes a server.
    Remove {
        server: u64,
        #[arg(key)]
        at: Option<Who>,
    },
    /// The operator hands leadership over, to the best or the one named.
    Transfer {
        #[arg(key)]
        to: Option<u64>,
    },
    /// A server is about to stop.
    Resign(Who),
    /// Shows all servers.
    Members,

    /// Opens a job with photos and closes it, unless `open`. `key` is the idempotency key.
    Submit {
        job: String,
        #[arg(key)]
        photos: u64,
        #[arg(key)]
        key: Option<Filler>,
        #[arg(key, optional)]
        open: bool,
        #[arg(key, optional)]
        priority: u8,
        #[arg(key)]
        deadline: Option<Span>,
        #[arg(key)]
        recogniser: Option<String>,
        #[arg(key, optional)]
        attempts: u32,
        /// What is late is not done.
        #[arg(key, optional)]
        drop_late: bool,
        #[arg(key, optional)]
        memory: u32,
        #[arg(key, optional)]
        labels: u64,
        /// Size of each URI.
        #[arg(key, optional)]
        uri: Size,
        #[arg(key)]
        content: Option<String>,
        #[arg(key)]
        env: Option<String>,
        #[arg(key)]
        at: Option<Who>,
        #[arg(key)]
        timeout: Option<Span>,
    },
    /// Adds photos; `offset` is where the job ends, unless said otherwise.
    Append {
        job: String,
        #[arg(key)]
        photos: u64,
        #[arg(key)]
        offset: Option<u64>,
        /// Other photos than those of this job.
        #[arg(key)]
        content: Option<String>,
        #[arg(key)]
        env: Option<String>,
    },
    /// No more photos.
    Close {
        job: String,
        #[arg(key)]
        total: u64,
    },
    /// Ends a job.
    Cancel {
        job: String,
        #[arg(key)]
        env: Option<String>,
    },
    /// Shows a job.
    Get {
        job: String,
        #[arg(key)]
        at: Option<Who>,
        #[arg(key)]
        env: Option<String>,
        #[arg(key)]
        timeout: Option<Span>,
    },
    /// Shows a job when it changes next.
    Watch {
        job: String,
        #[arg(key)]
        timeout: Option<Span>,
    },
    /// Shows a task.
    Task(Tasks),
    /// Shows all jobs of the environment, newest first.
    Jobs,
    /// Shows all workers.
    Workers,
    /// Counts, so many times: a small entry of the log.
    Count {
        #[arg(key)]
        times: Option<u64>,
        #[arg(key)]
        at: Option<Who>,
        #[arg(key)]
        timeout: Option<Span>,
    },
    /// The operator takes a worker out of service.
    Drain(String),
    /// The operator changes a setting.
    Set(String, Amount),
    /// Shows the settings that are not as they were at first.
    Settings,
    /// The operator changes what an environment may have.
    Allot {
        name: String,
        #[arg(key)]
        weight: Option<u32>,
        #[arg(key)]
        waiting: Option<u64>,
        #[arg(key)]
        jobs: Option<u64>,
        #[arg(key)]
        given: Option<u64>,
    },
    /// Shows all environments.
    Environments,

    /// A worker's first word on a stream. `process` is another number after its agent was started again.
    Hello {
        worker: String,
        #[arg(key)]
        slots: Option<u32>,
        #[arg(key)]
        recognisers: Option<String>,
        #[arg(key)]
        memory: Option<u32>,
        #[arg(key)]
        process: Option<u64>,
        #[arg(key)]
        at: Option<Who>,
    },
    /// A worker says that it lives; `full`: its spool is. From now on it also says what it measured: how long answers
    /// and fetches took, and a photo in its slot.
    Heartbeat {
        worker: String,
        #[arg(key, optional)]
        full: bool,
        #[arg(key)]
        answer: Option<Span>,
        #[arg(key)]
        fetch: Option<Span>,
        #[arg(key)]
        service: Option<Span>,
        /// Tasks of a run that it has started, from the run's first to the last of these.
        #[arg(key)]
        started: Option<Tasks>,
    },
    /// A worker reports attempts: successes, unless there is a cause. `given` is the fence it was last told.
    Result {
        worker: String,
        tasks: Tasks,
        #[arg(key)]
        given: Option<String>,
        #[arg(key)]
        cause: Option<String>,
        /// Size of what the recogniser answered.
        #[arg(key, optional)]
        size: Size,
    },
    /// A worker ends; `empty`: nothing is left.
    Leave {
        worker: String,
        #[arg(key, optional)]
        empty: bool,
    },
    /// A worker says nothing any more, though its stream stands.
    Silent(String),
    /// It speaks again.
    Speak(String),
}
