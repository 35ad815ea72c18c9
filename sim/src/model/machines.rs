//! Machines in the model: as much of them as decides which workers get nothing new.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::command::Command;
use rebound_core::limits::LAUNCHES_PER_PLAN_MAX;
use rebound_core::state::buying::Started;
use rebound_core::state::launches::Wanted;
use rebound_core::state::machines::EndWhy;
use rebound_core::state::sightings::Sighting;
use rebound_core::types::{Index, InstanceId, LaunchId, Market, Time, WorkerId};

#[derive(Default)]
struct Machine {
    worker: Option<WorkerId>,
    ending: bool,
    noticed: bool,
    gone: bool,
    on_demand: bool,
    spare: Option<Spare>,
    /// When it last stopped.
    stopped: Option<Time>,
}

/// One that does not run, or is about to stop. Whether one that stands still was started changes nothing here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    Stopping,
    Still(Time),
}

/// See the module.
#[derive(Default)]
pub struct Machines {
    machines: BTreeMap<InstanceId, Machine>,
    /// What each launch asks for, and how many machines it has given.
    launches: BTreeMap<LaunchId, (Wanted, u32)>,
    settled: BTreeSet<LaunchId>,
    frozen: bool,
}

impl Machines {
    /// Takes an entry; workers that get nothing new after it. `lives` and `holds` tell of a worker.
    pub fn apply(
        &mut self,
        index: Index,
        command: &Command,
        lives: impl Fn(WorkerId) -> bool,
        holds: impl Fn(WorkerId) -> bool,
    ) -> Vec<WorkerId> {
        match command {
            Command::Scale(plan) => {
                for (place, buy) in plan.buy.iter().enumerate() {
                    let id = LaunchId(index * LAUNCHES_PER_PLAN_MAX + place as u64);
                    self.launches.insert(id, (buy.wanted.clone(), 0));
                }
                let rest = plan.rest.iter();
                let mut none: Vec<WorkerId> = rest
                    .filter_map(|one| self.rests(&one.machine, &lives, &holds))
                    .collect();
                let let_go = plan.let_go.iter();
                none.extend(let_go.filter_map(|one| self.let_go(&one.machine, one.why, &lives, &holds)));
                none
            }
            Command::LaunchSettled(settled) => {
                if self.settled.insert(settled.launch) {
                    settled
                        .started
                        .iter()
                        .for_each(|started| self.known(settled.launch, started));
                }
                Vec::new()
            }
            Command::Seen(all) => all.iter().filter_map(|one| self.seen(one, &lives)).collect(),
            Command::NeverJoined(ids) => {
                let waits = |one: &&mut Machine| !one.gone && one.worker.is_none();
                for id in ids {
                    if let Some(one) = self.machines.get_mut(id).filter(waits) {
                        one.ending = true;
                    }
                }
                Vec::new()
            }
            Command::Freeze { why } => {
                self.frozen = why.is_some();
                Vec::new()
            }
            Command::WorkerJoined(join) => {
                let id = InstanceId(join.name.clone());
                let worker = WorkerId(index);
                let Some(one) = self
                    .machines
                    .get_mut(&id)
                    .filter(|one| !one.gone && lives(worker))
                else {
                    return Vec::new();
                };
                one.worker = Some(worker);
                if let Some(Spare::Still(_)) = one.spare {
                    one.spare = None;
                }
                if one.ending || one.noticed || one.spare.is_some() {
                    vec![worker]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }

    fn let_go(
        &mut self,
        id: &InstanceId,
        why: EndWhy,
        lives: impl Fn(WorkerId) -> bool,
        holds: impl Fn(WorkerId) -> bool,
    ) -> Option<WorkerId> {
        let by_choice = matches!(why, EndWhy::Idle | EndWhy::TooDear | EndWhy::Spare);
        let one = self.machines.get_mut(id).filter(|one| !one.gone && !one.ending)?;
        if by_choice && self.frozen {
            return None;
        }
        let worker = one.worker.filter(|worker| lives(*worker));
        one.ending = !worker.is_some_and(holds);
        worker
    }

    /// One with nothing to do shall stop.
    fn rests(
        &mut self,
        id: &InstanceId,
        lives: impl Fn(WorkerId) -> bool,
        holds: impl Fn(WorkerId) -> bool,
    ) -> Option<WorkerId> {
        let frozen = self.frozen;
        let may = |one: &&mut Machine| {
            let useful = !one.gone && !one.ending && !one.noticed && one.spare.is_none();
            useful && one.on_demand && !frozen
        };
        let one = self.machines.get_mut(id).filter(may)?;
        let worker = one.worker.filter(|worker| lives(*worker) && !holds(*worker))?;
        one.spare = Some(Spare::Stopping);
        Some(worker)
    }

    fn stands(&mut self, id: &InstanceId, at: Time) {
        let may = |one: &&mut Machine| {
            let runs = matches!(one.spare, None | Some(Spare::Stopping));
            !one.gone && one.on_demand && runs && one.stopped.is_none_or(|before| at > before)
        };
        if let Some(one) = self.machines.get_mut(id).filter(may) {
            (one.spare, one.stopped, one.worker) = (Some(Spare::Still(at)), Some(at), None);
        }
    }

    fn known(&mut self, launch: LaunchId, started: &Started) {
        if self.machines.contains_key(&started.id) {
            return;
        }
        let launch = self.launches.get_mut(&launch);
        let fits = |(wanted, given): &mut (Wanted, u32)| {
            let fits =
                wanted.choice(&started.zone_id, &started.instance_type).is_some() && *given < wanted.count;
            *given += u32::from(fits);
            fits
        };
        let on_demand = launch
            .as_ref()
            .is_some_and(|(wanted, _)| wanted.market == Market::OnDemand);
        let ending = !launch.is_some_and(fits);
        self.machines.insert(
            started.id.clone(),
            Machine {
                ending,
                on_demand,
                ..Machine::default()
            },
        );
    }

    fn seen(&mut self, sighting: &Sighting, lives: impl Fn(WorkerId) -> bool) -> Option<WorkerId> {
        match sighting {
            Sighting::Unknown { launch, started, .. } => self.known(*launch, started),
            Sighting::Gone { machine, .. } => self.machines.get_mut(machine)?.gone = true,
            Sighting::Noticed { machine, .. } => {
                let one = self.machines.get_mut(machine).filter(|one| !one.gone)?;
                one.noticed = true;
                return one.worker.filter(|worker| lives(*worker));
            }
            Sighting::Running { machine, since } => {
                let one = self.machines.get_mut(machine).filter(|one| !one.gone)?;
                if matches!(one.spare, Some(Spare::Still(at)) if *since > at) {
                    one.spare = None;
                }
            }
            Sighting::Stopped { machine, at } => self.stands(machine, *at),
            Sighting::StartLacked { .. } | Sighting::Nothing { .. } => {}
        }
        None
    }
}
