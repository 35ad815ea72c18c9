//! Commands of people about buying machines: the policy, a freeze, a thaw, a pool banned.

use super::control::Freeze;
use super::policies::PolicyRecord;
use super::{Context, State};
use crate::event::Fact;
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::scaling::Scaling;
use crate::types::{EnvId, Index, Pool, Time};

impl State {
    /// Puts a policy in force, if the one that is still is the one it was made for.
    pub(super) fn steer(
        &mut self,
        context: &mut Context,
        scaling: &Scaling,
        check: Option<Index>,
    ) -> Result<Reply, Rejected> {
        scaling.check_numbers()?;
        let control = self.control.get();
        if check.is_some_and(|index| index != control.since) {
            return Err(Rejected::Conflict { what: "check_index" });
        }
        let control = self.control.get_mut();
        if control.scaling.template != scaling.template {
            control.never_joined = 0;
        }
        control.scaling = scaling.clone();
        control.since = context.index;
        let record = PolicyRecord {
            at: context.at,
            by: context.by.actor.clone(),
            scaling: scaling.clone(),
        };
        self.policies.note(context.index, record);
        if self.plant.is(Plant::PolicyUnnoted) {
            self.control.table.forget_change(&());
        }
        context.tell(
            EnvId::default(),
            None,
            Fact::PolicyChanged { since: context.index },
        );
        Ok(Reply::Done)
    }

    /// Stops launches and scale-in, or lets them go on.
    pub(super) fn freeze(&mut self, context: &mut Context, why: Option<&String>) -> Result<Reply, Rejected> {
        let (by, at) = (context.by.actor.clone(), context.at);
        let freeze = why.map(|why| Freeze {
            by,
            at,
            why: why.clone(),
        });
        self.control.get_mut().frozen = freeze;
        if self.plant.is(Plant::FreezeUnnoted) {
            self.control.table.forget_change(&());
        }
        let why = why.cloned();
        context.tell(EnvId::default(), None, Fact::Frozen { why });
        Ok(Reply::Done)
    }

    /// Releases a brake.
    pub(super) fn thaw(&mut self, context: &mut Context) -> Result<Reply, Rejected> {
        let control = self.control.get_mut();
        control.brake = None;
        control.never_joined = 0;
        control.launches = (context.at, 0);
        control.thawed = Some(context.at);
        context.tell(EnvId::default(), None, Fact::Thawed);
        Ok(Reply::Done)
    }

    /// Nothing is launched in a pool until then; `None` ends that.
    pub(super) fn ban(
        &mut self,
        context: &mut Context,
        pool: &Pool,
        until: Option<Time>,
        why: &str,
    ) -> Result<Reply, Rejected> {
        let record = self.pools.of(pool, context.at);
        record.banned = until.map(|until| (until, why.to_owned()));
        if until.is_none() {
            (record.refusals, record.closed_until) = (0, None);
        }
        let (pool, banned) = (pool.clone(), until.is_some());
        context.tell(EnvId::default(), None, Fact::PoolBanned { pool, banned });
        Ok(Reply::Done)
    }
}
