//! Which machines may be used at all, by declared limits and not by price.

use std::fmt;

use rebound_core::types::Pool;
use serde::{Deserialize, Serialize};

use crate::book::NotBuyable;
use crate::catalogue::{Arch, Catalogue, Facts, Kind};
use crate::error::FileError;
use crate::pool::{fits, is_zone_id};
use crate::throughput::Need;
use crate::transfer::Unpriced;

/// What an environment, its images and its recogniser allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Architectures that there is a machine image for.
    pub archs: Vec<Arch>,
    /// Regions that photos may be worked on in; all if empty. A hard limit: no price moves work across it.
    pub regions: Vec<String>,
    /// Types, as `c5.*`; all if empty.
    pub types: Vec<String>,
    /// Types that are not wanted, as `*.large`; they win.
    pub not_types: Vec<String>,
    /// Whether burstable types may be used: in credit mode `standard` and at baseline speed.
    pub burstable: bool,
    /// Fewest vCPUs.
    pub vcpu_min: u32,
    /// Most vCPUs: the size of what is lost at once.
    pub vcpu_max: u32,
    /// Whether zones must be named by ids: zone names differ between accounts.
    pub zone_ids_only: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archs: vec![Arch::X86],
            regions: Vec::new(),
            types: Vec::new(),
            not_types: Vec::new(),
            burstable: true,
            vcpu_min: 1,
            vcpu_max: 96,
            zone_ids_only: false,
        }
    }
}

/// Why a pool is out of the question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "what")]
pub enum Barred {
    /// It has no usable price.
    Price(NotBuyable),
    /// The environment may not use this region.
    Region(String),
    /// The type is not among those wanted.
    TypeNotWanted,
    /// Nothing is known of the type.
    TypeUnknown,
    /// There is no machine image for its architecture.
    Arch(String),
    /// Machines without a hypervisor boot too slowly and are too large.
    Metal,
    /// Burstable types are not wanted.
    Burstable,
    /// It has GPUs that the recogniser does not use.
    GpuUnused,
    /// The recogniser needs more GPUs than it has.
    GpuMissing,
    /// It has hardware that no recogniser uses.
    Special,
    /// Too few or too many vCPUs.
    Vcpus(u32),
    /// No slot fits into its memory.
    Memory(u32),
    /// Its zone is a name, which means something else in another account.
    ZoneName,
    /// What the photos' way costs is not known.
    Transfer(Unpriced),
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Price(why) => why.fmt(f),
            Self::Region(region) => write!(f, "region {region} not allowed"),
            Self::TypeNotWanted => f.write_str("type not wanted"),
            Self::TypeUnknown => f.write_str("type unknown"),
            Self::Arch(arch) => write!(f, "no image for {arch}"),
            Self::Metal => f.write_str("metal"),
            Self::Burstable => f.write_str("burstable"),
            Self::GpuUnused => f.write_str("GPU not used"),
            Self::GpuMissing => f.write_str("GPU missing"),
            Self::Special => f.write_str("special hardware"),
            Self::Vcpus(vcpus) => write!(f, "{vcpus} vCPUs"),
            Self::Memory(mib) => write!(f, "{mib} MiB is too small for a slot"),
            Self::ZoneName => f.write_str("zone has a name only"),
            Self::Transfer(Unpriced::Out(region)) => write!(f, "no transfer price out of {region}"),
            Self::Transfer(Unpriced::Nat(region)) => write!(f, "no NAT price in {region}"),
        }
    }
}

impl Limits {
    /// Reads a TOML file of limits.
    ///
    /// # Errors
    ///
    /// The first fault, with its line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let fix =
            "known fields: archs, regions, types, not_types, burstable, vcpu_min, vcpu_max, zone_ids_only";
        let limits: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count() as u64
            });
            FileError::at(file, line, "", error.message(), fix)
        })?;
        if limits.vcpu_min > limits.vcpu_max {
            let problem = format!("{} is more than vcpu_max, {}", limits.vcpu_min, limits.vcpu_max);
            return Err(FileError::at(
                file,
                0,
                "vcpu_min",
                problem,
                "no machine has so many and so few",
            ));
        }
        if limits.archs.is_empty() {
            return Err(FileError::at(
                file,
                0,
                "archs",
                "is empty",
                "name x86_64, arm64 or both",
            ));
        }
        Ok(limits)
    }

    /// What the type of `pool` is, where the pool may be used for `need`.
    ///
    /// # Errors
    ///
    /// The first reason against it.
    pub fn allow(&self, pool: &Pool, need: &Need, catalogue: &Catalogue) -> Result<Facts, Barred> {
        if !self.regions.is_empty() && !self.regions.contains(&pool.region) {
            return Err(Barred::Region(pool.region.clone()));
        }
        if self.zone_ids_only && !is_zone_id(&pool.zone_id) {
            return Err(Barred::ZoneName);
        }
        let among = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, &pool.instance_type));
        if (!self.types.is_empty() && !among(&self.types)) || among(&self.not_types) {
            return Err(Barred::TypeNotWanted);
        }
        let facts = catalogue.facts(&pool.instance_type).ok_or(Barred::TypeUnknown)?;
        self.allow_facts(&facts, need)?;
        Ok(facts)
    }

    fn allow_facts(&self, facts: &Facts, need: &Need) -> Result<(), Barred> {
        if !self.archs.contains(&facts.arch) {
            return Err(Barred::Arch(facts.arch.name().into()));
        }
        if facts.metal {
            return Err(Barred::Metal);
        }
        match facts.kind {
            Kind::Other => return Err(Barred::Special),
            Kind::Burstable if !self.burstable => return Err(Barred::Burstable),
            Kind::Gpu if need.slot.gpus == 0 => return Err(Barred::GpuUnused),
            _ if facts.gpus < need.slot.gpus => return Err(Barred::GpuMissing),
            _ => {}
        }
        if !(self.vcpu_min..=self.vcpu_max).contains(&facts.vcpu) {
            return Err(Barred::Vcpus(facts.vcpu));
        }
        if need.slots(facts) == 0 {
            return Err(Barred::Memory(facts.memory_mib));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{ZoneNames, spot};

    fn allow(limits: &Limits, need: &Need, name: &str) -> Result<Facts, Barred> {
        let pool = spot(name, "use1-az1", &ZoneNames::new()).unwrap();
        limits.allow(&pool, need, &Catalogue::built_in().unwrap())
    }

    #[test]
    fn limits_bar_by_what_a_machine_is() {
        let limits = Limits {
            not_types: vec!["m3.*".into()],
            ..Limits::default()
        };
        let need = Need::new("r", 2_000);
        let table = [
            ("c5.large", None),
            ("t3.medium", None),
            ("m3.large", Some(Barred::TypeNotWanted)),
            ("q9.large", Some(Barred::TypeUnknown)),
            ("c7g.large", Some(Barred::Arch("arm64".into()))),
            ("c5.metal", Some(Barred::Metal)),
            ("g4dn.xlarge", Some(Barred::GpuUnused)),
            ("inf1.xlarge", Some(Barred::Special)),
            ("c6a.48xlarge", Some(Barred::Vcpus(192))),
            ("t3.micro", Some(Barred::Memory(1_024))),
        ];
        for (name, barred) in table {
            assert_eq!(allow(&limits, &need, name).err(), barred, "{name}");
        }
        let with_gpu = Need {
            slot: rebound_core::types::Resources { gpus: 1, ..need.slot },
            ..need.clone()
        };
        assert_eq!(allow(&limits, &with_gpu, "c5.large"), Err(Barred::GpuMissing));
        assert!(allow(&limits, &with_gpu, "g4dn.xlarge").is_ok());
        let steady = Limits {
            burstable: false,
            ..Limits::default()
        };
        assert_eq!(allow(&steady, &need, "t3.medium"), Err(Barred::Burstable));
        let abroad = Limits {
            regions: vec!["eu-west-1".into()],
            ..Limits::default()
        };
        assert_eq!(
            allow(&abroad, &need, "c5.large"),
            Err(Barred::Region("us-east-1".into()))
        );
        let ids = Limits {
            zone_ids_only: true,
            ..Limits::default()
        };
        let named = spot("c5.large", "us-east-1a", &ZoneNames::new()).unwrap();
        let all = Catalogue::built_in().unwrap();
        assert_eq!(ids.allow(&named, &need, &all), Err(Barred::ZoneName));
    }

    #[test]
    fn a_bad_file_is_told_with_its_line() {
        let good = Limits::parse("l.toml", "archs = [\"arm64\"]\nregions = [\"eu-west-1\"]\n").unwrap();
        assert_eq!(good.archs, [Arch::Arm]);
        for (text, line, word) in [
            ("burstable = true\narch = \"arm64\"\n", 2, "arch"),
            ("\n\nvcpu_max = \"many\"", 3, "many"),
            ("vcpu_min = 8\nvcpu_max = 4", 0, "vcpu_max"),
            ("archs = []", 0, "empty"),
        ] {
            let error = Limits::parse("l.toml", text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
