//! Servers that come and go: an operator adds, replaces and removes them, the leader too, and replaces those that lost
//! their disk. He knows what a member list shows, and asks again until it shows what he wants.

use std::collections::BTreeSet;

use rebound_core::io::{Answer, Request};
use rebound_core::replica::changes_members;
use rebound_core::reply::Refused;
use rebound_core::state::State;
use rebound_core::state::members::{Founder, Member, Role};
use rebound_core::table::decode;
use rebound_core::types::*;

use super::backup::Backup;
use super::{Asker, Happening, World};
use crate::disk::Disk;
use crate::faults::Kind;
use crate::hosts::Server;

/// He looks so often.
const LOOKS: u64 = 2 * SECOND;
/// He gives up what has not even begun after so long.
const PATIENCE: u64 = 60 * SECOND;
/// How often somebody else asks for a change while one is under way, each time he looks, in a million.
const SECOND_PPM: u64 = 500_000;
/// Voters at most, and servers that ever were.
const VOTERS_MAX: usize = 7;
const EVER_MAX: usize = 40;
/// A disk made anew under an old id has a number so much greater.
const ANOTHER_DISK: u64 = 1_000;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Add { new: u64, replaces: Option<u64> },
    Remove { server: u64, led: bool },
}

/// The operator.
#[derive(Default)]
pub(super) struct Operator {
    aim: Option<(Aim, u64)>,
    /// Whom he asks.
    asks: u64,
    /// What he ever asked to be added, and in place of whom.
    added: BTreeSet<(u64, Option<u64>)>,
    /// What he saved.
    pub(super) backup: Backup,
}

impl World {
    /// Servers that have been started and are not gone for good.
    pub(super) fn present(&self) -> Vec<u64> {
        let there = self.servers.iter().filter(|server| server.is_present());
        there.map(|server| server.id().0).collect()
    }

    /// The next server to be tried after this one.
    pub(super) fn next_server(&self, after: u64) -> u64 {
        let present = self.present();
        let next = present.iter().find(|id| **id > after).or(present.first());
        next.copied().unwrap_or(1)
    }

    /// The state of whoever has applied most: all of it is committed.
    pub(super) fn newest_state(&self) -> Option<&State> {
        let own = self.servers.iter().filter(|server| server.lost.is_none());
        let states = own.filter_map(|server| Some(server.replica.as_ref()?.state()));
        states.max_by_key(|state| state.applied())
    }

    fn role_of(&self, id: u64) -> Option<Role> {
        let state = self.newest_state()?;
        state.members.get(ReplicaId(id)).map(|member| member.role)
    }

    fn was_removed(&self, id: u64) -> bool {
        self.newest_state()
            .is_some_and(|state| state.was_removed(ReplicaId(id)))
    }

    fn voters(&self) -> Vec<u64> {
        let voters = self.newest_state().map(|state| state.members.voters().incoming);
        voters.unwrap_or_default().iter().map(|id| id.0).collect()
    }

    /// A server that lost its disk and still counts.
    fn lost_member(&self) -> Option<u64> {
        let counts = |server: &&Server| server.lost.is_some() && !self.was_removed(server.id().0);
        self.servers.iter().find(counts).map(|server| server.id().0)
    }

    /// Looks at the members, and asks for what is wanted.
    pub(super) fn operate(&mut self) {
        self.start_added();
        self.judge_aim();
        if self.operator.aim.is_none()
            && let Some(old) = self.lost_member()
            && self.role_of(old) == Some(Role::Voter)
        {
            self.aim_to_add(Some(old));
        }
        self.allots();
        self.steers();
        self.back_up();
        self.second_operator();
        match self.operator.aim {
            Some(_) => self.ask_for_aim(),
            None => self.finalize(),
        }
        self.after(LOOKS, Happening::Operate);
    }

    /// A new one is started once the member list has it.
    fn start_added(&mut self) {
        let waits = |server: &&Server| server.absent && self.role_of(server.id().0).is_some();
        let added: Vec<u64> = self.servers.iter().filter(waits).map(|s| s.id().0).collect();
        for id in added {
            self.server(id).absent = false;
            self.start_server(id);
        }
    }

    /// Is it so? Then he wants nothing more, and says what was done.
    fn judge_aim(&mut self) {
        let Some((aim, since)) = self.operator.aim else {
            return;
        };
        let (done, begun, what) = match aim {
            Aim::Add { new, replaces } => {
                let votes = self.role_of(new) == Some(Role::Voter);
                let gone = replaces.is_none_or(|old| self.was_removed(old));
                let lost = replaces.is_some_and(|old| self.host(old).lost.is_some());
                let what = match (replaces, lost) {
                    (None, _) => "servers added",
                    (Some(_), false) => "servers replaced",
                    (Some(_), true) => "lost disks replaced",
                };
                (votes && gone, self.role_of(new).is_some(), what)
            }
            Aim::Remove { server, led } => {
                let what = if led { "leaders removed" } else { "servers removed" };
                let begun = self.role_of(server) == Some(Role::Leaving);
                (self.was_removed(server), begun, what)
            }
        };
        if done {
            self.count(what);
            self.count(Kind::Members.name());
        }
        if let Aim::Add {
            new,
            replaces: Some(old),
        } = aim
            && self.role_of(new) == Some(Role::Voter)
            && self.role_of(old) == Some(Role::Voter)
        {
            // An earlier request, to add it in place of none or of another, came late.
            let otherwise = |(one, of): &(u64, Option<u64>)| *one == new && *of != Some(old);
            if !self.operator.added.iter().any(otherwise) {
                let violation = format!("members: server {new} was added for server {old}, and both vote");
                self.checks.violated(violation);
            }
            self.count("servers added that were to replace");
            self.operator.aim = Some((
                Aim::Remove {
                    server: old,
                    led: false,
                },
                self.now,
            ));
            return;
        }
        if done || !begun && self.now - since > PATIENCE {
            self.operator.aim = None;
        }
    }

    fn ask_for_aim(&mut self) {
        let Some((aim, _)) = self.operator.aim else {
            return;
        };
        if let Aim::Add { new, replaces } = aim {
            self.operator.added.insert((new, replaces));
        }
        let request = match aim {
            Aim::Add { new, replaces } => Request::AddMember {
                new: Founder::named(ReplicaId(new)),
                replaces: replaces.map(ReplicaId),
            },
            Aim::Remove { server, .. } => Request::RemoveMember(ReplicaId(server)),
        };
        self.operator_asks(request);
    }

    /// While a change is under way somebody asks for another one, and must be refused.
    fn second_operator(&mut self) {
        let kind = Kind::Members;
        let under_way = |state: &State| state.members.under_way().is_some();
        let voters = self.voters();
        let may = self.faults.of(kind).is_some() && !self.calm && voters.len() > self.least_voters();
        if may
            && self.newest_state().is_some_and(under_way)
            && self.dice(kind).chance(SECOND_PPM)
            && let Some(id) = self.dice(kind).pick(&voters).copied()
        {
            self.operator_asks(Request::RemoveMember(ReplicaId(id)));
        }
    }

    /// Never so few that one lost disk would be a majority.
    fn least_voters(&self) -> usize {
        match self.faults.of(Kind::LostDisk).is_some() {
            true => 3,
            false => 1,
        }
    }

    pub(super) fn operator_asks(&mut self, request: Request) {
        let server = self
            .leader()
            .unwrap_or_else(|| self.next_server(self.operator.asks));
        self.operator.asks = server;
        self.trace
            .operator(self.now, "asks", &(server, self.operator.aim.map(|(aim, _)| aim)));
        self.question(server, Asker::Operator, 0, LOOKS, request);
    }

    /// He looks again anyway; only what is wrong with a good request matters.
    pub(super) fn operator_hears(&mut self, answer: &Result<Answer, Refused>) {
        self.trace.operator(self.now, "is told", answer);
        if let Err(Refused::Rejected(why)) = answer {
            let why = why.to_string();
            if why.contains("upgrade it first") {
                self.count("upgrades refused: an older build is there");
            } else if why.contains("is silent") {
                self.count("changes refused: a server is silent");
            } else if why.contains("one change at a time") {
                self.count("changes refused: another is under way");
            }
        }
    }

    fn aim_to_add(&mut self, replaces: Option<u64>) {
        let last = self.newest_state().map_or(0, |state| state.meta().last_member.0);
        let new = last + 1;
        if new as usize > EVER_MAX || last < self.faults.load.servers {
            return;
        }
        while (self.servers.len() as u64) < new {
            let next = self.newcomer();
            self.servers.push(next);
        }
        self.operator.aim = Some((Aim::Add { new, replaces }, self.now));
    }

    /// As a server that is added is configured: like the others, and without a list of first ones.
    fn newcomer(&mut self) -> Server {
        let id = self.count_servers() + 1;
        let mut config = self.servers[0].config.clone();
        config.id = ReplicaId(id);
        config.founders = Vec::new();
        config.incarnation = id;
        let mut server = Server::new(config, self.servers[0].clocks);
        server.clocks.ahead = 0;
        server.absent = true;
        self.draws_build(&mut server);
        server
    }

    /// Changes of members that are not at their end yet, and servers that must still be replaced.
    pub(super) fn members_unsettled(&self) -> Option<String> {
        let lost = self
            .lost_member()
            .map(|id| format!("server {id} lost its disk and is not replaced"));
        lost.or_else(|| self.newest_state()?.members.under_way())
    }

    /// One more, one less, another one, or another leader: never so few that one lost disk would be a majority.
    pub(super) fn change_members(&mut self) {
        let kind = Kind::Members;
        if self.operator.aim.is_some() || self.lost_member().is_some() {
            return;
        }
        let voters = self.voters();
        let least = self.least_voters();
        let one = self.dice(kind).pick(&voters).copied();
        let leader = self.leader().filter(|leader| voters.contains(leader));
        let server = match self.dice(kind).chance(400_000) {
            true => leader.or(one),
            false => one,
        };
        let Some(server) = server else { return };
        let led = leader == Some(server);
        match self.dice(kind).within(0, 2) {
            0 if voters.len() > least => self.operator.aim = Some((Aim::Remove { server, led }, self.now)),
            // The only one is not replaced at once: it would have nobody to hand over to.
            1 if voters.len() > 1 => self.aim_to_add(Some(server)),
            _ if voters.len() < VOTERS_MAX => self.aim_to_add(None),
            _ => {}
        }
        if self.operator.aim.is_some() {
            self.ask_for_aim();
        }
    }

    /// A server loses its disk for ever, and somebody starts it again under its id. Never one more than the others
    /// can do without: all of them know its disk, and no change of members is on its way.
    pub(super) fn lose_disk(&mut self) {
        let kind = Kind::LostDisk;
        let (id, down) = (self.leader_or_any(kind), self.length(kind));
        if !self.may_lose(id) {
            return;
        }
        self.count(kind.name());
        let last = self.host(id).disk.durable().last_index();
        self.end(id, kind, down);
        let server = self.server(id);
        server.disk = Disk::default().planted(server.config.plant);
        server.lost = Some(last);
        server.config.incarnation += ANOTHER_DISK;
        // Alone a majority, it would begin at once, and what it begins is another cluster: its id holds the disk's
        // number, and no server of this one listens to it.
        if server.config.founders.len() == 1 {
            server.config.founders.clear();
        }
    }

    fn may_lose(&self, id: u64) -> bool {
        let voters = self.voters();
        let others = || {
            self.servers
                .iter()
                .filter(|other| other.id().0 != id && other.is_present())
        };
        let Some(state) = self.newest_state() else {
            return false;
        };
        let rests = state.members.under_way().is_none() && self.lost_member().is_none();
        let later = |server: &Server| {
            let log = server.disk.image().entries_after(state.applied());
            log.into_iter().any(|bytes| changes_members(&bytes))
        };
        let known = |server: &Server| {
            let record = server
                .disk
                .durable()
                .state_record(&State::member_key(ReplicaId(id)));
            let member: Option<Member> = record.and_then(|bytes| decode(bytes).ok());
            member.is_some_and(|member| member.incarnation == self.host(id).config.incarnation)
        };
        let whole = |server: &Server| server.shelved_until <= self.now && !server.disk.durable().is_damaged();
        self.host(id).replica.is_some()
            && voters.len() >= 3
            && voters.contains(&id)
            && rests
            && others().all(|server| known(server) && whole(server) && !later(server))
            && !later(self.host(id))
    }
}
