//! Machines that the cluster buys.

use rebound_core::codec::fleet::{forecast, status};
use rebound_core::codec::policy::{policy_in, policy_out};
use rebound_core::command::Command;
use rebound_core::io::{Answer, FleetView, Read, Request as Asked};
use rebound_core::reply::Rejected;
use rebound_proto::v1;
use rebound_proto::v1::fleet_server::Fleet;
use tonic::{Request, Response, Status};

use super::{Api, From, draw_trace, unexpected};
use crate::node::Answered;

/// Longest reason of a freeze, in bytes.
const WHY_BYTES_MAX: usize = 256;

type Answers<A> = Result<Response<A>, Status>;

impl Api {
    async fn fleet_view(&self, from: &From, timeout: u64) -> Result<FleetView, Status> {
        match self
            .ask(from, draw_trace(), timeout, Asked::Read(Read::Fleet))
            .await?
        {
            Answered::Core(Answer::Fleet(view)) => Ok(*view),
            other => Err(unexpected(&other)),
        }
    }

    async fn policy_reply(&self, from: &From, timeout: u64) -> Answers<v1::PolicyReply> {
        let control = self.fleet_view(from, timeout).await?.control;
        Ok(Response::new(v1::PolicyReply {
            policy: Some(policy_out(&control.scaling)),
            since: control.since,
        }))
    }

    async fn steer(&self, from: &From, timeout: u64, command: Command) -> Result<(), Status> {
        let asked = Asked::Steer(Box::new(command));
        self.apply(from, draw_trace(), timeout, asked).await.map(|_| ())
    }
}

#[tonic::async_trait]
impl Fleet for Api {
    async fn policy(&self, request: Request<v1::PolicyRequest>) -> Answers<v1::PolicyReply> {
        let from = From::read(request.metadata());
        self.policy_reply(&from, request.into_inner().timeout_us).await
    }

    async fn apply_policy(&self, request: Request<v1::ApplyPolicyRequest>) -> Answers<v1::PolicyReply> {
        let from = From::read(request.metadata());
        let request = request.into_inner();
        let scaling = policy_in(request.policy.as_ref()).and_then(|scaling| {
            scaling.check()?;
            Ok(Box::new(scaling))
        });
        let command = Command::Steer {
            scaling: scaling.map_err(|rejected| self.rejected(rejected))?,
            check: request.check_index,
        };
        self.steer(&from, request.timeout_us, command).await?;
        self.policy_reply(&from, request.timeout_us).await
    }

    async fn scale_status(&self, request: Request<v1::ScaleStatusRequest>) -> Answers<v1::ScaleStatusReply> {
        let from = From::read(request.metadata());
        let reply = |answered| match answered {
            Answered::Core(Answer::Fleet(view)) => Ok(status(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, request.into_inner().timeout_us, Read::Fleet, reply)
            .await
    }

    async fn forecast(&self, request: Request<v1::ForecastRequest>) -> Answers<v1::ForecastReply> {
        let from = From::read(request.metadata());
        let reply = |answered| match answered {
            Answered::Core(Answer::Forecast(view)) => Ok(forecast(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, request.into_inner().timeout_us, Read::Forecast, reply)
            .await
    }

    async fn freeze(&self, request: Request<v1::FreezeRequest>) -> Answers<v1::FreezeReply> {
        let from = From::read(request.metadata());
        let v1::FreezeRequest { timeout_us, why } = request.into_inner();
        if why.trim().is_empty() || why.len() > WHY_BYTES_MAX {
            let why = format!("must be 1 to {WHY_BYTES_MAX} bytes: whoever is woken by it will read it");
            return Err(self.rejected(Rejected::Invalid { field: "why", why }));
        }
        self.steer(&from, timeout_us, Command::Freeze { why: Some(why) })
            .await?;
        Ok(Response::new(v1::FreezeReply {}))
    }

    async fn thaw(&self, request: Request<v1::ThawRequest>) -> Answers<v1::ThawReply> {
        let from = From::read(request.metadata());
        let timeout = request.into_inner().timeout_us;
        self.steer(&from, timeout, Command::Freeze { why: None }).await?;
        self.steer(&from, timeout, Command::Thaw).await?;
        Ok(Response::new(v1::ThawReply {}))
    }
}
