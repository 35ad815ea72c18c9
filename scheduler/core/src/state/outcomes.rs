//! Outcomes of attempts: recorded once, by the current attempt only.

use bytes::Bytes;

use super::jobs::TaskEnd;
use super::retries::Retry;
use super::runs::{Run, RunKey};
use super::{Context, State};
use crate::command::Report;
use crate::event::{Cause, Fact, Verdict};
use crate::kept::{AttemptRecord, ResultsRecord};
use crate::key::{attempt_key, result_key};
use crate::plant::Plant;
use crate::reply::{Judged, Rejected, Reply};
use crate::rows::{Row, Rows};
use crate::table::encode;
use crate::types::{EnvId, Given, JobId, Time, WorkerId};

/// Attempts of consecutive tasks that ended alike.
pub(super) struct Ended {
    pub env: EnvId,
    pub job: JobId,
    first: u64,
    given: Given,
    pub worker: WorkerId,
    pub cause: Option<Cause>,
    pub rows: Rows,
}

/// An attempt that ended without a result.
pub(super) struct Lost<'a> {
    pub worker: WorkerId,
    pub given: Given,
    pub cause: Cause,
    pub message: &'a [u8],
}

impl State {
    pub(super) fn ended(
        &mut self,
        context: &mut Context,
        worker: WorkerId,
        reports: &[Report],
    ) -> Result<Reply, Rejected> {
        let mut verdicts = Vec::with_capacity(reports.len());
        for report in reports {
            let mut at = report.first;
            while at < report.end() {
                let (count, verdict) = self.some_ended(context, worker, report, at);
                judge(&mut verdicts, report, at, count, verdict);
                at += count;
            }
        }
        Ok(Reply::Ended { worker, verdicts })
    }

    /// Takes what a report says of the tasks from `at` on that are alike; returns how many those are.
    fn some_ended(
        &mut self,
        context: &mut Context,
        worker: WorkerId,
        report: &Report,
        at: u64,
    ) -> (u64, Verdict) {
        let (job, given) = (report.job, report.given);
        let env = self.jobs.get(job).map(|(env, _)| env);
        let held = env.and_then(|env| self.runs.of_task(env, job, at).map(|(key, run)| (env, key, run)));
        if let Some((env, key, run)) = held
            && (run.given == given && run.worker == worker
                || self.plant.is(Plant::NoFenceCheck)
                || run.worker == worker && self.plant.is(Plant::FenceByWorker))
        {
            let count = report.end().min(key.last + 1) - at;
            let ended = ended_of(report, env, run.worker, at, count);
            self.take(context, key, &ended);
            return (count, Verdict::Recorded);
        }
        if self.plant.is(Plant::NoFenceCheck)
            && let Some(env) = env
        {
            self.take_again(context, &ended_of(report, env, worker, at, 1));
            return (1, Verdict::Recorded);
        }
        let verdict = env.map_or(Verdict::Stale, |env| self.verdict_on_past(env, job, at, given));
        if verdict == Verdict::Stale {
            self.meta_mut().stale_refused += 1;
        }
        let fact = Fact::Refused {
            worker,
            first: at,
            count: 1,
            given,
            verdict,
        };
        context.tell(env.unwrap_or_default(), Some(job), fact);
        (1, verdict)
    }

    /// The bug that is planted by `no-fence-check`: what does not count is recorded all the same.
    fn take_again(&mut self, context: &mut Context, ended: &Ended) {
        self.keep_results(context, ended);
        tell_recorded(context, ended);
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

    /// Takes the outcomes of current attempts, all of one run.
    fn take(&mut self, context: &mut Context, key: RunKey, ended: &Ended) {
        self.count_for_worker(ended.worker, ended.cause, ended.rows.len());
        self.count_cost(context, ended);
        let Some(cause) = ended.cause else {
            return self.end_tasks(context, key, ended);
        };
        for (task, row) in (ended.first..).zip(ended.rows.iter()) {
            // Each failure changes the run that the next one is looked for in.
            let (key, run) = self
                .runs
                .of_task(ended.env, ended.job, task)
                .expect("held by one run");
            self.fail(context, key, &run, ended.given, task, cause, row);
        }
    }

    /// A current attempt gave no result: the task is tried again, or has failed for good.
    #[allow(clippy::too_many_arguments, reason = "an attempt has this many sides")]
    fn fail(
        &mut self,
        context: &mut Context,
        key: RunKey,
        run: &Run,
        given: Given,
        task: u64,
        cause: Cause,
        row: Row,
    ) {
        let job = self.jobs.get_in(key.env, key.job).expect("a run's job");
        let tried = self.tries(key.env, key.job, task);
        let allowed = match self.specs.get(job.spec).map_or(0, |spec| spec.max_attempts) {
            0 => self.meta().settings.max_attempts,
            asked => u64::from(asked),
        };
        let over = match cause.is_loss() {
            true => u64::from(tried.losses) + 1 > self.meta().settings.max_losses,
            false if self.plant.is(Plant::AttemptsUnbounded) => false,
            false => cause.is_final() || u64::from(tried.attempts) + 1 >= allowed,
        };
        let deaths = u64::from(tried.deaths) + u64::from(cause.is_death());
        let counted = !self.plant.is(Plant::DeathsUncounted);
        let quarantined = counted && cause.is_death() && deaths >= self.meta().settings.max_deaths;
        let last_words;
        let (cause, row) = match quarantined {
            true => {
                last_words = quarantine_message(deaths, row.output);
                let output = &last_words[..];
                (Cause::Quarantined, Row { output, ..row })
            }
            false => (cause, row),
        };
        let dropped = !over && !quarantined && self.is_dropped(job, task);
        let cause = if dropped { Cause::Dropped } else { cause };
        if over || quarantined || dropped {
            let ended = Ended {
                env: key.env,
                job: key.job,
                first: task,
                given,
                worker: run.worker,
                cause: Some(cause),
                rows: Rows::one(row),
            };
            self.end_tasks(context, key, &ended);
        } else {
            let lost = Lost {
                worker: run.worker,
                given: run.given,
                cause,
                message: row.output,
            };
            self.put_back(context, key.env, key, task, &lost);
        }
    }

    fn count_for_worker(&mut self, worker: WorkerId, cause: Option<Cause>, count: u64) {
        let Some(worker) = self.workers.get_mut(worker) else {
            return;
        };
        match cause {
            None => worker.succeeded += count,
            Some(cause) if cause.is_loss() => {}
            Some(_) => worker.failed += count,
        }
    }

    fn tries(&self, env: EnvId, job: JobId, task: u64) -> Retry {
        self.retries.get(env, job, task).unwrap_or_default()
    }

    /// A held task of a job that wants no late ones ends without a result.
    pub(super) fn drop_held(&mut self, context: &mut Context, key: RunKey, task: u64, lost: &Lost) {
        let row = Row {
            started: Time(0),
            ended: Time(0),
            output: lost.message,
        };
        let ended = Ended {
            env: key.env,
            job: key.job,
            first: task,
            given: lost.given,
            worker: lost.worker,
            cause: Some(Cause::Dropped),
            rows: Rows::one(row),
        };
        self.end_tasks(context, key, &ended);
    }

    /// Tasks of one run have their one outcome.
    fn end_tasks(&mut self, context: &mut Context, key: RunKey, ended: &Ended) {
        let (env, id, count) = (ended.env, ended.job, ended.rows.len());
        self.runs.release(key, ended.first, count);
        let end = if ended.cause.is_none() {
            TaskEnd::Succeeded
        } else {
            TaskEnd::Failed
        };
        if end == TaskEnd::Succeeded || !self.plant.is(Plant::EndUnmarked) {
            self.jobs.set_ends(env, id, ended.first, count, end);
        }
        self.keep_results(context, ended);
        let late = self.late_now(env, id, ended.first, count, context.at);
        let job = self.jobs.get_mut(env, id).expect("a run's job");
        job.given -= count;
        job.late += late;
        if ended.cause == Some(Cause::Dropped) {
            job.dropped += count;
        }
        let mut counts = self.environments.counts_mut(env);
        counts.given -= count;
        match end {
            _ if self.plant.is(Plant::EndUncounted) => ((), counts.succeeded += count),
            TaskEnd::Succeeded => (job.succeeded += count, counts.succeeded += count),
            _ => (job.failed += count, counts.failed += count),
        };
        drop(counts);
        tell_recorded(context, ended);
        self.finish_if_ended(context, env, id);
        self.requeue(env, id);
    }

    fn keep_results(&mut self, context: &mut Context, ended: &Ended) {
        let record = ResultsRecord {
            given: ended.given,
            worker: ended.worker,
            cause: ended.cause,
            recorded: context.at,
            rows: ended.rows.clone(),
        };
        let (key, value) = (result_key(ended.env, ended.job, ended.first), encode(&record));
        let job = self.jobs.get_mut(ended.env, ended.job).expect("a known job");
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
        let mut retry = self.tries(env, key.job, task);
        let settings = &self.meta().settings;
        let wait = match lost.cause {
            // The worker may still be at it, and a suspect is never with two.
            Cause::WorkerLost if retry.deaths > 0 && !self.plant.is(Plant::SuspectUnwaited) => {
                settings.suspect_wait
            }
            cause if cause.is_loss() => 0,
            _ => settings.backoff(retry.attempts + 1),
        };
        match lost.cause.is_loss() && !self.plant.is(Plant::LossesAsAttempts) {
            true => retry.losses += 1,
            false => retry.attempts += 1,
        }
        retry.deaths += u32::from(lost.cause.is_death());
        let not_before = Time(context.at.0.saturating_add(wait));
        self.runs.release(key, task, 1);
        retry.given = lost.given;
        retry.waiting = Some(not_before);
        self.retries.wait(env, key.job, task, retry);
        let record = AttemptRecord {
            given: lost.given,
            worker: lost.worker,
            cause: lost.cause,
            message: Bytes::copy_from_slice(lost.message),
            at: context.at,
        };
        let (kept_key, value) = (attempt_key(env, key.job, task, context.index), encode(&record));
        let job = self.jobs.get_mut(env, key.job).expect("a run's job");
        job.keep(&kept_key, &value);
        job.given -= 1;
        job.changed = context.index;
        context.kept.push((kept_key, value));
        let mut counts = self.environments.counts_mut(env);
        counts.given -= 1;
        counts.waiting += 1;
        drop(counts);
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
        let row = Row {
            started: Time(0),
            ended: context.at,
            output: b"the worker was lost",
        };
        for (key, run) in self.runs.of_worker(worker) {
            for task in run.first..=key.last {
                let (now_key, now) = self.runs.of_task(key.env, key.job, task).expect("still held");
                self.fail(context, now_key, &now, now.given, task, Cause::WorkerLost, row);
                freed += 1;
            }
        }
        freed
    }
}

/// `count` of a report's attempts, from the task `at` on.
fn ended_of(report: &Report, env: EnvId, worker: WorkerId, at: u64, count: u64) -> Ended {
    Ended {
        env,
        job: report.job,
        first: at,
        given: report.given,
        worker,
        cause: report.cause,
        rows: report.rows.slice(at - report.first, count),
    }
}

fn quarantine_message(deaths: u64, last: &[u8]) -> Vec<u8> {
    let mut message =
        format!("{deaths} recognisers' processes ended with this photo; the last: ").into_bytes();
    message.extend_from_slice(last);
    message
}

fn tell_recorded(context: &mut Context, ended: &Ended) {
    let fact = Fact::Recorded {
        worker: ended.worker,
        first: ended.first,
        count: ended.rows.len(),
        given: ended.given,
        cause: ended.cause,
    };
    context.tell(ended.env, Some(ended.job), fact);
}

/// Adds a verdict; what goes on as the one before is one with it.
fn judge(verdicts: &mut Vec<Judged>, report: &Report, first: u64, count: u64, verdict: Verdict) {
    let (job, given) = (report.job, report.given);
    match verdicts.last_mut() {
        Some(last)
            if (last.job, last.given, last.verdict) == (job, given, verdict)
                && last.first + last.count == first =>
        {
            last.count += count;
        }
        _ => verdicts.push(Judged {
            job,
            first,
            count,
            given,
            verdict,
        }),
    }
}
