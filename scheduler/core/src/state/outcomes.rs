//! Outcomes of attempts: recorded once, by the current attempt only.

use bytes::Bytes;

use super::jobs::TaskEnd;
use super::retries::Retry;
use super::runs::{Run, RunKey};
use super::{Context, State};
use crate::command::Report;
use crate::event::{Cause, Fact, Verdict};
use crate::kept::{AttemptRecord, ResultRecord};
use crate::key::{attempt_key, result_key};
use crate::reply::{Rejected, Reply};
use crate::table::encode;
use crate::types::{EnvId, Given, JobId, Time, WorkerId};

/// An attempt that ended without a result.
pub(super) struct Lost<'a> {
    pub worker: WorkerId,
    pub given: Given,
    pub cause: Cause,
    pub message: &'a Bytes,
}

impl State {
    pub(super) fn ended(
        &mut self,
        context: &mut Context,
        worker: WorkerId,
        results: &[Report],
    ) -> Result<Reply, Rejected> {
        let verdicts = results
            .iter()
            .map(|report| {
                (
                    report.job,
                    report.task,
                    report.given,
                    self.one_ended(context, worker, report),
                )
            })
            .collect();
        Ok(Reply::Ended { worker, verdicts })
    }

    fn one_ended(&mut self, context: &mut Context, worker: WorkerId, report: &Report) -> Verdict {
        let Report { job, task, given, .. } = *report;
        let env = self.jobs.get(job).map(|(env, _)| env);
        let held = env.and_then(|env| {
            self.runs
                .of_task(env, job, task)
                .map(|(key, run)| (env, key, run))
        });
        if let Some((env, key, run)) = held
            && (run.given == given && run.worker == worker || self.plant.no_fence_check())
        {
            self.take(context, env, key, run, report);
            return Verdict::Recorded;
        }
        if self.plant.no_fence_check()
            && let Some(env) = env
        {
            self.take_again(context, env, worker, report);
            return Verdict::Recorded;
        }
        let verdict = env.map_or(Verdict::Stale, |env| self.verdict_on_past(env, job, task, given));
        if verdict == Verdict::Stale {
            self.meta_mut().stale_refused += 1;
        }
        let fact = Fact::Refused {
            worker,
            task,
            given,
            verdict,
        };
        context.tell(env.unwrap_or_default(), Some(job), fact);
        verdict
    }

    /// The bug that is planted by `no-fence-check`: what does not count is recorded all the same.
    fn take_again(&mut self, context: &mut Context, env: EnvId, worker: WorkerId, report: &Report) {
        let Report {
            job,
            task,
            given,
            cause,
            ..
        } = *report;
        self.keep_result(context, env, worker, report);
        context.tell(
            env,
            Some(job),
            Fact::Recorded {
                worker,
                task,
                given,
                cause,
            },
        );
    }

    /// For an attempt that is not the current one: did its result count before?
    fn verdict_on_past(&self, env: EnvId, job: JobId, task: u64, given: Given) -> Verdict {
        let ended = self.jobs.task_end(env, job, task) != TaskEnd::Unended;
        // Without a retry record the task was given once only, so the result that counted is this one's.
        let last = self
            .retries
            .get(env, job, task)
            .is_none_or(|retry| retry.given == given);
        if ended && last {
            Verdict::AlreadyRecorded
        } else {
            Verdict::Stale
        }
    }

    /// Takes the current attempt's outcome.
    fn take(&mut self, context: &mut Context, env: EnvId, key: RunKey, run: Run, report: &Report) {
        self.count_for_worker(run.worker, report.cause);
        match report.cause {
            None => self.end_task(context, env, key, run, report),
            Some(cause) => {
                let job = self.jobs.get_in(env, key.job).expect("a run's job");
                let (attempts, losses) = self.tries(env, key.job, report.task);
                let allowed = match self.specs.get(job.spec).map_or(0, |spec| spec.max_attempts) {
                    0 => self.meta().settings.max_attempts,
                    asked => asked,
                };
                let over = match cause.is_loss() {
                    true => losses + 1 > self.meta().settings.max_losses,
                    false => cause.is_final() || attempts + 1 >= allowed,
                };
                if over {
                    self.end_task(context, env, key, run, report);
                } else {
                    let lost = Lost {
                        worker: run.worker,
                        given: run.given,
                        cause,
                        message: &report.output,
                    };
                    self.put_back(context, env, key, report.task, &lost);
                }
            }
        }
    }

    fn count_for_worker(&mut self, worker: WorkerId, cause: Option<Cause>) {
        let Some(worker) = self.workers.get_mut(worker) else {
            return;
        };
        match cause {
            None => worker.succeeded += 1,
            Some(cause) if cause.is_loss() => {}
            Some(_) => worker.failed += 1,
        }
    }

    fn tries(&self, env: EnvId, job: JobId, task: u64) -> (u32, u32) {
        self.retries
            .get(env, job, task)
            .map_or((0, 0), |retry| (retry.attempts, retry.losses))
    }

    /// The task has its one outcome.
    fn end_task(&mut self, context: &mut Context, env: EnvId, key: RunKey, run: Run, report: &Report) {
        let (id, task) = (key.job, report.task);
        self.runs.release(key, task);
        let end = if report.cause.is_none() {
            TaskEnd::Succeeded
        } else {
            TaskEnd::Failed
        };
        self.jobs.set_end(env, id, task, end);
        self.keep_result(context, env, run.worker, report);
        let job = self.jobs.get_mut(env, id).expect("a run's job");
        job.given -= 1;
        let counts = self.environments.counts_mut(env);
        counts.given -= 1;
        match end {
            TaskEnd::Succeeded => (job.succeeded += 1, counts.succeeded += 1),
            _ => (job.failed += 1, counts.failed += 1),
        };
        let fact = Fact::Recorded {
            worker: run.worker,
            task,
            given: report.given,
            cause: report.cause,
        };
        context.tell(env, Some(id), fact);
        self.finish_if_ended(context, env, id);
        self.requeue(env, id);
    }

    fn keep_result(&mut self, context: &mut Context, env: EnvId, worker: WorkerId, report: &Report) {
        let record = ResultRecord {
            given: report.given,
            worker,
            cause: report.cause,
            output: report.output.clone(),
            started: report.started,
            ended: report.ended,
            recorded: context.at,
        };
        let (key, value) = (result_key(env, report.job, report.task), encode(&record));
        let job = self.jobs.get_mut(env, report.job).expect("a known job");
        job.keep(&key, &value);
        job.changed = context.index;
        context.kept.push((key, value));
    }

    /// The task goes back into the queue, after a wait if the photo or the recogniser failed.
    pub(super) fn put_back(
        &mut self,
        context: &mut Context,
        env: EnvId,
        key: RunKey,
        task: u64,
        lost: &Lost,
    ) {
        let (mut attempts, mut losses) = self.tries(env, key.job, task);
        let wait = match lost.cause.is_loss() {
            true => {
                losses += 1;
                0
            }
            false => {
                attempts += 1;
                self.meta().settings.backoff(attempts)
            }
        };
        let not_before = Time(context.at.0.saturating_add(wait));
        self.runs.release(key, task);
        let retry = Retry {
            attempts,
            losses,
            given: lost.given,
            waiting: Some(not_before),
        };
        self.retries.wait(env, key.job, task, retry);
        let record = AttemptRecord {
            given: lost.given,
            worker: lost.worker,
            cause: lost.cause,
            message: lost.message.clone(),
            at: context.at,
        };
        let (kept_key, value) = (attempt_key(env, key.job, task, context.index), encode(&record));
        let job = self.jobs.get_mut(env, key.job).expect("a run's job");
        job.keep(&kept_key, &value);
        job.given -= 1;
        job.changed = context.index;
        context.kept.push((kept_key, value));
        let counts = self.environments.counts_mut(env);
        counts.given -= 1;
        counts.waiting += 1;
        let fact = Fact::Requeued {
            worker: lost.worker,
            task,
            given: lost.given,
            cause: lost.cause,
            not_before,
        };
        context.tell(env, Some(key.job), fact);
        self.mature(context.at);
        self.requeue(env, key.job);
    }

    /// The session of a worker has ended: what it held goes back, or has lost too many machines.
    pub(super) fn free_worker(&mut self, context: &mut Context, worker: WorkerId) -> u64 {
        let mut freed = 0;
        for (key, run) in self.runs.of_worker(worker) {
            for task in run.first..=key.last {
                let (now_key, now) = self.runs.of_task(key.env, key.job, task).expect("still held");
                let report = Report {
                    job: key.job,
                    task,
                    given: now.given,
                    cause: Some(Cause::WorkerLost),
                    output: Bytes::from_static(b"the worker was lost"),
                    started: Time(0),
                    ended: context.at,
                };
                self.take(context, key.env, now_key, now, &report);
                freed += 1;
            }
        }
        freed
    }
}
