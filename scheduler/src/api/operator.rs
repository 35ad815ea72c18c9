//! Running the cluster.

use rebound_core::codec::settings;
use rebound_core::io::{Answer, Read, Request as Asked};
use rebound_core::reply::Reply;
use rebound_core::types::WorkerId;
use rebound_proto::v1;
use rebound_proto::v1::operator_server::Operator;
use tonic::{Request, Response, Status};

use super::{Api, From, draw_trace, unexpected};
use crate::node::{Answered, Standing};

/// What servers say they are.
pub const VERSION: &str = match cfg!(feature = "planted") {
    true => concat!(env!("CARGO_PKG_VERSION"), " PLANTED"),
    false => env!("CARGO_PKG_VERSION"),
};

type Answers<A> = Result<Response<A>, Status>;

impl Api {
    fn status_reply(&self, standing: &Standing) -> v1::StatusReply {
        let status = &standing.status;
        let member = |member: &crate::config::MemberConfig| v1::Member {
            server: member.id,
            peer_address: member.peer.clone(),
            client_address: member.client.clone(),
        };
        v1::StatusReply {
            cluster: self.config.cluster_id().0,
            server: self.config.server,
            role: status.role.to_owned(),
            leader: status.leader.map_or(0, |id| id.0),
            leader_address: status
                .leader
                .map(|id| self.config.client_address(id))
                .unwrap_or_default(),
            term: status.term,
            committed: status.committed,
            applied: status.applied,
            proposed: status.last.saturating_sub(status.applied),
            first_index: status.first,
            digest: status.digest.0.to_be_bytes().to_vec().into(),
            tasks_waiting: standing.tasks_waiting,
            tasks_given: standing.tasks_given,
            photos_running: status.running,
            results_spooled: status.spooled,
            workers: standing.workers,
            jobs_open: standing.jobs_open,
            now_us: status.now.0,
            clock_off_us: status.clock_off,
            members: self.config.members.iter().map(member).collect(),
            version: VERSION.to_owned(),
            stale_refused: standing.stale_refused,
            ready: status.ready,
        }
    }

    async fn environments_reply(&self, from: &From, timeout: u64) -> Answers<v1::EnvironmentsReply> {
        match self
            .ask(from, draw_trace(), timeout, Asked::Read(Read::Environments))
            .await?
        {
            Answered::Core(Answer::Environments(all)) => Ok(Response::new(v1::EnvironmentsReply {
                environments: all.iter().map(settings::environment).collect(),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn settings_reply(&self, from: &From, timeout: u64) -> Answers<v1::SettingsReply> {
        match self
            .ask(from, draw_trace(), timeout, Asked::Read(Read::Settings))
            .await?
        {
            Answered::Core(Answer::Settings(own)) => Ok(Response::new(v1::SettingsReply {
                settings: settings::settings(&own),
            })),
            other => Err(unexpected(&other)),
        }
    }
}

#[tonic::async_trait]
impl Operator for Api {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answers<v1::StatusReply> {
        Ok(Response::new(self.status_reply(&self.handle.standing())))
    }

    async fn workers(&self, request: Request<v1::WorkersRequest>) -> Answers<v1::WorkersReply> {
        let from = From::read(request.metadata());
        let timeout = request.into_inner().timeout_us;
        match self
            .ask(&from, draw_trace(), timeout, Asked::Read(Read::Workers))
            .await?
        {
            Answered::Workers(workers) => Ok(Response::new(v1::WorkersReply { workers })),
            other => Err(unexpected(&other)),
        }
    }

    async fn drain_worker(&self, request: Request<v1::DrainWorkerRequest>) -> Answers<v1::DrainWorkerReply> {
        let from = From::read(request.metadata());
        let v1::DrainWorkerRequest {
            timeout_us,
            worker,
            name,
        } = request.into_inner();
        let asked = Asked::Drain {
            worker: WorkerId(worker),
            name,
        };
        self.apply(&from, draw_trace(), timeout_us, asked).await?;
        Ok(Response::new(v1::DrainWorkerReply {}))
    }

    async fn ping(&self, request: Request<v1::PingRequest>) -> Answers<v1::PingReply> {
        let from = From::read(request.metadata()).into_probe();
        let timeout = request.into_inner().timeout_us;
        match self.apply(&from, draw_trace(), timeout, Asked::Count).await?.0 {
            Reply::Counted { count, index } => Ok(Response::new(v1::PingReply { count, index })),
            _ => Err(Status::internal("a ping was answered with something else")),
        }
    }

    async fn accept_clock(&self, request: Request<v1::AcceptClockRequest>) -> Answers<v1::AcceptClockReply> {
        let from = From::read(request.metadata());
        let timeout = request.into_inner().timeout_us;
        match self
            .apply(&from, draw_trace(), timeout, Asked::AcceptClock)
            .await?
            .0
        {
            Reply::Clock { now } => Ok(Response::new(v1::AcceptClockReply { now_us: now.0 })),
            _ => Err(Status::internal("the clock was answered with something else")),
        }
    }

    async fn environments(
        &self,
        request: Request<v1::EnvironmentsRequest>,
    ) -> Answers<v1::EnvironmentsReply> {
        let from = From::read(request.metadata());
        self.environments_reply(&from, request.into_inner().timeout_us)
            .await
    }

    async fn set_environment(
        &self,
        request: Request<v1::SetEnvironmentRequest>,
    ) -> Answers<v1::EnvironmentsReply> {
        let from = From::read(request.metadata());
        let wire = request.into_inner();
        let timeout = wire.timeout_us;
        let asked = Asked::Environment(Box::new(settings::allot(wire)));
        self.apply(&from, draw_trace(), timeout, asked).await?;
        self.environments_reply(&from, timeout).await
    }

    async fn settings(&self, request: Request<v1::SettingsRequest>) -> Answers<v1::SettingsReply> {
        let from = From::read(request.metadata());
        self.settings_reply(&from, request.into_inner().timeout_us).await
    }

    async fn change_settings(
        &self,
        request: Request<v1::ChangeSettingsRequest>,
    ) -> Answers<v1::SettingsReply> {
        let from = From::read(request.metadata());
        let v1::ChangeSettingsRequest { timeout_us, changes } = request.into_inner();
        let changes = settings::changes(&changes).map_err(|rejected| self.rejected(rejected))?;
        self.apply(&from, draw_trace(), timeout_us, Asked::Settings(changes))
            .await?;
        self.settings_reply(&from, timeout_us).await
    }
}
