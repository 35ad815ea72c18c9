//! What a cluster learnt of machines by running them, out of its state: the pricer's own evidence beside what files say.

use std::collections::BTreeMap;

use rebound_core::state::State;
use rebound_core::types::{Pool, Resources};

/// What happened in a pool so far, all told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Machines that it gave.
    pub started: u64,
    /// Launches that it had no machine for, or too few.
    pub lacked: u64,
    /// Machines that EC2 took back.
    pub taken: u64,
    /// µs that its machines ran.
    pub ran: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Experience {
    /// Recognisers that have work, and what one slot of each takes.
    pub wants: Vec<(String, Resources)>,
    /// What was measured: recogniser, instance type, µs of the machine for a photo.
    pub speeds: Vec<(String, String, u64)>,
    /// Pools that were used.
    pub pools: BTreeMap<Pool, Totals>,
}

impl Experience {
    /// What a state knows of machines; `wants` is the caller's.
    pub fn of(state: &State, wants: Vec<(String, Resources)>) -> Experience {
        let speeds = state.measures.iter();
        let speeds = speeds.map(|((name, kind), one)| (name.clone(), kind.clone(), one.us_per_photo));
        let mut pools: BTreeMap<Pool, Totals> = BTreeMap::new();
        for (pool, record) in state.pools.iter() {
            let totals = Totals {
                started: record.started,
                lacked: record.lacked,
                taken: record.reclaimed,
                ran: record.ran,
            };
            pools.insert(pool.clone(), totals);
        }
        // What runs now is in the books only up to its last price.
        for (_, machine) in state.machines.live().filter(|(_, one)| one.running.is_some()) {
            let totals = pools.entry(machine.pool.clone()).or_default();
            totals.ran += state.now().0.saturating_sub(machine.paid_to.0);
        }
        Experience {
            wants,
            speeds: speeds.collect(),
            pools,
        }
    }
}
