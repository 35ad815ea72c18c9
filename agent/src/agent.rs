//! The agent's loop: hands what happens to the [`machine`](crate::machine) and does what it says.

mod start;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rebound_proto::v1;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::fetch::{Fetcher, Photo};
use crate::imds::{Imds, Notice, WATCH_EVERY, watch};
use crate::link::{Event, Link};
use crate::machine::limits::NOTICE_MARGIN_US;
use crate::machine::{self, Action, Counts, Failure, Input, Machine, NOOP, Now, TaskKey, Uri};
use crate::runner::{self, Execution, Runner};
use crate::spool::{Spool, SpoolError};
pub use start::{LOCK_FILE, StartError};
use start::{lock, open_fetcher, start_recognisers};

/// What agents say they are.
pub const VERSION: &str = match cfg!(feature = "next") {
    true => concat!(env!("CARGO_PKG_VERSION"), "+next"),
    false => env!("CARGO_PKG_VERSION"),
};
/// How long the last words may take to reach the server.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Ended fetches and executions that may wait for the loop; beyond, they wait.
const DONE_WAITING: usize = 64;

/// Most inputs handed to the machine at once.
const INPUTS_MAX: usize = 4096;

/// Runs the agent until it has left. Must be called on a runtime whose thread lives as long as the process.
pub async fn run(config: Config) -> Result<(), StartError> {
    let begun = Instant::now();
    let _lock = lock(&config.data_dir)?;
    let (spool, spooled) = Spool::open(&config.data_dir)?;
    let fetcher = open_fetcher(&config)?;
    let runner = start_recognisers(&config).await?;
    let recognisers = runner.recognisers();
    let names: Vec<&str> = recognisers.iter().map(|one| one.name.as_str()).collect();
    info!(
        name = config.name,
        slots = config.slots,
        recognisers = names.join(","),
        spooled = spooled.len(),
        ready_ms = begun.elapsed().as_millis() as u64,
        "the agent is ready"
    );
    let machine = Machine::new(
        machine::Config {
            name: config.name.clone(),
            boot_nonce: rand::random(),
            slots: config.slots,
            resources: config.resources,
            pool: config.pool.clone(),
            recognisers,
            version: VERSION.to_string(),
            spool_max_results: config.spool_max_results,
            spool_max_bytes: config.spool_max_bytes,
            notice_margin_us: NOTICE_MARGIN_US / config.clock_rate,
        },
        spooled,
    );
    let (done, ended) = mpsc::channel(DONE_WAITING);
    let mut notices = watch_machine(&config)?;
    let link = Link::start(config.servers.clone());
    let system = |error| StartError::System {
        what: "signals cannot be caught",
        error,
    };
    let terminate = signal(SignalKind::terminate()).map_err(system)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let agent = Agent {
        machine,
        spool,
        spool_fails: false,
        runner,
        link,
        outgoing: None,
        inputs: VecDeque::new(),
        done,
        stops: BTreeMap::new(),
        fetches: BTreeMap::new(),
        photos: BTreeMap::new(),
        fetcher,
        noop_bytes: config.noop_bytes,
        noop_us: config.noop_us,
        begun,
        noted: Noted::default(),
    };
    agent.live(ended, &mut notices, terminate, interrupt).await;
    Ok(())
}

/// Notices of the machine's end, if anybody is to say them.
fn watch_machine(config: &Config) -> Result<mpsc::Receiver<Notice>, StartError> {
    let (tell, notices) = mpsc::channel(1);
    if let Some(at) = &config.imds {
        let imds = Imds::new(at.clone()).map_err(StartError::Imds)?;
        let every = WATCH_EVERY / u32::try_from(config.clock_rate).unwrap_or(u32::MAX);
        tokio::spawn(watch(imds, every, tell));
    }
    Ok(notices)
}

/// A fetch or an execution that ended.
enum Done {
    Fetched(TaskKey, Result<Photo, Failure>),
    Finished(TaskKey, Result<Bytes, Failure>),
}

/// What was last written to the log about the machine.
#[derive(Default, PartialEq)]
struct Noted {
    session: Option<(String, u64)>,
    welcome: bool,
    orphaned: bool,
    counts: Counts,
}

struct Agent {
    machine: Machine,
    spool: Spool,
    /// The disk did not take the last result.
    spool_fails: bool,
    runner: Runner,
    link: Link,
    outgoing: Option<mpsc::Sender<v1::AgentMessage>>,
    /// What the agent found out by itself, for the machine.
    inputs: VecDeque<Input>,
    done: mpsc::Sender<Done>,
    /// Dropping one stops its execution.
    stops: BTreeMap<TaskKey, oneshot::Sender<()>>,
    fetches: BTreeMap<TaskKey, AbortHandle>,
    /// Fetched, not yet started.
    photos: BTreeMap<TaskKey, Photo>,
    fetcher: Fetcher,
    noop_bytes: usize,
    noop_us: u64,
    begun: Instant,
    noted: Noted,
}

impl Agent {
    async fn live(
        mut self,
        mut ended: mpsc::Receiver<Done>,
        notices: &mut mpsc::Receiver<Notice>,
        mut terminate: Signal,
        mut interrupt: Signal,
    ) {
        while !self.machine.is_finished() {
            let mut inputs = Vec::from(std::mem::take(&mut self.inputs));
            if inputs.is_empty() {
                inputs.push(
                    self.wait(&mut ended, notices, &mut terminate, &mut interrupt)
                        .await,
                );
            } else {
                // What comes and goes without waiting must not keep the stream's task from its turn.
                tokio::task::yield_now().await;
            }
            self.gather(&mut ended, &mut inputs);
            let now = self.now();
            let actions = self.machine.handle_all(now, inputs).into_iter();
            // A recogniser waits for its next photo; what is spooled and said waits for no one.
            let (starts, others): (Vec<Action>, Vec<Action>) =
                actions.partition(|action| matches!(action, Action::Start { .. }));
            for action in starts.into_iter().chain(others) {
                self.act(action);
            }
            self.flush();
            self.note();
        }
        self.say_farewell().await;
        info!(spooled = self.machine.spooled(), "the agent ends");
    }

    /// Takes what else waits, as far as it is of the same stream.
    fn gather(&mut self, ended: &mut mpsc::Receiver<Done>, inputs: &mut Vec<Input>) {
        while inputs.len() < INPUTS_MAX
            && let Ok(done) = ended.try_recv()
        {
            inputs.push(self.ended(done));
        }
        let of_this_stream = |input: &Input| !matches!(input, Input::Connected | Input::Disconnected);
        while inputs.len() < INPUTS_MAX
            && inputs.last().is_none_or(of_this_stream)
            && let Some(event) = self.link.try_next()
        {
            inputs.push(self.heard(event));
        }
    }

    fn heard(&mut self, event: Event) -> Input {
        match event {
            Event::Up(outgoing) => {
                self.outgoing = Some(outgoing);
                Input::Connected
            }
            Event::Message(message) => Input::Server(message),
            Event::Down => {
                self.outgoing = None;
                Input::Disconnected
            }
        }
    }

    async fn wait(
        &mut self,
        ended: &mut mpsc::Receiver<Done>,
        notices: &mut mpsc::Receiver<Notice>,
        terminate: &mut Signal,
        interrupt: &mut Signal,
    ) -> Input {
        let wake = self
            .begun
            .checked_add(Duration::from_micros(self.machine.wake_at()));
        let alarm = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.link.next() => self.heard(event),
            Some(done) = ended.recv() => self.ended(done),
            Some(notice) = notices.recv() => self.noticed(notice),
            _ = terminate.recv() => Input::Leave { why: "SIGTERM".to_string() },
            _ = interrupt.recv() => Input::Leave { why: "SIGINT".to_string() },
            () = alarm => Input::Tick,
        }
    }

    /// A recommendation to rebalance is no notice: such machines mostly stay.
    fn noticed(&self, notice: Notice) -> Input {
        match notice {
            Notice::Ends { at_us } => Input::Noticed {
                within_us: at_us.saturating_sub(self.now().wall_us),
            },
            Notice::Rebalance => Input::Tick,
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Now {
            mono_us: us(self.begun.elapsed()),
            wall_us: us(wall),
        }
    }

    fn ended(&mut self, done: Done) -> Input {
        match done {
            Done::Fetched(task, outcome) => {
                // One that was forgotten in the meantime is not kept.
                let wanted = self.fetches.remove(&task).is_some();
                let outcome = outcome.map(|photo| {
                    if wanted {
                        self.photos.insert(task, photo);
                    }
                });
                Input::Fetched { task, outcome }
            }
            Done::Finished(task, outcome) => {
                self.stops.remove(&task);
                Input::Finished { task, outcome }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send(message) => self.send(message),
            Action::Fetch { task, uri } => self.fetch(task, &uri),
            Action::Start {
                task,
                spec,
                uri,
                alone,
                ..
            } => self.start(task, spec, &uri, alone),
            Action::Stop { task, .. } => {
                self.stops.remove(&task);
            }
            Action::Forget { task } => {
                self.photos.remove(&task);
                if let Some(fetch) = self.fetches.remove(&task) {
                    fetch.abort();
                }
            }
            Action::Spool(spooled) => self.spool.add(spooled),
            Action::Unspool(ranges) => {
                let (machine, spool) = (&self.machine, &mut self.spool);
                let removed = spool.remove(&ranges);
                let kept =
                    removed.and_then(|()| spool.compact(machine.spooled_bytes(), machine.spooled_results()));
                self.note_spool(kept);
            }
            Action::Disconnect { why } => {
                warn!(why, "the stream is given up");
                self.drop_stream();
            }
            Action::Exit => {}
        }
    }

    fn drop_stream(&mut self) {
        self.outgoing = None;
        self.link.give_up();
    }

    /// Results are on disk before they are sent.
    fn flush(&mut self) {
        if !self.spool.is_flushed() {
            let kept = self.spool.flush();
            self.note_spool(kept);
        }
    }

    fn send(&mut self, message: v1::AgentMessage) {
        self.flush();
        let Some(outgoing) = &self.outgoing else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outgoing.try_send(message) {
            warn!("the server does not take what is said; the stream is given up");
            self.drop_stream();
            self.inputs.push_back(Input::Disconnected);
        }
        // A closed stream says so by itself.
    }

    fn fetch(&mut self, task: TaskKey, uri: &Uri) {
        let done = self.done.clone();
        let (fetcher, uri) = (self.fetcher.clone(), uri.to_string());
        let room = fetcher.ask(&uri);
        let fetching = tokio::spawn(async move {
            let outcome = fetcher.fetch(&uri, room).await;
            // The loop outlives its tasks; if not, nobody asks.
            let _ = done.send(Done::Fetched(task, outcome)).await;
        });
        self.fetches.insert(task, fetching.abort_handle());
    }

    fn start(&mut self, task: TaskKey, spec: Arc<v1::Spec>, uri: &Uri, alone: bool) {
        if spec.recogniser.split('@').next() == Some(NOOP) {
            return self.start_noop(task, uri);
        }
        let photo = match self
            .photos
            .remove(&task)
            .map_or_else(|| Photo::unfetched(uri), Ok)
        {
            Ok(photo) => photo,
            Err(failure) => {
                self.inputs.push_back(Input::Finished {
                    task,
                    outcome: Err(failure),
                });
                return;
            }
        };
        let (stop, stopped) = oneshot::channel();
        self.stops.insert(task, stop);
        let label = format!("{task} trace {}", hex(&self.machine.trace_of(task)));
        let (runner, done) = (self.runner.clone(), self.done.clone());
        tokio::spawn(async move {
            let outcome = runner
                .execute(
                    Execution {
                        spec,
                        alone,
                        photo,
                        label,
                    },
                    stopped,
                )
                .await;
            let _ = done.send(Done::Finished(task, outcome)).await;
        });
    }

    fn start_noop(&mut self, task: TaskKey, uri: &Uri) {
        let outcome = Ok(runner::noop(uri, self.noop_bytes));
        if self.noop_us == 0 {
            self.inputs.push_back(Input::Finished { task, outcome });
            return;
        }
        let (stop, stopped) = oneshot::channel::<()>();
        self.stops.insert(task, stop);
        let (takes, done) = (
            runner::noop_takes(self.noop_us, &mut rand::rng()),
            self.done.clone(),
        );
        tokio::spawn(async move {
            // Stopped, its answer counts for nothing.
            let _ = tokio::time::timeout(takes, stopped).await;
            let _ = done.send(Done::Finished(task, outcome)).await;
        });
    }

    /// A disk that fails costs nothing but the certainty to report a result after a crash of the agent.
    fn note_spool(&mut self, kept: Result<(), SpoolError>) {
        match kept {
            Ok(()) if self.spool_fails => {
                self.spool_fails = false;
                info!("the spool takes results again");
            }
            Err(error) if !self.spool_fails => {
                self.spool_fails = true;
                error!(%error, "results are kept in memory only; they are lost, and done again, if the agent dies now");
            }
            _ => {}
        }
    }

    /// Tells the log what changed.
    fn note(&mut self) {
        let seen = Noted {
            session: self
                .machine
                .session()
                .map(|(cluster, worker)| (cluster.to_string(), worker)),
            welcome: self.machine.is_welcome(),
            orphaned: self.machine.is_orphaned(),
            counts: self.machine.counts(),
        };
        if seen == self.noted {
            return;
        }
        let (cluster, worker) = seen.session.clone().unwrap_or_default();
        if seen.session != self.noted.session {
            info!(cluster, worker, spooled = self.machine.spooled(), "a new session");
        } else if seen.welcome && !self.noted.welcome {
            info!(
                cluster,
                worker,
                spooled = self.machine.spooled(),
                "the session goes on"
            );
        }
        if seen.orphaned && !self.noted.orphaned {
            warn!("no leader was heard for too long: what runs is finished, nothing new is started");
        }
        if seen.counts.dropped_results > self.noted.counts.dropped_results {
            warn!(
                results = seen.counts.dropped_results,
                "results of another cluster were dropped"
            );
        }
        if seen.counts.resends > self.noted.counts.resends {
            warn!("no answers came; all results are sent again");
        }
        self.noted = seen;
    }

    /// Lets the last words out, and waits for the server to end the stream.
    async fn say_farewell(&mut self) {
        self.runner.end();
        if self.outgoing.take().is_none() {
            return;
        }
        let over = async { while !matches!(self.link.next().await, None | Some(Event::Down)) {} };
        if tokio::time::timeout(FAREWELL_TIMEOUT, over).await.is_err() {
            info!("the server did not end the stream");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
