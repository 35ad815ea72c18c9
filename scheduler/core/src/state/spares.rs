//! Machines kept for a burst: one with nothing to do is stopped, and started again when photos ask for it. Both are
//! committed before any call, and caps are held before a start.

use super::machines::{Machine, Spare};
use super::sightings::by_cloud;
use super::workers::Standing;
use super::{Context, State};
use crate::bill::cost;
use crate::event::Fact;
use crate::plan::capacity::{Rest, Start};
use crate::plant::Plant;
use crate::state::launches::Lack;
use crate::types::{EnvId, InstanceId, Market, MicroUsd, Time};

impl State {
    /// Why a stopped machine may not be started, now.
    pub(super) fn may_start(&self, start: &Start, at: Time) -> Result<(), &'static str> {
        self.stands_still()?;
        let machine = self.machines.get(&start.machine).filter(|one| one.is_stopped());
        let Some(machine) = machine else {
            return Err("it does not stand still");
        };
        let env = start.because.env;
        self.has_room(1, u64::from(machine.vcpus), machine.bound.0, env, at)?;
        match self.allows(env, &machine.pool.region) {
            true => Ok(()),
            false => Err("its environment's photos may not go there"),
        }
    }

    pub(super) fn start_spare(&mut self, context: &mut Context, start: &Start) {
        let (at, id) = (context.at, &start.machine);
        self.pay_volume(id, at);
        let unnoted = self.plant.is(Plant::SpareUnnoted);
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        let Some(Spare::Stopped(stopped, _)) = machine.spare else {
            return;
        };
        machine.spare = Some(Spare::Starting(at, stopped));
        machine.restarted = Some(at);
        if unnoted {
            self.machines.table.forget_change(id);
        }
        let (machine, because) = (id.clone(), start.because.clone());
        context.tell(EnvId::default(), None, Fact::SpareStarting { machine, because });
    }

    /// A machine on demand with nothing to do gets nothing new and shall stop; false where that is no longer so.
    pub(super) fn rest(&mut self, context: &mut Context, rest: &Rest) -> bool {
        let at = context.at;
        let machine = self.machines.get(&rest.machine);
        let Some(machine) = machine.filter(|one| one.is_useful() && one.spare.is_none()) else {
            return false;
        };
        let worker = machine.joined.map(|(worker, _)| worker);
        let live = worker.filter(|worker| self.workers.live(*worker).is_some());
        let on_demand = machine.pool.market == Market::OnDemand;
        // A freeze stops this too; a brake is for launches.
        let frozen = self
            .control
            .known()
            .is_some_and(|control| control.frozen.is_some());
        let Some(worker) = live.filter(|_| on_demand && !frozen) else {
            return false;
        };
        if self.runs.held_by(worker) > 0 && !self.plant.is(Plant::BusyStopped) {
            return false;
        }
        if self.workers.get(worker).map(|one| one.standing) == Some(Standing::Active) {
            let _ = self.worker_drain(context, worker);
        }
        if let Some(machine) = self.machines.get_mut(&rest.machine) {
            machine.spare = Some(Spare::Stopping(at));
        }
        let (machine, idle) = (rest.machine.clone(), rest.idle);
        context.tell(EnvId::default(), None, Fact::SpareStopping { machine, idle });
        true
    }

    /// The cloud says that a machine has stopped, as the cluster wanted or as somebody else did. What a list says of the
    /// stop before is old.
    pub(super) fn stopped(&mut self, context: &mut Context, id: &InstanceId, at: Time) {
        let is = |one: &&Machine| {
            let may = matches!(one.spare, None | Some(Spare::Stopping(_)));
            let is_new = one.stopped.is_none_or(|before| at > before);
            one.is_live() && may && is_new && one.pool.market == Market::OnDemand
        };
        let Some(machine) = self.machines.get(id).filter(is) else {
            return;
        };
        let ended = at.max(machine.running.unwrap_or(at)).min(by_cloud(context.at));
        self.pay(id, ended.max(machine.paid_for_until()));
        self.machines.unjoin(id);
        let volume = self
            .control
            .get()
            .scaling
            .spares
            .map_or(0, |spares| spares.volume);
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        machine.running = None;
        machine.stopped = Some(at);
        machine.spare = Some(Spare::Stopped(at, MicroUsd(volume)));
        machine.paid_to = machine.paid_to.max(ended);
        let machine = id.clone();
        context.tell(EnvId::default(), None, Fact::MachineStopped { machine });
    }

    /// What the volume of a stopped machine has cost so far is counted.
    pub(super) fn pay_volume(&mut self, id: &InstanceId, to: Time) {
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        let Some(Spare::Stopped(_, volume)) = machine.spare else {
            return;
        };
        let from = machine.paid_to;
        if to <= from {
            return;
        }
        let money = cost(volume, to.0 - from.0);
        machine.paid = machine.paid.saturating_add(money);
        machine.paid_to = to;
        self.spend.note(from, to, money, money);
    }

    /// The cloud had no machine of its kind, or did not start it: it stands still as before, and its pool is left alone.
    pub(super) fn start_lacked(&mut self, context: &mut Context, id: &InstanceId) {
        let volume = self
            .control
            .get()
            .scaling
            .spares
            .map_or(0, |spares| spares.volume);
        let Some(machine) = self.machines.get_mut(id).filter(|one| one.is_live()) else {
            return;
        };
        let Some(Spare::Starting(_, stopped)) = machine.spare else {
            return;
        };
        machine.spare = Some(Spare::Stopped(stopped, MicroUsd(volume)));
        let pool = machine.pool.clone();
        self.note_lack(context, &pool, Lack::Capacity);
    }
}
