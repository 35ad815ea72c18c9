//! Taking back: the tail of a run gets a new fence on another worker, the head keeps its own.

use bytes::Bytes;

use super::retries::Retry;
use super::runs::{Run, RunKey};
use super::{Context, State};
use crate::event::{Cause, Fact};
use crate::kept::AttemptRecord;
use crate::key::attempt_key;
use crate::limits::REGIVES_MAX;
use crate::observe::has_recogniser;
use crate::plan::Regive;
use crate::plant::Plant;
use crate::state::workers::Standing;
use crate::table::encode;
use crate::types::{EnvId, Given};

impl State {
    /// Takes a piece of a plan back, if it still fits. True when it did.
    pub(super) fn regive(&mut self, context: &mut Context, piece: &Regive) -> bool {
        let fits = self.regive_fits(piece);
        match &fits {
            Ok((key, run)) => self.take_back(context, piece, *key, *run),
            Err(why) => self.tell_not_regiven(context, piece, why),
        }
        fits.is_ok()
    }

    fn tell_not_regiven(&self, context: &mut Context, piece: &Regive, why: &'static str) {
        let env = self.jobs.get(piece.job).map(|(env, _)| env);
        let fact = Fact::PieceDropped {
            worker: piece.to,
            first: piece.first,
            count: piece.count,
            why,
        };
        context.tell(env.unwrap_or_default(), Some(piece.job), fact);
    }

    fn regive_fits(&self, piece: &Regive) -> Result<(RunKey, Run), &'static str> {
        let (env, job) = self.jobs.get(piece.job).ok_or("no such job")?;
        if !job.phase.is_live() {
            return Err("the job has ended");
        }
        let last = piece.count.checked_sub(1).ok_or("no tasks")?;
        let last = piece.first.checked_add(last).ok_or("no such tasks")?;
        let held = self.runs.of_task(env, piece.job, piece.first);
        let (key, run) = held
            .filter(|(key, run)| (run.worker, run.given) == (piece.from, piece.given) && last <= key.last)
            .ok_or("its worker does not hold them any more")?;
        let worker = self.workers.get(piece.to).ok_or("no such worker")?;
        if worker.standing != Standing::Active || piece.to == piece.from {
            return Err("the worker takes no work");
        }
        let spec = self.specs.get(run.spec).ok_or("no such spec")?;
        if !has_recogniser(&worker.join.recognisers, &spec.recogniser) {
            return Err("the worker has no such recogniser");
        }
        if !self.allows(env, &worker.join.pool.region) {
            return Err("the worker is where its environment's photos may not go");
        }
        let fixed = self
            .retries
            .last_with(env, piece.job, piece.first..=last, |retry| self.stays(retry));
        match fixed {
            Some(_) => Err("the tasks stay where they are"),
            None => Ok((key, run)),
        }
    }

    /// True for a task that is not taken back: a suspect, or one that was as often as may be.
    pub(crate) fn stays(&self, retry: &Retry) -> bool {
        let suspect = retry.deaths > 0 && !self.plant.is(Plant::SuspectRegiven);
        suspect || retry.regiven >= REGIVES_MAX
    }

    fn take_back(&mut self, context: &mut Context, piece: &Regive, key: RunKey, run: Run) {
        let keeps = self.plant.is(Plant::RegiveKeepsFence);
        let given = if keeps { run.given } else { Given(context.index) };
        self.runs.release(key, piece.first, piece.count);
        let last = piece.first + piece.count - 1;
        let moved = Run {
            first: piece.first,
            given,
            worker: piece.to,
            ..run
        };
        self.runs.insert(RunKey { last, ..key }, moved);
        for task in piece.first..=last {
            self.retries.regive(key.env, key.job, task, given);
            self.keep_taken_back(context, key.env, piece, task);
        }
        let job = self.jobs.get_mut(key.env, key.job).expect("a run's job");
        job.changed = context.index;
        self.workers.get_mut(piece.to).expect("it fits").last_given = context.index;
        let fact = Fact::RunRegiven {
            from: piece.from,
            to: piece.to,
            first: piece.first,
            count: piece.count,
            was: piece.given,
            given,
        };
        context.tell(key.env, Some(key.job), fact);
    }

    /// The attempt that was taken back is part of the task's history.
    fn keep_taken_back(&mut self, context: &mut Context, env: EnvId, piece: &Regive, task: u64) {
        let record = AttemptRecord {
            given: piece.given,
            worker: piece.from,
            cause: Cause::TakenBack,
            message: Bytes::from_static(b"another worker would end it sooner"),
            at: context.at,
        };
        let (key, value) = (attempt_key(env, piece.job, task, context.index), encode(&record));
        let job = self.jobs.get_mut(env, piece.job).expect("a run's job");
        job.keep(&key, &value);
        context.kept.push((key, value));
    }
}
