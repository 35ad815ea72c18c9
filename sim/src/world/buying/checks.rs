//! What must hold of machines that the cluster buys.

use rebound_core::limits::CALL_BACKOFF;

use rebound_core::state::machines::Spare;

use super::*;

impl World {
    /// M1 and M4: what changes something follows from what was committed; whoever is ended for want of work has none.
    pub(super) fn check_call(&mut self, call: &CloudCall) {
        let Some(state) = self.newest_state() else { return };
        let mut wrong = None;
        match call {
            CloudCall::Launch { launch, wanted, .. } => {
                let committed = state
                    .launches
                    .get(*launch)
                    .is_some_and(|one| one.wanted == *wanted);
                wrong = (!committed)
                    .then(|| format!("M1: launch {launch} was called and is not committed like that"));
            }
            CloudCall::Terminate { machines, .. } => {
                for id in machines {
                    wrong = wrong.or_else(|| ends_wrongly(state, id));
                }
            }
            CloudCall::Stop { machines, .. } => {
                for id in machines {
                    wrong = wrong.or_else(|| stops_wrongly(state, id));
                }
            }
            CloudCall::Start { machine, .. } => wrong = starts_wrongly(state, machine),
            CloudCall::List { .. } => {}
        }
        if let Some(wrong) = wrong {
            self.checks.violated(wrong);
        }
    }

    /// A launch's call was throttled, and its server hears of it after so many µs.
    pub(super) fn note_throttled(
        &mut self,
        by: (u64, Term),
        call: &CloudCall,
        outcome: &CloudOutcome,
        after: u64,
    ) {
        let heard = self.now.saturating_add(after);
        if let (CloudCall::Launch { launch, .. }, CloudOutcome::Retry { .. }) = (call, outcome)
            && let Some(buying) = &mut self.buying
        {
            buying.throttled.insert((by.0, by.1, *launch), heard);
        }
    }

    /// An answer is one to the call that it is taken for, whoever led when that was made.
    pub(super) fn check_answer(&mut self, (server, life): (u64, u64), id: CallId, call: &CloudCall) {
        let host = self.host(server);
        let replica = host.replica.as_ref().filter(|_| host.life == life);
        let awaited = replica.and_then(|replica| replica.awaited(id));
        if let Some(taken) = awaited.filter(|awaited| *awaited != call) {
            let wrong = format!("M2: the answer to {call:?} is taken by s{server} for one to {taken:?}");
            self.checks.violated(wrong);
        }
    }

    /// M6: a call that was throttled is not made again at once by the leadership that made it: another one does not know.
    pub(super) fn check_manners(&mut self, by: (u64, Term), call: &CloudCall) {
        let (CloudCall::Launch { launch, .. }, now) = (call, self.now) else {
            return;
        };
        let Some(buying) = &mut self.buying else { return };
        let heard = buying.throttled.remove(&(by.0, by.1, *launch));
        let passed = heard.map(|heard| now.saturating_sub(heard));
        // By the server's own clock, which may be a fast one.
        if passed.is_some_and(|passed| passed < CALL_BACKOFF / 2) {
            let wrong = format!("M6: launch {launch} was throttled and called again after {passed:?} µs");
            self.checks.violated(wrong);
        }
    }

    /// M1 and M3: no launch gave more machines than it asked for, and there are never more than the caps allow.
    pub(super) fn check_machines(&mut self) {
        let Some(buying) = &self.buying else { return };
        let mut of_launch: BTreeMap<LaunchId, u32> = BTreeMap::new();
        for one in buying.cloud.instances.values() {
            *of_launch.entry(one.launch).or_default() += 1;
        }
        let live = || buying.cloud.on().map(|(_, one)| one.vcpus);
        let (instances, vcpus) = (live().count() as u32, live().sum::<u32>());
        let caps = buying.drawn.caps;
        let mut wrong = Vec::new();
        if instances > caps.0 || vcpus > caps.1 {
            wrong.push(format!(
                "M3: {instances} machines with {vcpus} vCPUs run, {} and {} may",
                caps.0, caps.1
            ));
        }
        if let Some(state) = self.newest_state() {
            for (launch, count) in of_launch {
                let asked = state
                    .launches
                    .get(launch)
                    .map_or(u32::MAX, |one| one.wanted.count);
                if count > asked {
                    wrong.push(format!(
                        "M1: launch {launch} asked for {asked} machines and gave {count}"
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.checks.violated(wrong));
    }

    /// What is not settled yet of machines, when everything else is done: M2, and that nothing is paid for nothing.
    pub(crate) fn unbought(&self) -> Option<String> {
        let buying = self.buying.as_ref()?;
        let state = self.newest_state()?;
        let live: Vec<_> = buying.cloud.live().map(|(id, _)| id).collect();
        let orphans = live.iter().filter(|id| state.machines.get(id).is_none()).count();
        let (launches, machines) = (state.launches.live_count(), state.machines.live_count());
        (launches + machines + live.len() > 0).then(|| {
            let live = live.len();
            format!("{live} machines run, {orphans} of them unknown, {machines} are known; {launches} launches are open")
        })
    }

    /// How much longer all that may take: a list may lack a machine for minutes, and one that is idle stays a while.
    pub(crate) fn buying_takes(&self) -> u64 {
        match self.buying {
            None => 0,
            Some(_) => 45 * 60 * SECOND,
        }
    }

    /// Counts what the cloud counted.
    pub(crate) fn count_cloud(&mut self) {
        let calls = self.buying.iter().flat_map(|buying| buying.cloud.calls.clone());
        for (what, count) in calls.collect::<Vec<_>>() {
            *self.counters.entry(what).or_default() += count;
        }
    }
}

/// Why a machine should not be ended.
fn ends_wrongly(state: &State, id: &InstanceId) -> Option<String> {
    let Some(machine) = state.machines.get(id) else {
        return Some(format!("M1: {id} is ended and not known"));
    };
    let held = machine.joined.map_or(0, |(worker, _)| state.runs.held_by(worker));
    match machine.ending {
        None => Some(format!("M1: {id} is ended, and nothing committed says so")),
        Some((EndWhy::Idle | EndWhy::TooDear, _)) if held > 0 => {
            Some(format!("M4: {id} is ended and has {held} photos"))
        }
        Some(_) => None,
    }
}

/// Why a machine should not be stopped.
fn stops_wrongly(state: &State, id: &InstanceId) -> Option<String> {
    let machine = state.machines.get(id);
    let held = machine
        .and_then(|one| one.joined)
        .map_or(0, |(worker, _)| state.runs.held_by(worker));
    match machine.and_then(|one| one.spare) {
        Some(Spare::Stopping(_)) if held > 0 => Some(format!("M4: {id} is stopped and has {held} photos")),
        // The cloud has shown meanwhile that it stands still.
        Some(_) => None,
        None => Some(format!("M1: {id} is stopped, and nothing committed says so")),
    }
}

/// Why a machine should not be started.
fn starts_wrongly(state: &State, id: &InstanceId) -> Option<String> {
    let machine = state.machines.get(id);
    let may = machine.is_some_and(|one| one.restarted.is_some());
    (!may).then(|| format!("M1: {id} is started, and nothing committed says so"))
}
