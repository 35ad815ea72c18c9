//! What the policy may see of machines, money and the market. Its size grows with machines, pools and distinct specs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::PROFILE_MARGIN;
use crate::market::Market;
use crate::pace::Pace;
use crate::scaling::{Foresight, Mode, Scaling};
use crate::schedule::quarter_of;
use crate::state::State;
use crate::state::buying::Committed;
use crate::state::control::Control;
use crate::state::machines::{EndWhy, Machine, Spare};
use crate::state::pools::PoolRecord;
use crate::state::workers::Standing;
use crate::types::{EnvId, InstanceId, MicroUsd, Pool, Resources, SpecId, Time, WorkerId};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// What people decided.
    pub control: Control,
    /// What the market offers.
    pub market: Arc<Market>,
    /// What is to be done.
    pub needs: Vec<Need>,
    /// What does it, or will.
    pub units: Vec<Unit>,
    /// Machines that stand still, or are about to.
    pub resting: Vec<Resting>,
    /// What is remembered of pools.
    pub pools: BTreeMap<Pool, PoolRecord>,
    /// What caps count.
    pub committed: Committed,
    /// Millionths of USD spent in this hour and this day.
    pub spent: (u64, u64),
    /// When the last launch was committed.
    pub last_launch: Option<Time>,
    /// When work last came.
    pub last_work: Option<Time>,
    /// What past weeks had about now.
    pub foreseen: Vec<Foreseen>,
    /// Millionths of USD that may still be reserved today for an environment that is limited.
    pub left: BTreeMap<EnvId, u64>,
}

/// What a quarter hour that has begun, or begins before a machine bought now is ready, took in past weeks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// What runs it.
    pub recogniser: String,
    /// The quarter hour of the week.
    pub quarter: u16,
    /// Nine of ten weeks took at most so much, in photos in 10^12 µs.
    pub rate: u64,
}

/// Photos of one spec that have not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The spec.
    pub spec: SpecId,
    /// Whose it is.
    pub env: EnvId,
    /// Where its photos are, and may go.
    pub place: Place,
    /// Its recogniser, without digest.
    pub recogniser: String,
    /// What one photo needs.
    pub resources: Resources,
    /// How many are due by when, the earliest first; those without deadline last.
    pub due: Vec<(Option<Time>, u64)>,
}

/// Where photos are, and where they may be worked on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The region of their bucket; empty: not known.
    pub home: String,
    /// The regions that their environment allows; empty: all.
    pub regions: Vec<String>,
}

impl Place {
    /// True where they may be worked on.
    pub fn allows(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|one| one == region)
    }
}

/// A machine that stands still and is kept for a burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Which.
    pub machine: InstanceId,
    /// Where it is.
    pub pool: Pool,
    /// It has stopped: it may be started.
    pub stopped: bool,
    /// It shall stop since then, and has not.
    pub stopping: Option<Time>,
    /// USD an hour when it runs, in millionths.
    pub price: MicroUsd,
}

/// Something that does photos: a worker, its machine, or a machine that will have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The machine, if the cluster bought it.
    pub machine: Option<InstanceId>,
    /// Where it is; what is not EC2's has an empty one.
    pub pool: Pool,
    /// Its session, if it has joined.
    pub worker: Option<WorkerId>,
    /// It takes work from then on.
    pub ready: Time,
    /// Specs it runs, and µs of the whole machine for one photo; of those seen in needs.
    pub speeds: BTreeMap<SpecId, u64>,
    /// Photos it holds.
    pub held: u64,
    /// It holds nothing since then.
    pub idle: Option<Time>,
    /// It will end, or be taken back: nothing is to be reckoned with.
    pub leaves: bool,
    /// Nothing will come of it any more: it is to end at once.
    pub over: Option<EndWhy>,
    /// The end of the shortest time that is billed.
    pub paid_for_until: Time,
    /// Since when its agent is there; none: it has not joined.
    pub since: Option<Time>,
    /// USD an hour, in millionths.
    pub price: MicroUsd,
}

/// Photos of one machine that is not measured take so long in one slot, in µs: a second.
const UNMEASURED: u64 = crate::types::SECOND;

/// Looks at machines and what they are for; none where the policy is off.
pub fn fleet<'a>(
    state: &State,
    now: Time,
    market: &Arc<Market>,
    clock_rate: u64,
    pace: impl Fn(WorkerId) -> Option<&'a Pace>,
) -> Option<Fleet> {
    let control = state.control.known()?.clone();
    if control.scaling.mode == Mode::Off {
        return None;
    }
    let needs = needs(state);
    let mut units = workers(state, now, market, &needs, clock_rate, pace);
    units.extend(machines(state, now, market, &needs, &control));
    units.extend(coming(state, now, market, &needs, &control));
    Some(Fleet {
        market: market.clone(),
        resting: resting(state),
        pools: state
            .pools
            .iter()
            .map(|(pool, record)| (pool.clone(), record.clone()))
            .collect(),
        committed: state.committed(),
        spent: state.spent(now),
        last_launch: state.launches.iter().next_back().map(|(_, launch)| launch.at),
        last_work: state.jobs.newest().map(|(_, job)| job.opened),
        foreseen: foreseen(state, now, &control),
        left: left(state, now, &needs),
        control,
        needs,
        units,
    })
}

/// What past weeks had from now until any machine bought now is ready; the greater of two quarter hours.
fn foreseen(state: &State, now: Time, control: &Control) -> Vec<Foreseen> {
    let acts = |scaling: &Scaling| scaling.foresight == Foresight::Act;
    let tried = control.shadow.as_ref().is_some_and(|trial| acts(&trial.scaling));
    if !acts(&control.scaling) && !tried {
        return Vec::new();
    }
    let slowest = state
        .pools
        .iter()
        .filter_map(|(_, record)| record.ready_p90())
        .max();
    let ahead = slowest
        .unwrap_or(control.scaling.ready)
        .saturating_add(PROFILE_MARGIN);
    let zone = &control.scaling.week_zone;
    let mut quarters = vec![
        quarter_of(now, zone),
        quarter_of(Time(now.0.saturating_add(ahead)), zone),
    ];
    quarters.dedup();
    let mut most: BTreeMap<String, Foreseen> = BTreeMap::new();
    for quarter in quarters {
        for (name, record) in state.profile.of(quarter) {
            let Some(rate) = record.forecast() else { continue };
            let one = Foreseen {
                recogniser: name.to_owned(),
                quarter,
                rate,
            };
            let before = most.entry(name.to_owned()).or_insert_with(|| one.clone());
            if before.rate < rate {
                *before = one;
            }
        }
    }
    most.into_values().collect()
}

/// What may still be reserved for environments that have work.
fn left(state: &State, now: Time, needs: &[Need]) -> BTreeMap<EnvId, u64> {
    let left = |need: &Need| Some((need.env, state.left_of(need.env, now)?));
    needs.iter().filter_map(left).collect()
}

fn needs(state: &State) -> Vec<Need> {
    let mut needs = Vec::new();
    for spec in state.jobs.unended_specs() {
        let Some(record) = state.specs.get(spec) else {
            continue;
        };
        let due: Vec<_> = state.jobs.unended(spec).collect();
        let name = record.recogniser.split('@').next().unwrap_or_default();
        let env = state.specs.home(spec).unwrap_or_default();
        needs.push(Need {
            spec,
            env,
            place: Place {
                home: record.region.clone(),
                regions: state.rule(env).map_or_else(Vec::new, |rule| rule.regions.clone()),
            },
            recogniser: name.to_owned(),
            resources: record.resources,
            due,
        });
    }
    needs
}

/// µs of the whole machine for one photo of each need that a machine of a pool runs, as the market has it.
fn by_market(market: &Market, needs: &[Need], pool: &Pool) -> BTreeMap<SpecId, u64> {
    let speed = |need: &Need| Some(market.speeds.get(&need.recogniser)?.get(pool)?.us_per_photo);
    needs
        .iter()
        .filter(|need| need.place.allows(&pool.region))
        .filter_map(|need| Some((need.spec, speed(need)?)))
        .collect()
}

fn workers<'a>(
    state: &State,
    now: Time,
    market: &Market,
    needs: &[Need],
    clock_rate: u64,
    pace: impl Fn(WorkerId) -> Option<&'a Pace>,
) -> Vec<Unit> {
    let mut units = Vec::new();
    for (id, worker) in state.workers.iter_live() {
        let bought = state.machines.of_worker(id);
        let pool = bought.map_or(&worker.join.pool, |(_, machine)| &machine.pool);
        let assumed = by_market(market, needs, pool);
        let slots = u64::from(worker.join.slots.max(1));
        let mut speeds = BTreeMap::new();
        for need in needs {
            if state.may_run(&worker.join, need.spec) {
                let measured = pace(id)
                    .and_then(|pace| pace.service(need.spec))
                    .map(|us| us.saturating_mul(clock_rate).div_ceil(slots));
                let us = measured.or_else(|| assumed.get(&need.spec).copied());
                speeds.insert(need.spec, us.unwrap_or(UNMEASURED.div_ceil(slots)).max(1));
            }
        }
        let held = state.runs.held_by(id);
        let leaves = bought.is_some_and(|(_, machine)| !machine.is_useful());
        units.push(Unit {
            machine: bought.map(|(machine, _)| machine.clone()),
            pool: pool.clone(),
            worker: Some(id),
            ready: now,
            speeds,
            held,
            idle: (held == 0).then_some(worker.idle),
            leaves: leaves || worker.standing != Standing::Active,
            over: (worker.standing == Standing::Draining && held == 0)
                .then_some(EndWhy::Drained)
                .filter(|_| bought.is_some_and(|(_, machine)| machine.ending.is_none() && !machine.rests())),
            paid_for_until: bought.map_or(now, |(_, machine)| machine.paid_for_until()),
            since: Some(worker.joined),
            price: bought.map_or(MicroUsd(0), |(_, machine)| machine.price),
        });
    }
    units
}

/// When what was wanted at an instant is ready, as nine of ten machines of its pool were.
pub fn ready_at(pools: &crate::state::pools::Pools, control: &Control, pool: &Pool, wanted: Time) -> Time {
    let record = pools.get(pool).and_then(PoolRecord::ready_p90);
    Time(wanted.0.saturating_add(record.unwrap_or(control.scaling.ready)))
}

/// The same of a machine that is there: from when it was wanted, or started again.
fn machine_ready_at(pools: &crate::state::pools::Pools, control: &Control, machine: &Machine) -> Time {
    let Some(since) = machine.restarted else {
        return ready_at(pools, control, &machine.pool, machine.wanted);
    };
    let measured = pools.get(&machine.pool).and_then(PoolRecord::restart_p90);
    Time(since.0.saturating_add(control.scaling.restart(measured)))
}

/// Machines whose agents have not joined yet.
fn machines(state: &State, now: Time, market: &Market, needs: &[Need], control: &Control) -> Vec<Unit> {
    let works = state.machines.live().filter(|(_, machine)| !machine.rests());
    let waits = works.filter(|(_, machine)| {
        let session = machine.joined.map(|(worker, _)| worker);
        session.is_none_or(|worker| state.workers.live(worker).is_none())
    });
    let unit = |(id, machine): (&InstanceId, &Machine)| Unit {
        machine: Some(id.clone()),
        pool: machine.pool.clone(),
        worker: None,
        ready: machine_ready_at(&state.pools, control, machine).max(now),
        speeds: by_market(market, needs, &machine.pool),
        held: 0,
        idle: None,
        // One whose agent was here and is gone is not waited for: it joins again, or never.
        leaves: !machine.is_useful() || machine.joined.is_some(),
        over: over(state, now, control, machine),
        paid_for_until: machine.paid_for_until(),
        since: None,
        price: machine.price,
    };
    waits.map(unit).collect()
}

fn resting(state: &State) -> Vec<Resting> {
    let rests = state
        .machines
        .live()
        .filter(|(_, one)| one.rests() && one.ending.is_none());
    let resting = |(id, one): (&InstanceId, &Machine)| Resting {
        machine: id.clone(),
        pool: one.pool.clone(),
        stopped: one.is_stopped(),
        stopping: match one.spare {
            Some(Spare::Stopping(since)) => Some(since),
            _ => None,
        },
        price: one.price,
    };
    rests.map(resting).collect()
}

/// Whether nothing will come any more of a machine whose agent has joined and is not here now.
fn over(state: &State, now: Time, control: &Control, machine: &Machine) -> Option<EndWhy> {
    let (worker, joined) = machine.joined.filter(|_| machine.ending.is_none())?;
    let session = state.workers.get(worker);
    let gone = session.and_then(|worker| worker.ended).unwrap_or(joined);
    match session.map(|worker| worker.standing) {
        Some(Standing::Left) => Some(EndWhy::Left),
        _ if now.0.saturating_sub(gone.0) > control.scaling.brakes.join_within => Some(EndWhy::Silent),
        _ => None,
    }
}

/// Machines that launches may still give: taken to be spread over their kinds.
fn coming(state: &State, now: Time, market: &Market, needs: &[Need], control: &Control) -> Vec<Unit> {
    let mut units = Vec::new();
    for (_, launch) in state.launches.live() {
        let choices = launch.wanted.choices.iter().cycle();
        for choice in choices.take(launch.coming() as usize) {
            let pool = launch.wanted.pool(choice);
            let ready = ready_at(&state.pools, control, &pool, launch.at).max(now);
            units.push(Unit {
                machine: None,
                speeds: by_market(market, needs, &pool),
                pool,
                worker: None,
                ready,
                held: 0,
                idle: None,
                leaves: false,
                over: None,
                paid_for_until: ready,
                since: None,
                price: choice.price,
            });
        }
    }
    units
}
