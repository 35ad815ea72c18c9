//! Versions of a cluster: what its log, its state and its servers may say to each other.
//!
//! A build knows a range of them, and can stand in for any other build that knows the version at which the cluster
//! runs. That version is in the state ([`Meta::version`]), changes by an entry of its own ([`Command::Upgrade`]), and
//! only rises: once all servers know a newer one, an operator finalizes the upgrade. Before that, builds are swapped
//! freely, both ways; after it, an older build is refused by name.
//!
//! What a version brings has a constant here, and is asked for by it: `version >= BUILDS`.
//!
//! [`Meta::version`]: crate::state::Meta::version
//! [`Command::Upgrade`]: crate::command::Command::Upgrade

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::BUILD_BYTES_MAX;

/// The first version.
pub const FIRST: u16 = 1;
/// The state says which build each server runs, also of one that is silent ([`crate::state::builds`]).
pub const BUILDS: u16 = 2;
/// The newest version whose code is here. A release offers it from then on when it is in [`Versions::OURS`]; until
/// then it is simulated beside the one before, and the feature `next` makes a build that offers it.
pub const NEXT: u16 = BUILDS;

/// The versions that a build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Versions {
    /// What this build offers.
    pub const OURS: Versions = Versions {
        oldest: FIRST,
        newest: if cfg!(feature = "next") { NEXT } else { FIRST },
    };

    /// Whether a cluster may run at `version` with this build, in words why not.
    pub fn allow(self, version: u16) -> Result<(), OtherVersion> {
        match (self.oldest..=self.newest).contains(&version) {
            true => Ok(()),
            false => Err(OtherVersion {
                found: version,
                knows: self,
            }),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "version {}", self.newest),
            false => write!(f, "versions {} to {}", self.oldest, self.newest),
        }
    }
}

/// A build that cannot stand in for the one it came after: it must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster runs at version {found}, and this build knows {knows} alone: {}", remedy(*found, *knows))]
pub struct OtherVersion {
    /// The version at which the cluster runs.
    pub found: u16,
    /// What the build knows.
    pub knows: Versions,
}

fn remedy(found: u16, knows: Versions) -> String {
    match found > knows.newest {
        true => format!(
            "it is too old. Start a build that knows version {found}; since the upgrade was finalized there is no way \
             back to this one but a backup of before"
        ),
        false => format!(
            "it is too new. Upgrade through a build that knows version {found} and version {}, and finalize there",
            knows.oldest
        ),
    }
}

/// A build as it says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// For people: the package's version.
    pub name: String,
    /// What it knows.
    pub versions: Versions,
}

impl Build {
    /// This one.
    pub fn ours() -> Build {
        let name = match cfg!(feature = "next") {
            true => concat!(env!("CARGO_PKG_VERSION"), "+next"),
            false => env!("CARGO_PKG_VERSION"),
        };
        Build::new(name, Versions::OURS)
    }

    /// One that says so; a name beyond [`BUILD_BYTES_MAX`] is cut, and what cannot be shown left out.
    pub fn new(name: &str, versions: Versions) -> Build {
        let shown = name.chars().filter(char::is_ascii_graphic);
        Build {
            name: shown.take(BUILD_BYTES_MAX).collect(),
            versions,
        }
    }
}

impl Default for Build {
    fn default() -> Build {
        Build::ours()
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.versions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_by_name_what_it_cannot_take() {
        let knows = Versions { oldest: 2, newest: 3 };
        assert_eq!([2, 3].map(|version| knows.allow(version)), [Ok(()), Ok(())]);
        let old = knows.allow(4).unwrap_err().to_string();
        assert!(
            old.contains("runs at version 4, and this build knows versions 2 to 3 alone: it is too old"),
            "{old}"
        );
        let new = knows.allow(1).unwrap_err().to_string();
        assert!(
            new.contains("knows version 1 and version 2, and finalize"),
            "{new}"
        );
    }

    #[test]
    fn what_a_build_is_called_is_bounded_and_can_be_shown() {
        let named = |name: &str| Build::new(name, Versions::OURS).name;
        assert_eq!(named("1.2\n\x1b[2J"), "1.2[2J");
        assert_eq!(named(&"x".repeat(1_000)).len(), BUILD_BYTES_MAX);
    }
}
