//! What must always hold. Called by tests and the simulator; an agent may call it too.

use super::limits::{MAX_DESIRED_TASKS, MAX_SPECS, PREFETCH_PER_SLOT};
use super::work::State;
use super::{Machine, TaskKey};

impl Machine {
    /// Asserts the machine's own invariants.
    pub fn check(&self) {
        self.outbox.check();
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
        assert!(self.work.tasks.len() <= MAX_DESIRED_TASKS);
        assert!(self.work.specs.len() <= MAX_SPECS);
        let ahead = self.work.count(&[State::Fetching, State::Ready]);
        assert!(
            ahead <= self.work.slots.len() * PREFETCH_PER_SLOT,
            "more photos ahead than slots"
        );
        assert!(
            self.session.is_some() || self.work.tasks.is_empty(),
            "work without a session"
        );
    }

    fn check_slots(&self) {
        let mut held: Vec<TaskKey> = self.work.held().map(|held| held.task).collect();
        held.sort_unstable();
        assert!(
            held.windows(2).all(|pair| pair[0] != pair[1]),
            "one task in two slots"
        );
        for held in self.work.held().filter(|held| !held.stopping) {
            let task = self
                .work
                .tasks
                .get(&held.task)
                .expect("a slot runs what nobody wants");
            assert_eq!(task.state, State::Running);
        }
    }

    fn check_tasks(&self) {
        let mut order = self.work.order.clone();
        order.sort_unstable();
        assert!(
            order.iter().eq(self.work.tasks.keys()),
            "the order is not that of the tasks"
        );
        for (key, task) in &self.work.tasks {
            assert!(
                self.work.specs.contains_key(&task.spec),
                "a task without its spec"
            );
            if task.state == State::Running {
                assert!(
                    self.work.held().any(|held| held.task == *key && !held.stopping),
                    "it runs in no slot"
                );
            }
            assert!(
                task.state == State::Over || !self.outbox.contains(*key),
                "a result, and not over"
            );
        }
    }
}
