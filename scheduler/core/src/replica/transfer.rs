//! Leadership handed to another server: asked for by an operator, before a graceful stop, and by a leader that is to
//! be removed.

use raft::StateRole;

use super::Replica;
use crate::io::{Answer, Output};
use crate::limits::TRANSFER_TIMEOUT;
use crate::reply::{Refused, Rejected};
use crate::state::members::Role;
use crate::types::{AskId, ReplicaId};

/// A leadership on its way.
pub(super) struct Transfer {
    to: ReplicaId,
    /// Running time at which it is given up.
    until: u64,
    asks: Vec<AskId>,
}

impl Replica {
    /// An operator asks.
    pub(super) fn ask_transfer(&mut self, ask: AskId, to: Option<ReplicaId>, out: &mut Output) {
        if to == Some(self.config.id) {
            return self.answer(ask, Ok(Answer::Leads(self.config.id)), out);
        }
        match self.transfer_to(to) {
            Ok(_) => {
                let transfer = self.transfer.as_mut().expect("just begun");
                transfer.asks.push(ask);
            }
            Err(rejected) => self.answer(ask, Err(rejected.into()), out),
        }
    }

    /// True while this question's handing over is under way.
    pub(super) fn transfers_for(&self, ask: AskId) -> bool {
        self.transfer
            .as_ref()
            .is_some_and(|transfer| transfer.asks.contains(&ask))
    }

    /// Hands leadership over, if this replica leads and anybody can take it.
    pub(super) fn resign(&mut self) {
        // Nobody to take it: it stays, and whoever wants it gone tries again.
        let _ = self.transfer_to(None);
    }

    /// Begins to hand leadership to a voter: the one named, else the living one that has most of the log.
    pub(super) fn transfer_to(&mut self, to: Option<ReplicaId>) -> Result<ReplicaId, Rejected> {
        if let Some(under_way) = self.transfer.as_ref().filter(|t| to.is_none_or(|to| to == t.to)) {
            return Ok(under_way.to);
        }
        let to = match to {
            Some(id) => self.may_lead(id).map(|()| id)?,
            None => self.heir()?,
        };
        let until = self.elapsed + TRANSFER_TIMEOUT;
        let asks = self.transfer.take().map(|before| before.asks).unwrap_or_default();
        self.transfer = Some(Transfer { to, until, asks });
        self.raft.transfer_leader(to.0);
        Ok(to)
    }

    fn may_lead(&self, id: ReplicaId) -> Result<(), Rejected> {
        let field = "to";
        let role = self.state.members.get(id).map(|member| member.role);
        let why = match role {
            None => {
                return Err(Rejected::NotFound {
                    what: "server",
                    id: id.0,
                });
            }
            Some(Role::Learner) => format!("server {id} has no vote yet, so it cannot lead"),
            Some(Role::Leaving) => format!("server {id} is being removed, so it cannot lead"),
            Some(_) if !self.is_alive(id) => format!("server {id} is silent, so it cannot take over"),
            Some(_) => return Ok(()),
        };
        Err(Rejected::Invalid { field, why })
    }

    fn heir(&self) -> Result<ReplicaId, Rejected> {
        let matched = |id: ReplicaId| self.raft.raft.prs().get(id.0).map_or(0, |of| of.matched);
        let others = self.state.members.voters().incoming.into_iter();
        let fit = others.filter(|id| *id != self.config.id && self.may_lead(*id).is_ok());
        let best = fit.max_by_key(|id| (matched(*id), std::cmp::Reverse(*id)));
        best.ok_or_else(|| Rejected::Invalid {
            field: "to",
            why: "no other voter is alive, so nobody can take over".to_owned(),
        })
    }

    /// Sees a handing over to its end: the others' word, or the time limit.
    pub(super) fn watch_transfer(&mut self, out: &mut Output) {
        let Some(Transfer { to, until, .. }) = self.transfer else {
            return;
        };
        let leads = self.raft.raft.state == StateRole::Leader;
        let leader = self.leader_id().filter(|id| *id != self.config.id);
        let answer = match leader {
            Some(leader) => Ok(leader),
            None if self.elapsed <= until => {
                // raft gives up after one election timeout: the other may have been behind.
                if leads && self.raft.raft.lead_transferee.is_none() {
                    self.raft.transfer_leader(to.0);
                }
                return;
            }
            None if leads => Err(Refused::Rejected(Rejected::Invalid {
                field: "to",
                why: format!("server {to} did not take over in time; this one leads on"),
            })),
            None => Err(Refused::Unknown),
        };
        for ask in self
            .transfer
            .take()
            .map(|transfer| transfer.asks)
            .unwrap_or_default()
        {
            self.answer(ask, answer.clone().map(Answer::Leads), out);
        }
    }
}
