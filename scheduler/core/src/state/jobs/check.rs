//! What must hold of jobs and of all that is kept beside them.

use super::*;

impl Jobs {
    pub(crate) fn check(&self) {
        self.table.check();
        assert_eq!(self.homes.len(), self.table.len());
        for ((env, id), job) in self.table.iter() {
            assert_eq!(self.homes.get(id), Some(env));
            assert!(job.fresh <= job.tasks && job.late_to <= job.tasks && job.dropped <= job.failed);
            let mut before = 0;
            for (from, to) in &job.behind {
                assert!(before <= *from && from < to && *to <= job.late_to.min(job.fresh));
                before = *to;
            }
            let all_ended = job.succeeded + job.failed == job.tasks;
            match job.phase {
                Phase::Done => assert!(all_ended && job.given == 0 && job.ended.is_some()),
                Phase::Closed => assert!(!all_ended),
                Phase::Cancelled => assert!(job.given == 0 && job.ended.is_some()),
                Phase::Open => assert!(self.closing.contains(&(job.close_at, *id))),
            }
        }
        let open = self
            .table
            .iter()
            .filter(|(_, job)| job.phase == Phase::Open)
            .count();
        assert_eq!(open, self.closing.len());
        assert_eq!(self.live_bytes, self.sum_of_bytes(), "bytes of live jobs");
        assert_eq!(self.backlog, self.sum_of_backlog(), "backlog");
        let ended = self.table.iter().filter(|(_, job)| job.ended.is_some());
        let ended = ended.map(|((_, id), job)| (job.ended.expect("filtered"), *id));
        assert_eq!(ended.collect::<BTreeSet<_>>(), self.ended);
    }

    /// Pages belong to a job, and say of as many tasks that they ended as their job does.
    pub(crate) fn check_pages(&self) {
        self.pages.check();
        for (env, id, _) in self.pages.iter().map(|(key, _)| key) {
            assert!(self.table.get(&(*env, *id)).is_some(), "pages of job {id}");
        }
        for ((env, id), job) in self.table.iter() {
            let pages = self.pages.range((*env, *id, 0)..=(*env, *id, u64::MAX));
            let (mut succeeded, mut failed) = (0, 0);
            for (_, page) in pages {
                for slot in 0..page.bits.len() as u64 * 4 {
                    match page.get(slot) {
                        TaskEnd::Unended => {}
                        TaskEnd::Succeeded => succeeded += 1,
                        TaskEnd::Failed => failed += 1,
                    }
                }
            }
            assert_eq!(
                (succeeded, failed),
                (job.succeeded, job.failed),
                "outcomes of job {id}"
            );
        }
    }

    /// The notes of a job follow one another up to its last photo, and the index of deadlines agrees.
    pub(crate) fn check_appends(&self) {
        self.appends.check();
        for ((env, id), job) in self.table.iter() {
            let mut next = 0;
            for ((_, _, first), note) in self.appends.range((*env, *id, 0)..=(*env, *id, u64::MAX)) {
                assert_eq!(*first, next, "an append to job {id}");
                next = first + note.count;
            }
            assert_eq!(next, job.tasks, "appends to job {id}");
        }
        assert_eq!(self.live_due().collect::<BTreeSet<_>>(), self.due, "deadlines");
    }

    /// The queue holds exactly the live jobs with something to give, each at its place.
    pub(crate) fn check_queue(&self, due_from: impl Fn(JobId, u64) -> Option<u64>) {
        for ((env, id), job) in self.table.iter() {
            let place = self.next_place(*env, *id, job, |from| due_from(*id, from));
            let queued = self.queued_as.get(id).copied();
            assert_eq!(queued, place.map(|key| (job.spec, key)), "job {id} in the queue");
        }
        let queued = self
            .queue
            .iter()
            .flat_map(|(spec, keys)| keys.iter().map(|key| (key.3, (*spec, *key))));
        assert_eq!(queued.collect::<BTreeMap<_, _>>(), self.queued_as);
    }

    /// Appends of live jobs that have a deadline which was not said to have passed.
    pub(super) fn live_due(&self) -> impl Iterator<Item = (Time, EnvId, JobId, u64)> + '_ {
        self.appends.iter().filter_map(|((env, id, first), note)| {
            let job = self.table.get(&(*env, *id)).filter(|job| job.phase.is_live())?;
            let due = note.due.filter(|_| *first >= job.late_to)?;
            Some((due, *env, *id, *first))
        })
    }
}
