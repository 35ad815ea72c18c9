//! Waiting for something outside this process, always with a deadline.
//!
//! Within a process a test waits on a channel or a condition variable. A child process offers neither: that a port
//! answers, a file is there or a process has ended can only be asked again and again. So these look, park for
//! [`POLL`] and look again; how long a test takes follows the condition, and the deadline only bounds a failure.

use std::thread;
use std::time::{Duration, Instant};

/// The longest time between two looks.
pub const POLL: Duration = Duration::from_millis(5);

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    given: Duration,
}

impl Deadline {
    /// The moment `given` from now.
    pub fn within(given: Duration) -> Deadline {
        Deadline {
            end: Instant::now() + given,
            given,
        }
    }

    /// The moment `seconds` seconds from now.
    pub fn seconds(seconds: u64) -> Deadline {
        Deadline::within(Duration::from_secs(seconds))
    }

    /// What is left of it; zero once it has passed.
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// When `deadline` passes first; `what` completes "waited 10 s for …".
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool, deadline: Deadline, what: &str) {
    wait_for(|| condition().then_some(()), deadline, what);
}

/// Waits until `look` finds something, and gives it.
///
/// # Panics
///
/// When `deadline` passes first; `what` completes "waited 10 s for …".
#[track_caller]
pub fn wait_for<T>(look: impl FnMut() -> Option<T>, deadline: Deadline, what: &str) -> T {
    match look_until(look, deadline) {
        Some(found) => found,
        None => panic!("waited {:?} for {what}", deadline.given),
    }
}

/// As [`wait_for`], with nothing for a passed deadline. Looks once more after it has passed, so that a machine that
/// stood still between two looks is not taken for a failure.
pub fn look_until<T>(mut look: impl FnMut() -> Option<T>, deadline: Deadline) -> Option<T> {
    loop {
        let last = deadline.passed();
        let found = look();
        if found.is_some() || last {
            return found;
        }
        thread::park_timeout(POLL.min(deadline.left()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_is_found_as_soon_as_it_is() {
        let mut looks = 0;
        let found = wait_for(
            || {
                looks += 1;
                (looks == 3).then_some("there")
            },
            Deadline::seconds(60),
            "the third look",
        );
        assert_eq!((found, looks), ("there", 3));
    }

    #[test]
    fn a_passed_deadline_still_gets_one_look() {
        let deadline = Deadline::within(Duration::ZERO);
        assert!(deadline.passed());
        assert_eq!(look_until(|| Some(1), deadline), Some(1));
    }

    #[test]
    #[should_panic(expected = "for a moon of cheese")]
    fn says_what_it_waited_for() {
        wait_until(
            || false,
            Deadline::within(Duration::from_millis(20)),
            "a moon of cheese",
        );
    }
}
