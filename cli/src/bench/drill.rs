//! A steady load and a probe on a cluster while something is done to it; then everything is read back and audited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rebound_proto::v1::JobSpec;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::QUIET_WITHIN;
use super::collect::Expected;
use super::fill::{Taken, submit_small};
use super::load::{Answers, JobPart, Photos, SMALL_TASKS};
use super::yardstick::ms;
use crate::client::Client;
use crate::dev::audit::{Audit, audit};
use crate::dev::burst::Acknowledged;
use crate::dev::probe;
use crate::exit::Failure;
use crate::limits::RESULTS_PAGE_MAX;
use crate::local::{House, asked};

/// Most jobs a second.
const RATE_MAX: u64 = 10_000;
/// Submits under way at most; more wait, and the generator says by how much it lags.
const UNDER_WAY: usize = 8_192;
/// Results read back at once.
const READS_AT_ONCE: usize = 32;

/// Whether so many jobs a second can be asked for.
pub fn check_rate(rate: u64) -> Result<(), Failure> {
    match (1..=RATE_MAX).contains(&rate) {
        true => Ok(()),
        false => Err(Failure::usage(format!("must be 1 to {RATE_MAX}")).at("--rate")),
    }
}

/// A cluster under load.
pub struct Drill<'a> {
    /// The cluster.
    pub house: &'a mut House,
    load: Load,
    stop_probe: watch::Sender<bool>,
    probe: JoinHandle<probe::Answers>,
    begun: Instant,
}

/// What a drill came to.
pub struct Ended<T> {
    /// What was done.
    pub done: T,
    /// The load.
    pub load: Steady,
    /// The probe's.
    pub answers: probe::Answers,
    /// Until the cluster was quiet again.
    pub wall: Duration,
    /// Results read back.
    pub results_compared: u64,
    /// The audit.
    pub audit: Audit,
}

impl<'a> Drill<'a> {
    /// Waits for a leader, starts the agents, the load and the probe.
    pub async fn start(house: &'a mut House, rate: u64) -> Result<Drill<'a>, Failure> {
        house.leader(QUIET_WITHIN).await?;
        house.start_workers().await?;
        let (stop_probe, stopped) = watch::channel(false);
        // Connections of its own: the probe drops those that do not answer at once.
        let (_kept, always) = watch::channel(0);
        let probe = tokio::spawn(probe::run(house.client(), always, 0, stopped));
        let load = Load::start(house.client(), rate);
        Ok(Drill {
            house,
            load,
            stop_probe,
            probe,
            begun: Instant::now(),
        })
    }

    /// Jobs acknowledged so far, and the greatest of their ids.
    pub fn acknowledged(&self) -> (u64, u64) {
        let ids = self.load.seen.ids();
        (ids.len() as u64, ids.iter().copied().max().unwrap_or(0))
    }

    /// Of the jobs acknowledged so far, those whose id is greater.
    pub fn acknowledged_after(&self, id: u64) -> Vec<u64> {
        self.load
            .seen
            .ids()
            .iter()
            .copied()
            .filter(|one| *one > id)
            .collect()
    }

    /// Ends the load, waits until the cluster is quiet, reads everything back, stops it and audits it.
    pub async fn end<T>(self, done: Result<T, Failure>) -> Result<Ended<T>, Failure> {
        self.stop_probe.send_replace(true);
        let load = self.load.stop().await?;
        let answers = joined(self.probe).await?;
        let (done, house) = (done?, self.house);
        house.quiet(QUIET_WITHIN).await?;
        let wall = self.begun.elapsed();
        let acked = read_back(&house.client(), &load.taken).await?;
        let results_compared = acked.iter().map(|job| job.results.len() as u64).sum();
        // Agents that leave say so in the log: all servers must have that too before they stop.
        house.stop_agents().await;
        house.quiet(QUIET_WITHIN).await?;
        house.stop().await;
        let dirs = house.data_dirs();
        let audit = joined(tokio::task::spawn_blocking(move || audit(&dirs, &acked, ""))).await??;
        Ok(Ended {
            done,
            load,
            answers,
            wall,
            results_compared,
            audit,
        })
    }
}

/// The value of a task of this program.
pub async fn joined<T>(task: JoinHandle<T>) -> Result<T, Failure> {
    task.await
        .map_err(|error| Failure::failed(format!("a part of the run ended early: {error}")))
}

/// A steady load.
pub struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<Steady>,
    seen: Arc<Seen>,
}

/// Ids of the jobs acknowledged so far.
#[derive(Default)]
struct Seen(Mutex<Vec<u64>>);

impl Seen {
    fn ids(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Submits so many small jobs a second, until told to stop.
    pub fn start(client: Client, rate: u64) -> Load {
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::<Seen>::default();
        let task = tokio::spawn(steady(client, rate, stopped, seen.clone()));
        Load { stop, task, seen }
    }

    /// Submits no more, and waits for what is under way.
    pub async fn stop(self) -> Result<Steady, Failure> {
        self.stop.send_replace(true);
        joined(self.task).await
    }
}

/// What a steady load came to.
pub struct Steady {
    /// Jobs that were acknowledged.
    pub taken: Vec<Taken>,
    /// From each submit to its acknowledgement.
    pub acknowledged_ms: Vec<f64>,
    /// Submits without an answer.
    pub unanswered: u64,
    /// How late the generator was at most.
    pub lag_ms: f64,
}

async fn steady(client: Client, rate: u64, mut stop: watch::Receiver<bool>, seen: Arc<Seen>) -> Steady {
    let mut ticks = interval(Duration::from_secs(1) / rate as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut submits = JoinSet::new();
    let mut load = Steady {
        taken: Vec::new(),
        acknowledged_ms: Vec::new(),
        unanswered: 0,
        lag_ms: 0.0,
    };
    let mut number = 0;
    loop {
        let due = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            due = ticks.tick() => due,
        };
        let permit = room.clone().acquire_owned().await.expect("never closed");
        load.lag_ms = load.lag_ms.max(ms(due.elapsed()));
        let part = JobPart {
            first: number,
            count: SMALL_TASKS,
        };
        number += SMALL_TASKS;
        let (client, seen) = (client.clone(), seen.clone());
        submits.spawn(async move {
            let spec = JobSpec {
                recogniser: "noop".into(),
                ..JobSpec::default()
            };
            let id = submit_small(&client, &Photos::Numbered, part, &spec).await;
            drop(permit);
            if let Ok(id) = &id {
                seen.ids().push(*id);
            }
            (id.map(|id| Taken { id, part }), ms(due.elapsed()))
        });
        while let Some(submit) = submits.try_join_next() {
            load.note(submit);
        }
    }
    while let Some(submit) = submits.join_next().await {
        load.note(submit);
    }
    load
}

type Submit = Result<(Result<Taken, crate::client::ClientError>, f64), tokio::task::JoinError>;

impl Steady {
    fn note(&mut self, submit: Submit) {
        match submit {
            Ok((Ok(taken), ms)) => {
                self.taken.push(taken);
                self.acknowledged_ms.push(ms);
            }
            _ => self.unanswered += 1,
        }
    }
}

/// Reads all results of what was acknowledged, and compares them.
pub async fn read_back(client: &Client, taken: &[Taken]) -> Result<Vec<Acknowledged>, Failure> {
    let room = Arc::new(Semaphore::new(READS_AT_ONCE));
    let mut reads = JoinSet::new();
    for job in taken.iter().copied() {
        let permit = room.clone().acquire_owned().await.expect("never closed");
        let client = client.clone();
        reads.spawn(async move {
            let page = client.results(job.id, 0, RESULTS_PAGE_MAX).await;
            drop(permit);
            let results = page.map_err(asked("results"))?.results;
            let expected = Expected {
                photos: Photos::Numbered,
                answers: Answers::Noop(64),
            };
            expected.compare(job, 0, &results)?;
            let numbers = job.part.first..job.part.first + job.part.count;
            Ok(Acknowledged {
                job: job.id,
                photos: numbers.map(|number| Photos::Numbered.uri(number)).collect(),
                results,
            })
        });
    }
    let mut acked = Vec::new();
    while let Some(read) = reads.join_next().await {
        let read: Result<Acknowledged, Failure> =
            read.map_err(|error| Failure::failed(format!("a reader ended early: {error}")))?;
        acked.push(read?);
    }
    Ok(acked)
}
