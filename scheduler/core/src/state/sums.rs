//! What the kept records must add up to, from the live ones: each job holds the sum of its own.

use std::collections::BTreeMap;

use super::State;
use crate::table::Digest;
use crate::types::JobId;

impl State {
    /// The sum of the hashes of all kept records.
    pub fn kept_digest(&self) -> Digest {
        let mut sum = Digest::default();
        self.jobs.table.iter().for_each(|(_, job)| sum.add(job.kept));
        sum
    }

    /// How many jobs there are, and how many tasks they have.
    pub fn job_counts(&self) -> (u64, u64) {
        let tasks = self.jobs.table.iter().map(|(_, job)| job.tasks).sum();
        (self.jobs.len() as u64, tasks)
    }

    /// Jobs whose kept records are not those that were written, from the records' sums by job; at most `most` of them.
    pub fn jobs_that_differ(&self, sums: &BTreeMap<JobId, Digest>, most: usize) -> Vec<JobId> {
        let said = |job: JobId| self.jobs.get(job).map_or(0, |(_, job)| job.kept);
        let missing = |job: &JobId| !sums.contains_key(job) && said(*job) != 0;
        let known = self.jobs.table.iter().map(|((_, job), _)| *job).filter(missing);
        let other = sums
            .iter()
            .filter(|(job, sum)| sum.0 != said(**job))
            .map(|(job, _)| *job);
        let mut differ: Vec<JobId> = known.chain(other).take(most).collect();
        differ.sort_unstable();
        differ
    }
}
