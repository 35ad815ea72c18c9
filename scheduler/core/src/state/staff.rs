//! Workers coming and going.

use super::workers::Standing;
use super::{Context, State};
use crate::command::Join;
use crate::event::Fact;
use crate::limits::WORKERS_MAX;
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::types::{EnvId, InstanceId, WorkerId};

impl State {
    pub(super) fn worker_joined(&mut self, context: &mut Context, join: &Join) -> Result<Reply, Rejected> {
        if let Some(earlier) = self.workers.named(&join.name) {
            let same = self
                .workers
                .get(earlier)
                .is_some_and(|worker| worker.join == *join);
            if same {
                // The same process asked twice: its first session stands.
                return Ok(Reply::Joined { worker: earlier });
            }
            self.lose(context, earlier, "its machine joined again");
        }
        if self.workers.live_count() >= WORKERS_MAX {
            return Err(Rejected::TooMany {
                field: "name",
                limit: WORKERS_MAX as u64,
                what: "workers at once",
            });
        }
        let worker = WorkerId(context.index);
        self.workers.join(worker, join.clone(), context.at);
        context.tell(
            EnvId::default(),
            None,
            Fact::WorkerJoined {
                worker,
                name: join.name.clone(),
            },
        );
        self.machine_joined(context, &InstanceId(join.name.clone()), worker);
        Ok(Reply::Joined { worker })
    }

    pub(super) fn worker_lost(&mut self, context: &mut Context, worker: WorkerId) -> Result<Reply, Rejected> {
        if self.workers.live(worker).is_some() {
            self.lose(context, worker, "it fell silent for a whole lease");
        }
        Ok(Reply::Done)
    }

    fn lose(&mut self, context: &mut Context, worker: WorkerId, why: &str) {
        let tasks = match self.plant.is(Plant::LostKeepsRuns) {
            true => 0,
            false => self.free_worker(context, worker),
        };
        self.workers.end(worker, Standing::Lost, why, context.at);
        context.tell(
            EnvId::default(),
            None,
            Fact::WorkerLost {
                worker,
                tasks,
                why: why.to_owned(),
            },
        );
    }

    pub(super) fn worker_drain(
        &mut self,
        context: &mut Context,
        worker: WorkerId,
    ) -> Result<Reply, Rejected> {
        let live = self.workers.live(worker).ok_or(Rejected::NotFound {
            what: "worker",
            id: worker.0,
        })?;
        if live.standing == Standing::Active {
            self.workers.get_mut(worker).expect("just found").standing = Standing::Draining;
            // It is part of what the worker shall do, so it must be told, though no run of it changes.
            self.runs.touch(worker);
            context.tell(EnvId::default(), None, Fact::WorkerDraining { worker });
        }
        Ok(Reply::Done)
    }

    pub(super) fn worker_left(&mut self, context: &mut Context, worker: WorkerId) -> Result<Reply, Rejected> {
        if self.workers.live(worker).is_none() {
            return Ok(Reply::Done);
        }
        // It said that nothing is left; what state still gives it was on its way and goes back.
        self.free_worker(context, worker);
        self.workers
            .end(worker, Standing::Left, "it said good-bye", context.at);
        context.tell(EnvId::default(), None, Fact::WorkerLeft { worker });
        Ok(Reply::Done)
    }
}
