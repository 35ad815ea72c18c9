//! A cloud with EC2's behaviour: tokens, buckets of calls, pools that are used up, machines that are taken back. It knows
//! nothing of the cluster but its calls. It does well what it is asked for, but in [spells](SimCloud::befall) of trouble.

use std::collections::BTreeMap;

use rebound_core::cloud::{CloudCall, CloudOutcome, Found};
use rebound_core::state::buying::Started;
use rebound_core::state::launches::{Choice, Lack, Wanted};
use rebound_core::types::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::Kind;
use crate::rng::Rng;

mod spells;
mod standstill;

use spells::{Manner, Spells};

/// How the cloud is when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// New machines are missing from lists for so long at most, in µs.
    pub lag: u64,
    /// Machines that each pool has.
    pub room: u32,
    /// vCPUs that the account may have.
    pub quota: u32,
}

/// Machines that a bucket of the account lets through at once, and in a second after that. EC2's defaults:
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>.
const CREATE_FLEET: (u64, u64) = (50, 5);
const TERMINATE: (u64, u64) = (100, 5);
const DESCRIBE: (u64, u64) = (100, 20);
/// Ended machines are listed for so long yet.
const SHOWN: u64 = 3_600 * SECOND;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    most: u64,
    a_second: u64,
    /// In millionths of a token.
    left: u64,
    at: u64,
}

impl Bucket {
    fn new((most, a_second): (u64, u64)) -> Bucket {
        Bucket {
            most,
            a_second,
            left: most * 1_000_000,
            at: 0,
        }
    }

    fn take(&mut self, now: u64) -> bool {
        self.left = (self.left + now.saturating_sub(self.at) * self.a_second).min(self.most * 1_000_000);
        self.at = now.max(self.at);
        let has = self.left >= 1_000_000;
        if has {
            self.left -= 1_000_000;
        }
        has
    }
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Where it is and how it was bought.
    pub pool: Pool,
    /// vCPUs.
    pub vcpus: u32,
    /// The launch that its tag names.
    pub launch: LaunchId,
    /// Since when it is there, from when lists show it, and when it runs.
    pub began: u64,
    /// See `began`.
    pub shown: u64,
    /// See `began`; again after each start.
    pub runs: u64,
    /// It stands still, since then.
    pub stopped: Option<u64>,
    /// From when until when it ran before it stood still.
    pub ran: Vec<(u64, u64)>,
    /// When it ended, and whether the cloud took it.
    pub ended: Option<(u64, bool)>,
}

impl Instance {
    /// True until it has ended.
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// True while it runs, or will: it counts for quotas and is billed.
    pub fn is_on(&self) -> bool {
        self.is_live() && self.stopped.is_none()
    }
}

/// What was answered to a token: of which request, and with which machines.
struct Answered {
    request: u64,
    started: Vec<Started>,
}

/// See the module.
pub struct SimCloud {
    /// How it is when all is well.
    pub nature: Nature,
    /// All machines that there ever were.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Pools that have nothing until then.
    pub dry: BTreeMap<Pool, u64>,
    /// What spot costs where it is known: nothing is started whose bound is below it.
    pub prices: BTreeMap<Pool, MicroUsd>,
    /// Machines of pools that have another number than [`Nature::room`].
    pub rooms: BTreeMap<Pool, u32>,
    /// What a machine that stands still costs an hour: its volume.
    pub volume: MicroUsd,
    /// How often what was called.
    pub calls: BTreeMap<&'static str, u64>,
    tokens: BTreeMap<(String, String), Answered>,
    /// Machines that have ended, and that lists show as running until then.
    lingers: BTreeMap<InstanceId, u64>,
    spells: Spells,
    fleets: Bucket,
    endings: Bucket,
    lists: Bucket,
    rng: Rng,
    next: u64,
}

impl SimCloud {
    /// A cloud without machines.
    pub fn new(nature: Nature, rng: Rng) -> SimCloud {
        SimCloud {
            nature,
            instances: BTreeMap::new(),
            dry: BTreeMap::new(),
            prices: BTreeMap::new(),
            rooms: BTreeMap::new(),
            volume: MicroUsd(0),
            calls: BTreeMap::new(),
            tokens: BTreeMap::new(),
            lingers: BTreeMap::new(),
            spells: Spells::new(&rng),
            fleets: Bucket::new(CREATE_FLEET),
            endings: Bucket::new(TERMINATE),
            lists: Bucket::new(DESCRIBE),
            rng,
            next: 0,
        }
    }

    /// Trouble of a kind comes over it until then: so many calls, or machines, in a million meet it.
    pub fn befall(&mut self, kind: Kind, until: u64, ppm: u64) {
        self.spells.befall(kind, until, ppm);
    }

    /// All is well from now on.
    pub fn heal(&mut self) {
        self.spells.end();
        self.dry.clear();
        self.prices.clear();
    }

    /// Whether a call, or a machine, meets a kind of trouble.
    pub fn meets(&mut self, kind: Kind, now: u64) -> bool {
        self.spells.strikes(kind, now)
    }

    fn count(&mut self, what: &'static str) {
        *self.calls.entry(what).or_default() += 1;
    }

    /// How long a call or its answer is on its way.
    pub fn way(&mut self) -> u64 {
        self.rng.scaled(20 * MILLISECOND, 3 * SECOND)
    }

    /// What comes of a call. `wall` turns a moment of the world into the cloud's clock.
    pub fn call(&mut self, now: u64, call: &CloudCall, wall: impl Fn(u64) -> Time) -> CloudOutcome {
        let (name, bucket) = match call {
            CloudCall::Launch { .. } => ("launches called", &mut self.fleets),
            CloudCall::Terminate { .. } => ("terminations called", &mut self.endings),
            CloudCall::Stop { .. } => ("stops called", &mut self.endings),
            CloudCall::Start { .. } => ("starts called", &mut self.fleets),
            CloudCall::List { .. } => ("lists called", &mut self.lists),
        };
        let takes = bucket.take(now);
        self.count(name);
        if !takes || self.meets(Kind::Throttle, now) {
            self.count("calls throttled");
            if matches!(call, CloudCall::Launch { .. }) {
                self.count("launches throttled");
            }
            return CloudOutcome::Retry { after: SECOND };
        }
        match call {
            CloudCall::Launch {
                launch,
                token,
                wanted,
                ..
            } => self.launch(now, *launch, token, wanted),
            CloudCall::Terminate { machines, .. } => self.terminate(now, machines),
            CloudCall::Stop { machines, .. } => self.stop(now, machines),
            CloudCall::Start { machine, .. } => self.start_again(now, machine),
            CloudCall::List { region } => CloudOutcome::Listed(self.list(now, region, wall)),
        }
    }

    fn launch(&mut self, now: u64, launch: LaunchId, token: &str, wanted: &Wanted) -> CloudOutcome {
        let request = xxh3_64(format!("{wanted:?}").as_bytes());
        let key = (wanted.region.clone(), token.to_owned());
        if let Some(before) = self.tokens.get(&key) {
            if before.request != request {
                return CloudOutcome::Refused {
                    why: "IdempotentParameterMismatch".into(),
                };
            }
            let started = before.started.clone();
            self.count("launches answered by their token");
            return CloudOutcome::Launched {
                started,
                lacked: Vec::new(),
            };
        }
        let (started, lacked) = self.fleet(now, launch, wanted);
        self.tokens.insert(
            key,
            Answered {
                request,
                started: started.clone(),
            },
        );
        CloudOutcome::Launched { started, lacked }
    }

    /// The machines that there are, and why not more.
    fn fleet(
        &mut self,
        now: u64,
        launch: LaunchId,
        wanted: &Wanted,
    ) -> (Vec<Started>, Vec<(String, String, Lack)>) {
        let manner = self.spells.manner(now);
        let count = match manner {
            Manner::Empty => 0,
            Manner::Half => wanted.count.div_ceil(2),
            Manner::Plain | Manner::Elsewhere => wanted.count,
        };
        let (mut started, mut lacked) = (Vec::new(), Vec::new());
        let elsewhere = manner == Manner::Elsewhere && wanted.choices.len() > 1;
        for (at, choice) in wanted.choices.iter().cycle().take(count as usize).enumerate() {
            let mut one = match elsewhere && at == 0 {
                true => Err(Lack::Capacity),
                false => self.start(now, launch, wanted, choice),
            };
            if let Err(lack) = one {
                let why = (choice.zone_id.clone(), choice.instance_type.clone(), lack);
                if !lacked.contains(&why) {
                    lacked.push(why);
                }
                if elsewhere {
                    let mut others = wanted.choices.iter().filter(|other| *other != choice);
                    one = others
                        .find_map(|other| self.start(now, launch, wanted, other).ok())
                        .ok_or(lack);
                }
            }
            started.extend(one);
        }
        let all = started.len() as u32 == wanted.count;
        self.count(match (all, started.is_empty(), lacked.is_empty()) {
            (true, _, true) => "launches filled",
            (true, _, false) => "launches filled with errors",
            (false, true, _) => "launches empty",
            (false, false, _) => "launches filled in part",
        });
        if !all && lacked.is_empty() {
            self.count("launches short without a word");
        }
        (started, lacked)
    }

    fn start(
        &mut self,
        now: u64,
        launch: LaunchId,
        wanted: &Wanted,
        choice: &Choice,
    ) -> Result<Started, Lack> {
        let pool = wanted.pool(choice);
        let live = || self.instances.values().filter(|one| one.is_on());
        if live().map(|one| one.vcpus).sum::<u32>() + choice.vcpus > self.nature.quota {
            return Err(Lack::Quota);
        }
        let there = live().filter(|one| one.pool == pool).count() as u32;
        let room = self.rooms.get(&pool).copied().unwrap_or(self.nature.room);
        let too_dear = self.prices.get(&pool).is_some_and(|price| *price > choice.bound);
        if too_dear || there >= room || self.dry.get(&pool).is_some_and(|until| now < *until) {
            return Err(Lack::Capacity);
        }
        self.next += 1;
        let id = InstanceId(format!("i-{:017x}", self.next));
        let lag = now + self.rng.within(0, self.nature.lag);
        let instance = Instance {
            pool,
            vcpus: choice.vcpus,
            launch,
            began: now,
            shown: self.spells.delays(Kind::StaleList, now).max(lag),
            runs: now + self.rng.within(2 * SECOND, 20 * SECOND),
            stopped: None,
            ran: Vec::new(),
            ended: None,
        };
        self.instances.insert(id.clone(), instance);
        Ok(Started {
            id,
            zone_id: choice.zone_id.clone(),
            instance_type: choice.instance_type.clone(),
        })
    }

    fn terminate(&mut self, now: u64, machines: &[InstanceId]) -> CloudOutcome {
        // One that is not there fails all: what EC2 does.
        let known = |id: &InstanceId| self.instances.get(id).is_some_and(|one| one.shown <= now);
        if !machines.iter().all(known) {
            return CloudOutcome::Retry { after: 5 * SECOND };
        }
        machines.iter().for_each(|id| self.end(now, id, false));
        CloudOutcome::Terminating
    }

    fn list(&mut self, now: u64, region: &str, wall: impl Fn(u64) -> Time) -> Vec<Found> {
        let mut found = Vec::new();
        let (mut lacks, mut lingers) = (false, false);
        for (id, one) in &self.instances {
            let old = one.ended.is_some_and(|(at, _)| at + SHOWN < now);
            if one.pool.region != region || one.shown > now || old {
                lacks |= one.is_live() && one.shown > now;
                continue;
            }
            let seen = self.lingers.get(id).is_none_or(|until| *until <= now);
            lingers |= one.ended.is_some() && !seen;
            let started = Started {
                id: id.clone(),
                zone_id: one.pool.zone_id.clone(),
                instance_type: one.pool.instance_type.clone(),
            };
            found.push(Found {
                started,
                pool: one.pool.clone(),
                launch: one.launch,
                running: (one.runs <= now && one.stopped.is_none()).then(|| wall(one.runs)),
                stopped: one.stopped.map(&wall),
                ended: one
                    .ended
                    .filter(|_| seen)
                    .map(|(at, reclaimed)| (wall(at), reclaimed)),
            });
        }
        let stale = self.spells.has(Kind::StaleList, now);
        if lacks && stale {
            self.count("lists without new machines");
        }
        if lingers {
            self.count("lists with ended machines");
        }
        found
    }

    fn end(&mut self, now: u64, id: &InstanceId, reclaimed: bool) {
        let Some(one) = self.instances.get_mut(id).filter(|one| one.is_live()) else {
            return;
        };
        one.ended = Some((now, reclaimed));
        if self.spells.has(Kind::StaleList, now) {
            let until = self.spells.delays(Kind::StaleList, now);
            self.lingers.insert(id.clone(), until);
        }
    }

    /// The cloud takes a machine back.
    pub fn reclaim(&mut self, now: u64, id: &InstanceId) {
        self.end(now, id, true);
    }

    /// A machine ends by itself: what it ran on is broken.
    pub fn breaks(&mut self, now: u64, id: &InstanceId) {
        self.end(now, id, false);
    }

    /// Machines that run, or will.
    pub fn on(&self) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        self.instances.iter().filter(|(_, one)| one.is_on())
    }

    /// Machines that have not ended.
    pub fn live(&self) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        self.instances.iter().filter(|(_, one)| one.is_live())
    }
}

#[cfg(test)]
mod tests;
