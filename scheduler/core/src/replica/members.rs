//! Changes of who is a member: what is asked, what the leader does of itself, and how raft is told. The entry of a
//! change is raft's own kind with our command as its context: state and raft change at the same index.

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry as RaftEntry,
    EntryType,
};
use raft::{Error as RaftError, StateRole};

use super::{Origin, Replica};
use crate::command::Command;
use crate::io::{Answer, MemberView, Output};
use crate::limits::*;
use crate::plant::Plant;
use crate::reply::{Refused, Rejected, Reply};
use crate::state::State;
use crate::state::members::{Founder, Member, Role, Voters};
use crate::types::*;
use crate::version::Build;

/// Servers of unknown ids whose word is remembered.
const MET_MAX: usize = 4 * MEMBERS_MAX;

/// What raft is told of an applied change, and what it must then hold.
pub(super) struct ConfStep {
    changes: Vec<ConfChangeV2>,
    then: Voters,
}

/// As raft writes it.
pub(super) fn conf_state(voters: &Voters) -> ConfState {
    let ids = |ids: &[ReplicaId]| ids.iter().map(|id| id.0).collect();
    ConfState {
        voters: ids(&voters.incoming),
        voters_outgoing: ids(&voters.outgoing),
        learners: ids(&voters.learners),
        ..ConfState::default()
    }
}

/// The other way; raft itself keeps no order.
pub(super) fn voters_of(conf: &ConfState) -> Voters {
    let ids = |ids: &[u64]| {
        let mut ids: Vec<ReplicaId> = ids.iter().copied().map(ReplicaId).collect();
        ids.sort_unstable();
        ids
    };
    Voters {
        incoming: ids(&conf.voters),
        outgoing: ids(&conf.voters_outgoing),
        learners: ids(&conf.learners),
    }
}

/// The bytes of our own command in an entry of raft's log.
pub(super) fn content(entry: &RaftEntry) -> &bytes::Bytes {
    match entry.get_entry_type() {
        EntryType::EntryNormal => &entry.data,
        _ => &entry.context,
    }
}

/// What raft must be told when this command is applied; `None` for one that changes no voter and no learner.
pub(super) fn change_of(command: &Command, state: &State) -> Option<ConfChangeV2> {
    use ConfChangeType::*;
    let role = |id: ReplicaId| state.members.get(id).map(|member| member.role);
    let (steps, joint) = match command {
        Command::MemberAdd { new, .. } => (vec![(new.id, AddLearnerNode)], false),
        Command::MemberPromote { server } => {
            let goes = state.members.get(*server).and_then(|member| member.replaces);
            let goes = goes.filter(|old| role(*old).is_some());
            let mut steps = vec![(*server, AddNode)];
            steps.extend(goes.map(|old| (old, RemoveNode)));
            (steps, true)
        }
        Command::MemberRemove { server } => {
            (vec![(*server, RemoveNode)], role(*server) != Some(Role::Learner))
        }
        Command::MembersSettle => (Vec::new(), false),
        _ => return None,
    };
    let mut change = ConfChangeV2::default();
    // Left by an entry of our own, never by raft's: that one would have no command in it.
    change.set_transition(match joint {
        true => ConfChangeTransition::Explicit,
        false => ConfChangeTransition::Auto,
    });
    let one = |(id, kind): (ReplicaId, ConfChangeType)| ConfChangeSingle {
        node_id: id.0,
        change_type: kind,
        ..ConfChangeSingle::default()
    };
    change.set_changes(steps.into_iter().map(one).collect::<Vec<_>>().into());
    Some(change)
}

/// A change of one server, without a joint configuration.
fn simple(one: ConfChangeSingle) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![one].into());
    change
}

/// The bug that is planted by `joint-left-out`: each server of a change by itself.
fn one_by_one(change: &ConfChangeV2) -> impl Iterator<Item = ConfChangeV2> {
    change.get_changes().iter().cloned().map(simple)
}

impl Replica {
    /// Another server said who it is, and was let in or not.
    pub(super) fn met(&mut self, id: ReplicaId, incarnation: u64, build: Build) {
        let admitted = self.state.admits(id, incarnation).is_ok();
        if !admitted {
            if self.state.members.get(id).is_some() {
                self.strangers.insert(id, (incarnation, self.elapsed));
            }
            return;
        }
        self.heard_build(id, build);
        if self.met.len() < MET_MAX {
            self.met.entry(id).or_insert(incarnation);
        }
    }

    /// The disk a server is known with here, if any: of the members, or as this replica first met it.
    fn incarnation_of(&self, id: ReplicaId) -> u64 {
        match id == self.config.id {
            true => self.config.incarnation,
            false => self.met.get(&id).copied().unwrap_or_default(),
        }
    }

    /// The cluster's first entry.
    pub(super) fn begin_command(&self) -> Command {
        let founders = self.config.founders.iter().map(|founder| Founder {
            incarnation: self.incarnation_of(founder.id),
            ..founder.clone()
        });
        Command::Begin {
            cluster: self.config.cluster.clone(),
            cluster_version: self.first_version(),
            settings: Box::new(self.config.settings.clone()),
            founders: founders.collect(),
        }
    }

    /// Tells raft what the applied entries changed.
    pub(super) fn adopt(&mut self, steps: Vec<ConfStep>) {
        for step in steps {
            let mut now = ConfState::default();
            for change in &step.changes {
                let told = self.raft.apply_conf_change(change);
                now = told.expect("state has checked the change");
            }
            assert_eq!(voters_of(&now), step.then, "raft counts as state does");
            self.snapshots_out
                .retain(|to, _| self.raft.raft.prs().get(to.0).is_some());
        }
    }

    /// What raft must be told after this entry was applied: nothing, unless it changed who is a member.
    pub(super) fn conf_step(&mut self, entry: &RaftEntry) -> Option<ConfStep> {
        let then = self.state.members.voters();
        let before = voters_of(self.raft.store().conf_state());
        if self.state.members.is_empty() || before == then {
            return None;
        }
        let mut changes = Vec::new();
        match entry.get_entry_type() {
            // The first entry, at a server that was added and began with nothing: the voters one by one.
            EntryType::EntryNormal => {
                assert_eq!(
                    before,
                    Voters::default(),
                    "members change only by their own entries"
                );
                changes.extend(then.incoming.iter().map(|id| {
                    simple(ConfChangeSingle {
                        node_id: id.0,
                        ..ConfChangeSingle::default()
                    })
                }));
            }
            _ => {
                let change = ConfChangeV2::parse_from_carllerche_bytes(&entry.data);
                let change = change.expect("a change of members of our own is readable");
                let joint = !then.outgoing.is_empty() || change.get_changes().is_empty();
                match self.config.plant.is(Plant::JointLeftOut) && !joint {
                    true => changes.extend(one_by_one(&change)),
                    false => changes.push(change),
                }
            }
        }
        self.raft.mut_store().conf_state = conf_state(&then);
        Some(ConfStep { changes, then })
    }

    /// Puts a change of members into the log. `Err` with nothing: raft takes no entry now, this one waits.
    pub(super) fn propose_change(
        &mut self,
        change: &ConfChangeV2,
        data: Vec<u8>,
    ) -> Result<(), Option<Rejected>> {
        let joint = self.state.members.is_joint();
        if self.raft.raft.has_pending_conf() || joint != change.changes.is_empty() {
            let why = match self.state.members.under_way() {
                Some(what) => format!("{what}: one change at a time; wait for its end"),
                None => "another change is on its way into the log; try again".to_owned(),
            };
            return Err(Some(invalid("members", why)));
        }
        match self.raft.propose_conf_change(data, change.clone()) {
            Ok(()) => {}
            Err(RaftError::ProposalDropped) => return Err(None),
            Err(error) => return Err(Some(invalid("members", error.to_string()))),
        }
        let last = self.raft.raft.raft_log.unstable_entries().last();
        let kind = last.map(RaftEntry::get_entry_type);
        assert_eq!(
            kind,
            Some(EntryType::EntryConfChangeV2),
            "raft took the change as one"
        );
        Ok(())
    }

    /// Once a tick, as leader: what is begun is brought to its end.
    pub(super) fn member_duties(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        for (server, member) in self.state.members.iter() {
            let incarnation = self.incarnation_of(server);
            let leader = self.leader.as_mut().expect("only a leader has duties");
            if member.incarnation == 0 && incarnation != 0 && leader.meeting.insert(server) {
                commands.push(Command::MemberMet { server, incarnation });
            }
        }
        if self.raft.raft.has_pending_conf() || self.waiting.iter().any(|waiting| waiting.changes_members()) {
            return commands;
        }
        let own = self.config.id;
        let own_role = self.state.members.get(own).map(|member| member.role);
        let ready = self.learner_to_promote();
        let replaced = ready.is_some_and(|learner| {
            self.state
                .members
                .get(learner)
                .is_some_and(|m| m.replaces == Some(own))
        });
        if own_role == Some(Role::Leaving) || replaced {
            // Who goes does not lead there: another one must end it.
            self.resign();
        } else if self.state.members.is_joint() {
            commands.push(Command::MembersSettle);
        } else if let Some(server) = ready {
            commands.push(Command::MemberPromote { server });
        }
        commands
    }

    /// The learner that has caught up and would find a living quorum.
    fn learner_to_promote(&self) -> Option<ReplicaId> {
        let (id, member) = self
            .state
            .members
            .iter()
            .find(|(_, member)| member.role == Role::Learner)?;
        let matched = self.raft.raft.prs().get(id.0)?.matched;
        let near = matched + self.config.limits.caught_up >= self.raft.raft.raft_log.last_index()
            && matched >= self.state.meta().members_changed;
        let met = member.incarnation != 0 && self.is_alive(id);
        let replaces = member.replaces;
        (near && met && self.quorum_without(replaces, Some(id)).is_ok()).then_some(id)
    }

    /// True when a server has spoken to this leader lately, or is this leader.
    pub(super) fn is_alive(&self, id: ReplicaId) -> bool {
        let heard = |id| self.leader.as_ref()?.peers.get(&id).copied();
        id == self.config.id || heard(id).is_some_and(|at| self.elapsed.saturating_sub(at) <= MEMBER_SILENT)
    }

    /// Whether enough voters are alive when one goes and perhaps another comes.
    fn quorum_without(&self, goes: Option<ReplicaId>, comes: Option<ReplicaId>) -> Result<(), Rejected> {
        let mut voters = self.state.members.voters().incoming;
        voters.retain(|id| Some(*id) != goes);
        voters.extend(comes);
        let (count, needed) = (voters.len(), voters.len() / 2 + 1);
        let silent: Vec<String> = voters
            .iter()
            .filter(|id| !self.is_alive(**id) && Some(**id) != comes)
            .map(ToString::to_string)
            .collect();
        let alive = count - silent.len();
        if alive >= needed {
            return Ok(());
        }
        let why = format!(
            "{alive} of the {count} voters left would be alive and {needed} are needed; server {} is silent: start \
             it, or replace it first",
            silent.join(", ")
        );
        Err(invalid("server", why))
    }

    /// Somebody asks for a server to be added.
    pub(super) fn ask_add(
        &mut self,
        new: &Founder,
        replaces: Option<ReplicaId>,
    ) -> Result<Option<Command>, Rejected> {
        for (field, address) in [("peer", &new.peer), ("client", &new.client)] {
            let good = !address.is_empty()
                && address.len() <= ADDRESS_BYTES_MAX
                && address.bytes().all(|byte| byte.is_ascii_graphic());
            if !good {
                let why = "must be host:port".to_owned();
                return Err(invalid(field, why));
            }
        }
        let same = |member: &Member| member.peer == new.peer && member.client == new.client;
        if let Some(member) = self.state.members.get(new.id).filter(|member| same(member)) {
            return self.was_added_so(new.id, member, replaces).map(|()| None);
        }
        self.state.may_add(new, replaces)?;
        if self.state.members.voters().incoming.len() == 1 && replaces == Some(self.config.id) {
            // Who goes does not lead there, and nobody else can.
            let why = format!(
                "server {} is the only voter; add {} first, and remove it when that one votes",
                self.config.id, new.id
            );
            return Err(invalid("replace", why));
        }
        self.quorum_without(replaces, Some(new.id))?;
        Ok(Some(Command::MemberAdd {
            new: new.clone(),
            replaces,
        }))
    }

    /// Whether a server that is here already was added in place of the one that is named now, not of another or of
    /// none: an earlier request without it may have come late.
    fn was_added_so(
        &self,
        id: ReplicaId,
        member: &Member,
        replaces: Option<ReplicaId>,
    ) -> Result<(), Rejected> {
        let goes = |old| match self.state.members.get(old) {
            Some(old) => old.role == Role::Leaving,
            None => self.state.was_removed(old),
        };
        let so = match member.role {
            Role::Learner => member.replaces == replaces,
            // A voter does not say any more whom it replaced.
            _ => replaces.is_none_or(goes),
        };
        let instead = match (member.replaces, replaces) {
            _ if so => return Ok(()),
            (Some(old), _) => format!("in place of server {old}; remove {id} to undo that"),
            (None, old) => {
                let old = old.unwrap_or_default();
                format!("and not in place of server {old}; remove {old} by itself once {id} votes")
            }
        };
        Err(invalid(
            "replace",
            format!("server {id} was added before, {instead}"),
        ))
    }

    /// Somebody asks for a server to be removed.
    pub(super) fn ask_remove(&mut self, server: ReplicaId) -> Result<Option<Command>, Refused> {
        if !self.state.may_remove(server)? {
            return Ok(None);
        }
        let role = self.state.members.get(server).map(|member| member.role);
        if role != Some(Role::Learner) {
            self.quorum_without(Some(server), None)?;
        }
        if server == self.config.id {
            // The caller asks the next leader.
            let heir = self.transfer_to(None)?;
            return Err(Refused::NotLeader { leader: Some(heir) });
        }
        Ok(Some(Command::MemberRemove { server }))
    }

    /// A server that starts asks whether it was added, and says which data directory it has.
    pub(super) fn ask_join(&mut self, new: &Founder, build: &Build) -> Result<Option<Command>, Rejected> {
        let id = new.id;
        if let Err(refused) = build.versions.allow(self.state.version()) {
            return Err(invalid("version", refused.to_string()));
        }
        if let Err(stranger) = self.state.admits(id, new.incarnation) {
            return Err(invalid("server", stranger.to_string()));
        }
        let Some(member) = self.state.members.get(id) else {
            let why = format!(
                "{id} was not added to the cluster; first `rebound operator add {id} --peer {} --client {}`",
                new.peer, new.client
            );
            return Err(invalid("server", why));
        };
        if member.peer != new.peer {
            let why = format!(
                "server {id} was added with the address {}, and listens on {}; correct either",
                member.peer, new.peer
            );
            return Err(invalid("peer", why));
        }
        let known = member.incarnation == new.incarnation;
        let incarnation = new.incarnation;
        Ok((!known).then_some(Command::MemberMet {
            server: id,
            incarnation,
        }))
    }

    /// All members, with what this leader knows of each.
    pub(super) fn member_views(&self) -> Answer {
        let leader = self.leader.as_ref();
        let view = |(id, member): (ReplicaId, &Member)| {
            let heard = leader.and_then(|leader| leader.peers.get(&id));
            let stranger = self.strangers.get(&id);
            MemberView {
                id,
                member: member.clone(),
                leads: id == self.config.id,
                alive: self.is_alive(id),
                heard_ago: heard.map(|at| self.elapsed.saturating_sub(*at)),
                matched: self.raft.raft.prs().get(id.0).map_or(0, |of| of.matched),
                stranger: stranger.map(|(incarnation, at)| (*incarnation, self.elapsed.saturating_sub(*at))),
                build: self.build_view(id),
            }
        };
        Answer::Members {
            members: self.state.members.iter().map(view).collect(),
            last: self.raft.raft.raft_log.last_index(),
            version: self.state.version(),
        }
    }

    /// A leader that is no member any more led on until the others knew; now it stops.
    pub(super) fn leave_when_removed(&mut self) {
        let (own, elapsed) = (self.config.id, self.elapsed);
        let removed = self.state.was_removed(own);
        let Some(leader) = self.leader.as_mut().filter(|_| removed) else {
            return;
        };
        let since = *leader.removed_at.get_or_insert(elapsed);
        if elapsed.saturating_sub(since) > REMOVED_LEADS && self.raft.raft.state == StateRole::Leader {
            let term = self.raft.raft.term;
            self.raft.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Proposes what an asker wants, or says at once that it is so already.
    pub(super) fn propose_or_done(
        &mut self,
        ask: AskId,
        by: Caller,
        trace: TraceId,
        asked: Result<Option<Command>, Refused>,
        out: &mut Output,
    ) {
        match asked {
            Ok(Some(command)) => self.propose_for(Origin::Ask(ask), by, trace, command, out),
            Ok(None) => {
                let reply = Reply::Done;
                self.answer(
                    ask,
                    Ok(Answer::Applied {
                        reply,
                        placeable: true,
                        outlook: None,
                    }),
                    out,
                );
            }
            Err(refused) => self.answer(ask, Err(refused), out),
        }
    }
}

fn invalid(field: &'static str, why: String) -> Rejected {
    Rejected::Invalid { field, why }
}
