//! A list of machines against the state: what is to be told to the log. Pure; doubt tells nothing.

use std::collections::BTreeSet;

use crate::cloud::Found;
use crate::limits::{LAUNCHES_PER_PLAN_MAX, SIGHT_DELAY_MAX, START_VALID};
use crate::plant::Plant;
use crate::state::State;
use crate::state::machines::Spare;
use crate::state::sightings::Sighting;
use crate::types::{InstanceId, LaunchId, Time};

/// What a list of all machines of a region says that the state does not. `begun` is when the list was asked for, by the
/// cluster's clock, and `asked` the launches that may have a call under way or unanswered.
///
/// A list may lack what is there: new machines for minutes. So what is missing has ended only when it was known for
/// longer than that; and of a launch nothing more comes only when the list is that much younger than its last call.
pub fn reconcile(
    state: &State,
    region: &str,
    begun: Time,
    found: &[Found],
    asked: impl Fn(LaunchId) -> bool,
    plant: Plant,
) -> Vec<Sighting> {
    let mut told = Vec::new();
    let mut listed: BTreeSet<&InstanceId> = BTreeSet::new();
    for one in found {
        listed.insert(&one.started.id);
        // Of an entry that this replica has not applied: another one's, and newer than all that is known here.
        if one.launch.0 / LAUNCHES_PER_PLAN_MAX > state.applied() {
            continue;
        }
        of_found(state, one, begun, plant, &mut told);
    }
    for (id, machine) in state
        .machines
        .live()
        .filter(|(_, machine)| machine.pool.region == region)
    {
        let old = begun.0 >= machine.known.0.saturating_add(SIGHT_DELAY_MAX);
        if (old || plant.is(Plant::UnlistedGone)) && !listed.contains(id) {
            told.push(Sighting::Gone {
                machine: id.clone(),
                at: state.now(),
                reclaimed: false,
            });
        }
    }
    for (id, launch) in state
        .launches
        .live()
        .filter(|(_, launch)| launch.wanted.region == region)
    {
        let over = begun.0 >= launch.not_after.0.saturating_add(SIGHT_DELAY_MAX);
        if over && !asked(id) {
            told.push(Sighting::Nothing { launch: id });
        }
    }
    told
}

fn of_found(state: &State, one: &Found, begun: Time, plant: Plant, told: &mut Vec<Sighting>) {
    let id = &one.started.id;
    let known = state.machines.get(id);
    if known.is_none() {
        if one.ended.is_some() || !id.is_sound() || plant.is(Plant::OrphanLeft) {
            return;
        }
        told.push(Sighting::Unknown {
            launch: one.launch,
            pool: one.pool.clone(),
            started: one.started.clone(),
        });
    }
    if known.is_some_and(|machine| !machine.is_live()) {
        return;
    }
    let spare = known.and_then(|machine| machine.spare);
    let runs = |since: &Time| match spare {
        None => known.is_none_or(|machine| machine.running.is_none()),
        // What a list says of a time before it stopped is old.
        Some(Spare::Starting(_, stopped) | Spare::Stopped(stopped, _)) => *since > stopped,
        Some(Spare::Stopping(_)) => false,
    };
    match (spare, one.stopped) {
        (None | Some(Spare::Stopping(_)), Some(at))
            if known.is_some_and(|machine| machine.stopped < Some(at)) =>
        {
            told.push(Sighting::Stopped {
                machine: id.clone(),
                at,
            });
        }
        (Some(Spare::Starting(since, _)), Some(_))
            if begun.0 >= since.0.saturating_add(START_VALID + SIGHT_DELAY_MAX) =>
        {
            told.push(Sighting::StartLacked { machine: id.clone() });
        }
        _ => {}
    }
    if let Some(since) = one.running.filter(runs) {
        told.push(Sighting::Running {
            machine: id.clone(),
            since,
        });
    }
    if let Some((at, reclaimed)) = one.ended {
        told.push(Sighting::Gone {
            machine: id.clone(),
            at,
            reclaimed,
        });
    }
}
