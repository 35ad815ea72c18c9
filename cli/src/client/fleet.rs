//! Machines that the cluster buys.

use rebound_proto::v1::fleet_client::FleetClient;
use rebound_proto::v1::{
    ApplyPolicyRequest, BanRequest, CostsReply, CostsRequest, DecisionsReply, DecisionsRequest,
    ForecastReply, ForecastRequest, FreezeRequest, PoliciesReply, PoliciesRequest, Policy, PolicyReply,
    PolicyRequest, Pool, PoolsReply, PoolsRequest, ScaleStatusReply, ScaleStatusRequest, ShadowRequest,
    ThawRequest,
};
use tonic::transport::Channel;

use super::call::Repeat;
use super::{Client, ClientError};
use crate::limits::ANSWER_BYTES_MAX;

fn fleet(channel: Channel) -> FleetClient<Channel> {
    FleetClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// The policy in force.
    pub async fn policy(&self) -> Result<PolicyReply, ClientError> {
        let make = |timeout_us| PolicyRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).policy(r).await
        })
        .await
    }

    /// Puts a policy in force, if that of `check_index` still is. With an index it is not asked twice: it would refuse
    /// itself.
    pub async fn apply_policy(
        &self,
        policy: Policy,
        check_index: Option<u64>,
    ) -> Result<PolicyReply, ClientError> {
        let make = |timeout_us| ApplyPolicyRequest {
            timeout_us,
            policy: Some(policy.clone()),
            check_index,
        };
        let repeat = if check_index.is_some() {
            Repeat::No
        } else {
            Repeat::Yes
        };
        self.call(repeat, self.limits(), make, |c, r| async {
            fleet(c).apply_policy(r).await
        })
        .await
    }

    /// What is bought and why, and what stops it.
    pub async fn scale_status(&self) -> Result<ScaleStatusReply, ClientError> {
        let make = |timeout_us| ScaleStatusRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).scale_status(r).await
        })
        .await
    }

    /// What past weeks took, and what is forecast from it.
    pub async fn forecast(&self) -> Result<ForecastReply, ClientError> {
        let make = |timeout_us| ForecastRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).forecast(r).await
        })
        .await
    }

    /// What machines cost.
    pub async fn costs(&self) -> Result<CostsReply, ClientError> {
        let make = |timeout_us| CostsRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).costs(r).await
        })
        .await
    }

    /// What was decided about machines up to an instant, in µs since 1970; 0: up to now.
    pub async fn decisions(&self, until_us: u64) -> Result<DecisionsReply, ClientError> {
        let make = |timeout_us| DecisionsRequest { timeout_us, until_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).decisions(r).await
        })
        .await
    }

    /// Policies that were in force, and the one that is tried.
    pub async fn policies(&self) -> Result<PoliciesReply, ClientError> {
        let make = |timeout_us| PoliciesRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).policies(r).await
        })
        .await
    }

    /// Tries a policy beside the one in force; none ends that.
    pub async fn shadow(&self, policy: Option<Policy>) -> Result<(), ClientError> {
        let make = |timeout_us| ShadowRequest {
            timeout_us,
            policy: policy.clone(),
        };
        let done = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).shadow(r).await
        });
        done.await.map(|_| ())
    }

    /// Capacity pools.
    pub async fn pools(&self) -> Result<PoolsReply, ClientError> {
        let make = |timeout_us| PoolsRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).pools(r).await
        })
        .await
    }

    /// Nothing is launched in a pool for so long; 0 µs: again.
    pub async fn ban(&self, pool: Pool, for_us: u64, why: &str) -> Result<(), ClientError> {
        let make = |timeout_us| BanRequest {
            timeout_us,
            pool: Some(pool.clone()),
            for_us,
            why: why.to_owned(),
        };
        let done = self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).ban(r).await
        });
        done.await.map(|_| ())
    }

    /// Launches and scale-in stand still.
    pub async fn freeze(&self, why: &str) -> Result<(), ClientError> {
        let make = |timeout_us| FreezeRequest {
            timeout_us,
            why: why.to_owned(),
        };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).freeze(r).await
        })
        .await
        .map(|_| ())
    }

    /// They go on, and a brake is released.
    pub async fn thaw(&self) -> Result<(), ClientError> {
        let make = |timeout_us| ThawRequest { timeout_us };
        self.call(Repeat::Yes, self.limits(), make, |c, r| async {
            fleet(c).thaw(r).await
        })
        .await
        .map(|_| ())
    }
}
