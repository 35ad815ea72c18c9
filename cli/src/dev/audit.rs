//! The audit: opens the data directories of stopped servers and replays their log twice, by the servers' own `apply`
//! and by a model that knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use rebound_core::command::Command;
use rebound_core::event::Fact;
use rebound_core::kept::result_of;
use rebound_core::key::{kept_job, result_key};
use rebound_core::limits::DIGEST_EVERY;
use rebound_core::replica::{decode_entry, parse_log_entry};
use rebound_core::state::{Plant, State};
use rebound_core::table::Digest;
use rebound_core::types::{Index, JobId, Term};
use rebound_scheduler::offline::OfflineStore;
use rebound_sim::model::Model;
use serde::Serialize;

use super::burst::Acknowledged;
use crate::exit::Failure;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// Entries of the log.
    pub entries: u64,
    /// Results that the servers' apply recorded less those the model allows.
    pub recorded_twice: u64,
    /// Results the model allows.
    pub allowed: u64,
    /// Reports that must not count, by the model.
    pub refused: u64,
    /// Equal on all servers, and by the replay, at the last index and at every 1 000th.
    pub digests_equal: bool,
    /// Digests compared.
    pub digests_compared: u64,
    /// Acknowledged jobs or results that are missing or other than acknowledged, on any server.
    pub acknowledged_lost: u64,
    /// Acknowledged results compared with each server's disk.
    pub acknowledged_compared: u64,
    /// Terms that have entries, less one.
    pub leader_changes: u64,
    /// Sessions ended by silence.
    pub workers_lost: u64,
    /// What is wrong, the first few.
    pub findings: Vec<String>,
}

/// Findings that are told.
const FINDINGS_MAX: usize = 20;

impl Audit {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.acknowledged_lost == 0
            && self.recorded_twice == 0
            && self.digests_equal
            && self.findings.is_empty()
    }

    /// What people are told of it, by name.
    pub fn facts(&self) -> [(&'static str, String); 2] {
        [
            (
                "recorded twice, acknowledged lost",
                format!("{}, {}", self.recorded_twice, self.acknowledged_lost),
            ),
            (
                "audited",
                format!(
                    "{} entries, {} digests, {} stored results",
                    self.entries, self.digests_compared, self.acknowledged_compared
                ),
            ),
        ]
    }

    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }
}

/// Audits the directories of one cluster.
pub fn audit(dirs: &[PathBuf], acked: &[Acknowledged], plant: &str) -> Result<Audit, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("the audit: {error}"));
    let mut stores = Vec::new();
    for dir in dirs {
        stores.push(OfflineStore::open(dir).map_err(|error| failed(&error))?);
    }
    let mut audit = Audit::default();
    let last = stores
        .iter()
        .map(OfflineStore::applied)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed(&e))?;
    let until = last.iter().copied().max().unwrap_or(0);
    let log = common_log(&stores, until, &mut audit).map_err(|error| failed(&error))?;
    let plant = Plant::named(plant).unwrap_or_default();
    let Replayed {
        state,
        noted,
        deleted,
    } = replay(&log, &last, plant, &mut audit)?;
    compare_digests(&stores, &noted, &mut audit).map_err(|error| failed(&error))?;
    let acked: Vec<&Acknowledged> = acked
        .iter()
        .filter(|one| !deleted.contains(&JobId(one.job)))
        .collect();
    compare_acknowledged(&stores, &acked, &state, &mut audit).map_err(|error| failed(&error))?;
    compare_deleted(&stores, &deleted, &mut audit).map_err(|error| failed(&error))?;
    Ok(audit)
}

type Log = BTreeMap<Index, (Term, Bytes)>;

/// What the log comes to.
struct Replayed {
    state: State,
    /// Digests at the last indexes of the servers, and at every 1 000th.
    noted: BTreeMap<Index, Digest>,
    /// Jobs whose retention was over.
    deleted: BTreeSet<JobId>,
}

/// The log of all servers together: what two of them have must be the same.
fn common_log(
    stores: &[OfflineStore],
    until: Index,
    audit: &mut Audit,
) -> Result<Log, Box<dyn std::error::Error>> {
    let mut log = Log::new();
    for store in stores {
        for record in store.log_entries() {
            let (index, bytes) = record?;
            if index > until {
                break;
            }
            let (named, term, data) = parse_log_entry(&bytes)?;
            let entry = log.entry(index).or_insert_with(|| (term, data.clone()));
            if named != index || *entry != (term, data) {
                audit.digests_equal = false;
                audit.find(format!("entry {index} differs between servers"));
            }
        }
    }
    match log.len() as u64 == until && log.keys().next_back().copied().unwrap_or(0) == until {
        true => Ok(log),
        false => Err(format!("{} entries found up to {until}: some are on no disk", log.len()).into()),
    }
}

/// Replays the log by `apply` and by the model, and compares what was recorded with what is allowed.
fn replay(log: &Log, last: &[Index], plant: Plant, audit: &mut Audit) -> Result<Replayed, Failure> {
    let (mut state, mut model) = (State::new(plant), Model::default());
    let mut noted = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    let mut recorded = Vec::new();
    let mut terms = BTreeSet::new();
    for (index, (term, data)) in log {
        let entry =
            decode_entry(data).map_err(|why| Failure::failed(format!("the audit: entry {index}: {why}")))?;
        terms.insert(*term);
        let applied = state.apply(*index, *term, entry.as_ref());
        for event in applied.events {
            let Some(job) = event.job else { continue };
            match event.fact {
                Fact::Recorded {
                    first, count, given, ..
                } => recorded.extend((first..first + count).map(|task| (job, task, given, *index))),
                Fact::JobDeleted { .. } => {
                    deleted.insert(job);
                }
                _ => {}
            }
        }
        if let Some(entry) = entry {
            audit.workers_lost += u64::from(matches!(entry.command, Command::WorkerLost { .. }));
            model.apply(*index, &entry);
        }
        if index % DIGEST_EVERY == 0 || last.contains(index) {
            state.settle();
            noted.insert(*index, state.digest());
        }
    }
    state.settle();
    audit.entries = log.len() as u64;
    audit.leader_changes = terms.len().saturating_sub(1) as u64;
    audit.allowed = model.allowed.len() as u64;
    audit.refused = model.refused;
    let mut allowed: BTreeMap<_, u64> = BTreeMap::new();
    model
        .allowed
        .iter()
        .for_each(|one| *allowed.entry(*one).or_default() += 1);
    for one in recorded {
        match allowed.get_mut(&one).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => {
                let (job, task, given, index) = one;
                audit.recorded_twice += 1;
                audit.find(format!(
                    "entry {index} recorded a result of {job}/{task} by {given}, which the model refuses"
                ));
            }
        }
    }
    for ((job, task, given, index), left) in allowed {
        if left > 0 {
            audit.find(format!(
                "entry {index} should have recorded {job}/{task} by {given}"
            ));
        }
    }
    Ok(Replayed {
        state,
        noted,
        deleted,
    })
}

fn compare_digests(
    stores: &[OfflineStore],
    noted: &BTreeMap<Index, Digest>,
    audit: &mut Audit,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut equal = audit.findings.iter().all(|finding| !finding.contains("differ"));
    for (at, store) in stores.iter().enumerate() {
        let own = store.state()?;
        audit.digests_compared += 1;
        if noted.get(&own.applied()) != Some(&own.digest()) {
            equal = false;
            audit.find(format!(
                "server {}: the digest at {} is another than the replay's",
                at + 1,
                own.applied()
            ));
        }
        for (index, digest) in store.digests()? {
            audit.digests_compared += 1;
            if noted.get(&index).is_some_and(|replayed| *replayed != digest) {
                equal = false;
                audit.find(format!(
                    "server {}: the digest at {index} is another than the replay's",
                    at + 1
                ));
            }
        }
    }
    audit.digests_equal = equal;
    Ok(())
}

/// Each job and each result that was acknowledged is on each disk, byte for byte.
fn compare_acknowledged(
    stores: &[OfflineStore],
    acked: &[&Acknowledged],
    state: &State,
    audit: &mut Audit,
) -> Result<(), Box<dyn std::error::Error>> {
    for one in acked {
        let Some((env, job)) = state.jobs.get(JobId(one.job)) else {
            audit.acknowledged_lost += 1;
            audit.find(format!("job {} was acknowledged and is not there", one.job));
            continue;
        };
        if job.tasks != one.photos.len() as u64 {
            audit.acknowledged_lost += 1;
            audit.find(format!(
                "job {} was acknowledged with {} photos and has {}",
                one.job,
                one.photos.len(),
                job.tasks
            ));
        }
        if one.results.len() as u64 != job.succeeded + job.failed {
            audit.acknowledged_lost += 1;
            let (read, ended) = (one.results.len(), job.succeeded + job.failed);
            audit.find(format!(
                "{read} results of job {} were read back, {ended} were recorded",
                one.job
            ));
        }
        for (at, store) in stores.iter().enumerate() {
            for result in &one.results {
                audit.acknowledged_compared += 1;
                let job = JobId(one.job);
                let stored = store.kept_at_or_before(&result_key(env, job, result.task))?;
                let record =
                    stored.and_then(|(key, value)| result_of(&key, &value, env, job, result.task).ok()?);
                let same = record
                    .is_some_and(|record| record.output == result.output && record.given.0 == result.given);
                if !same {
                    audit.acknowledged_lost += 1;
                    audit.find(format!(
                        "server {}: the result of {}/{} is not as acknowledged",
                        at + 1,
                        one.job,
                        result.task
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Of a job whose retention was over nothing is on any disk.
fn compare_deleted(
    stores: &[OfflineStore],
    deleted: &BTreeSet<JobId>,
    audit: &mut Audit,
) -> Result<(), Box<dyn std::error::Error>> {
    if deleted.is_empty() {
        return Ok(());
    }
    for (at, store) in stores.iter().enumerate() {
        let state = store.state()?;
        for record in store.kept_iter(&[]) {
            let job = kept_job(&record?.0).filter(|job| deleted.contains(job));
            // A server that is behind still has the job itself.
            if let Some(job) = job.filter(|job| state.jobs.get(*job).is_none()) {
                audit.find(format!(
                    "server {}: a record of deleted job {job} is still there",
                    at + 1
                ));
                break;
            }
        }
    }
    Ok(())
}
