//! What must always hold. Called by tests and the simulator; an agent may call it too.

use std::collections::BTreeSet;

use super::limits::{MAX_DESIRED_TASKS, MAX_PREFETCH_PER_SLOT, MAX_SPECS};
use super::work::State;
use super::{Machine, TaskKey};

impl Machine {
    /// Asserts the machine's own invariants.
    pub fn check(&self) {
        self.outbox.check();
        self.work.check();
        self.check_bounds();
        self.check_slots();
        self.check_tasks();
        assert!(
            self.exited || self.wake_at() > self.now_us,
            "a timer that has passed was not handled"
        );
    }

    fn check_bounds(&self) {
        assert_eq!(self.work.slots.len(), self.config.slots as usize);
        assert!(self.work.tasks() <= MAX_DESIRED_TASKS);
        assert!(self.work.specs.len() <= MAX_SPECS);
        let ahead = self.work.count(&[State::Fetching, State::Ready]);
        assert!(
            ahead <= self.work.slots.len() * MAX_PREFETCH_PER_SLOT,
            "more photos ahead than slots"
        );
        self.paces.check(self.work.count(&[State::Fetching]));
        assert!(
            self.session.is_some() || self.work.runs.is_empty(),
            "work without a session"
        );
    }

    fn check_slots(&self) {
        for held in self.work.slots.held().filter(|held| !held.stopping) {
            let state = self.work.state(held.task);
            assert_eq!(state, Some(State::Running), "a slot runs what nobody wants");
        }
    }

    fn check_tasks(&self) {
        let held: BTreeSet<TaskKey> = self
            .work
            .slots
            .held()
            .filter(|held| !held.stopping)
            .map(|held| held.task)
            .collect();
        for run in &self.work.runs {
            assert!(self.work.specs.contains_key(&run.spec), "a task without its spec");
            for (at, state) in run.states.iter().enumerate() {
                let key = run.key(at);
                assert_eq!(
                    *state == State::Running,
                    held.contains(&key),
                    "{key} and its slot"
                );
                assert!(
                    *state == State::Over || !self.outbox.contains(key),
                    "a result, and not over"
                );
            }
        }
    }
}
