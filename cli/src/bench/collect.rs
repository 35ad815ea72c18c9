//! Reads every result back over the API while the cluster works, and compares it with what it must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rebound_proto::v1::{JobState, Outcome, TaskResult};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::fill::Taken;
use super::load::{Answers, Photos};
use crate::client::Client;
use crate::exit::Failure;
use crate::limits::{LIST_MAX, RESULTS_PAGE_MAX};
use crate::local::asked;

/// Between two looks at jobs that are not done.
const LOOK: Duration = Duration::from_millis(25);
/// Small jobs looked at together.
const WINDOW: usize = 256;
/// Results of small jobs being read at once.
const READS_AT_ONCE: usize = 32;
/// Pages of one large job being read at once.
const PAGES_AT_ONCE: u64 = 4;

/// What is right.
#[derive(Clone)]
pub struct Expected {
    /// What was submitted.
    pub photos: Photos,
    /// What must be answered.
    pub answers: Answers,
}

impl Expected {
    /// Compares results with those of the tasks from `first` on. An error names the first that is wrong.
    pub fn compare(&self, job: Taken, first: u64, results: &[TaskResult]) -> Result<(), Failure> {
        for (task, result) in (first..).zip(results) {
            let uri = self.photos.uri(job.part.first + task);
            let is_right = result.task == task
                && result.uri == uri
                && result.outcome() == Outcome::Succeeded
                && self.answers.is_right(&uri, &result.output);
            let is_whole = result.given > 0
                && result.worker > 0
                && result.started_us > 0
                && result.ended_us >= result.started_us
                && result.recorded_us > 0;
            if !is_right || !is_whole {
                return Err(Failure::failed(format!(
                    "job {}, task {task}: the result is not what it must be: {result:?}",
                    job.id
                )));
            }
        }
        Ok(())
    }
}

/// Reads all small jobs that are told, until no more are; returns how many results were compared.
pub async fn small_jobs(
    client: Client,
    expected: Expected,
    mut told: mpsc::UnboundedReceiver<Taken>,
) -> Result<u64, Failure> {
    let mut waiting: BTreeMap<u64, Taken> = BTreeMap::new();
    let room = Arc::new(Semaphore::new(READS_AT_ONCE));
    let mut reads = JoinSet::new();
    let (mut more, mut compared) = (true, 0);
    loop {
        if waiting.is_empty() && more {
            match told.recv().await {
                Some(job) => drop(waiting.insert(job.id, job)),
                None => more = false,
            }
        }
        while let Ok(job) = told.try_recv() {
            waiting.insert(job.id, job);
        }
        if waiting.is_empty() && !more {
            break;
        }
        let done = done_jobs(&client, &waiting).await?;
        let was_quick = done.len() * 4 >= WINDOW * 3;
        for id in done {
            let Some(job) = waiting.remove(&id) else { continue };
            let permit = room.clone().acquire_owned().await.expect("never closed");
            let (client, expected) = (client.clone(), expected.clone());
            reads.spawn(async move {
                let read = small_job(&client, &expected, job).await;
                drop(permit);
                read
            });
        }
        while let Some(read) = reads.try_join_next() {
            compared += ended(read)?;
        }
        if !was_quick {
            tokio::time::sleep(LOOK).await;
        }
    }
    while let Some(read) = reads.join_next().await {
        compared += ended(read)?;
    }
    Ok(compared)
}

fn ended<T>(task: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    task.map_err(|error| Failure::failed(format!("a reader ended early: {error}")))?
}

/// Which of the oldest jobs that are waited for are done.
async fn done_jobs(client: &Client, waiting: &BTreeMap<u64, Taken>) -> Result<Vec<u64>, Failure> {
    let window: Vec<u64> = waiting.keys().take(WINDOW).copied().collect();
    let (Some(oldest), Some(newest)) = (window.first(), window.last()) else {
        return Ok(Vec::new());
    };
    let (mut done, mut before) = (Vec::new(), newest + 1);
    loop {
        let limit = (window.len() as u32 * 2).min(LIST_MAX);
        let page = client.list(before, limit).await.map_err(asked("list"))?;
        for job in &page.jobs {
            match job.state() {
                JobState::Done if waiting.contains_key(&job.id) => done.push(job.id),
                JobState::Cancelled => {
                    return Err(Failure::failed(format!(
                        "job {} was cancelled by somebody",
                        job.id
                    )));
                }
                _ => {}
            }
        }
        if page.next <= *oldest {
            return Ok(done);
        }
        before = page.next;
    }
}

async fn small_job(client: &Client, expected: &Expected, job: Taken) -> Result<u64, Failure> {
    let page = client
        .results(job.id, 0, RESULTS_PAGE_MAX)
        .await
        .map_err(asked("results"))?;
    let read = page.results.len() as u64;
    if read != job.part.count || page.next != 0 {
        return Err(Failure::failed(format!(
            "job {} is done and has {read} results of {}",
            job.id, job.part.count
        )));
    }
    expected.compare(job, 0, &page.results)?;
    Ok(read)
}

/// Reads all large jobs that are told, until no more are; returns how many results were compared.
pub async fn large_jobs(
    client: Client,
    expected: Expected,
    mut told: mpsc::UnboundedReceiver<Taken>,
) -> Result<u64, Failure> {
    let mut readers = JoinSet::new();
    while let Some(job) = told.recv().await {
        readers.spawn(large_job(client.clone(), expected.clone(), job));
    }
    let mut compared = 0;
    while let Some(reader) = readers.join_next().await {
        compared += ended(reader)?;
    }
    Ok(compared)
}

/// Follows a job's results from its front, as they are recorded.
async fn large_job(client: Client, expected: Expected, job: Taken) -> Result<u64, Failure> {
    let (mut next, mut pages) = (0, 1);
    while next < job.part.count {
        let firsts = (0..pages).map(|page| next + page * u64::from(RESULTS_PAGE_MAX));
        let reads = firsts.map(|first| client.results(job.id, first, RESULTS_PAGE_MAX));
        let mut all_full = true;
        for page in futures_util::future::join_all(reads).await {
            let page = page.map_err(asked("results"))?;
            let front = (next..).zip(&page.results);
            let front = front.take_while(|(task, result)| result.task == *task).count();
            expected.compare(job, next, &page.results[..front])?;
            next += front as u64;
            if front < RESULTS_PAGE_MAX as usize {
                all_full = false;
                break;
            }
        }
        pages = match all_full {
            true => (pages * 2).min(PAGES_AT_ONCE),
            false => 1,
        };
        if !all_full && next < job.part.count {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(next)
}
