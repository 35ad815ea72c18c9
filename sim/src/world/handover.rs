//! Leadership that is handed over: an operator asks for it, or a server is about to stop and resigns first. Meanwhile the
//! one that hands over, or the one that takes, may end, or may not be heard.

use rebound_core::io::{Answer, Input, Request};
use rebound_core::reply::{Refused, Rejected};
use rebound_core::types::*;

use super::{Asker, Happening, World};
use crate::disk::Loss;
use crate::faults::Kind;

/// A server that stops waits so long for another one to take over, as `scheduler/src/node.rs` has it.
const RESIGN_TIMEOUT: u64 = 2 * SECOND;
/// It looks so often whether one has.
const LOOKS: u64 = 10 * MILLISECOND;
/// Longer than a handing over is tried for: an answer comes of it.
const ANSWERED_IN: u64 = 10 * SECOND;
/// An end comes this much later at most: every other one while leadership is on its way, mostly.
const ENDS_WITHIN: u64 = 400 * MILLISECOND;
const ENDS_LATER: u64 = 2 * SECOND;
/// One of the two is cut off for so long: longer than a handing over is tried for.
const CUT_OFF: u64 = 3 * SECOND;

/// What comes of it later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A server that resigned looks whether it may stop, and stops anyway in the end.
    Stop {
        server: u64,
        life: u64,
        until: u64,
        down: u64,
    },
    /// One of the two ends; `from` handed over in that term.
    End { one: u64, from: u64, term: Term },
}

impl World {
    /// Leadership is to go to another server.
    pub(super) fn hand_over(&mut self) {
        let kind = Kind::Transfer;
        let others = |leader: &u64| self.present().iter().any(|one| one != leader);
        let Some(leader) = self.leader().filter(others) else {
            return;
        };
        let present = self.present();
        let heirs: Vec<u64> = present.into_iter().filter(|one| *one != leader).collect();
        let heir = self.dice(kind).pick(&heirs).copied().unwrap_or(leader);
        let term = self.term_of(leader);
        self.count(kind.name());
        match self.dice(kind).within(0, 3) {
            0 => {
                if self.dice(kind).chance(250_000) {
                    self.cut_off(leader, CUT_OFF);
                }
                self.stops_gracefully(leader);
            }
            1 => self.asks_for_transfer(leader, None),
            2 => {
                self.asks_for_transfer(leader, Some(heir));
                if self.dice(kind).chance(400_000) {
                    self.cut_off(heir, CUT_OFF);
                }
            }
            // Whoever is asked, for whomever.
            _ => {
                let (asked, to) = (self.any_server(kind), self.any_server(kind));
                self.asks_for_transfer(asked, Some(to));
            }
        }
        if self.dice(kind).chance(400_000) {
            let one = match self.dice(kind).chance(500_000) {
                true => leader,
                false => heir,
            };
            let wait = match self.dice(kind).chance(500_000) {
                true => self.dice(kind).scaled(MILLISECOND / 10, ENDS_WITHIN),
                false => self.dice(kind).within(ENDS_WITHIN, ENDS_LATER),
            };
            let from = leader;
            self.after(wait, Happening::Handover(Step::End { one, from, term }));
        }
    }

    pub(super) fn term_of(&self, id: u64) -> Term {
        let replica = self.host(id).replica.as_ref();
        replica.map_or(0, |replica| replica.status().term)
    }

    fn asks_for_transfer(&mut self, server: u64, to: Option<u64>) {
        let request = Request::Transfer(to.map(ReplicaId));
        self.question(server, Asker::Transfer, 0, ANSWERED_IN, request);
    }

    /// It is told to stop: it hands over, if anybody can take it.
    fn stops_gracefully(&mut self, server: u64) {
        let down = self.length(Kind::Transfer);
        let (life, until) = (self.host(server).life, self.now + RESIGN_TIMEOUT);
        self.inputs(server, vec![Input::Resign]);
        let step = Step::Stop {
            server,
            life,
            until,
            down,
        };
        self.after(LOOKS, Happening::Handover(step));
    }

    pub(super) fn handover(&mut self, step: Step) {
        match step {
            _ if self.calm => {}
            Step::Stop {
                server,
                life,
                until,
                down,
            } => self.stops_when_resigned(server, life, until, down),
            Step::End { one, from, term } => self.ends_meanwhile(one, from, term),
        }
    }

    fn stops_when_resigned(&mut self, server: u64, life: u64, until: u64, down: u64) {
        if self.host(server).life != life {
            return;
        }
        let Some(replica) = &self.host(server).replica else {
            return;
        };
        let status = replica.status();
        let handed_over = status.role != "leader" && status.leader.is_some();
        if !handed_over && self.now < until {
            let step = Step::Stop {
                server,
                life,
                until,
                down,
            };
            return self.after(LOOKS, Happening::Handover(step));
        }
        self.count(match handed_over {
            true => "servers stopped that had handed over",
            false => "servers stopped that found no heir",
        });
        self.end_with(server, Loss::Nothing, Kind::Transfer, down);
    }

    fn ends_meanwhile(&mut self, one: u64, from: u64, term: Term) {
        let kind = Kind::Transfer;
        let down = self.length(kind);
        if self.host(one).replica.is_none() {
            return;
        }
        // Until then nobody has begun another term.
        let is_on_its_way = self.leader() == Some(from) && self.term_of(from) == term;
        self.count(match (is_on_its_way, one == from) {
            (true, true) => "ends of a leader that hands over",
            (true, false) => "ends of a server that is to take over",
            (false, true) => "ends of a leader that has handed over",
            (false, false) => "ends of a server that has taken over",
        });
        let loss = match self.dice(kind).chance(500_000) {
            true => Loss::Nothing,
            false => Loss::Batches,
        };
        self.end_with(one, loss, kind, down);
    }

    /// What came of a transfer that was asked of a server.
    pub(super) fn transfer_answered(&mut self, server: u64, answer: &Result<Answer, Refused>) {
        self.trace.operator(self.now, "is told", answer);
        let what = match answer {
            Ok(Answer::Leads(leader)) => {
                if !self.checks.has_led(*leader) {
                    let violation = format!("C4: server {server} says that {leader} leads, which never did");
                    self.checks.violated(violation);
                }
                match leader.0 == server {
                    true => "transfers to the leader itself",
                    false => "leaderships handed over",
                }
            }
            Err(Refused::Rejected(Rejected::Invalid { why, .. })) if why.contains("in time") => {
                "transfers given up"
            }
            Err(Refused::Rejected(_)) => "transfers refused",
            Err(Refused::Unknown) => "transfers of unknown outcome",
            _ => return,
        };
        self.count(what);
    }
}
