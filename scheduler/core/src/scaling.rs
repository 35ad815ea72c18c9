//! The policy of buying machines, as it is in the log: what an operator decides. [`crate::plan::capacity`] acts on it.
//! Shares are thousandths, times µs, money millionths of USD.

use serde::{Deserialize, Serialize};

use crate::env_rule::{self, EnvRule, is_region};
use crate::limits::{COMMITMENTS_MAX, PHOTO_KB_MAX, SCHEDULE_TEXT_MAX};
use crate::reply::Rejected;
use crate::schedule::{self, Schedule, zone_is_known};
use crate::types::SECOND;

const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;
/// A share of everything.
pub const WHOLE: u32 = 1_000;

/// Whether machines are bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// No: nothing is looked at.
    #[default]
    Off,
    /// Everything is looked at, decided and explained, and nothing is done.
    Observe,
    /// Yes.
    Act,
}

/// When spot is too dear, and when it no longer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Thousandths of the on-demand price.
    pub high: u32,
    /// How long the price must have been at `high` or above it.
    pub high_for: u64,
    /// Thousandths of the on-demand price, at most `high`.
    pub low: u32,
    /// How long it must have been at `low` or below it.
    pub low_for: u64,
    /// Shortest time between two changes of a pool.
    pub hold: u64,
}

/// What is never exceeded, whatever the deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Machines that have not ended, those included that are asked for.
    pub instances: u32,
    /// Their vCPUs.
    pub vcpus: u32,
    /// Spent in an hour of the clock, with what is committed.
    pub hour: u64,
    /// Spent in a day (UTC), with what is committed.
    pub day: u64,
    /// A machine is reckoned to be paid for so long yet: what it takes to let it go.
    pub committed: u64,
}

/// What stops launches until a person says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brakes {
    /// Machines of a template of which none has joined yet; of a new one no more than so many are asked for at first.
    pub canary: u32,
    /// Machines of a template in a row that never joined.
    pub never_joined: u32,
    /// A machine that has not joined after so long never will.
    pub join_within: u64,
    /// Launches in an hour.
    pub launches: u32,
    /// Photos cost so many times what they did in the week before; 0: whatever they cost.
    pub photo_cost: u32,
    /// The cloud's bill and the cluster's own books differ by so many thousandths; 0: however far.
    pub bill_apart: u32,
}

/// When a spot pool whose machines are taken back is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// So many of its machines were taken back within `within`; 0: never.
    pub taken: u32,
    /// And these were at least so many thousandths of those that it had.
    pub share: u32,
    /// See `taken`.
    pub within: u64,
    /// Nothing is bought there for so long, then a probe of one.
    pub rest: u64,
}

/// What is made of what past weeks took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foresight {
    /// Nothing is remembered.
    Off,
    /// It is remembered and forecast, and how good that was is shown: nothing is bought for it.
    #[default]
    Watch,
    /// Machines are ready before what past weeks had at this time.
    Act,
}

/// What another pool differs in from the one that would be bought in if it were not dry, dear or banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Escape {
    /// On demand instead of spot, or the other way round.
    Market,
    /// Another zone of the region.
    Zone,
    /// Another family of instance types.
    Type,
    /// A smaller or larger one of the same family.
    Size,
    /// Another region.
    Region,
}

/// Machines that are paid for whether they run or not: reserved instances of a region, or a capacity reservation of a
/// zone, which has its machines when the pool has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Where.
    pub region: String,
    /// Zone **id** of a capacity reservation; empty: reserved instances, in any zone.
    pub zone_id: String,
    /// Of which type.
    pub instance_type: String,
    /// How many.
    pub machines: u32,
}

/// Machines that are kept for a burst which nobody announces: as few of the dear kinds as its deadline asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spares {
    /// What runs its photos.
    pub recogniser: String,
    /// So many at once.
    pub photos: u32,
    /// They shall be done so long after they came.
    pub within: u64,
    /// A stopped machine works so long after it is started, where that was not measured.
    pub start: u64,
    /// What a stopped machine costs an hour: its root volume.
    pub volume: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Whether machines are bought.
    pub mode: Mode,
    /// The version of the machine image: machines of a new one are few at first.
    pub template: u32,
    /// Spot machines may be bought.
    pub spot: bool,
    /// On-demand machines may be bought.
    pub on_demand: bool,
    /// Jobs without a deadline shall be done so long after they are looked at.
    pub within: u64,
    /// So shall those that are late, or that no machine bought now could do in time.
    pub late_within: u64,
    /// From a launch to readiness, of pools that have no time of their own.
    pub ready: u64,
    /// More machines than are needed.
    pub spare: u32,
    /// Most machines of one pool, of all that are bought, where there are several to choose from.
    pub share: u32,
    /// The first look at new work buys at once; the next buys when so much more is missing, or after `again`.
    pub grown: u32,
    /// See `grown`.
    pub again: u64,
    /// When spot is too dear; none: the price alone ranks it.
    pub threshold: Option<Threshold>,
    /// A pool without capacity is asked again after so long for one machine, when a deadline needs it.
    pub probe_first: u64,
    /// Each refusal in a row doubles that, up to this.
    pub probe_max: u64,
    /// An idle machine stays for so many thousandths of the time that one takes to be ready.
    pub keep: u32,
    /// Prices that are older than this count for nothing: no launch follows from them but on demand.
    pub stale_after: u64,
    /// What is never exceeded.
    pub caps: Caps,
    /// What stops everything.
    pub brakes: Brakes,
    /// What stops a pool.
    pub breaker: Breaker,
    /// When there are at least so many machines, or at most.
    pub schedules: Vec<Schedule>,
    /// What is made of what past weeks took.
    pub foresight: Foresight,
    /// The time zone in which weeks go by.
    pub week_zone: String,
    /// kB of a photo, for what its way costs.
    pub photo_kb: u32,
    /// Photos leave their region only for so many thousandths less.
    pub away_saving: u32,
    /// Where to, first, when the best pool is dry, dear or banned; what is not named comes last. Empty: by cost alone.
    pub escape: Vec<Escape>,
    /// What is paid for already.
    pub commitments: Vec<Commitment>,
    /// What holds for one environment, in the order of their names.
    pub environments: Vec<EnvRule>,
    /// What is kept for a burst; none: nothing is.
    pub spares: Option<Spares>,
}

impl Default for Scaling {
    fn default() -> Self {
        Scaling {
            mode: Mode::Off,
            template: 1,
            spot: true,
            on_demand: true,
            within: 15 * MINUTE,
            late_within: 3 * MINUTE,
            ready: 90 * SECOND,
            spare: 50,
            share: 250,
            grown: 1_500,
            again: SECOND,
            threshold: None,
            probe_first: 30 * SECOND,
            probe_max: 15 * MINUTE,
            keep: WHOLE,
            stale_after: 15 * MINUTE,
            caps: Caps {
                instances: 100,
                vcpus: 400,
                hour: 20_000_000,
                day: 100_000_000,
                committed: 5 * MINUTE,
            },
            brakes: Brakes {
                canary: 2,
                never_joined: 3,
                join_within: 15 * MINUTE,
                launches: 200,
                photo_cost: 5,
                bill_apart: 50,
            },
            breaker: Breaker {
                taken: 3,
                share: 250,
                within: 30 * MINUTE,
                rest: 30 * MINUTE,
            },
            schedules: Vec::new(),
            foresight: Foresight::default(),
            week_zone: "UTC".to_owned(),
            photo_kb: 3_000,
            away_saving: 100,
            escape: Vec::new(),
            commitments: Vec::new(),
            environments: Vec::new(),
            spares: None,
        }
    }
}

impl Scaling {
    /// Refuses what contradicts itself or no policy can mean, with the words of schedules: what a listener asks before it
    /// is proposed. Time zones and cron are this build's, so that `apply` does not ask.
    pub fn check(&self) -> Result<(), Rejected> {
        self.check_numbers()?;
        if !zone_is_known(&self.week_zone) {
            let why = format!("is {:?}: write one as Europe/Berlin or UTC", self.week_zone);
            return Err(Rejected::Invalid {
                field: "week_zone",
                why,
            });
        }
        schedule::check(&self.schedules)
    }

    /// The same without words: what every build answers alike.
    pub fn check_numbers(&self) -> Result<(), Rejected> {
        let no = |field: &'static str, why: String| Err(Rejected::Invalid { field, why });
        if let Some(threshold) = &self.threshold {
            if !(1..=WHOLE).contains(&threshold.high) {
                let why = format!(
                    "is {} thousandths of on-demand: 1 to {WHOLE} make sense",
                    threshold.high
                );
                return no("threshold.high", why);
            }
            if threshold.low > threshold.high {
                let why = format!(
                    "is above threshold.high ({}): spot would be dear and not dear at once",
                    threshold.high
                );
                return no("threshold.low", why);
            }
        }
        if self.mode != Mode::Off && !self.spot && !self.on_demand {
            return no(
                "spot",
                "and on_demand are both false: there is nothing to buy".to_owned(),
            );
        }
        if !(1..=WHOLE).contains(&self.share) {
            return no(
                "share",
                format!("is {}: 1 to {WHOLE} thousandths make sense", self.share),
            );
        }
        if self.breaker.share > WHOLE {
            return no(
                "breaker.share",
                format!("is {}: 0 to {WHOLE} thousandths make sense", self.breaker.share),
            );
        }
        if self.caps.hour > self.caps.day {
            return no(
                "caps.hour",
                "is more than caps.day: an hour is part of a day".to_owned(),
            );
        }
        let times = [
            ("within", self.within),
            ("late_within", self.late_within),
            ("ready", self.ready),
            ("probe_first", self.probe_first),
            ("brakes.join_within", self.brakes.join_within),
            ("caps.committed", self.caps.committed),
            ("stale_after", self.stale_after),
            ("breaker.within", self.breaker.within),
            ("breaker.rest", self.breaker.rest),
        ];
        if self.week_zone.len() > SCHEDULE_TEXT_MAX {
            return no("week_zone", format!("is longer than {SCHEDULE_TEXT_MAX} bytes"));
        }
        schedule::check_numbers(&self.schedules)?;
        env_rule::check(&self.environments)?;
        self.check_choice()?;
        self.check_spares()?;
        match times.into_iter().find(|(_, time)| !(1..=DAY).contains(time)) {
            Some((field, time)) => no(
                field,
                format!("is {time} µs: more than 0 and at most a day make sense"),
            ),
            None if self.probe_max < self.probe_first => {
                no("probe_max", "is less than probe_first".to_owned())
            }
            None => Ok(()),
        }
    }

    /// What there is to say of where machines are bought.
    fn check_choice(&self) -> Result<(), Rejected> {
        let no = |field: &'static str, why: String| Err(Rejected::Invalid { field, why });
        if !(1..=PHOTO_KB_MAX).contains(&self.photo_kb) {
            let why = format!("is {}: 1 to {PHOTO_KB_MAX} make sense", self.photo_kb);
            return no("photo_kb", why);
        }
        if self.away_saving >= WHOLE {
            let why = format!(
                "is {} thousandths: 0 to {} make sense",
                self.away_saving,
                WHOLE - 1
            );
            return no("away_saving", why);
        }
        let again = |(at, step): (usize, &Escape)| self.escape[..at].contains(step);
        if self.escape.iter().enumerate().any(again) {
            return no("escape", "names something twice".to_owned());
        }
        if self.commitments.len() > COMMITMENTS_MAX {
            return no(
                "commitment",
                format!("is given more than {COMMITMENTS_MAX} times"),
            );
        }
        for (at, one) in self.commitments.iter().enumerate() {
            if !is_region(&one.region) {
                let why = format!("is {:?}; write one as eu-central-1", one.region);
                return no("commitment.region", why);
            }
            let of = |one: &Commitment| (one.region.clone(), one.zone_id.clone(), one.instance_type.clone());
            let same = |other: &Commitment| of(other) == of(one);
            if one.zone_id.len() > SCHEDULE_TEXT_MAX {
                let why = format!("is longer than {SCHEDULE_TEXT_MAX} bytes");
                return no("commitment.zone_id", why);
            }
            if self.commitments[..at].iter().any(same) {
                let why = format!("{} in {} is given twice", one.instance_type, one.region);
                return no("commitment.type", why);
            }
            if one.instance_type.is_empty() || one.machines == 0 {
                return no(
                    "commitment.machines",
                    "is 0, or of no type: leave it out".to_owned(),
                );
            }
        }
        Ok(())
    }

    fn check_spares(&self) -> Result<(), Rejected> {
        let no = |field: &'static str, why: String| Err(Rejected::Invalid { field, why });
        let Some(spares) = &self.spares else { return Ok(()) };
        let day = |time: u64| (1..=DAY).contains(&time);
        let a_day = |time: u64| format!("is {time} µs: more than 0 and at most a day make sense");
        match () {
            () if !(1..=SCHEDULE_TEXT_MAX).contains(&spares.recogniser.len()) => no(
                "spares.recogniser",
                format!(
                    "has {} bytes: 1 to {SCHEDULE_TEXT_MAX} name one",
                    spares.recogniser.len()
                ),
            ),
            () if spares.photos == 0 => no(
                "spares.photos",
                "is 0: leave [spares] out where nothing is kept".to_owned(),
            ),
            () if !day(spares.within) => no("spares.within", a_day(spares.within)),
            () if !day(spares.start) => no("spares.start", a_day(spares.start)),
            () if !self.on_demand => no(
                "spares",
                "are machines on demand, and on_demand is false".to_owned(),
            ),
            () => Ok(()),
        }
    }

    /// µs until a stopped machine works that is started now: as measured, or as people say.
    pub fn restart(&self, measured: Option<u64>) -> u64 {
        let said = self.spares.as_ref().map_or(self.ready, |spares| spares.start);
        measured.unwrap_or(said)
    }

    /// What holds for an environment of this name, if the policy says something.
    pub fn rule(&self, environment: &str) -> Option<&EnvRule> {
        let rules = &self.environments;
        let at = rules.binary_search_by(|rule| rule.name.as_str().cmp(environment));
        at.ok().map(|at| &rules[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(change: impl Fn(&mut Scaling)) -> &'static str {
        let mut scaling = Scaling {
            mode: Mode::Act,
            ..Scaling::default()
        };
        change(&mut scaling);
        scaling.check().map_or_else(|rejected| rejected.field(), |()| "")
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_its_field() {
        let threshold = Threshold {
            high: 800,
            high_for: MINUTE,
            low: 700,
            low_for: MINUTE,
            hold: 30 * MINUTE,
        };
        assert_eq!(field(|_| ()), "");
        assert_eq!(field(|one| one.threshold = Some(threshold)), "");
        assert_eq!(
            field(|one| one.threshold = Some(Threshold {
                high: 1_001,
                ..threshold
            })),
            "threshold.high"
        );
        assert_eq!(
            field(|one| one.threshold = Some(Threshold {
                low: 801,
                ..threshold
            })),
            "threshold.low"
        );
        assert_eq!(field(|one| (one.spot, one.on_demand) = (false, false)), "spot");
        assert_eq!(field(|one| one.share = 0), "share");
        assert_eq!(field(|one| one.caps.hour = one.caps.day + 1), "caps.hour");
        assert_eq!(field(|one| one.ready = 0), "ready");
        assert_eq!(field(|one| one.caps.committed = DAY + 1), "caps.committed");
        assert_eq!(field(|one| one.probe_max = one.probe_first - 1), "probe_max");
    }
}
