//! Environments: the operator says what each may have, and changes it; strangers ask about others' jobs; what is promised
//! to one depends on what is its own.

use rebound_core::io::{Answer, Read, Request};
use rebound_core::observe::Observation;
use rebound_core::reply::{Refused, Rejected, Reply};
use rebound_core::state::environments::Environment;
use rebound_core::types::*;

use super::{Asker, World};

/// The operator changes what somebody may have so often, in a million of his looks.
const CHANGES_PPM: u64 = 40_000;
/// Of reads so many are by a stranger, in a million.
pub(super) const STRANGERS_PPM: u64 = 80_000;

impl World {
    /// The environment of a client.
    pub(super) fn tenant_of(&self, client: usize) -> &'static str {
        let tenants = &self.faults.load.tenants;
        tenants[self.clients[client].tenant(tenants.len())].name
    }

    /// Another one than a client's, or one that nobody has.
    fn another_than(&self, client: usize) -> &'static str {
        let own = self.tenant_of(client);
        let others = self.faults.load.tenants.iter().map(|tenant| tenant.name);
        others.into_iter().find(|name| *name != own).unwrap_or("nobody")
    }

    /// In whose name somebody asks.
    pub(super) fn environment_of(&self, asker: Asker) -> &'static str {
        match asker {
            Asker::Client { client, .. } | Asker::Call { client, .. } | Asker::Looker { client, .. } => {
                self.tenant_of(client)
            }
            Asker::Stranger { client } => self.another_than(client),
            _ => "default",
        }
    }

    /// The operator sees to it that each has what he wants, and changes his mind now and then.
    pub(super) fn allots(&mut self) {
        if !self.calm && self.people_rng.chance(CHANGES_PPM) {
            let which = self
                .people_rng
                .within(0, self.faults.load.tenants.len() as u64 - 1);
            self.faults.load.tenants[which as usize].changes(&mut self.people_rng);
        }
        let Some(state) = self.newest_state() else { return };
        let has = |name: &str| Some(state.environments.get(state.environments.find(name)?)?.own);
        let wanting = self.faults.load.tenants.iter();
        let wanting: Vec<_> = wanting
            .filter(|tenant| has(tenant.name) != Some(tenant.wants))
            .copied()
            .collect();
        for tenant in wanting {
            self.checks.may_have(tenant.name, tenant.wants);
            self.operator_asks(Request::Environment(Box::new(tenant.allot())));
        }
    }

    /// Somebody of another environment reads about a job, or would change it.
    pub(super) fn stranger_asks(&mut self, client: usize, job: JobId) {
        let request = match self.people_rng.within(0, 4) {
            0 => Request::Cancel { job },
            1 => Request::Close { job, total: 1 },
            2 => Request::Read(Read::Results {
                job,
                first: 0,
                limit: 0,
            }),
            3 => Request::Stale(Read::Job { job, seen: 0 }),
            _ => Request::Read(Read::Job { job, seen: 0 }),
        };
        let present = self.present();
        let server = self.people_rng.pick(&present).copied().unwrap_or(1);
        self.question(server, Asker::Stranger { client }, client, SECOND, request);
    }

    /// T1: a job of another environment is as unknown as none.
    pub(super) fn stranger_answered(&mut self, client: usize, answer: &Result<Answer, Refused>) {
        match answer {
            Err(Refused::Rejected(Rejected::NotFound { .. })) => self.count("strangers turned away"),
            Ok(_) | Err(Refused::Rejected(_)) => {
                let name = self.another_than(client);
                let violation = format!("T1: {name} was told of client {client}'s job: {answer:?}");
                self.checks.violated(violation);
            }
            Err(_) => {}
        }
    }

    /// O4: what goes before a job is of its own environment, which never had more.
    pub(super) fn check_outlook(&mut self, server: u64, answer: &Result<Answer, Refused>) {
        let (job, outlook) = match answer {
            Ok(Answer::Job(view)) => (view.id, view.outlook),
            Ok(Answer::Applied {
                reply: Reply::Opened { job, .. },
                outlook,
                ..
            }) => (*job, *outlook),
            _ => return,
        };
        let (Some(outlook), Some(replica)) = (outlook, &self.host(server).replica) else {
            return;
        };
        let state = replica.state();
        let Some((env, _)) = state.jobs.get(job) else {
            return;
        };
        let busy = |(_, one): &(EnvId, &Environment)| one.counts.waiting + one.counts.given > 0;
        let several = state.environments.iter().filter(busy).count() > 1;
        let own = state.environments.get(env).map_or(0, |one| one.counts.submitted);
        if outlook.ahead > own {
            let violation = format!(
                "O4: {} photos go before job {job}, and its environment had {own} in all",
                outlook.ahead
            );
            self.checks.violated(violation);
        }
        if several {
            self.count("outlooks beside other environments");
        }
    }

    /// Counts what the policy saw of several environments.
    pub(super) fn note_shares(&mut self, seen: &Observation) {
        if seen.shares.len() > 1 {
            self.count("environments that shared the workers");
        }
        if seen.shares.values().any(|share| share.held >= share.most) {
            self.count("environments that held as many as they may");
        }
    }
}
