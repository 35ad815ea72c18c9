//! The servers of the cluster: where they are, what each counts for, and the disk each was first met with. What raft
//! counts votes by is made from this table alone, so both change at the same entry.
//!
//! One change at a time. Voters change through a joint configuration: from one entry to another both the old and the
//! new voters must agree to everything. Ids rise and never come back: one that is at most [`Meta::last_member`] and
//! not in the table was removed.
//!
//! [`Meta::last_member`]: super::Meta::last_member

use serde::{Deserialize, Serialize};

use super::{Context, State};
use crate::event::Fact;
use crate::key::Key as _;
use crate::limits::MEMBERS_MAX;
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::table::Table;
use crate::types::{EnvId, ReplicaId};

/// What a server counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Gets the log and has no vote.
    Learner,
    /// Becomes a voter: counted among the new voters only.
    Entering,
    /// Votes.
    Voter,
    /// Goes: counted among the old voters only.
    Leaving,
}

/// A server as it is first named: at `--init`, or when it is added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// Its id, not 0.
    pub id: ReplicaId,
    /// `host:port` where other servers reach it.
    pub peer: String,
    /// `host:port` where clients and agents reach it.
    pub client: String,
    /// Drawn when its data directory was made; 0: not yet known.
    pub incarnation: u64,
}

impl Founder {
    /// A server whose addresses nobody dials: in simulation.
    pub fn named(id: ReplicaId) -> Founder {
        Founder {
            id,
            peer: format!("server-{id}:peer"),
            client: format!("server-{id}:client"),
            incarnation: 0,
        }
    }
}

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` where other servers reach it.
    pub peer: String,
    /// `host:port` where clients and agents reach it.
    pub client: String,
    /// What it counts for.
    pub role: Role,
    /// The disk it was first met with; 0: not met yet. With another one it must not speak: it may have voted before.
    pub incarnation: u64,
    /// The voter that goes when this learner becomes one.
    pub replaces: Option<ReplicaId>,
}

/// Who votes, as raft counts it. Joint while `outgoing` is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters {
    /// Voters; the new ones while joint.
    pub incoming: Vec<ReplicaId>,
    /// The old voters while joint.
    pub outgoing: Vec<ReplicaId>,
    /// Without a vote.
    pub learners: Vec<ReplicaId>,
}

/// What a server that says who it is may be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It was a member.
    #[error(
        "server {0} was removed from the cluster; stop it for good. A new server gets a new id: `rebound operator add`"
    )]
    Removed(ReplicaId),
    /// It has another data directory than the one it was met with.
    #[error(
        "server {id} lost its disk, or two servers run with this id: the cluster knows it with data directory \
         {known:016x}, not {said:016x}. It may have voted before, so it cannot come back under its id; remove it and \
         add it under a new one: `rebound operator add NEW --replace {id}`"
    )]
    OtherDisk {
        /// Who it says it is.
        id: ReplicaId,
        /// As the cluster knows it.
        known: u64,
        /// As it says.
        said: u64,
    },
}

/// All servers.
pub struct Members {
    pub(crate) table: Table<ReplicaId, Member>,
}

impl Members {
    pub(crate) fn new(number: u8) -> Self {
        Members {
            table: Table::new(number),
        }
    }

    /// One server.
    pub fn get(&self, id: ReplicaId) -> Option<&Member> {
        self.table.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Member)> {
        self.table.iter().map(|(id, member)| (*id, member))
    }

    /// True before the cluster's first entry.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn remove(&mut self, id: ReplicaId) {
        self.table.remove(&id);
    }

    /// Who votes.
    pub fn voters(&self) -> Voters {
        let with = |roles: &[Role]| -> Vec<ReplicaId> {
            let of = self.iter().filter(|(_, member)| roles.contains(&member.role));
            of.map(|(id, _)| id).collect()
        };
        let joint = self.is_joint();
        Voters {
            incoming: with(&[Role::Voter, Role::Entering]),
            outgoing: if joint {
                with(&[Role::Voter, Role::Leaving])
            } else {
                Vec::new()
            },
            learners: with(&[Role::Learner]),
        }
    }

    /// Old and new voters both count.
    pub fn is_joint(&self) -> bool {
        self.iter()
            .any(|(_, member)| matches!(member.role, Role::Entering | Role::Leaving))
    }

    /// The change that is under way, in words.
    pub fn under_way(&self) -> Option<String> {
        let of = |role| {
            let of = self.iter().filter(|(_, member)| member.role == role);
            of.map(|(id, _)| id.to_string()).collect::<Vec<_>>()
        };
        let said = [
            (of(Role::Learner), "is being added"),
            (of(Role::Entering), "becomes a voter"),
            (of(Role::Leaving), "is being removed"),
        ];
        let said: Vec<String> = said
            .iter()
            .filter(|(ids, _)| !ids.is_empty())
            .map(|(ids, what)| format!("server {} {what}", ids.join(", ")))
            .collect();
        (!said.is_empty()).then(|| said.join(" and "))
    }

    fn must_rest(&self) -> Result<(), Rejected> {
        match self.under_way() {
            None => Ok(()),
            Some(what) => Err(invalid(
                "members",
                format!(
                    "{what}: one change at a time; wait for its end, or remove the server that is being added"
                ),
            )),
        }
    }

    pub(crate) fn check(&self) {
        self.table.check();
        let voters = self.voters();
        assert!(self.is_empty() || !voters.incoming.is_empty(), "somebody votes");
        assert!(self.table.len() <= MEMBERS_MAX + 1);
        for (_, member) in self.iter() {
            assert!(member.role == Role::Learner || member.replaces.is_none());
        }
        let resting = voters.learners.is_empty() || voters.outgoing.is_empty();
        assert!(voters.learners.len() <= 1 && resting, "one change at a time");
    }
}

/// As [`State::admits`], for the record of `id`, if there is one, and the greatest id ever used.
pub fn admits(
    member: Option<&Member>,
    last: ReplicaId,
    id: ReplicaId,
    incarnation: u64,
) -> Result<(), Stranger> {
    match member {
        Some(member) if member.incarnation != 0 && member.incarnation != incarnation => {
            Err(Stranger::OtherDisk {
                id,
                known: member.incarnation,
                said: incarnation,
            })
        }
        None if id <= last => Err(Stranger::Removed(id)),
        _ => Ok(()),
    }
}

impl State {
    /// Whether a server with this data directory may speak as `id`. One that is not known yet may: it may have been
    /// added by entries that are not here.
    pub fn admits(&self, id: ReplicaId, incarnation: u64) -> Result<(), Stranger> {
        match admits(self.members.get(id), self.meta().last_member, id, incarnation) {
            Err(Stranger::OtherDisk { .. }) if self.plant.is(Plant::OtherDiskAdmitted) => Ok(()),
            answer => answer,
        }
    }

    /// The key on disk of a server's record: for checkers.
    pub fn member_key(id: ReplicaId) -> Vec<u8> {
        let mut key = vec![super::number::MEMBERS];
        id.put(&mut key);
        key
    }

    /// True for an id that was a member's and is none's any more.
    pub fn was_removed(&self, id: ReplicaId) -> bool {
        id <= self.meta().last_member && self.members.get(id).is_none()
    }

    pub(super) fn found(&mut self, context: &Context, founders: &[Founder]) {
        for founder in founders {
            let member = Member {
                peer: founder.peer.clone(),
                client: founder.client.clone(),
                role: Role::Voter,
                incarnation: founder.incarnation,
                replaces: None,
            };
            self.members.table.insert(founder.id, member);
            if self.plant.is(Plant::MembersUnnoted) {
                self.members.table.forget_change(&founder.id);
            }
        }
        let last = founders
            .iter()
            .map(|founder| founder.id)
            .max()
            .unwrap_or_default();
        self.meta_mut().last_member = last;
        self.members_changed(context);
    }

    fn members_changed(&mut self, context: &Context) {
        self.meta_mut().members_changed = context.index;
        self.forget_builds();
    }

    fn members_rest(&self) -> Result<(), Rejected> {
        match self.plant.is(Plant::ChangesOverlap) {
            true => Ok(()),
            false => self.members.must_rest(),
        }
    }

    /// Whether a server may be added. The leader asks before it proposes, apply asks again.
    pub fn may_add(&self, new: &Founder, replaces: Option<ReplicaId>) -> Result<(), Rejected> {
        self.members_rest()?;
        if self.members.is_empty() {
            return Err(invalid("members", "the cluster has not begun".to_owned()));
        }
        let last = self.meta().last_member;
        if new.id <= last {
            let why = format!(
                "{} is in use or was used before, and ids never come back; take {} or more",
                new.id,
                last.0 + 1
            );
            return Err(invalid("server", why));
        }
        for (id, member) in self.members.iter() {
            let taken = [&member.peer, &member.client];
            for (field, address) in [("peer", &new.peer), ("client", &new.client)] {
                // The addresses of the one that goes may be used again: a hello names whom it is for.
                if taken.contains(&address) && Some(id) != replaces {
                    return Err(invalid(field, format!("{address} is server {id}'s already")));
                }
            }
        }
        if let Some(old) = replaces {
            let role = self.members.get(old).map(|member| member.role);
            if role != Some(Role::Voter) {
                return Err(Rejected::NotFound {
                    what: "server",
                    id: old.0,
                });
            }
        }
        if self.members.table.len() - usize::from(replaces.is_some()) >= MEMBERS_MAX {
            return Err(Rejected::TooMany {
                field: "server",
                limit: MEMBERS_MAX as u64,
                what: "servers",
            });
        }
        Ok(())
    }

    /// Whether a server may be removed; `false`: it was before.
    pub fn may_remove(&self, id: ReplicaId) -> Result<bool, Rejected> {
        let Some(member) = self.members.get(id) else {
            return match self.was_removed(id) && id.0 != 0 {
                true => Ok(false),
                false => Err(Rejected::NotFound {
                    what: "server",
                    id: id.0,
                }),
            };
        };
        if member.role == Role::Learner {
            return Ok(true);
        }
        self.members_rest()?;
        if self.members.table.len() == 1 {
            let why = format!("{id} is the only server; a cluster has at least one");
            return Err(invalid("server", why));
        }
        Ok(true)
    }

    pub(super) fn member_add(
        &mut self,
        context: &mut Context,
        new: &Founder,
        replaces: Option<ReplicaId>,
    ) -> Result<Reply, Rejected> {
        self.may_add(new, replaces)?;
        let member = Member {
            peer: new.peer.clone(),
            client: new.client.clone(),
            role: Role::Learner,
            incarnation: new.incarnation,
            replaces,
        };
        self.members.table.insert(new.id, member);
        if !self.plant.is(Plant::LastMemberKept) {
            self.meta_mut().last_member = new.id;
        }
        self.members_changed(context);
        let server = new.id;
        context.tell(EnvId::default(), None, Fact::MemberAdded { server, replaces });
        Ok(Reply::Done)
    }

    pub(super) fn member_met(
        &mut self,
        context: &mut Context,
        server: ReplicaId,
        incarnation: u64,
    ) -> Result<Reply, Rejected> {
        if let Err(stranger) = self.admits(server, incarnation) {
            return Err(invalid("incarnation", stranger.to_string()));
        }
        let not_found = Rejected::NotFound {
            what: "server",
            id: server.0,
        };
        let member = self.members.table.get_mut(&server).ok_or(not_found)?;
        if member.incarnation == 0 {
            member.incarnation = incarnation;
            self.members_changed(context);
            context.tell(EnvId::default(), None, Fact::MemberMet { server, incarnation });
        }
        Ok(Reply::Done)
    }

    pub(super) fn member_promote(
        &mut self,
        context: &mut Context,
        server: ReplicaId,
    ) -> Result<Reply, Rejected> {
        let learner = self.members.get(server).filter(|m| m.role == Role::Learner);
        let Some(replaces) = learner.map(|member| member.replaces) else {
            return Err(Rejected::NotFound {
                what: "learner",
                id: server.0,
            });
        };
        let joint = self.members.is_joint();
        if joint || learner.is_some_and(|member| member.incarnation == 0) {
            let why = format!("{server} cannot become a voter now");
            return Err(invalid("server", why));
        }
        self.set_role(server, Role::Entering);
        if let Some(old) = replaces.filter(|old| self.members.get(*old).is_some()) {
            self.set_role(old, Role::Leaving);
        }
        self.members_changed(context);
        context.tell(EnvId::default(), None, Fact::MemberPromoted { server, replaces });
        match self.plant.is(Plant::JointLeftOut) {
            true => self.members_settle(context),
            false => Ok(Reply::Done),
        }
    }

    fn set_role(&mut self, server: ReplicaId, role: Role) {
        let member = self.members.table.get_mut(&server).expect("just found");
        (member.role, member.replaces) = (role, None);
    }

    pub(super) fn member_remove(
        &mut self,
        context: &mut Context,
        server: ReplicaId,
    ) -> Result<Reply, Rejected> {
        if !self.may_remove(server)? {
            return Ok(Reply::Done);
        }
        let is_learner = self.members.get(server).map(|member| member.role) == Some(Role::Learner);
        if is_learner {
            self.members.table.remove(&server);
            context.tell(EnvId::default(), None, Fact::MemberRemoved { server });
        } else {
            self.set_role(server, Role::Leaving);
            context.tell(EnvId::default(), None, Fact::MemberLeaving { server });
        }
        self.members_changed(context);
        Ok(Reply::Done)
    }

    pub(super) fn members_settle(&mut self, context: &mut Context) -> Result<Reply, Rejected> {
        if !self.members.is_joint() {
            return Err(invalid("members", "no change is under way".to_owned()));
        }
        let roles: Vec<(ReplicaId, Role)> = self.members.iter().map(|(id, m)| (id, m.role)).collect();
        for (server, role) in roles {
            match role {
                Role::Entering => self.set_role(server, Role::Voter),
                Role::Leaving => {
                    self.members.table.remove(&server);
                    context.tell(EnvId::default(), None, Fact::MemberRemoved { server });
                }
                Role::Learner | Role::Voter => {}
            }
        }
        self.members_changed(context);
        let voters = self.members.voters().incoming;
        context.tell(EnvId::default(), None, Fact::MembersSettled { voters });
        Ok(Reply::Done)
    }
}

fn invalid(field: &'static str, why: String) -> Rejected {
    Rejected::Invalid { field, why }
}
