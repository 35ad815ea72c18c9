//! Calls that stop and start machines which are kept for a burst: what follows from the state, again until a list shows it.

use std::collections::BTreeMap;

use super::{Budget, Calls, Try};
use crate::cloud::{CloudCall, CloudOutcome};
use crate::command::Command;
use crate::io::Output;
use crate::limits::{START_VALID, TERMINATE_AGAIN};
use crate::replica::Replica;
use crate::state::State;
use crate::state::machines::{Machine, Spare};
use crate::state::sightings::Sighting;
use crate::types::{InstanceId, Time};

fn wants(machine: &Machine) -> Option<Spare> {
    let waits = |spare: &Spare| !matches!(spare, Spare::Stopped(..));
    machine.spare.filter(waits).filter(|_| machine.ending.is_none())
}

/// True when a machine is to be asked to stop or to start.
pub(super) fn any_due(state: &State, calls: &Calls, elapsed: u64) -> bool {
    let due = |id: &InstanceId| calls.spares.get(id).is_none_or(|one: &Try| one.may(elapsed));
    state
        .machines
        .live()
        .any(|(id, machine)| wants(machine).is_some() && due(id))
}

/// Orders what is due. A start takes of the budget that launches keep; one that is long ago is not called any more.
pub(super) fn order(state: &State, calls: &mut Calls, elapsed: u64, now: Time, out: &mut Output) {
    let mut stopping: BTreeMap<String, Vec<InstanceId>> = BTreeMap::new();
    for (id, machine) in state.machines.live() {
        let Some(spare) = wants(machine) else { continue };
        let one = calls.spares.entry(id.clone()).or_default();
        if !one.may(elapsed) {
            continue;
        }
        let region = machine.pool.region.clone();
        let Spare::Starting(since, _) = spare else {
            one.under_way = true;
            stopping.entry(region).or_default().push(id.clone());
            continue;
        };
        if now.0 > since.0.saturating_add(START_VALID) {
            continue;
        }
        let budget = calls.budgets.entry(region.clone());
        let budget = budget.or_insert_with(|| Budget::new(elapsed));
        if !budget.take(elapsed) {
            one.not_before = elapsed.saturating_add(budget.wait());
            continue;
        }
        one.under_way = true;
        let machine = id.clone();
        calls.order(CloudCall::Start { region, machine }, now, out);
    }
    for (region, machines) in stopping {
        calls.order(CloudCall::Stop { region, machines }, now, out);
    }
}

impl Replica {
    /// A machine that stood still was asked to start.
    pub(super) fn start_done(&mut self, machine: InstanceId, outcome: &CloudOutcome) {
        let elapsed = self.elapsed_by_clock();
        let Some(leader) = self.leader.as_mut() else {
            return;
        };
        let one = leader.calls.spares.entry(machine.clone()).or_default();
        match outcome {
            CloudOutcome::Retry { after } => one.again(elapsed, *after),
            CloudOutcome::Lacked | CloudOutcome::Refused { .. } => {
                one.again(elapsed, TERMINATE_AGAIN);
                self.duty(Command::Seen(vec![Sighting::StartLacked { machine }]));
            }
            // Until a list shows that it runs it is asked now and then.
            _ => one.again(elapsed, TERMINATE_AGAIN),
        }
    }
}
