//! Jobs: their records, which of their tasks have ended, and the queue of those with something to give.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits::PAGE_TASKS;
use crate::table::{Digest, Table, record_hash};
use crate::types::{EnvId, Index, JobId, SpecId, Time, TraceId};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Takes photos.
    Open,
    /// All photos are known.
    Closed,
    /// All tasks have ended.
    Done,
    /// Ended with what it had.
    Cancelled,
}

impl Phase {
    /// True while tasks may be given.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Open | Phase::Closed)
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What runs its photos.
    pub spec: SpecId,
    /// Shown to people.
    pub name: String,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
    /// Who opened it.
    pub actor: String,
    /// The opener's trace.
    pub trace: TraceId,
    /// 0..=100, higher first.
    pub priority: u8,
    /// When it should be done.
    pub deadline: Option<Time>,
    /// Where it stands.
    pub phase: Phase,
    /// Photos queued so far: also the offset of the next append.
    pub tasks: u64,
    /// Tasks from here on were never given.
    pub fresh: u64,
    /// Held by workers.
    pub given: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended for good without result.
    pub failed: u64,
    /// Appends so far.
    pub appends: u32,
    /// When it was opened.
    pub opened: Time,
    /// An open job closes by itself at this time.
    pub close_at: Time,
    /// When it ended.
    pub ended: Option<Time>,
    /// Index of the entry that last changed it.
    pub changed: Index,
    /// Sum of the hashes of its kept records.
    pub kept: u128,
}

impl Job {
    /// Tasks not ended and not held, of a live job.
    pub fn waiting(&self) -> u64 {
        match self.phase.is_live() {
            true => self.tasks - self.given - self.succeeded - self.failed,
            false => 0,
        }
    }

    /// Tasks that had not ended when the job was cancelled.
    pub fn cancelled(&self) -> u64 {
        match self.phase {
            Phase::Cancelled => self.tasks - self.succeeded - self.failed,
            _ => 0,
        }
    }

    /// Counts a record that goes to disk into the job's digest.
    pub(crate) fn keep(&mut self, key: &[u8], value: &[u8]) {
        let mut sum = Digest(self.kept);
        sum.add(record_hash(key, value));
        self.kept = sum.0;
    }
}

/// How a task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// Not yet.
    Unended,
    /// With a result.
    Succeeded,
    /// For good, without.
    Failed,
}

/// Outcomes of 4 096 consecutive tasks, two bits each, as long as needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    bits: Vec<u8>,
}

impl Page {
    fn get(&self, slot: u64) -> TaskEnd {
        let byte = self.bits.get(slot as usize / 4).copied().unwrap_or(0);
        match (byte >> (slot % 4 * 2)) & 3 {
            0 => TaskEnd::Unended,
            1 => TaskEnd::Succeeded,
            _ => TaskEnd::Failed,
        }
    }

    fn set(&mut self, slot: u64, end: TaskEnd) {
        let at = slot as usize / 4;
        if self.bits.len() <= at {
            self.bits.resize(at + 1, 0);
        }
        let code = match end {
            TaskEnd::Unended => 0,
            TaskEnd::Succeeded => 1,
            TaskEnd::Failed => 2,
        };
        let shift = slot % 4 * 2;
        self.bits[at] = self.bits[at] & !(3 << shift) | (code << shift);
    }
}

/// What was appended to an open job at an offset: a repeated append is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendNote {
    /// How many photos.
    pub count: u64,
    /// Of their URIs.
    pub digest: u128,
}

/// Order within the queue: higher priority, earlier deadline, older job.
pub type QueueKey = (u8, Time, JobId);

/// All jobs.
pub struct Jobs {
    pub(crate) table: Table<(EnvId, JobId), Job>,
    pub(crate) pages: Table<(EnvId, JobId, u64), Page>,
    pub(crate) appends: Table<(EnvId, JobId, u64), AppendNote>,
    homes: BTreeMap<JobId, EnvId>,
    queue: BTreeMap<SpecId, BTreeSet<QueueKey>>,
    closing: BTreeSet<(Time, JobId)>,
    /// Those that have ended, by when.
    ended: BTreeSet<(Time, JobId)>,
}

impl Jobs {
    pub(crate) fn new(jobs: u8, pages: u8, appends: u8) -> Self {
        Jobs {
            table: Table::new(jobs),
            pages: Table::new(pages),
            appends: Table::new(appends),
            homes: BTreeMap::new(),
            queue: BTreeMap::new(),
            closing: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    /// One job, whoever's it is.
    pub fn get(&self, id: JobId) -> Option<(EnvId, &Job)> {
        let env = *self.homes.get(&id)?;
        self.table.get(&(env, id)).map(|job| (env, job))
    }

    /// One job, if it is this environment's: another's is as unknown as none.
    pub fn get_in(&self, env: EnvId, id: JobId) -> Option<&Job> {
        self.table.get(&(env, id))
    }

    /// Jobs of an environment older than `before`, newest first.
    pub fn before(&self, env: EnvId, before: JobId) -> impl Iterator<Item = (JobId, &Job)> {
        self.table
            .range((env, JobId(0))..(env, before))
            .rev()
            .map(|((_, id), job)| (*id, job))
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Specs with something to give.
    pub fn queued_specs(&self) -> impl Iterator<Item = SpecId> + '_ {
        self.queue.keys().copied()
    }

    /// Jobs of a spec with something to give, in order.
    pub fn queued(&self, spec: SpecId) -> impl Iterator<Item = QueueKey> + '_ {
        self.queue.get(&spec).into_iter().flatten().copied()
    }

    /// True when nothing can be given.
    pub fn nothing_queued(&self) -> bool {
        self.queue.is_empty()
    }

    /// Open jobs whose time is up at `now`, the oldest first.
    pub fn to_close(&self, now: Time) -> impl Iterator<Item = JobId> + '_ {
        self.closing
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, job)| *job)
    }

    /// Jobs that had ended at `time`, the first to end first.
    pub fn ended_by(&self, time: Time) -> impl Iterator<Item = JobId> + '_ {
        self.ended
            .iter()
            .take_while(move |(at, _)| *at <= time)
            .map(|(_, job)| *job)
    }

    /// How many jobs take photos.
    pub fn open_count(&self) -> usize {
        self.closing.len()
    }

    /// How a task ended.
    pub fn task_end(&self, env: EnvId, job: JobId, task: u64) -> TaskEnd {
        let page = self.pages.get(&(env, job, task / PAGE_TASKS));
        page.map_or(TaskEnd::Unended, |page| page.get(task % PAGE_TASKS))
    }

    pub(crate) fn insert(&mut self, env: EnvId, id: JobId, job: Job) {
        self.homes.insert(id, env);
        if job.phase == Phase::Open {
            self.closing.insert((job.close_at, id));
        }
        self.table.insert((env, id), job);
    }

    /// A job to change. [`Jobs::requeue`] must follow when what it can give may have changed.
    pub(crate) fn get_mut(&mut self, env: EnvId, id: JobId) -> Option<&mut Job> {
        self.table.get_mut(&(env, id))
    }

    /// Puts the job into the queue, or takes it out.
    pub(crate) fn requeue(&mut self, env: EnvId, id: JobId, any_due: bool) {
        let job = self.table.get(&(env, id)).expect("a job that was just changed");
        let key = queue_key(id, job);
        if job.phase.is_live() && (job.fresh < job.tasks || any_due) {
            self.queue.entry(job.spec).or_default().insert(key);
        } else if let Some(of_spec) = self.queue.get_mut(&job.spec) {
            of_spec.remove(&key);
            if of_spec.is_empty() {
                self.queue.remove(&job.spec);
            }
        }
        if job.phase != Phase::Open {
            self.closing.remove(&(job.close_at, id));
        }
        if let Some(at) = job.ended {
            self.ended.insert((at, id));
        }
    }

    /// Takes an ended job away with its pages; says how many. Its append notes stay.
    pub(crate) fn remove(&mut self, env: EnvId, id: JobId) -> (Job, usize) {
        let job = self.table.remove(&(env, id)).expect("a job that was just found");
        self.ended.remove(&(job.ended.expect("it has ended"), id));
        self.homes.remove(&id);
        let pages = self.pages.range((env, id, 0)..=(env, id, u64::MAX));
        let pages: Vec<_> = pages.map(|(key, _)| *key).collect();
        for key in &pages {
            self.pages.remove(key);
        }
        (job, pages.len())
    }

    /// Notes how `count` tasks ended, from `first` on.
    pub(crate) fn set_ends(&mut self, env: EnvId, job: JobId, first: u64, count: u64, end: TaskEnd) {
        let (mut task, behind) = (first, first + count);
        while task < behind {
            let key = (env, job, task / PAGE_TASKS);
            let page_end = behind.min((key.2 + 1) * PAGE_TASKS);
            if self.pages.get(&key).is_none() {
                self.pages.insert(key, Page::default());
            }
            let page = self.pages.get_mut(&key).expect("just made");
            (task..page_end).for_each(|task| page.set(task % PAGE_TASKS, end));
            task = page_end;
        }
    }

    /// Rebuilds the indexes; the queue follows when retries are known.
    pub(crate) fn reindex(&mut self) {
        self.homes = self.table.iter().map(|((env, id), _)| (*id, *env)).collect();
        self.queue.clear();
        self.closing = self
            .table
            .iter()
            .filter(|(_, job)| job.phase == Phase::Open)
            .map(|((_, id), job)| (job.close_at, *id))
            .collect();
        let ended = |((_, id), job): (&(EnvId, JobId), &Job)| Some((job.ended?, *id));
        self.ended = self.table.iter().filter_map(ended).collect();
    }

    pub(crate) fn check(&self) {
        self.table.check();
        self.pages.check();
        self.appends.check();
        assert_eq!(self.homes.len(), self.table.len());
        for ((env, id), job) in self.table.iter() {
            assert_eq!(self.homes.get(id), Some(env));
            assert!(job.fresh <= job.tasks);
            let pages = self.pages.range((*env, *id, 0)..=(*env, *id, u64::MAX));
            let (mut succeeded, mut failed) = (0, 0);
            for (_, page) in pages {
                for slot in 0..page.bits.len() as u64 * 4 {
                    match page.get(slot) {
                        TaskEnd::Unended => {}
                        TaskEnd::Succeeded => succeeded += 1,
                        TaskEnd::Failed => failed += 1,
                    }
                }
            }
            assert_eq!(
                (succeeded, failed),
                (job.succeeded, job.failed),
                "outcomes of job {id}"
            );
            let all_ended = job.succeeded + job.failed == job.tasks;
            match job.phase {
                Phase::Done => assert!(all_ended && job.given == 0 && job.ended.is_some()),
                Phase::Closed => assert!(!all_ended),
                Phase::Cancelled => assert!(job.given == 0 && job.ended.is_some()),
                Phase::Open => assert!(self.closing.contains(&(job.close_at, *id))),
            }
        }
        let open = self
            .table
            .iter()
            .filter(|(_, job)| job.phase == Phase::Open)
            .count();
        assert_eq!(open, self.closing.len());
        let ended = self.table.iter().filter(|(_, job)| job.ended.is_some());
        let ended = ended.map(|((_, id), job)| (job.ended.expect("filtered"), *id));
        assert_eq!(ended.collect::<BTreeSet<_>>(), self.ended);
        for (env, id, _) in self.pages.iter().map(|(key, _)| key) {
            assert!(self.table.get(&(*env, *id)).is_some(), "pages of job {id}");
        }
    }

    /// The queue holds exactly the live jobs with something to give.
    pub(crate) fn check_queue(&self, any_due: impl Fn(JobId) -> bool) {
        for ((_, id), job) in self.table.iter() {
            let queued = self
                .queue
                .get(&job.spec)
                .is_some_and(|keys| keys.contains(&queue_key(*id, job)));
            let should = job.phase.is_live() && (job.fresh < job.tasks || any_due(*id));
            assert_eq!(queued, should, "job {id} in the queue");
        }
    }
}

/// A job's place in the queue.
pub(crate) fn queue_key(id: JobId, job: &Job) -> QueueKey {
    (u8::MAX - job.priority, job.deadline.unwrap_or(Time(u64::MAX)), id)
}
