//! Faults: each kind comes again and again until the storm is over.

use rebound_core::event::{Event, Fact, Verdict};
use rebound_core::types::*;

use super::{Happening, SERVERS, World};
use crate::net::{FIRST_AGENT, Weather};

/// What can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Crash,
    Blackout,
    Partition,
    AgentCrash,
    StreamBreak,
    Pause,
}

impl World {
    pub(super) fn begin_storm(&mut self) {
        for kind in [
            Kind::Crash,
            Kind::Blackout,
            Kind::Partition,
            Kind::AgentCrash,
            Kind::StreamBreak,
            Kind::Pause,
        ] {
            self.next_fault(kind);
        }
    }

    fn next_fault(&mut self, kind: Kind) {
        let every = match kind {
            Kind::Crash => self.faults.crash_every,
            Kind::Blackout => self.faults.blackout_every,
            Kind::Partition => self.faults.partition_every,
            Kind::AgentCrash => self.faults.agent_crash_every,
            Kind::StreamBreak => self.faults.stream_break_every,
            Kind::Pause => self.faults.pause_every,
        };
        if every > 0 {
            let wait = self.fault_rng.within(every / 4, every * 7 / 4);
            self.after(wait, Happening::Fault(kind));
        }
    }

    pub(super) fn fault(&mut self, kind: Kind) {
        if self.calm {
            return;
        }
        match kind {
            Kind::Crash => {
                let server = self.leader_or_any();
                self.crash(server);
            }
            Kind::Blackout => (1..=SERVERS).for_each(|server| self.crash(server)),
            Kind::Partition => self.partition(),
            Kind::AgentCrash => self.crash_agent(),
            Kind::StreamBreak => self.break_a_stream(),
            Kind::Pause => self.pause(),
        }
        self.next_fault(kind);
    }

    /// A server; every other time the one that leads.
    fn leader_or_any(&mut self) -> u64 {
        let any = self.fault_rng.within(1, SERVERS);
        let leads =
            |server: &&crate::hosts::Server| server.replica.as_ref().is_some_and(|r| r.status().ready);
        let leader = self.servers.iter().find(leads).map(|server| server.id().0);
        if self.fault_rng.chance(500_000) {
            leader.unwrap_or(any)
        } else {
            any
        }
    }

    fn crash(&mut self, id: u64) {
        let down = self.fault_rng.within(100 * MILLISECOND, self.faults.down_max);
        if self.server(id).replica.take().is_none() {
            return;
        }
        self.count("crashes");
        let server = &mut self.servers[id as usize - 1];
        server.life += 1;
        server.paused_until = 0;
        server.inbox.clear();
        let lost = server.disk.crash(&mut self.fault_rng);
        if lost {
            self.count("crashes with unsynced loss");
        }
        self.asks.retain(|(server, _), _| *server != id);
        self.break_streams_of(id);
        self.after(down, Happening::Start { server: id });
    }

    fn partition(&mut self) {
        if self.net.is_cut() {
            return;
        }
        self.count("partitions");
        let alone = self.leader_or_any();
        let how = self.fault_rng.within(0, 3);
        for other in (1..=SERVERS).filter(|other| *other != alone) {
            // Both ways, unheard, deaf; the last kind cuts off the agents alone.
            if how == 0 || how == 1 {
                self.net.cut(alone, other);
            }
            if how == 0 || how == 2 {
                self.net.cut(other, alone);
            }
        }
        if how == 3 || self.fault_rng.chance(500_000) {
            for agent in 0..self.agents.len() as u64 {
                if self.fault_rng.chance(600_000) {
                    self.net.cut(FIRST_AGENT + agent, alone);
                    self.net.cut(alone, FIRST_AGENT + agent);
                }
            }
        }
        let long = self
            .fault_rng
            .within(200 * MILLISECOND, self.faults.partition_max);
        self.after(long, Happening::Heal);
    }

    fn crash_agent(&mut self) {
        let agent = self.fault_rng.within(0, self.agents.len() as u64 - 1) as usize;
        // Short enough to be back before anybody missed it, or longer than a lease.
        let down = match self.fault_rng.chance(500_000) {
            true => self.fault_rng.within(100 * MILLISECOND, 3 * SECOND),
            false => self.fault_rng.within(11 * SECOND, 20 * SECOND),
        };
        let host = &mut self.agents[agent];
        if host.machine.take().is_some() {
            host.life += 1;
            host.stream = None;
            self.count("agent crashes");
            self.streams.retain(|_, (of, _)| *of != agent);
            self.after(down, Happening::StartAgent { agent });
        }
    }

    fn break_a_stream(&mut self) {
        let agent = self.fault_rng.within(0, self.agents.len() as u64 - 1) as usize;
        if let Some(stream) = self.agents[agent].stream {
            self.count("streams broken");
            self.broken(agent, stream);
        }
    }

    fn pause(&mut self) {
        let id = self.leader_or_any();
        let until = self.now + self.fault_rng.within(100 * MILLISECOND, self.faults.down_max);
        if self.server(id).replica.is_some() {
            self.count("pauses");
            let server = self.server(id);
            server.paused_until = server.paused_until.max(until);
        }
    }

    /// The storm is over: what is broken is mended, and everything must converge.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.net.heal();
        self.net.weather = Weather::CALM;
        for server in 1..=SERVERS {
            self.start_server(server);
        }
        (0..self.agents.len()).for_each(|agent| self.start_agent(agent));
        self.after(SECOND, Happening::Look);
    }

    /// Counts what a leader's events tell.
    pub(super) fn note_leader(&mut self, term: Term, events: &[Event]) {
        if self.last_term != term {
            if self.last_term != 0 {
                self.count("leader changes");
            }
            self.last_term = term;
        }
        for event in events {
            match event.fact {
                Fact::RunGiven { given, .. } => drop(self.given_in.insert(given, term)),
                Fact::Recorded { given, count, .. } => {
                    *self.counters.entry("tasks ended").or_default() += count;
                    if self.given_in.get(&given).is_some_and(|of| *of < term) {
                        *self.counters.entry("tasks ended after a failover").or_default() += count;
                    }
                }
                Fact::Refused {
                    verdict: Verdict::AlreadyRecorded,
                    ..
                } => self.count("duplicated results refused"),
                Fact::Refused { .. } => self.count("stale results refused"),
                Fact::WorkerLost { .. } => self.count("WorkerLost"),
                Fact::Requeued { .. } => self.count("tasks requeued"),
                Fact::JobCancelled { .. } => self.count("jobs cancelled"),
                Fact::PieceDropped { .. } => self.count("plan pieces dropped"),
                _ => {}
            }
        }
    }
}
