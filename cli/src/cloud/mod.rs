//! The local cloud: machines are agents' processes on this machine, prices and capacity are a played market's, and each
//! machine has a metadata service that says when it is taken back. Servers call it over loopback
//! ([`rebound_scheduler::cloud::local`]); what it answers to calls is what the simulator's cloud answers.

mod clock;
mod machines;
mod serve;
mod trap;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rebound_core::types::{InstanceId, LaunchId, MicroUsd, Pool, Time};
use rebound_sim::cloud::SimCloud;
pub use rebound_sim::play::bill::{Cost, by_hour, cost};
use rebound_sim::play::kind;
pub use rebound_sim::play::{Era, Played, crossings};
use rebound_sim::rng::Rng;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use clock::MarketClock;
pub use trap::{Held, Moment, Trap};

use crate::exit::Failure;
use machines::Host;

/// Most lines of the timeline; later ones are left out, and counted.
pub const TIMELINE_MAX: usize = 100_000;

/// How machines are made.
#[derive(Clone, Debug)]
pub struct Machines {
    /// `rebound-agent`.
    pub program: PathBuf,
    /// Servers that agents join, `host:port`, with commas.
    pub servers: String,
    /// Folder for their data and logs.
    pub dir: PathBuf,
    /// Median µs of one photo on one vCPU, by the market's clock.
    pub photo_us: u64,
    /// From `running` to the agent's start, in µs of the market: drawn between the two.
    pub boot: (u64, u64),
    /// What a machine that stands still costs an hour: its volume.
    pub volume: MicroUsd,
}

/// One thing that happened, by the market's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, in µs since 1970.
    pub at_us: u64,
    /// What.
    pub what: What,
    /// The machine, or empty.
    pub machine: String,
    /// The pool, or empty.
    pub pool: String,
    /// Numbers, for people.
    pub note: String,
}

/// Kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A launch was called.
    Launch,
    /// A machine is pending.
    Pending,
    /// Its agent's process was started.
    Booted,
    /// It was told that it is taken back.
    Notice,
    /// It was taken back.
    Taken,
    /// It was stopped by a call: it stands still.
    Stopped,
    /// It was asked to start again.
    Started,
    /// It was ended by a call.
    Ended,
    /// Spot of a pool went over its on-demand price, or back below it.
    Crossing,
}

/// All that the cloud has, under one lock; nothing waits while it is held.
pub(crate) struct Inside {
    pub sim: SimCloud,
    pub timeline: Vec<Event>,
    pub left_out: u64,
    pub rng: Rng,
    pub hosts: std::collections::BTreeMap<InstanceId, Host>,
    /// Launch calls that came.
    pub calls: u64,
    /// Machines that each launch asked for.
    pub wanted: std::collections::BTreeMap<LaunchId, u32>,
    /// Most machines, and most vCPUs, at once.
    pub most: (u64, u64),
}

impl Inside {
    pub fn tell(&mut self, at: Time, what: What, machine: &InstanceId, pool: Option<&Pool>, note: String) {
        if self.timeline.len() >= TIMELINE_MAX {
            self.left_out += 1;
            return;
        }
        self.timeline.push(Event {
            at_us: at.0,
            what,
            machine: machine.0.clone(),
            pool: pool.map(rebound_pricer::pool::text).unwrap_or_default(),
            note,
        });
    }
}

/// See the module.
#[derive(Clone)]
pub struct LocalCloud {
    pub(crate) inside: Arc<Mutex<Inside>>,
    pub(crate) played: Arc<Played>,
    pub(crate) machines: Arc<Machines>,
    pub(crate) clock: MarketClock,
    pub(crate) stop: watch::Receiver<bool>,
    /// Holds calls, if somebody wants that.
    pub(crate) trap: Option<Trap>,
    address: SocketAddr,
}

/// A cloud that runs, and what ends it.
pub struct RunningCloud {
    /// It.
    pub cloud: LocalCloud,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningCloud {
    /// Starts one on a listener of loopback. Must be called on a runtime whose threads live as long as the process.
    pub fn start(
        listener: TcpListener,
        played: Played,
        machines: Machines,
        clock: MarketClock,
        seed: u64,
        trap: Option<Trap>,
    ) -> Result<RunningCloud, Failure> {
        let address = listener
            .local_addr()
            .map_err(|error| Failure::failed(format!("the local cloud has no address: {error}")))?;
        let rng = Rng::new(seed);
        let mut sim = SimCloud::new(kind(), rng.branch("cloud"));
        sim.volume = machines.volume;
        let (stop, stopped) = watch::channel(false);
        let cloud = LocalCloud {
            inside: Arc::new(Mutex::new(Inside {
                sim,
                timeline: Vec::new(),
                left_out: 0,
                rng: rng.branch("machines"),
                hosts: Default::default(),
                calls: 0,
                wanted: Default::default(),
                most: (0, 0),
            })),
            played: Arc::new(played),
            machines: Arc::new(machines),
            clock,
            stop: stopped,
            trap,
            address,
        };
        let tasks = vec![
            tokio::spawn(serve::serve(cloud.clone(), listener)),
            tokio::spawn(cloud.clone().play()),
        ];
        Ok(RunningCloud { cloud, stop, tasks })
    }

    /// Ends all machines and listeners; what was on the timeline stays.
    pub async fn stop(self) -> LocalCloud {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        self.cloud.end_all().await;
        self.cloud
    }
}

impl LocalCloud {
    /// Its clock.
    pub fn clock(&self) -> MarketClock {
        self.clock
    }

    /// What happened so far, in order.
    pub fn timeline(&self) -> Vec<Event> {
        let mut events = self.lock().timeline.clone();
        events.sort_by_key(|event| event.at_us);
        events
    }

    /// Machines that were taken back, or told that they would be.
    pub fn interruptions(&self) -> u64 {
        let inside = self.lock();
        let told = inside.timeline.iter();
        let told = told.filter(|one| matches!(one.what, What::Notice | What::Taken));
        let machines: std::collections::BTreeSet<&String> = told.map(|one| &one.machine).collect();
        machines.len() as u64
    }

    /// Launch calls that came.
    pub fn launch_calls(&self) -> u64 {
        self.lock().calls
    }

    /// Launches that gave more machines than they asked for.
    pub fn launched_twice(&self) -> u64 {
        let inside = self.lock();
        let mut machines: std::collections::BTreeMap<LaunchId, u32> = Default::default();
        for one in inside.sim.instances.values() {
            *machines.entry(one.launch).or_default() += 1;
        }
        let more = machines
            .iter()
            .filter(|(launch, count)| inside.wanted.get(launch).is_none_or(|wanted| wanted < count));
        more.count() as u64
    }

    /// Most machines, and most vCPUs, at once.
    pub fn most(&self) -> (u64, u64) {
        self.lock().most
    }

    /// How long each machine lived, in µs of the market, by its id.
    pub fn lives(&self) -> Vec<(InstanceId, u64)> {
        let now = self.clock.now().0;
        let inside = self.lock();
        let life = |one: &rebound_sim::cloud::Instance| one.ended.map_or(now, |(at, _)| at) - one.began;
        let all = inside.sim.instances.iter();
        all.map(|(id, one)| (id.clone(), life(one))).collect()
    }

    /// Machines that have not ended.
    pub fn live(&self) -> Vec<InstanceId> {
        self.lock().sim.live().map(|(id, _)| id.clone()).collect()
    }

    /// What all machines cost up to an instant.
    pub fn cost(&self, until: Time) -> Cost {
        cost(&self.lock().sim, &self.played, until)
    }

    /// What the last hours cost that are over: hours since 1970, millionths of USD.
    pub fn bill(&self, hours: u64) -> Vec<(u64, u64)> {
        by_hour(&self.lock().sim, &self.played, self.clock.now(), hours)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
