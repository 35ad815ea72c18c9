//! Running the cluster.

use rebound_core::codec::{self, client, settings};
use rebound_core::io::{Answer, Read, Request as Asked};
use rebound_core::reply::{Rejected, Reply};
use rebound_core::state::members::{Founder, Member};
use rebound_core::types::{ReplicaId, WorkerId};
use rebound_proto::v1;
use rebound_proto::v1::operator_server::Operator;
use tonic::{Request, Response, Status};

use super::{Api, From, draw_trace, unexpected};
use crate::config::loopback;
use crate::node::{Answered, Standing};

/// What servers of this build say they are.
pub const VERSION: &str = match (cfg!(feature = "planted"), cfg!(feature = "next")) {
    (true, _) => concat!(env!("CARGO_PKG_VERSION"), " PLANTED"),
    (false, true) => concat!(env!("CARGO_PKG_VERSION"), "+next"),
    (false, false) => env!("CARGO_PKG_VERSION"),
};

type Answers<A> = Result<Response<A>, Status>;

impl Api {
    fn status_reply(&self, standing: &Standing) -> v1::StatusReply {
        let status = &standing.status;
        let member = |(id, member): (ReplicaId, Member)| v1::Member {
            server: id.0,
            peer_address: member.peer,
            client_address: member.client,
        };
        v1::StatusReply {
            cluster: self.roster.cluster().to_owned(),
            server: self.config.server,
            role: status.role.to_owned(),
            leader: status.leader.map_or(0, |id| id.0),
            leader_address: status
                .leader
                .map(|id| self.roster.client_address(id))
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
            members: self.roster.members().into_iter().map(member).collect(),
            version: match cfg!(feature = "planted") {
                true => VERSION.to_owned(),
                false => self.roster.build_name().to_owned(),
            },
            stale_refused: standing.stale_refused,
            ready: status.ready,
            tasks_waiting_max: standing.tasks_waiting_max,
            open_bytes: standing.open_bytes,
            open_bytes_max: standing.open_bytes_max,
            sheds: status.sheds.to_owned(),
            refused_deadline: status.refusals.deadline,
            refused_full: status.refusals.full,
            refused_proposals: status.refusals.proposals,
            differs_from: self
                .roster
                .digests()
                .differ()
                .into_iter()
                .map(|id| id.0)
                .collect(),
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
    type BackupStream = super::backup::Frames;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Answers<Self::BackupStream> {
        self.backup_frames().await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answers<v1::StatusReply> {
        Ok(Response::new(self.status_reply(&self.handle.standing())))
    }

    async fn workers(&self, request: Request<v1::WorkersRequest>) -> Answers<v1::WorkersReply> {
        let from = From::read(request.metadata());
        let timeout = request.into_inner().timeout_us;
        let reply = |answered| match answered {
            Answered::Workers(workers) => Ok(v1::WorkersReply { workers }),
            other => Err(unexpected(&other)),
        };
        self.look(&from, timeout, Read::Workers, reply).await
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
        self.after(self.environments_reply(&from, timeout).await)
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
        self.after(self.settings_reply(&from, timeout_us).await)
    }

    async fn members(&self, request: Request<v1::MembersRequest>) -> Answers<v1::MembersReply> {
        let from = From::read(request.metadata());
        let timeout = request.into_inner().timeout_us;
        let asked = Asked::Read(Read::Members);
        match self.ask(&from, draw_trace(), timeout, asked).await? {
            Answered::Core(Answer::Members {
                members,
                last,
                version,
            }) => Ok(Response::new(v1::MembersReply {
                members: members.iter().map(client::member).collect(),
                last_index: last,
                version: version.into(),
                cluster: self.roster.cluster().to_owned(),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn add_member(&self, request: Request<v1::AddMemberRequest>) -> Answers<v1::AddMemberReply> {
        let from = From::read(request.metadata());
        let v1::AddMemberRequest {
            timeout_us,
            server,
            peer_address,
            client_address,
            replaces,
        } = request.into_inner();
        for (field, address) in [("peer", &peer_address), ("client", &client_address)] {
            loopback(address).map_err(|why| self.rejected(Rejected::Invalid { field, why }))?;
        }
        let asked = Asked::AddMember {
            new: Founder {
                id: ReplicaId(server),
                peer: peer_address,
                client: client_address,
                incarnation: 0,
            },
            replaces: (replaces != 0).then_some(ReplicaId(replaces)),
        };
        self.apply(&from, draw_trace(), timeout_us, asked).await?;
        Ok(Response::new(v1::AddMemberReply {}))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Answers<v1::RemoveMemberReply> {
        let from = From::read(request.metadata());
        let v1::RemoveMemberRequest { timeout_us, server } = request.into_inner();
        let asked = Asked::RemoveMember(ReplicaId(server));
        self.apply(&from, draw_trace(), timeout_us, asked).await?;
        Ok(Response::new(v1::RemoveMemberReply {}))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Answers<v1::TransferLeaderReply> {
        let from = From::read(request.metadata());
        let v1::TransferLeaderRequest { timeout_us, to } = request.into_inner();
        let asked = Asked::Transfer((to != 0).then_some(ReplicaId(to)));
        match self.ask(&from, draw_trace(), timeout_us, asked).await? {
            Answered::Core(Answer::Leads(id)) => Ok(Response::new(v1::TransferLeaderReply { leader: id.0 })),
            other => Err(unexpected(&other)),
        }
    }

    async fn finalize(&self, request: Request<v1::FinalizeRequest>) -> Answers<v1::FinalizeReply> {
        let from = From::read(request.metadata());
        let v1::FinalizeRequest { timeout_us, version } = request.into_inner();
        let out_of_range = |_| {
            let why = format!("{version} is no version of a cluster");
            self.rejected(Rejected::Invalid {
                field: "version",
                why,
            })
        };
        let to = u16::try_from(version).map_err(out_of_range)?;
        let asked = Asked::Upgrade(Some(to).filter(|to| *to != 0));
        self.apply(&from, draw_trace(), timeout_us, asked).await?;
        Ok(Response::new(v1::FinalizeReply {}))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answers<v1::JoinReply> {
        let from = From::read(request.metadata());
        let v1::JoinRequest {
            timeout_us,
            server,
            peer_address,
            client_address,
            incarnation,
            build,
            version_min,
            version_max,
        } = request.into_inner();
        let asked = Asked::Join {
            new: Founder {
                id: ReplicaId(server),
                peer: peer_address,
                client: client_address,
                incarnation,
            },
            build: codec::build(&build, version_min, version_max),
        };
        self.apply(&from, draw_trace(), timeout_us, asked).await?;
        let cluster = self.roster.cluster().to_owned();
        Ok(Response::new(v1::JoinReply { cluster }))
    }
}
