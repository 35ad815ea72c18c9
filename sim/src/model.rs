//! The auditor's model: who holds each task by which fence, from the decoded log alone. It knows nothing of `State`
//! and is compiled without plants; what it allows to be recorded is compared with what the servers recorded.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::command::{Allot, Command, Deadline, Entry, Join, Open, Report};
use rebound_core::event::Cause;
use rebound_core::limits::{JOB_BYTES, PHOTO_BYTES, REGIVES_MAX};
use rebound_core::photos::Photos;
use rebound_core::plan::Regive;
use rebound_core::state::environments::{Allotment, Counts};
use rebound_core::state::jobs::Phase;
use rebound_core::state::settings::Settings;
use rebound_core::types::{Given, Index, JobId, Time, WorkerId};

mod machines;

use machines::Machines;

use crate::check::fresh::Seen;
use crate::faults::tenants::PLAIN;

/// A job's deadline.
enum Lasts {
    /// Each photo has so many µs.
    For(u64),
    /// All have the same.
    To(Option<Time>),
}

/// What the model allows of one log.
#[derive(Default)]
pub struct Model {
    /// Jobs and how many photos they have; none once ended.
    tasks: BTreeMap<JobId, u64>,
    cancelled: BTreeSet<JobId>,
    environments: BTreeMap<JobId, String>,
    closed: BTreeSet<JobId>,
    /// What each key made, and when.
    keys: BTreeMap<(String, Vec<u8>), (JobId, Time)>,
    /// What is kept for each, in bytes.
    bytes: BTreeMap<JobId, u64>,
    /// Tasks from here on were never given: first attempts go in order.
    fresh: BTreeMap<JobId, u64>,
    /// Who holds a task.
    held: BTreeMap<(JobId, u64), (Given, WorkerId)>,
    /// Tasks with their one outcome, and the fence of it.
    ended: BTreeMap<(JobId, u64), Given>,
    failures: BTreeMap<(JobId, u64), (u32, u32)>,
    /// How often a task was taken back.
    regiven: BTreeMap<(JobId, u64), u32>,
    /// Recognisers that died of a task.
    deaths: BTreeMap<(JobId, u64), u64>,
    attempts_allowed: BTreeMap<JobId, u32>,
    workers: BTreeMap<WorkerId, Join>,
    draining: BTreeSet<WorkerId>,
    machines: Machines,
    now: Time,
    settings: Settings,
    /// What environments may have of their own; 0: what the settings say.
    own: BTreeMap<String, Allotment>,
    lasts: BTreeMap<JobId, Lasts>,
    /// How many photos came together, and their deadline.
    appends: BTreeMap<(JobId, u64), (u64, Option<Time>)>,
    /// The deadlines of a job's tasks before this one have passed.
    late_to: BTreeMap<JobId, u64>,
    drop_late: BTreeSet<JobId>,
    /// When an open job closes by itself.
    close_at: BTreeMap<JobId, Time>,
    /// Results that may be recorded: (job, task, fence, index of the entry).
    pub allowed: Vec<(JobId, u64, Given, Index)>,
    /// Reports that must not count.
    pub refused: u64,
}

fn bytes_of(photos: &Photos) -> u64 {
    photos.iter().map(|uri| uri.len() as u64 + PHOTO_BYTES).sum()
}

impl Model {
    /// Takes the next entry.
    pub fn apply(&mut self, index: Index, entry: &Entry) {
        self.now = self.now.max(entry.at);
        match &entry.command {
            Command::Begin { settings, .. } => self.settings = (**settings).clone(),
            Command::Settings(changes) => {
                if let Ok(settings) = self.settings.with(changes) {
                    self.settings = settings;
                }
            }
            Command::Open(open) => self.open(index, entry, open),
            // Nobody touches another environment's job.
            Command::Append { job, .. } | Command::Close { job, .. } | Command::Cancel { job }
                if self.environments.get(job) != Some(&entry.by.environment) => {}
            Command::Environment(change) => self.allot(change),
            Command::Append { job, offset, photos } if self.takes_photos(*job) => {
                let bytes = bytes_of(photos);
                let room = self.has_room(&entry.by.environment, photos.len(), bytes);
                let tasks = self.tasks.get_mut(job).expect("known");
                if *offset == *tasks && room {
                    *tasks += photos.len();
                    *self.bytes.entry(*job).or_default() += bytes;
                    self.photos_came(*job, *offset, photos.len());
                }
            }
            Command::Close { job, total } if self.tasks.get(job) == Some(total) => {
                self.closed.insert(*job);
            }
            Command::CloseExpired { job } if self.close_at.get(job).is_some_and(|at| *at <= self.now) => {
                self.closed.insert(*job);
            }
            Command::Cancel { job } if !self.is_over(*job) => {
                self.cancelled.insert(*job);
                self.held.retain(|(held, _), _| held != job);
            }
            Command::Overdue { appends } => {
                for (job, first) in appends {
                    self.overdue(index, *job, *first);
                }
            }
            Command::WorkerJoined(join) => {
                self.join(index, join);
                self.machines_change(index, &entry.command);
            }
            Command::Scale(_)
            | Command::LaunchSettled(_)
            | Command::Seen(_)
            | Command::NeverJoined(_)
            | Command::Freeze { .. } => self.machines_change(index, &entry.command),
            Command::WorkerLost { worker } | Command::WorkerLeft { worker } => self.lose(index, *worker),
            Command::WorkerDrain { worker } => {
                self.draining.insert(*worker);
            }
            Command::Adopt(plan) => {
                for piece in &plan.regive {
                    self.take_back(index, piece);
                }
                for piece in &plan.assign {
                    self.give(index, piece.worker, piece.job, piece.first, piece.count);
                }
            }
            Command::Ended { worker, reports } => {
                for report in reports {
                    (report.first..report.end()).for_each(|task| self.ended(index, *worker, task, report));
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, index: Index, entry: &Entry, open: &Open) {
        let key = (entry.by.environment.clone(), open.key.clone());
        let known = |(_, at): &(JobId, Time)| self.now.0 < at.0 + self.settings.key_for;
        if !open.key.is_empty() && self.keys.get(&key).is_some_and(known) {
            return;
        }
        let (environment, photos) = (&entry.by.environment, open.photos.len());
        let live = |job: &&JobId| !self.is_over(**job);
        let jobs = || self.of(environment).filter(live).count() as u64;
        let most = self.allotment(environment).jobs;
        let labels = open.labels.iter().map(|(key, value)| key.len() + value.len());
        let words = open.name.len() + open.key.len() + labels.sum::<usize>();
        let bytes = JOB_BYTES + words as u64 + bytes_of(&open.photos);
        if self.tasks.len() as u64 >= most && jobs() >= most || !self.has_room(environment, photos, bytes) {
            return;
        }
        let job = JobId(index);
        self.environments.insert(job, environment.clone());
        self.keys.insert(key, (job, self.now));
        self.tasks.insert(job, open.photos.len());
        self.bytes.insert(job, bytes);
        let close_at = Time(self.now.0 + self.settings.open_for);
        self.close_at.insert(job, close_at);
        let lasts = match open.deadline {
            Deadline::In(us) if !open.close => Lasts::For(us),
            other => Lasts::To(other.instant(self.now)),
        };
        self.lasts.insert(job, lasts);
        if open.spec.drop_late {
            self.drop_late.insert(job);
        }
        if !open.photos.is_empty() {
            self.photos_came(job, 0, open.photos.len());
        }
        if open.spec.max_attempts != 0 {
            self.attempts_allowed.insert(job, open.spec.max_attempts);
        }
        if open.close {
            self.closed.insert(job);
        }
    }

    fn allot(&mut self, change: &Allot) {
        let own = self.own.entry(change.name.clone()).or_insert(PLAIN);
        own.waiting = change.max_waiting.unwrap_or(own.waiting);
        own.jobs = change.max_jobs.unwrap_or(own.jobs);
        own.given = change.max_given.unwrap_or(own.given);
    }

    fn allotment(&self, environment: &str) -> Allotment {
        let own = self.own.get(environment).copied().unwrap_or(PLAIN);
        let or = |own: u64, setting: u64| if own == 0 { setting } else { own };
        Allotment {
            weight: 0,
            waiting: or(own.waiting, self.settings.waiting_max),
            jobs: or(own.jobs, self.settings.live_jobs_max),
            given: or(own.given, self.settings.given_max),
        }
    }

    /// True when a job's environment may have so many more tasks with workers.
    fn may_hold(&self, job: JobId, more: u64) -> bool {
        let Some(environment) = self.environments.get(&job) else {
            return false;
        };
        let holds = |(job, _): &&(JobId, u64)| self.environments.get(job) == Some(environment);
        self.held.keys().filter(holds).count() as u64 + more <= self.allotment(environment).given
    }

    /// What a job looks like now.
    pub fn seen(&self, job: JobId) -> Option<Seen> {
        let tasks = *self.tasks.get(&job)?;
        let ended = self.ended.range((job, 0)..(job, u64::MAX)).count() as u64;
        let phase = match (self.cancelled.contains(&job), self.closed.contains(&job)) {
            (true, _) => Phase::Cancelled,
            (false, true) if ended == tasks => Phase::Done,
            (false, true) => Phase::Closed,
            (false, false) => Phase::Open,
        };
        Some(Seen { tasks, ended, phase })
    }

    /// J6: what the books of an environment must say, counted task by task. What ended well or badly, or was deleted
    /// since, is one number here.
    pub fn recount(&self, environment: &str) -> Counts {
        let mut counts = Counts::default();
        for job in self.of(environment) {
            let tasks = self.tasks.get(job).copied().unwrap_or(0);
            let all = || (*job, 0)..(*job, u64::MAX);
            let given = self.held.range(all()).count() as u64;
            let ended = self.ended.range(all()).count() as u64;
            let rest = tasks - given - ended;
            counts.submitted += tasks;
            counts.given += given;
            counts.succeeded += ended;
            match self.cancelled.contains(job) {
                true => counts.cancelled += rest,
                false => counts.waiting += rest,
            }
        }
        counts
    }

    /// J6: says what is wrong with an environment's books.
    pub fn misbooked(&self, environment: &str, books: &Counts) -> Option<String> {
        let right = self.recount(environment);
        let over = |counts: &Counts| counts.succeeded + counts.failed + counts.cancelled + counts.deleted;
        let all = |counts: &Counts| (counts.submitted, counts.waiting, counts.given, over(counts));
        (all(&right) != all(books)).then(|| format!("{environment} has {books:?}; recounted: {right:?}"))
    }

    fn photos_came(&mut self, job: JobId, first: u64, count: u64) {
        let due = match self.lasts.get(&job) {
            Some(Lasts::For(us)) => Some(Time(self.now.0 + us)),
            Some(Lasts::To(at)) => *at,
            None => None,
        };
        self.appends.insert((job, first), (count, due));
    }

    fn late_to(&self, job: JobId) -> u64 {
        self.late_to.get(&job).copied().unwrap_or(0)
    }

    /// The next append of a job is late: what of it waits is dropped, if the job wants that.
    fn overdue(&mut self, index: Index, job: JobId, first: u64) {
        let Some((count, due)) = self.appends.get(&(job, first)).copied() else {
            return;
        };
        if self.is_over(job) || self.late_to(job) != first || due.is_none_or(|due| due >= self.now) {
            return;
        }
        self.late_to.insert(job, first + count);
        if !self.drop_late.contains(&job) {
            return;
        }
        for task in (first..first + count).map(|task| (job, task)) {
            if !self.held.contains_key(&task) && !self.ended.contains_key(&task) {
                self.ended.insert(task, Given(index));
                self.allowed.push((job, task.1, Given(index), index));
            }
        }
    }

    fn of<'a>(&'a self, environment: &'a str) -> impl Iterator<Item = &'a JobId> {
        let own = self.environments.iter().filter(move |(_, of)| *of == environment);
        own.map(|(job, _)| job)
    }

    /// More photos may wait, in an environment and in the cluster, and more bytes may be kept for them.
    fn has_room(&self, environment: &str, more: u64, bytes: u64) -> bool {
        let kept: u64 = self.bytes.values().sum();
        // Never so many that it matters: nothing is to be counted.
        if kept + bytes > self.settings.open_bytes_max {
            let live = self.bytes.iter().filter(|(job, _)| !self.is_over(**job));
            if live.map(|(_, bytes)| bytes).sum::<u64>() + bytes > self.settings.open_bytes_max {
                return false;
            }
        }
        let own_most = self.allotment(environment).waiting;
        let most = own_most.min(self.settings.photos_waiting_max);
        if more == 0 || self.tasks.values().sum::<u64>() + more <= most {
            return true;
        }
        let own = self.waiting(self.of(environment));
        let all = self.waiting(self.environments.keys());
        own + more <= own_most && all + more <= self.settings.photos_waiting_max
    }

    fn waiting<'a>(&self, jobs: impl Iterator<Item = &'a JobId>) -> u64 {
        let waits = |job: &JobId, task: &u64| {
            let task = (*job, *task);
            !self.held.contains_key(&task) && !self.ended.contains_key(&task)
        };
        let live = jobs.filter(|job| !self.cancelled.contains(job));
        let waiting = live.map(|job| (0..self.tasks[job]).filter(|task| waits(job, task)).count() as u64);
        waiting.sum()
    }

    fn takes_photos(&self, job: JobId) -> bool {
        self.tasks.contains_key(&job) && !self.closed.contains(&job) && !self.cancelled.contains(&job)
    }

    fn is_over(&self, job: JobId) -> bool {
        let tasks = self.tasks.get(&job).copied().unwrap_or(0);
        let all = self.closed.contains(&job) && (0..tasks).all(|task| self.ended.contains_key(&(job, task)));
        all || self.cancelled.contains(&job) || !self.tasks.contains_key(&job)
    }

    fn join(&mut self, index: Index, join: &Join) {
        let earlier = self.workers.iter().find(|(_, one)| one.name == join.name);
        match earlier.map(|(id, one)| (*id, one == join)) {
            // The same process asked twice: its first session stands.
            Some((_, true)) => return,
            Some((id, false)) => self.lose(index, id),
            None => {}
        }
        self.workers.insert(WorkerId(index), join.clone());
    }

    /// Workers of machines that end, or that will be taken back, get nothing new.
    fn machines_change(&mut self, index: Index, command: &Command) {
        let lives = |worker| self.workers.contains_key(&worker);
        let holds = |worker| self.held.values().any(|(_, holder)| *holder == worker);
        let draining = self.machines.apply(index, command, lives, holds);
        self.draining.extend(draining);
    }

    fn lose(&mut self, index: Index, worker: WorkerId) {
        self.workers.remove(&worker);
        let lost: Vec<(JobId, u64)> = self
            .held
            .iter()
            .filter(|(_, (_, holder))| *holder == worker)
            .map(|(task, _)| *task)
            .collect();
        for task in lost {
            self.failed(index, task, Cause::WorkerLost);
        }
    }

    fn give(&mut self, index: Index, worker: WorkerId, job: JobId, first: u64, count: u64) {
        let tasks = self.tasks.get(&job).copied().unwrap_or(0);
        let free = |task| !self.held.contains_key(&(job, task)) && !self.ended.contains_key(&(job, task));
        let fits = self.workers.contains_key(&worker)
            && !self.draining.contains(&worker)
            && !self.cancelled.contains(&job)
            && first + count <= tasks
            && self.may_hold(job, count)
            && first <= self.fresh.get(&job).copied().unwrap_or(0).max(self.late_to(job))
            && (first..first + count).all(free);
        if fits {
            let fresh = self.fresh.entry(job).or_default();
            *fresh = (*fresh).max(first + count);
            for task in first..first + count {
                self.held.insert((job, task), (Given(index), worker));
            }
        }
    }

    /// The tail of a run that its worker still holds whole goes to another one.
    fn take_back(&mut self, index: Index, piece: &Regive) {
        let tasks = || (piece.first..piece.first + piece.count).map(|task| (piece.job, task));
        let holds = |task| self.held.get(&task) == Some(&(piece.given, piece.from));
        let suspect = |task| self.deaths.get(&task).is_some_and(|deaths| *deaths > 0);
        let often = |task| self.regiven.get(&task).is_some_and(|times| *times >= REGIVES_MAX);
        let fits = self.workers.contains_key(&piece.to)
            && !self.draining.contains(&piece.to)
            && piece.to != piece.from
            && tasks().all(|task| holds(task) && !suspect(task) && !often(task));
        if fits {
            for task in tasks() {
                self.held.insert(task, (Given(index), piece.to));
                *self.regiven.entry(task).or_default() += 1;
            }
        }
    }

    fn ended(&mut self, index: Index, worker: WorkerId, task: u64, report: &Report) {
        let task = (report.job, task);
        if self.held.get(&task) != Some(&(report.given, worker)) {
            self.refused += 1;
            return;
        }
        match report.cause {
            None => self.end(index, task),
            Some(cause) => self.failed(index, task, cause),
        }
    }

    fn failed(&mut self, index: Index, task: (JobId, u64), cause: Cause) {
        let (attempts, losses) = self.failures.entry(task).or_default();
        let allowed = self.attempts_allowed.get(&task.0).copied().map(u64::from);
        let allowed = allowed.unwrap_or(self.settings.max_attempts);
        let over = match cause.is_loss() {
            true => {
                *losses += 1;
                u64::from(*losses) > self.settings.max_losses
            }
            false => {
                *attempts += 1;
                cause.is_final() || u64::from(*attempts) >= allowed
            }
        };
        let deaths = self.deaths.entry(task).or_default();
        *deaths += u64::from(matches!(cause, Cause::Crashed | Cause::Timeout));
        let quarantined = !cause.is_loss() && *deaths >= self.settings.max_deaths;
        let dropped = self.drop_late.contains(&task.0) && task.1 < self.late_to(task.0);
        match over || quarantined || dropped {
            true => self.end(index, task),
            false => drop(self.held.remove(&task)),
        }
    }

    fn end(&mut self, index: Index, task: (JobId, u64)) {
        let (given, _) = self.held.remove(&task).expect("only a held task ends");
        self.ended.insert(task, given);
        self.allowed.push((task.0, task.1, given, index));
    }
}
