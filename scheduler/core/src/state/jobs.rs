//! Jobs: their records, which of their tasks have ended, and the queue of those with something to give.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::command::Open;
use crate::limits::{JOB_BYTES, PAGE_TASKS, PHOTO_BYTES};
use crate::photos::Photos;
use crate::table::{Digest, Table, record_hash};
use crate::types::{EnvId, Index, JobId, SpecId, Time, TraceId};

mod backlog;
mod check;

use backlog::{Backlog, add_to, place_in_backlog};

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
    /// When it should be done: the instant of the photos that came last.
    pub deadline: Option<Time>,
    /// µs from a photo's coming until it should be done, of a job that was opened to take photos.
    pub deadline_in: Option<u64>,
    /// The deadlines of tasks before this one have passed.
    pub late_to: u64,
    /// Late tasks never given, with later ones given before them: from, and behind the last. At most one for each append.
    pub behind: Vec<(u64, u64)>,
    /// Where it stands.
    pub phase: Phase,
    /// Photos queued so far: also the offset of the next append.
    pub tasks: u64,
    /// Tasks from here on were never given; of those before, some in `behind` were not.
    pub fresh: u64,
    /// Held by workers.
    pub given: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended for good without result.
    pub failed: u64,
    /// Of these, those that were dropped because they were late.
    pub dropped: u64,
    /// Not ended when their deadline passed, however they end.
    pub late: u64,
    /// Machine time that its attempts took on machines that the cluster bought, in millionths of USD: at the speed that was
    /// measured, and nothing of the time in which machines had nothing to do.
    pub cost: u64,
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
    /// What is kept of what was sent, in bytes as [`bytes_of`] counts them.
    pub bytes: u64,
}

/// Bytes that photos count for among what is kept for open jobs.
pub fn bytes_of(photos: &Photos) -> u64 {
    photos.bytes() as u64 + photos.len() * PHOTO_BYTES
}

/// Bytes that a job counts for there beside its photos.
pub fn bytes_of_job(open: &Open) -> u64 {
    let labels = open.labels.iter().map(|(key, value)| key.len() + value.len());
    JOB_BYTES + (open.name.len() + open.key.len() + labels.sum::<usize>()) as u64
}

impl Job {
    /// Tasks not ended and not held, of a live job.
    pub fn waiting(&self) -> u64 {
        match self.phase.is_live() {
            true => self.tasks - self.given - self.succeeded - self.failed,
            false => 0,
        }
    }

    /// Tasks never given.
    pub fn never_given(&self) -> u64 {
        let behind: u64 = self.behind.iter().map(|(from, to)| to - from).sum();
        self.tasks - self.fresh + behind
    }

    /// True when a task was never given.
    pub fn is_never_given(&self, task: u64) -> bool {
        let within = |(from, to): &(u64, u64)| (*from..*to).contains(&task);
        (self.fresh..self.tasks).contains(&task) || self.behind.iter().any(within)
    }

    /// A task before `fresh` is given. True when it is the first time.
    pub(crate) fn take_behind(&mut self, task: u64) -> bool {
        let within = |(from, to): &(u64, u64)| (*from..*to).contains(&task);
        let Some(at) = self.behind.iter().position(within) else {
            return false;
        };
        let (from, to) = self.behind.remove(at);
        let rest = [(task + 1, to), (from, task)];
        rest.into_iter()
            .filter(|(from, to)| from < to)
            .for_each(|rest| self.behind.insert(at, rest));
        true
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
    /// Their deadline.
    pub due: Option<Time>,
}

/// Order within the queue: higher priority, those that can be in time, earlier deadline, older job.
pub type QueueKey = (u8, bool, Time, JobId);

/// All jobs.
pub struct Jobs {
    pub(crate) table: Table<(EnvId, JobId), Job>,
    pub(crate) pages: Table<(EnvId, JobId, u64), Page>,
    pub(crate) appends: Table<(EnvId, JobId, u64), AppendNote>,
    homes: BTreeMap<JobId, EnvId>,
    queue: BTreeMap<SpecId, BTreeSet<QueueKey>>,
    /// Where each job is in the queue.
    queued_as: BTreeMap<JobId, (SpecId, QueueKey)>,
    closing: BTreeSet<(Time, JobId)>,
    /// Appends of live jobs whose deadline has not been said to have passed.
    due: BTreeSet<(Time, EnvId, JobId, u64)>,
    /// Those that have ended, by when.
    ended: BTreeSet<(Time, JobId)>,
    /// Kept for those that have not ended.
    live_bytes: u64,
    backlog: Backlog,
    /// Jobs that were to be changed since the backlog was last brought up to date, as they were.
    changing: BTreeMap<(EnvId, JobId), (SpecId, u64, u64)>,
}

impl Jobs {
    pub(crate) fn new(jobs: u8, pages: u8, appends: u8) -> Self {
        Jobs {
            table: Table::new(jobs),
            pages: Table::new(pages),
            appends: Table::new(appends),
            homes: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued_as: BTreeMap::new(),
            due: BTreeSet::new(),
            closing: BTreeSet::new(),
            ended: BTreeSet::new(),
            live_bytes: 0,
            backlog: Backlog::new(),
            changing: BTreeMap::new(),
        }
    }

    /// One job, whoever's it is.
    pub fn get(&self, id: JobId) -> Option<(EnvId, &Job)> {
        let env = *self.homes.get(&id)?;
        self.table.get(&(env, id)).map(|job| (env, job))
    }

    /// True when there is a job with such an id, whoever's.
    pub fn has_any(&self, ids: Range<JobId>) -> bool {
        self.homes.range(ids).next().is_some()
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

    /// Where a job is in the queue, if it has something to give.
    pub fn queue_place(&self, id: JobId) -> Option<QueueKey> {
        self.queued_as.get(&id).map(|(_, key)| *key)
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

    /// Bytes kept for jobs that have not ended.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// So many bytes more are kept for a live job.
    pub(crate) fn keep_bytes(&mut self, env: EnvId, id: JobId, bytes: u64) {
        let job = self.table.get_mut(&(env, id)).expect("just found");
        job.bytes += bytes;
        self.live_bytes += bytes;
    }

    /// A live job has ended.
    pub(crate) fn end_bytes(&mut self, env: EnvId, id: JobId) {
        self.live_bytes -= self.table.get(&(env, id)).map_or(0, |job| job.bytes);
    }

    fn sum_of_bytes(&self) -> u64 {
        let live = self.table.iter().filter(|(_, job)| job.phase.is_live());
        live.map(|(_, job)| job.bytes).sum()
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
        add_to(&mut self.backlog, place_in_backlog(&job));
        self.table.insert((env, id), job);
    }

    /// A job to change. [`Jobs::requeue`] must follow when what it can give may have changed.
    pub(crate) fn get_mut(&mut self, env: EnvId, id: JobId) -> Option<&mut Job> {
        let job = self.table.get_mut(&(env, id))?;
        self.changing
            .entry((env, id))
            .or_insert_with(|| place_in_backlog(job));
        Some(job)
    }

    /// The job that was opened last, if it is still there.
    pub fn newest(&self) -> Option<(JobId, &Job)> {
        let (id, env) = self.homes.iter().next_back()?;
        Some((*id, self.table.get(&(*env, *id))?))
    }

    /// Puts the job into the queue where its next task belongs, or takes it out. `due_from` tells the first task, from
    /// one on, that may be given again.
    pub(crate) fn requeue(&mut self, env: EnvId, id: JobId, due_from: impl Fn(u64) -> Option<u64>) {
        let job = self.table.get(&(env, id)).expect("a job that was just changed");
        let place = self.next_place(env, id, job, due_from);
        let place = place.map(|key| (job.spec, key));
        let (live, ended, close_at) = (job.phase.is_live(), job.ended, job.close_at);
        if job.phase != Phase::Open {
            self.closing.remove(&(close_at, id));
        }
        if self.queued_as.get(&id).copied() != place {
            self.unqueue(id);
            if let Some((spec, key)) = place {
                self.queue.entry(spec).or_default().insert(key);
                self.queued_as.insert(id, (spec, key));
            }
        }
        if let Some(at) = ended {
            self.ended.insert((at, id));
        }
        if !live {
            self.forget_due(env, id);
        }
    }

    fn unqueue(&mut self, id: JobId) {
        let Some((spec, key)) = self.queued_as.remove(&id) else {
            return;
        };
        let of_spec = self.queue.get_mut(&spec).expect("it is queued there");
        of_spec.remove(&key);
        if of_spec.is_empty() {
            self.queue.remove(&spec);
        }
    }

    /// The place of what is to be given next: the first task that can be in time, or else the first that waits.
    fn next_place(
        &self,
        env: EnvId,
        id: JobId,
        job: &Job,
        due_from: impl Fn(u64) -> Option<u64>,
    ) -> Option<QueueKey> {
        if !job.phase.is_live() {
            return None;
        }
        let fresh_from = |from: u64| Some(job.fresh.max(from)).filter(|task| *task < job.tasks);
        let behind = job.behind.first().map(|(from, _)| *from);
        let first = |from| fresh_from(from).into_iter().chain(due_from(from)).min();
        let next = first(job.late_to).or_else(|| behind.into_iter().chain(first(0)).min())?;
        Some(self.place(env, id, job, next))
    }

    /// A task's place in the queue.
    pub fn place(&self, env: EnvId, id: JobId, job: &Job, task: u64) -> QueueKey {
        let due = self.due(env, id, job, task).unwrap_or(Time(u64::MAX));
        (u8::MAX - job.priority, task < job.late_to, due, id)
    }

    /// A task's deadline.
    pub fn due(&self, env: EnvId, id: JobId, job: &Job, task: u64) -> Option<Time> {
        match job.deadline_in {
            None => job.deadline,
            Some(_) => self.note_of(env, id, task).and_then(|(_, note)| note.due),
        }
    }

    /// The append that brought a task, and its first task.
    pub fn note_of(&self, env: EnvId, id: JobId, task: u64) -> Option<(u64, &AppendNote)> {
        let mut upto = self.appends.range((env, id, 0)..=(env, id, task));
        upto.next_back().map(|((_, _, first), note)| (*first, note))
    }

    /// Photos came.
    pub(crate) fn insert_note(&mut self, env: EnvId, id: JobId, first: u64, note: AppendNote) {
        self.appends.insert((env, id, first), note);
        self.due.extend(note.due.map(|due| (due, env, id, first)));
    }

    /// Appends whose deadline has passed at `now`, the earliest first.
    pub fn past_due(&self, now: Time) -> impl Iterator<Item = (EnvId, JobId, u64)> + '_ {
        let past = self.due.iter().take_while(move |(due, ..)| *due < now);
        past.map(|(_, env, job, first)| (*env, *job, *first))
    }

    /// It was said that an append's deadline has passed.
    pub(crate) fn counted_late(&mut self, env: EnvId, id: JobId, first: u64, due: Time) {
        self.due.remove(&(due, env, id, first));
    }

    /// A job has ended: its deadlines matter no more.
    fn forget_due(&mut self, env: EnvId, id: JobId) {
        let from = self.table.get(&(env, id)).map_or(0, |job| job.late_to);
        for ((_, _, first), note) in self.appends.range((env, id, from)..=(env, id, u64::MAX)) {
            if let Some(due) = note.due {
                self.due.remove(&(due, env, id, *first));
            }
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
        self.queued_as.clear();
        self.due = self.live_due().collect();
        self.closing = self
            .table
            .iter()
            .filter(|(_, job)| job.phase == Phase::Open)
            .map(|((_, id), job)| (job.close_at, *id))
            .collect();
        let ended = |((_, id), job): (&(EnvId, JobId), &Job)| Some((job.ended?, *id));
        self.ended = self.table.iter().filter_map(ended).collect();
        self.live_bytes = self.sum_of_bytes();
        self.backlog = self.sum_of_backlog();
    }
}
