//! Faults of the network.

use rebound_core::types::*;

use super::{Happening, World};
use crate::faults::Kind;
use crate::net::{CLIENTS, FIRST_AGENT, Node};

/// A leader that is cut off in a spell of churn stays so for at most so long, in µs: longer than an election.
const CHURN_CUT: u64 = 2_500 * MILLISECOND;

impl World {
    fn cut_for(&mut self, links: Vec<(Node, Node)>, long: u64) {
        let reason = self.net.cut(links);
        self.after(long, Happening::Mend { reason });
    }

    fn others(&self, than: u64) -> Vec<u64> {
        let mut others = self.present();
        others.retain(|other| *other != than);
        others
    }

    fn agents_and_clients(&self) -> Vec<Node> {
        (0..self.agents.len() as u64)
            .map(|agent| FIRST_AGENT + agent)
            .chain([CLIENTS])
            .collect()
    }

    /// A path is clogged: what is on it comes late and at once.
    pub(super) fn clog(&mut self) {
        let kind = Kind::Clog;
        let (one, long) = (self.leader_or_any(kind), self.length(kind));
        let mut ends = self.others(one);
        ends.extend(
            self.agents_and_clients()
                .into_iter()
                .filter(|node| *node != CLIENTS),
        );
        let Some(other) = self.dice(kind).pick(&ends).copied() else {
            return;
        };
        let (from, to) = match self.dice(kind).chance(500_000) {
            true => (one, other),
            false => (other, one),
        };
        self.count(kind.name());
        let until = self.now + long;
        self.net.clog(from, to, until);
    }

    /// Servers are cut from each other, both ways.
    pub(super) fn partition(&mut self) {
        let kind = Kind::Partition;
        let (alone, long) = (self.leader_or_any(kind), self.length(kind));
        let others = self.others(alone);
        if others.is_empty() {
            return;
        }
        let mut pairs = Vec::new();
        match self.dice(kind).within(0, 2) {
            0 => {
                self.count("isolated servers");
                pairs.extend(others.iter().map(|other| (alone, *other)));
            }
            1 => {
                // Each hears only its neighbours; of three, two hear the third.
                self.count("majority rings");
                let present = self.present();
                let all = present.len();
                let near = |a: usize, b: usize| (a + 1) % all == b % all || (b + 1) % all == a % all;
                let all_pairs = (0..all).flat_map(|a| (a + 1..all).map(move |b| (a, b)));
                let far = all_pairs.filter(|(a, b)| !near(*a, *b));
                match all {
                    3 => pairs.extend(others.first().map(|other| (alone, *other))),
                    _ => pairs.extend(far.map(|(a, b)| (present[a], present[b]))),
                }
            }
            _ => {
                self.count("splits");
                let mut with = vec![alone];
                with.extend(others.iter().take(others.len() / 2));
                let rest = others.iter().skip(others.len() / 2);
                pairs.extend(rest.flat_map(|other| with.iter().map(move |one| (*one, *other))));
            }
        }
        self.count(kind.name());
        if self.dice(kind).chance(400_000) {
            let some = self.agents_and_clients();
            let some = some
                .into_iter()
                .filter(|_| self.dice.get_mut(&kind).is_some_and(|dice| dice.chance(500_000)));
            let some: Vec<_> = some.map(|node| (alone, node)).collect();
            pairs.extend(some);
        }
        let links = pairs.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        self.cut_for(links, long);
    }

    /// A server is unheard, or deaf, or does not hear one other.
    pub(super) fn one_way(&mut self) {
        let kind = Kind::OneWay;
        let (alone, long) = (self.leader_or_any(kind), self.length(kind));
        let others = self.others(alone);
        let Some(one) = self.dice(kind).pick(&others).copied() else {
            return;
        };
        let links = match self.dice(kind).within(0, 2) {
            0 => others.iter().map(|other| (alone, *other)).collect(),
            1 => others.iter().map(|other| (*other, alone)).collect(),
            _ => vec![(one, alone)],
        };
        self.count(kind.name());
        self.cut_for(links, long);
    }

    /// Agents cannot reach the leader; they can reach everybody else.
    pub(super) fn cut_agents(&mut self) {
        let kind = Kind::AgentsCut;
        let (Some(leader), long) = (self.leader(), self.length(kind)) else {
            return;
        };
        let mut links = Vec::new();
        for agent in 0..self.agents.len() as u64 {
            if self.dice(kind).chance(700_000) {
                links.extend([(FIRST_AGENT + agent, leader), (leader, FIRST_AGENT + agent)]);
            }
        }
        if !links.is_empty() {
            self.count(kind.name());
            self.cut_for(links, long);
        }
    }

    /// The leader is cut off for a moment, again and again.
    pub(super) fn churn(&mut self, until: u64) {
        if self.calm || self.now >= until {
            return;
        }
        let kind = Kind::Churn;
        if let Some(leader) = self.leader().filter(|_| self.present().len() > 1) {
            self.count(kind.name());
            let long = self.dice(kind).within(MILLISECOND * 700, CHURN_CUT);
            let links = self
                .others(leader)
                .into_iter()
                .flat_map(|other| [(leader, other), (other, leader)]);
            self.cut_for(links.collect(), long);
        }
        let wait = self.dice(kind).within(SECOND, 5 * SECOND);
        self.after(wait, Happening::Churn { until });
    }

    /// A follower misses everything; the leader's log may be cut meanwhile.
    pub(super) fn leave_behind(&mut self) {
        if self.misses_all(Kind::Lag, 0) {
            self.count(Kind::Lag.name());
        }
    }

    /// A follower is cut off for a while, at least for `least`. False when there is none.
    pub(super) fn misses_all(&mut self, kind: Kind, least: u64) -> bool {
        let (leader, long) = (self.leader(), self.length(kind).max(least));
        let mut followers = self.present();
        followers.retain(|one| Some(*one) != leader);
        let Some(one) = self.dice(kind).pick(&followers).copied() else {
            return false;
        };
        self.cut_off(one, long);
        true
    }

    /// A server neither hears the others nor is heard by them.
    pub(super) fn cut_off(&mut self, one: u64, long: u64) {
        let links = self
            .others(one)
            .into_iter()
            .flat_map(|other| [(one, other), (other, one)]);
        self.cut_for(links.collect(), long);
    }

    pub(super) fn break_a_stream(&mut self) {
        let agents = self.agents.len() as u64;
        let agent = self.dice(Kind::StreamBreak).within(0, agents - 1) as usize;
        if let Some(stream) = self.agents[agent].stream {
            self.count(Kind::StreamBreak.name());
            self.broken(agent, stream);
        }
    }
}
