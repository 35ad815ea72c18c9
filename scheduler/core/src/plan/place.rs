//! Placement: which worker gets which tasks.
//!
//! Environments take turns: whoever holds least for its weight is next, and takes from the front of its own queue.
//! First every free slot is filled, the most recently busy worker first, so that others fall idle and can be let go;
//! then, with what is left, each worker gets photos to fetch ahead, up to its credit.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use super::{Assign, Because, Plan, Policy};
use crate::observe::{Demand, Observation, Share, WorkerView};
use crate::types::{EnvId, Index, Resources, SpecId, WorkerId};

/// A worker while the plan is made.
pub(super) struct Room<'a> {
    pub view: &'a WorkerView,
    held: u32,
    /// What the photos it holds need together.
    in_use: Resources,
    /// It may hold no more than this: the least credit of the specs it holds.
    most: u32,
}

impl<'a> Room<'a> {
    pub fn of(view: &'a WorkerView) -> Room<'a> {
        Room {
            view,
            held: view.held,
            in_use: view.in_use,
            most: view.most,
        }
    }

    /// The most recently busy first, so that the others fall idle; last those where photos fail.
    pub fn order(&self) -> (bool, Reverse<Index>, WorkerId) {
        (self.view.failing, Reverse(self.view.last_given), self.view.id)
    }

    pub fn has_free_slot(&self) -> bool {
        self.held < self.view.slots
    }

    /// It gets so many photos more.
    pub fn add(&mut self, spec: SpecId, each: &Resources, count: u32) {
        self.held += count;
        self.in_use = self.in_use.plus(&each.times(count));
        let credit = self.view.can.get(&spec).copied().unwrap_or_default();
        self.most = self.most.min(credit);
    }

    /// How many photos of `spec` it can take: into free slots, or up to its credit, which stands for as many times its
    /// machine as its slots.
    pub fn takes(&self, spec: SpecId, each: &Resources, ahead: bool) -> u32 {
        let Some(credit) = self.view.can.get(&spec) else {
            return 0;
        };
        // A slot is free only if what is to run in it fits on the machine beside the rest.
        let slots = self.view.slots;
        let most = if ahead { self.most.min(*credit) } else { slots };
        let times = most.div_ceil(slots.max(1)).max(1);
        let resources = self.view.resources.times(times).less(&self.in_use, 1);
        most.saturating_sub(self.held).min(resources.holds(each))
    }
}

/// What is left to give of one piece of demand.
struct Left<'a> {
    demand: &'a Demand,
    first: u64,
    count: u64,
    /// The assignment that was made of it last, in this pass.
    last: Option<usize>,
}

/// An environment while the plan is made.
struct Tenant<'a> {
    share: Share,
    held: u64,
    queue: Vec<Left<'a>>,
}

/// An environment's place among those that want more: least held for its weight comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Turn {
    held: u64,
    weight: u32,
    env: EnvId,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let own = u128::from(self.held) * u128::from(other.weight);
        let others = u128::from(other.held) * u128::from(self.weight);
        own.cmp(&others).then(self.env.cmp(&other.env))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Turn {
    /// How many tasks it may take before it is the other's turn.
    fn length(&self, next: Option<&Turn>) -> u64 {
        let Some(next) = next else { return u64::MAX };
        let level = u128::from(next.held) * u128::from(self.weight) / u128::from(next.weight.max(1));
        let level = u64::try_from(level).unwrap_or(u64::MAX);
        level.saturating_sub(self.held).saturating_add(1)
    }
}

/// Adds assignments to the plan, at most the policy's number of runs.
pub fn place(policy: &Policy, seen: &Observation, plan: &mut Plan) {
    let mut rooms: Vec<Room> = seen.workers.iter().map(Room::of).collect();
    rooms.sort_by_key(Room::order);
    plan.more |= seen.more;
    let mut tenants: BTreeMap<EnvId, Tenant> = BTreeMap::new();
    for demand in &seen.demand {
        let Some(share) = seen.shares.get(&demand.env) else {
            continue;
        };
        let tenant = tenants.entry(demand.env).or_insert_with(|| Tenant {
            share: *share,
            held: share.held,
            queue: Vec::new(),
        });
        tenant.queue.push(Left {
            demand,
            first: demand.first,
            count: demand.count,
            last: None,
        });
    }
    for ahead in [false, true] {
        let mut pass = Pass {
            policy,
            seen,
            ahead,
            rooms: &mut rooms,
            full_to: BTreeMap::new(),
        };
        if !pass.fill(&mut tenants, plan) {
            plan.more = true;
            return;
        }
    }
    // What a worker now holds beyond its slots may push something it held before behind them, and that may be for a
    // free slot of a worker that is not seen here, since it can run nothing of what waits.
    let ahead = |a: &Assign| matches!(a.because, Because::Ahead { .. });
    plan.more |= plan.assign.iter().any(ahead);
}

/// One pass over all that want something.
struct Pass<'a, 'b> {
    policy: &'a Policy,
    seen: &'a Observation,
    ahead: bool,
    rooms: &'b mut Vec<Room<'a>>,
    /// The first room that may still take a photo of a spec, in its own region and away: rooms only fill up.
    full_to: BTreeMap<(SpecId, bool), usize>,
}

impl Pass<'_, '_> {
    /// Gives what can be given, in turns. False when the plan is full.
    fn fill(&mut self, tenants: &mut BTreeMap<EnvId, Tenant>, plan: &mut Plan) -> bool {
        let turn = |env: EnvId, tenant: &Tenant| {
            Reverse(Turn {
                held: tenant.held,
                weight: tenant.share.weight,
                env,
            })
        };
        let mut turns: BinaryHeap<Reverse<Turn>> =
            tenants.iter().map(|(env, tenant)| turn(*env, tenant)).collect();
        tenants
            .values_mut()
            .flat_map(|tenant| &mut tenant.queue)
            .for_each(|left| left.last = None);
        while let Some(Reverse(now)) = turns.pop() {
            let tenant = tenants.get_mut(&now.env).expect("each has a turn");
            let length = now.length(turns.peek().map(|Reverse(next)| next));
            let length = length.min(tenant.share.most.saturating_sub(tenant.held));
            let before = tenant.held;
            if !self.give(tenant, length, plan) {
                return false;
            }
            // Whoever got nothing in its turn gets nothing more in this pass.
            if tenant.held > before {
                turns.push(turn(now.env, tenant));
            }
        }
        true
    }

    /// Gives up to `most` tasks from the front of a queue. False when the plan is full.
    fn give(&mut self, tenant: &mut Tenant, most: u64, plan: &mut Plan) -> bool {
        let mut most = most;
        let before = tenant.held;
        for left in &mut tenant.queue {
            while left.count > 0 && most > 0 {
                let Some(rank) = self.room_for(left.demand.spec) else {
                    break;
                };
                let Some(taken) = self.assign(left, rank, most, plan) else {
                    return false;
                };
                tenant.held += taken;
                most -= taken;
            }
            if most == 0 {
                break;
            }
        }
        if tenant.held > before {
            tenant.queue.retain(|left| left.count > 0);
        }
        true
    }

    /// The first room that takes a photo of a spec: where its photos are, if there is one.
    fn room_for(&mut self, spec: SpecId) -> Option<usize> {
        let each = self.seen.specs.get(&spec)?;
        let ahead = self.ahead;
        let first = |away: bool| {
            let from = self.full_to.entry((spec, away)).or_default();
            let takes =
                |room: &Room| room.view.away.contains(&spec) == away && room.takes(spec, each, ahead) > 0;
            *from += self.rooms[*from..]
                .iter()
                .position(takes)
                .unwrap_or(self.rooms.len() - *from);
            (*from < self.rooms.len()).then_some(*from)
        };
        [false, true].into_iter().find_map(first)
    }

    /// Puts up to `most` tasks into a room that takes some; says how many. None when the plan is full.
    fn assign(&mut self, left: &mut Left, rank: usize, most: u64, plan: &mut Plan) -> Option<u64> {
        let spec = left.demand.spec;
        let each = self.seen.specs.get(&spec).copied().unwrap_or_default();
        let candidates = self.rooms.len() as u32;
        let room = &mut self.rooms[rank];
        let take = u64::from(room.takes(spec, &each, self.ahead))
            .min(left.count)
            .min(most);
        let run_max = self.policy.run_tasks_max.max(1);
        let at = left.last.filter(|at| {
            let last = &plan.assign[*at];
            last.worker == room.view.id && last.count < run_max
        });
        let at = match at {
            Some(at) => at,
            None if plan.assign.len() >= self.policy.runs_max => return None,
            None => {
                let rank = rank as u32;
                plan.assign.push(Assign {
                    worker: room.view.id,
                    job: left.demand.job,
                    first: left.first,
                    count: 0,
                    because: match self.ahead {
                        true => Because::Ahead { rank, candidates },
                        false => Because::FreeSlot { rank, candidates },
                    },
                });
                plan.assign.len() - 1
            }
        };
        let take = take.min(run_max - plan.assign[at].count);
        plan.assign[at].count += take;
        left.last = Some(at);
        room.add(spec, &each, take as u32);
        left.first += take;
        left.count -= take;
        Some(take)
    }
}
