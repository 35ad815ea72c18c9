//! The one task that owns the replica: gathers what waits, calls it, and does what it wants done, in its order.
//!
//! Nothing waits inside the replica's call; what waits outside of it waits in a bounded queue. While the store
//! syncs, inputs gather: one call takes them all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rebound_core::io::{Answer, Input, Output, Question, WorkerReport};
use rebound_core::limits::PERSISTS_IN_FLIGHT;
use rebound_core::plan::{Policy, plan};
use rebound_core::replica::Replica;
use rebound_core::reply::Refused;
use rebound_core::types::*;
use rebound_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::cloud::Cloud;
use crate::config::ClockConfig;
use rebound_pricer::teller::RECOGNISERS_MAX;

use crate::peers::Peers;
use crate::peers::service::Received;
use crate::roster::Roster;
use crate::store::thread::{Job, Lane, Queued};
use crate::telemetry;
use rebound_pricer::experience::Experience;

pub mod doors;
pub mod link;

mod dispatch;
mod slow;

pub use doors::{Answered, Control, Doors, Handle, Inbox, Seen, Standing, doors};
use doors::{Answering, Ask, Waiter};
use link::Link;
use slow::{Call, Slow};

/// Most inputs of one call, so that none takes long.
pub const INPUTS_MAX: usize = 1_024;
/// Standing is told at most so often while there is more to do.
const STANDING_EVERY: Duration = Duration::from_millis(1);
/// A leader that is to stop lets another one take over, at most for so long.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);
/// Figures of queues are told so often.
const FIGURES_EVERY: Duration = Duration::from_millis(500);
/// The pricer hears so often what machines did.
const EXPERIENCE_EVERY: Duration = Duration::from_secs(1);

/// The clocks, read in this place alone.
#[derive(Clone, Copy)]
pub struct Clock {
    origin: Instant,
    played: Option<ClockConfig>,
}

impl Clock {
    /// Begins now. The wall clock is the system's, or one that shows another time and goes faster.
    pub fn start(played: Option<ClockConfig>) -> Clock {
        Clock {
            origin: Instant::now(),
            played,
        }
    }

    /// The wall clock goes so many times as fast as running time.
    pub fn rate(&self) -> u64 {
        self.played.map_or(1, |played| played.rate)
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64);
        Now {
            mono: Mono(self.origin.elapsed().as_micros() as u64),
            wall: Time(self.played.map_or(wall, |played| {
                let passed = wall.saturating_sub(played.at_us).saturating_mul(played.rate);
                played.shows_us.saturating_add(passed)
            })),
        }
    }

    fn instant(&self, mono: Mono) -> tokio::time::Instant {
        (self.origin + Duration::from_micros(mono.0)).into()
    }
}

/// See the module.
pub struct Node {
    replica: Replica,
    policy: Policy,
    clock: Clock,
    jobs: mpsc::Sender<Queued>,
    cloud: Arc<dyn Cloud>,
    peers: Arc<Peers>,
    roster: Arc<Roster>,
    /// Index of the change of members, and the version, that the roster has.
    roster_at: (Index, u16),
    inbox: Inbox,
    control: mpsc::UnboundedSender<Control>,
    standing: watch::Sender<Standing>,
    standing_at: Instant,
    figures_at: Instant,
    slow: Slow,
    next_ask: u64,
    waiters: BTreeMap<AskId, Waiter>,
    links: BTreeMap<WorkerId, Arc<Link>>,
    persists_in_flight: usize,
    /// A received snapshot that the replica has not yet been shown.
    staged: Option<Received>,
    /// Snapshots on their way to followers.
    sending: Vec<AbortHandle>,
    /// Who wants a backup.
    backups: Vec<oneshot::Sender<doors::Backup>>,
    /// Recognisers that have work, for whoever watches the market; and the specs that they are of.
    experience: watch::Sender<Experience>,
    wanted_of: Vec<SpecId>,
    learnt_at: Instant,
    stopping: bool,
    /// Told to stop, and waiting until another server leads; at most until then.
    resigning: Option<Instant>,
}

/// Where what the replica wants done is done.
pub struct Outside {
    /// The store's queue.
    pub jobs: mpsc::Sender<Queued>,
    /// The cloud that calls go to.
    pub cloud: Arc<dyn Cloud>,
    /// Whoever watches the market for recognisers that have work.
    pub experience: watch::Sender<Experience>,
    /// The other servers.
    pub peers: Arc<Peers>,
}

impl Node {
    /// A task to be, for this replica.
    pub fn new(
        replica: Replica,
        policy: Policy,
        clock: Clock,
        outside: Outside,
        doors: Doors,
        inbox: Inbox,
    ) -> Node {
        let Outside {
            jobs,
            cloud,
            experience,
            peers,
        } = outside;
        let Doors {
            control, standing, ..
        } = doors;
        Node {
            replica,
            policy,
            clock,
            jobs,
            cloud,
            roster: peers.roster().clone(),
            peers,
            roster_at: (0, 0),
            inbox,
            control,
            standing,
            standing_at: Instant::now(),
            figures_at: Instant::now(),
            slow: Slow::default(),
            next_ask: 0,
            waiters: BTreeMap::new(),
            links: BTreeMap::new(),
            persists_in_flight: 0,
            staged: None,
            sending: Vec::new(),
            backups: Vec::new(),
            experience,
            wanted_of: Vec::new(),
            learnt_at: Instant::now(),
            stopping: false,
            resigning: None,
        }
    }

    /// Runs until it is told to stop, then until the store has everything.
    pub async fn run(mut self) {
        while !self.stopping {
            let first = self.wait().await;
            let mut inputs = Vec::new();
            if let Some(first) = first {
                self.take(first, &mut inputs);
            }
            self.drain(&mut inputs);
            self.call(inputs).await;
            self.back_up().await;
            self.follow_members();
            self.tell();
            self.stop_when_resigned();
        }
        self.stop().await;
    }

    /// Waits for the next input, or until the replica wants to be called.
    async fn wait(&mut self) -> Option<Heard> {
        let until = self.replica.wake_at();
        if until <= self.clock.now().mono {
            tokio::task::yield_now().await;
            return None;
        }
        let room_for_snapshot = self.staged.is_none();
        let inbox = &mut self.inbox;
        tokio::select! {
            biased;
            control = inbox.control.recv() => Some(control.map_or(Heard::Control(Control::Stop), Heard::Control)),
            Some(message) = inbox.peers.recv() => Some(Heard::Peer(message)),
            Some((worker, link, report)) = inbox.reports.recv() => Some(Heard::Report(worker, link, report)),
            Some(ask) = inbox.greets.recv() => Some(Heard::Ask(Box::new(ask))),
            Some(ask) = inbox.asks.recv() => Some(Heard::Ask(Box::new(ask))),
            Some(received) = inbox.snapshots.recv(), if room_for_snapshot => Some(Heard::Snapshot(received)),
            () = tokio::time::sleep_until(self.clock.instant(until)) => None,
        }
    }

    /// Takes what else waits, what is in flight first: it makes room.
    fn drain(&mut self, inputs: &mut Vec<Input>) {
        for id in self.peers.take_unreachable() {
            inputs.push(Input::Unreachable(id));
        }
        while let Ok(control) = self.inbox.control.try_recv() {
            self.take(Heard::Control(control), inputs);
        }
        if self.staged.is_none()
            && let Ok(received) = self.inbox.snapshots.try_recv()
        {
            self.staged = Some(received);
        }
        while inputs.len() < INPUTS_MAX
            && let Ok(message) = self.inbox.peers.try_recv()
        {
            inputs.push(Input::Peer(message));
        }
        while inputs.len() < INPUTS_MAX
            && let Ok((worker, link, report)) = self.inbox.reports.try_recv()
        {
            self.take(Heard::Report(worker, link, report), inputs);
        }
        while inputs.len() < INPUTS_MAX
            && let Ok(ask) = self
                .inbox
                .greets
                .try_recv()
                .or_else(|_| self.inbox.asks.try_recv())
        {
            self.take(Heard::Ask(Box::new(ask)), inputs);
        }
    }

    fn take(&mut self, heard: Heard, inputs: &mut Vec<Input>) {
        match heard {
            Heard::Control(Control::Persisted(id)) => {
                self.persists_in_flight -= 1;
                inputs.push(Input::Persisted(id));
            }
            Heard::Control(Control::Planned(plan)) => inputs.push(Input::Planned(plan)),
            Heard::Control(Control::SnapshotSent { to, ok }) => inputs.push(Input::SnapshotSent { to, ok }),
            Heard::Control(Control::Met {
                id,
                incarnation,
                build,
            }) => inputs.push(Input::Met {
                id,
                incarnation,
                build,
            }),
            Heard::Control(Control::CloudDone { call, outcome }) => {
                inputs.push(Input::CloudDone { call, outcome });
            }
            Heard::Control(Control::Market(market)) => inputs.push(Input::Market(market)),
            Heard::Control(Control::Billed(hours)) => inputs.push(Input::Billed(hours)),
            Heard::Control(Control::Backup(answering)) => self.backups.push(answering),
            Heard::Control(Control::Stop) => self.resign(inputs),
            Heard::Peer(message) => inputs.push(Input::Peer(message)),
            Heard::Report(worker, link, report) => {
                // A stream that was replaced has nothing more to say.
                if self.links.get(&worker).is_some_and(|own| Arc::ptr_eq(own, &link)) {
                    inputs.push(Input::Worker { worker, report });
                }
            }
            Heard::Ask(ask) => {
                let Ask {
                    by,
                    trace,
                    timeout,
                    request,
                    waiter,
                    since,
                    _weight: _,
                } = *ask;
                telemetry::ask_waited(since.elapsed());
                self.next_ask += 1;
                let ask = AskId(self.next_ask);
                self.waiters.insert(ask, waiter);
                inputs.push(Input::Client(Box::new(Question {
                    ask,
                    by,
                    trace,
                    timeout,
                    request,
                })));
            }
            Heard::Snapshot(received) => self.staged = Some(received),
        }
    }

    async fn call(&mut self, mut inputs: Vec<Input>) {
        // Only with room in flight is it sure that this call answers whether the snapshot is installed.
        let mut received = None;
        if self.persists_in_flight < PERSISTS_IN_FLIGHT
            && let Some(Received {
                message,
                state,
                aside,
                installed,
            }) = self.staged.take()
        {
            inputs.push(Input::SnapshotReceived { message, state });
            received = Some((aside, installed));
        }
        let call = Call::begin(&inputs);
        let out = self.replica.handle(self.clock.now(), &mut inputs.into_iter());
        self.slow.end(call, &out);
        self.dispatch(out, received).await;
    }

    /// Tells the roster and the lines to other servers that the members have changed.
    fn follow_members(&mut self) {
        let state = self.replica.state();
        let changed = (state.meta().members_changed, state.version());
        if std::mem::replace(&mut self.roster_at, changed) == changed {
            return;
        }
        self.roster.update(state);
        self.peers.follow();
        let own = self.roster.own();
        if let Err(why) = state.admits(own, self.roster.incarnation()) {
            self.roster.dismiss(why.to_string());
        }
    }

    /// Told to stop: one that leads hands over first. A second word ends it at once.
    fn resign(&mut self, inputs: &mut Vec<Input>) {
        let leads = self.replica.status().role == "leader";
        let alone = self.roster.others().is_empty();
        if !leads || alone || self.resigning.is_some() {
            self.stopping = true;
            return;
        }
        self.resigning = Some(Instant::now() + RESIGN_TIMEOUT);
        inputs.push(Input::Resign);
    }

    fn stop_when_resigned(&mut self) {
        let Some(until) = self.resigning else { return };
        let status = self.replica.status();
        // The next one is known: it has the votes it needs, this server's among them.
        let handed_over = status.role != "leader" && status.leader.is_some();
        self.stopping |= handed_over || Instant::now() >= until;
    }

    /// Says where this server stands.
    fn tell(&mut self) {
        let now = Instant::now();
        let busy = self.replica.wake_at() <= self.clock.now().mono;
        if busy && now.duration_since(self.standing_at) < STANDING_EVERY {
            return;
        }
        self.standing_at = now;
        self.tell_experience(now);
        let state = self.replica.state();
        let settings = &state.meta().settings;
        let standing = Standing {
            status: self.replica.status(),
            workers: state.workers.live_count() as u64,
            jobs_open: state.jobs.open_count() as u64,
            stale_refused: state.meta().stale_refused,
            tasks_waiting: state.environments.waiting(),
            tasks_waiting_max: settings.photos_waiting_max,
            tasks_given: state.environments.given(),
            open_bytes: state.jobs.live_bytes(),
            open_bytes_max: settings.open_bytes_max,
        };
        if now.duration_since(self.figures_at) >= FIGURES_EVERY {
            self.figures_at = now;
            self.links.retain(|_, link| !link.is_closed());
            let queues = telemetry::Queues {
                peers: self.inbox.peers.len(),
                asks: self.inbox.asks.len(),
                reports: self.inbox.reports.len(),
                open_asks: self.waiters.len(),
                streams: self.links.len(),
                peer_bytes: self.peers.queued_bytes(),
                ask_bytes: self.inbox.asks_bytes.load(Ordering::Relaxed),
            };
            telemetry::standing(&standing, &queues);
        }
        self.standing.send_replace(standing);
    }

    /// Tells the pricer which recognisers have work, at once when that has changed, and what machines did, now and then.
    fn tell_experience(&mut self, now: Instant) {
        let state = self.replica.state();
        let same = state.jobs.unended_specs().eq(self.wanted_of.iter().copied());
        if same && now.duration_since(self.learnt_at) < EXPERIENCE_EVERY {
            return;
        }
        self.learnt_at = now;
        self.wanted_of = state.jobs.unended_specs().collect();
        let mut wants: Vec<(String, Resources)> = Vec::new();
        for spec in self.wanted_of.iter().filter_map(|spec| state.specs.get(*spec)) {
            let name = spec.recogniser.split('@').next().unwrap_or_default();
            if !wants.iter().any(|(known, _)| known == name) && wants.len() < RECOGNISERS_MAX {
                wants.push((name.to_owned(), spec.resources));
            }
        }
        let experience = Experience::of(state, wants);
        self.experience.send_if_modified(|before| {
            let changed = *before != experience;
            *before = experience;
            changed
        });
    }

    /// Ends streams and questions, then the store.
    async fn stop(self) {
        for link in self.links.values() {
            link.close(None);
        }
        for waiter in self.waiters.into_values() {
            match waiter {
                Waiter::Call(answering) => drop(answering.send(Err(Refused::Unknown))),
                Waiter::Agent(_, answering) => drop(answering.send(Err(Refused::Unknown))),
            }
        }
        let (done, durable) = oneshot::channel();
        if self.jobs.send((Instant::now(), Job::Stop(done))).await.is_ok() {
            let _ = durable.await;
        }
    }
}

/// One input from outside.
enum Heard {
    Control(Control),
    Peer(Bytes),
    Report(WorkerId, Arc<Link>, WorkerReport),
    Ask(Box<Ask>),
    Snapshot(Received),
}
