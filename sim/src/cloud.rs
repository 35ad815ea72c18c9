//! A cloud with EC2's behaviour: tokens, buckets of calls, pools that run dry, fleets that come in part, lists that lag
//! behind, machines that never join and machines that are taken back. It knows nothing of the cluster but its calls.

use std::collections::BTreeMap;

use rebound_core::cloud::{CloudCall, CloudOutcome, Found};
use rebound_core::state::buying::Started;
use rebound_core::state::launches::{Lack, Wanted};
use rebound_core::types::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::rng::Rng;

/// How the cloud behaves in one seed. Times in µs, shares in a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// New machines are missing from lists for so long at most.
    pub lag: u64,
    /// Of calls so many are refused: too many at once.
    pub throttled: u64,
    /// Of calls so many fail before they did anything.
    pub failing: u64,
    /// Of answers so many are lost.
    pub lost: u64,
    /// Of fleets so many are empty without a word why.
    pub empty: u64,
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
        self.left = (self.left + (now - self.at) * self.a_second).min(self.most * 1_000_000);
        self.at = now;
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
    /// See `began`.
    pub runs: u64,
    /// When it ended, and whether the cloud took it.
    pub ended: Option<(u64, bool)>,
}

impl Instance {
    /// True until it has ended.
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}

/// What was answered to a token: of which request, and with which machines.
struct Answered {
    request: u64,
    started: Vec<Started>,
}

/// See the module.
pub struct SimCloud {
    /// How it behaves; calm it is kind.
    pub nature: Nature,
    /// All machines that there ever were.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Pools that have nothing until then.
    pub dry: BTreeMap<Pool, u64>,
    /// What spot costs where it is known: nothing is started whose bound is below it.
    pub prices: BTreeMap<Pool, MicroUsd>,
    /// Machines of pools that have another number than [`Nature::room`].
    pub rooms: BTreeMap<Pool, u32>,
    /// How often what was called.
    pub calls: BTreeMap<&'static str, u64>,
    tokens: BTreeMap<(String, String), Answered>,
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
            calls: BTreeMap::new(),
            tokens: BTreeMap::new(),
            fleets: Bucket::new(CREATE_FLEET),
            endings: Bucket::new(TERMINATE),
            lists: Bucket::new(DESCRIBE),
            rng,
            next: 0,
        }
    }

    /// True when an answer is lost, or a call before it comes.
    pub fn loses(&mut self) -> bool {
        let lost = self.nature.lost;
        self.rng.chance(lost)
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
            CloudCall::List { .. } => ("lists called", &mut self.lists),
        };
        *self.calls.entry(name).or_default() += 1;
        if !bucket.take(now) || self.rng.chance(self.nature.throttled) {
            *self.calls.entry("calls throttled").or_default() += 1;
            return CloudOutcome::Retry { after: SECOND };
        }
        if self.rng.chance(self.nature.failing) {
            return CloudOutcome::Unknown;
        }
        match call {
            CloudCall::Launch {
                launch,
                token,
                wanted,
                ..
            } => self.launch(now, *launch, token, wanted),
            CloudCall::Terminate { machines, .. } => self.terminate(now, machines),
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
            *self.calls.entry("launches answered by their token").or_default() += 1;
            return CloudOutcome::Launched {
                started: before.started.clone(),
                lacked: Vec::new(),
            };
        }
        let (mut started, mut lacked) = (Vec::new(), Vec::new());
        if !self.rng.chance(self.nature.empty) {
            for choice in wanted.choices.iter().cycle().take(wanted.count as usize) {
                match self.start(now, launch, wanted, choice) {
                    Ok(one) => started.push(one),
                    Err(lack) => {
                        let why = (choice.zone_id.clone(), choice.instance_type.clone(), lack);
                        if !lacked.contains(&why) {
                            lacked.push(why);
                        }
                    }
                }
            }
        }
        let name = match (started.len() as u32 == wanted.count, started.is_empty()) {
            (true, _) => "launches filled",
            (_, true) => "launches empty",
            _ => "launches filled in part",
        };
        *self.calls.entry(name).or_default() += 1;
        self.tokens.insert(
            key,
            Answered {
                request,
                started: started.clone(),
            },
        );
        CloudOutcome::Launched { started, lacked }
    }

    fn start(
        &mut self,
        now: u64,
        launch: LaunchId,
        wanted: &Wanted,
        choice: &rebound_core::state::launches::Choice,
    ) -> Result<Started, Lack> {
        let pool = wanted.pool(choice);
        let live = || self.instances.values().filter(|one| one.is_live());
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
        let instance = Instance {
            pool,
            vcpus: choice.vcpus,
            launch,
            began: now,
            shown: now + self.rng.within(0, self.nature.lag),
            runs: now + self.rng.within(2 * SECOND, 20 * SECOND),
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
        for id in machines {
            if let Some(one) = self.instances.get_mut(id).filter(|one| one.is_live()) {
                one.ended = Some((now, false));
            }
        }
        CloudOutcome::Terminating
    }

    fn list(&mut self, now: u64, region: &str, wall: impl Fn(u64) -> Time) -> Vec<Found> {
        let mut found = Vec::new();
        for (id, one) in &self.instances {
            let old = one.ended.is_some_and(|(at, _)| at + SHOWN < now);
            if one.pool.region != region || one.shown > now || old {
                continue;
            }
            let started = Started {
                id: id.clone(),
                zone_id: one.pool.zone_id.clone(),
                instance_type: one.pool.instance_type.clone(),
            };
            found.push(Found {
                started,
                pool: one.pool.clone(),
                launch: one.launch,
                running: (one.runs <= now).then(|| wall(one.runs)),
                ended: one.ended.map(|(at, reclaimed)| (wall(at), reclaimed)),
            });
        }
        found
    }

    /// The cloud takes a machine back.
    pub fn reclaim(&mut self, now: u64, id: &InstanceId) {
        if let Some(one) = self.instances.get_mut(id).filter(|one| one.is_live()) {
            one.ended = Some((now, true));
        }
    }

    /// Machines that have not ended.
    pub fn live(&self) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        self.instances.iter().filter(|(_, one)| one.is_live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rebound_core::state::launches::Choice;

    fn cloud(nature: Nature) -> SimCloud {
        SimCloud::new(nature, Rng::new(1))
    }

    fn kind() -> Nature {
        Nature {
            room: 4,
            quota: 100,
            ..Nature::default()
        }
    }

    fn launch(count: u32, token: &str) -> CloudCall {
        let choice = |zone: &str| Choice {
            zone_id: zone.into(),
            instance_type: "c5.large".into(),
            vcpus: 2,
            price: MicroUsd(1),
            bound: MicroUsd(2),
        };
        let wanted = Wanted {
            region: "r".into(),
            market: Market::Spot,
            choices: vec![choice("a"), choice("b")],
            count,
            template: 1,
        };
        CloudCall::Launch {
            launch: LaunchId(7),
            token: token.into(),
            wanted,
            not_after: Time(u64::MAX),
        }
    }

    fn ids(outcome: CloudOutcome) -> (Vec<String>, usize) {
        match outcome {
            CloudOutcome::Launched { started, lacked } => {
                (started.into_iter().map(|one| one.id.0).collect(), lacked.len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_gives_the_same_machines_and_takes_no_other_request() {
        let mut cloud = cloud(kind());
        let first = ids(cloud.call(0, &launch(3, "t"), Time));
        assert_eq!(ids(cloud.call(9, &launch(3, "t"), Time)), first);
        assert_eq!(cloud.live().count(), 3);
        assert!(matches!(
            cloud.call(9, &launch(2, "t"), Time),
            CloudOutcome::Refused { .. }
        ));
        assert_ne!(ids(cloud.call(9, &launch(3, "u"), Time)), first);
    }

    #[test]
    fn pools_run_dry_and_quotas_are_used_up() {
        let mut cloud = cloud(kind());
        assert_eq!(
            ids(cloud.call(0, &launch(10, "t"), Time)).1,
            2,
            "four in each of two pools"
        );
        assert_eq!(cloud.live().count(), 8);
        let mut small = SimCloud::new(Nature { quota: 5, ..kind() }, Rng::new(1));
        assert_eq!(ids(small.call(0, &launch(4, "t"), Time)).0.len(), 2);
    }

    #[test]
    fn lists_lag_behind_and_what_is_not_shown_cannot_be_ended() {
        let mut cloud = cloud(Nature {
            lag: 300 * SECOND,
            ..kind()
        });
        let (started, _) = ids(cloud.call(0, &launch(4, "t"), Time));
        let machines: Vec<InstanceId> = started.into_iter().map(InstanceId).collect();
        let list = CloudCall::List { region: "r".into() };
        let shown = |cloud: &mut SimCloud, now| match cloud.call(now, &list, Time) {
            CloudOutcome::Listed(found) => found,
            other => panic!("{other:?}"),
        };
        assert!(shown(&mut cloud, 0).len() < 4);
        let end = CloudCall::Terminate {
            region: "r".into(),
            machines,
        };
        assert!(matches!(cloud.call(0, &end, Time), CloudOutcome::Retry { .. }));
        let later = 301 * SECOND;
        assert_eq!(shown(&mut cloud, later).len(), 4);
        assert!(matches!(cloud.call(later, &end, Time), CloudOutcome::Terminating));
        assert!(
            shown(&mut cloud, later)
                .iter()
                .all(|one| one.ended.is_some() && one.running.is_some())
        );
        assert_eq!(shown(&mut cloud, later + SHOWN + 1), []);
    }

    #[test]
    fn too_many_calls_at_once_are_refused() {
        let mut cloud = cloud(Nature {
            room: 1_000,
            quota: 100_000,
            ..kind()
        });
        let refused = (0..60).filter(|n| {
            let outcome = cloud.call(SECOND, &launch(1, &format!("{n}")), Time);
            matches!(outcome, CloudOutcome::Retry { .. })
        });
        assert_eq!(refused.count(), 10);
    }
}
