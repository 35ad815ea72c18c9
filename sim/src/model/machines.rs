//! Machines in the model: as much of them as decides which workers get nothing new.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::command::Command;
use rebound_core::limits::LAUNCHES_PER_PLAN_MAX;
use rebound_core::state::buying::Started;
use rebound_core::state::launches::Wanted;
use rebound_core::state::machines::EndWhy;
use rebound_core::state::sightings::Sighting;
use rebound_core::types::{Index, InstanceId, LaunchId, WorkerId};

#[derive(Default)]
struct Machine {
    worker: Option<WorkerId>,
    ending: bool,
    noticed: bool,
    gone: bool,
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
                let let_go = plan.let_go.iter();
                let_go
                    .filter_map(|one| self.let_go(&one.machine, one.why, &lives, &holds))
                    .collect()
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
                if one.ending || one.noticed {
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
        let by_choice = matches!(why, EndWhy::Idle | EndWhy::TooDear);
        let one = self.machines.get_mut(id).filter(|one| !one.gone && !one.ending)?;
        if by_choice && self.frozen {
            return None;
        }
        let worker = one.worker.filter(|worker| lives(*worker));
        one.ending = !worker.is_some_and(holds);
        worker
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
        let ending = !launch.is_some_and(fits);
        self.machines.insert(
            started.id.clone(),
            Machine {
                ending,
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
            Sighting::Running { .. } | Sighting::Nothing { .. } => {}
        }
        None
    }
}
