//! How many photos a machine does: measured by type and recogniser, else assumed and said to be.

use std::collections::BTreeMap;

use rebound_core::types::Resources;
use serde::Serialize;

use crate::catalogue::Facts;
use crate::error::FileError;
use crate::limits::{PRIOR_VCPU_US_PER_PHOTO, PROBE_MAX};
use crate::money::ratio;

const HOUR_US: u64 = 3_600_000_000;

/// What a recogniser needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its name, as measurements have it.
    pub recogniser: String,
    /// What one slot takes: at least a thousandth of a processor.
    pub slot: Resources,
    /// Processor time of a photo on one vCPU, in µs, assumed for types that were never measured.
    pub vcpu_us_per_photo: u64,
}

impl Need {
    /// One vCPU and `memory_mib` a slot, no GPU, and the stated prior of speed.
    pub fn new(recogniser: &str, memory_mib: u32) -> Self {
        Self {
            recogniser: recogniser.to_owned(),
            slot: Resources {
                milli_cpu: 1_000,
                memory_mib,
                gpus: 0,
            },
            vcpu_us_per_photo: PRIOR_VCPU_US_PER_PHOTO,
        }
    }

    /// Slots that a machine has room for.
    pub fn slots(&self, facts: &Facts) -> u32 {
        let machine = Resources {
            milli_cpu: facts.vcpu.saturating_mul(1_000),
            memory_mib: facts.memory_mib,
            gpus: facts.gpus,
        };
        machine.holds(&self.slot)
    }
}

/// How fast a machine is, all slots together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Speed {
    /// Machine time of a photo, in µs.
    pub us_per_photo: u64,
    /// Slots it has.
    pub slots: u32,
    /// Whether this was measured. If not, at most [`Speed::cap`] such machines may run.
    pub measured: bool,
}

impl Speed {
    /// Most machines of the type that may run; nothing where there is no such limit.
    pub fn cap(&self) -> Option<u32> {
        (!self.measured).then_some(PROBE_MAX)
    }
}

/// What was measured, by recogniser and type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throughputs {
    measured: BTreeMap<(String, String), u64>,
}

impl Throughputs {
    /// Reads lines of `instance_type,recogniser,photos_per_hour`, perhaps with that as its head.
    ///
    /// # Errors
    ///
    /// The first fault, with its line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let fix = "write instance_type,recogniser,photos_per_hour, as c5.large,shelf-text,3600";
        let mut all = Self::default();
        let lines = text.lines().enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let bad = |field: &str, problem: &str| FileError::at(file, index as u64 + 1, field, problem, fix);
            let parts: Vec<&str> = line.split(',').map(str::trim).collect();
            let [kind, recogniser, photos] = parts.as_slice() else {
                return Err(bad("", "does not have three columns"));
            };
            if index == 0 && *kind == "instance_type" {
                continue;
            }
            let photos: u64 = photos
                .parse()
                .map_err(|_| bad("photos_per_hour", "is no whole number"))?;
            all.note(recogniser, kind, photos, HOUR_US)
                .map_err(|problem| bad("photos_per_hour", &problem))?;
        }
        Ok(all)
    }

    /// A machine of the type did `photos` photos of the recogniser in `machine_us` µs, with all its slots busy and its
    /// processors at full speed. The newest word counts.
    ///
    /// # Errors
    ///
    /// Where no speed follows from that.
    pub fn note(
        &mut self,
        recogniser: &str,
        instance_type: &str,
        photos: u64,
        machine_us: u64,
    ) -> Result<(), String> {
        if photos == 0 || machine_us < photos {
            return Err(format!("{photos} photos in {machine_us} µs is no speed"));
        }
        let key = (recogniser.to_owned(), instance_type.to_owned());
        self.measured.insert(key, ratio(machine_us, 1, photos));
        Ok(())
    }

    /// How fast a machine is for ever: a burstable one at its baseline. Nothing where no slot fits.
    pub fn speed(&self, need: &Need, instance_type: &str, facts: &Facts) -> Option<Speed> {
        let slots = need.slots(facts);
        if slots == 0 || slots == u32::MAX {
            return None;
        }
        let key = (need.recogniser.clone(), instance_type.to_owned());
        let measured = self.measured.get(&key).copied();
        let full = measured.unwrap_or_else(|| {
            // Slots beyond the vCPUs add nothing.
            let parallel = u64::from(slots.min(facts.vcpu)).max(1);
            need.vcpu_us_per_photo.div_ceil(parallel)
        });
        let us_per_photo = ratio(full.max(1), 1_000, u64::from(facts.baseline_permille.max(1)));
        Some(Speed {
            us_per_photo: us_per_photo.max(1),
            slots,
            measured: measured.is_some(),
        })
    }

    /// Types measured, over all recognisers.
    pub fn len(&self) -> usize {
        self.measured.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.measured.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn speed(all: &Throughputs, need: &Need, name: &str) -> Option<Speed> {
        let facts = Catalogue::built_in().unwrap().facts(name).unwrap();
        all.speed(need, name, &facts)
    }

    #[test]
    fn what_was_never_measured_is_assumed_and_capped() {
        let mut all = Throughputs::default();
        let need = Need::new("shelf-text", 1_024);
        let assumed = speed(&all, &need, "c5.xlarge").unwrap();
        assert_eq!(
            (assumed.us_per_photo, assumed.slots, assumed.cap()),
            (500_000, 4, Some(1))
        );
        all.note("shelf-text", "c5.xlarge", 10, 4_000_000).unwrap();
        let measured = speed(&all, &need, "c5.xlarge").unwrap();
        assert_eq!((measured.us_per_photo, measured.cap()), (400_000, None));
        let other = speed(&all, &Need::new("grocery81", 1_024), "c5.xlarge").unwrap();
        assert!(!other.measured, "measured with another recogniser");
        for (photos, machine_us) in [(0, 5), (5, 0), (7, 6)] {
            assert!(all.note("shelf-text", "c5.xlarge", photos, machine_us).is_err());
        }
    }

    #[test]
    fn memory_and_gpus_bound_the_slots() {
        let all = Throughputs::default();
        let mut need = Need::new("r", 3_000);
        assert_eq!(speed(&all, &need, "c5.xlarge").unwrap().slots, 2);
        assert_eq!(speed(&all, &Need::new("r", 9_000), "c5.xlarge"), None);
        need.slot.gpus = 1;
        assert_eq!(speed(&all, &need, "c5.xlarge"), None);
        assert_eq!(speed(&all, &need, "g4dn.12xlarge").unwrap().slots, 4);
    }

    #[test]
    fn burstable_types_are_as_fast_as_their_baseline() {
        let mut all = Throughputs::default();
        let need = Need::new("r", 1_024);
        assert_eq!(speed(&all, &need, "t3.medium").unwrap().us_per_photo, 5_000_000);
        all.note("r", "t3.medium", 1, 600_000).unwrap();
        assert_eq!(speed(&all, &need, "t3.medium").unwrap().us_per_photo, 3_000_000);
    }
}
