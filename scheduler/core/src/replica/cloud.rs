//! Calls of the cloud: what follows from the state, made by a leader that was confirmed after the intent was committed,
//! again and again until its outcome is known.

use std::collections::{BTreeMap, BTreeSet};

use super::Replica;
use super::budget::Budget;
use crate::cloud::{CloudCall, CloudOutcome, Found, token};
use crate::command::Command;
use crate::io::Output;
use crate::limits::*;
use crate::plant::Plant;
use crate::reconcile::reconcile;
use crate::scaling::Foresight;
use crate::schedule::quarter_of;
use crate::state::State;
use crate::state::buying::{Settled, Started};
use crate::state::launches::{Lack, Outcome};
use crate::state::machines::Machine;
use crate::state::sightings::Sighting;
use crate::types::*;

mod prices;
mod spares;

/// A leader numbers so many calls, in bits, before it would take another term's numbers.
const CALLS_PER_TERM_BITS: u32 = 32;

/// When a call may be made again, in µs of running time as the cluster's clock counts it.
#[derive(Clone, Copy, Debug, Default)]
struct Try {
    under_way: bool,
    not_before: u64,
    failed: u32,
    /// Some call of it had no answer, or may have been made by an earlier leader.
    unknown: bool,
}

impl Try {
    fn may(&self, elapsed: u64) -> bool {
        !self.under_way && elapsed >= self.not_before
    }

    fn again(&mut self, elapsed: u64, after: u64) {
        let backoff = CALL_BACKOFF
            .saturating_mul(1 << self.failed.min(16))
            .min(CALL_BACKOFF_MAX);
        self.under_way = false;
        self.failed += 1;
        self.not_before = elapsed.saturating_add(after.max(backoff));
    }
}

/// A leader's calls. Nothing in here matters to anybody after it.
#[derive(Default)]
pub(crate) struct Calls {
    next: u64,
    under_way: BTreeMap<CallId, Ordered>,
    launches: BTreeMap<LaunchId, Try>,
    endings: BTreeMap<InstanceId, Try>,
    /// Stops and starts.
    spares: BTreeMap<InstanceId, Try>,
    lists: BTreeMap<String, Try>,
    /// Of launches, by region.
    budgets: BTreeMap<String, Budget>,
    /// raft's context of the question whether this is still the leader, and the index that was applied when it was asked.
    confirming: Option<(u64, Index)>,
    /// It was, after this index.
    confirmed: Option<Index>,
}

struct Ordered {
    call: CloudCall,
    /// By the cluster's clock.
    begun: Time,
}

impl Calls {
    /// Those of a leadership. Their numbers are no earlier one's: an answer that comes late is to be taken for nothing.
    pub(crate) fn of(term: Term) -> Calls {
        Calls {
            next: term << CALLS_PER_TERM_BITS,
            ..Calls::default()
        }
    }

    fn order(&mut self, call: CloudCall, begun: Time, out: &mut Output) {
        self.next += 1;
        let id = CallId(self.next);
        out.calls.push((id, call.clone()));
        self.under_way.insert(id, Ordered { call, begun });
    }

    /// Launches that a call may still bring machines of.
    fn may_bring(&self, launch: LaunchId) -> bool {
        self.launches.get(&launch).is_some_and(|one| one.under_way)
    }

    /// raft says that this replica led when the context was asked.
    pub(super) fn answered(&mut self, context: u64) {
        if let Some((_, index)) = self.confirming.take_if(|(asked, _)| *asked <= context) {
            self.confirmed = Some(index);
        }
    }
}

impl Replica {
    /// Asks whether this is still the leader, when some call that changes something is due; see [`Self::order_calls`].
    pub(super) fn confirm_calls(&mut self) {
        let (elapsed, applied) = (self.elapsed_by_clock(), self.state.applied());
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        if self.state.launches.live_count() == 0 && self.state.machines.live_count() == 0 {
            return;
        }
        let calls = &mut leader.calls;
        if calls.confirming.is_some() || calls.confirmed.is_some() || !any_due(&self.state, calls, elapsed) {
            return;
        }
        let context = self.asks.new_context();
        calls.confirming = Some((context, applied));
        self.raft.read_index(context.to_be_bytes().to_vec());
    }

    /// Orders calls that are due. Those that change something follow from what was applied when leadership was asked for.
    pub(super) fn order_calls(&mut self, out: &mut Output) {
        let (elapsed, state) = (self.elapsed_by_clock(), &self.state);
        let cluster = &self.state.meta().cluster;
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        let now = leader.clock.peek(self.now);
        let calls = &mut leader.calls;
        list(state, calls, elapsed, now, out);
        let Some(index) = calls.confirmed.take() else {
            return;
        };
        for (id, launch) in state.launches.live() {
            let known = id.0 / LAUNCHES_PER_PLAN_MAX <= index;
            let one = calls.launches.entry(id).or_insert(Try {
                unknown: true,
                ..Try::default()
            });
            if !known || !one.may(elapsed) || now > launch.not_after {
                continue;
            }
            let region = launch.wanted.region.clone();
            let budget = calls
                .budgets
                .entry(region)
                .or_insert_with(|| Budget::new(elapsed));
            if !budget.take(elapsed) {
                one.not_before = elapsed.saturating_add(budget.wait());
                continue;
            }
            one.under_way = true;
            let tries = if self.config.plant.is(Plant::TokenPerTry) {
                one.failed
            } else {
                0
            };
            let own = token(cluster, id);
            let call = CloudCall::Launch {
                launch: id,
                token: if tries == 0 { own } else { format!("{own}-{tries}") },
                wanted: launch.wanted.clone(),
                not_after: launch.not_after,
            };
            calls.order(call, now, out);
        }
        let mut ending: BTreeMap<String, Vec<InstanceId>> = BTreeMap::new();
        for (id, machine) in state
            .machines
            .live()
            .filter(|(_, machine)| machine.ending.is_some())
        {
            let one = calls.endings.entry(id.clone()).or_default();
            if one.may(elapsed) {
                one.under_way = true;
                ending
                    .entry(machine.pool.region.clone())
                    .or_default()
                    .push(id.clone());
            }
        }
        for (region, machines) in ending {
            calls.order(CloudCall::Terminate { region, machines }, now, out);
        }
        spares::order(state, calls, elapsed, now, out);
    }

    /// What an answer under this number would be taken for the answer to; none: this leadership awaits none.
    pub fn awaited(&self, id: CallId) -> Option<&CloudCall> {
        let ordered = self.leader.as_ref()?.calls.under_way.get(&id)?;
        Some(&ordered.call)
    }

    /// A call has come to something.
    pub(super) fn cloud_done(&mut self, id: CallId, outcome: CloudOutcome) {
        let elapsed = self.elapsed_by_clock();
        let Some(leader) = self.leader.as_mut() else {
            return;
        };
        let Some(Ordered { call, begun }) = leader.calls.under_way.remove(&id) else {
            return;
        };
        let budgeted = match &call {
            CloudCall::Launch { wanted, .. } => Some(&wanted.region),
            CloudCall::Start { region, .. } => Some(region),
            _ => None,
        };
        if let Some(region) = budgeted {
            let budget = leader.calls.budgets.entry(region.clone());
            let budget = budget.or_insert_with(|| Budget::new(elapsed));
            match outcome {
                CloudOutcome::Retry { after: 1.. } => budget.throttled(),
                _ => budget.taken(),
            }
        }
        match call {
            CloudCall::Launch { launch, .. } => self.launch_done(launch, outcome),
            CloudCall::Terminate { machines, .. } => {
                ask_again(&mut leader.calls.endings, machines, &outcome, elapsed)
            }
            CloudCall::Stop { machines, .. } => {
                ask_again(&mut leader.calls.spares, machines, &outcome, elapsed)
            }
            CloudCall::Start { machine, .. } => self.start_done(machine, &outcome),
            CloudCall::List { region } => self.listed(region, begun, outcome),
        }
    }

    fn launch_done(&mut self, launch: LaunchId, outcome: CloudOutcome) {
        let at_once = self.config.plant.is(Plant::RetryAtOnce);
        let elapsed = self.elapsed_by_clock();
        let Some(leader) = self.leader.as_mut() else {
            return;
        };
        let one = leader.calls.launches.entry(launch).or_default();
        let settled = |outcome, started: Vec<Started>, lacked: Vec<(String, String, Lack)>| {
            Command::LaunchSettled(Box::new(Settled {
                launch,
                outcome,
                started,
                lacked,
            }))
        };
        let command = match outcome {
            CloudOutcome::Launched { started, lacked } => {
                let got = u32::try_from(started.len()).unwrap_or(u32::MAX);
                settled(Outcome::Answered { got }, started, lacked)
            }
            CloudOutcome::Refused { why } => settled(Outcome::Refused { why }, Vec::new(), Vec::new()),
            CloudOutcome::Retry { after } => {
                one.again(elapsed, after);
                one.not_before = if at_once { elapsed } else { one.not_before };
                return;
            }
            CloudOutcome::Unknown
            | CloudOutcome::Listed(_)
            | CloudOutcome::Terminating
            | CloudOutcome::Accepted
            | CloudOutcome::Lacked => {
                one.unknown = true;
                return one.again(elapsed, 0);
            }
        };
        // It stays under way: nothing is called again until the entry is applied, and then it is settled.
        self.duty(command);
    }

    fn listed(&mut self, region: String, begun: Time, outcome: CloudOutcome) {
        let elapsed = self.elapsed_by_clock();
        let Some(leader) = self.leader.as_mut() else {
            return;
        };
        let one = leader.calls.lists.entry(region.clone()).or_default();
        let found: Vec<Found> = match outcome {
            CloudOutcome::Listed(found) => found,
            CloudOutcome::Retry { after } => return one.again(elapsed, after),
            _ => return one.again(elapsed, 0),
        };
        (one.under_way, one.failed) = (false, 0);
        one.not_before = elapsed + list_every(&self.state, &region);
        let calls = &leader.calls;
        let told = reconcile(
            &self.state,
            &region,
            begun,
            &found,
            |launch| calls.may_bring(launch),
            self.config.plant,
        );
        for part in told.chunks(SIGHTINGS_PER_ENTRY_MAX) {
            self.duty(Command::Seen(part.to_vec()));
        }
    }

    /// Each second or so: what never joined shall end; what nobody needs to remember is forgotten.
    pub(super) fn fleet_duties(&mut self) {
        let (elapsed, state) = (self.elapsed_by_clock(), &self.state);
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        if elapsed.saturating_sub(leader.fleet_ticked) < FLEET_TICK {
            return;
        }
        leader.fleet_ticked = elapsed;
        leader.fleet_wanted = true;
        let Some(control) = state.control.known() else {
            return;
        };
        let quarter = leader.arrivals.over(leader.clock.peek(self.now));
        let calls = &mut leader.calls;
        calls.launches.retain(|id, _| {
            state
                .launches
                .get(*id)
                .is_some_and(|launch| launch.settled.is_none())
        });
        calls
            .endings
            .retain(|id, _| state.machines.get(id).is_some_and(|machine| machine.is_live()));
        calls.spares.retain(|id, _| {
            state
                .machines
                .get(id)
                .is_some_and(|machine| machine.spare.is_some())
        });
        let now = leader.clock.peek(self.now);
        let within = control.scaling.brakes.join_within;
        let late = state.machines.live().filter(|(_, machine)| {
            let since = machine.running.or(machine.restarted).unwrap_or(machine.known);
            let may = machine.joined.is_none() && machine.ending.is_none() && !machine.rests();
            may && now.0.saturating_sub(since.0) > within
        });
        let late: Vec<InstanceId> = late.map(|(id, _)| id.clone()).collect();
        let quarter =
            quarter.map(|(begun, took)| (begun, quarter_of(begun, &control.scaling.week_zone), took));
        // A quarter hour of which nothing is known and in which nothing came is not worth an entry.
        let quarter = quarter.filter(|(_, quarter, took)| {
            let watches = control.scaling.foresight != Foresight::Off;
            watches && (!took.is_empty() || state.profile.knows(*quarter))
        });
        self.measure_duty();
        if let Some((begun, quarter, took)) = quarter {
            self.duty(Command::QuarterOver { begun, quarter, took });
        }
        if !late.is_empty() {
            self.duty(Command::NeverJoined(late));
        }
    }

    /// The cloud told a machine that it takes it back.
    pub(super) fn noticed(&mut self, machine: InstanceId, at: Time) {
        let known = self.state.machines.get(&machine);
        if known.is_some_and(|one| one.is_live() && one.notice.is_none_or(|before| at < before)) {
            self.duty(Command::Seen(vec![Sighting::Noticed { machine, at }]));
        }
    }
}

/// Until a list shows that machines are as they shall be, they are asked to now and then.
fn ask_again(
    tries: &mut BTreeMap<InstanceId, Try>,
    machines: Vec<InstanceId>,
    outcome: &CloudOutcome,
    elapsed: u64,
) {
    let after = match outcome {
        CloudOutcome::Retry { after } => *after,
        _ => TERMINATE_AGAIN,
    };
    for machine in machines {
        tries.entry(machine).or_default().again(elapsed, after);
    }
}

fn any_due(state: &State, calls: &Calls, elapsed: u64) -> bool {
    let launch = |id| calls.launches.get(&id).is_none_or(|one| one.may(elapsed));
    let ending = |id| calls.endings.get(id).is_none_or(|one: &Try| one.may(elapsed));
    state.launches.live().any(|(id, _)| launch(id))
        || state
            .machines
            .live()
            .any(|(id, machine)| machine.ending.is_some() && ending(id))
        || spares::any_due(state, calls, elapsed)
}

/// Lists each region in which there is or may be something.
fn list(state: &State, calls: &mut Calls, elapsed: u64, now: Time, out: &mut Output) {
    let of_launches = state.launches.live().map(|(_, launch)| &launch.wanted.region);
    let of_machines = state.machines.live().map(|(_, machine)| &machine.pool.region);
    let regions: BTreeSet<String> = of_launches.chain(of_machines).cloned().collect();
    for region in regions {
        let one = calls.lists.entry(region.clone()).or_default();
        if one.may(elapsed) {
            one.under_way = true;
            calls.order(CloudCall::List { region }, now, out);
        }
    }
}

/// µs until a region is listed again: soon while something is on its way there.
fn list_every(state: &State, region: &str) -> u64 {
    let launches = state
        .launches
        .live()
        .any(|(_, launch)| launch.wanted.region == region);
    let mut machines = state
        .machines
        .live()
        .filter(|(_, machine)| machine.pool.region == region);
    let waits = |machine: &Machine| match machine.ending {
        None if machine.is_stopped() => false,
        None => machine.running.is_none() || machine.spare.is_some(),
        Some(_) => true,
    };
    match launches || machines.any(|(_, machine)| waits(machine)) {
        true => LIST_SOON,
        false => LIST_EVERY,
    }
}
