//! What a seed brings: which kinds of faults, how strong, and which load and limits. Drawn once, printed first.
//!
//! Swarm: some seeds have one kind alone and strong, some a few, some nearly all. Each kind draws from a branch of its
//! own, so that a seed with some kinds switched off is otherwise the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rebound_core::state::settings::Settings;
use rebound_core::types::{MILLISECOND, SECOND};

use crate::net::Weather;
use crate::rng::Rng;

pub mod cloud;
pub mod extremes;
pub mod kind;
pub mod load;
pub mod tenants;

use cloud::Cloud;
use extremes::Extremes;
pub use kind::{Kind, Strength};
use load::Load;

/// Entries that a short log keeps.
const SHORT_LOG: u64 = 40;

/// Which kinds may be there at all: what a person asked for, and what the shrinker tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// These alone; none: all.
    pub only: Option<BTreeSet<Kind>>,
    /// Not these.
    pub without: BTreeSet<Kind>,
}

impl Choice {
    fn allows(&self, kind: Kind) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&kind)) && !self.without.contains(&kind)
    }
}

/// All that a seed decides beforehand.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Jobs, servers, agents, time.
    pub load: Load,
    /// Kinds that are there, with their strength.
    pub kinds: BTreeMap<Kind, Strength>,
    /// Limits, if they are not production's.
    pub extremes: Option<Extremes>,
    /// The cloud, if machines are bought.
    pub cloud: Option<Cloud>,
}

impl Faults {
    /// What a seed brings; `root` is its randomness.
    pub fn of_seed(root: &Rng, choice: &Choice) -> Faults {
        Faults::draw(&mut root.branch("faults"), choice)
    }

    /// Draws everything from the seed's branch.
    fn draw(rng: &mut Rng, choice: &Choice) -> Faults {
        let style = rng.within(0, 99);
        let all = Kind::ALL.map(|(kind, ..)| kind);
        let mut chosen = BTreeSet::new();
        match style {
            0..20 => chosen.extend(rng.pick(&all)),
            20..50 => chosen.extend((0..3).filter_map(|_| rng.pick(&all).copied())),
            50..85 => chosen.extend(all.into_iter().filter(|_| rng.chance(400_000))),
            _ => chosen.extend(all.into_iter().filter(|_| rng.chance(800_000))),
        }
        let strong = style < 20;
        // A kind that is alone has what it needs.
        let needed = strong && chosen.iter().any(|kind| kind.is_of_cloud());
        let mut cloud = Cloud::draw(&mut rng.branch("cloud"), needed);
        let mut load = Load::draw(&mut rng.branch("load"));
        if let Some(cloud) = &cloud {
            // What there is without machines that are bought is little; who keeps some for a burst must now and then have
            // nothing to do.
            (load.agents, load.slots) = (1, 1);
            load.jobs = match cloud.spares {
                None => load.jobs * 3,
                Some(_) => load.jobs.div_ceil(3),
            };
        }
        let strength = |kind: Kind| (kind, kind.strength(&mut rng.branch(kind.name()), strong));
        let can = |kind: &Kind| cloud.is_some() || !kind.is_of_cloud();
        let allowed = chosen.into_iter().filter(can).filter(|kind| choice.allows(*kind));
        let kinds: BTreeMap<Kind, Strength> = allowed.map(strength).collect();
        if let Some(cloud) = cloud.as_mut().filter(|_| !kinds.contains_key(&Kind::Dry)) {
            cloud.has_plenty();
        }
        let extremes = kinds
            .contains_key(&Kind::Limits)
            .then(|| Extremes::draw(&mut rng.branch("extremes")));
        Faults {
            load,
            kinds,
            extremes,
            cloud,
        }
    }

    /// How strong a kind is, if it is there.
    pub fn of(&self, kind: Kind) -> Option<Strength> {
        self.kinds.get(&kind).copied()
    }

    /// Of a kind's strength in a million; 0 without it.
    pub fn ppm(&self, kind: Kind) -> u64 {
        self.of(kind).map_or(0, |strength| strength.ppm)
    }

    /// A photo takes so many times as long during the storm.
    pub fn photo_times(&self) -> u64 {
        self.cloud.as_ref().map_or(1, |cloud| cloud.photo_times)
    }

    /// The network during the storm.
    pub fn weather(&self) -> Weather {
        let long = |kind| self.of(kind).map_or(0, |strength| strength.long);
        Weather {
            loss_ppm: self.ppm(Kind::Loss),
            copy_ppm: self.ppm(Kind::Copies),
            copy_late: long(Kind::Copies),
            delay_min: MILLISECOND / 5,
            delay_max: MILLISECOND + long(Kind::Delay),
        }
    }

    /// Limits that change outcomes.
    pub fn settings(&self) -> Settings {
        let extremes = self.extremes.as_ref();
        let plain = extremes
            .map(|extremes| extremes.settings.clone())
            .unwrap_or_default();
        match self.of(Kind::Overload) {
            None => plain,
            // The largest job fits.
            Some(strength) => Settings {
                photos_waiting_max: 60,
                open_bytes_max: 16 * 1024,
                shed_after: strength.long,
                ..plain
            },
        }
    }

    /// Entries a server keeps behind the applied one. A follower only falls behind a short log.
    pub fn log_keep(&self) -> u64 {
        let ends = || {
            [Kind::Crash, Kind::Rot, Kind::LostDisk]
                .iter()
                .any(|kind| self.of(*kind).is_some())
        };
        match self.of(Kind::Lag) {
            Some(lag) => self.load.log_keep.min(20 + lag.ppm % 200),
            None if self.load.short_log && ends() => self.load.log_keep.min(SHORT_LOG),
            None => self.load.log_keep,
        }
    }
}

/// One line for the load, one for each kind, one for the limits.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.load)?;
        for (kind, strength) in &self.kinds {
            write!(f, "\n  {:<12} {}", kind.name(), kind.words(strength))?;
        }
        if let Some(extremes) = &self.extremes {
            write!(f, "\n  {:<12} {extremes}", "")?;
        }
        if let Some(cloud) = &self.cloud {
            write!(f, "\n  {:<12} {cloud}", "cloud")?;
        }
        Ok(())
    }
}

/// Seconds and thousandths, for people.
pub(crate) fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / SECOND, us % SECOND / MILLISECOND)
}
