//! Taking back: the tail of a run that a slow worker has not started goes to one that would end it sooner.
//!
//! Only when nothing is left to give: what waits in the queue fits none of the free slots. So a plan either gives or
//! takes back, and says `more` when the other may follow.

use std::cmp::Reverse;

use super::place::Room;
use super::{Because, Plan, Policy, Regive};
use crate::limits::{REGIVE_MARGIN, REGIVE_TURN};
use crate::observe::Observation;
use crate::observe::tails::Tail;

/// What is left of a tail while the plan is made.
struct Left<'a> {
    tail: &'a Tail,
    /// How many of its tasks are still there, from the front.
    count: u64,
}

impl Left<'_> {
    /// µs until the task at this place of the tail has ended where it is.
    fn ends_in(&self, at: u64) -> u64 {
        let tail = self.tail;
        tail.wait
            .saturating_add(tail.step.saturating_mul(at))
            .saturating_add(tail.service)
    }

    /// The first place from which on a task would end sooner, by the margin, on a worker where it ends in so long.
    fn worth_from(&self, there: u64) -> u64 {
        let tail = self.tail;
        // What its slots take next is about to start.
        let next = u64::from(tail.slots).saturating_sub(tail.before);
        let target = there.saturating_add(REGIVE_MARGIN);
        let missing = target.saturating_sub(self.ends_in(0).saturating_sub(1));
        let by_time = match (missing, tail.step) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (missing, step) => missing.div_ceil(step),
        };
        next.max(by_time)
    }
}

/// Adds what is to be taken back, if the plan gives nothing.
pub fn regive(policy: &Policy, seen: &Observation, plan: &mut Plan) {
    if seen.tails.is_empty() {
        return;
    }
    if !plan.assign.is_empty() || seen.hides_some {
        plan.more = true;
        return;
    }
    let mut rooms: Vec<Room> = seen.workers.iter().map(Room::of).collect();
    rooms.retain(|room| room.has_free_slot());
    rooms.sort_by_key(Room::order);
    let left = |tail| Left {
        tail,
        count: tail.last - tail.first + 1,
    };
    let mut tails: Vec<Left> = seen.tails.iter().map(left).collect();
    // Whoever waits longest goes first.
    tails.sort_by_key(|left| {
        (
            Reverse(left.ends_in(left.count - 1)),
            left.tail.job,
            left.tail.first,
        )
    });
    for left in &mut tails {
        while let Some((to, there)) = best_room(seen, &rooms, left) {
            if plan.regive.len() >= policy.regives_max {
                plan.more = true;
                return;
            }
            take(seen, left, &mut rooms[to], there, plan);
        }
    }
    // What slow workers have room for now, and tails that were not shown.
    plan.more |= !plan.regive.is_empty() && (!seen.demand.is_empty() || seen.more_tails);
}

/// The first room where the tail's last task would end sooner, and in how long.
fn best_room(seen: &Observation, rooms: &[Room], left: &Left) -> Option<(usize, u64)> {
    let tail = left.tail;
    let each = seen.specs.get(&tail.spec)?;
    rooms.iter().enumerate().find_map(|(at, room)| {
        let view = room.view;
        let turn = if view.turn == 0 { REGIVE_TURN } else { view.turn };
        // One that has not done such a photo yet is taken to be as fast.
        let service = view.service.get(&tail.spec).copied().unwrap_or(tail.service);
        let there = turn.saturating_add(service);
        let worth = left.count > 0 && left.worth_from(there) < left.count;
        (worth && room.takes(tail.spec, each, false) > 0).then_some((at, there))
    })
}

/// Moves as many of a tail's last tasks as are worth it and fit.
fn take(seen: &Observation, left: &mut Left, room: &mut Room, there: u64, plan: &mut Plan) {
    let tail = left.tail;
    let each = seen.specs.get(&tail.spec).copied().unwrap_or_default();
    let fit = u64::from(room.takes(tail.spec, &each, false));
    let count = fit.min(left.count - left.worth_from(there));
    let here = left.ends_in(left.count - 1);
    left.count -= count;
    plan.regive.push(Regive {
        from: tail.worker,
        to: room.view.id,
        job: tail.job,
        first: tail.first + left.count,
        count,
        given: tail.given,
        because: Because::Slow { here, there },
    });
    room.add(tail.spec, &each, count as u32);
}
