//! Which machines to buy and which to let go: sized for the deadlines with the time that machines take to be ready, the
//! cheapest thousand photos first, never more than caps allow.

use serde::{Deserialize, Serialize};

use crate::limits::DRAINS_PER_PLAN_MAX;
use crate::market::Speed;
use crate::observe::fleet::Fleet;
use crate::scaling::{Escape, Mode};
use crate::state::launches::Wanted;
use crate::state::machines::EndWhy;
use crate::types::{EnvId, Index, InstanceId, MicroUsd, Pool, SpecId, Time};

mod floor;
mod keep;
mod offers;
mod pick;
mod rebound;
mod replace;
mod short;
mod size;
mod spares;

pub use size::Gap;
pub use spares::{Mix, mix};

/// What shall happen to the machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// The state it was made from.
    pub at: Index,
    /// Launches, at most [`LAUNCHES_PER_PLAN_MAX`](crate::limits::LAUNCHES_PER_PLAN_MAX).
    pub buy: Vec<Buy>,
    /// Stopped machines that shall start again.
    pub start: Vec<Start>,
    /// Machines that shall stop, and are kept for a burst.
    pub rest: Vec<Rest>,
    /// Machines that shall end.
    pub let_go: Vec<LetGo>,
    /// Spot pools that are too dear from now on, or no longer.
    pub dear: Vec<Flip>,
    /// Photos will be late and nothing may be bought for them, from now on; or no longer.
    pub short: Option<Option<Short>>,
}

impl Scale {
    /// True when nothing shall happen.
    pub fn is_empty(&self) -> bool {
        let none = self.buy.is_empty() && self.start.is_empty() && self.rest.is_empty();
        none && self.let_go.is_empty() && self.dear.is_empty() && self.short.is_none()
    }
}

/// A launch, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buy {
    /// What is asked for.
    pub wanted: Wanted,
    /// Why so much, and why there.
    pub because: Sizing,
}

/// A stopped machine that shall start again, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which.
    pub machine: InstanceId,
    /// Why.
    pub because: Sizing,
}

/// A machine that shall stop, and is kept for a burst.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Which.
    pub machine: InstanceId,
    /// µs for which it had nothing to do.
    pub idle: u64,
}

/// The numbers behind a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// What is to be done.
    pub spec: SpecId,
    /// Whose it is; none's where it is for work that has not come.
    pub env: EnvId,
    /// Photos of it that have not ended.
    pub photos: u64,
    /// Of these, those that what is there and what comes cannot do in time.
    pub missing: u64,
    /// The deadline that asks for most, or what stands in for it.
    pub due: Time,
    /// µs until a machine bought now is ready.
    pub ready_in: u64,
    /// Machines that would be bought if there were no caps.
    pub machines: u32,
    /// Machines that there are or that come, before this.
    pub have: u32,
    /// What stopped it from being more: a cap.
    pub capped: Option<Capped>,
    /// Millionths of USD for a thousand photos in the first pool chosen.
    pub chosen: MicroUsd,
    /// The best pool that was not chosen, what it costs for a thousand photos, and why not.
    pub instead_of: Option<(Pool, MicroUsd, NotChosen)>,
    /// It is for work that has not come yet.
    pub ahead: Option<Ahead>,
    /// In what the first pool chosen differs from the best one, which could not be had: the policy's order decided.
    pub escape: Option<Escape>,
    /// The first pool chosen is paid for already: a commitment.
    pub committed: bool,
}

/// Why there are machines for work that has not come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ahead {
    /// A person's schedule.
    Schedule { name: String },
    /// Past weeks took so much in this quarter hour of the week, in photos in 10^12 µs.
    Week { quarter: u16, rate: u64 },
    /// A burst that nobody announces: so many machines that run, and so many that stand still.
    Burst { hot: u32, stopped: u32 },
    /// It takes the place of a machine whose photos have cost so many millionths of USD more than they would there.
    Cheaper { machine: InstanceId, extra: u64 },
}

/// A cap that a purchase met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capped {
    /// Machines at once, by a schedule.
    Schedule,
    /// Machines at once.
    Instances,
    /// vCPUs at once.
    Vcpus,
    /// Money in an hour.
    Hour,
    /// Money in a day.
    Day,
    /// A template of which no machine has joined yet.
    Canary,
    /// Money in a day for one environment.
    Environment,
}

/// Why a pool was not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NotChosen {
    /// Others cost less for a thousand photos.
    Dearer,
    /// Spot is above the threshold there.
    AboveThreshold,
    /// It had no machine, and is left alone for a while.
    Closed,
    /// A person wants nothing of it.
    Banned,
    /// The policy does not buy this market.
    NotAllowed,
    /// Its price is too old.
    PriceOld,
    /// It has its share of what is bought.
    Share,
    /// The photos' environment may not be worked on there.
    Region,
    /// Nobody knows what the photos' way there costs.
    Way,
}

/// Photos will miss their deadlines, and nothing may be bought for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Short {
    /// What stands in the way.
    pub why: Lacking,
    /// Photos that will be late.
    pub missing: u64,
    /// When the first of them is due.
    pub due: Time,
    /// No machine more is ready before then; none: that is for a person to say, or not known.
    pub not_before: Option<Time>,
}

/// What stands in the way of a launch that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lacking {
    /// A person froze launches.
    Frozen,
    /// A brake is on.
    Braked,
    /// No pool is known that could do it.
    NoPool,
    /// Every pool had no machine, is banned or too dear.
    AllClosed,
    /// A cap.
    Capped(Capped),
}

/// A spot pool becomes too dear, or no longer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Which.
    pub pool: Pool,
    /// Too dear from now on.
    pub dear: bool,
    /// USD an hour, in millionths, as spot; 0: another policy has no threshold.
    pub price: MicroUsd,
    /// The same machine on demand.
    pub on_demand: MicroUsd,
}

/// A machine that shall end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetGo {
    /// Which.
    pub machine: InstanceId,
    /// Why.
    pub why: EndWhy,
    /// µs for which it had nothing to do.
    pub idle: u64,
    /// µs after which keeping it costs more than another one's getting ready.
    pub keep: u64,
}

/// Why nothing may be bought in a pool now; none: something may, as far as the pool goes.
pub fn standing(now: Time, fleet: &Fleet, pool: &Pool, speed: &Speed) -> Option<NotChosen> {
    offers::may_buy(now, fleet, pool, speed).err()
}

/// Decides. Pure; bounded by the fleet's size.
pub fn capacity(at: Index, now: Time, fleet: &Fleet) -> Scale {
    let scaling = &fleet.control.scaling;
    let mut scale = Scale {
        at,
        ..Scale::default()
    };
    if scaling.mode == Mode::Off {
        return scale;
    }
    scale.dear = rebound::flips(now, fleet);
    scale.let_go = keep::over(fleet);
    let gaps = size::gaps(now, fleet);
    if fleet.control.frozen.is_some() {
        scale.short = short::change(now, fleet, &gaps, true);
        return scale;
    }
    let mix = spares::mix(now, fleet);
    let mut floors = floor::floors(now, fleet);
    floors.extend(spares::floors(fleet, mix.as_ref()));
    if fleet.control.brake.is_none() {
        let bought_for = if size::is_time(now, fleet, &gaps) {
            &gaps[..]
        } else {
            &[]
        };
        let (start, started) = spares::starts(now, fleet, bought_for);
        scale.start = start;
        scale.buy = match started {
            // What stands still is started before anything is bought; that is for what is missing then.
            Some((after, gaps)) => pick::pick(now, &after, &gaps, &floors),
            None => pick::pick(now, fleet, bought_for, &floors),
        };
        if gaps.is_empty() && scale.buy.is_empty() {
            scale.buy = replace::buys(now, fleet, &floors);
        }
        scale.rest = spares::rest(now, fleet, mix.as_ref(), &gaps, &floors);
    }
    scale.short = short::change(now, fleet, &gaps, scale.buy.is_empty() && scale.start.is_empty());
    scale.let_go.extend(keep::over_caps(now, fleet));
    scale.let_go.extend(spares::stuck(now, fleet));
    scale.let_go.extend(spares::surplus(fleet, mix.as_ref()));
    // One after the other: each reckons with those that the ones before it let go.
    if scale.rest.is_empty() && scale.let_go.is_empty() {
        scale.let_go = keep::let_go(now, fleet, &gaps, &floors);
        if scale.let_go.is_empty() && gaps.is_empty() {
            scale.let_go = replace::replaced(now, fleet, &floors);
        }
    }
    scale.let_go.truncate(DRAINS_PER_PLAN_MAX);
    scale
}

#[cfg(test)]
mod tests;
