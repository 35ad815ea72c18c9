//! A new server comes to a cluster that runs: it asks whether it was added, under which cluster's id, and makes its
//! data directory.

use std::time::Duration;

use rebound_core::state::members::Founder;
use rebound_core::version::Build;
use rebound_proto::v1;
use rebound_proto::v1::operator_client::OperatorClient;
use tonic::transport::{Channel, Endpoint};

use crate::api::refusal_of;
use crate::config::Config;
use crate::server::StartError;
use crate::store::identity::Identity;
use crate::store::{Store, StoreError};

/// Longest wait for the cluster's answer, over all tries.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one answer.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the cluster that the server at `address` (for clients) belongs to, and makes the data directory if there is
/// none. A directory made before is told again: a join that was cut short goes on.
pub async fn join(config: &Config, build: &Build, address: &str) -> Result<(), StartError> {
    let refused = |why: String| StartError::Join {
        address: address.to_owned(),
        why,
    };
    let cluster = tokio::time::timeout(JOIN_TIMEOUT, cluster_of(address))
        .await
        .map_err(|_| refused("it did not answer".to_owned()))?
        .map_err(refused)?;
    let named = cluster.rsplit_once('-').map(|(name, _)| name);
    if named != Some(&config.cluster) {
        let why = format!(
            "it is of cluster {cluster}, this server is to be of {}",
            config.cluster
        );
        return Err(refused(why));
    }
    let identity = match Store::identity_in(&config.data_dir)? {
        Some(identity) if identity.cluster == cluster && identity.server == config.server => identity,
        Some(_) => return Err(StoreError::NotEmpty(config.data_dir.clone()).into()),
        None => {
            let identity = Identity::draw(cluster, config.server, Vec::new());
            Store::init(&config.data_dir, &identity, &config.store)?;
            identity
        }
    };
    let own = Founder {
        incarnation: identity.incarnation,
        ..config.own()
    };
    tokio::time::timeout(JOIN_TIMEOUT, ask(address, &own, build.clone()))
        .await
        .map_err(|_| refused("the cluster did not answer".to_owned()))?
        .map_err(refused)
}

async fn client(address: &str) -> Result<OperatorClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint.connect_timeout(TRY_TIMEOUT).timeout(TRY_TIMEOUT);
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    Ok(OperatorClient::new(channel))
}

async fn cluster_of(address: &str) -> Result<String, String> {
    let status = client(address).await?.status(v1::StatusRequest {}).await;
    let status = status.map_err(|status| status.message().to_owned())?;
    Ok(status.into_inner().cluster)
}

/// Asks until somebody answers for the cluster; follows the leader.
async fn ask(address: &str, own: &Founder, build: Build) -> Result<(), String> {
    let request = v1::JoinRequest {
        timeout_us: TRY_TIMEOUT.as_micros() as u64,
        server: own.id.0,
        peer_address: own.peer.clone(),
        client_address: own.client.clone(),
        incarnation: own.incarnation,
        build: build.name,
        version_min: build.versions.oldest.into(),
        version_max: build.versions.newest.into(),
    };
    let mut target = address.to_owned();
    loop {
        let answer = match client(&target).await {
            Ok(mut client) => client.join(request.clone()).await,
            Err(_) => Err(tonic::Status::unavailable("not reached")),
        };
        let Err(status) = answer else { return Ok(()) };
        let refusal = refusal_of(&status);
        match refusal.kind() {
            v1::refusal::Kind::Rejected | v1::refusal::Kind::NotFound => {
                return Err(status.message().to_owned());
            }
            v1::refusal::Kind::NotLeader if !refusal.leader.is_empty() && refusal.leader != target => {
                target = refusal.leader;
                continue;
            }
            _ => address.clone_into(&mut target),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
