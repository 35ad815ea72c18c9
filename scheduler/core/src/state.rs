//! The replicated state. `apply` is deterministic: what it answers depends on the state and the entry alone. It
//! cannot fail on input: what does not fit is answered with `Rejected`. Dispatch only; the work is in the nouns.

use serde::{Deserialize, Serialize};

use crate::command::{Command, Entry};
use crate::event::{Event, Fact};
pub use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::table::Table;
use crate::types::{ClusterId, EnvId, Index, JobId, ReplicaId, Time, TraceId};
use crate::version::Build;

pub mod builds;
pub mod buying;
mod check;
pub mod control;
pub mod decisions;
pub mod environments;
mod expiry;
mod giving;
mod intake;
pub mod jobs;
pub mod keys;
mod late;
pub mod launches;
pub mod machines;
pub mod measures;
pub mod members;
mod outcomes;
pub mod policies;
pub mod pools;
mod prices;
pub mod profile;
pub mod ready;
mod records;
mod regiving;
mod restore;
pub mod retries;
pub mod runs;
pub mod settings;
pub mod sightings;
mod spares;
pub mod specs;
pub mod spend;
mod staff;
mod steering;
pub mod sums;
mod tenancy;
mod thrift;
pub mod workers;

use control::Controls;
use decisions::Decisions;
use environments::Environments;
use jobs::Jobs;
use keys::Keys;
use launches::Launches;
use machines::Machines;
use measures::Measures;
use members::{Founder, Members};
use policies::Policies;
use pools::Pools;
use profile::Profile;
use retries::Retries;
use runs::Runs;
use settings::Settings;
use specs::Specs;
use spend::Spend;
use workers::Workers;

/// The first byte of every key on disk. Numbers are never used again for something else.
mod number {
    pub const META: u8 = 1;
    pub const ENVIRONMENTS: u8 = 2;
    pub const SPECS: u8 = 3;
    pub const KEYS: u8 = 4;
    pub const JOBS: u8 = 5;
    pub const PAGES: u8 = 6;
    pub const APPENDS: u8 = 7;
    pub const RUNS: u8 = 8;
    pub const RETRIES: u8 = 9;
    pub const WORKERS: u8 = 10;
    pub const REMAINS: u8 = 11;
    pub const LAUNCHES: u8 = 12;
    pub const MACHINES: u8 = 13;
    pub const POOLS: u8 = 14;
    pub const SPEND: u8 = 15;
    pub const MEMBERS: u8 = 16;
    pub const BUILDS: u8 = 17;
    pub const CONTROL: u8 = 18;
    pub const PROFILE: u8 = 19;
    pub const MEASURES: u8 = 20;
    pub const DECISIONS: u8 = 21;
    pub const POLICIES: u8 = 22;
}

/// Why a state is not read that a newer build has written.
pub const NEWER: &str =
    "the cluster runs at a version that this build does not know: it is too old. Start a newer one";

/// Key on disk of what there is one of.
pub(crate) const META_KEY: [u8; 1] = [number::META];

/// What there is one of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The cluster; empty before its first entry.
    pub cluster: ClusterId,
    /// What `apply` answers is that of this version.
    pub version: u16,
    /// Index of the last entry applied.
    pub applied: Index,
    /// Its term.
    pub applied_term: u64,
    /// The cluster's clock: the greatest stamp applied.
    pub now: Time,
    /// Limits that change outcomes.
    pub settings: Settings,
    /// Reported results that did not count.
    pub stale_refused: u64,
    /// The greatest id a server ever had: ids rise and never come back.
    pub last_member: ReplicaId,
    /// Index of the entry that last changed the members.
    pub members_changed: Index,
}

/// What applying one entry gave.
#[derive(Debug)]
pub struct Applied {
    /// The answer for whoever asked.
    pub reply: Result<Reply, Rejected>,
    /// What became true.
    pub events: Vec<Event>,
    /// The entry's time brought tasks back into the queue whose wait was over.
    pub matured: bool,
    /// Records for the disk that `apply` never reads.
    pub kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Such records that go: from a key up to, but not with, another.
    pub kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
}

/// All that is replicated.
pub struct State {
    meta: Table<(), Meta>,
    /// Tenants.
    pub environments: Environments,
    /// What jobs share.
    pub specs: Specs,
    /// Idempotency keys.
    pub keys: Keys,
    /// Jobs and their tasks' outcomes.
    pub jobs: Jobs,
    /// Who holds what.
    pub runs: Runs,
    /// Tasks beyond their first attempt.
    pub retries: Retries,
    /// Sessions of agents.
    pub workers: Workers,
    /// Deleted jobs of which rows are left: append notes and retries.
    remains: Table<(EnvId, JobId), ()>,
    /// Servers.
    pub members: Members,
    /// Which build each server runs.
    builds: Table<ReplicaId, Build>,
    /// Intents to start machines.
    pub launches: Launches,
    /// Machines bought.
    pub machines: Machines,
    /// What is remembered of capacity pools.
    pub pools: Pools,
    /// Money spent.
    pub spend: Spend,
    /// What people decided about buying.
    pub control: Controls,
    /// What past weeks took.
    pub profile: Profile,
    /// How fast machines turned out to be.
    pub measures: Measures,
    /// What was decided about machines, and what became of it.
    pub decisions: Decisions,
    /// Policies that were in force.
    pub policies: Policies,
    plant: Plant,
}

/// Where an entry is applied: what handlers need besides their nouns.
pub(crate) struct Context<'a> {
    index: Index,
    at: Time,
    by: &'a crate::types::Caller,
    trace: TraceId,
    events: Vec<Event>,
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Context<'_> {
    fn tell(&mut self, env: EnvId, job: Option<JobId>, fact: Fact) {
        self.events.push(Event {
            index: self.index,
            at: self.at,
            env,
            job,
            trace: self.trace,
            fact,
        });
    }
}

impl State {
    /// The state of a cluster that has not begun.
    pub fn new(plant: Plant) -> State {
        let mut meta = Table::new(number::META);
        meta.insert((), Meta::default());
        State {
            meta,
            environments: Environments::new(number::ENVIRONMENTS),
            specs: Specs::new(number::SPECS),
            keys: Keys::new(number::KEYS),
            jobs: Jobs::new(number::JOBS, number::PAGES, number::APPENDS),
            runs: Runs::new(number::RUNS),
            retries: Retries::new(number::RETRIES),
            workers: Workers::new(number::WORKERS),
            remains: Table::new(number::REMAINS),
            members: Members::new(number::MEMBERS),
            builds: Table::new(number::BUILDS),
            launches: Launches::new(number::LAUNCHES),
            machines: Machines::new(number::MACHINES),
            pools: Pools::new(number::POOLS),
            spend: Spend::new(number::SPEND),
            control: Controls::new(number::CONTROL),
            profile: Profile::new(number::PROFILE),
            measures: Measures::new(number::MEASURES),
            decisions: Decisions::new(number::DECISIONS),
            policies: Policies::new(number::POLICIES),
            plant,
        }
    }

    /// What there is one of.
    pub fn meta(&self) -> &Meta {
        self.meta.get(&()).expect("always there")
    }

    fn meta_mut(&mut self) -> &mut Meta {
        self.meta.get_mut(&()).expect("always there")
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> Index {
        self.meta().applied
    }

    /// The cluster's clock.
    pub fn now(&self) -> Time {
        self.meta().now
    }

    /// Applies the entry at `index`, which must be the next one. `None` is raft's own empty entry.
    pub fn apply(&mut self, index: Index, term: u64, entry: Option<&Entry>) -> Applied {
        let meta = self.meta_mut();
        assert_eq!(index, meta.applied + 1, "entries are applied in order");
        assert!(term >= meta.applied_term);
        meta.applied = index;
        meta.applied_term = term;
        if entry.is_none() && self.plant.is(Plant::MetaUnnoted) {
            self.meta.forget_change(&());
        }
        let Some(entry) = entry else {
            return Applied {
                reply: Ok(Reply::Done),
                events: Vec::new(),
                matured: false,
                kept: Vec::new(),
                kept_gone: Vec::new(),
            };
        };
        let version = self.version();
        assert!(
            entry.version <= version && entry.command.since() <= entry.version,
            "an entry of version {} at {version}",
            entry.version
        );
        let meta = self.meta_mut();
        meta.now = meta.now.max(entry.at);
        let at = meta.now;
        let matured = self.mature(at);
        let (by, trace) = (&entry.by, entry.trace);
        let mut context = Context {
            index,
            at,
            by,
            trace,
            events: Vec::new(),
            kept: Vec::new(),
            kept_gone: Vec::new(),
        };
        let reply = self.dispatch(&mut context, &entry.command);
        self.jobs.settle_backlog();
        for worker in self.runs.take_emptied() {
            if let Some(worker) = self.workers.get_mut(worker) {
                worker.idle = at;
            }
        }
        self.decisions.note(index, at, &by.actor, &context.events);
        Applied {
            reply,
            events: context.events,
            matured,
            kept: context.kept,
            kept_gone: context.kept_gone,
        }
    }

    fn dispatch(&mut self, context: &mut Context, command: &Command) -> Result<Reply, Rejected> {
        match command {
            Command::Begin {
                cluster,
                cluster_version,
                settings,
                founders,
            } => self.begin(context, cluster, *cluster_version, settings, founders),
            Command::Open(open) => self.open(context, open),
            Command::Append { job, offset, photos } => self.append(context, *job, *offset, photos),
            Command::Close { job, total } => self.close(context, *job, *total),
            Command::CloseExpired { job } => self.close_expired(context, *job),
            Command::Cancel { job } => self.cancel(context, *job),
            Command::WorkerJoined(join) => self.worker_joined(context, join),
            Command::WorkerLost { worker } => self.worker_lost(context, *worker),
            Command::WorkerDrain { worker } => self.worker_drain(context, *worker),
            Command::WorkerLeft { worker } => self.worker_left(context, *worker),
            Command::Adopt(plan) => self.adopt(context, plan),
            Command::Ended { worker, reports } => self.ended(context, *worker, reports),
            Command::Count => self.count(context),
            Command::Settings(changes) => self.set_settings(context, changes),
            Command::AcceptClock { wall } => self.accept_clock(context, *wall),
            Command::Expire { keys, jobs } => self.expire(context, keys, jobs),
            Command::Environment(change) => self.allot(context, change),
            Command::MemberAdd { new, replaces } => self.member_add(context, new, *replaces),
            Command::MemberMet { server, incarnation } => self.member_met(context, *server, *incarnation),
            Command::MemberPromote { server } => self.member_promote(context, *server),
            Command::MemberRemove { server } => self.member_remove(context, *server),
            Command::MembersSettle => self.members_settle(context),
            Command::Overdue { appends } => self.overdue(context, appends),
            Command::Restore { cluster, founders } => self.restore(context, cluster, founders),
            Command::Upgrade { to } => self.upgrade(context, *to),
            Command::MemberBuild { server, build } => self.member_build(context, *server, build),
            Command::Scale(plan) => self.scale(context, plan),
            Command::LaunchSettled(settled) => self.launch_settled(context, settled),
            Command::Seen(sightings) => self.seen(context, sightings),
            Command::Prices(prices) => self.prices(context, prices),
            Command::NeverJoined(machines) => self.never_joined(context, machines),
            Command::Steer { scaling, check } => self.steer(context, scaling, *check),
            Command::Freeze { why } => self.freeze(context, why.as_ref()),
            Command::Thaw => self.thaw(context),
            Command::Ban { pool, until, why } => self.ban(context, pool, *until, why),
            Command::QuarterOver { begun, quarter, took } => {
                self.quarter_over(context, *begun, *quarter, took)
            }
            Command::Measured(speeds) => self.measured(context, speeds),
            Command::Billed(hours) => self.billed(context, hours),
            Command::Shadow { scaling } => self.shadow(context, scaling.as_deref()),
        }
    }

    /// A new leader's clock goes on from the last entry: what an earlier one of this server found due by a clock that was
    /// ahead of that is not due yet.
    pub fn unripen(&mut self) {
        for (env, job) in self.retries.unripen(self.now()) {
            self.requeue(env, job);
        }
    }

    /// Moves tasks whose wait is over into the queue. Of indexes only: nothing replicated changes.
    pub fn mature(&mut self, now: Time) -> bool {
        let jobs = self.retries.mature(now);
        let forgets = self.plant.is(Plant::QueueForgotten);
        for (env, job) in jobs.iter().filter(|_| !forgets) {
            self.requeue(*env, *job);
        }
        !jobs.is_empty()
    }

    fn requeue(&mut self, env: EnvId, job: JobId) {
        self.jobs
            .requeue(env, job, |from| self.retries.due_from(job, from));
    }

    fn begin(
        &mut self,
        context: &mut Context,
        cluster: &ClusterId,
        version: u16,
        settings: &Settings,
        founders: &[Founder],
    ) -> Result<Reply, Rejected> {
        let meta = self.meta_mut();
        if meta.cluster != ClusterId::default() {
            return Err(Rejected::AlreadyBegun);
        }
        meta.cluster = cluster.clone();
        meta.version = version;
        meta.settings = settings.clone();
        self.found(context, founders);
        context.tell(
            EnvId::default(),
            None,
            Fact::Began {
                cluster: cluster.clone(),
            },
        );
        Ok(Reply::Done)
    }

    fn count(&mut self, context: &mut Context) -> Result<Reply, Rejected> {
        let env = self.environment(context)?;
        let count = self.environments.count_probe(env);
        Ok(Reply::Counted {
            count,
            index: context.index,
        })
    }

    fn accept_clock(&mut self, context: &mut Context, wall: Time) -> Result<Reply, Rejected> {
        let meta = self.meta_mut();
        let by = wall.0.saturating_sub(meta.now.0);
        meta.now = meta.now.max(wall);
        context.tell(EnvId::default(), None, Fact::ClockAccepted { by });
        Ok(Reply::Clock { now: self.now() })
    }

    /// The caller's environment, made when it is new.
    fn environment(&mut self, context: &Context) -> Result<EnvId, Rejected> {
        let limit = crate::limits::ENVIRONMENTS_MAX as u64;
        let too_many = Rejected::TooMany {
            field: "environment",
            limit,
            what: "environments",
        };
        self.environments.named(&context.by.environment).ok_or(too_many)
    }

    /// A job of the caller's environment. Another's is as unknown as none.
    fn own_job(&self, context: &Context, job: JobId) -> Result<EnvId, Rejected> {
        let env = self.environments.find(&context.by.environment);
        env.filter(|env| self.jobs.get_in(*env, job).is_some())
            .ok_or(Rejected::NotFound {
                what: "job",
                id: job.0,
            })
    }
}
