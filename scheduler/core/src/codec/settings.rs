//! The limits that change outcomes, and what environments may have, as operators read and change them.

use rebound_proto::v1;

use crate::command::Allot;
use crate::reply::Rejected;
use crate::state::environments::{Allotment, Environment};
use crate::state::settings::{Setting, Settings, Unit};

/// Changes, in order; each name must be one there is.
pub fn changes(wire: &[v1::SettingChange]) -> Result<Vec<(Setting, u64)>, Rejected> {
    if wire.is_empty() || wire.len() > Setting::ALL.len() {
        return Err(Rejected::Invalid {
            field: "changes",
            why: format!("{} of them; must be 1 to {}", wire.len(), Setting::ALL.len()),
        });
    }
    let change = |change: &v1::SettingChange| match Setting::named(&change.name) {
        Some(setting) => Ok((setting, change.value)),
        None => {
            let known: Vec<&str> = Setting::ALL.iter().map(|one| one.about().name).collect();
            Err(Rejected::Invalid {
                field: "changes.name",
                why: format!("there is no such setting; there are: {}", known.join(", ")),
            })
        }
    };
    wire.iter().map(change).collect()
}

/// All of them.
pub fn settings(own: &Settings) -> Vec<v1::Setting> {
    let setting = |setting: &Setting| {
        let about = setting.about();
        let unit = match about.unit {
            Unit::Count => v1::setting::Unit::Count,
            Unit::Duration => v1::setting::Unit::Duration,
        };
        v1::Setting {
            name: about.name.to_owned(),
            value: own.get(*setting),
            unit: unit.into(),
            default_value: about.default,
            min: about.min,
            max: about.max,
            what: about.what.to_owned(),
        }
    };
    Setting::ALL.iter().map(setting).collect()
}

/// Changes of what an environment may have.
pub fn allot(wire: v1::SetEnvironmentRequest) -> Allot {
    Allot {
        name: wire.name,
        weight: wire.weight,
        max_waiting: wire.max_waiting,
        max_jobs: wire.max_jobs,
        max_given: wire.max_given,
    }
}

/// An environment, what it may have, and how many keys of it are remembered.
pub fn environment((own, may, keys): &(Environment, Allotment, u64)) -> v1::Environment {
    let counts = own.counts;
    v1::Environment {
        name: own.name.clone(),
        weight: may.weight,
        max_waiting: may.waiting,
        max_jobs: may.jobs,
        max_given: may.given,
        waiting: counts.waiting,
        given: counts.given,
        jobs: own.jobs,
        keys: *keys,
        submitted: counts.submitted,
        succeeded: counts.succeeded,
        failed: counts.failed,
        cancelled: counts.cancelled,
        deleted: counts.deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, value: u64) -> v1::SettingChange {
        v1::SettingChange {
            name: name.to_owned(),
            value,
        }
    }

    #[test]
    fn names_are_known_or_refused_with_those_there_are() {
        assert_eq!(changes(&[change("lease", 5)]), Ok(vec![(Setting::Lease, 5)]));
        let unknown = changes(&[change("leese", 5)]).unwrap_err();
        assert!(unknown.to_string().contains("key_for, retention"), "{unknown}");
        assert_eq!(changes(&[]).unwrap_err().field(), "changes");
        let all: Vec<_> = settings(&Settings::default())
            .into_iter()
            .map(|one| change(&one.name, one.value))
            .collect();
        assert_eq!(changes(&all).unwrap().len(), Setting::ALL.len());
    }
}
