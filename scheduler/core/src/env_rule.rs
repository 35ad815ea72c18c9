//! What a policy says of one environment: where its photos may be worked on, and what machines for it may cost.

use serde::{Deserialize, Serialize};

use crate::limits::{ENV_RULES_MAX, NAME_BYTES_MAX, REGION_TEXT_MAX, REGIONS_PER_RULE_MAX};
use crate::reply::Rejected;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvRule {
    /// The environment's name; one that there is not yet is allowed.
    pub name: String,
    /// Its photos leave these regions for no saving and no deadline; empty: they may be worked on anywhere. Machines that
    /// do not say where they are get none of them.
    pub regions: Vec<String>,
    /// Most millionths of USD for its work in a day (UTC), with what its machines are reckoned to cost yet; 0: the
    /// cluster's caps alone.
    pub day: u64,
}

impl EnvRule {
    /// True where the rule lets its photos be worked on.
    pub fn allows(&self, region: &str) -> bool {
        self.regions.is_empty() || self.regions.iter().any(|one| one == region)
    }
}

/// True for what can be the name of a region.
pub fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=REGION_TEXT_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// Refuses rules that contradict each other or that nothing can meet.
///
/// # Errors
///
/// The first such field.
pub fn check(rules: &[EnvRule]) -> Result<(), Rejected> {
    let no = |field: &'static str, why: String| Err(Rejected::Invalid { field, why });
    if rules.len() > ENV_RULES_MAX {
        return no("environment", format!("is given more than {ENV_RULES_MAX} times"));
    }
    if let Some(pair) = rules.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        let why = match pair[0].name == pair[1].name {
            true => format!("{:?} is given twice", pair[0].name),
            false => "are not in the order of their names".to_owned(),
        };
        return no("environment.name", why);
    }
    for rule in rules {
        let name = &rule.name;
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return no(
                "environment.name",
                format!("has {} bytes: 1 to {NAME_BYTES_MAX} make sense", name.len()),
            );
        }
        if rule.regions.len() > REGIONS_PER_RULE_MAX {
            return no(
                "environment.regions",
                format!("of {name:?} has more than {REGIONS_PER_RULE_MAX}"),
            );
        }
        if let Some(region) = rule.regions.iter().find(|region| !is_region(region)) {
            return no(
                "environment.regions",
                format!("of {name:?}: {region:?} is no region; write one as eu-central-1"),
            );
        }
    }
    Ok(())
}
