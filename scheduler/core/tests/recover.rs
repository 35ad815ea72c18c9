//! Disks from which a replica does not start.

use rebound_core::replica::{Config, RecoverError, Recovered, Replica};
use rebound_core::state::members::Founder;
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

#[test]
fn a_log_that_does_not_reach_the_state_is_refused_with_where_it_is() {
    let recover = |cut: Index, applied: Index| {
        let mut state = State::new(Plant::None);
        (1..=applied).for_each(|index| drop(state.apply(index, 1, None)));
        let disk = Recovered {
            hard_state: None,
            compacted: (cut, u64::from(cut > 0)),
            entries: Vec::new(),
            state,
        };
        let id = ReplicaId(1);
        let config = Config::new(id, vec![Founder::named(id)], ClusterId("c".into()));
        let found = Replica::recover(config, disk, Now::default()).map(drop);
        found.map_err(|error| match error {
            RecoverError::LogBehindState { applied, first, last } => (applied, first, last),
            other => panic!("{other}"),
        })
    };
    assert_eq!(recover(0, 0), Ok(()));
    assert_eq!(recover(7, 7), Ok(()));
    assert_eq!(recover(7, 5), Err((5, 8, 7)), "entries 6 and 7 are gone");
    assert_eq!(recover(7, 9), Err((9, 8, 7)), "the log ends before the state");
}
