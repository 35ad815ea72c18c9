//! What other servers say to this one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rebound_core::state::{Plant, State};
use rebound_core::types::ReplicaId;
use rebound_proto::v1;
use rebound_proto::v1::peers_server::Peers;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use super::PEER_PROTOCOL;
use crate::store::pairs::Pairs;

/// A snapshot that has come whole, with where to say whether it was installed.
pub struct Received {
    /// raft's message.
    pub message: Bytes,
    /// The state, built from checked pairs.
    pub state: Box<State>,
    /// The pairs, for the disk.
    pub pairs: Box<Pairs>,
    /// True once the order to install it was given.
    pub installed: oneshot::Sender<bool>,
}

/// The service; see the module.
pub struct PeerService {
    cluster: String,
    id: ReplicaId,
    members: Vec<ReplicaId>,
    plant: Plant,
    snapshot_bytes: u64,
    raft: mpsc::Sender<Bytes>,
    snapshots: mpsc::Sender<Received>,
    one_snapshot: Semaphore,
    incarnations: Mutex<BTreeMap<u64, u64>>,
}

impl PeerService {
    /// For this server of this cluster. Messages of raft go into `raft`, whole snapshots into `snapshots`.
    pub fn new(
        config: &crate::config::Config,
        raft: mpsc::Sender<Bytes>,
        snapshots: mpsc::Sender<Received>,
    ) -> PeerService {
        PeerService {
            cluster: config.cluster_id().0,
            id: config.id(),
            members: config.member_ids(),
            plant: config.plant(),
            snapshot_bytes: config.limits.snapshot_bytes,
            raft,
            snapshots,
            one_snapshot: Semaphore::new(1),
            incarnations: Mutex::default(),
        }
    }

    /// Lets in members of this cluster that mean this server and have not lost their disk since they were first
    /// seen: one that has would vote again in a term in which it voted before.
    fn check(&self, hello: Option<v1::PeerHello>) -> Result<ReplicaId, Status> {
        let checked = self.greet(hello);
        if let Err(status) = &checked {
            tracing::warn!(why = status.message(), "peer refused");
        }
        checked
    }

    fn greet(&self, hello: Option<v1::PeerHello>) -> Result<ReplicaId, Status> {
        let Some(hello) = hello else {
            return Err(Status::invalid_argument("hello: must be the first frame"));
        };
        let v1::PeerHello {
            cluster,
            from,
            to,
            incarnation,
            protocol_min,
            protocol_max,
        } = hello;
        let denied = |why: String| Err(Status::permission_denied(why));
        if cluster != self.cluster {
            return denied(format!(
                "cluster: this server is of {}, server {from} of {cluster:?}",
                self.cluster
            ));
        }
        if to != self.id.0 {
            return denied(format!(
                "to: this is server {}, not {to}; correct the member list",
                self.id
            ));
        }
        if from == self.id.0 || !self.members.contains(&ReplicaId(from)) {
            return denied(format!("from: server {from} is not another member of {cluster}"));
        }
        if !(protocol_min..=protocol_max).contains(&PEER_PROTOCOL) {
            let message = format!(
                "server {from} speaks peer protocol {protocol_min} to {protocol_max}, this one {PEER_PROTOCOL}"
            );
            return Err(Status::failed_precondition(message));
        }
        let mut known = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        match *known.entry(from).or_insert(incarnation) == incarnation {
            true => Ok(ReplicaId(from)),
            false => denied(format!(
                "incarnation: server {from} came back with another data directory; a server that lost its disk must \
                 not vote again under its old id"
            )),
        }
    }

    async fn receive(&self, mut frames: Streaming<v1::SnapshotFrame>) -> Result<(), Status> {
        use v1::snapshot_frame::Body;
        let hello = match next(&mut frames).await? {
            Some(Body::Hello(hello)) => Some(hello),
            _ => None,
        };
        let from = self.check(hello)?;
        let Ok(_one) = self.one_snapshot.try_acquire() else {
            return Err(Status::unavailable("another snapshot is being received"));
        };
        let Some(Body::Head(v1::SnapshotHead { message })) = next(&mut frames).await? else {
            return Err(Status::invalid_argument("head: must be the second frame"));
        };
        let mut pairs = Pairs::default();
        while !pairs.is_whole() {
            let Some(Body::Chunk(chunk)) = next(&mut frames).await? else {
                return Err(Status::invalid_argument(
                    "chunk: the snapshot ended before its last chunk",
                ));
            };
            pairs
                .take(chunk, self.snapshot_bytes)
                .map_err(Status::invalid_argument)?;
        }
        tracing::info!(%from, bytes = pairs.bytes(), "snapshot received");
        self.install(message, pairs).await
    }

    async fn install(&self, message: Bytes, pairs: Pairs) -> Result<(), Status> {
        let plant = self.plant;
        let load = move || {
            let refs = pairs.state.iter().map(|(key, value)| (&key[..], &value[..]));
            State::load(refs, plant).map(|state| (Box::new(state), Box::new(pairs)))
        };
        let loaded = tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let (state, pairs) = loaded.map_err(|error| Status::data_loss(error.to_string()))?;
        let (installed, answer) = oneshot::channel();
        let received = Received {
            message,
            state,
            pairs,
            installed,
        };
        let stops = || Status::unavailable("this server stops");
        self.snapshots.send(received).await.map_err(|_| stops())?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Status::aborted("the snapshot was not needed any more")),
            Err(_) => Err(stops()),
        }
    }
}

async fn next(frames: &mut Streaming<v1::SnapshotFrame>) -> Result<Option<v1::snapshot_frame::Body>, Status> {
    Ok(frames.message().await?.and_then(|frame| frame.body))
}

#[tonic::async_trait]
impl Peers for PeerService {
    async fn raft(
        &self,
        request: Request<Streaming<v1::PeerFrame>>,
    ) -> Result<Response<v1::PeerDone>, Status> {
        use v1::peer_frame::Body;
        let mut frames = request.into_inner();
        let hello = match frames.message().await?.and_then(|frame| frame.body) {
            Some(Body::Hello(hello)) => Some(hello),
            _ => None,
        };
        self.check(hello)?;
        loop {
            // An idle stream must not hold this server's end up.
            let frame = tokio::select! {
                () = self.raft.closed() => return Err(Status::unavailable("this server stops")),
                frame = frames.message() => frame?,
            };
            let Some(frame) = frame else {
                return Ok(Response::new(v1::PeerDone {}));
            };
            let Some(Body::Raft(frame)) = frame.body else {
                return Err(Status::invalid_argument("raft: only the first frame is a hello"));
            };
            for message in frame.messages {
                // Waiting here fills the connection, and then the sender's queue: nothing grows without bound.
                if self.raft.send(message).await.is_err() {
                    return Err(Status::unavailable("this server stops"));
                }
            }
        }
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotFrame>>,
    ) -> Result<Response<v1::SnapshotDone>, Status> {
        self.receive(request.into_inner()).await?;
        Ok(Response::new(v1::SnapshotDone {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn service() -> PeerService {
        let mut text = "cluster = \"c\"\nserver = 1\ndata_dir = \"d\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
                        peer = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n"
            .to_owned();
        for id in 1..=3 {
            text += &format!(
                "[[members]]\nid = {id}\npeer = \"127.0.0.1:1{id}\"\nclient = \"127.0.0.1:2{id}\"\n"
            );
        }
        let config = Config::parse(&text, std::path::Path::new("c.toml")).unwrap();
        PeerService::new(&config, mpsc::channel(1).0, mpsc::channel(1).0)
    }

    #[test]
    fn only_members_that_mean_this_server_come_in() {
        let service = service();
        let hello = || v1::PeerHello {
            cluster: service.cluster.clone(),
            from: 2,
            to: 1,
            incarnation: 9,
            protocol_min: PEER_PROTOCOL,
            protocol_max: PEER_PROTOCOL + 1,
        };
        let why = |hello| service.greet(hello).unwrap_err().message().to_owned();
        assert_eq!(service.greet(Some(hello())).unwrap(), ReplicaId(2));
        assert!(why(None).starts_with("hello: "));
        assert!(
            why(Some(v1::PeerHello {
                cluster: "other".into(),
                ..hello()
            }))
            .starts_with("cluster: ")
        );
        assert!(why(Some(v1::PeerHello { to: 3, ..hello() })).starts_with("to: this is server 1, not 3"));
        assert!(why(Some(v1::PeerHello { from: 1, ..hello() })).starts_with("from: "));
        assert!(why(Some(v1::PeerHello { from: 4, ..hello() })).starts_with("from: "));
        let protocol_min = PEER_PROTOCOL + 1;
        assert!(
            why(Some(v1::PeerHello {
                protocol_min,
                ..hello()
            }))
            .contains("peer protocol 2 to 2")
        );
        assert!(
            why(Some(v1::PeerHello {
                incarnation: 10,
                ..hello()
            }))
            .starts_with("incarnation: server 2")
        );
        assert_eq!(
            service.greet(Some(hello())).unwrap(),
            ReplicaId(2),
            "the one first seen still comes in"
        );
    }
}
