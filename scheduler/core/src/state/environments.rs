//! Environments (tenants) and their books.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::{Context, State};
use crate::command::Allot;
use crate::event::Fact;
use crate::limits::{ENVIRONMENTS_MAX, FULL_RETRY, WEIGHT_MAX};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::table::Table;
use crate::types::{EnvId, Time};

use super::spend::day_of;

/// The books of an environment: `submitted` is the sum of the others, at every index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tasks ever queued.
    pub submitted: u64,
    /// In the queue, or waiting for a retry.
    pub waiting: u64,
    /// With a worker.
    pub given: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended for good without result.
    pub failed: u64,
    /// Not ended when their job was cancelled.
    pub cancelled: u64,
    /// However they ended: their job was deleted since.
    pub deleted: u64,
}

/// What an environment may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotment {
    /// Its part of the workers beside other environments.
    pub weight: u32,
    /// Most photos in the queue.
    pub waiting: u64,
    /// Most jobs that have not ended.
    pub jobs: u64,
    /// Most photos with workers at once.
    pub given: u64,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// As credentials name it.
    pub name: String,
    /// Its tasks.
    pub counts: Counts,
    /// Its jobs that have not ended.
    pub jobs: u64,
    /// What it may have; 0 where a setting decides.
    pub own: Allotment,
    /// What its photos' machine time has cost, in millionths of USD; see [`Job::cost`](super::jobs::Job::cost).
    pub cost: u64,
    /// The same of one day (counted from 1970, UTC): the last in which there was any.
    pub day: (u64, u64),
    /// How often somebody asked whether the cluster takes writes.
    pub probes: u64,
}

/// All environments.
pub struct Environments {
    pub(crate) table: Table<EnvId, Environment>,
    by_name: BTreeMap<String, EnvId>,
    /// Of all together.
    waiting: u64,
    given: u64,
}

/// The books of an environment while they change: what all have together follows.
pub(crate) struct Books<'a> {
    counts: &'a mut Counts,
    before: Counts,
    waiting: &'a mut u64,
    given: &'a mut u64,
}

impl Deref for Books<'_> {
    type Target = Counts;
    fn deref(&self) -> &Counts {
        self.counts
    }
}

impl DerefMut for Books<'_> {
    fn deref_mut(&mut self) -> &mut Counts {
        self.counts
    }
}

impl Drop for Books<'_> {
    fn drop(&mut self) {
        *self.waiting = *self.waiting - self.before.waiting + self.counts.waiting;
        *self.given = *self.given - self.before.given + self.counts.given;
    }
}

impl Environments {
    pub(crate) fn new(number: u8) -> Self {
        Environments {
            table: Table::new(number),
            by_name: BTreeMap::new(),
            waiting: 0,
            given: 0,
        }
    }

    /// The environment of a name, made when it is new; `None` when there are too many.
    pub(crate) fn named(&mut self, name: &str) -> Option<EnvId> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        if self.table.len() >= ENVIRONMENTS_MAX {
            return None;
        }
        let id = EnvId(self.table.iter().next_back().map_or(0, |(last, _)| last.0) + 1);
        let environment = Environment {
            name: name.to_owned(),
            counts: Counts::default(),
            jobs: 0,
            own: Allotment {
                weight: 1,
                waiting: 0,
                jobs: 0,
                given: 0,
            },
            cost: 0,
            day: (0, 0),
            probes: 0,
        };
        self.table.insert(id, environment);
        self.by_name.insert(name.to_owned(), id);
        Some(id)
    }

    /// The environment of a name, if there is one.
    pub fn find(&self, name: &str) -> Option<EnvId> {
        self.by_name.get(name).copied()
    }

    /// One environment.
    pub fn get(&self, id: EnvId) -> Option<&Environment> {
        self.table.get(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (EnvId, &Environment)> {
        self.table.iter().map(|(id, environment)| (*id, environment))
    }

    /// Photos in the queues of all environments.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Photos of all environments that workers hold.
    pub fn given(&self) -> u64 {
        self.given
    }

    pub(crate) fn counts_mut(&mut self, id: EnvId) -> Books<'_> {
        let one = self.table.get_mut(&id).expect("a job's environment exists");
        Books {
            before: one.counts,
            counts: &mut one.counts,
            waiting: &mut self.waiting,
            given: &mut self.given,
        }
    }

    fn sums(&self) -> (u64, u64) {
        let counts = || self.table.iter().map(|(_, one)| one.counts);
        (counts().map(|c| c.waiting).sum(), counts().map(|c| c.given).sum())
    }

    /// Counts a job that has begun, or ended.
    pub(crate) fn count_job(&mut self, id: EnvId, begun: bool) {
        let jobs = &mut self.get_mut(id).jobs;
        *jobs = if begun { *jobs + 1 } else { *jobs - 1 };
    }

    fn get_mut(&mut self, id: EnvId) -> &mut Environment {
        self.table.get_mut(&id).expect("a job's environment exists")
    }

    /// Machine time of its photos cost so many millionths of USD more.
    pub(crate) fn count_cost(&mut self, id: EnvId, money: u64, at: Time) {
        let environment = self.get_mut(id);
        environment.cost = environment.cost.saturating_add(money);
        if environment.day.0 != day_of(at) {
            environment.day = (day_of(at), 0);
        }
        environment.day.1 = environment.day.1.saturating_add(money);
    }

    pub(crate) fn count_probe(&mut self, id: EnvId) -> u64 {
        let environment = self.get_mut(id);
        environment.probes += 1;
        environment.probes
    }

    pub(crate) fn reindex(&mut self) {
        self.by_name = self
            .table
            .iter()
            .map(|(id, environment)| (environment.name.clone(), *id))
            .collect();
        (self.waiting, self.given) = self.sums();
    }

    /// Books balance, and the index agrees.
    pub(crate) fn check(&self) {
        self.table.check();
        assert_eq!(self.by_name.len(), self.table.len());
        assert_eq!(
            (self.waiting, self.given),
            self.sums(),
            "all environments together"
        );
        for (id, environment) in self.table.iter() {
            assert_eq!(self.by_name.get(&environment.name), Some(id));
            let c = environment.counts;
            assert_eq!(
                c.submitted,
                c.waiting + c.given + c.succeeded + c.failed + c.cancelled + c.deleted,
                "{environment:?}"
            );
        }
    }
}

impl State {
    /// What an environment may have: its own limits, or the settings'.
    pub fn allotment(&self, id: EnvId) -> Allotment {
        let settings = &self.meta().settings;
        let own = self.environments.get(id).expect("a job's environment exists").own;
        let or = |own: u64, setting: u64| if own == 0 { setting } else { own };
        Allotment {
            weight: own.weight,
            waiting: or(own.waiting, settings.waiting_max),
            jobs: or(own.jobs, settings.live_jobs_max),
            given: or(own.given, settings.given_max),
        }
    }

    pub(super) fn allot(&mut self, context: &mut Context, change: &Allot) -> Result<Reply, Rejected> {
        let limit = ENVIRONMENTS_MAX as u64;
        let too_many = Rejected::TooMany {
            field: "name",
            limit,
            what: "environments",
        };
        let id = self.environments.named(&change.name).ok_or(too_many)?;
        let own = &mut self.environments.get_mut(id).own;
        *own = Allotment {
            weight: change
                .weight
                .map_or(own.weight, |weight| weight.clamp(1, WEIGHT_MAX)),
            waiting: change.max_waiting.unwrap_or(own.waiting),
            jobs: change.max_jobs.unwrap_or(own.jobs),
            given: change.max_given.unwrap_or(own.given),
        };
        let name = change.name.clone();
        context.tell(id, None, Fact::EnvironmentAllotted { name });
        Ok(Reply::Done)
    }

    /// Refuses a job beyond what its environment may have.
    pub(super) fn room_for_job(&self, env: EnvId) -> Result<(), Rejected> {
        if self.plant.is(Plant::QuotaUnchecked) {
            return Ok(());
        }
        let have = self
            .environments
            .get(env)
            .map_or(0, |environment| environment.jobs);
        within(
            "jobs",
            "jobs that have not ended",
            have,
            1,
            self.allotment(env).jobs,
        )
    }

    /// Refuses photos, and bytes kept for them, beyond what the whole cluster takes.
    pub(crate) fn room_in_cluster(&self, photos: u64, bytes: u64) -> Result<(), Rejected> {
        let settings = &self.meta().settings;
        let full = |field, what, have: u64, more: u64, limit| match have.saturating_add(more) <= limit {
            true => Ok(()),
            false => Err(Rejected::Full {
                field,
                what,
                have,
                more,
                limit,
                retry_after: FULL_RETRY,
            }),
        };
        let waiting = match photos {
            0 => Ok(()),
            more => full(
                "photos",
                "photos waiting",
                self.environments.waiting(),
                more,
                settings.photos_waiting_max,
            ),
        };
        let kept = self.jobs.live_bytes();
        waiting.and_then(|()| {
            full(
                "bytes",
                "bytes of open jobs",
                kept,
                bytes,
                settings.open_bytes_max,
            )
        })
    }

    /// Refuses photos beyond what their environment may have in the queue.
    pub(super) fn room_for_photos(&self, env: EnvId, more: u64) -> Result<(), Rejected> {
        let have = self
            .environments
            .get(env)
            .map_or(0, |environment| environment.counts.waiting);
        within(
            "photos",
            "photos waiting",
            have,
            more,
            self.allotment(env).waiting,
        )
    }
}

fn within(field: &'static str, what: &'static str, have: u64, more: u64, limit: u64) -> Result<(), Rejected> {
    match more == 0 || have.saturating_add(more) <= limit {
        true => Ok(()),
        false => Err(Rejected::Quota {
            field,
            what,
            have,
            more,
            limit,
            retry_at: None,
            retry_after: 0,
        }),
    }
}
