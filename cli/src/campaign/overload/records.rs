//! What the servers recorded of the jobs that were taken, and what follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rebound_proto::v1::{Outcome, job_spec};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::generator::Taken;
use crate::bench::drill::joined;
use crate::client::Client;
use crate::exit::Failure;
use crate::limits::RESULTS_PAGE_MAX;
use crate::local::{Quantiles, asked};

/// Pages of results read at once.
const READS_AT_ONCE: usize = 32;
/// Jobs in one page of the list.
const PAGE: u32 = 1_000;
/// Length of a window, in µs.
pub const WINDOW_US: u64 = 1_000_000;

/// One photo, by the servers' records. Times are µs of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Photo {
    /// When its job was to be submitted.
    pub submit_us: u64,
    pub started_us: u64,
    pub recorded_us: u64,
    /// It succeeded, and was recorded before its deadline.
    pub in_time: bool,
}

impl Photo {
    fn start_ms(&self) -> f64 {
        self.started_us.saturating_sub(self.submit_us) as f64 / 1e3
    }
}

/// Reads what became of these jobs. Photos without a result are left out.
pub async fn read(client: &Client, taken: &[Taken]) -> Result<Vec<Photo>, Failure> {
    let deadlines = Arc::new(deadlines(client, taken).await?);
    let room = Arc::new(Semaphore::new(READS_AT_ONCE));
    let mut reads: JoinSet<Result<Vec<Photo>, Failure>> = JoinSet::new();
    let mut photos = Vec::new();
    for one in taken.iter().copied() {
        let permit = room.clone().acquire_owned().await.expect("never closed");
        let (client, deadlines) = (client.clone(), deadlines.clone());
        reads.spawn(async move {
            let page = client.results(one.job, 0, RESULTS_PAGE_MAX).await;
            drop(permit);
            let results = page.map_err(asked("results"))?.results;
            let due_us = deadlines.get(&one.job).copied().unwrap_or(0);
            let photo = |result: rebound_proto::v1::TaskResult| Photo {
                submit_us: one.due_us,
                started_us: result.started_us,
                recorded_us: result.recorded_us,
                in_time: result.outcome() == Outcome::Succeeded && result.recorded_us <= due_us,
            };
            Ok(results.into_iter().map(photo).collect())
        });
        while let Some(read) = reads.try_join_next() {
            photos.extend(read.map_err(|error| Failure::failed(error.to_string()))??);
        }
    }
    while let Some(read) = reads.join_next().await {
        photos.extend(read.map_err(|error| Failure::failed(error.to_string()))??);
    }
    Ok(photos)
}

/// When each of these jobs was to be done.
async fn deadlines(client: &Client, taken: &[Taken]) -> Result<BTreeMap<u64, u64>, Failure> {
    let (client, oldest) = (client.clone(), taken.iter().map(|one| one.job).min().unwrap_or(0));
    let task = tokio::spawn(async move {
        let (mut found, mut before) = (BTreeMap::new(), 0);
        loop {
            let page = client.list(before, PAGE).await.map_err(asked("list"))?;
            for job in page.jobs {
                if let Some(job_spec::Deadline::DeadlineAtUs(at)) = job.spec.and_then(|spec| spec.deadline) {
                    found.insert(job.id, at);
                }
            }
            if page.next == 0 || page.next < oldest {
                return Ok(found);
            }
            before = page.next;
        }
    });
    joined(task).await?
}

/// Photos that were done in time, and recorded between these two moments.
pub fn in_time(photos: &[Photo], from_us: u64, to_us: u64) -> u64 {
    let within = |photo: &&Photo| photo.in_time && (from_us..to_us).contains(&photo.recorded_us);
    photos.iter().filter(within).count() as u64
}

/// From submit to start, in ms.
pub fn starts(photos: &[Photo]) -> Quantiles {
    Quantiles::of(photos.iter().map(Photo::start_ms).collect(), 1)
}

/// The 99th percentile from submit to start of the photos submitted in each second from a moment on; none where there
/// are none.
pub fn windows(photos: &[Photo], from_us: u64, count: u64) -> Vec<Option<f64>> {
    let mut windows: Vec<Vec<f64>> = vec![Vec::new(); count as usize];
    for photo in photos.iter().filter(|photo| photo.submit_us >= from_us) {
        if let Some(window) = windows.get_mut(((photo.submit_us - from_us) / WINDOW_US) as usize) {
            window.push(photo.start_ms());
        }
    }
    let p99 = |window: Vec<f64>| (!window.is_empty()).then(|| Quantiles::of(window, 1).p99);
    windows.into_iter().map(p99).collect()
}

/// The first second from which on so many seconds in a row are at most at `most`.
pub fn back(windows: &[Option<f64>], most: f64, seconds: usize) -> Option<usize> {
    let good = |window: &Option<f64>| window.is_some_and(|p99| p99 <= most);
    (0..windows.len().saturating_sub(seconds - 1))
        .find(|first| windows[*first..first + seconds].iter().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo(submit_us: u64, start_ms: u64, recorded_us: u64, in_time: bool) -> Photo {
        Photo {
            submit_us,
            started_us: submit_us + start_ms * 1_000,
            recorded_us,
            in_time,
        }
    }

    #[test]
    fn only_what_is_in_time_and_within_counts() {
        let photos = [
            photo(0, 1, 10, true),
            photo(0, 1, 20, true),
            photo(0, 1, 15, false),
        ];
        assert_eq!(in_time(&photos, 10, 20), 1);
    }

    #[test]
    fn windows_are_of_the_second_of_the_submit() {
        let photos = [
            photo(WINDOW_US, 5, 0, true),
            photo(WINDOW_US * 3 - 1, 7, 0, true),
            photo(0, 9, 0, true),
        ];
        let found = windows(&photos, WINDOW_US, 3);
        assert_eq!(found, [Some(5.0), Some(7.0), None]);
    }

    #[test]
    fn back_is_when_it_stays() {
        let windows = [Some(9.0), Some(1.0), None, Some(1.0), Some(1.0), Some(2.0)];
        assert_eq!(back(&windows, 1.5, 2), Some(3));
        assert_eq!(back(&windows, 2.0, 3), Some(3));
        assert_eq!(back(&windows, 2.0, 4), None);
        assert_eq!(back(&[], 2.0, 4), None);
    }
}
