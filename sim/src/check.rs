//! The invariants that are checked as a run goes, by their ids: C2 same index same state, C3 persist before tell, C4 one
//! leader a term, J2 one recorded outcome, J3 one holder a task, J4 failover is no failure, J5 bounded attempts, Q1 quotas,
//! Q2 the cluster's limits.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::event::{Cause, Event, Fact};
use rebound_core::io::Status;
use rebound_core::limits::REGIVES_MAX;
use rebound_core::replica::{Promise, parse_hard_state, parse_promise};
use rebound_core::state::State;
use rebound_core::state::environments::{Allotment, Counts, Environment};
use rebound_core::state::settings::Settings;
use rebound_core::table::Digest;
use rebound_core::types::*;

use crate::disk::{Disk, Image};

pub mod fresh;
pub mod leases;
pub mod quorums;
pub mod records;
pub mod versions;

use fresh::Fresh;
use leases::Leases;
use quorums::Quorums;

/// The cluster's clock may be faster than the world's by a twentieth of drift and a twentieth of slew, and not more.
const FASTEST: (u64, u64) = (111, 100);

/// What was seen so far, of all replicas together.
pub struct Checks {
    settings: Settings,
    /// The most that each environment may ever have had, where the operator said so.
    most: BTreeMap<String, Allotment>,
    /// The books of all environments as they were at some indices.
    pub booked: BTreeMap<Index, Vec<(String, Counts)>>,
    leaders: BTreeMap<Term, ReplicaId>,
    votes: BTreeMap<(Term, ReplicaId), ReplicaId>,
    digests: BTreeMap<Index, Digest>,
    recorded: BTreeMap<(JobId, u64), (Index, Given)>,
    holders: BTreeMap<(JobId, u64), (Index, Given, WorkerId)>,
    /// How often a task was given.
    given: BTreeMap<(JobId, u64), u32>,
    /// Suspect photos, and when each may be with another worker than the one that was lost with it.
    suspects: BTreeMap<(JobId, u64), Time>,
    /// Who was silent, and for how long.
    pub leases: Leases,
    /// Who counted when.
    pub quorums: Quorums,
    /// What was told of states that may be old.
    pub fresh: Fresh,
    /// When jobs ended, by the cluster's clock.
    ended: BTreeMap<JobId, Time>,
    /// Jobs that were deleted, all in their time.
    pub deleted: BTreeSet<JobId>,
    /// Every committed entry, from the first server that applied it.
    pub entries: BTreeMap<Index, bytes::Bytes>,
    /// The highest index that anybody took as committed.
    pub committed: Index,
    /// Cancels that took tasks from workers.
    pub cancels_with_runs: u64,
    /// What the cluster's clock said when it was first seen.
    clock: Option<Time>,
    /// Facts are taken once: replicas apply the same entries.
    facts_to: Index,
    /// What went wrong.
    pub violations: Vec<String>,
}

/// Most violations that are kept.
const VIOLATIONS_KEPT: usize = 20;
/// No task is given more often than this, whatever the settings: attempts and losses at their extremes, and taken back
/// as often as may be.
const GIVEN_MAX: u32 = 10 + 11 + 1 + REGIVES_MAX;

impl Checks {
    /// Nothing was seen yet of a cluster with these settings.
    pub fn new(settings: Settings) -> Checks {
        Checks {
            leases: Leases::new(settings.lease, settings.grace),
            settings,
            most: BTreeMap::new(),
            booked: BTreeMap::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            digests: BTreeMap::new(),
            recorded: BTreeMap::new(),
            holders: BTreeMap::new(),
            given: BTreeMap::new(),
            suspects: BTreeMap::new(),
            quorums: Quorums::default(),
            fresh: Fresh::default(),
            ended: BTreeMap::new(),
            deleted: BTreeSet::new(),
            entries: BTreeMap::new(),
            committed: 0,
            cancels_with_runs: 0,
            clock: None,
            facts_to: 0,
            violations: Vec::new(),
        }
    }

    /// Something is wrong.
    pub fn violated(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(what);
        }
    }

    /// After each call of a replica, at a moment of the world.
    pub fn see(&mut self, id: ReplicaId, at: u64, status: &Status, events: &[Event]) {
        if status.role == "leader" {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            if leader != id {
                self.violated(format!(
                    "C4: servers {leader} and {id} both lead term {}",
                    status.term
                ));
            }
        }
        self.same_state(id, status.applied, status.digest);
        self.see_clock(at, status.now);
        for event in events {
            self.fact(at, event);
        }
        self.facts_to = self.facts_to.max(events.last().map_or(0, |event| event.index));
    }

    /// C2: who has applied the same has the same state.
    pub fn same_state(&mut self, id: ReplicaId, index: Index, digest: Digest) {
        if self.differs(index, digest) {
            self.violated(format!(
                "C2: at index {index} server {id} has another state than one before it"
            ));
        }
        self.digests.entry(index).or_insert(digest);
    }

    /// True when somebody had another state at this index.
    pub fn differs(&self, index: Index, digest: Digest) -> bool {
        self.digests.get(&index).is_some_and(|seen| *seen != digest)
    }

    /// What the settings give an environment where nobody said anything else.
    fn plain(&self) -> Allotment {
        Allotment {
            weight: 1,
            waiting: self.settings.waiting_max,
            jobs: self.settings.live_jobs_max,
            given: self.settings.given_max,
        }
    }

    /// An operator may have been heard to give an environment so much; 0: what the settings say.
    pub fn may_have(&mut self, name: &str, own: Allotment) {
        let plain = self.plain();
        let most = self.most.entry(name.to_owned()).or_insert(plain);
        let or = |own: u64, plain: u64| if own == 0 { plain } else { own };
        most.waiting = most.waiting.max(or(own.waiting, plain.waiting));
        most.jobs = most.jobs.max(or(own.jobs, plain.jobs));
        most.given = most.given.max(or(own.given, plain.given));
    }

    /// Keeps the books as they are, to be recounted from the log at the end.
    pub fn note_books(&mut self, state: &State) {
        let books = || {
            state
                .environments
                .iter()
                .map(|(_, one)| (one.name.clone(), one.counts))
        };
        self.booked
            .entry(state.applied())
            .or_insert_with(|| books().collect());
    }

    /// Q1: no environment has more than it may, or might at some time: the model of the log knows when. What goes back
    /// into the queue may be there beside what was let in.
    pub fn books(&mut self, environment: &Environment) {
        let counts = environment.counts;
        let most = self.most.get(&environment.name).copied();
        let most = most.unwrap_or_else(|| self.plain());
        let waiting_max = most.waiting.saturating_add(most.given);
        let over = [
            ("unended jobs", environment.jobs, most.jobs),
            ("photos with workers", counts.given, most.given),
            ("photos in the queue", counts.waiting, waiting_max),
        ];
        for (what, has, most) in over.into_iter().filter(|(_, has, most)| has > most) {
            self.violated(format!(
                "Q1: {} has {has} {what}; it may have {most}",
                environment.name
            ));
        }
    }

    /// Q2: no more waits in the whole cluster than it takes; what goes back into the queue may be there beside it.
    pub fn cluster(&mut self, waiting: u64, bytes: u64) {
        let most = &self.settings;
        let given_max = self.most.values().map(|one| one.given).sum::<u64>();
        let waiting_max = most
            .photos_waiting_max
            .saturating_add(given_max.max(most.given_max));
        if waiting > waiting_max || bytes > most.open_bytes_max {
            self.violated(format!(
                "Q2: {waiting} photos wait in the cluster, and {bytes} bytes of open jobs are kept"
            ));
        }
    }

    /// The cluster's clock does not run away, whatever wall clocks say. The first stamp that is seen was made at some time
    /// before, since the world began: how long it was on its way is not known.
    fn see_clock(&mut self, at: u64, now: Time) {
        if now == Time(0) {
            return;
        }
        let first = *self.clock.get_or_insert(now);
        let most = at * FASTEST.0 / FASTEST.1 + SECOND;
        let passed = now.0.saturating_sub(first.0);
        if passed > most {
            self.violated(format!(
                "clock: the cluster's went {} ms in {} ms",
                passed / MILLISECOND,
                at / MILLISECOND
            ));
        }
    }

    /// Takes the entries that were not applied anywhere before: they are on this disk, and nowhere cut yet.
    pub fn log(&mut self, disk: &Disk, status: &Status) {
        let mut next = self.entries.len() as u64 + 1;
        while next <= status.applied {
            let Some(bytes) = disk.image().as_written(next) else {
                return;
            };
            self.entries.insert(next, bytes);
            next += 1;
        }
    }

    /// What a server says to a peer rests on what is durable, and it votes once a term.
    pub fn promise(&mut self, from: ReplicaId, durable: &Image, message: &[u8]) {
        let Some(promise) = parse_promise(message) else {
            return;
        };
        let hard = durable
            .hard_state()
            .and_then(|bytes| parse_hard_state(bytes).ok());
        match promise {
            // What it had in an earlier term another leader may have cut off since, in the same order even: as if the
            // message had been long on its way. Any vote in the later term was given with those entries in mind.
            Promise::Has { term, .. } if hard.is_some_and(|(at, ..)| at > term) => {}
            Promise::Has { index, .. } if durable.last_index() < index => {
                let last = durable.last_index();
                self.violated(format!(
                    "C3: server {from} says that it has entry {index}; its disk has up to {last}"
                ));
            }
            Promise::Has { .. } => {}
            Promise::Vote { term, to } => {
                let noted = hard.is_some_and(|(at, vote, _)| at > term || at == term && vote == to.0);
                if !noted {
                    self.violated(format!(
                        "C3: server {from} votes for {to} in term {term}; its disk does not say so"
                    ));
                }
                let before = *self.votes.entry((term, from)).or_insert(to);
                if before != to {
                    self.violated(format!(
                        "C4: server {from} votes for {before} and {to} in term {term}"
                    ));
                }
            }
        }
    }

    /// True when a server has led some term.
    pub fn has_led(&self, id: ReplicaId) -> bool {
        self.leaders.values().any(|leader| *leader == id)
    }

    /// True when another server has led a later term than any of this one's.
    pub fn is_followed(&self, id: ReplicaId) -> bool {
        self.leaders.values().next_back().is_some_and(|last| *last != id)
    }

    /// A worker speaks to a leader that is ready.
    pub fn heard(&mut self, worker: WorkerId, at: u64) {
        self.leases.heard(worker, at);
    }

    fn fact(&mut self, at: u64, event: &Event) {
        let index = event.index;
        if let Fact::WorkerLost { worker, why, .. } = &event.fact
            && index > self.facts_to
            && why.contains("silent")
            && let Some(spoke) = self.leases.was_never_silent(*worker, at)
        {
            self.violated(format!(
                "J4: worker {worker} was lost at {index} though it spoke {} ms before and was never silent for a lease",
                spoke / MILLISECOND
            ));
        }
        if let Fact::WorkerJoined { worker, .. } = event.fact
            && index > self.facts_to
        {
            self.leases.joined(worker, at);
        }
        let Some(job) = event.job else { return };
        match event.fact {
            Fact::Recorded {
                first, count, given, ..
            } => (first..first + count).for_each(|task| self.recorded_now(index, job, task, given)),
            Fact::Dropped { first, count } => {
                (first..first + count).for_each(|task| self.recorded_now(index, job, task, Given(index)));
            }
            _ if index <= self.facts_to => {}
            Fact::JobDone { .. } => drop(self.ended.insert(job, event.at)),
            Fact::JobDeleted { .. } => self.deleted_now(index, event.at, job),
            Fact::RunGiven {
                worker,
                first,
                count,
                given,
            } => {
                for task in first..first + count {
                    self.alone(event, job, task);
                    self.given(index, job, task, given, worker);
                }
            }
            Fact::RunRegiven {
                from,
                to,
                first,
                count,
                was,
                given,
            } => {
                for task in first..first + count {
                    if self.suspects.contains_key(&(job, task)) {
                        self.violated(format!(
                            "J5: suspect {job}/{task} was taken back at {index} from {from}, which may be at it"
                        ));
                    }
                    self.taken_back(index, (job, task), (was, from));
                    self.given(index, job, task, given, to);
                }
            }
            _ => {}
        }
        if index > self.facts_to {
            self.released(event, job);
        }
    }

    fn recorded_now(&mut self, index: Index, job: JobId, task: u64, given: Given) {
        let first = *self.recorded.entry((job, task)).or_insert((index, given));
        if first != (index, given) {
            let (before, _) = first;
            self.violated(format!(
                "J2: task {job}/{task} was recorded at {before} and again at {index}"
            ));
        }
    }

    /// C1: a job is there until its retention is over.
    fn deleted_now(&mut self, index: Index, at: Time, job: JobId) {
        let due = self
            .ended
            .get(&job)
            .map(|ended| ended.0 + self.settings.retention);
        if due.is_none_or(|due| at.0 < due) {
            self.violated(format!("C1: job {job} was deleted at {index}, before its time"));
        }
        self.deleted.insert(job);
    }

    fn given(&mut self, index: Index, job: JobId, task: u64, given: Given, worker: WorkerId) {
        if let Some((at, _, holder)) = self.holders.insert((job, task), (index, given, worker)) {
            self.violated(format!(
                "J3: task {job}/{task} was given to {worker} at {index} while {holder} held it since {at}"
            ));
        }
        if let Some((at, _)) = self.recorded.get(&(job, task)).copied() {
            self.violated(format!(
                "J3: task {job}/{task} was given at {index} though it was recorded at {at}"
            ));
        }
        let times = self.given.entry((job, task)).or_default();
        *times += 1;
        if *times > GIVEN_MAX {
            self.violated(format!(
                "J5: task {job}/{task} was given {GIVEN_MAX} times and again at {index}"
            ));
        }
    }

    /// J5: a suspect whose worker was lost is with nobody else before that one must have ended it.
    fn alone(&mut self, event: &Event, job: JobId, task: u64) {
        let until = self.suspects.get(&(job, task)).copied().unwrap_or_default();
        if event.at < until {
            let early = (until.0 - event.at.0) / MILLISECOND;
            self.violated(format!(
                "J5: suspect {job}/{task} was given at {}, {early} ms before its lost worker must have ended it",
                event.index
            ));
        }
    }

    /// A photo whose recogniser's process ended with it is suspect; its worker may be at it for a while after it was lost.
    fn suspected(&mut self, at: Time, task: (JobId, u64), cause: Cause) {
        if cause.is_death() {
            self.suspects.insert(task, Time(0));
        } else if cause == Cause::WorkerLost
            && let Some(until) = self.suspects.get_mut(&task)
        {
            *until = Time(at.0 + self.settings.suspect_wait);
        }
    }

    /// J3: what is taken back was with the worker that it is taken from, by that fence.
    fn taken_back(&mut self, index: Index, task: (JobId, u64), (was, from): (Given, WorkerId)) {
        let holder = self.holders.remove(&task);
        if holder.is_none_or(|(_, given, worker)| (given, worker) != (was, from)) {
            let (job, task) = task;
            self.violated(format!(
                "J3: task {job}/{task} was taken back from {from} at {index}; {holder:?} held it"
            ));
        }
    }

    fn released(&mut self, event: &Event, job: JobId) {
        match event.fact {
            Fact::Recorded { first, count, .. } => {
                for task in first..first + count {
                    self.holders.remove(&(job, task));
                }
            }
            Fact::Requeued { task, cause, .. } => {
                self.suspected(event.at, (job, task), cause);
                self.holders.remove(&(job, task));
            }
            Fact::JobCancelled { .. } => {
                self.ended.insert(job, event.at);
                let before = self.holders.len();
                self.holders.retain(|(held, _), _| *held != job);
                self.cancels_with_runs += u64::from(self.holders.len() < before);
            }
            _ => {}
        }
    }

    /// Some task that another worker than `worker` holds, with its fence.
    pub fn held_by_other(&self, worker: WorkerId, which: u64) -> Option<(JobId, u64, Given)> {
        let others = || {
            self.holders
                .iter()
                .filter(|(_, (_, _, holder))| *holder != worker)
        };
        let count = others().count() as u64;
        let at = which.checked_rem(count)? as usize;
        others()
            .nth(at)
            .map(|((job, task), (_, given, _))| (*job, *task, *given))
    }

    /// By which fence a task's outcome was recorded.
    pub fn recorded_by(&self, job: JobId, task: u64) -> Option<Given> {
        self.recorded.get(&(job, task)).map(|(_, given)| *given)
    }

    /// How many tasks have their outcome.
    pub fn recorded_count(&self) -> usize {
        self.recorded.len()
    }

    /// The index at which a task's outcome was recorded.
    pub fn recorded(&self) -> impl Iterator<Item = (JobId, u64, Given, Index)> + '_ {
        self.recorded
            .iter()
            .map(|((job, task), (index, given))| (*job, *task, *given, *index))
    }
}
