//! Commands: a plan of buying is adopted, piece by piece, and launches are settled. Caps are held here, before any call.

use super::control::Brake;
use super::launches::{Lack, Launch, Outcome, Wanted};
use super::machines::{EndWhy, Machine};
use super::workers::Standing;
use super::{Context, State};
use crate::bill::{HOUR, cost};
use crate::event::Fact;
use crate::limits::{
    CHOICES_PER_LAUNCH_MAX, DRAINS_PER_PLAN_MAX, LAUNCH_VALID, LAUNCHES_PER_PLAN_MAX, MACHINES_MAX,
    MACHINES_PER_LAUNCH_MAX,
};
use crate::plan::capacity::{Buy, Flip, LetGo, Scale};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::scaling::{Mode, WHOLE};
use crate::types::{EnvId, InstanceId, LaunchId, Market, MicroUsd, Pool, Time};

/// What there is and what is on its way, as caps count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Machines that have not ended, and those that launches may still give.
    pub instances: u64,
    /// Their vCPUs; of launches those of the largest mix.
    pub vcpus: u64,
    /// Millionths of USD an hour: of machines at the most that they can come to cost, of launches at their dearest mix.
    pub burn: u64,
}

/// A machine that a launch gave.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Started {
    /// As the cloud names it.
    pub id: InstanceId,
    /// Zone **id**.
    pub zone_id: String,
    /// Instance type.
    pub instance_type: String,
}

/// What a launch's call came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settled {
    /// The launch.
    pub launch: LaunchId,
    /// What came of it.
    pub outcome: Outcome,
    /// Machines that the answer named.
    pub started: Vec<Started>,
    /// What lacked: zone id, type, why.
    pub lacked: Vec<(String, String, Lack)>,
}

impl State {
    /// What caps count now.
    pub fn committed(&self) -> Committed {
        let mut sum = Committed::default();
        for (_, machine) in self.machines.live().filter(|(_, one)| !one.is_stopped()) {
            sum.instances += 1;
            sum.vcpus += u64::from(machine.vcpus);
            sum.burn = sum.burn.saturating_add(machine.bound.0);
        }
        let counts = !self.plant.is(Plant::ComingUncounted);
        for (_, launch) in self.launches.live().filter(|_| counts) {
            let coming = Wanted {
                count: launch.coming(),
                ..launch.wanted.clone()
            };
            let (burn, vcpus) = coming.dearest();
            sum.instances += u64::from(coming.count);
            sum.vcpus += vcpus;
            sum.burn = sum.burn.saturating_add(burn);
        }
        sum
    }

    /// Millionths of USD spent in this hour and this day up to `at`, those of running machines included.
    pub fn spent(&self, at: Time) -> (u64, u64) {
        let (hour, day) = self.spend.at(at);
        let unpaid = self
            .machines
            .live()
            .map(|(_, machine)| machine.unpaid(at))
            .fold(0, u64::saturating_add);
        (hour.saturating_add(unpaid), day.saturating_add(unpaid))
    }

    pub(super) fn scale(&mut self, context: &mut Context, plan: &Scale) -> Result<Reply, Rejected> {
        let (mut taken, mut dropped) = (0, 0);
        if !plan.buy.is_empty() {
            self.brake_dear_photos(context);
        }
        for (place, buy) in plan.buy.iter().take(LAUNCHES_PER_PLAN_MAX as usize).enumerate() {
            let id = LaunchId(context.index * LAUNCHES_PER_PLAN_MAX + place as u64);
            match self.may_launch(buy, context.at) {
                Ok(()) => {
                    self.launch(context, id, buy);
                    taken += 1;
                }
                Err(why) => {
                    dropped += 1;
                    context.tell(
                        EnvId::default(),
                        None,
                        Fact::LaunchDropped {
                            count: buy.wanted.count,
                            why,
                        },
                    );
                }
            }
        }
        for start in plan.start.iter().take(DRAINS_PER_PLAN_MAX) {
            match self.may_start(start, context.at) {
                Ok(()) => {
                    self.start_spare(context, start);
                    taken += 1;
                }
                Err(why) => {
                    dropped += 1;
                    context.tell(EnvId::default(), None, Fact::LaunchDropped { count: 1, why });
                }
            }
        }
        for rest in plan.rest.iter().take(DRAINS_PER_PLAN_MAX) {
            match self.rest(context, rest) {
                true => taken += 1,
                false => dropped += 1,
            }
        }
        for let_go in plan.let_go.iter().take(DRAINS_PER_PLAN_MAX) {
            match self.let_go(context, let_go) {
                true => taken += 1,
                false => dropped += 1,
            }
        }
        for flip in &plan.dear {
            self.set_dear(context, flip);
            taken += 1;
        }
        if let Some(short) = plan.short {
            self.control.get_mut().short = short.map(|short| (short, context.at));
            context.tell(EnvId::default(), None, Fact::Short { short });
            taken += 1;
        }
        Ok(Reply::Adopted { runs: taken, dropped })
    }

    /// The cap that so many machines more, of so many vCPUs and so much money an hour, would break.
    pub(super) fn has_room(
        &self,
        count: u64,
        vcpus: u64,
        burn: u64,
        env: EnvId,
        at: Time,
    ) -> Result<(), &'static str> {
        let scaling = self.control.get().scaling;
        let (have, caps) = (self.committed(), &scaling.caps);
        if have.instances + count > u64::from(caps.instances).min(MACHINES_MAX as u64) {
            return Err("the cap on instances");
        }
        if have.vcpus + vcpus > u64::from(caps.vcpus) {
            return Err("the cap on vCPUs");
        }
        let (hour, day) = self.spent(at);
        let ahead = cost(MicroUsd(have.burn.saturating_add(burn)), caps.committed);
        if hour.saturating_add(ahead) > caps.hour {
            return Err("the cap on an hour's spending");
        }
        if day.saturating_add(ahead) > caps.day {
            return Err("the cap on a day's spending");
        }
        let own = self.left_of(env, at);
        match own.is_some_and(|own| cost(MicroUsd(burn), caps.committed) > own) {
            true => Err("the cap on a day's spending for its environment"),
            false => Ok(()),
        }
    }

    /// Why nothing may be started now, whatever it is.
    pub(super) fn stands_still(&self) -> Result<(), &'static str> {
        let control = self.control.get();
        match () {
            () if control.scaling.mode != Mode::Act => Err("the policy does not act"),
            () if control.frozen.is_some() => Err("launches are frozen"),
            () if control.brake.is_some() => Err("a brake is on"),
            () => Ok(()),
        }
    }

    /// Why a launch may not be, now.
    fn may_launch(&self, buy: &Buy, at: Time) -> Result<(), &'static str> {
        self.stands_still()?;
        let wanted = &buy.wanted;
        let control = self.control.get();
        let scaling = &control.scaling;
        match () {
            () if wanted.choices.is_empty() || wanted.count == 0 => return Err("it asks for nothing"),
            () if wanted.choices.len() > CHOICES_PER_LAUNCH_MAX || wanted.count > MACHINES_PER_LAUNCH_MAX => {
                return Err("it asks for too much");
            }
            () if wanted.template != scaling.template => return Err("its machine image is not the policy's"),
            () if wanted
                .choices
                .iter()
                .any(|one| one.bound.0 == 0 || one.price > one.bound) =>
            {
                return Err("its price is not known");
            }
            () => {}
        }
        let (burn, vcpus) = wanted.dearest();
        self.has_room(u64::from(wanted.count), vcpus, burn, buy.because.env, at)?;
        if !self.allows(buy.because.env, &wanted.region) {
            return Err("its environment's photos may not go there");
        }
        Ok(())
    }

    fn launch(&mut self, context: &mut Context, id: LaunchId, buy: &Buy) {
        let at = context.at;
        let launch = Launch {
            wanted: buy.wanted.clone(),
            at,
            not_after: Time(at.0.saturating_add(LAUNCH_VALID)),
            settled: None,
            machines: 0,
            because: buy.because.clone(),
        };
        self.launches.insert(id, launch);
        let control = self.control.get_mut();
        if at.0.saturating_sub(control.launches.0.0) >= HOUR {
            control.launches = (at, 0);
        }
        control.launches.1 += 1;
        let count = control.launches.1;
        if count >= control.scaling.brakes.launches && control.brake.is_none() {
            self.brake(context, Brake::Launches { count });
        }
        let fact = Fact::Launched {
            launch: id,
            pools: buy
                .wanted
                .choices
                .iter()
                .map(|one| buy.wanted.pool(one))
                .collect(),
            count: buy.wanted.count,
            because: buy.because.clone(),
        };
        context.tell(EnvId::default(), None, fact);
    }

    /// A machine with nothing to do gets nothing new and shall end, in one command. One with work drains first.
    fn let_go(&mut self, context: &mut Context, let_go: &LetGo) -> bool {
        let at = context.at;
        let Some(machine) = self.machines.get(&let_go.machine).filter(|one| one.is_live()) else {
            return false;
        };
        let by_choice = matches!(let_go.why, EndWhy::Idle | EndWhy::TooDear | EndWhy::Spare);
        if machine.ending.is_some() || (by_choice && self.control.get().frozen.is_some()) {
            return false;
        }
        let worker = machine.joined.map(|(worker, _)| worker);
        let fact = Fact::MachineLetGo {
            machine: let_go.machine.clone(),
            why: let_go.why,
            idle: let_go.idle,
            keep: let_go.keep,
        };
        context.tell(EnvId::default(), None, fact);
        let live = worker.filter(|worker| self.workers.live(*worker).is_some());
        if let Some(worker) = live {
            let standing = self.workers.get(worker).map(|one| one.standing);
            if standing == Some(Standing::Active) {
                let _ = self.worker_drain(context, worker);
            }
            let busy = self.runs.held_by(worker) > 0;
            if busy && !self.plant.is(Plant::BusyEnded) {
                return true;
            }
        }
        self.end_machine(context, &let_go.machine, let_go.why, at);
        true
    }

    /// It is committed that a machine shall end.
    pub(super) fn end_machine(&mut self, context: &mut Context, id: &InstanceId, why: EndWhy, at: Time) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.ending = Some((why, at));
            context.tell(
                EnvId::default(),
                None,
                Fact::MachineEnding {
                    machine: id.clone(),
                    why,
                },
            );
        }
    }

    fn set_dear(&mut self, context: &mut Context, flip: &Flip) {
        let (at, pool, dear) = (context.at, &flip.pool, flip.dear);
        let unnoted = self.plant.is(Plant::FlipUnnoted);
        let record = self.pools.of(pool, at);
        if record.dear.is_some() != dear {
            record.dear = dear.then_some(at);
            if !unnoted {
                record.flipped = Some(at);
            }
            context.tell(EnvId::default(), None, Fact::PoolDear { flip: flip.clone() });
        }
    }

    pub(super) fn launch_settled(
        &mut self,
        context: &mut Context,
        settled: &Settled,
    ) -> Result<Reply, Rejected> {
        let at = context.at;
        let id = settled.launch;
        let launch = self.launches.get(id);
        let Some(launch) = launch.filter(|launch| launch.settled.is_none()).cloned() else {
            // It was settled before: the same call was answered twice.
            return Ok(Reply::Done);
        };
        let started = settled
            .started
            .iter()
            .filter(|_| !self.plant.is(Plant::SettledEmpty));
        for started in started.collect::<Vec<_>>() {
            self.machine_known(context, id, &launch.wanted, started);
        }
        for (zone_id, instance_type, lack) in &settled.lacked {
            if let Some(choice) = launch.wanted.choice(zone_id, instance_type) {
                let pool = launch.wanted.pool(choice);
                self.note_lack(context, &pool, *lack);
            }
        }
        self.launches.settle(id, at, settled.outcome.clone());
        let got = self.launches.get(id).map_or(0, |launch| launch.machines);
        let fact = Fact::LaunchSettled {
            launch: id,
            got,
            of: launch.wanted.count,
            outcome: settled.outcome.clone(),
        };
        context.tell(EnvId::default(), None, fact);
        Ok(Reply::Done)
    }

    /// True when the caps on machines and vCPUs have room for one more.
    fn fits_counts(&self, vcpus: u32) -> bool {
        let (have, caps) = (self.committed(), self.control.get().scaling.caps);
        have.instances < u64::from(caps.instances) && have.vcpus + u64::from(vcpus) <= u64::from(caps.vcpus)
    }

    /// A machine of a launch is heard of for the first time. One that the launch did not ask for, one too many, or one that
    /// comes after its launch was settled and for which caps have no room, is an orphan: it shall end.
    pub(super) fn machine_known(
        &mut self,
        context: &mut Context,
        id: LaunchId,
        wanted: &Wanted,
        started: &Started,
    ) {
        let at = context.at;
        if !started.id.is_sound() || self.machines.get(&started.id).is_some() {
            return;
        }
        let choice = wanted.choice(&started.zone_id, &started.instance_type);
        let launch = self.launches.get(id);
        let has_room = launch.is_some_and(|launch| launch.machines < launch.wanted.count);
        // What a settled launch had reserved may have been given to others since.
        let is_reserved = launch.is_some_and(|launch| launch.settled.is_none());
        let fits = is_reserved || self.fits_counts(choice.map_or(0, |choice| choice.vcpus));
        let pool = Pool {
            region: wanted.region.clone(),
            zone_id: started.zone_id.clone(),
            instance_type: started.instance_type.clone(),
            market: wanted.market,
        };
        let price = choice.map_or(MicroUsd(0), |choice| choice.price);
        let machine = Machine {
            launch: id,
            pool: pool.clone(),
            vcpus: choice.map_or(0, |choice| choice.vcpus),
            bound: choice.map_or(MicroUsd(0), |choice| choice.bound),
            price,
            priced: launch.map_or(at, |launch| launch.at),
            wanted: launch.map_or(at, |launch| launch.at),
            known: at,
            running: None,
            joined: None,
            first_given: None,
            first_result: None,
            notice: None,
            ending: None,
            spare: None,
            stopped: None,
            restarted: None,
            gone: None,
            paid: 0,
            paid_to: at,
        };
        self.machines.insert(started.id.clone(), machine);
        context.tell(
            EnvId::default(),
            None,
            Fact::MachineKnown {
                machine: started.id.clone(),
                launch: id,
                pool: pool.clone(),
            },
        );
        if choice.is_some() && has_room && fits {
            self.launches.count_machine(id);
            if self.plant.is(Plant::LaunchCountedTwice) {
                self.launches.count_machine(id);
            }
            let record = self.pools.of(&pool, at);
            record.started += 1;
            (record.refusals, record.closed_until) = (0, None);
        } else {
            self.end_machine(context, &started.id, EndWhy::Orphan, at);
        }
    }

    /// A pool had no machine: it is left alone for a while, twice as long each time in a row.
    pub(super) fn note_lack(&mut self, context: &mut Context, pool: &Pool, lack: Lack) {
        let (at, scaling) = (context.at, self.control.get().scaling);
        let record = self.pools.of(pool, at);
        record.lacked += 1;
        if record.closed_until.is_some_and(|until| at < until) && record.refusals > 0 {
            // Several launches of one moment met the same lack.
            return;
        }
        let doubled = scaling.probe_first.saturating_mul(1 << record.refusals.min(20));
        let until = Time(at.0.saturating_add(doubled.min(scaling.probe_max)));
        record.refusals += 1;
        record.closed_until = Some(until);
        let (pool, refusals) = (pool.clone(), record.refusals);
        context.tell(
            EnvId::default(),
            None,
            Fact::PoolClosed {
                pool,
                lack,
                refusals,
                until,
            },
        );
    }
}

impl State {
    /// EC2 takes a machine of a pool back. Where it does so too often nothing is bought for a while, then a probe of one.
    pub(super) fn taken(&mut self, context: &mut Context, pool: &Pool) {
        let (at, breaker) = (context.at, self.control.get().scaling.breaker);
        self.pools.note_taken(pool, at);
        let here = self
            .machines
            .live()
            .filter(|(_, one)| one.pool == *pool && one.notice.is_none());
        let here = u64::try_from(here.count()).unwrap_or(u64::MAX);
        let record = self.pools.of(pool, at);
        let taken = record.taken_since(Time(at.0.saturating_sub(breaker.within)));
        let share =
            u64::from(taken) * u64::from(WHOLE) >= (u64::from(taken) + here) * u64::from(breaker.share);
        let is_closed = record.closed_until.is_some_and(|until| at < until);
        if breaker.taken == 0 || taken < breaker.taken || !share || is_closed {
            return;
        }
        let until = Time(at.0.saturating_add(breaker.rest));
        record.refusals = record.refusals.max(1);
        record.closed_until = Some(until);
        let fact = Fact::PoolClosed {
            pool: pool.clone(),
            lack: Lack::TakenBack,
            refusals: record.refusals,
            until,
        };
        context.tell(EnvId::default(), None, fact);
    }
}

/// A machine's pool is spot.
pub(crate) fn is_spot(pool: &Pool) -> bool {
    pool.market == Market::Spot
}
