//! The end: hand back what is not started, finish what runs, wait for the answers, go.

use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Say;

use super::limits::{LEAVE_ANSWERS_US, LEAVE_WORK_US};
use super::session::{Link, say};
use super::settle::cut;
use super::work::State;
use super::{Action, Failure, Machine, Now, TaskKey};

pub(super) struct Leave {
    why: String,
    /// What runs has so long: whoever ends the process soon kills it. One that was drained may finish.
    work_until_us: u64,
    /// When the last recogniser was done.
    idle_us: Option<u64>,
    /// When the machine will be taken back, if so.
    taken_us: Option<u64>,
}

impl Machine {
    /// Begins to leave; a second word of a `hurried` kind ends it at once.
    pub(super) fn leave(&mut self, now: Now, why: String, hurried: bool, out: &mut Vec<Action>) {
        let work_until_us = match hurried {
            true => now.mono_us.saturating_add(LEAVE_WORK_US),
            false => u64::MAX,
        };
        if let Some(leave) = &mut self.leave {
            if leave.work_until_us != u64::MAX {
                return self.exit(out);
            }
            // It was only drained before.
            leave.work_until_us = work_until_us;
            return;
        }
        self.leave = Some(Leave {
            why: cut(why),
            work_until_us,
            idle_us: None,
            taken_us: None,
        });
        self.say_leaving(now, out);
    }

    /// The machine will be taken back: it takes nothing new, ends what fits, and leaves.
    pub(super) fn noticed(&mut self, now: Now, within_us: u64, out: &mut Vec<Action>) {
        let taken_us = now.mono_us.saturating_add(within_us);
        let work_until_us = taken_us
            .saturating_sub(self.config.notice_margin_us)
            .max(now.mono_us);
        let leave = self.leave.get_or_insert_with(|| Leave {
            why: "its machine will be taken back".to_owned(),
            work_until_us,
            idle_us: None,
            taken_us: None,
        });
        leave.work_until_us = leave.work_until_us.min(work_until_us);
        if leave.taken_us.is_none_or(|before| taken_us < before) {
            leave.taken_us = Some(taken_us);
            self.say_leaving(now, out);
        }
    }

    /// Said on each stream while it leaves.
    pub(super) fn say_leaving(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.link == Link::Up
            && let Some(leave) = &self.leave
        {
            if let Some(taken_us) = leave.taken_us {
                let within_us = taken_us.saturating_sub(now.mono_us);
                out.push(say(Say::Noticed(v1::Noticed { within_us })));
            }
            out.push(say(Say::Leaving(v1::Leaving {
                why: leave.why.clone(),
                empty: false,
            })));
        }
    }

    /// What the machine's end leaves no time for is stopped, and handed back like what was never started.
    pub(super) fn stop_late(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(leave) = &mut self.leave else { return };
        let Some(taken_us) = leave.taken_us else { return };
        if now.mono_us >= leave.work_until_us && leave.work_until_us < taken_us {
            // From here on the time left is for the answers.
            leave.work_until_us = taken_us;
            self.work.stop_all(out);
        }
    }

    /// Hands unstarted tasks back, as far as the spool has room.
    pub(super) fn release_waiting(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(leave) = &self.leave else { return };
        let message = format!("the worker leaves: {}", leave.why);
        let mut unstarted: Vec<(TaskKey, State)> = Vec::new();
        if self.work.has_waiting() {
            for run in &self.work.runs {
                let tasks = run.states.iter().enumerate();
                unstarted.extend(tasks.map(|(at, state)| (run.key(at), *state)));
            }
        }
        unstarted.retain(|(_, state)| matches!(state, State::Waiting | State::Fetching | State::Ready));
        // Those with a photo have their room already.
        unstarted.sort_by_key(|(_, state)| *state == State::Waiting);
        for (key, state) in unstarted {
            if state == State::Waiting && !self.outbox.has_room_for(self.work.claims() + 1) {
                break;
            }
            if state != State::Waiting {
                self.paces.forget(key);
                out.push(Action::Forget { task: key });
            }
            let failure = Failure::new(v1::Cause::Released, message.clone());
            self.settle(now, key, now.wall_us, Err(failure), out);
        }
    }

    /// The latest time the process may live, once it leaves.
    pub(super) fn leave_until(&self) -> Option<u64> {
        let leave = self.leave.as_ref()?;
        let answers = leave
            .idle_us
            .map_or(u64::MAX, |idle| idle.saturating_add(LEAVE_ANSWERS_US));
        Some(leave.work_until_us.min(answers))
    }

    /// Goes when nothing is left to do, or the time is up.
    pub(super) fn end_leaving(&mut self, now: Now, out: &mut Vec<Action>) {
        let idle = self.running() == 0;
        let is_up = self.link == Link::Up;
        let empty = idle && self.outbox.len() == 0 && !self.work.has_waiting();
        let Some(leave) = self.leave.as_mut() else { return };
        if idle {
            leave.idle_us.get_or_insert(now.mono_us);
        }
        if empty && is_up {
            let why = leave.why.clone();
            out.push(say(Say::Leaving(v1::Leaving { why, empty: true })));
        }
        let nobody_to_tell = self.session.is_none() && self.outbox.len() == 0;
        let late = self.leave_until().is_some_and(|until| now.mono_us >= until);
        if (empty && (is_up || nobody_to_tell)) || late {
            self.exit(out);
        }
    }

    fn exit(&mut self, out: &mut Vec<Action>) {
        self.exited = true;
        out.push(Action::Exit);
    }
}
