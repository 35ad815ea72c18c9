//! The state's own checks, by type of record: which one failed is known, so that each of them has been seen to fail.

use std::cell::Cell;

use rebound_core::state::State;

thread_local! {
    /// The type of record that this thread checks.
    static RECORD: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Asserts every cross-reference of a settled state, one type of record after another.
pub fn check(state: &State) {
    for (_, record, check) in State::CHECKS {
        RECORD.set(Some(record));
        check(state);
    }
    RECORD.set(None);
}

/// The type of record whose check has ended this thread's run, if one has. Asked once: it is forgotten then.
pub fn tripped() -> Option<&'static str> {
    RECORD.take()
}
