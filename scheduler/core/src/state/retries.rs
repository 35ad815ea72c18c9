//! Tasks that were given more than once, or will be: how often, by which fence last, and until when they wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::table::Table;
use crate::types::{EnvId, Given, JobId, Time};

/// What is known of a task beyond its first attempt. Kept until the job is deleted: `given` tells late results of
/// earlier attempts from repeated ones of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts that failed through the photo or the recogniser.
    pub attempts: u32,
    /// Attempts lost through machines.
    pub losses: u32,
    /// Fence of the last attempt.
    pub given: Given,
    /// Waits to be given again, not before this.
    pub waiting: Option<Time>,
    /// Recognisers' processes that ended with it: if any, it is suspect.
    pub deaths: u32,
    /// How often it was taken back from a worker that had not started it.
    pub regiven: u32,
}

/// All of them.
pub struct Retries {
    pub(crate) table: Table<(EnvId, JobId, u64), Retry>,
    /// Waiting, and due as far as the state has seen time pass.
    due: BTreeMap<JobId, BTreeSet<u64>>,
    /// Waiting for their time.
    later: BTreeSet<(Time, EnvId, JobId, u64)>,
    /// Tasks with deaths.
    suspects: BTreeSet<(JobId, u64)>,
}

impl Retries {
    pub(crate) fn new(number: u8) -> Self {
        Retries {
            table: Table::new(number),
            due: BTreeMap::new(),
            later: BTreeSet::new(),
            suspects: BTreeSet::new(),
        }
    }

    /// What is known of a task.
    pub fn get(&self, env: EnvId, job: JobId, task: u64) -> Option<Retry> {
        self.table.get(&(env, job, task)).copied()
    }

    /// Those of these tasks that may be given again now, in order.
    pub fn due(&self, job: JobId, tasks: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let due = self.due.get(&job).into_iter();
        due.flat_map(move |due| due.range(tasks.clone())).copied()
    }

    /// The first task of a job, from one on, that may be given again now.
    pub fn due_from(&self, job: JobId, from: u64) -> Option<u64> {
        self.due.get(&job)?.range(from..).next().copied()
    }

    /// Tasks of a job that are suspect, within bounds, in order.
    pub fn suspects(&self, job: JobId, tasks: RangeInclusive<u64>) -> impl Iterator<Item = u64> + '_ {
        let found = self.suspects.range((job, *tasks.start())..=(job, *tasks.end()));
        found.map(|(_, task)| *task)
    }

    /// When the next waiting task is due.
    pub fn next_due(&self) -> Option<Time> {
        self.later.first().map(|(time, ..)| *time)
    }

    /// Moves what is due at `now` to the queue; returns the jobs concerned.
    pub(crate) fn mature(&mut self, now: Time) -> Vec<(EnvId, JobId)> {
        let mut jobs = Vec::new();
        while let Some(&(time, env, job, task)) = self.later.first() {
            if time > now {
                break;
            }
            self.later.pop_first();
            self.due.entry(job).or_default().insert(task);
            jobs.push((env, job));
        }
        jobs
    }

    /// Moves what is not due at `now` out of the queue again; returns the jobs concerned.
    pub(crate) fn unripen(&mut self, now: Time) -> Vec<(EnvId, JobId)> {
        let waiting = |retry: &Retry| retry.waiting.filter(|until| *until > now);
        let early: Vec<_> = self
            .table
            .iter()
            .filter_map(|(key, retry)| Some((waiting(retry)?, *key)))
            .filter(|(_, (_, job, task))| self.due.get(job).is_some_and(|due| due.contains(task)))
            .collect();
        for (until, (env, job, task)) in &early {
            self.forget_waiting(*until, *env, *job, *task);
            self.later.insert((*until, *env, *job, *task));
        }
        early.into_iter().map(|(_, (env, job, _))| (env, job)).collect()
    }

    /// Puts a task back, to be given again not before `waiting`.
    pub(crate) fn wait(&mut self, env: EnvId, job: JobId, task: u64, retry: Retry) {
        let until = retry.waiting.expect("a waiting task");
        self.table.insert((env, job, task), retry);
        if retry.deaths > 0 {
            self.suspects.insert((job, task));
        }
        self.later.insert((until, env, job, task));
    }

    /// The task was given again.
    pub(crate) fn give(&mut self, env: EnvId, job: JobId, task: u64, given: Given) {
        let retry = self.table.get_mut(&(env, job, task)).expect("a waiting task");
        let until = retry.waiting.take().expect("a waiting task");
        retry.given = given;
        self.forget_waiting(until, env, job, task);
    }

    /// The task was taken from a worker and given to another.
    pub(crate) fn regive(&mut self, env: EnvId, job: JobId, task: u64, given: Given) {
        let key = (env, job, task);
        let mut retry = self.get(env, job, task).unwrap_or_default();
        assert!(retry.waiting.is_none(), "a task that is held does not wait");
        retry.given = given;
        retry.regiven += 1;
        self.table.insert(key, retry);
    }

    /// The last of these tasks of which something is known that `which` says.
    pub fn last_with(
        &self,
        env: EnvId,
        job: JobId,
        tasks: RangeInclusive<u64>,
        which: impl Fn(&Retry) -> bool,
    ) -> Option<u64> {
        let mut rows = self
            .table
            .range((env, job, *tasks.start())..=(env, job, *tasks.end()));
        rows.rfind(|(_, retry)| which(retry))
            .map(|((_, _, task), _)| *task)
    }

    /// The job was cancelled: nothing of it waits any more.
    pub(crate) fn cancel(&mut self, env: EnvId, job: JobId) {
        let waiting: Vec<(u64, Time)> = self
            .table
            .range((env, job, 0)..=(env, job, u64::MAX))
            .filter_map(|(key, retry)| retry.waiting.map(|until| (key.2, until)))
            .collect();
        for (task, until) in waiting {
            self.table.get_mut(&(env, job, task)).expect("just found").waiting = None;
            self.forget_waiting(until, env, job, task);
        }
    }

    /// Its job was deleted: nothing of it waits.
    pub(crate) fn forget(&mut self, key: (EnvId, JobId, u64)) {
        self.table.remove(&key);
        self.suspects.remove(&(key.1, key.2));
    }

    fn forget_waiting(&mut self, until: Time, env: EnvId, job: JobId, task: u64) {
        if self.later.remove(&(until, env, job, task)) {
            return;
        }
        let due = self.due.get_mut(&job).expect("it waits in one of the two");
        assert!(due.remove(&task));
        if due.is_empty() {
            self.due.remove(&job);
        }
    }

    pub(crate) fn reindex(&mut self) {
        self.due.clear();
        let suspects = self.table.iter().filter(|(_, retry)| retry.deaths > 0);
        self.suspects = suspects.map(|((_, job, task), _)| (*job, *task)).collect();
        self.later = self
            .table
            .iter()
            .filter_map(|((env, job, task), retry)| retry.waiting.map(|until| (until, *env, *job, *task)))
            .collect();
    }

    /// How many tasks of a job wait here.
    pub(crate) fn waiting_of(&self, env: EnvId, job: JobId) -> u64 {
        let rows = self.table.range((env, job, 0)..=(env, job, u64::MAX));
        rows.filter(|(_, retry)| retry.waiting.is_some()).count() as u64
    }

    pub(crate) fn check(&self) {
        self.table.check();
        let waiting = self
            .table
            .iter()
            .filter(|(_, retry)| retry.waiting.is_some())
            .count();
        assert_eq!(
            waiting,
            self.later.len() + self.due.values().map(BTreeSet::len).sum::<usize>()
        );
        assert!(self.due.values().all(|tasks| !tasks.is_empty()));
        let suspects = self.table.iter().filter(|(_, retry)| retry.deaths > 0);
        let suspects = suspects.map(|((_, job, task), _)| (*job, *task));
        assert!(suspects.collect::<BTreeSet<_>>() == self.suspects);
    }
}
