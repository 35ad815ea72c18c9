//! Machines that the cluster buys.

use rebound_core::codec::fleet::{forecast, status};
use rebound_core::codec::ledger;
use rebound_core::codec::policy::{policy_in, policy_out};
use rebound_core::codec::pool_in;
use rebound_core::codec::pools::pools;
use rebound_core::command::Command;
use rebound_core::io::{Answer, FleetView, Read, Request as Asked};
use rebound_core::reply::Rejected;
use rebound_core::types::{Market, SECOND, Time};
use rebound_proto::v1;
use rebound_proto::v1::fleet_server::Fleet;
use tonic::{Request, Response, Status};

use super::{Api, From, draw_trace, unexpected};
use crate::node::Answered;

const DAY: u64 = 24 * 3_600 * SECOND;
/// Longest ban, in µs.
const BAN_MAX: u64 = 366 * DAY;
/// Longest reason of a freeze or a ban, in bytes.
const WHY_BYTES_MAX: usize = 256;

/// Longest part of a pool's name, in bytes.
const PART_BYTES_MAX: usize = 64;

fn is_name(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=PART_BYTES_MAX).contains(&part.len()) && part.bytes().all(plain)
}

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

    async fn policies_reply(&self, from: &From, timeout: u64) -> Answers<v1::PoliciesReply> {
        let reply = |answered| match answered {
            Answered::Core(Answer::Policies(view)) => Ok(ledger::policies(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(from, timeout, Read::Policies, reply).await
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

    async fn costs(&self, request: Request<v1::CostsRequest>) -> Answers<v1::CostsReply> {
        let from = From::read(request.metadata());
        let reply = |answered| match answered {
            Answered::Core(Answer::Costs(view)) => Ok(ledger::costs(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, request.into_inner().timeout_us, Read::Costs, reply)
            .await
    }

    async fn decisions(&self, request: Request<v1::DecisionsRequest>) -> Answers<v1::DecisionsReply> {
        let from = From::read(request.metadata());
        let request = request.into_inner();
        let until = (request.until_us > 0).then_some(Time(request.until_us));
        let reply = |answered| match answered {
            Answered::Core(Answer::Decisions(view)) => Ok(ledger::decisions(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, request.timeout_us, Read::Decisions { until }, reply)
            .await
    }

    async fn policies(&self, request: Request<v1::PoliciesRequest>) -> Answers<v1::PoliciesReply> {
        let from = From::read(request.metadata());
        self.policies_reply(&from, request.into_inner().timeout_us).await
    }

    async fn shadow(&self, request: Request<v1::ShadowRequest>) -> Answers<v1::ShadowReply> {
        let from = From::read(request.metadata());
        let request = request.into_inner();
        let scaling = request.policy.as_ref().map(|policy| {
            let scaling = policy_in(Some(policy))?;
            scaling.check()?;
            Ok(Box::new(scaling))
        });
        let scaling = scaling.transpose().map_err(|rejected| self.rejected(rejected))?;
        self.steer(&from, request.timeout_us, Command::Shadow { scaling })
            .await?;
        let policies = self.policies_reply(&from, request.timeout_us).await?.into_inner();
        Ok(Response::new(v1::ShadowReply {
            policies: Some(policies),
        }))
    }

    async fn pools(&self, request: Request<v1::PoolsRequest>) -> Answers<v1::PoolsReply> {
        let from = From::read(request.metadata());
        let reply = |answered| match answered {
            Answered::Core(Answer::Pools(view)) => Ok(pools(&view)),
            other => Err(unexpected(&other)),
        };
        self.look(&from, request.into_inner().timeout_us, Read::Pools, reply)
            .await
    }

    async fn ban(&self, request: Request<v1::BanRequest>) -> Answers<v1::BanReply> {
        let from = From::read(request.metadata());
        let request = request.into_inner();
        let invalid = |field, why: String| self.rejected(Rejected::Invalid { field, why });
        let pool = pool_in(request.pool.as_ref());
        if ![&pool.region, &pool.zone_id, &pool.instance_type]
            .into_iter()
            .all(|part| is_name(part))
            || pool.market == Market::None
        {
            let why = format!(
                "must be a region, a zone id, a type and a market, each 1 to {PART_BYTES_MAX} letters, digits, dots or dashes"
            );
            return Err(invalid("pool", why));
        }
        if request.for_us > BAN_MAX {
            return Err(invalid("for", format!("must be at most {} days", BAN_MAX / DAY)));
        }
        if request.for_us > 0 && (request.why.trim().is_empty() || request.why.len() > WHY_BYTES_MAX) {
            let why = format!("must be 1 to {WHY_BYTES_MAX} bytes: whoever looks for machines will read it");
            return Err(invalid("why", why));
        }
        let now = self.fleet_view(&from, request.timeout_us).await?.now;
        let until = (request.for_us > 0).then(|| Time(now.0.saturating_add(request.for_us)));
        let why = request.why;
        self.steer(&from, request.timeout_us, Command::Ban { pool, until, why })
            .await?;
        Ok(Response::new(v1::BanReply {}))
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
