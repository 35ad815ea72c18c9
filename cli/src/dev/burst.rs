//! The burst, as a client sees it: what it asked for, what was acknowledged, when each job and photo was done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rebound_proto::v1::{Job, JobSpec, JobState, TaskResult};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{DevArgs, PHOTOS_PER_JOB, Seen, kills, probe};
use crate::client::Client;
use crate::cmd::Context;
use crate::exit::Failure;
use crate::local::{House, asked};
use crate::output::clean;
use crate::spec::file_uri;
use crate::submit::{Order, random_key, random_trace_id, submit};

/// Submits under way at once.
const SUBMITS_AT_ONCE: usize = 16;
/// Longest wait of one look at a job.
const WATCH: Duration = Duration::from_secs(5);
/// Results in one page.
const PAGE: u32 = 256;

/// One job of the burst.
pub struct OneJob {
    /// Its id, as acknowledged.
    pub id: u64,
    /// Its photos.
    pub photos: Vec<String>,
    /// When it was first asked for.
    pub asked: Instant,
    /// When all of it was seen done.
    pub done: Instant,
    /// From asking to being seen done, for each photo, in milliseconds.
    pub photo_ms: Vec<f64>,
    /// Ended well.
    pub succeeded: u64,
    /// Ended for good without result.
    pub failed: u64,
}

/// All of it.
pub struct Burst {
    /// By id.
    pub jobs: Vec<OneJob>,
    /// From the first question to the last job seen done.
    pub wall: Duration,
}

/// What was acknowledged of one job, and what was read back.
pub struct Acknowledged {
    /// The job.
    pub job: u64,
    /// Its photos.
    pub photos: Vec<String>,
    /// Its results, as read.
    pub results: Vec<TaskResult>,
}

impl Burst {
    /// Reads all results back.
    pub async fn results(&self, client: &Client) -> Result<Vec<Vec<TaskResult>>, Failure> {
        let mut all = Vec::new();
        for job in &self.jobs {
            let (mut results, mut first) = (Vec::new(), 0);
            loop {
                let page = client
                    .results(job.id, first, PAGE)
                    .await
                    .map_err(asked("results"))?;
                results.extend(page.results);
                if page.next == 0 {
                    break;
                }
                first = page.next;
            }
            all.push(results);
        }
        Ok(all)
    }

    /// For the audit.
    pub fn acknowledged(&self, results: &[Vec<TaskResult>]) -> Vec<Acknowledged> {
        let pairs = self.jobs.iter().zip(results);
        let one = |(job, results): (&OneJob, &Vec<TaskResult>)| Acknowledged {
            job: job.id,
            photos: job.photos.clone(),
            results: results.clone(),
        };
        pairs.map(one).collect()
    }
}

/// Submits everything, kills whom the arguments name, and waits until all jobs have ended.
pub async fn run(
    ctx: &mut Context,
    house: &mut House,
    args: &DevArgs,
    photos: &[std::path::PathBuf],
) -> Result<Seen, Failure> {
    let client = house.client();
    let uris: Vec<String> = photos.iter().map(|path| file_uri(path)).collect();
    let wanted = (0..args.burst as usize)
        .map(|at| uris[at % uris.len()].clone())
        .collect::<Vec<_>>();
    let (stop, stopped) = watch::channel(false);
    let (progress, recorded) = watch::channel(0);
    // Without a leader to kill there is no gap to measure.
    let probe = args.kill_leader.map(|percent| {
        let from = args.burst * u64::from(percent) * 3 / 400;
        tokio::spawn(probe::run(client.clone(), recorded.clone(), from, stopped))
    });
    let (notes, mut lines) = mpsc::unbounded_channel();
    let jobs = tokio::spawn(all_jobs(client, args.recogniser.clone(), wanted, progress));
    let telling = tokio::spawn(tell_progress(recorded.clone(), args.burst, notes.clone()));
    let killed_notes = notes.clone();
    drop(notes);
    let said = move |killed: &kills::Killed| drop(killed_notes.send(told(killed)));
    let kills = kills::run(house, args, recorded, &stop, &said);
    tokio::pin!(kills);
    let mut done = None;
    let kills = loop {
        tokio::select! {
            Some(line) = lines.recv() => ctx.out.note(&line),
            kills = &mut kills => break kills?,
        }
    };
    let mut jobs = jobs;
    while done.is_none() {
        tokio::select! {
            Some(line) = lines.recv() => ctx.out.note(&line),
            ended = &mut jobs => done = Some(ended),
        }
    }
    telling.abort();
    let burst = done
        .expect("just set")
        .map_err(|error| Failure::failed(format!("the client ended early: {error}")))??;
    stop.send_replace(true);
    let probe = match probe {
        Some(probe) => probe
            .await
            .map_err(|error| Failure::failed(format!("the probe ended early: {error}")))?,
        None => probe::Answers::default(),
    };
    Ok(Seen { burst, probe, kills })
}

fn told(killed: &kills::Killed) -> String {
    format!(
        "SIGKILL for {}, a {:?}: {} results recorded; {} photos in recognisers, {} results in spools, {} entries proposed",
        killed.name,
        killed.who,
        killed.results_recorded,
        killed.photos_in_recognisers,
        killed.results_in_spools,
        killed.entries_proposed
    )
}

async fn tell_progress(mut recorded: watch::Receiver<u64>, all: u64, notes: mpsc::UnboundedSender<String>) {
    let mut told = 0;
    while recorded.changed().await.is_ok() {
        let tenths = *recorded.borrow_and_update() * 10 / all.max(1);
        if tenths > told {
            told = tenths;
            let _ = notes.send(format!("{:>3} % of {all} photos", tenths * 10));
        }
    }
}

async fn all_jobs(
    client: Client,
    recogniser: String,
    photos: Vec<String>,
    progress: watch::Sender<u64>,
) -> Result<Burst, Failure> {
    let began = Instant::now();
    let room = Arc::new(Semaphore::new(SUBMITS_AT_ONCE));
    let progress = Arc::new(progress);
    let mut tasks = JoinSet::new();
    for (number, photos) in photos.chunks(PHOTOS_PER_JOB).enumerate() {
        let spec = JobSpec {
            name: format!("visit {}", number + 1),
            recogniser: recogniser.clone(),
            ..JobSpec::default()
        };
        let order = Order {
            spec,
            photos: photos.to_vec(),
            key: Bytes::from(random_key()),
            trace_id: random_trace_id(),
        };
        let (client, room, progress) = (client.clone(), room.clone(), progress.clone());
        tasks.spawn(async move { one_job(&client, order, &room, &progress).await });
    }
    let mut jobs = Vec::new();
    while let Some(job) = tasks.join_next().await {
        jobs.push(job.map_err(|error| Failure::failed(format!("a job's client ended early: {error}")))??);
    }
    jobs.sort_by_key(|job| job.id);
    let last = jobs.iter().map(|job| job.done).max().unwrap_or(began);
    Ok(Burst {
        jobs,
        wall: last - began,
    })
}

async fn one_job(
    client: &Client,
    order: Order,
    room: &Semaphore,
    progress: &watch::Sender<u64>,
) -> Result<OneJob, Failure> {
    let permit = room.acquire().await.expect("never closed");
    let asked_at = Instant::now();
    let submitted = submit(client, &order).await.map_err(asked("submit"))?;
    drop(permit);
    let mut one = OneJob {
        id: submitted.job,
        photos: order.photos,
        asked: asked_at,
        done: asked_at,
        photo_ms: Vec::new(),
        succeeded: 0,
        failed: 0,
    };
    let mut changed = 0;
    loop {
        let job = client
            .watch(one.id, changed, WATCH)
            .await
            .map_err(asked("watch"))?;
        changed = job.changed;
        one.see(&job, progress);
        match job.state() {
            JobState::Done => return Ok(one),
            JobState::Cancelled => {
                return Err(Failure::failed(format!(
                    "job {} was cancelled by somebody",
                    clean(&job.id.to_string())
                )));
            }
            _ => {}
        }
    }
}

impl OneJob {
    fn see(&mut self, job: &Job, progress: &watch::Sender<u64>) {
        self.done = Instant::now();
        let ended = job.succeeded + job.failed;
        let before = self.succeeded + self.failed;
        let took = (self.done - self.asked).as_secs_f64() * 1e3;
        self.photo_ms.extend((before..ended).map(|_| took));
        (self.succeeded, self.failed) = (job.succeeded, job.failed);
        progress.send_modify(|sum| *sum += ended.saturating_sub(before));
    }
}
