//! The version at which the cluster runs: what each server's build knows, when it may be raised, and what stops a
//! build that is too old.

use super::{Replica, parse};
use crate::command::{Command, Entry};
use crate::io::MemberBuild;
use crate::limits::MEMBERS_MAX;
use crate::plant::Plant;
use crate::reply::Rejected;
use crate::types::*;
use crate::version::{BUILDS, Build, OtherVersion, Versions};

/// Servers whose builds are remembered, those of unknown ids included.
const BUILDS_MAX: usize = 4 * MEMBERS_MAX;

/// The version that an entry needs a build to know: its own, and what it raises the cluster to.
pub(super) fn needed_by(entry: &Entry) -> u16 {
    let raised = match entry.command {
        Command::Begin { cluster_version, .. } => cluster_version,
        Command::Upgrade { to } => to,
        _ => 0,
    };
    raised.max(entry.version)
}

/// Whether a build may apply an entry as it is in the log; one that is unreadable for another reason is let through,
/// and stops who applies it.
pub(super) fn allows(knows: Versions, content: &[u8]) -> Result<(), OtherVersion> {
    let too_new = |found: &u16| *found > knows.newest;
    let refuse = |found| Err(OtherVersion { found, knows });
    if let Some(found) = parse::entry_version(content).filter(too_new) {
        return refuse(found);
    }
    match super::decode_entry(content) {
        Ok(Some(entry)) if needed_by(&entry) > knows.newest => refuse(needed_by(&entry)),
        _ => Ok(()),
    }
}

impl Replica {
    /// Another server that was let in said which build it runs.
    pub(super) fn heard_build(&mut self, id: ReplicaId, build: Build) {
        if self.builds.len() < BUILDS_MAX || self.builds.contains_key(&id) {
            self.builds.insert(id, build);
        }
    }

    /// The version that a new cluster begins at: the newest that all know who were met.
    pub(super) fn first_version(&self) -> u16 {
        let own = self.config.build.versions;
        let founders = self.config.founders.iter().map(|founder| founder.id);
        let others = founders.filter_map(|id| self.builds.get(&id));
        let newest = others.map(|build| build.versions.newest).min();
        newest.map_or(own.newest, |newest| newest.clamp(own.oldest, own.newest))
    }

    /// What is known of a server's build: as it says it to this leader, or as it was last recorded.
    pub(super) fn build_view(&self, id: ReplicaId) -> Option<MemberBuild> {
        let said = match id == self.config.id {
            true => Some(&self.config.build),
            false => self.builds.get(&id).filter(|_| self.is_alive(id)),
        };
        let recorded = || self.state.build_of(id);
        let build = said.or_else(recorded)?.clone();
        let is_recorded = said.is_none();
        Some(MemberBuild { build, is_recorded })
    }

    /// Somebody asks for the cluster to run at `to`, or at the newest version that any of its servers knows. All of
    /// them must be there and know it.
    pub(super) fn ask_upgrade(&mut self, to: Option<u16>) -> Result<Option<Command>, Rejected> {
        let now = self.state.version();
        let ids: Vec<ReplicaId> = self.state.members.iter().map(|(id, _)| id).collect();
        let said = |id: &ReplicaId| self.build_view(*id).filter(|view| !view.is_recorded);
        let newest = ids.iter().filter_map(said).map(|view| view.build.versions.newest);
        let to = to.unwrap_or_else(|| newest.max().unwrap_or(now));
        if to < now {
            let why = format!("the cluster runs at {now}, and there is no way back to {to}");
            return Err(invalid("version", why));
        }
        if to == now {
            return Ok(None);
        }
        for id in &ids {
            let Some(view) = said(id) else {
                let why = format!(
                    "server {id} is silent, so it is not known which build it runs: start it, or remove it"
                );
                return Err(invalid("server", why));
            };
            if let Err(refused) = view.build.versions.allow(to) {
                let (name, knows) = (view.build.name, refused.knows);
                let why = format!(
                    "server {id} runs {name}, which knows {knows} and not {to}: upgrade it first, or remove it"
                );
                return Err(invalid("server", why));
            }
        }
        Ok(Some(Command::Upgrade { to }))
    }

    /// Builds that are not recorded as they are, once the cluster records them.
    pub(super) fn builds_to_note(&mut self) -> Vec<Command> {
        let ignores = self.config.plant.is(Plant::GateIgnored) && self.config.build.versions.newest >= BUILDS;
        if self.state.version() < BUILDS && !ignores {
            return Vec::new();
        }
        let mut commands = Vec::new();
        let ids: Vec<ReplicaId> = self.state.members.iter().map(|(id, _)| id).collect();
        for server in ids {
            let Some(view) = self.build_view(server).filter(|view| !view.is_recorded) else {
                continue;
            };
            let build = view.build;
            let is_known = self.state.build_of(server) == Some(&build);
            let leader = self.leader.as_mut().expect("only a leader has duties");
            if !is_known && leader.noted.insert(server, build.clone()).as_ref() != Some(&build) {
                commands.push(Command::MemberBuild { server, build });
            }
        }
        commands
    }

    /// An entry that cannot be read: because of its version? Then this build stops, and applies nothing more.
    pub(super) fn halts_at(&mut self, content: &[u8]) -> bool {
        self.halted = allows(self.config.build.versions, content).err();
        self.halted.is_some()
    }

    /// True for an entry that this build must not apply.
    pub(super) fn is_unknown(&self, content: &[u8]) -> bool {
        allows(self.config.build.versions, content).is_err()
    }

    /// The same before an entry that can be read is applied.
    pub(super) fn halts_before(&mut self, entry: &Entry) -> bool {
        let (found, knows) = (needed_by(entry), self.config.build.versions);
        if found > knows.newest {
            self.halted = Some(OtherVersion { found, knows });
        }
        self.halted.is_some()
    }
}

fn invalid(field: &'static str, why: String) -> Rejected {
    Rejected::Invalid { field, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::FIRST;

    #[test]
    fn a_build_applies_up_to_the_newest_version_it_knows() {
        let entry = |command| {
            super::super::encode_entry(&Entry {
                version: FIRST,
                at: Time(1),
                by: Caller::default(),
                trace: TraceId::default(),
                command,
            })
        };
        let knows = |newest| Versions {
            oldest: FIRST,
            newest,
        };
        assert_eq!(allows(knows(FIRST), &entry(Command::Count)), Ok(()));
        let raise = entry(Command::Upgrade { to: BUILDS });
        assert_eq!(allows(knows(BUILDS), &raise), Ok(()));
        assert_eq!(allows(knows(FIRST), &raise).unwrap_err().found, BUILDS);
    }
}
