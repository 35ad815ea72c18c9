//! Following jobs until they end, with progress for people.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use rebound_proto::v1::{Job, JobState};
use tokio::time::Instant;

use crate::client::{Client, ClientError};
use crate::exit::{Exit, Failure};
use crate::limits::{JOBS_AT_ONCE, PROGRESS_LINE_PAUSE, WATCH_PAUSE, WATCH_POLL};
use crate::output::{Format, Out, duration};
use crate::view::is_ended;

/// How progress is shown, all of it on stderr.
enum Show {
    /// A bar that is drawn anew.
    Bar(ProgressBar),
    /// A line now and then.
    Lines { last: Option<Instant> },
    /// Not at all.
    Nothing,
}

/// Where some jobs are.
struct Progress {
    show: Show,
    jobs: BTreeMap<u64, Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    tasks: u64,
    ended: u64,
    failed: u64,
    done: bool,
}

/// Waits until each of `jobs` has ended, at most `limit`, and returns them in that order.
pub async fn until_ended(
    client: &Client,
    jobs: &[u64],
    limit: Option<Duration>,
    out: &Out,
) -> Result<Vec<Job>, Failure> {
    let progress = Mutex::new(Progress::new(jobs, out));
    let follow_one = |job: u64| {
        let progress = &progress;
        async move {
            let told = |job: &Job| progress.lock().unwrap_or_else(|e| e.into_inner()).update(job);
            follow(client, job, |job| {
                told(job);
                Ok(())
            })
            .await
        }
    };
    let all = futures_util::stream::iter(jobs.iter().copied().map(follow_one))
        .buffered(JOBS_AT_ONCE)
        .try_collect();
    let ended = match limit {
        None => all.await,
        Some(limit) => match tokio::time::timeout(limit, all).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::timeout(format!(
                "not ended after {}; the work goes on",
                duration(limit.as_micros() as u64)
            ))),
        },
    };
    progress.into_inner().unwrap_or_else(|e| e.into_inner()).finish();
    ended
}

/// Follows one job until it ends, telling each change.
pub async fn follow(
    client: &Client,
    job: u64,
    mut told: impl FnMut(&Job) -> Result<(), Failure>,
) -> Result<Job, Failure> {
    let mut seen = 0;
    loop {
        let asked = Instant::now();
        let now = client
            .watch(job, seen, WATCH_POLL)
            .await
            .map_err(|error| about(job, error))?;
        if now.changed != seen {
            told(&now)?;
        }
        if is_ended(now.state()) {
            return Ok(now);
        }
        seen = now.changed;
        tokio::time::sleep_until(asked + WATCH_PAUSE).await;
    }
}

fn about(job: u64, error: ClientError) -> Failure {
    let failure = Failure::from(error);
    Failure {
        message: format!("job {job}: {}", failure.message),
        ..failure
    }
}

/// The exit code for jobs that ended: a failed task counts before a cancelled job.
pub fn exit_of(jobs: &[Job]) -> Exit {
    if jobs.iter().any(|job| job.failed > 0) {
        Exit::TasksFailed
    } else if jobs.iter().any(|job| job.state() == JobState::Cancelled) {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

impl Progress {
    fn new(jobs: &[u64], out: &Out) -> Self {
        let show = if out.quiet || out.format != Format::Table {
            Show::Nothing
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            // The template is a constant and is tested; without it the bar is only plainer.
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            Show::Bar(bar)
        } else {
            Show::Lines { last: None }
        };
        Self {
            show,
            jobs: jobs.iter().map(|job| (*job, Counts::default())).collect(),
        }
    }

    fn update(&mut self, job: &Job) {
        let ended = job.succeeded + job.failed + job.cancelled;
        let done = is_ended(job.state());
        self.jobs.insert(
            job.id,
            Counts {
                tasks: job.tasks,
                ended,
                failed: job.failed,
                done,
            },
        );
        let sum = |part: fn(&Counts) -> u64| self.jobs.values().map(part).sum::<u64>();
        let (tasks, ended, failed) = (sum(|c| c.tasks), sum(|c| c.ended), sum(|c| c.failed));
        let all_done = self.jobs.values().all(|counts| counts.done);
        match &mut self.show {
            Show::Nothing => {}
            Show::Bar(bar) => {
                bar.set_length(tasks);
                bar.set_position(ended);
                bar.set_message(if failed > 0 {
                    format!("{failed} failed")
                } else {
                    String::new()
                });
            }
            Show::Lines { last } => {
                let now = Instant::now();
                if all_done || last.is_none_or(|last| now - last >= PROGRESS_LINE_PAUSE) {
                    *last = Some(now);
                    eprintln!("{ended} of {tasks} photos, {failed} failed");
                }
            }
        }
    }

    fn finish(self) {
        if let Show::Bar(bar) = self.show {
            bar.abandon();
            // The bar leaves the cursor on its line.
            eprintln!();
        }
    }
}

const TEMPLATE: &str = "{bar:40} {pos}/{len} photos  {per_sec}  {elapsed}  {msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_a_style() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn jobs_that_ended_have_an_exit_code() {
        let job = |state: JobState, failed| Job {
            state: state as i32,
            failed,
            ..Default::default()
        };
        assert_eq!(exit_of(&[job(JobState::Done, 0)]), Exit::Ok);
        assert_eq!(
            exit_of(&[job(JobState::Done, 0), job(JobState::Cancelled, 0)]),
            Exit::Failed
        );
        assert_eq!(
            exit_of(&[job(JobState::Cancelled, 0), job(JobState::Done, 1)]),
            Exit::TasksFailed
        );
    }
}
