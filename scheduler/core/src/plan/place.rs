//! Placement: which worker gets which tasks.
//!
//! First every free slot is filled, the most recently busy worker first, so that others fall idle and can be let
//! go; then, with what is left, each worker gets photos to fetch ahead, up to its credit.

use std::cmp::Reverse;

use super::{Assign, Because, Plan, Policy};
use crate::observe::{Observation, WorkerView};
use crate::types::{Resources, SpecId};

/// A worker while the plan is made.
struct Room<'a> {
    view: &'a WorkerView,
    held: u32,
    /// What the photos it holds need together.
    in_use: Resources,
}

impl Room<'_> {
    /// How many photos of `spec` it can take when it may hold `credit` for each slot: that many times its machine.
    fn takes(&self, spec: SpecId, each: &Resources, credit: u32) -> u32 {
        let free = self.view.slots.saturating_mul(credit).saturating_sub(self.held);
        let resources = self.view.resources.times(credit).less(&self.in_use, 1);
        match self.view.can.contains(&spec) {
            true => free.min(resources.holds(each)),
            false => 0,
        }
    }
}

/// Adds assignments to the plan, at most the policy's number of runs.
pub fn place(policy: &Policy, seen: &Observation, plan: &mut Plan) {
    let mut rooms: Vec<Room> = seen
        .workers
        .iter()
        .map(|view| Room {
            view,
            held: view.held,
            in_use: view.in_use,
        })
        .collect();
    rooms.sort_by_key(|room| (Reverse(room.view.last_given), room.view.id));
    plan.more |= seen.more;
    let mut left: Vec<(usize, u64, u64)> = seen
        .demand
        .iter()
        .enumerate()
        .map(|(at, demand)| (at, demand.first, demand.count))
        .collect();
    for ahead in [false, true] {
        fill(policy, seen, plan, &mut rooms, &mut left, ahead);
    }
}

/// One pass over the demand that is left, in order.
fn fill(
    policy: &Policy,
    seen: &Observation,
    plan: &mut Plan,
    rooms: &mut [Room],
    left: &mut Vec<(usize, u64, u64)>,
    ahead: bool,
) {
    let candidates = rooms.len() as u32;
    for (at, first, count) in left.iter_mut() {
        let demand = &seen.demand[*at];
        let Some(each) = seen.specs.get(&demand.spec) else {
            continue;
        };
        for (rank, room) in rooms.iter_mut().enumerate() {
            if *count == 0 {
                break;
            }
            // A slot is free only if what is to run in it fits on the machine beside the rest.
            let credit = if ahead { policy.credit_per_slot } else { 1 };
            let take = u64::from(room.takes(demand.spec, each, credit)).min(*count);
            if take == 0 {
                continue;
            }
            let rank = rank as u32;
            let because = if ahead {
                Because::Ahead { rank, candidates }
            } else {
                Because::FreeSlot { rank, candidates }
            };
            let mut taken = 0;
            while taken < take {
                if plan.assign.len() == policy.runs_max {
                    plan.more = true;
                    return;
                }
                let piece = (take - taken).min(policy.run_tasks_max.max(1));
                plan.assign.push(Assign {
                    worker: room.view.id,
                    job: demand.job,
                    first: *first,
                    count: piece,
                    because,
                });
                room.held += piece as u32;
                room.in_use = room.in_use.plus(&each.times(piece as u32));
                *first += piece;
                *count -= piece;
                taken += piece;
            }
        }
    }
    left.retain(|(_, _, count)| *count > 0);
}
