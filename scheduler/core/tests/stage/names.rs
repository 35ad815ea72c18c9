//! Names for what the core numbers: scripts speak of job `a`, worker `w1` and fence `g1`, so that another entry in
//! the log does not change every line.

use std::collections::BTreeMap;

use rebound_core::event::{Event, Fact};
use rebound_core::types::{Given, JobId, WorkerId};

/// All names given so far.
#[derive(Default)]
pub struct Names {
    jobs: BTreeMap<JobId, String>,
    workers: BTreeMap<WorkerId, String>,
    fences: BTreeMap<Given, String>,
}

impl Names {
    /// Names what an event brings.
    pub fn learn(&mut self, event: &Event) {
        match &event.fact {
            Fact::JobOpened { name } => {
                let id = event.job.expect("of a job");
                let name = unused(name, self.jobs.values());
                self.jobs.insert(id, name);
            }
            Fact::WorkerJoined { worker, name } => {
                let name = unused(name, self.workers.values());
                self.workers.insert(*worker, name);
            }
            Fact::RunGiven { given, .. } | Fact::RunRegiven { given, .. } => {
                let next = format!("g{}", self.fences.len() + 1);
                self.fences.entry(*given).or_insert(next);
            }
            _ => {}
        }
    }

    /// A job's name.
    pub fn job(&self, id: JobId) -> String {
        self.jobs.get(&id).cloned().unwrap_or_else(|| format!("job {id}"))
    }

    /// A worker session's name.
    pub fn worker(&self, id: WorkerId) -> String {
        self.workers
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("worker {id}"))
    }

    /// A fence's name.
    pub fn fence(&self, given: Given) -> String {
        self.fences
            .get(&given)
            .cloned()
            .unwrap_or_else(|| format!("given {given}"))
    }

    /// The job of a name, or of a number.
    pub fn find_job(&self, name: &str) -> Option<JobId> {
        let named = self.jobs.iter().find_map(|(id, of)| (of == name).then_some(*id));
        named.or_else(|| name.parse().ok().map(JobId))
    }

    /// The fence of a name, or of a number.
    pub fn find_fence(&self, name: &str) -> Option<Given> {
        let named = self
            .fences
            .iter()
            .find_map(|(given, of)| (of == name).then_some(*given));
        named.or_else(|| name.parse().ok().map(Given))
    }
}

/// The name, or the name with the first free number behind it.
fn unused<'a>(name: &str, taken: impl Iterator<Item = &'a String> + Clone) -> String {
    let mut candidate = name.to_owned();
    let mut number = 1;
    while taken.clone().any(|one| *one == candidate) {
        number += 1;
        candidate = format!("{name}#{number}");
    }
    candidate
}

/// Tasks of a job: `a/3`, or `a/3-7`.
pub fn tasks(job: &str, first: u64, count: u64) -> String {
    match count {
        1 => format!("{job}/{first}"),
        _ => format!("{job}/{first}-{}", first + count - 1),
    }
}
