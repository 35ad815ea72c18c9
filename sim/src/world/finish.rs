//! The end of a world: has everything converged, and does everybody agree on what happened?

use std::collections::BTreeSet;

use rebound_core::kept::result_of;
use rebound_core::key::result_key;
use rebound_core::replica::{changes_members, decode_entry, parse_log_entry};
use rebound_core::state::environments::{Allotment, Counts};
use rebound_core::state::jobs::Phase;
use rebound_core::state::settings::Settings;
use rebound_core::types::*;

use super::{Counters, Happening, World};
use crate::agents::answer;
use crate::check::records;
use crate::check::versions::Versions;
use crate::faults::Kind;
use crate::model::Model;

/// A minute, in µs.
const MINUTE: u64 = 60 * SECOND;
/// What a photo takes of a slot, on average and generously, in µs.
const WORK: u64 = 250 * MILLISECOND;

/// What a world came to.
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What the seed brought, in words.
    pub faults: String,
    /// Kinds of faults it brought.
    pub kinds: BTreeSet<Kind>,
    /// Hash of everything that happened, in order.
    pub trace: u64,
    /// Virtual time, in µs.
    pub virtual_us: u64,
    /// Rare things.
    pub counters: Counters,
    /// The type of record whose own check failed, if that ended it.
    pub tripped: Option<&'static str>,
    /// Broken invariants: none, in a good run.
    pub violations: Vec<String>,
}

impl World {
    /// Once a second after the storm: is everything done?
    pub(super) fn look(&mut self) {
        if self.converged() {
            self.ended = true;
        } else if self.now
            > self.faults.load.storm + self.converge_within() + self.left_open() + self.buying_takes()
        {
            let (why, within) = (self.unfinished(), (self.now - self.faults.load.storm) / SECOND);
            self.checks.violated(format!(
                "J7: not converged {within} s after the faults stopped: {why}"
            ));
        } else {
            self.after(SECOND, Happening::Look);
        }
    }

    /// J7's bound, in µs: a lease and the grace of a failover, every wait between attempts, the work over what is
    /// there or may be used to do it, jobs that nobody closes, as many at once as there may be, and a minute.
    fn converge_within(&self) -> u64 {
        let settings = self.faults.settings();
        let waits: u64 = (1..=settings.max_attempts as u32)
            .map(|attempt| settings.backoff(attempt))
            .sum();
        let photos: u64 = self.clients.iter().map(|client| client.photos).sum();
        let slots = self.faults.load.agents * u64::from(self.faults.load.slots);
        // What may be given may all be with one worker, which has so many photos a slot.
        let credit = self.servers[0].config.policy.credit_per_slot;
        let wants = || self.faults.load.tenants.iter().map(|tenant| tenant.wants);
        let least = |own: fn(&Allotment) -> u64, setting: u64| {
            let or = |one: Allotment| if own(&one) == 0 { setting } else { own(&one) };
            wants().map(or).min().unwrap_or(setting)
        };
        let given_max = least(|one| one.given, settings.given_max);
        let slots = slots.min(given_max / u64::from(credit)).max(1);
        let turns = self.clients.len() as u64 / least(|one| one.jobs, settings.live_jobs_max) + 1;
        let turns = turns.max(photos / settings.photos_waiting_max + 1);
        // A bad photo may hang in each of its attempts; few do.
        let work = photos * WORK / slots;
        let abandoned = if settings.open_for <= MINUTE {
            settings.open_for
        } else {
            0
        };
        settings.lease + settings.grace + work + turns * (waits + abandoned + MINUTE)
    }

    /// How much longer a job may be open, in µs. A client may give up before it knows whether there is its job, and the
    /// job may have been opened before the drawn settings were: then it closes by the time that a cluster begins with.
    fn left_open(&self) -> u64 {
        let states = self.servers.iter().filter_map(|server| server.replica.as_ref());
        let waits = states.map(|replica| replica.state()).any(|state| {
            let mut open = state.jobs.to_close(Time(u64::MAX));
            open.any(|id| {
                state
                    .jobs
                    .get(id)
                    .is_some_and(|(_, job)| job.close_at > state.now())
            })
        });
        match waits && self.clients_done() {
            true => Settings::default().open_for,
            false => 0,
        }
    }

    fn converged(&self) -> bool {
        self.unfinished().is_empty()
    }

    fn unfinished(&self) -> String {
        let mut why = Vec::new();
        if !self.clients_done() {
            why.push("clients still ask".to_owned());
        }
        let spooled: usize = self.agents.iter().map(|agent| agent.spool.len()).sum();
        if spooled > 0 {
            why.push(format!("{spooled} results in spools"));
        }
        if let Some(what) = self.unbought() {
            why.push(what);
        }
        if let Some(what) = self.members_unsettled() {
            why.push(what);
        }
        let states: Vec<_> = self
            .servers
            .iter()
            .filter_map(|server| Some(server.replica.as_ref()?.state()))
            .collect();
        let applied: BTreeSet<Index> = states.iter().map(|state| state.applied()).collect();
        if states.len() != self.present().len() || applied.len() != 1 {
            why.push(format!("{} servers up, applied {applied:?}", states.len()));
        }
        for state in &states {
            let counts = state
                .environments
                .iter()
                .fold((0, 0), |(waiting, given), (_, environment)| {
                    (
                        waiting + environment.counts.waiting,
                        given + environment.counts.given,
                    )
                });
            if counts != (0, 0) || state.jobs.open_count() > 0 {
                let open: Vec<JobId> = state.jobs.to_close(Time(u64::MAX)).collect();
                why.push(format!(
                    "{} tasks wait, {} are given, jobs {open:?} are open",
                    counts.0, counts.1
                ));
                break;
            }
        }
        why.join("; ")
    }

    pub(super) fn finish(mut self) -> Outcome {
        if self.checks.violations.is_empty() {
            self.check_acknowledged();
            self.check_quorums();
            self.check_backup();
            self.check_model();
            self.check_histories();
        }
        let cancels = self.checks.cancels_with_runs;
        *self.counters.entry("cancels with runs out").or_default() += cancels;
        self.count_cloud();
        self.count_books();
        Outcome {
            seed: self.seed,
            faults: self.faults.to_string(),
            kinds: self.faults.kinds.keys().copied().collect(),
            trace: self.hash,
            virtual_us: self.now,
            counters: self.counters,
            tripped: None,
            violations: self.checks.violations,
        }
    }

    /// C4: majorities share a server, whoever comes and goes.
    fn check_quorums(&mut self) {
        let changes = |at: Index| self.checks.entries.get(&at).is_some_and(changes_members);
        if let Some(broken) = self.checks.quorums.broken(changes) {
            self.checks.violated(broken);
        }
    }

    /// C1: every acknowledged photo is there, on every server, with its one result.
    fn check_acknowledged(&mut self) {
        let mut violations = Vec::new();
        for server in self.servers.iter().filter(|server| server.is_present()) {
            let (id, image) = (server.id(), server.disk.image());
            let state = server.replica.as_ref().expect("all are up").state();
            records::check(state);
            for client in self.clients.iter().filter(|client| client.job.is_some()) {
                let job = client.job.expect("filtered");
                let Some((env, record)) = state.jobs.get(job) else {
                    if !self.checks.deleted.contains(&job) {
                        violations.push(format!(
                            "C1: job {job} was acknowledged and is not on server {id}"
                        ));
                    }
                    continue;
                };
                if record.tasks < client.acked
                    || (client.closed && !client.cancels && record.phase != Phase::Done)
                {
                    let (tasks, phase) = (record.tasks, record.phase);
                    violations.push(format!(
                        "C1: job {job} has {tasks} photos and is {phase:?} on server {id}"
                    ));
                }
                for task in (0..client.acked).filter(|_| !client.cancels) {
                    let stored = image.at_or_before(&result_key(env, job, task));
                    let right = stored
                        .and_then(|(key, value)| result_of(key, value, env, job, task).ok()?)
                        .is_some_and(|result| {
                            result.cause.is_some() || result.output == answer(&client.uri(task))
                        });
                    if !right {
                        violations.push(format!(
                            "C1: result of {job}/{task} is missing or wrong on server {id}"
                        ));
                    }
                }
            }
        }
        violations.truncate(20);
        self.checks.violations.extend(violations);
    }

    /// J6: the books of each environment, as they were at an index, are what the log makes of them.
    fn check_books(&mut self, index: Index, model: &Model) {
        let Some(booked) = self.checks.booked.remove(&index) else {
            return;
        };
        let busy = |(_, counts): &&(String, Counts)| counts.submitted > 0;
        if booked.iter().filter(busy).count() > 1 {
            *self
                .counters
                .entry("books of several environments recounted")
                .or_default() += 1;
        }
        for wrong in booked
            .iter()
            .filter_map(|(name, counts)| model.misbooked(name, counts))
        {
            self.checks.violated(format!("J6: at {index} {wrong}"));
        }
    }

    /// C5: what was told of a job as of an index is what the log up to there makes of it.
    fn check_told(&mut self, index: Index, model: &Model) {
        for (job, seen) in self.checks.fresh.told.remove(&index).unwrap_or_default() {
            let right = model.seen(job);
            if right != Some(seen) {
                let violation = format!("C5: job {job} was told to be {seen:?} at {index}; it was {right:?}");
                self.checks.violated(violation);
            }
            *self
                .counters
                .entry("stale reads compared with the log")
                .or_default() += 1;
        }
    }

    /// J2, independently: the committed log, read by the model, allows exactly what was recorded.
    fn check_model(&mut self) {
        let mut model = Model::default();
        let mut log = Versions::default();
        let entries = std::mem::take(&mut self.checks.entries);
        // One that is gone may have entries of its own that never came to be.
        for server in self.servers.iter().filter(|server| server.is_present()) {
            let image = server.disk.image();
            let other = entries
                .iter()
                .find(|(index, bytes)| image.entry(**index).is_some_and(|here| here != *bytes));
            if let Some((index, _)) = other {
                let id = server.id();
                self.checks.violated(format!(
                    "C4: committed entry {index} was overwritten on server {id}"
                ));
            }
        }
        for (at, (index, bytes)) in entries.iter().enumerate() {
            if *index != at as u64 + 1 {
                self.checks
                    .violations
                    .push(format!("C1: entry {} is on no disk", at + 1));
                return;
            }
            let (_, _, data) = parse_log_entry(bytes).expect("readable");
            if let Some(entry) = decode_entry(&data).expect("readable") {
                if let Err(why) = log.take(&entry) {
                    self.checks.violated(format!("O1: entry {index}: {why}"));
                }
                model.apply(*index, &entry);
            }
            self.check_books(*index, &model);
            self.check_told(*index, &model);
        }
        let allowed: BTreeSet<_> = model.allowed.iter().copied().collect();
        let recorded: BTreeSet<_> = self.checks.recorded().collect();
        for (job, task, given, index) in recorded.symmetric_difference(&allowed).take(5) {
            let what = if allowed.contains(&(*job, *task, *given, *index)) {
                "only allowed"
            } else {
                "not allowed"
            };
            let violation =
                format!("J2: the outcome of {job}/{task} by {given} at {index} is {what} by the model");
            self.checks.violations.push(violation);
        }
    }
}
