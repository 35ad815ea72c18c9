//! What is over: keys that are forgotten, and jobs that are deleted with all they left behind. The leader names what
//! is due, `apply` checks it again, and no entry deletes more rows than a bound, however large a job was.

use super::{Context, State};
use crate::command::Command;
use crate::event::Fact;
use crate::key::kept_range;
use crate::limits::{EXPIRE_JOBS_MAX, EXPIRE_KEYS_MAX};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::types::{EnvId, JobId, Time};

impl State {
    /// The entry that deletes what is over at `now`, as much as one may; none when there is nothing.
    pub fn over(&self, now: Time) -> Option<Command> {
        let mut keys = Vec::new();
        for env in self.keys.environments() {
            let room = EXPIRE_KEYS_MAX - keys.len();
            let due = self.keys.of(env).take(room);
            keys.extend(due.take_while(|job| self.key_is_over(env, *job, now)));
        }
        let keep = self.meta().settings.retention;
        let ended_before = Time(now.0.saturating_sub(keep));
        let jobs: Vec<JobId> = self.jobs.ended_by(ended_before).take(EXPIRE_JOBS_MAX).collect();
        let nothing = keys.is_empty() && jobs.is_empty() && self.remains.is_empty();
        (!nothing).then_some(Command::Expire { keys, jobs })
    }

    /// True once the key that made a job is no longer remembered.
    pub(super) fn key_is_over(&self, env: EnvId, job: JobId, now: Time) -> bool {
        self.key_until(env, job) <= now
    }

    /// Until when the key that made a job is remembered.
    pub(super) fn key_until(&self, env: EnvId, job: JobId) -> Time {
        let job = self
            .jobs
            .get_in(env, job)
            .expect("a job is kept as long as its key");
        Time(job.opened.0.saturating_add(self.meta().settings.key_for))
    }

    pub(super) fn expire(
        &mut self,
        context: &mut Context,
        keys: &[JobId],
        jobs: &[JobId],
    ) -> Result<Reply, Rejected> {
        let mut forgotten = 0;
        for job in keys.iter().take(EXPIRE_KEYS_MAX) {
            if let Some((env, _)) = self.jobs.get(*job)
                && self.key_is_over(env, *job, context.at)
                && self.keys.remove(env, *job)
            {
                forgotten += 1;
            }
        }
        if forgotten > 0 {
            context.tell(EnvId::default(), None, Fact::KeysForgotten { count: forgotten });
        }
        let mut rows = self.meta().settings.expire_rows as usize;
        self.clear_remains(&mut rows);
        let mut deleted = Vec::new();
        for job in jobs.iter().take(EXPIRE_JOBS_MAX) {
            if rows == 0 {
                break;
            }
            if let Some(env) = self.is_over(*job, context.at) {
                self.delete(context, env, *job, &mut rows);
                deleted.push(*job);
            }
        }
        self.drop_kept(context, &mut deleted);
        Ok(Reply::Expired {
            keys: forgotten,
            jobs: deleted.len(),
        })
    }

    fn is_over(&self, job: JobId, now: Time) -> Option<EnvId> {
        let (env, job) = self.jobs.get(job)?;
        let until = job.ended?.0.saturating_add(self.meta().settings.retention);
        (until <= now.0).then_some(env)
    }

    /// The job is gone at once. What it has many of goes as far as `rows` reaches; the rest is noted.
    fn delete(&mut self, context: &mut Context, env: EnvId, id: JobId, rows: &mut usize) {
        self.keys.remove(env, id);
        let (job, pages) = self.jobs.remove(env, id);
        *rows = rows.saturating_sub(1 + pages);
        if !self.plant.is(Plant::SpecNeverReleased) {
            self.specs.release(env, job.spec);
        }
        let mut counts = self.environments.counts_mut(env);
        counts.succeeded -= job.succeeded;
        counts.failed -= job.failed;
        counts.cancelled -= job.cancelled();
        counts.deleted += job.tasks;
        drop(counts);
        let forgets = self.plant.is(Plant::RemainsForgotten);
        let whole = self.plant.is(Plant::RowsLeftBehind) || self.clear(env, id, rows) || forgets;
        if !whole || self.plant.is(Plant::RemainsAlways) {
            self.remains.insert((env, id), ());
        }
        context.tell(env, Some(id), Fact::JobDeleted { tasks: job.tasks });
    }

    /// Goes on where earlier entries stopped.
    fn clear_remains(&mut self, rows: &mut usize) {
        while *rows > 0 {
            let first = self.remains.iter().next().map(|(key, ())| *key);
            let Some((env, id)) = first else { return };
            if self.clear(env, id, rows) {
                self.remains.remove(&(env, id));
            }
        }
    }

    /// Deletes up to `rows` of what a deleted job had many of. True when nothing is left.
    fn clear(&mut self, env: EnvId, id: JobId, rows: &mut usize) -> bool {
        let all = (env, id, 0)..=(env, id, u64::MAX);
        let appends: Vec<_> = self
            .jobs
            .appends
            .range(all.clone())
            .take(*rows + 1)
            .map(|(key, _)| *key)
            .collect();
        for key in appends.iter().take(*rows) {
            self.jobs.appends.remove(key);
        }
        let left = rows.saturating_sub(appends.len());
        let retries: Vec<_> = self
            .retries
            .table
            .range(all)
            .take(left + 1)
            .map(|(key, _)| *key)
            .collect();
        for key in retries.iter().take(left) {
            self.retries.forget(*key);
        }
        let whole = appends.len() <= *rows && retries.len() <= left;
        *rows = left.saturating_sub(retries.len());
        whole
    }

    /// Orders the deletion of the kept records of jobs: one range for each row of them without another job between.
    fn drop_kept(&self, context: &mut Context, deleted: &mut [JobId]) {
        deleted.sort_unstable();
        for group in deleted.chunk_by(|a, b| !self.jobs.has_any(*a..*b)) {
            let (first, last) = (group[0], group[group.len() - 1]);
            context.kept_gone.push(kept_range(first, last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Deadline, ENTRY_VERSION, Entry, Join, Open, Report, Spec};
    use crate::event::Cause;
    use crate::limits::{APPEND_PHOTOS_MAX, EXPIRE_ROWS_MAX, RETENTION};
    use crate::plan::{Assign, Because, Plan};
    use crate::rows::{Packing, Row};
    use crate::types::*;

    struct Log(State, Time);

    impl Log {
        /// Applies a command; says how many rows it changed.
        fn apply(&mut self, command: Command) -> (Result<Reply, Rejected>, usize) {
            self.1.0 += 1;
            let entry = Entry {
                version: ENTRY_VERSION,
                at: self.1,
                by: Caller {
                    environment: "default".into(),
                    actor: String::new(),
                },
                trace: TraceId::default(),
                command,
            };
            let applied = self.0.apply(self.0.applied() + 1, 1, Some(&entry));
            let changed = self.0.settle().len();
            self.0.check();
            (applied.reply, changed)
        }
    }

    fn large_job(log: &mut Log, photos: u64) -> JobId {
        let list = |count: u64| {
            let uri = |n| format!("file:///{n}");
            (0..count).map(uri).collect()
        };
        let open = Open {
            key: b"key".to_vec(),
            name: String::new(),
            labels: Vec::new(),
            priority: 0,
            deadline: Deadline::None,
            spec: Spec {
                recogniser: "noop".into(),
                resources: Resources::default(),
                photo_timeout: 0,
                max_attempts: 0,
                drop_late: false,
                region: String::new(),
            },
            photos: Default::default(),
            close: false,
        };
        let Ok(Reply::Opened { job, .. }) = log.apply(Command::Open(Box::new(open))).0 else {
            panic!("it is taken")
        };
        let each = APPEND_PHOTOS_MAX as u64;
        for offset in (0..photos).step_by(APPEND_PHOTOS_MAX) {
            let photos = list(each.min(photos - offset));
            log.apply(Command::Append { job, offset, photos }).0.unwrap();
        }
        job
    }

    /// Each photo was lost once, so that each has a row of its own: they go over several entries, and the job is gone
    /// with the first.
    #[test]
    fn a_large_job_goes_in_pieces() {
        let mut log = Log(State::new(Plant::None), Time(1_000_000 * SECOND));
        let photos = 2 * EXPIRE_ROWS_MAX as u64;
        let job = large_job(&mut log, photos);
        let join = Join {
            name: "w".into(),
            nonce: 1,
            slots: 1,
            resources: Resources::default(),
            pool: Pool::default(),
            recognisers: vec![Recogniser {
                name: "noop".into(),
                digest: Vec::new(),
            }],
            version: String::new(),
        };
        let Ok(Reply::Joined { worker }) = log.apply(Command::WorkerJoined(Box::new(join))).0 else {
            panic!("it joins")
        };
        let because = Because::FreeSlot {
            rank: 0,
            candidates: 1,
        };
        let assign = vec![Assign {
            worker,
            job,
            first: 0,
            count: photos,
            because,
        }];
        log.apply(Command::Adopt(Plan {
            at: 0,
            assign,
            ..Plan::default()
        }))
        .0
        .unwrap();
        let row = Row {
            started: Time(0),
            ended: Time(0),
            output: &[],
        };
        let mut rows = Packing::default();
        (0..photos).for_each(|_| rows.push(row));
        let report = Report {
            job,
            first: 0,
            given: Given(log.0.applied()),
            cause: Some(Cause::Released),
            rows: rows.done(),
        };
        let reports = vec![report];
        log.apply(Command::Ended { worker, reports }).0.unwrap();
        log.apply(Command::Cancel { job }).0.unwrap();
        assert_eq!(log.0.retries.table.len() as u64, photos);

        assert_eq!(log.0.over(log.1), None);
        log.1.0 += RETENTION;
        let mut entries = 0;
        while let Some(expire) = log.0.over(log.1) {
            let (reply, changed) = log.apply(expire);
            let jobs = usize::from(entries == 0);
            assert_eq!(
                reply,
                Ok(Reply::Expired {
                    keys: jobs as u64,
                    jobs
                })
            );
            // Besides the rows: the key, the spec, the books, what is noted, and the cluster's own record.
            assert!(changed <= EXPIRE_ROWS_MAX + 5, "{changed} rows in one entry");
            assert!(log.0.jobs.get(job).is_none());
            entries += 1;
        }
        assert_eq!(entries, 3);
        assert!(log.0.retries.table.is_empty() && log.0.jobs.appends.is_empty());
        assert!(log.0.specs.table.is_empty() && log.0.keys.table.is_empty());
        let counts = log.0.environments.get(EnvId(1)).unwrap().counts;
        assert_eq!((counts.submitted, counts.deleted), (photos, photos));
    }
}
