//! What an instance type is: processors, memory, architecture, GPUs, and how fast a burstable one is for ever.
//!
//! From three small tables in `data/`, written after EC2's public pages on instance types: `families.csv` (one line a
//! family), `types.csv` (types that do not follow from their family and size), `baselines.csv` (burstable ones: CPU
//! performance without credits, permille of each vCPU). A size says the vCPUs: `large` has 2, `xlarge` 4, `Nxlarge`
//! 4 × N. A type that is in none of them is unknown, and is not bought.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::FileError;

const FAMILIES: &str = include_str!("../data/families.csv");
const TYPES: &str = include_str!("../data/types.csv");
const BASELINES: &str = include_str!("../data/baselines.csv");
/// Burstable types run at so many permille of each vCPU when nothing else is known: the smallest baseline there is.
const LEAST_BASELINE: u32 = 50;

/// A processor architecture: each has its own machine image and its own measured throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arch {
    /// Intel's and AMD's.
    #[serde(rename = "x86_64")]
    X86,
    /// Graviton.
    #[serde(rename = "arm64")]
    Arm,
}

impl Arch {
    /// The name as EC2 has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        }
    }
}

/// What sets a family apart for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Processors alone.
    Cpu,
    /// Runs below its vCPUs' full speed once its credits are spent.
    Burstable,
    /// Has GPUs.
    Gpu,
    /// Has hardware that no recogniser uses: Inferentia, Trainium, FPGAs, video encoders.
    Other,
}

/// Facts of one instance type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Virtual processors.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Architecture.
    pub arch: Arch,
    /// What sets its family apart.
    pub kind: Kind,
    /// Whole GPUs.
    pub gpus: u32,
    /// Without a hypervisor: boots in many minutes and is as large as its family gets.
    pub metal: bool,
    /// Speed of each vCPU that holds for ever, in permille: 1000 but for burstable types in credit mode `standard`.
    pub baseline_permille: u32,
}

#[derive(Deserialize)]
struct Family {
    family: String,
    arch: Arch,
    kind: Kind,
    mib_per_vcpu: u32,
}

#[derive(Deserialize)]
struct Exact {
    instance_type: String,
    vcpu: u32,
    memory_mib: u32,
    gpus: u32,
}

#[derive(Deserialize)]
struct Baseline {
    instance_type: String,
    baseline_permille: u32,
}

/// All instance types known here.
#[derive(Debug)]
pub struct Catalogue {
    families: BTreeMap<String, Family>,
    types: BTreeMap<String, Exact>,
    baselines: BTreeMap<String, u32>,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {:?}", self.family, self.arch, self.kind)
    }
}

impl std::fmt::Debug for Exact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.instance_type, self.vcpu, self.memory_mib)
    }
}

impl Catalogue {
    /// The tables that come with the program.
    ///
    /// # Errors
    ///
    /// Where one of them is damaged; a test reads them.
    pub fn built_in() -> Result<Self, FileError> {
        Ok(Self {
            families: rows::<Family>("families.csv", FAMILIES)?
                .into_iter()
                .map(|row| (row.family.clone(), row))
                .collect(),
            types: rows::<Exact>("types.csv", TYPES)?
                .into_iter()
                .map(|row| (row.instance_type.clone(), row))
                .collect(),
            baselines: rows::<Baseline>("baselines.csv", BASELINES)?
                .into_iter()
                .map(|row| (row.instance_type, row.baseline_permille))
                .collect(),
        })
    }

    /// What `instance_type` is; nothing for a type or family that is not known.
    pub fn facts(&self, instance_type: &str) -> Option<Facts> {
        let (family_name, size) = instance_type.split_once('.')?;
        let family = self.families.get(family_name)?;
        let metal = size.starts_with("metal");
        let baseline_permille = match family.kind {
            Kind::Burstable => self
                .baselines
                .get(instance_type)
                .copied()
                .unwrap_or(LEAST_BASELINE),
            _ => 1_000,
        };
        let exact = self.types.get(instance_type);
        let (vcpu, memory_mib, gpus) = match exact {
            Some(exact) => (exact.vcpu, exact.memory_mib, exact.gpus),
            // The table has every size that has a GPU; what a metal one has does not matter, since none is bought.
            None if family.kind == Kind::Gpu && !metal => return None,
            None => {
                let vcpu = if metal { 0 } else { vcpus(size)? };
                (vcpu, vcpu.saturating_mul(family.mib_per_vcpu), 0)
            }
        };
        Some(Facts {
            vcpu,
            memory_mib,
            arch: family.arch,
            kind: family.kind,
            gpus,
            metal,
            baseline_permille,
        })
    }
}

/// vCPUs of a size that follows the rule.
fn vcpus(size: &str) -> Option<u32> {
    match size {
        "medium" => Some(1),
        "large" => Some(2),
        "xlarge" => Some(4),
        _ => size
            .strip_suffix("xlarge")?
            .parse::<u32>()
            .ok()
            .filter(|times| (2..=112).contains(times))
            .map(|times| times * 4),
    }
}

fn rows<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>, FileError> {
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .map(|row| row.map_err(|error| FileError::whole(name, error.to_string(), "repair the table")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_they_are() {
        let all = Catalogue::built_in().unwrap();
        let table = [
            ("m4.10xlarge", 40, 163_840, Arch::X86, Kind::Cpu, 0, 1_000),
            ("c5.large", 2, 4_096, Arch::X86, Kind::Cpu, 0, 1_000),
            ("c7g.medium", 1, 2_048, Arch::Arm, Kind::Cpu, 0, 1_000),
            ("d2.8xlarge", 36, 249_856, Arch::X86, Kind::Cpu, 0, 1_000),
            ("t3.medium", 2, 4_096, Arch::X86, Kind::Burstable, 0, 200),
            ("t4g.2xlarge", 8, 32_768, Arch::Arm, Kind::Burstable, 0, 400),
            ("g4dn.12xlarge", 48, 196_608, Arch::X86, Kind::Gpu, 4, 1_000),
            ("inf1.xlarge", 4, 8_192, Arch::X86, Kind::Other, 0, 1_000),
        ];
        for (name, vcpu, memory_mib, arch, kind, gpus, baseline_permille) in table {
            let facts = Facts {
                vcpu,
                memory_mib,
                arch,
                kind,
                gpus,
                metal: false,
                baseline_permille,
            };
            assert_eq!(all.facts(name), Some(facts), "{name}");
        }
        assert!(all.facts("c5.metal").unwrap().metal);
        for name in [
            "",
            "m4",
            "q9.large",
            "c5.nano",
            "c5.0xlarge",
            "c5.-2xlarge",
            "g5.32xlarge",
            "mac1.metal",
        ] {
            assert_eq!(all.facts(name), None, "{name}");
        }
    }
}
