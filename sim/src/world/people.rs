//! Clients: they ask until they know.

use rebound_core::io::{Answer, Input, Question, Request};
use rebound_core::reply::{Refused, Rejected, Reply};
use rebound_core::types::*;

use super::{Asker, Happening, World};
use crate::clients::Step;
use crate::net::CLIENTS;

/// Times in a thousand that a question is also asked at another server, once.
const TWICE_PER_THOUSAND: u64 = 60;

/// A client comes back after so long, whatever it was told.
const COMES_BACK_MAX: u64 = 3 * SECOND;

/// A refusal that promises that nothing came of this question and nothing will, though it may be asked again.
fn is_without_effect(refused: &Refused) -> bool {
    matches!(
        refused,
        Refused::NotLeader { .. }
            | Refused::Timeout
            | Refused::Overloaded { .. }
            | Refused::Rejected(Rejected::Quota { .. } | Rejected::Full { .. })
    )
}

impl World {
    pub(super) fn client_asks(&mut self, client: usize, tries: u64) {
        if self.clients[client].tries != tries {
            return;
        }
        let Some(request) = self.clients[client].request() else {
            return;
        };
        if self.gives_up(client) {
            return self.clients[client].refuse();
        }
        let now = self.now;
        self.clients[client].asks_since.get_or_insert(now);
        self.client_calls(client);
        let next = self.next_server(self.clients[client].server);
        let one = &mut self.clients[client];
        if one.ask.is_some() {
            // The last question was not answered in time: another server may know more.
            one.server = next;
            one.unanswered += 1;
        } else {
            one.unanswered = 0;
        }
        one.tries += 1;
        let (server, tries, patience) = (one.server, one.tries, one.patience());
        let ask = AskId(self.next_ask);
        self.clients[client].ask = Some(ask.0);
        self.after(patience, Happening::Ask { client, tries });
        let asker = Asker::Client { client, tries };
        self.question(server, asker, client, 600 * MILLISECOND, request);
        if self.people_rng.within(0, 999) < TWICE_PER_THOUSAND {
            self.asks_twice(client);
        }
    }

    /// It leaves its job open; or it does not know whether there is one, and its key will soon be forgotten.
    fn gives_up(&self, client: usize) -> bool {
        let (one, settings) = (&self.clients[client], self.faults.settings());
        let late = one
            .asks_since
            .is_some_and(|since| self.now - since > settings.key_for / 2);
        match one.step {
            Step::Open => late,
            Step::Close => one.abandons && settings.open_for <= 60 * SECOND,
            _ => false,
        }
    }

    /// Asks a server, unless it cannot be reached. True when the question got there.
    pub(super) fn question(
        &mut self,
        server: u64,
        asker: Asker,
        client: usize,
        timeout: u64,
        request: Request,
    ) -> bool {
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        let reachable = self.net.linked(CLIENTS, server);
        if !reachable || self.net.ways().first.is_none() || self.server(server).replica.is_none() {
            return false;
        }
        self.asks.insert((server, ask), asker);
        if matches!(request, Request::Read(_)) {
            self.reads.insert((server, ask), self.checks.committed);
        }
        let by = Caller {
            environment: self.environment_of(asker).into(),
            actor: format!("client {client}"),
        };
        let question = Question {
            ask,
            by,
            trace: TraceId((client as u128).to_be_bytes()),
            timeout,
            request,
        };
        let question = Box::new(question);
        let (life, paused) = (
            self.server(server).life,
            self.server(server).paused_until > self.now,
        );
        if paused {
            self.count("questions to a server that stands still");
            self.at(
                self.now,
                Happening::Asked {
                    server,
                    life,
                    question,
                },
            );
        } else {
            self.inputs(server, vec![Input::Client(question)]);
        }
        true
    }

    pub(super) fn client_hears(&mut self, client: usize, tries: u64, answer: Result<Answer, Refused>) {
        if self.clients[client].tries != tries {
            return;
        }
        if answer.as_ref().is_err_and(is_without_effect) {
            self.client_call_was_nothing(client);
        }
        match answer {
            Ok(Answer::Applied { reply, .. }) => {
                self.clients[client].ask = None;
                self.client_returns(client, super::readers::of_reply(&reply));
                self.client_knows(client, reply);
                self.client_goes_on(client, MILLISECOND);
            }
            Err(Refused::NotLeader { leader: Some(leader) }) => {
                let one = &mut self.clients[client];
                one.ask = None;
                one.server = leader.0;
                self.client_goes_on(client, 10 * MILLISECOND);
            }
            // Its environment has as much as it may: nothing was done, and there will be room.
            Err(Refused::Rejected(Rejected::Quota { .. })) => {
                self.count("quotas met");
                self.clients[client].ask = None;
                self.client_goes_on(client, SECOND);
            }
            // So has the cluster, or its work is done too late: it says when to come back.
            Err(
                Refused::Rejected(Rejected::Full { retry_after, .. })
                | Refused::Overloaded { retry_after, .. },
            ) => {
                self.clients[client].ask = None;
                self.client_goes_on(client, retry_after.min(COMES_BACK_MAX));
            }
            Err(Refused::Rejected(why)) => {
                self.clients[client].ask = None;
                self.client_returns(client, super::readers::of_rejection(&why));
                match why {
                    Rejected::NotOpen { .. } | Rejected::WrongTotal { .. } | Rejected::NotFound { .. } => {
                        self.clients[client].refuse()
                    }
                    why => {
                        let violation = format!("O4: a good request of client {client} was rejected: {why}");
                        self.checks.violated(violation);
                    }
                }
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
        if let Reply::Opened { job, .. } = &reply {
            self.check_own(client, *job);
        }
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
                    self.checks.violated(violation);
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

    /// J1: a job is of one client's key in its environment.
    fn check_own(&mut self, client: usize, job: JobId) {
        let others = self.clients.iter().enumerate().filter(|(at, _)| *at != client);
        let other = others.into_iter().find(|(_, other)| other.job == Some(job));
        if let Some((other, _)) = other {
            let violation = format!("J1: the keys of clients {client} and {other} made one job, {job}");
            self.checks.violated(violation);
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
        if self.faults.load.probe_every == 0 {
            return;
        }
        let present = self.present();
        let server = self.people_rng.pick(&present).copied().unwrap_or(1);
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        let by = Caller {
            environment: "_probe".into(),
            actor: "probe".into(),
        };
        let question = Question {
            ask,
            by,
            trace: TraceId::default(),
            timeout: 200 * MILLISECOND,
            request: Request::Count,
        };
        if self.server(server).paused_until <= self.now {
            self.inputs(server, vec![Input::Client(Box::new(question))]);
        }
        self.after(self.faults.load.probe_every, Happening::Probe);
    }
}
