//! Machines of a played market: called for, booted, noticed, taken, ended.

use std::collections::BTreeSet;

use rebound_core::cloud::CloudCall;
use rebound_core::io::Input;
use rebound_core::types::*;

use super::{Happening, Play};
use crate::play::hand::Hand;
use crate::play::played::NOTICE;
use crate::play::slots;

impl Play<'_> {
    pub(super) fn called(&mut self, id: CallId, call: &CloudCall) {
        let before: BTreeSet<InstanceId> = self.cloud.instances.keys().cloned().collect();
        let outcome = self.cloud.call(self.now, call, Time);
        if matches!(call, CloudCall::Launch { .. }) {
            self.outcome.launch_calls += 1;
            let first = self.first_submit;
            if let Some(first) = first {
                self.outcome.first_call_us.get_or_insert(self.now - first);
            }
        }
        let new = self.cloud.instances.iter().filter(|(id, _)| !before.contains(id));
        let new: Vec<(InstanceId, Pool, u64)> = new
            .map(|(id, one)| (id.clone(), one.pool.clone(), one.runs))
            .collect();
        for (machine, pool, runs) in new {
            self.is_new(machine, &pool, runs);
        }
        if let CloudCall::Terminate { machines, .. } = call {
            machines.iter().for_each(|machine| self.ended(machine));
        }
        if let CloudCall::Stop { machines, .. } = call {
            machines.iter().for_each(|machine| self.stopped(machine));
        }
        if let CloudCall::Start { machine, .. } = call {
            self.started(machine);
        }
        let live = self.cloud.on().count() as u64;
        self.outcome.machines_most = self.outcome.machines_most.max(live);
        let way = self.cloud.way();
        self.at(self.now + way, Happening::Answered(id, Box::new(outcome)));
    }

    fn is_new(&mut self, machine: InstanceId, pool: &Pool, runs: u64) {
        let never = self.rng.chance(self.scenario.never_join);
        let (from, to) = self.scenario.boot;
        let boots = runs + self.rng.within(from, to);
        if !never {
            self.at(boots, Happening::Boots(machine.clone()));
        }
        let spot = Pool {
            market: Market::Spot,
            ..pool.clone()
        };
        let bound = self.scenario.market.on_demand.get(&spot).copied();
        let bound = bound.unwrap_or(MicroUsd(u64::MAX));
        if let Some(at) = self.scenario.market.outbid(pool, bound, Time(runs)) {
            self.will_be_taken(machine, at.0.max(runs));
        }
    }

    /// It stands still: what ran on it is gone. One that has been told so already has no hand any more.
    fn stopped(&mut self, machine: &InstanceId) {
        let stands = self
            .cloud
            .instances
            .get(machine)
            .is_some_and(|one| one.stopped.is_some());
        let Some(hand) = stands.then(|| self.of_machine.remove(machine)).flatten() else {
            return;
        };
        self.outcome.stops += 1;
        self.hand_leaves(hand);
    }

    /// It starts again: what is on its disk is, so that it boots in a third of the time.
    fn started(&mut self, machine: &InstanceId) {
        let now = self.now;
        let one = self.cloud.instances.get(machine);
        let Some(runs) = one
            .filter(|one| one.is_on() && one.runs > now)
            .map(|one| one.runs)
        else {
            return;
        };
        if self.starting.insert(machine.clone(), runs) == Some(runs) {
            return;
        }
        self.outcome.starts += 1;
        let (from, to) = self.scenario.boot;
        let boots = runs + self.rng.within(from / 3, to / 3);
        self.at(boots, Happening::Boots(machine.clone()));
    }

    fn will_be_taken(&mut self, machine: InstanceId, told: u64) {
        let at = told + NOTICE;
        self.at(told, Happening::Noticed(machine.clone(), at));
        self.at(at, Happening::Taken(machine));
    }

    pub(super) fn boots(&mut self, machine: InstanceId) {
        let live = self.cloud.instances.get(&machine).filter(|one| one.is_on());
        let live = live.filter(|_| !self.of_machine.contains_key(&machine));
        let of_type = live.and_then(|one| slots(&self.catalogue, &one.pool.instance_type));
        let Some((_, slots)) = of_type else { return };
        let at = self.hands.len();
        let rng = self.rng.branch(&machine.0);
        self.hands
            .push(Hand::new(machine.clone(), slots, self.scenario.photo, rng));
        self.of_machine.insert(machine, at);
        self.joins(at);
    }

    pub(super) fn notices(&mut self, machine: &InstanceId, at: u64) {
        let live = self.cloud.instances.get(machine).is_some_and(|one| one.is_live());
        if live {
            self.interrupted.insert(machine.clone());
            self.begins_notice(machine, at);
        }
        let Some(hand) = self.of_machine.get(machine).copied().filter(|_| live) else {
            return;
        };
        let report = self.hands[hand].noticed(at, self.now);
        if let Some(worker) = self.hands[hand].session {
            self.inputs.push(Input::Worker { worker, report });
        }
        self.hand_works(hand);
    }

    pub(super) fn taken(&mut self, machine: &InstanceId) {
        if self.cloud.instances.get(machine).is_some_and(|one| one.is_live()) {
            self.interrupted.insert(machine.clone());
            self.cloud.reclaim(self.now, machine);
            self.ended(machine);
        }
    }

    /// What ran on it is gone; an agent that is told to end says so.
    fn ended(&mut self, machine: &InstanceId) {
        let Some((_, taken)) = self.cloud.instances.get(machine).and_then(|one| one.ended) else {
            return;
        };
        self.ends_notice(machine);
        let Some(hand) = self.of_machine.remove(machine) else {
            return;
        };
        if taken {
            self.hands[hand].over = true;
            if let Some(worker) = self.hands[hand].session {
                self.of_worker.remove(&worker);
            }
            return;
        }
        self.hand_leaves(hand);
    }

    /// An agent that is told to end says so.
    fn hand_leaves(&mut self, hand: usize) {
        self.hands[hand].over = true;
        if let Some(worker) = self.hands[hand].session {
            self.of_worker.remove(&worker);
            let report = rebound_core::io::WorkerReport::Leaving { empty: true };
            self.inputs.push(Input::Worker { worker, report });
        }
    }

    /// A pool has so many machines from now on: those that it has more are told to go.
    pub(super) fn has_room(&mut self, pool: Pool, room: u32) {
        self.cloud.rooms.insert(pool.clone(), room);
        let live = self.cloud.live().filter(|(_, one)| one.pool == pool);
        let mut there: Vec<InstanceId> = live.map(|(id, _)| id.clone()).collect();
        while there.len() > room as usize {
            let at = self.rng.within(0, there.len() as u64 - 1) as usize;
            let machine = there.swap_remove(at);
            self.will_be_taken(machine, self.now);
        }
    }
}
