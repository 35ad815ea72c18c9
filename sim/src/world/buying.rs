//! Machines that the cluster buys: calls of the cloud and their answers, machines that boot, are taken back and end, and
//! what must hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::command::Command;
use rebound_core::io::{Input, Request};
use rebound_core::market::{Market as Prices, Quote, Speed};
use rebound_core::scaling::{Caps, Foresight, Mode, Scaling, Spares, Threshold};
use rebound_core::schedule::Schedule;
use rebound_core::state::State;
use rebound_core::state::machines::EndWhy;
use rebound_core::types::*;

use super::{Happening, World};
use crate::agents::Agent;
use crate::cloud::SimCloud;
use crate::faults::Kind;
use crate::faults::cloud::Cloud;
use crate::hosts::Clocks;
use crate::net::FIRST_AGENT;
use crate::points::Point;
use crate::rng::Rng;

mod checks;
mod prices;
mod trouble;

use prices::Feed;

/// A call has no answer after so long, in µs.
const CALL_TIMEOUT: u64 = 10 * SECOND;
/// Of calls that are lost so many fail at once, in a million.
const FAILS_AT_ONCE: u64 = 300_000;
/// Where spot is too dear, where it has one: soon, so that it happens often.
const THRESHOLD: Threshold = Threshold {
    high: 700,
    high_for: 2 * SECOND,
    low: 600,
    low_for: 5 * SECOND,
    hold: 10 * SECOND,
};
const REGION: &str = "us-east-1";
const ZONES: [&str; 3] = ["use1-az1", "use1-az2", "use1-az3"];
/// Type, vCPUs, on-demand price in millionths of USD an hour.
const TYPES: [(&str, u32, u64); 2] = [("c5.large", 2, 85_000), ("c5.xlarge", 4, 170_000)];

/// One thing that happens to machines.
pub(crate) enum Step {
    /// A call reaches the cloud, or not.
    Called {
        server: u64,
        life: u64,
        term: Term,
        id: CallId,
        call: Box<CloudCall>,
    },
    /// Its answer, or that there is none, reaches the server.
    Answered {
        server: u64,
        life: u64,
        id: CallId,
        call: Box<CloudCall>,
        outcome: Box<CloudOutcome>,
    },
    /// A machine's agent starts.
    Boots(InstanceId),
    /// Its agent hears that it will be taken back, so many µs from now.
    Noticed(InstanceId, u64),
    /// It is taken back.
    Taken(InstanceId),
    /// Prices come.
    Prices,
    /// The bill comes.
    Bill,
}

impl Step {
    /// What happens, for people.
    pub fn words(&self) -> String {
        match self {
            Step::Called { server, id, call, .. } => match &**call {
                CloudCall::Launch { launch, wanted, .. } => {
                    format!(
                        "s{server} calls {id}: launch {launch} of {} {:?}",
                        wanted.count, wanted.market
                    )
                }
                CloudCall::Terminate { machines, .. } => format!("s{server} calls {id}: end {machines:?}"),
                CloudCall::Stop { machines, .. } => format!("s{server} calls {id}: stop {machines:?}"),
                CloudCall::Start { machine, .. } => format!("s{server} calls {id}: start {machine}"),
                CloudCall::List { .. } => format!("s{server} calls {id}: list"),
            },
            Step::Answered {
                server, id, outcome, ..
            } => format!("s{server} hears of {id}: {outcome:?}"),
            Step::Boots(machine) => format!("{machine} boots"),
            Step::Noticed(machine, within) => {
                format!("{machine} hears that it goes in {} s", within / SECOND)
            }
            Step::Taken(machine) => format!("{machine} is taken back"),
            Step::Prices => "prices".into(),
            Step::Bill => "the bill comes".into(),
        }
    }
}

/// What a world that buys has besides.
pub(crate) struct Buying {
    pub cloud: SimCloud,
    drawn: Cloud,
    pub rng: Rng,
    /// The agent of each machine that has one.
    agents: BTreeMap<InstanceId, usize>,
    /// Machines that were told that they will be taken back.
    noticed: BTreeSet<InstanceId>,
    /// When each machine that was started again runs.
    starting: BTreeMap<InstanceId, u64>,
    feed: Feed,
    heard: Time,
    lately: Vec<(Time, u64)>,
    /// When each server hears, in each term that it leads, that a launch's call was throttled.
    throttled: BTreeMap<(u64, Term, LaunchId), u64>,
    /// The next launch is the last thing that is heard of the cloud for a while.
    cut_at_launch: bool,
    /// Until when nothing is heard after a launch that nobody may call any more by then.
    cut_until: u64,
}

impl Buying {
    pub fn new(drawn: Cloud, root: &Rng) -> Buying {
        Buying {
            cloud: SimCloud::new(drawn.nature.clone(), root.branch("cloud calls")),
            drawn,
            rng: root.branch("cloud weather"),
            agents: BTreeMap::new(),
            noticed: BTreeSet::new(),
            starting: BTreeMap::new(),
            feed: Feed::default(),
            heard: Time(0),
            lately: Vec::new(),
            throttled: BTreeMap::new(),
            cut_at_launch: false,
            cut_until: 0,
        }
    }

    /// Nobody is kept for nothing when all shall come to rest.
    fn policy(&self, calm: bool, now: u64) -> Scaling {
        let (mut instances, mut vcpus) = self.drawn.caps;
        let recap = self.drawn.recap;
        if recap > 0 && !calm && now / recap % 2 == 1 {
            (instances, vcpus) = (instances.div_ceil(2), vcpus.div_ceil(2));
        }
        let floor = Schedule {
            name: "odd minutes".into(),
            cron: "1-59/2 * * * *".into(),
            time_zone: "UTC".into(),
            lasts: 60 * SECOND,
            recogniser: "noop".into(),
            at_least: self.drawn.floor,
            at_most: None,
        };
        Scaling {
            mode: Mode::Act,
            within: self.drawn.hurry,
            late_within: self.drawn.hurry,
            threshold: self.drawn.threshold.then_some(THRESHOLD),
            schedules: match calm || self.drawn.floor == 0 {
                true => Vec::new(),
                false => vec![floor],
            },
            spot: self.drawn.spot,
            foresight: Foresight::Act,
            spares: self
                .drawn
                .spares
                .filter(|_| !calm)
                .map(|(photos, within)| Spares {
                    recogniser: "noop".into(),
                    photos,
                    within,
                    start: 10 * SECOND,
                    volume: 1_000,
                }),
            // Who is kept for a burst stops as soon as its minute is over.
            keep: match self.drawn.spares.filter(|_| !calm) {
                Some(_) => 0,
                None => Scaling::default().keep,
            },
            ready: 30 * SECOND,
            caps: Caps {
                instances,
                vcpus,
                hour: 10_000_000,
                day: 50_000_000,
                committed: 300 * SECOND,
            },
            ..Scaling::default()
        }
    }
}

fn pool(zone: &str, instance_type: &str, market: Market) -> Pool {
    Pool {
        region: REGION.into(),
        zone_id: zone.into(),
        instance_type: instance_type.into(),
        market,
    }
}

/// All that there are.
fn pools() -> impl Iterator<Item = Pool> {
    let types = |zone| TYPES.map(|(instance_type, ..)| (zone, instance_type));
    let both = |(zone, instance_type)| {
        [Market::Spot, Market::OnDemand].map(|market| pool(zone, instance_type, market))
    };
    ZONES.into_iter().flat_map(types).flat_map(both)
}

/// The same machines on demand.
fn on_demand(pool: &Pool) -> Pool {
    Pool {
        market: Market::OnDemand,
        ..pool.clone()
    }
}

/// The cloud's own clock.
fn wall(at: u64) -> Time {
    Clocks::default().now(at).wall
}

impl World {
    pub(super) fn begin_buying(&mut self) {
        if self.buying.is_some() {
            self.buys(SECOND, Step::Prices);
            self.begin_bills();
        }
    }

    fn buys(&mut self, us: u64, step: Step) {
        self.after(us, Happening::Buying(step));
    }

    pub(super) fn buys_again(&mut self, every: u64, step: Step) {
        if every > 0 && !self.calm {
            let wait = self
                .buying
                .as_mut()
                .map_or(every, |one| one.rng.within(every / 4, every * 7 / 4));
            self.buys(wait, step);
        }
    }

    /// The operator wants the policy that the seed has.
    pub(super) fn steers(&mut self) {
        let (calm, now) = (self.calm, self.now);
        let Some(wanted) = self.buying.as_ref().map(|buying| buying.policy(calm, now)) else {
            return;
        };
        let in_force = self.newest_state().map(|state| state.control.get().scaling);
        if in_force.is_some_and(|scaling| scaling != wanted) {
            let command = Command::Steer {
                scaling: Box::new(wanted),
                check: None,
            };
            self.operator_asks(Request::Steer(Box::new(command)));
        }
        let braked = self
            .newest_state()
            .is_some_and(|state| state.control.get().brake.is_some());
        if braked {
            self.count("brakes thawed");
            self.operator_asks(Request::Steer(Box::new(Command::Thaw)));
        }
        self.freezes();
    }

    /// A server's calls go out. False when it ended over that.
    pub(super) fn calls_cloud(&mut self, server: u64, life: u64, calls: Vec<(CallId, CloudCall)>) -> bool {
        let term = self.term_of(server);
        for (id, call) in calls {
            let launches = matches!(call, CloudCall::Launch { .. });
            if launches && self.strikes(server, Point::LaunchUncalled) {
                return false;
            }
            // Here, and not when it comes there: the server that knows why may be gone by then.
            self.check_call(&call);
            self.check_manners((server, term), &call);
            let Some(buying) = &mut self.buying else {
                return true;
            };
            let way = buying.cloud.way();
            self.buys(
                way,
                Step::Called {
                    server,
                    life,
                    term,
                    id,
                    call: Box::new(call),
                },
            );
            if launches && self.strikes(server, Point::LaunchUnsettled) {
                return false;
            }
        }
        true
    }

    pub(super) fn buying_step(&mut self, step: Step) {
        match step {
            Step::Called {
                server,
                life,
                term,
                id,
                call,
            } => self.called((server, life, term), id, &call),
            Step::Answered {
                server,
                life,
                id,
                call,
                outcome,
            } => {
                self.check_answer((server, life), id, &call);
                let outcome = *outcome;
                self.input(server, life, Input::CloudDone { call: id, outcome });
            }
            Step::Boots(machine) => self.boots(machine),
            Step::Noticed(machine, within) => self.hears_notice(&machine, within),
            Step::Taken(machine) => self.taken(&machine),
            Step::Prices => self.tells_prices(),
            Step::Bill => self.tells_bill(),
        }
    }

    fn called(&mut self, (server, life, term): (u64, u64, Term), id: CallId, call: &CloudCall) {
        let now = self.now;
        let cut = matches!(call, CloudCall::Launch { .. }) && self.is_cut_at_launch();
        let Some(buying) = &mut self.buying else { return };
        let (lost, way) = (buying.cloud.meets(Kind::LostAnswer, now), buying.cloud.way());
        // A call that never came there, and one whose answer is lost, look the same from here.
        let reached = !lost || cut || buying.rng.chance(500_000);
        let at_once = lost && buying.rng.chance(FAILS_AT_ONCE);
        let before: Vec<InstanceId> = buying.cloud.instances.keys().cloned().collect();
        let outcome = match reached {
            true => buying.cloud.call(now, call, wall),
            false => CloudOutcome::Unknown,
        };
        let new = buying
            .cloud
            .instances
            .iter()
            .filter(|(id, _)| !before.contains(id));
        let new: Vec<(InstanceId, u64)> = new.map(|(id, one)| (id.clone(), one.runs)).collect();
        if lost {
            self.count("calls without an answer");
            self.count(match (reached, at_once) {
                (false, _) => "calls lost",
                (true, false) => "answers lost",
                (true, true) => "calls done that failed",
            });
        }
        for (machine, runs) in new {
            let Some(buying) = &mut self.buying else { return };
            if buying.cloud.meets(Kind::NeverJoin, now) {
                self.count("machines that never join");
                continue;
            }
            let (from, to) = buying.drawn.boot;
            let boot = buying.rng.within(from, to);
            self.at(runs + boot, Happening::Buying(Step::Boots(machine)));
        }
        if let CloudCall::Terminate { machines, .. } = call {
            machines.iter().for_each(|machine| self.machine_ends(machine));
        }
        if let CloudCall::Stop { machines, .. } = call {
            machines.iter().for_each(|machine| self.machine_ends(machine));
        }
        if let CloudCall::Start { machine, .. } = call {
            self.machine_starts(machine);
        }
        self.check_machines();
        let (after, outcome) = match (lost, at_once) {
            (true, false) => (CALL_TIMEOUT, CloudOutcome::Unknown),
            (true, true) => (way, CloudOutcome::Unknown),
            (false, _) => (way, outcome),
        };
        self.note_throttled((server, term), call, &outcome, after);
        self.buys(
            after,
            Step::Answered {
                server,
                life,
                id,
                call: Box::new(call.clone()),
                outcome: Box::new(outcome),
            },
        );
    }

    fn boots(&mut self, machine: InstanceId) {
        let Some(buying) = &mut self.buying else { return };
        let Some(instance) = buying.cloud.instances.get(&machine).filter(|one| one.is_on()) else {
            return;
        };
        // One that stopped before it had booted boots once.
        if buying
            .agents
            .get(&machine)
            .is_some_and(|agent| !self.agents[*agent].gone)
        {
            return;
        }
        let (slots, index) = (instance.vcpus, self.agents.len());
        let rng = buying.rng.branch(&machine.0);
        let node = FIRST_AGENT + index as u64;
        let agent = Agent::new(node, slots, self.faults.load.spool, 1, rng).named(&machine.0);
        buying.agents.insert(machine, index);
        self.agents.push(agent);
        self.count("machines that boot");
        self.start_agent(index);
    }

    /// A machine that stood still starts: its agent comes sooner than at first, or never.
    fn machine_starts(&mut self, machine: &InstanceId) {
        let now = self.now;
        let Some(buying) = &mut self.buying else { return };
        let one = buying.cloud.instances.get(machine);
        let Some(runs) = one
            .filter(|one| one.is_on() && one.runs > now)
            .map(|one| one.runs)
        else {
            return;
        };
        if one.is_some_and(|one| one.ran.is_empty())
            || buying.starting.insert(machine.clone(), runs) == Some(runs)
        {
            return;
        }
        if buying.cloud.meets(Kind::NeverJoin, now) {
            return self.count("machines that never join");
        }
        let (from, to) = buying.drawn.boot;
        let boot = buying.rng.within(from, from + (to - from) / 3);
        self.at(runs + boot, Happening::Buying(Step::Boots(machine.clone())));
    }

    /// What is on a machine that has ended, or stands still, is gone.
    fn machine_ends(&mut self, machine: &InstanceId) {
        let Some(buying) = &self.buying else { return };
        let ended = buying
            .cloud
            .instances
            .get(machine)
            .is_some_and(|one| !one.is_on());
        let Some(agent) = buying.agents.get(machine).copied().filter(|_| ended) else {
            return;
        };
        let host = &mut self.agents[agent];
        host.gone = true;
        host.machine = None;
        host.life += 1;
        host.stream = None;
        host.spool.clear();
        self.streams.retain(|_, (of, _)| *of != agent);
    }
}
