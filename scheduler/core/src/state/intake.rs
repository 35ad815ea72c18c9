//! Jobs coming in: open, append, close, cancel.

use super::jobs::{AppendNote, Job, Phase, bytes_of, bytes_of_job};
use super::keys::{Hash, hash};
use super::{Context, State};
use crate::command::{Deadline, Open};
use crate::event::Fact;
use crate::key::photos_key;
use crate::limits::{APPENDS_PER_JOB_MAX, SPECS_MAX};
use crate::photos::Photos;
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::table::encode;
use crate::types::{EnvId, JobId, Time};
use crate::validate::sound;

impl State {
    pub(super) fn open(&mut self, context: &mut Context, open: &Open) -> Result<Reply, Rejected> {
        sound(&open.photos)?;
        let env = self.environment(context)?;
        let digest = open_digest(open);
        if let Some((job, asked)) = self.known_key(context, env, open) {
            let same = asked == Hash::from(digest) && self.began_with(env, job, open);
            return self.opened_before(env, job, same);
        }
        let settings = &self.meta().settings;
        let (open_for, jobs_max) = (settings.open_for, settings.jobs_max);
        let tasks_max = settings.tasks_per_job_max;
        if self.jobs.len() as u64 >= jobs_max {
            return Err(Rejected::TooMany {
                field: "jobs",
                limit: jobs_max,
                what: "jobs in a cluster",
            });
        }
        if open.photos.len() > tasks_max {
            return Err(Rejected::TooMany {
                field: "photos",
                limit: tasks_max,
                what: "photos in a job",
            });
        }
        if open.close && open.photos.is_empty() {
            return Err(Rejected::Invalid {
                field: "photos",
                why: "a job has at least one photo".into(),
            });
        }
        self.room_for_job(env)?;
        self.room_for_photos(env, open.photos.len())?;
        let bytes = bytes_of_job(open);
        self.room_in_cluster(open.photos.len(), bytes + bytes_of(&open.photos))?;
        if !open.key.is_empty() {
            self.room_for_key(context, env)?;
        }
        let too_many = Rejected::TooMany {
            field: "spec",
            limit: SPECS_MAX as u64,
            what: "different specs",
        };
        let spec = self.specs.take(env, &open.spec, context.index).ok_or(too_many)?;
        let id = JobId(context.index);
        let job = Job {
            spec,
            name: open.name.clone(),
            labels: open.labels.clone(),
            actor: context.by.actor.clone(),
            trace: context.trace,
            priority: open.priority,
            deadline: open.deadline.instant(context.at),
            deadline_in: match open.deadline {
                Deadline::In(us) if !open.close => Some(us),
                _ => None,
            },
            late_to: 0,
            behind: Vec::new(),
            phase: Phase::Open,
            tasks: 0,
            fresh: 0,
            given: 0,
            succeeded: 0,
            failed: 0,
            dropped: 0,
            late: 0,
            cost: 0,
            appends: 0,
            opened: context.at,
            close_at: Time(context.at.0.saturating_add(open_for)),
            ended: None,
            changed: context.index,
            kept: 0,
            bytes: 0,
        };
        self.jobs.insert(env, id, job);
        self.jobs.keep_bytes(env, id, bytes);
        self.environments.count_job(env, true);
        context.tell(
            env,
            Some(id),
            Fact::JobOpened {
                name: open.name.clone(),
            },
        );
        if !open.key.is_empty() {
            self.keys.insert(env, &open.key, id, digest);
        }
        if !open.photos.is_empty() {
            self.add_photos(context, env, id, &open.photos);
        }
        if open.close {
            self.close_now(context, env, id, false);
        }
        self.requeue(env, id);
        let job = self.jobs.get_in(env, id).expect("just made");
        let (phase, next_offset) = (job.phase, job.tasks);
        Ok(Reply::Opened {
            job: id,
            phase,
            next_offset,
            trace: context.trace,
            repeated: false,
        })
    }

    /// What a key made, if it is remembered. One whose time is over makes room for its next use.
    fn known_key(&mut self, context: &Context, env: EnvId, open: &Open) -> Option<(JobId, Hash)> {
        if open.key.is_empty() {
            return None;
        }
        let (job, asked) = self.keys.get(env, &open.key)?;
        if self.key_is_over(env, job, context.at) {
            self.keys.remove(env, job);
            return None;
        }
        Some((job, asked))
    }

    /// Refuses a key when the environment has as many as it may, and says when there is room again.
    fn room_for_key(&mut self, context: &Context, env: EnvId) -> Result<(), Rejected> {
        let limit = self.meta().settings.keys_max;
        if self.keys.count(env) < limit {
            return Ok(());
        }
        let oldest = self.keys.oldest_of(env).expect("a limit is at least one");
        let until = self.key_until(env, oldest);
        if until <= context.at {
            self.keys.remove(env, oldest);
        }
        match self.keys.count(env) {
            have if have < limit => Ok(()),
            have => Err(Rejected::Quota {
                field: "idempotency_key",
                what: "keys remembered",
                have,
                more: 1,
                limit,
                retry_at: Some(until.max(context.at)),
                retry_after: until.0.saturating_sub(context.at.0),
            }),
        }
    }

    /// True when an open job began with these photos: its digest leaves them out, since it may bring them one by one.
    fn began_with(&self, env: EnvId, job: JobId, open: &Open) -> bool {
        let note = self.jobs.appends.get(&(env, job, 0));
        let same =
            |note: &AppendNote| note.count == open.photos.len() && note.digest == photos_digest(&open.photos);
        open.close || open.photos.is_empty() || note.is_none_or(same)
    }

    fn opened_before(&self, env: EnvId, job: JobId, same: bool) -> Result<Reply, Rejected> {
        if !same {
            return Err(Rejected::Conflict {
                what: "idempotency_key",
            });
        }
        let record = self
            .jobs
            .get_in(env, job)
            .expect("a key's job is kept as long as the key");
        Ok(Reply::Opened {
            job,
            phase: record.phase,
            next_offset: record.tasks,
            trace: record.trace,
            repeated: true,
        })
    }

    pub(super) fn append(
        &mut self,
        context: &mut Context,
        id: JobId,
        offset: u64,
        photos: &Photos,
    ) -> Result<Reply, Rejected> {
        sound(photos)?;
        let env = self.own_job(context, id)?;
        let tasks_max = self.meta().settings.tasks_per_job_max;
        let job = self.jobs.get_in(env, id).expect("just found");
        let offset = if self.plant.is(Plant::AppendTwice) {
            job.tasks
        } else {
            offset
        };
        if offset < job.tasks {
            return self.appended_before(env, id, offset, photos);
        }
        if job.phase != Phase::Open {
            return Err(Rejected::NotOpen {
                job: id,
                phase: job.phase,
            });
        }
        if offset > job.tasks {
            return Err(Rejected::Gap { expected: job.tasks });
        }
        if photos.is_empty() {
            return Ok(Reply::Appended {
                next_offset: job.tasks,
            });
        }
        if job.tasks + photos.len() > tasks_max {
            return Err(Rejected::TooMany {
                field: "photos",
                limit: tasks_max,
                what: "photos in a job",
            });
        }
        if job.appends >= APPENDS_PER_JOB_MAX {
            let limit = u64::from(APPENDS_PER_JOB_MAX);
            return Err(Rejected::TooMany {
                field: "photos",
                limit,
                what: "appends to a job; send larger ones",
            });
        }
        self.room_for_photos(env, photos.len())?;
        self.room_in_cluster(photos.len(), bytes_of(photos))?;
        self.add_photos(context, env, id, photos);
        self.requeue(env, id);
        Ok(Reply::Appended {
            next_offset: offset + photos.len(),
        })
    }

    fn appended_before(
        &self,
        env: EnvId,
        id: JobId,
        offset: u64,
        photos: &Photos,
    ) -> Result<Reply, Rejected> {
        let note = self.jobs.appends.get(&(env, id, offset));
        match note {
            Some(note) if note.count == photos.len() && note.digest == photos_digest(photos) => {
                Ok(Reply::Appended {
                    next_offset: offset + note.count,
                })
            }
            _ => Err(Rejected::Conflict { what: "offset" }),
        }
    }

    fn add_photos(&mut self, context: &mut Context, env: EnvId, id: JobId, photos: &Photos) {
        let count = photos.len();
        self.jobs.keep_bytes(env, id, bytes_of(photos));
        let job = self.jobs.get_mut(env, id).expect("just found");
        let first = job.tasks;
        let (key, value) = (photos_key(env, id, first), encode(photos));
        job.keep(&key, &value);
        job.tasks += count;
        job.appends += 1;
        if let Some(us) = job.deadline_in {
            job.deadline = Some(Time(context.at.0.saturating_add(us)));
        }
        let due = job.deadline;
        job.changed = context.index;
        context.kept.push((key, value));
        let note = AppendNote {
            count,
            digest: photos_digest(photos),
            due,
        };
        self.jobs.insert_note(env, id, first, note);
        let mut counts = self.environments.counts_mut(env);
        counts.submitted += count;
        counts.waiting += count;
        drop(counts);
        context.tell(env, Some(id), Fact::TasksQueued { first, count });
    }

    pub(super) fn close(&mut self, context: &mut Context, id: JobId, total: u64) -> Result<Reply, Rejected> {
        let env = self.own_job(context, id)?;
        let job = self.jobs.get_in(env, id).expect("just found");
        if job.tasks != total {
            return Err(Rejected::WrongTotal {
                have: job.tasks,
                said: total,
            });
        }
        match job.phase {
            Phase::Open => self.close_now(context, env, id, false),
            Phase::Closed | Phase::Done => {}
            Phase::Cancelled => {
                return Err(Rejected::NotOpen {
                    job: id,
                    phase: job.phase,
                });
            }
        }
        Ok(Reply::Job { job: id })
    }

    pub(super) fn close_expired(&mut self, context: &mut Context, id: JobId) -> Result<Reply, Rejected> {
        let Some((env, job)) = self.jobs.get(id) else {
            return Err(Rejected::NotFound {
                what: "job",
                id: id.0,
            });
        };
        if job.phase == Phase::Open && job.close_at <= context.at {
            self.close_now(context, env, id, true);
        }
        Ok(Reply::Done)
    }

    fn close_now(&mut self, context: &mut Context, env: EnvId, id: JobId, by_itself: bool) {
        let job = self.jobs.get_mut(env, id).expect("just found");
        job.phase = Phase::Closed;
        job.changed = context.index;
        context.tell(env, Some(id), Fact::JobClosed { by_itself });
        self.finish_if_ended(context, env, id);
        self.requeue(env, id);
    }

    /// A closed job whose tasks have all ended is done.
    pub(super) fn finish_if_ended(&mut self, context: &mut Context, env: EnvId, id: JobId) {
        let job = self.jobs.get_mut(env, id).expect("just found");
        if job.phase == Phase::Closed && job.succeeded + job.failed == job.tasks {
            job.phase = Phase::Done;
            job.ended = Some(match self.plant.is(Plant::EndedAtOpening) {
                true => job.opened,
                false => context.at,
            });
            let (succeeded, failed) = (job.succeeded, job.failed);
            self.environments.count_job(env, false);
            self.jobs.end_bytes(env, id);
            context.tell(env, Some(id), Fact::JobDone { succeeded, failed });
        }
    }

    pub(super) fn cancel(&mut self, context: &mut Context, id: JobId) -> Result<Reply, Rejected> {
        let env = self.own_job(context, id)?;
        let job = self.jobs.get_in(env, id).expect("just found");
        if !job.phase.is_live() {
            return Ok(Reply::Job { job: id });
        }
        let leaves = self.plant.is(Plant::CancelLeavesRuns);
        for (key, _) in self.runs.of_job(env, id).into_iter().filter(|_| !leaves) {
            self.runs.remove(key);
        }
        self.retries.cancel(env, id);
        let job = self.jobs.get_mut(env, id).expect("just found");
        let (waiting, given) = (job.waiting(), job.given);
        job.phase = Phase::Cancelled;
        job.given = 0;
        job.ended = Some(context.at);
        job.changed = context.index;
        self.environments.count_job(env, false);
        self.jobs.end_bytes(env, id);
        let mut counts = self.environments.counts_mut(env);
        counts.waiting -= waiting;
        counts.given -= given;
        counts.cancelled += waiting
            + if self.plant.is(Plant::CancelMiscounts) {
                0
            } else {
                given
            };
        drop(counts);
        self.requeue(env, id);
        context.tell(
            env,
            Some(id),
            Fact::JobCancelled {
                unended: waiting + given,
            },
        );
        Ok(Reply::Job { job: id })
    }
}

/// What a repeated append is compared with.
fn photos_digest(photos: &Photos) -> u128 {
    hash(&[photos.packed()])
}

/// Of an open request: its canonical form without the key, and its photos when all of them are in it.
fn open_digest(open: &Open) -> u128 {
    let Open {
        key: _,
        name,
        labels,
        priority,
        deadline,
        spec,
        photos,
        close,
    } = open;
    let head = encode(&(name, labels, priority, deadline, spec, close));
    let body = if *close { photos.packed() } else { &[] };
    hash(&[&head, body])
}
