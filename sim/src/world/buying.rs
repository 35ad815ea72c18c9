//! Machines that the cluster buys: calls of the cloud and their answers, machines that boot, are taken back and end, and
//! what must hold of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::command::Command;
use rebound_core::io::{Input, Request};
use rebound_core::market::{Market as Prices, Quote, Speed};
use rebound_core::scaling::{Caps, Foresight, Mode, Scaling, Threshold};
use rebound_core::schedule::Schedule;
use rebound_core::state::State;
use rebound_core::state::machines::EndWhy;
use rebound_core::types::*;

use super::{Happening, World};
use crate::agents::Agent;
use crate::cloud::SimCloud;
use crate::faults::cloud::Cloud;
use crate::hosts::Clocks;
use crate::net::FIRST_AGENT;
use crate::points::Point;
use crate::rng::Rng;

mod checks;

/// A call has no answer after so long, in µs.
const CALL_TIMEOUT: u64 = 10 * SECOND;
/// The cloud's notice.
const NOTICE: u64 = 120 * SECOND;
/// A zone that is lost loses its machines within so long.
const ZONE_WITHIN: u64 = 180 * SECOND;
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
        id: CallId,
        call: Box<CloudCall>,
    },
    /// Its answer, or that there is none, reaches the server.
    Answered {
        server: u64,
        life: u64,
        id: CallId,
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
    /// Somebody is taken back.
    Reclaim,
    /// A zone is lost.
    ZoneLost,
    /// The feed of prices is gone.
    FeedGone,
    /// No call has an answer for a while.
    CloudCut,
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
            Step::Reclaim => "one is to be taken back".into(),
            Step::ZoneLost => "a zone is lost".into(),
            Step::FeedGone => "no prices for a while".into(),
            Step::CloudCut => "the cloud does not answer for a while".into(),
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
    /// Prices do not come before then.
    feed_back: u64,
    /// Nor answers to calls.
    cut_until: u64,
    heard: Time,
    lately: Vec<(Time, u64)>,
    /// When each server hears, in each of its lives, that a launch's call was throttled.
    throttled: BTreeMap<(u64, u64, LaunchId), u64>,
}

impl Buying {
    pub fn new(drawn: Cloud, root: &Rng) -> Buying {
        Buying {
            cloud: SimCloud::new(drawn.nature.clone(), root.branch("cloud calls")),
            drawn,
            rng: root.branch("cloud weather"),
            agents: BTreeMap::new(),
            feed_back: 0,
            cut_until: 0,
            heard: Time(0),
            lately: Vec::new(),
            throttled: BTreeMap::new(),
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
            foresight: Foresight::Act,
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

    /// The market at a moment: spot wanders between a fifth and more than the whole of on-demand.
    fn prices(&mut self, now: Time) -> Prices {
        if now.0 >= self.feed_back {
            self.heard = now;
            let share = self.rng.within(200, 1_100);
            self.lately.push((now, share));
            let keep = self.lately.len().saturating_sub(30);
            self.lately.drain(..keep);
        }
        let mut market = Prices {
            heard: self.heard,
            ..Prices::default()
        };
        let mut speeds = BTreeMap::new();
        for (at, zone) in ZONES.iter().enumerate() {
            for (instance_type, vcpus, on_demand) in TYPES {
                for kind in [Market::Spot, Market::OnDemand] {
                    let of = |share: u64| MicroUsd(on_demand * (share + 10 * at as u64) / 1_000);
                    let price = match kind {
                        Market::Spot => of(self.lately.last().map_or(500, |(_, share)| *share)),
                        _ => MicroUsd(on_demand),
                    };
                    let pool = Pool {
                        region: REGION.into(),
                        zone_id: (*zone).into(),
                        instance_type: instance_type.into(),
                        market: kind,
                    };
                    let quote = Quote {
                        price,
                        on_demand: MicroUsd(on_demand),
                        lately: self.lately.iter().map(|(at, share)| (*at, of(*share))).collect(),
                        vcpus,
                        resources: Resources::default(),
                        interruptions: 0,
                    };
                    market.pools.insert(pool.clone(), quote);
                    let us_per_photo = 60 * MILLISECOND / u64::from(vcpus);
                    let machine = MicroUsd(price.0 * us_per_photo / 3_600_000);
                    speeds.insert(
                        pool,
                        Speed {
                            slots: vcpus,
                            us_per_photo,
                            machine,
                            ..Speed::default()
                        },
                    );
                }
            }
        }
        market.speeds.insert("noop".into(), speeds);
        market
    }
}

/// The cloud's own clock.
fn wall(at: u64) -> Time {
    Clocks::default().now(at).wall
}

impl World {
    pub(super) fn begin_buying(&mut self) {
        let Some(buying) = &self.buying else { return };
        let drawn = buying.drawn.clone();
        self.buys(SECOND, Step::Prices);
        self.buys_again(drawn.reclaim_every, Step::Reclaim);
        self.buys_again(drawn.zone_lost.0, Step::ZoneLost);
        self.buys_again(drawn.feed_gone.0, Step::FeedGone);
        self.buys_again(drawn.cut.0, Step::CloudCut);
        self.begin_bills();
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
        for (id, call) in calls {
            let launches = matches!(call, CloudCall::Launch { .. });
            if launches && self.strikes(server, Point::LaunchUncalled) {
                return false;
            }
            // Here, and not when it comes there: the server that knows why may be gone by then.
            self.check_call(&call);
            self.check_manners(server, life, &call);
            let Some(buying) = &mut self.buying else {
                return true;
            };
            let way = buying.cloud.way();
            self.buys(
                way,
                Step::Called {
                    server,
                    life,
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
                id,
                call,
            } => self.called(server, life, id, &call),
            Step::Answered {
                server,
                life,
                id,
                outcome,
            } => {
                let outcome = *outcome;
                self.input(server, life, Input::CloudDone { call: id, outcome });
            }
            Step::Boots(machine) => self.boots(machine),
            Step::Noticed(machine, within) => self.hears_notice(&machine, within),
            Step::Taken(machine) => self.taken(&machine),
            Step::Prices => self.tells_prices(),
            Step::Reclaim => self.reclaims(),
            Step::ZoneLost => self.loses_zone(),
            Step::FeedGone => self.loses_feed(),
            Step::CloudCut => self.cuts_cloud(),
            Step::Bill => self.tells_bill(),
        }
    }

    fn called(&mut self, server: u64, life: u64, id: CallId, call: &CloudCall) {
        let (now, calm) = (self.now, self.calm);
        let Some(buying) = &mut self.buying else { return };
        if calm {
            buying.cloud.nature = buying.drawn.calm();
        }
        let cut = !calm && now < buying.cut_until;
        let (lost, way) = (buying.cloud.loses() || cut, buying.cloud.way());
        // A call that never came there, and one whose answer is lost, look the same from here.
        let reached = !lost || buying.rng.chance(500_000);
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
        let unknown = lost || outcome == CloudOutcome::Unknown;
        if unknown {
            self.count("calls without an answer");
        }
        for (machine, runs) in new {
            let Some(buying) = &mut self.buying else { return };
            if !calm && buying.rng.chance(buying.drawn.never_joins) {
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
        self.check_machines();
        let (after, outcome) = match unknown {
            true => (CALL_TIMEOUT, CloudOutcome::Unknown),
            false => (way, outcome),
        };
        self.note_throttled((server, life), call, &outcome, after);
        self.buys(
            after,
            Step::Answered {
                server,
                life,
                id,
                outcome: Box::new(outcome),
            },
        );
    }

    fn boots(&mut self, machine: InstanceId) {
        let Some(buying) = &mut self.buying else { return };
        let Some(instance) = buying.cloud.instances.get(&machine).filter(|one| one.is_live()) else {
            return;
        };
        let (slots, index) = (instance.vcpus, self.agents.len());
        let rng = buying.rng.branch(&machine.0);
        let node = FIRST_AGENT + index as u64;
        let agent = Agent::new(node, slots, self.faults.load.spool, 1, rng).named(&machine.0);
        buying.agents.insert(machine, index);
        self.agents.push(agent);
        self.count("machines that boot");
        self.start_agent(index);
    }

    /// What is on a machine that has ended is gone.
    fn machine_ends(&mut self, machine: &InstanceId) {
        let Some(buying) = &self.buying else { return };
        let ended = buying
            .cloud
            .instances
            .get(machine)
            .is_some_and(|one| !one.is_live());
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

    fn hears_notice(&mut self, machine: &InstanceId, within: u64) {
        self.count("notices");
        let agent = self
            .buying
            .as_ref()
            .and_then(|buying| buying.agents.get(machine).copied());
        if let Some(agent) = agent {
            self.agent_hears_notice(agent, within);
        }
    }

    fn taken(&mut self, machine: &InstanceId) {
        let now = self.now;
        let Some(buying) = &mut self.buying else { return };
        if buying
            .cloud
            .instances
            .get(machine)
            .is_some_and(|one| one.is_live())
        {
            buying.cloud.reclaim(now, machine);
            self.count("machines taken back");
            self.machine_ends(machine);
        }
    }

    /// Told two minutes before, or late, or never.
    fn will_be_taken(&mut self, machine: InstanceId, at: u64) {
        let now = self.now;
        let Some(buying) = &mut self.buying else { return };
        let silent = buying.rng.chance(buying.drawn.no_notice);
        let told = at.saturating_sub(NOTICE).max(now);
        if !silent {
            self.at(told, Happening::Buying(Step::Noticed(machine.clone(), at - told)));
        }
        self.at(at, Happening::Buying(Step::Taken(machine)));
    }

    fn spot_machines(&self, zone: Option<&str>) -> Vec<InstanceId> {
        let live = self.buying.iter().flat_map(|buying| buying.cloud.live());
        let of = live.filter(|(_, one)| {
            one.pool.market == Market::Spot && zone.is_none_or(|zone| one.pool.zone_id == zone)
        });
        of.map(|(id, _)| id.clone()).collect()
    }

    fn reclaims(&mut self) {
        if self.calm {
            return;
        }
        let machines = self.spot_machines(None);
        let every = self
            .buying
            .as_ref()
            .map_or(0, |buying| buying.drawn.reclaim_every);
        let picked = self
            .buying
            .as_mut()
            .and_then(|buying| buying.rng.pick(&machines).cloned());
        if let Some(machine) = picked {
            self.will_be_taken(machine, self.now + NOTICE);
        }
        self.buys_again(every, Step::Reclaim);
    }

    fn loses_zone(&mut self) {
        let now = self.now;
        let Some(buying) = self.buying.as_mut().filter(|_| !self.calm) else {
            return;
        };
        let zone = *buying.rng.pick(&ZONES).expect("there are some");
        let (every, long) = buying.drawn.zone_lost;
        for (instance_type, ..) in TYPES {
            for market in [Market::Spot, Market::OnDemand] {
                let pool = Pool {
                    region: REGION.into(),
                    zone_id: zone.into(),
                    instance_type: instance_type.into(),
                    market,
                };
                buying.cloud.dry.insert(pool, now + long);
            }
        }
        self.count("zones lost");
        for machine in self.spot_machines(Some(zone)) {
            let within = self
                .buying
                .as_mut()
                .map_or(0, |buying| buying.rng.within(0, ZONE_WITHIN));
            self.will_be_taken(machine, now + within);
        }
        self.buys_again(every, Step::ZoneLost);
    }

    fn loses_feed(&mut self) {
        let now = wall(self.now);
        let Some(buying) = self.buying.as_mut().filter(|_| !self.calm) else {
            return;
        };
        let (every, long) = buying.drawn.feed_gone;
        buying.feed_back = now.0 + long;
        self.count("feeds gone");
        self.buys_again(every, Step::FeedGone);
    }

    fn cuts_cloud(&mut self) {
        let now = self.now;
        let Some(buying) = &mut self.buying else { return };
        let (every, long) = buying.drawn.cut;
        buying.cut_until = now + long;
        self.count("clouds cut");
        self.buys_again(every, Step::CloudCut);
    }

    fn tells_prices(&mut self) {
        let (now, calm) = (wall(self.now), self.calm);
        let Some(buying) = &mut self.buying else { return };
        if calm {
            buying.feed_back = 0;
        }
        let every = buying.drawn.prices_every;
        let market = Arc::new(buying.prices(now));
        for server in 1..=self.count_servers() {
            let life = self.host(server).life;
            self.input(server, life, Input::Market(market.clone()));
        }
        self.buys(every, Step::Prices);
    }
}
