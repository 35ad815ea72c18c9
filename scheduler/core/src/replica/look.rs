//! Reads of the live state.

use super::Replica;
use crate::io::{Answer, Fetch, JobView, Read, TaskView};
use crate::limits::{LIST_MAX, RESULTS_PAGE_MAX};
use crate::observe::has_recogniser;
use crate::reply::Rejected;
use crate::state::environments::Environment;
use crate::state::jobs::{Job, Phase, TaskEnd};
use crate::types::{EnvId, JobId};

impl Replica {
    /// Answers a read from the state as it is. Another environment's job is as unknown as none.
    pub(super) fn look(&self, environment: &str, read: &Read) -> Result<Answer, Rejected> {
        match *read {
            Read::Job { job, seen } => {
                let mut view = self.job_view(environment, job).ok_or(unknown(job))?;
                // Who watches hears of each change: an estimate each time would cost more than it tells.
                if seen == 0
                    && let Some((env, _)) = self.own(environment, job)
                {
                    view.outlook = self.outlook(env, job);
                }
                Ok(Answer::Job(Box::new(view)))
            }
            Read::Jobs { before, limit } => Ok(self.jobs(environment, before, limit)),
            Read::Results { job, first, limit } => {
                let (env, record) = self.own(environment, job).ok_or(unknown(job))?;
                let limit = if limit == 0 {
                    RESULTS_PAGE_MAX
                } else {
                    limit.min(RESULTS_PAGE_MAX)
                };
                Ok(Answer::Fetch(Fetch::Results {
                    env,
                    job,
                    first,
                    limit,
                    tasks: record.tasks,
                }))
            }
            Read::Task { job, task } => self.task(environment, job, task),
            Read::Settings => Ok(Answer::Settings(self.state.meta().settings.clone())),
            Read::Environments => Ok(self.environments()),
            Read::Members => Ok(self.member_views()),
            Read::Pools => Ok(Answer::Pools(Box::new(self.pools_view()))),
            Read::Forecast => Ok(Answer::Forecast(Box::new(self.forecast_view()))),
            Read::Costs => Ok(Answer::Costs(Box::new(self.cost_view()))),
            Read::Decisions { until } => Ok(Answer::Decisions(Box::new(self.decisions_view(until)))),
            Read::Policies => Ok(Answer::Policies(Box::new(self.policies_view()))),
            Read::Fleet => Ok(Answer::Fleet(Box::new(self.fleet_view()))),
            Read::Workers => {
                let heard = |id| {
                    let leader = self.leader.as_ref()?;
                    let heard = *leader.heard.get(&id)?;
                    Some(crate::io::Heard {
                        ago: self.elapsed.saturating_sub(heard.at),
                        ..heard
                    })
                };
                let workers = self
                    .state
                    .workers
                    .iter()
                    .map(|(id, worker)| (id, worker.clone(), heard(id)));
                Ok(Answer::Workers(workers.collect()))
            }
        }
    }

    fn environments(&self) -> Answer {
        let all = self.state.environments.iter();
        let view = |(id, environment): (EnvId, &Environment)| {
            let keys = self.state.keys.count(id);
            (environment.clone(), self.state.allotment(id), keys)
        };
        Answer::Environments(all.map(view).collect())
    }

    pub(super) fn job_view(&self, environment: &str, id: JobId) -> Option<JobView> {
        let (_, job) = self.own(environment, id)?;
        Some(self.view(environment, id, job))
    }

    fn own(&self, environment: &str, id: JobId) -> Option<(EnvId, &Job)> {
        let env = self.state.environments.find(environment)?;
        Some((env, self.state.jobs.get_in(env, id)?))
    }

    fn view(&self, environment: &str, id: JobId, job: &Job) -> JobView {
        let spec = self.state.specs.get(job.spec).expect("a job's spec").clone();
        let environment = environment.to_owned();
        JobView {
            id,
            environment,
            job: job.clone(),
            waiting_for: self.waiting_for(job),
            suspects: self.suspects(id),
            outlook: None,
            spec,
        }
    }

    fn suspects(&self, job: JobId) -> u64 {
        let suspects = self.state.retries.suspects(job, 0..=u64::MAX);
        suspects.count() as u64
    }

    /// Why nothing of a job runs.
    fn waiting_for(&self, job: &Job) -> &'static str {
        if job.waiting() == 0 || job.given > 0 {
            return "";
        }
        let Some(spec) = self.state.specs.get(job.spec) else {
            return "";
        };
        let mut workers = self
            .state
            .workers
            .iter_live()
            .map(|(_, worker)| &worker.join)
            .peekable();
        if workers.peek().is_none() {
            return "there is no worker";
        }
        let mut with = workers
            .filter(|join| has_recogniser(&join.recognisers, &spec.recogniser))
            .peekable();
        if with.peek().is_none() {
            return "no worker has its recogniser";
        }
        match with.any(|join| join.resources.holds(&spec.resources) > 0) {
            true => "all workers are busy, or its photos wait for another attempt",
            false => "no worker is large enough for its resources",
        }
    }

    fn jobs(&self, environment: &str, before: JobId, limit: u32) -> Answer {
        let Some(env) = self.state.environments.find(environment) else {
            return Answer::Jobs {
                jobs: Vec::new(),
                next: None,
            };
        };
        let before = if before.0 == 0 { JobId(u64::MAX) } else { before };
        let limit = if limit == 0 { 100 } else { limit.min(LIST_MAX) } as usize;
        let mut found: Vec<JobView> = self
            .state
            .jobs
            .before(env, before)
            .take(limit + 1)
            .map(|(id, job)| self.view(environment, id, job))
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|view| view.id);
        Answer::Jobs { jobs: found, next }
    }

    fn task(&self, environment: &str, job: JobId, task: u64) -> Result<Answer, Rejected> {
        let (env, record) = self.own(environment, job).ok_or(unknown(job))?;
        if task >= record.tasks {
            return Err(Rejected::NotFound {
                what: "task",
                id: task,
            });
        }
        let held = self
            .state
            .runs
            .of_task(env, job, task)
            .map(|(_, run)| (run.given, run.worker));
        let retry = self.state.retries.get(env, job, task);
        let state = match self.state.jobs.task_end(env, job, task) {
            TaskEnd::Succeeded => "succeeded",
            TaskEnd::Failed => "failed",
            TaskEnd::Unended if record.phase == Phase::Cancelled => "cancelled",
            TaskEnd::Unended if held.is_some() => "given",
            TaskEnd::Unended => "waiting",
        };
        let view = TaskView {
            env,
            job,
            task,
            state,
            held,
            attempts: retry.map_or(0, |retry| retry.attempts),
            losses: retry.map_or(0, |retry| retry.losses),
            deaths: retry.map_or(0, |retry| retry.deaths),
            not_before: retry.and_then(|retry| retry.waiting),
        };
        Ok(Answer::Fetch(Fetch::Task(view)))
    }
}

fn unknown(job: JobId) -> Rejected {
    Rejected::NotFound {
        what: "job",
        id: job.0,
    }
}
