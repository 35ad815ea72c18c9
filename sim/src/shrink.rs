//! Turns the kinds of a failing seed off one by one, as long as the same invariant breaks: what is left is needed.

use std::collections::BTreeSet;

use crate::faults::{Choice, Kind};
use crate::fuzz::run_seed;
use crate::plant::Plant;
use crate::world::Outcome;

/// The smallest failure found.
pub struct Shrunk {
    /// Kinds that are needed.
    pub kinds: BTreeSet<Kind>,
    /// The run with those alone.
    pub outcome: Outcome,
    /// Runs that were tried.
    pub tried: u64,
}

/// The invariant a violation names: what stands before its first colon.
pub fn id(violation: &str) -> &str {
    violation.split(':').next().unwrap_or(violation)
}

/// Shrinks a seed; none when it does not fail. `tell` hears of each try: the kind that was turned off, and whether
/// the failure stayed.
pub fn shrink(seed: u64, plant: Plant, choice: &Choice, mut tell: impl FnMut(Kind, bool)) -> Option<Shrunk> {
    let first = run_seed(seed, plant, choice);
    let broken = id(first.violations.first()?).to_owned();
    let mut shrunk = Shrunk {
        kinds: first.kinds.clone(),
        outcome: first,
        tried: 1,
    };
    loop {
        let before = shrunk.kinds.len();
        for kind in shrunk.kinds.clone() {
            let mut kinds = shrunk.kinds.clone();
            kinds.remove(&kind);
            let choice = Choice {
                only: Some(kinds.clone()),
                ..Choice::default()
            };
            let outcome = run_seed(seed, plant, &choice);
            shrunk.tried += 1;
            let stays = outcome
                .violations
                .first()
                .is_some_and(|violation| id(violation) == broken);
            tell(kind, stays);
            if stays {
                (shrunk.kinds, shrunk.outcome) = (kinds, outcome);
            }
        }
        if shrunk.kinds.len() == before {
            return Some(shrunk);
        }
    }
}
