//! A backup becomes a cluster of its own: the first thing that a restored state is told.

use super::outcomes::Lost;
use super::workers::Standing;
use super::{Context, State};
use crate::event::{Cause, Fact};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::state::members::Founder;
use crate::types::{ClusterId, EnvId, ReplicaId, WorkerId};

/// Why sessions and attempts of the cluster that was backed up have ended.
const WHY: &str = "the cluster was restored from a backup";

impl State {
    /// The state is another cluster's from now on, with these servers. All sessions have ended: a session is a worker's
    /// life with one cluster. What their workers held goes back into the queue, and is nobody's fault, so that no task
    /// fails by it; the fences that it is given next are greater than this entry's index, and those that the other
    /// cluster gave after the backup count in no session of this one.
    pub(super) fn restore(
        &mut self,
        context: &mut Context,
        cluster: &ClusterId,
        founders: &[Founder],
    ) -> Result<Reply, Rejected> {
        let before = self.meta().cluster.clone();
        if before == ClusterId::default() || before == *cluster {
            return Err(Rejected::AlreadyBegun);
        }
        self.meta_mut().cluster = cluster.clone();
        let live: Vec<WorkerId> = self.workers.iter_live().map(|(id, _)| id).collect();
        let keeps = self.plant.is(Plant::RestoreKeepsRuns);
        for worker in live.into_iter().filter(|_| !keeps) {
            let tasks = self.give_back(context, worker);
            self.workers.end(worker, Standing::Lost, WHY, context.at);
            let why = WHY.to_owned();
            context.tell(EnvId::default(), None, Fact::WorkerLost { worker, tasks, why });
        }
        let gone: Vec<ReplicaId> = self.members.iter().map(|(id, _)| id).collect();
        gone.iter().for_each(|id| self.members.remove(*id));
        self.found(context, founders);
        let cluster = cluster.clone();
        context.tell(EnvId::default(), None, Fact::Restored { cluster, before });
        Ok(Reply::Done)
    }

    /// All that a worker holds goes back, whatever it has lost before.
    fn give_back(&mut self, context: &mut Context, worker: WorkerId) -> u64 {
        let mut tasks = 0;
        for (key, run) in self.runs.of_worker(worker) {
            for task in run.first..=key.last {
                let (now_key, now) = self.runs.of_task(key.env, key.job, task).expect("still held");
                let lost = Lost {
                    worker,
                    given: now.given,
                    cause: Cause::WorkerLost,
                    message: WHY.as_bytes(),
                };
                tasks += 1;
                let job = self.jobs.get_in(key.env, key.job).expect("a run's job");
                // An append that was counted late already drops nothing more by itself.
                match self.is_dropped(job, task) {
                    true => self.drop_held(context, now_key, task, &lost),
                    false => self.put_back(context, key.env, now_key, task, &lost),
                }
            }
        }
        tasks
    }
}
