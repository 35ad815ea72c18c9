//! O1: no command is proposed above the version at which the cluster runs.

use rebound_core::command::{Command, Entry};

/// The version that brought what not all know. Written again here, apart from the core's own list.
fn brought_by(command: &Command) -> u16 {
    match command {
        Command::MemberBuild { .. } => 2,
        _ => 1,
    }
}

/// The versions of a log.
pub struct Versions {
    /// At which the cluster runs.
    runs: u16,
}

impl Default for Versions {
    fn default() -> Versions {
        Versions { runs: 1 }
    }
}

impl Versions {
    /// Takes the next entry; in words what is wrong with it.
    pub fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let (says, needs, runs) = (entry.version, brought_by(&entry.command), self.runs);
        match &entry.command {
            Command::Begin { cluster_version, .. } => self.runs = *cluster_version,
            Command::Upgrade { to } => self.runs = runs.max(*to),
            _ => {}
        }
        match says > runs || needs > says {
            true => Err(format!(
                "it is of version {says} and needs {needs}; the cluster ran at {runs}"
            )),
            false => Ok(()),
        }
    }
}
