//! Adopting a plan: each piece is checked against the freshest state; what no longer fits is dropped, with an event.

use super::runs::{Run, RunKey};
use super::{Context, State};
use crate::event::Fact;
use crate::observe::has_recogniser;
use crate::plan::{Assign, Plan};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::state::workers::Standing;
use crate::types::{EnvId, Given, JobId, Time};

impl State {
    pub(super) fn adopt(&mut self, context: &mut Context, plan: &Plan) -> Result<Reply, Rejected> {
        let mut runs = 0;
        for piece in &plan.regive {
            runs += usize::from(self.regive(context, piece));
        }
        for piece in &plan.assign {
            match self.fits(context.at, piece) {
                Ok(env) => {
                    self.give(context, env, piece);
                    runs += 1;
                }
                Err(why) => {
                    let Assign {
                        worker,
                        job,
                        first,
                        count,
                        ..
                    } = *piece;
                    let env = self.jobs.get(job).map(|(env, _)| env).unwrap_or_default();
                    context.tell(
                        env,
                        Some(job),
                        Fact::PieceDropped {
                            worker,
                            first,
                            count,
                            why,
                        },
                    );
                }
            }
        }
        Ok(Reply::Adopted {
            runs,
            dropped: plan.assign.len() + plan.regive.len() - runs,
        })
    }

    fn fits(&self, at: Time, piece: &Assign) -> Result<EnvId, &'static str> {
        let (env, job) = self.jobs.get(piece.job).ok_or("no such job")?;
        if !job.phase.is_live() {
            return Err("the job has ended");
        }
        let end = piece
            .first
            .checked_add(piece.count)
            .filter(|end| *end <= job.tasks)
            .ok_or("no such tasks")?;
        if piece.count == 0 {
            return Err("no tasks");
        }
        let worker = self.workers.get(piece.worker).ok_or("no such worker")?;
        let drains = worker.standing == Standing::Draining && self.plant.is(Plant::DrainedGetsWork);
        if worker.standing != Standing::Active && !drains {
            return Err("the worker takes no work");
        }
        if self.plant.is(Plant::LocalInApply) && self.runs.is_touched(piece.worker) {
            return Err("the worker is not told yet");
        }
        let spec = self.specs.get(job.spec).ok_or("no such spec")?;
        if !has_recogniser(&worker.join.recognisers, &spec.recogniser) {
            return Err("the worker has no such recogniser");
        }
        if !self.allows(env, &worker.join.pool.region) {
            return Err("the worker is where its environment's photos may not go");
        }
        let again = |task: u64| {
            let retry = self.retries.get(env, piece.job, task);
            // A leader may have seen it due by a clock that no entry has.
            retry.is_some_and(|retry| retry.waiting.is_some_and(|until| until <= at))
        };
        let waits = |task: u64| job.is_never_given(task) || again(task);
        // First attempts go in order, but for late ones that others go before.
        let in_order = piece.first <= job.fresh.max(job.late_to);
        if !in_order || !(piece.first..end).all(waits) {
            return Err("the tasks do not wait");
        }
        let holds = self.environments.get(env).map_or(0, |one| one.counts.given);
        if holds.saturating_add(piece.count) > self.allotment(env).given {
            return Err("its environment holds as many as it may");
        }
        Ok(env)
    }

    fn give(&mut self, context: &mut Context, env: EnvId, piece: &Assign) {
        let id = piece.job;
        let given = self.fence(Plant::FenceReused, env, id, piece.first, Given(context.index));
        let end = piece.first + piece.count;
        let job = self.jobs.get_mut(env, id).expect("it fits");
        let fresh_before = job.fresh;
        if fresh_before < piece.first {
            job.behind.push((fresh_before, piece.first));
        }
        job.fresh = job.fresh.max(end);
        job.given += piece.count;
        job.changed = context.index;
        let spec = job.spec;
        for task in piece.first..end.min(fresh_before) {
            let job = self.jobs.get_mut(env, id).expect("it fits");
            if !job.take_behind(task) {
                self.retried(env, id, task, given);
            }
        }
        let key = RunKey {
            env,
            job: id,
            last: end - 1,
        };
        self.runs.insert(
            key,
            Run {
                first: piece.first,
                given,
                worker: piece.worker,
                spec,
            },
        );
        self.workers.get_mut(piece.worker).expect("it fits").last_given = context.index;
        let mut counts = self.environments.counts_mut(env);
        counts.waiting -= piece.count;
        counts.given += piece.count;
        drop(counts);
        self.requeue(env, id);
        self.note_first_given(piece.worker, context.at);
        self.tell_given(context, env, id, piece, given);
    }

    /// The attempt's own fence; with this bug that of the attempt before.
    fn fence(&self, bug: Plant, env: EnvId, id: JobId, task: u64, own: Given) -> Given {
        match self.plant.is(bug) {
            true => self.retries.get(env, id, task).map_or(own, |retry| retry.given),
            false => own,
        }
    }

    /// Notes which attempt a task that waited again is now.
    fn retried(&mut self, env: EnvId, id: JobId, task: u64, given: Given) {
        let given = self.fence(Plant::RetryKeepsFence, env, id, task, given);
        self.retries.give(env, id, task, given);
        if self.plant.is(Plant::RetryUnnoted) {
            self.retries.table.forget_change(&(env, id, task));
        }
    }

    fn tell_given(&self, context: &mut Context, env: EnvId, id: JobId, piece: &Assign, given: Given) {
        let Assign {
            worker, first, count, ..
        } = *piece;
        context.tell(
            env,
            Some(id),
            Fact::RunGiven {
                worker,
                first,
                count,
                given,
            },
        );
    }
}
