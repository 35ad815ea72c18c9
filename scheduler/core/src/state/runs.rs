//! Runs: which worker holds which tasks, by which fence. A task is held exactly while a run covers it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::table::Table;
use crate::types::{EnvId, Given, JobId, SpecId, WorkerId};

/// Consecutive tasks of one job held by one worker. Keyed by (environment, job, last task), so that a run that is
/// done from the front keeps its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First task still held.
    pub first: u64,
    /// The fence.
    pub given: Given,
    /// Who holds them.
    pub worker: WorkerId,
    /// What runs them.
    pub spec: SpecId,
}

/// A run with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    /// The environment.
    pub env: EnvId,
    /// The job.
    pub job: JobId,
    /// Last task held.
    pub last: u64,
}

impl RunKey {
    fn row(self) -> (EnvId, JobId, u64) {
        (self.env, self.job, self.last)
    }
}

/// All runs.
pub struct Runs {
    pub(crate) table: Table<(EnvId, JobId, u64), Run>,
    by_worker: BTreeMap<WorkerId, BTreeSet<RunKey>>,
    held: BTreeMap<WorkerId, u64>,
    touched: BTreeSet<WorkerId>,
    /// Workers that may have come to hold nothing since this was last taken.
    emptied: Vec<WorkerId>,
}

impl Runs {
    pub(crate) fn new(number: u8) -> Self {
        Runs {
            table: Table::new(number),
            by_worker: BTreeMap::new(),
            held: BTreeMap::new(),
            touched: BTreeSet::new(),
            emptied: Vec::new(),
        }
    }

    /// The run that covers a task.
    pub fn of_task(&self, env: EnvId, job: JobId, task: u64) -> Option<(RunKey, Run)> {
        let (key, run) = self.table.range((env, job, task)..=(env, job, u64::MAX)).next()?;
        (run.first <= task).then_some((
            RunKey {
                env,
                job,
                last: key.2,
            },
            *run,
        ))
    }

    /// All runs of a worker, in the order they were given.
    pub fn of_worker(&self, worker: WorkerId) -> Vec<(RunKey, Run)> {
        let keys = self.by_worker.get(&worker).into_iter().flatten();
        let mut runs: Vec<_> = keys
            .map(|key| (*key, *self.table.get(&key.row()).expect("indexed")))
            .collect();
        runs.sort_by_key(|(key, run)| (run.given, key.job, run.first));
        runs
    }

    /// What runs the tasks that a worker holds; a spec may come more than once.
    pub fn specs_of(&self, worker: WorkerId) -> impl Iterator<Item = SpecId> + '_ {
        let keys = self.by_worker.get(&worker).into_iter().flatten();
        keys.map(|key| self.table.get(&key.row()).expect("indexed").spec)
    }

    /// All runs of a job.
    pub fn of_job(&self, env: EnvId, job: JobId) -> Vec<(RunKey, Run)> {
        let rows = self.table.range((env, job, 0)..=(env, job, u64::MAX));
        rows.map(|(key, run)| {
            (
                RunKey {
                    env,
                    job,
                    last: key.2,
                },
                *run,
            )
        })
        .collect()
    }

    /// True when nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many tasks a worker holds.
    pub fn held_by(&self, worker: WorkerId) -> u64 {
        self.held.get(&worker).copied().unwrap_or(0)
    }

    /// Workers whose runs changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.touched)
    }

    /// True when a worker's runs changed since they were last taken: of this process alone, so nothing for `apply`.
    pub(crate) fn is_touched(&self, worker: WorkerId) -> bool {
        self.touched.contains(&worker)
    }

    /// What the worker shall do changed in another way.
    pub(crate) fn touch(&mut self, worker: WorkerId) {
        self.touched.insert(worker);
    }

    pub(crate) fn insert(&mut self, key: RunKey, run: Run) {
        assert!(run.first <= key.last);
        self.table.insert(key.row(), run);
        self.index(key, &run);
        self.touched.insert(run.worker);
    }

    /// Takes a run away.
    pub(crate) fn remove(&mut self, key: RunKey) -> Run {
        let run = self.table.remove(&key.row()).expect("a run that was just found");
        let of_worker = self.by_worker.get_mut(&run.worker).expect("indexed");
        of_worker.remove(&key);
        if of_worker.is_empty() {
            self.by_worker.remove(&run.worker);
        }
        self.uncount(run.worker, key.last - run.first + 1);
        self.touched.insert(run.worker);
        run
    }

    /// Takes `count` tasks out of a run, from `from` on; what is left stays held.
    pub(crate) fn release(&mut self, key: RunKey, from: u64, count: u64) {
        let run = *self.table.get(&key.row()).expect("a run that was just found");
        let to = from + count - 1;
        assert!(count > 0 && run.first <= from && to <= key.last);
        if run.first == from && to < key.last {
            self.table.get_mut(&key.row()).expect("just found").first = to + 1;
            self.uncount(run.worker, count);
            self.touched.insert(run.worker);
            return;
        }
        self.remove(key);
        if run.first < from {
            let head = RunKey {
                last: from - 1,
                ..key
            };
            self.insert(head, run);
        }
        if to < key.last {
            let tail = Run { first: to + 1, ..run };
            self.insert(key, tail);
        }
    }

    fn index(&mut self, key: RunKey, run: &Run) {
        self.by_worker.entry(run.worker).or_default().insert(key);
        *self.held.entry(run.worker).or_default() += key.last - run.first + 1;
    }

    fn uncount(&mut self, worker: WorkerId, tasks: u64) {
        let held = self.held.get_mut(&worker).expect("counted");
        *held -= tasks;
        if *held == 0 {
            self.held.remove(&worker);
            self.emptied.push(worker);
        }
    }

    /// Workers that have come to hold nothing since the last call.
    pub(crate) fn take_emptied(&mut self) -> Vec<WorkerId> {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|worker| self.held_by(*worker) == 0);
        emptied
    }

    pub(crate) fn reindex(&mut self) {
        self.by_worker.clear();
        self.held.clear();
        let rows: Vec<_> = self.table.iter().map(|(key, run)| (*key, *run)).collect();
        for ((env, job, last), run) in rows {
            self.index(RunKey { env, job, last }, &run);
        }
    }

    /// Runs do not overlap, and the indexes agree.
    pub(crate) fn check(&self) {
        self.table.check();
        let mut held: BTreeMap<WorkerId, u64> = BTreeMap::new();
        let mut before: Option<(EnvId, JobId, u64)> = None;
        for ((env, job, last), run) in self.table.iter() {
            assert!(run.first <= *last);
            if let Some((e, j, l)) = before {
                assert!(
                    (e, j) != (*env, *job) || l < run.first,
                    "runs of job {job} overlap at {}",
                    run.first
                );
            }
            before = Some((*env, *job, *last));
            *held.entry(run.worker).or_default() += last - run.first + 1;
            let key = RunKey {
                env: *env,
                job: *job,
                last: *last,
            };
            assert!(
                self.by_worker
                    .get(&run.worker)
                    .is_some_and(|keys| keys.contains(&key))
            );
        }
        assert_eq!(held, self.held);
        assert_eq!(
            self.by_worker.values().map(BTreeSet::len).sum::<usize>(),
            self.table.len()
        );
    }
}
