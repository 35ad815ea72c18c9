//! Clients: they ask until they know.

use rebound_core::io::{Answer, Input, Question, Request};
use rebound_core::reply::{Refused, Reply};
use rebound_core::types::*;

use super::{Asker, Happening, SERVERS, World};
use crate::clients::Step;
use crate::net::CLIENTS;

impl World {
    pub(super) fn client_asks(&mut self, client: usize, tries: u64) {
        if self.clients[client].tries != tries {
            return;
        }
        let Some(request) = self.clients[client].request() else {
            return;
        };
        let one = &mut self.clients[client];
        if one.ask.is_some() {
            // The last question was not answered in time: another server may know more.
            one.server = one.server % SERVERS + 1;
        }
        one.tries += 1;
        let (server, tries, patience) = (one.server, one.tries, one.patience());
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.clients[client].ask = Some(ask.0);
        self.after(patience, Happening::Ask { client, tries });
        let reachable = self.net.open(CLIENTS, server) && self.server(server).paused_until <= self.now;
        if !reachable || self.net.ways().is_empty() || self.server(server).replica.is_none() {
            return;
        }
        self.asks.insert((server, ask), Asker::Client { client, tries });
        let by = Caller {
            environment: "default".into(),
            actor: format!("client {client}"),
        };
        let trace = TraceId((client as u128).to_be_bytes());
        let question = Question {
            ask,
            by,
            trace,
            timeout: 600 * MILLISECOND,
            request,
        };
        self.inputs(server, vec![Input::Client(Box::new(question))]);
    }

    pub(super) fn client_hears(&mut self, client: usize, tries: u64, answer: Result<Answer, Refused>) {
        let one = &mut self.clients[client];
        if one.tries != tries {
            return;
        }
        match answer {
            Ok(Answer::Applied { reply, .. }) => {
                one.ask = None;
                self.client_knows(client, reply);
                self.client_goes_on(client, MILLISECOND);
            }
            Err(Refused::NotLeader { leader: Some(leader) }) => {
                one.ask = None;
                one.server = leader.0;
                self.client_goes_on(client, 10 * MILLISECOND);
            }
            Err(Refused::Rejected(why)) => {
                let violation = format!("a good request of client {client} was rejected: {why}");
                self.checks.violations.push(violation);
            }
            // Asked again when its patience ends.
            _ => {}
        }
    }

    fn client_goes_on(&mut self, client: usize, wait: u64) {
        let tries = self.clients[client].tries;
        self.after(wait, Happening::Ask { client, tries });
    }

    fn client_knows(&mut self, client: usize, reply: Reply) {
        let one = &mut self.clients[client];
        match reply {
            Reply::Opened {
                job,
                next_offset,
                repeated,
                ..
            } => {
                let before = *one.job.get_or_insert(job);
                one.advance(next_offset);
                if before != job {
                    let violation = format!("J1: client {client}'s key made jobs {before} and {job}");
                    self.checks.violations.push(violation);
                }
                if repeated {
                    self.count("repeated submits answered");
                }
            }
            Reply::Appended { next_offset } => one.advance(next_offset),
            Reply::Job { .. } => one.advance(0),
            _ => {}
        }
    }

    /// All clients know that all they asked for was taken.
    pub(super) fn clients_done(&self) -> bool {
        self.clients
            .iter()
            .all(|one| one.step == Step::Done && one.request().is_none())
    }

    /// A commit that changes nothing but a counter, at any server: most of them say who leads.
    pub(super) fn probe(&mut self) {
        if self.faults.probe_every == 0 {
            return;
        }
        let server = self.people_rng.within(1, SERVERS);
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        let by = Caller {
            environment: "_probe".into(),
            actor: "probe".into(),
        };
        let trace = TraceId::default();
        let question = Question {
            ask,
            by,
            trace,
            timeout: 200 * MILLISECOND,
            request: Request::Count,
        };
        if self.server(server).paused_until <= self.now {
            self.inputs(server, vec![Input::Client(Box::new(question))]);
        }
        self.after(self.faults.probe_every, Happening::Probe);
    }
}
