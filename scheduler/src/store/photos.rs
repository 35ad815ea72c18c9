//! Reads of what only the disk has: photo lists, results, attempts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rebound_core::effects::DesiredRun;
use rebound_core::io::{Fetch, TaskView};
use rebound_core::kept::{AttemptRecord, ResultRecord, ResultsRecord, result_of};
use rebound_core::key::{Kept, kept_prefix, kept_task, photos_key, result_key};
use rebound_core::photos::{Joined, Photos};
use rebound_core::table::decode;
use rebound_core::types::{EnvId, JobId};
use rocksdb::{Direction, IteratorMode};

use super::Disk;

/// Bytes of outputs after which a page of results is full, so that an answer fits into one message.
pub const RESULTS_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Attempts shown of one task.
pub const ATTEMPTS_SHOWN_MAX: usize = 64;

/// What a fetch found.
#[derive(Debug)]
pub enum Fetched {
    /// Results with their tasks and URIs, and the first task of the next page.
    Results {
        results: Vec<(u64, String, ResultRecord)>,
        next: Option<u64>,
    },
    /// The job was deleted meanwhile.
    Gone(JobId),
    /// All there is about a task.
    Task {
        view: TaskView,
        uri: String,
        record: Option<ResultRecord>,
        attempts: Vec<AttemptRecord>,
    },
}

/// A record that is not on disk.
#[derive(Debug, thiserror::Error)]
#[error("kept record of job {job}, task {task}: {why}")]
pub struct ReadError {
    job: JobId,
    task: u64,
    why: &'static str,
}

fn absent(job: JobId, task: u64) -> ReadError {
    let why = "no photo list has it";
    ReadError { job, task, why }
}

/// The photos of an append, and the task that the first of them is.
type List = (u64, Photos);

fn has((first, photos): &List, task: u64) -> bool {
    task.checked_sub(*first).is_some_and(|at| at < photos.len())
}

/// A key and its value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// Reads of kept records, with a small cache of photo lists.
pub struct Reader {
    disk: Arc<Disk>,
    lists: Mutex<Lists>,
}

impl Reader {
    /// `lists_max` photo lists are kept in memory.
    pub fn new(disk: Arc<Disk>, lists_max: usize) -> Reader {
        Reader {
            disk,
            lists: Mutex::new(Lists {
                lists: BTreeMap::new(),
                uses: 0,
                most: lists_max,
            }),
        }
    }

    /// The photos of a run, in order.
    pub fn uris(&self, run: &DesiredRun) -> Result<Joined, ReadError> {
        self.steady(|| {
            let (mut uris, mut task) = (Joined::default(), run.first);
            while task <= run.last {
                let (first, photos) = self.list(run.env, run.job, task)?;
                match uris.add(photos.slice(task - first, run.last - task + 1)) {
                    0 => return Err(absent(run.job, task)),
                    more => task += more,
                }
            }
            Ok(uris)
        })
    }

    /// Reads again when a snapshot took the records' place meanwhile: what it replaced goes while others read.
    fn steady<T>(&self, read: impl Fn() -> T) -> T {
        loop {
            let before = self.disk.live();
            let found = read();
            if self.disk.live() == before {
                return found;
            }
        }
    }

    /// Reads what a question is about.
    pub fn fetch(&self, fetch: Fetch) -> Result<Fetched, ReadError> {
        self.steady(|| self.fetch_once(fetch.clone()))
    }

    fn fetch_once(&self, fetch: Fetch) -> Result<Fetched, ReadError> {
        let (env, job, tasks) = match &fetch {
            Fetch::Results { env, job, tasks, .. } => (*env, *job, *tasks),
            Fetch::Task(view) => (view.env, view.job, view.task + 1),
        };
        let fetched = self.fetch_there(fetch);
        let nothing = match &fetched {
            Err(_) => true,
            Ok(Fetched::Results { results, .. }) => results.is_empty(),
            Ok(Fetched::Task { record, .. }) => record.is_none(),
            Ok(Fetched::Gone(_)) => false,
        };
        match nothing && tasks > 0 && self.is_gone(env, job) {
            true => Ok(Fetched::Gone(job)),
            false => fetched,
        }
    }

    /// True when a job that has photos has no photo list: it was deleted between the question and this read.
    fn is_gone(&self, env: EnvId, job: JobId) -> bool {
        let prefix = kept_prefix(Kept::Photos, env, job);
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let first = self.disk.db.iterator_cf(self.disk.kept(), mode).next();
        !matches!(first, Some(Ok((key, _))) if key.starts_with(&prefix))
    }

    fn fetch_there(&self, fetch: Fetch) -> Result<Fetched, ReadError> {
        match fetch {
            Fetch::Results {
                env,
                job,
                first,
                limit,
                tasks,
            } => self.results(env, job, first, limit, tasks),
            Fetch::Task(view) => self.task(view),
        }
    }

    /// The URI of a task; `list` is the one that the task before it was in, if there was one.
    fn uri(&self, list: &mut Option<List>, env: EnvId, job: JobId, task: u64) -> Result<String, ReadError> {
        let (first, photos) = match list {
            Some(list) if has(list, task) => list,
            _ => list.insert(self.list(env, job, task)?),
        };
        let uri = photos.get(task - *first).map(str::to_owned);
        uri.ok_or_else(|| absent(job, task))
    }

    /// The list that has a task.
    fn list(&self, env: EnvId, job: JobId, task: u64) -> Result<List, ReadError> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.with(env, job, task) {
            return Ok(list);
        }
        let list = self.read_list(env, job, task)?;
        lists.put((env, job, list.0), list.1.clone());
        Some(list)
            .filter(|list| has(list, task))
            .ok_or_else(|| absent(job, task))
    }

    /// The last list that begins at or before a task.
    fn read_list(&self, env: EnvId, job: JobId, task: u64) -> Result<List, ReadError> {
        let found = self.at_or_before(&photos_key(env, job, task));
        let (key, value) = found.ok_or_else(|| absent(job, task))?;
        let first = kept_task(&key).filter(|_| key.starts_with(&kept_prefix(Kept::Photos, env, job)));
        let first = first.ok_or_else(|| absent(job, task))?;
        Ok((first, self.intact(decode(&value))))
    }

    fn results(
        &self,
        env: EnvId,
        job: JobId,
        first: u64,
        limit: u32,
        tasks: u64,
    ) -> Result<Fetched, ReadError> {
        let prefix = kept_prefix(Kept::Results, env, job);
        let seek = self.holder(env, job, first);
        let mode = IteratorMode::From(&seek, Direction::Forward);
        let (mut results, mut bytes, mut list) = (Vec::new(), 0, None);
        for item in self.disk.db.iterator_cf(self.disk.kept(), mode) {
            let (key, value) = self.intact(item);
            let Some(begin) = kept_task(&key).filter(|_| key.starts_with(&prefix)) else {
                break;
            };
            let record: ResultsRecord = self.intact(decode(&value));
            for (task, result) in (begin..).zip(record.iter()).filter(|(task, _)| *task >= first) {
                if results.len() >= limit as usize || bytes >= RESULTS_PAGE_BYTES {
                    let next = Some(task);
                    return Ok(Fetched::Results { results, next });
                }
                let uri = self.uri(&mut list, env, job, task)?;
                bytes += result.output.len() + uri.len();
                results.push((task, uri, result));
            }
        }
        debug_assert!(results.iter().all(|(task, ..)| *task < tasks));
        Ok(Fetched::Results { results, next: None })
    }

    /// Key of the record that has a task's result, or of the place where it would be.
    fn holder(&self, env: EnvId, job: JobId, task: u64) -> Vec<u8> {
        let key = result_key(env, job, task);
        let prefix = kept_prefix(Kept::Results, env, job);
        let before = self.at_or_before(&key).map(|(before, _)| before.into_vec());
        before.filter(|before| before.starts_with(&prefix)).unwrap_or(key)
    }

    /// The last kept record whose key is not after this one.
    fn at_or_before(&self, key: &[u8]) -> Option<Pair> {
        let mode = IteratorMode::From(key, Direction::Reverse);
        let found = self.disk.db.iterator_cf(self.disk.kept(), mode).next();
        found.map(|item| self.intact(item))
    }

    /// What was read. A disk that cannot read what it was given ends the process, as with every write that fails: the
    /// records would be missing for as long as this server leads, and another one has them.
    fn intact<T, E: std::fmt::Display>(&self, read: Result<T, E>) -> T {
        read.unwrap_or_else(|why| {
            panic!(
                "data_dir {}: a record is unreadable, so this server stops: {why}; if that is so again, replace it with \
                 a server of a new id and an empty directory (rebound operator add --replace)",
                self.disk.dir.display()
            )
        })
    }

    fn task(&self, view: TaskView) -> Result<Fetched, ReadError> {
        let TaskView { env, job, task, .. } = view;
        let uri = self.uri(&mut None, env, job, task)?;
        let before = self.at_or_before(&result_key(env, job, task));
        let record = before.and_then(|(key, value)| self.intact(result_of(&key, &value, env, job, task)));
        let mut prefix = kept_prefix(Kept::Attempts, env, job);
        prefix.extend_from_slice(&task.to_be_bytes());
        let mut attempts = Vec::new();
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        for item in self
            .disk
            .db
            .iterator_cf(self.disk.kept(), mode)
            .take(ATTEMPTS_SHOWN_MAX)
        {
            let (key, value) = self.intact(item);
            if !key.starts_with(&prefix) {
                break;
            }
            attempts.push(self.intact(decode(&value)));
        }
        Ok(Fetched::Task {
            view,
            uri,
            record,
            attempts,
        })
    }
}

/// A few photo lists, the least used of which makes room.
struct Lists {
    lists: BTreeMap<(EnvId, JobId, u64), (Photos, u64)>,
    uses: u64,
    most: usize,
}

impl Lists {
    fn with(&mut self, env: EnvId, job: JobId, task: u64) -> Option<List> {
        let (key, (photos, used)) = self
            .lists
            .range_mut((env, job, 0)..=(env, job, task))
            .next_back()?;
        let list = Some((key.2, photos.clone())).filter(|list| has(list, task))?;
        self.uses += 1;
        *used = self.uses;
        Some(list)
    }

    fn put(&mut self, key: (EnvId, JobId, u64), list: Photos) {
        if self.lists.len() >= self.most
            && let Some(oldest) = self
                .lists
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key)
        {
            self.lists.remove(&oldest);
        }
        self.uses += 1;
        self.lists.insert(key, (list, self.uses));
    }
}
