//! What has not ended, by spec and deadline: what machines are bought for.

use std::collections::BTreeMap;

use super::{Job, Jobs};
use crate::types::{SECOND, SpecId, Time};

/// Photos that have not ended, by spec and by the second in which they are due: those without deadline in the last of
/// all.
pub(super) type Backlog = BTreeMap<SpecId, BTreeMap<u64, u64>>;

/// A second without end: that of jobs without deadline.
const NEVER: u64 = u64::MAX / SECOND;

/// Where a job is in the backlog, and with how many photos.
pub(super) fn place_in_backlog(job: &Job) -> (SpecId, u64, u64) {
    let unended = match job.phase.is_live() {
        true => job.tasks - job.succeeded - job.failed,
        false => 0,
    };
    let second = job.deadline.map_or(NEVER, |due| due.0 / SECOND);
    (job.spec, second, unended)
}

pub(super) fn add_to(backlog: &mut Backlog, (spec, second, photos): (SpecId, u64, u64)) {
    if photos > 0 {
        *backlog.entry(spec).or_default().entry(second).or_default() += photos;
    }
}

fn take_from(backlog: &mut Backlog, (spec, second, photos): (SpecId, u64, u64)) {
    if photos == 0 {
        return;
    }
    let of_spec = backlog.get_mut(&spec).expect("it was added");
    let left = of_spec.get_mut(&second).expect("it was added");
    *left -= photos;
    if *left == 0 {
        of_spec.remove(&second);
    }
    if of_spec.is_empty() {
        backlog.remove(&spec);
    }
}

impl Jobs {
    /// Brings the backlog up to date.
    pub(crate) fn settle_backlog(&mut self) {
        while let Some((key, before)) = self.changing.pop_first() {
            // One that is gone had ended.
            let after = self.table.get(&key).map(place_in_backlog);
            let after = after.unwrap_or((before.0, before.1, 0));
            if after != before {
                take_from(&mut self.backlog, before);
                add_to(&mut self.backlog, after);
            }
        }
    }

    /// Specs of photos that have not ended.
    pub fn unended_specs(&self) -> impl Iterator<Item = SpecId> + '_ {
        self.backlog.keys().copied()
    }

    /// Photos of a spec that have not ended, by the second in which their jobs are due, the earliest first; those of jobs
    /// without deadline last.
    pub fn unended(&self, spec: SpecId) -> impl Iterator<Item = (Option<Time>, u64)> + '_ {
        let due = |second: u64| (second != NEVER).then(|| Time(second * SECOND));
        let of_spec = self.backlog.get(&spec).into_iter().flatten();
        of_spec.map(move |(second, photos)| (due(*second), *photos))
    }

    pub(super) fn sum_of_backlog(&self) -> Backlog {
        let mut backlog = Backlog::new();
        let jobs = self.table.iter().map(|(_, job)| place_in_backlog(job));
        jobs.for_each(|place| add_to(&mut backlog, place));
        backlog
    }
}
