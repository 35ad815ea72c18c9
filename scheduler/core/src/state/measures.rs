//! How fast machines of each type turned out to be with each recogniser, as their agents measured it. In the log, so that
//! a new leader, or a fleet that is empty, knows what was learnt.

use serde::{Deserialize, Serialize};

use super::{Context, State};
use crate::limits::{MEASURED_PER_ENTRY_MAX, MEASURES_KEPT, NAME_BYTES_MAX, PACE_US_MAX};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::table::Table;
use crate::types::Time;

/// What was measured of a type with a recogniser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredSpeed {
    /// µs of the machine for one photo, all slots at work.
    pub us_per_photo: u64,
    /// When that was said.
    pub at: Time,
}

/// By recogniser (without digest) and instance type.
pub struct Measures {
    pub(crate) table: Table<(String, String), MeasuredSpeed>,
}

impl Measures {
    pub(crate) fn new(number: u8) -> Self {
        Measures {
            table: Table::new(number),
        }
    }

    /// One of them.
    pub fn get(&self, recogniser: &str, instance_type: &str) -> Option<MeasuredSpeed> {
        self.table
            .get(&(recogniser.to_owned(), instance_type.to_owned()))
            .copied()
    }

    /// All of them: recogniser and type, and what was measured.
    pub fn iter(&self) -> impl Iterator<Item = (&(String, String), &MeasuredSpeed)> {
        self.table.iter()
    }

    pub(crate) fn check(&self) {
        self.table.check();
        assert!(self.table.len() <= MEASURES_KEPT);
        for ((recogniser, kind), one) in self.table.iter() {
            assert!(
                (1..=PACE_US_MAX).contains(&one.us_per_photo),
                "speed of {kind} with {recogniser}"
            );
        }
    }
}

impl State {
    /// Machines turned out to be so fast. When too many are remembered the oldest goes.
    pub(super) fn measured(
        &mut self,
        context: &mut Context,
        speeds: &[(String, String, u64)],
    ) -> Result<Reply, Rejected> {
        let is_sound = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        for (recogniser, kind, us_per_photo) in speeds.iter().take(MEASURED_PER_ENTRY_MAX) {
            if !is_sound(recogniser) || !is_sound(kind) || !(1..=PACE_US_MAX).contains(us_per_photo) {
                continue;
            }
            let key = (recogniser.clone(), kind.clone());
            let table = &mut self.measures.table;
            if table.get(&key).is_none() && table.len() >= MEASURES_KEPT {
                let oldest = table.iter().min_by_key(|(_, one)| one.at);
                let oldest = oldest.map(|(key, _)| key.clone()).expect("there are some");
                table.remove(&oldest);
            }
            let one = MeasuredSpeed {
                us_per_photo: *us_per_photo,
                at: context.at,
            };
            table.insert(key.clone(), one);
            if self.plant.is(Plant::MeasureUnnoted) {
                table.forget_change(&key);
            }
        }
        Ok(Reply::Done)
    }
}
