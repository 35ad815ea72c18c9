//! Faults of servers, their disks and clocks, and of agents; and herds.

use rebound_agent::machine::Input as AgentInput;
use rebound_core::types::*;

use super::{Calls, Happening, World};
use crate::clients::Client;
use crate::disk::Loss;
use crate::faults::Kind;

/// A follower that is to need a snapshot misses everything for at least so long, in µs.
const BEHIND: u64 = 12 * SECOND;
/// A wall clock jumps by at most so much, in µs.
const JUMP_MAX: u64 = 3_600 * SECOND;

impl World {
    /// A server ends by itself and is started again after a while.
    pub(super) fn end(&mut self, id: u64, kind: Kind, down: u64) {
        self.end_with(id, Loss::Batches, kind, down);
    }

    pub(super) fn end_with(&mut self, id: u64, loss: Loss, kind: Kind, down: u64) {
        if self.server(id).replica.take().is_none() {
            return;
        }
        let dice = self.dice.get_mut(&kind).expect("each kind has its own");
        let server = &mut self.servers[id as usize - 1];
        server.life += 1;
        server.paused_until = 0;
        server.inbox.clear();
        let lost = server.disk.crash(loss, dice);
        self.checks.leases.goes_on(self.now);
        self.checks.fresh.stands(id, self.now, 0, false);
        if lost.batches > 0 {
            self.count("ends with unsynced loss");
        }
        if lost.torn {
            self.count(Kind::Torn.name());
        }
        self.asks.retain(|(server, _), _| *server != id);
        self.reads.retain(|(server, _), _| *server != id);
        self.break_streams_of(id);
        self.after(down, Happening::Start { server: id });
    }

    /// Power fails, for one server or for all.
    pub(super) fn power(&mut self) {
        let kind = Kind::Power;
        let Some(strength) = self.faults.of(kind) else {
            return;
        };
        let one = self.leader_or_any(kind);
        let all = self.dice(kind).chance(strength.ppm);
        if all {
            self.count("power lost by all");
        }
        for id in self.present().into_iter().filter(|id| all || *id == one) {
            let (down, torn_ppm) = (self.length(kind), self.faults.ppm(Kind::Torn));
            let torn = self.dice(kind).chance(torn_ppm);
            self.count(kind.name());
            let loss = if torn { Loss::Bytes } else { Loss::Batches };
            self.end_with(id, loss, kind, down);
        }
    }

    /// A record rots, never on a majority. Half of the times the server is started again soon, and finds it.
    pub(super) fn rot(&mut self) {
        let kind = Kind::Rot;
        let id = self.leader_or_any(kind);
        let damaged = self
            .servers
            .iter()
            .filter(|server| server.id().0 != id && server.is_present())
            .filter(|server| server.lost.is_some() || server.disk.durable().is_damaged());
        if 2 * (damaged.count() + 1) >= self.present().len() {
            return;
        }
        let dice = self.dice.get_mut(&kind).expect("each kind has its own");
        if self.servers[id as usize - 1].disk.rot(dice).is_none() {
            return;
        }
        self.count(kind.name());
        if self.dice(kind).chance(300_000) {
            self.end_with(id, Loss::Nothing, kind, SECOND);
        } else if self.leader() == Some(id) {
            // Somebody will need a snapshot of what has rotted.
            self.misses_all(kind, BEHIND);
        }
    }

    /// A server whose disk is damaged stays down until a good copy of it is there.
    pub(super) fn shelve(&mut self, id: u64) {
        let until = self.now + self.length(Kind::Rot).max(SECOND);
        let server = self.server(id);
        server.shelved_until = until;
        server.disk.restore();
        self.at(until, Happening::Start { server: id });
    }

    /// Writes or syncs fail, once or for a while.
    pub(super) fn break_disk(&mut self) {
        let kind = Kind::WriteError;
        let (id, until) = (self.leader_or_any(kind), self.now + self.length(kind));
        let of_sync = self.dice(kind).chance(500_000);
        self.count(kind.name());
        let server = self.server(id);
        match of_sync {
            true => server.unsyncable_until = until,
            false => server.broken_until = until,
        }
    }

    pub(super) fn fill_disk(&mut self) {
        let kind = Kind::Full;
        let (id, until) = (self.leader_or_any(kind), self.now + self.length(kind));
        self.count(kind.name());
        self.server(id).full_until = until;
    }

    pub(super) fn slow_disk(&mut self) {
        let kind = Kind::SlowDisk;
        let (id, until) = (self.leader_or_any(kind), self.now + self.length(kind));
        self.count(kind.name());
        self.server(id).slow_until = until;
    }

    /// A wall clock is suddenly another one, ahead or behind.
    pub(super) fn jump_clock(&mut self) {
        let kind = Kind::Clock;
        let id = self.leader_or_any(kind);
        let far = self.dice(kind).scaled(MILLISECOND, JUMP_MAX) as i64;
        let ahead = if self.dice(kind).chance(500_000) {
            far
        } else {
            -far
        };
        self.count(kind.name());
        self.server(id).clocks.ahead = ahead;
    }

    pub(super) fn pause(&mut self) {
        let kind = Kind::Pause;
        let (id, until) = (self.leader_or_any(kind), self.now + self.length(kind));
        let until = until.min(self.faults.load.storm);
        if self.server(id).replica.is_some() {
            self.count(kind.name());
            let server = self.server(id);
            server.paused_until = server.paused_until.max(until);
            let until = server.paused_until;
            if self.present().len() == 1 {
                self.checks.leases.stands_still(self.now, until);
            }
        }
    }

    fn any_agent(&mut self, kind: Kind) -> usize {
        let agents = self.agents.len() as u64;
        self.dice(kind).within(0, agents - 1) as usize
    }

    pub(super) fn crash_agent(&mut self) {
        let kind = Kind::AgentCrash;
        let (agent, down) = (self.any_agent(kind), self.length(kind));
        let host = &mut self.agents[agent];
        if host.machine.take().is_some() {
            host.life += 1;
            host.stream = None;
            self.count(kind.name());
            self.streams.retain(|_, (of, _)| *of != agent);
            self.after(down, Happening::StartAgent { agent });
        }
    }

    /// An agent is asked to end: it hands back what it has not started, and says good-bye.
    pub(super) fn agent_leaves(&mut self) {
        let agent = self.any_agent(Kind::AgentLeave);
        if self.agents[agent].machine.is_some() && self.agents[agent].paused_until <= self.now {
            self.count(Kind::AgentLeave.name());
            let why = "asked to".into();
            self.agent_input(agent, AgentInput::Leave { why });
        }
    }

    /// An agent stands still with work in hand; what it then says comes after its lease.
    pub(super) fn pause_agent(&mut self) {
        let kind = Kind::Zombie;
        let agent = self.any_agent(kind);
        let long = self.length(kind).max(11 * SECOND);
        if self.agents[agent].machine.is_some() {
            self.count(kind.name());
            self.agents[agent].paused_until = (self.now + long).min(self.faults.load.storm);
        }
    }

    /// All agents come back at once, and many jobs with them.
    pub(super) fn herd(&mut self) {
        let kind = Kind::Herd;
        self.count(kind.name());
        for agent in 0..self.agents.len() {
            if let Some(stream) = self.agents[agent].stream {
                self.broken(agent, stream);
            }
        }
        let jobs = self.dice(kind).within(5, 25);
        self.submit_at_once(kind, jobs, false);
    }

    /// Far more comes than the cluster takes, and most of it in a hurry.
    pub(super) fn overload(&mut self) {
        let kind = Kind::Overload;
        self.count(kind.name());
        let jobs = self.dice(kind).within(10, 30);
        self.submit_at_once(kind, jobs, true);
    }

    fn submit_at_once(&mut self, kind: Kind, jobs: u64, hurries: bool) {
        let (now, servers) = (self.now, self.count_servers());
        for _ in 0..jobs {
            let number = self.clients.len();
            let mut client = Client::draw(number as u64, now, servers, self.dice(kind));
            client.photos = client.photos.min(10);
            client.hurries = hurries;
            client.shares_key = self.faults.load.tenants.len() > 1;
            let tries = client.tries;
            self.clients.push(client);
            self.calls.push(Calls::new());
            self.after(
                0,
                Happening::Ask {
                    client: number,
                    tries,
                },
            );
        }
    }
}
