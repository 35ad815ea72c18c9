//! What the cluster says to its operator.

use rebound_proto::v1::operator_server::Operator;
use rebound_proto::v1::refusal::Kind;
use rebound_proto::v1::*;
use tonic::{Code, Request};

use super::{Answer, Service, World, refusal};

impl World {
    fn environments_reply(&self) -> EnvironmentsReply {
        let one = Environment {
            name: "default".into(),
            weight: self.weight.max(1),
            ..Environment::default()
        };
        EnvironmentsReply {
            environments: vec![one],
        }
    }

    fn settings_reply(&self) -> SettingsReply {
        let lease = Setting {
            name: "lease".into(),
            value: if self.lease_us == 0 {
                10_000_000
            } else {
                self.lease_us
            },
            unit: setting::Unit::Duration.into(),
            default_value: 10_000_000,
            min: 2_000_000,
            max: 1_800_000_000,
            what: "silence after which a worker is lost".into(),
        };
        SettingsReply {
            settings: vec![lease],
        }
    }
}

#[tonic::async_trait]
impl Operator for Service {
    type BackupStream = tokio_stream::Empty<Result<SnapshotFrame, tonic::Status>>;

    /// Backups are of real servers: tests of those are elsewhere.
    async fn backup(&self, _: Request<BackupRequest>) -> Answer<Self::BackupStream> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        self.serve("status", request, |world, _| Ok(world.status.clone()))
            .await
    }

    async fn workers(&self, request: Request<WorkersRequest>) -> Answer<WorkersReply> {
        self.serve("workers", request, |world, _| {
            Ok(WorkersReply {
                workers: world.workers.clone(),
            })
        })
        .await
    }

    async fn drain_worker(&self, request: Request<DrainWorkerRequest>) -> Answer<DrainWorkerReply> {
        self.serve("drain", request, |world, drain| {
            let named = |w: &&mut Worker| {
                if drain.worker != 0 {
                    w.id == drain.worker
                } else {
                    w.name == drain.name
                }
            };
            match world.workers.iter_mut().find(named) {
                Some(worker) => worker.state = "draining".into(),
                None => {
                    return Err(refusal(Code::NotFound, Kind::NotFound, |r| {
                        r.message = "no such worker".into()
                    }));
                }
            }
            Ok(DrainWorkerReply {})
        })
        .await
    }

    async fn ping(&self, request: Request<PingRequest>) -> Answer<PingReply> {
        self.serve("ping", request, |world, _| {
            Ok(PingReply {
                count: world.count("ping") as u64,
                index: 40,
            })
        })
        .await
    }

    async fn members(&self, _: Request<MembersRequest>) -> Answer<MembersReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn add_member(&self, _: Request<AddMemberRequest>) -> Answer<AddMemberReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn remove_member(&self, _: Request<RemoveMemberRequest>) -> Answer<RemoveMemberReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn finalize(&self, _: Request<FinalizeRequest>) -> Answer<FinalizeReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn transfer_leader(&self, _: Request<TransferLeaderRequest>) -> Answer<TransferLeaderReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Answer<JoinReply> {
        Err(tonic::Status::unimplemented("not of this test"))
    }

    async fn accept_clock(&self, request: Request<AcceptClockRequest>) -> Answer<AcceptClockReply> {
        self.serve("accept_clock", request, |_, _| {
            Ok(AcceptClockReply {
                now_us: 1_795_305_600_000_000,
            })
        })
        .await
    }

    async fn environments(&self, request: Request<EnvironmentsRequest>) -> Answer<EnvironmentsReply> {
        self.serve("environments", request, |world, _| Ok(world.environments_reply()))
            .await
    }

    async fn set_environment(&self, request: Request<SetEnvironmentRequest>) -> Answer<EnvironmentsReply> {
        self.serve("set_environment", request, |world, request| {
            world.weight = request.weight.unwrap_or(world.weight);
            Ok(world.environments_reply())
        })
        .await
    }

    async fn settings(&self, request: Request<SettingsRequest>) -> Answer<SettingsReply> {
        self.serve("settings", request, |world, _| Ok(world.settings_reply()))
            .await
    }

    async fn change_settings(&self, request: Request<ChangeSettingsRequest>) -> Answer<SettingsReply> {
        self.serve("change_settings", request, |world, request| {
            for change in &request.changes {
                assert_eq!(change.name, "lease", "the one there is");
                world.lease_us = change.value;
            }
            Ok(world.settings_reply())
        })
        .await
    }
}
