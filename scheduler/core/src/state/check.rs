//! What must hold of the state at every index, one type of record at a time: so a record that is wrong is told by its
//! name, and it can be counted whose check has ever failed.

use std::collections::BTreeMap;

use super::environments::Counts;
use super::jobs::TaskEnd;
use super::{State, number};
use crate::types::{EnvId, Index, JobId, Time};
use crate::version::NEXT;

/// The check of one type of record: the table's number on disk and name, and what asserts it.
pub type Check = (u8, &'static str, fn(&State));

impl State {
    /// All of them, by number: each record of the state has its check.
    pub const CHECKS: [Check; 22] = [
        (number::META, "meta", State::check_meta),
        (number::ENVIRONMENTS, "environments", State::check_environments),
        (number::SPECS, "specs", State::check_specs),
        (number::KEYS, "keys", State::check_keys),
        (number::JOBS, "jobs", State::check_jobs),
        (number::PAGES, "pages", |state| state.jobs.check_pages()),
        (number::APPENDS, "appends", State::check_appends),
        (number::RUNS, "runs", State::check_runs),
        (number::RETRIES, "retries", State::check_retries),
        (number::WORKERS, "workers", State::check_workers),
        (number::REMAINS, "remains", State::check_remains),
        (number::LAUNCHES, "launches", State::check_launches),
        (number::MACHINES, "machines", State::check_machines),
        (number::POOLS, "pools", |state| state.pools.check()),
        (number::SPEND, "spend", |state| state.spend.check()),
        (number::MEMBERS, "members", |state| state.members.check()),
        (number::BUILDS, "builds", State::check_builds),
        (number::CONTROL, "control", State::check_control),
        (number::PROFILE, "profile", |state| state.profile.check()),
        (number::MEASURES, "measures", |state| state.measures.check()),
        (number::DECISIONS, "decisions", State::check_decisions),
        (number::POLICIES, "policies", State::check_policies),
    ];

    /// Asserts every cross-reference. The state must be settled.
    pub fn check(&self) {
        State::CHECKS.iter().for_each(|(_, _, check)| check(self));
    }

    /// Nothing is from behind the last entry, or from after the cluster's clock.
    fn check_meta(&self) {
        self.meta.check();
        let meta = self.meta();
        assert!(meta.version <= NEXT, "version {}", meta.version);
        assert!(meta.members_changed <= meta.applied);
        for (id, _) in self.members.iter() {
            assert!(
                id <= meta.last_member,
                "server {id} has an id that was never given"
            );
        }
        let happened = |what: &str, index: Index, at: Time| {
            assert!(
                index <= meta.applied && at <= meta.now,
                "{what} {index} is of a later time"
            );
        };
        for ((_, id), job) in self.jobs.table.iter() {
            happened("job", id.0, job.opened);
            happened("job changed at", job.changed, job.ended.unwrap_or_default());
        }
        for (id, worker) in self.workers.iter() {
            happened("worker", id.0, worker.joined);
            happened(
                "worker busy at",
                worker.last_given,
                worker.ended.unwrap_or_default(),
            );
        }
        for (_, run) in self.runs.table.iter() {
            happened("fence", run.given.0, meta.now);
        }
    }

    /// The books of each environment are the sums of its jobs'.
    fn check_environments(&self) {
        self.environments.check();
        let mut books = BTreeMap::<EnvId, Counts>::new();
        let mut live = BTreeMap::<EnvId, u64>::new();
        for ((env, _), job) in self.jobs.table.iter() {
            *live.entry(*env).or_default() += u64::from(job.phase.is_live());
            let book = books.entry(*env).or_default();
            book.submitted += job.tasks;
            book.waiting += job.waiting();
            book.given += job.given;
            book.succeeded += job.succeeded;
            book.failed += job.failed;
            book.cancelled += job.cancelled();
        }
        for (env, environment) in self.environments.iter() {
            let name = &environment.name;
            let unended = live.get(&env).copied().unwrap_or(0);
            assert_eq!(environment.jobs, unended, "unended jobs of {name}");
            // What deleted jobs had is only in the sum.
            let mut book = books.remove(&env).unwrap_or_default();
            book.submitted += environment.counts.deleted;
            book.deleted = environment.counts.deleted;
            assert_eq!(environment.counts, book, "books of {name}");
        }
        assert!(books.is_empty());
    }

    /// A spec is there exactly as long as jobs use it.
    fn check_specs(&self) {
        self.specs.check();
        let mut uses = BTreeMap::<_, u64>::new();
        for ((env, _), job) in self.jobs.table.iter() {
            *uses.entry((*env, job.spec)).or_default() += 1;
        }
        let counted = self.specs.table.iter().map(|(id, shared)| (*id, shared.jobs));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), uses, "jobs of specs");
    }

    fn check_keys(&self) {
        self.keys.check();
        for (env, job) in self.keys.table.iter().map(|(key, _)| *key) {
            assert!(self.jobs.get_in(env, job).is_some(), "the key of job {job}");
        }
    }

    fn check_jobs(&self) {
        self.jobs.check();
        for ((env, id), job) in self.jobs.table.iter() {
            assert!(self.specs.get(job.spec).is_some(), "spec of job {id}");
            let runs = self.runs.of_job(*env, *id);
            let held: u64 = runs.iter().map(|(key, run)| key.last - run.first + 1).sum();
            assert_eq!(held, job.given, "tasks of job {id} with workers");
            if job.phase.is_live() {
                let again = self.retries.waiting_of(*env, *id);
                assert_eq!(
                    job.waiting(),
                    job.never_given() + again,
                    "waiting tasks of job {id}"
                );
            }
        }
        self.jobs
            .check_queue(|job, from| self.retries.due_from(job, from));
    }

    fn check_appends(&self) {
        self.jobs.check_appends();
        self.check_left("appends", self.jobs.appends.iter().map(|(key, _)| *key));
    }

    fn check_retries(&self) {
        self.retries.check();
        self.check_left("retries", self.retries.table.iter().map(|(key, _)| *key));
    }

    /// Rows belong to a job that is there, or to one that was deleted and is noted.
    fn check_left(&self, what: &str, rows: impl Iterator<Item = (EnvId, JobId, u64)>) {
        for (env, job, _) in rows {
            let there = self.jobs.get_in(env, job).is_some();
            let noted = self.remains.get(&(env, job)).is_some();
            assert!(there || noted, "{what} of job {job} are left");
        }
    }

    /// A deleted job is noted exactly as long as rows of it are left.
    fn check_remains(&self) {
        self.remains.check();
        for (env, job) in self.remains.iter().map(|(key, ())| *key) {
            assert!(self.jobs.get_in(env, job).is_none(), "job {job} is there");
            let rows = || (env, job, 0)..=(env, job, u64::MAX);
            let appends = self.jobs.appends.range(rows()).next();
            let left = appends.is_some() || self.retries.table.range(rows()).next().is_some();
            assert!(left, "nothing is left of job {job}");
        }
    }

    fn check_runs(&self) {
        self.runs.check();
        for ((env, job, last), run) in self.runs.table.iter() {
            let record = self.jobs.get_in(*env, *job).expect("a run's job");
            assert!(record.phase.is_live(), "job {job} holds a run");
            assert!(*last < record.fresh);
            assert_eq!(run.spec, record.spec);
            for task in run.first..=*last {
                assert_eq!(self.jobs.task_end(*env, *job, task), TaskEnd::Unended);
                let retry = self.retries.get(*env, *job, task);
                assert!(retry.is_none_or(|retry| retry.waiting.is_none() && retry.given == run.given));
            }
        }
    }

    /// Who holds something is there.
    fn check_workers(&self) {
        self.workers.check();
        for (_, run) in self.runs.table.iter() {
            let worker = run.worker;
            assert!(self.workers.live(worker).is_some(), "worker {worker} holds a run");
        }
    }

    /// Launches are of entries that were applied, and as many machines name one as it counts.
    fn check_launches(&self) {
        self.launches.check();
        let mut named: BTreeMap<_, u32> = BTreeMap::new();
        for (_, machine) in self.machines.iter() {
            *named.entry(machine.launch).or_default() += u32::from(!machine.is_orphan());
        }
        for (id, launch) in self.launches.iter() {
            assert!(
                id.0 / crate::limits::LAUNCHES_PER_PLAN_MAX <= self.applied(),
                "launch {id}"
            );
            // Machines that ended long ago are forgotten.
            let known = named.get(&id).copied().unwrap_or(0);
            assert!(known <= launch.machines, "{known} machines of launch {id}");
        }
    }

    /// Machines are within their own bounds, and their sessions were begun.
    fn check_machines(&self) {
        self.machines.check();
        for (id, machine) in self.machines.iter() {
            let named = |name: &str| name == id.0;
            if let Some((worker, _)) = machine.joined {
                let session = self.workers.get(worker);
                assert!(
                    session.is_none_or(|one| named(&one.join.name)),
                    "machine {id} of worker {worker}"
                );
            }
        }
    }

    /// The policy in force may be.
    fn check_control(&self) {
        self.control.table.check();
        if let Some(control) = self.control.known() {
            assert!(control.since <= self.applied());
            assert_eq!(control.scaling.check_numbers(), Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Plant;

    /// Records of any other table are unknown to a state that is loaded.
    #[test]
    fn each_type_of_record_has_its_check() {
        let mut state = State::new(Plant::None);
        state.settle();
        state.check();
        let checked: Vec<u8> = State::CHECKS.iter().map(|(number, ..)| *number).collect();
        assert!(checked.is_sorted_by(|one, next| one < next));
        for number in 0..=u8::MAX {
            let refused = state.load_record(&[number, 9], &[]).expect_err("no record");
            let known = refused.why != "unknown table";
            assert_eq!(known, checked.contains(&number), "table {number}");
        }
    }
}
