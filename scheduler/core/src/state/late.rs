//! Deadlines that have passed: photos that were not ended by then are counted, go behind those that can still be in
//! time, and are dropped when their job wants that. Photos of one append share their deadline, so that an entry names
//! appends, and nothing is kept for a photo. Time is the entry's.

use super::jobs::{Job, TaskEnd};
use super::{Context, State};
use crate::command::Command;
use crate::event::{Cause, Fact};
use crate::kept::ResultsRecord;
use crate::key::result_key;
use crate::limits::{OVERDUE_APPENDS_MAX, OVERDUE_TASKS_MAX};
use crate::reply::{Rejected, Reply};
use crate::rows::{Packing, Row};
use crate::table::encode;
use crate::types::{EnvId, Given, JobId, Time, WorkerId};

/// What a photo that was dropped has for a result.
const DROPPED: &[u8] = b"its deadline passed before it was given to a worker";

impl State {
    /// The entry that says which deadlines have passed at `now`, as much as one may; none when there are none.
    pub fn overdue_at(&self, now: Time) -> Option<Command> {
        let (mut tasks, mut appends) = (0, Vec::new());
        for (env, job, first) in self.jobs.past_due(now).take(OVERDUE_APPENDS_MAX) {
            tasks += self
                .jobs
                .appends
                .get(&(env, job, first))
                .map_or(0, |note| note.count);
            appends.push((job, first));
            if tasks >= OVERDUE_TASKS_MAX {
                break;
            }
        }
        (!appends.is_empty()).then_some(Command::Overdue { appends })
    }

    pub(super) fn overdue(
        &mut self,
        context: &mut Context,
        appends: &[(JobId, u64)],
    ) -> Result<Reply, Rejected> {
        let mut late = 0;
        for (id, first) in appends.iter().take(OVERDUE_APPENDS_MAX) {
            late += self.append_is_late(context, *id, *first);
        }
        Ok(Reply::Overdue { late })
    }

    /// The photos of an append, which must be the next in its job, are late if they have not ended. Says how many.
    fn append_is_late(&mut self, context: &mut Context, id: JobId, first: u64) -> u64 {
        let Some((env, job)) = self.jobs.get(id) else {
            return 0;
        };
        let note = self.jobs.appends.get(&(env, id, first)).copied();
        let over = note.filter(|note| note.due.is_some_and(|due| due < context.at));
        let Some(note) = over.filter(|_| job.phase.is_live() && job.late_to == first) else {
            return 0;
        };
        let drop_late = self.specs.get(job.spec).is_some_and(|spec| spec.drop_late);
        let end = first + note.count;
        let unended = |task: &u64| self.jobs.task_end(env, id, *task) == TaskEnd::Unended;
        let late = (first..end).filter(unended).count() as u64;
        self.jobs
            .counted_late(env, id, first, note.due.expect("filtered"));
        let job = self.jobs.get_mut(env, id).expect("just found");
        (job.late_to, job.late, job.changed) = (end, job.late + late, context.index);
        if late > 0 {
            let count = note.count;
            context.tell(env, Some(id), Fact::TasksLate { first, count, late });
        }
        if drop_late {
            self.drop_waiting(context, env, id, first, end);
        }
        self.finish_if_ended(context, env, id);
        self.requeue(env, id);
        late
    }

    /// Those of these tasks that wait end without having been done.
    fn drop_waiting(&mut self, context: &mut Context, env: EnvId, id: JobId, first: u64, end: u64) {
        let job = self.jobs.get_mut(env, id).expect("just found");
        let fresh = job.fresh;
        job.fresh = fresh.max(end);
        let given = Given(context.index);
        let mut dropped: Vec<(u64, u64)> = Vec::new();
        for task in first..end {
            let waits = self.retries.get(env, id, task);
            let waits = waits.is_some_and(|retry| retry.waiting.is_some());
            if waits {
                // No result of an earlier attempt counts, nor did it.
                self.retries.give(env, id, task, given);
            }
            match dropped.last_mut() {
                _ if !waits && task < fresh => {}
                Some((_, last)) if *last + 1 == task => *last = task,
                _ => dropped.push((task, task)),
            }
        }
        for (first, last) in dropped {
            self.drop_tasks(context, env, id, first, last - first + 1);
        }
    }

    fn drop_tasks(&mut self, context: &mut Context, env: EnvId, id: JobId, first: u64, count: u64) {
        let mut rows = Packing::default();
        let row = Row {
            started: Time(0),
            ended: Time(0),
            output: DROPPED,
        };
        (0..count).for_each(|_| rows.push(row));
        let record = ResultsRecord {
            given: Given(context.index),
            worker: WorkerId(0),
            cause: Some(Cause::Dropped),
            recorded: context.at,
            rows: rows.done(),
        };
        self.jobs.set_ends(env, id, first, count, TaskEnd::Failed);
        let (key, value) = (result_key(env, id, first), encode(&record));
        let job = self.jobs.get_mut(env, id).expect("just found");
        job.keep(&key, &value);
        job.failed += count;
        job.dropped += count;
        context.kept.push((key, value));
        let mut counts = self.environments.counts_mut(env);
        counts.waiting -= count;
        counts.failed += count;
        context.tell(env, Some(id), Fact::Dropped { first, count });
    }

    /// Of tasks that end now, those whose deadline has passed and which were not counted yet.
    pub(super) fn late_now(&self, env: EnvId, id: JobId, first: u64, count: u64, at: Time) -> u64 {
        let Some(job) = self.jobs.get_in(env, id).filter(|job| job.deadline.is_some()) else {
            return 0;
        };
        let late = |task: &u64| self.jobs.due(env, id, job, *task).is_some_and(|due| due < at);
        (first.max(job.late_to)..first + count).filter(late).count() as u64
    }

    /// True when a task that is to be tried again is late, and its job wants no late ones.
    pub(super) fn is_dropped(&self, job: &Job, task: u64) -> bool {
        task < job.late_to && self.specs.get(job.spec).is_some_and(|spec| spec.drop_late)
    }
}
