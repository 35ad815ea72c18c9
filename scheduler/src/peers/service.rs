//! What other servers say to this one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use rebound_core::codec;
use rebound_core::replica::snapshot::about;
use rebound_core::state::members::{Founder, Stranger};
use rebound_core::state::{Plant, State};
use rebound_core::types::ReplicaId;
use rebound_core::version::Build;
use rebound_proto::v1;
use rebound_proto::v1::peers_server::Peers;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Request, Response, Status, Streaming};

use super::digests::judge;
use super::presence::{Presence, Process, Stay, Twin};
use super::{PEER_PROTOCOL, Peers as Outgoing};
use crate::api::agents::first_word;
use crate::api::{Api, From};
use crate::config::Config;
use crate::node::{Control, Doors};
use crate::relay::{of_agent, to_agent};
use crate::roster::Roster;
use crate::store::Disk;
use crate::store::aside::Aside;
use crate::telemetry;

/// Longest wait for the next frame of a snapshot: the place for it is not held for a sender that hangs.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// A snapshot that has come whole, with where to say whether it was installed.
pub struct Received {
    /// raft's message.
    pub message: Bytes,
    /// The state, built from its checked records.
    pub state: Box<State>,
    /// The records, on disk beside those that count.
    pub aside: Aside,
    /// True once the order to install it was given.
    pub installed: oneshot::Sender<bool>,
}

/// The service; see the module.
pub struct PeerService {
    roster: Arc<Roster>,
    peers: Arc<Outgoing>,
    presence: Arc<Presence>,
    plant: Plant,
    snapshot_bytes: u64,
    disk: Weak<Disk>,
    api: Api,
    raft: mpsc::Sender<Bytes>,
    snapshots: mpsc::Sender<Received>,
    control: mpsc::UnboundedSender<Control>,
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    id: ReplicaId,
    incarnation: u64,
}

impl PeerService {
    /// For this server of this cluster. Messages of raft go into `doors`, whole snapshots too, which come to `disk`.
    pub fn new(
        config: &Config,
        roster: Arc<Roster>,
        peers: Arc<Outgoing>,
        doors: &Doors,
        disk: Weak<Disk>,
        api: Api,
    ) -> PeerService {
        PeerService {
            roster,
            peers,
            presence: Arc::default(),
            plant: config.plant(),
            snapshot_bytes: config.limits.snapshot_bytes,
            disk,
            api,
            raft: doors.peers.clone(),
            snapshots: doors.snapshots.clone(),
            control: doors.control.clone(),
        }
    }

    /// Lets in servers of this cluster that mean this one and have not lost their disk since they were first met: one
    /// that has would vote again in a term in which it voted before. Of two processes with one disk one comes in, for as
    /// long as what is returned lasts.
    fn check(
        &self,
        hello: Option<v1::PeerHello>,
        from: Option<SocketAddr>,
    ) -> Result<(Caller, Stay), Status> {
        let process = hello.as_ref().map_or_else(nobody, |hello| process(hello, from));
        let caller = self.greet(hello).inspect_err(|status| {
            tracing::warn!(why = status.message(), "peer refused");
        })?;
        let stay = self.presence.come(caller.id, process, Instant::now());
        Ok((caller, stay.map_err(|other| twin(&other))?))
    }

    fn greet(&self, hello: Option<v1::PeerHello>) -> Result<Caller, Status> {
        let Some(hello) = hello else {
            return Err(Status::invalid_argument("hello: must be the first frame"));
        };
        let (from, own) = (ReplicaId(hello.from), self.roster.own());
        let denied = |why: String| Err(Status::permission_denied(why));
        if !(hello.protocol_min..=hello.protocol_max).contains(&PEER_PROTOCOL) {
            let message = format!(
                "protocol: server {from} speaks peer protocol {} to {}, server {own} speaks {PEER_PROTOCOL}; run \
                 builds that have one in common",
                hello.protocol_min, hello.protocol_max
            );
            return Err(Status::failed_precondition(message));
        }
        if hello.cluster != self.roster.cluster() {
            return denied(format!(
                "cluster: this server is of {}, server {from} of {:?}",
                self.roster.cluster(),
                hello.cluster
            ));
        }
        if hello.to != own.0 {
            return denied(format!(
                "to: this is server {own}, not {}; correct the address",
                hello.to
            ));
        }
        if from == own || from.0 == 0 {
            return denied(format!("from: server {from} is not another one"));
        }
        let said = Founder {
            id: from,
            peer: hello.peer_address.clone(),
            client: hello.client_address.clone(),
            incarnation: hello.incarnation,
        };
        let (id, incarnation) = (from, said.incarnation);
        let build = codec::build(&hello.build, hello.version_min, hello.version_max);
        // The leader shows to operators who came, also when it was not let in.
        let _ = self.control.send(Control::Met {
            id,
            incarnation,
            build: build.clone(),
        });
        self.roster.admits(id, incarnation).map_err(stranger)?;
        self.is_meant(&hello)?;
        self.knows_version(&hello, &build)?;
        if !self.roster.meet(said) {
            return denied(format!(
                "incarnation: server {id} came back with another data directory; a server that lost its disk must \
                 not vote again under its old id"
            ));
        }
        self.peers.follow();
        Ok(Caller { id, incarnation })
    }

    /// The caller's state knows this server with a data directory. With another one it must not take what is meant
    /// for the server that it was: raft would take it for one that holds what it has lost.
    fn is_meant(&self, hello: &v1::PeerHello) -> Result<(), Status> {
        let (known, own) = (hello.to_incarnation, self.roster.incarnation());
        if known == 0 || known == own {
            return Ok(());
        }
        let why = Stranger::OtherDisk {
            id: self.roster.own(),
            known,
            said: own,
        };
        self.roster.dismiss(why.to_string());
        Err(Status::permission_denied(why.to_string()))
    }

    /// Each must know the version at which the other runs; whoever does not has to stop.
    fn knows_version(&self, hello: &v1::PeerHello, build: &Build) -> Result<(), Status> {
        let (runs, ours) = self.roster.versions();
        if let Err(refused) = build.versions.allow(runs) {
            let kind = v1::peer_refusal::Kind::OtherVersion.into();
            let details = v1::PeerRefusal { kind }.encode_to_vec();
            let why = format!("server {} runs build {:?}: {refused}", hello.from, build.name);
            return Err(Status::with_details(
                Code::FailedPrecondition,
                why,
                details.into(),
            ));
        }
        let theirs = codec::build("", hello.version, hello.version).versions.newest;
        if let Err(refused) = ours.allow(theirs.max(runs)) {
            let why = format!("server {} runs at another version: {refused}", hello.from);
            self.roster.outgrow(why.clone());
            return Err(Status::failed_precondition(why));
        }
        Ok(())
    }

    async fn receive(&self, request: Request<Streaming<v1::SnapshotFrame>>) -> Result<(), Status> {
        use v1::snapshot_frame::Body;
        let address = request.remote_addr();
        let mut frames = request.into_inner();
        let hello = match next(&mut frames).await? {
            Some(Body::Hello(hello)) => Some(hello),
            _ => None,
        };
        let (Caller { id: from, .. }, _stay) = self.check(hello, address)?;
        let Some(Body::Head(v1::SnapshotHead { message })) = next(&mut frames).await? else {
            return Err(Status::invalid_argument("head: must be the second frame"));
        };
        let about = about(&message).map_err(|why| Status::invalid_argument(format!("head: {why}")))?;
        let disk = self.disk.upgrade().ok_or_else(stops)?;
        let begun = blocking(move || Ok(Aside::begin(&disk))).await?;
        let Some(mut aside) = begun else {
            return Err(Status::unavailable("another snapshot is being received"));
        };
        while !aside.is_whole() {
            let Some(Body::Chunk(chunk)) = next(&mut frames).await? else {
                return Err(Status::invalid_argument(
                    "chunk: the snapshot ended before its last chunk",
                ));
            };
            let most = self.snapshot_bytes;
            let take = move || aside.take(&chunk, most).map(|()| aside);
            aside = blocking(take).await?;
        }
        tracing::info!(%from, index = about.index, bytes = aside.bytes(), "snapshot received");
        let plant = self.plant;
        let load = move || aside.load(&about, plant).map(|state| (state, aside));
        let (state, aside) = blocking(load).await?;
        self.install(message, state, aside).await
    }

    async fn install(&self, message: Bytes, state: Box<State>, aside: Aside) -> Result<(), Status> {
        let (installed, answer) = oneshot::channel();
        let received = Received {
            message,
            state,
            aside,
            installed,
        };
        self.snapshots.send(received).await.map_err(|_| stops())?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Status::aborted("the snapshot was not needed any more")),
            Err(_) => Err(stops()),
        }
    }
}

fn stops() -> Status {
    Status::unavailable("this server stops")
}

/// Work for the disk, on a thread that may wait. What is wrong with the snapshot is said to its sender.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Status::internal(error.to_string()))?
        .map_err(Status::invalid_argument)
}

async fn next(frames: &mut Streaming<v1::SnapshotFrame>) -> Result<Option<v1::snapshot_frame::Body>, Status> {
    let frame = tokio::time::timeout(FRAME_TIMEOUT, frames.message()).await;
    let frame =
        frame.map_err(|_| Status::deadline_exceeded("the next frame of the snapshot did not come"))?;
    Ok(frame?.and_then(|frame| frame.body))
}

fn nobody() -> Process {
    Process {
        boot: 0,
        at: String::new(),
    }
}

fn process(hello: &v1::PeerHello, from: Option<SocketAddr>) -> Process {
    let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
    Process {
        boot: hello.boot,
        at: format!("{from} (it listens on {})", hello.listens),
    }
}

/// Once it is proven that two live, the one that is refused stops. Until then it may be that the other one has just ended.
fn twin(other: &Twin) -> Status {
    telemetry::twin(other.id);
    if other.first || other.proven {
        tracing::error!(server = %other.id, why = %other, "two processes run as one server");
    }
    if !other.proven {
        return Status::unavailable(other.to_string());
    }
    let kind = v1::peer_refusal::Kind::Twin.into();
    let details = v1::PeerRefusal { kind }.encode_to_vec();
    Status::with_details(Code::PermissionDenied, other.to_string(), details.into())
}

/// A refusal that is final: the caller stops.
fn stranger(why: Stranger) -> Status {
    use v1::peer_refusal::Kind;
    let kind = match why {
        Stranger::Removed(_) => Kind::Removed,
        Stranger::OtherDisk { .. } => Kind::OtherDisk,
    };
    let details = v1::PeerRefusal { kind: kind.into() }.encode_to_vec();
    Status::with_details(Code::PermissionDenied, why.to_string(), details.into())
}

#[tonic::async_trait]
impl Peers for PeerService {
    async fn raft(
        &self,
        request: Request<Streaming<v1::PeerFrame>>,
    ) -> Result<Response<v1::PeerDone>, Status> {
        use v1::peer_frame::Body;
        let address = request.remote_addr();
        let mut frames = request.into_inner();
        let hello = match frames.message().await?.and_then(|frame| frame.body) {
            Some(Body::Hello(hello)) => Some(hello),
            _ => None,
        };
        let (caller, stay) = self.check(hello, address)?;
        let mut changes = self.roster.watch();
        loop {
            // An idle stream must not hold this server's end up.
            let frame = tokio::select! {
                Ok(()) = changes.changed() => {
                    self.roster.admits(caller.id, caller.incarnation).map_err(stranger)?;
                    continue;
                }
                () = self.raft.closed() => return Err(Status::unavailable("this server stops")),
                frame = frames.message() => frame?,
            };
            let Some(frame) = frame else {
                return Ok(Response::new(v1::PeerDone {}));
            };
            let Some(Body::Raft(frame)) = frame.body else {
                return Err(Status::invalid_argument("raft: only the first frame is a hello"));
            };
            if !stay.heard() {
                // It hears why with its next hello.
                return Err(Status::aborted("boot: another process speaks under this id"));
            }
            if !frame.digests.is_empty() {
                judge(
                    &self.roster,
                    &self.roster.digests().hear(caller.id, &frame.digests),
                );
            }
            for message in frame.messages {
                // Waiting here fills the connection, and then the sender's queue: nothing grows without bound.
                if self.raft.send(message).await.is_err() {
                    return Err(Status::unavailable("this server stops"));
                }
            }
        }
    }

    type RelayStream = Pin<Box<dyn Stream<Item = Result<v1::RelayFrame, Status>> + Send>>;

    async fn relay(
        &self,
        request: Request<Streaming<v1::RelayFrame>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        use v1::relay_frame::Body;
        let address = request.remote_addr();
        let mut frames = request.into_inner();
        let mut opening = async || {
            let frame = tokio::time::timeout(FRAME_TIMEOUT, frames.message()).await;
            let frame = frame.map_err(|_| Status::deadline_exceeded("relay: nothing was said"))?;
            Ok::<_, Status>(frame?.and_then(|frame| frame.body))
        };
        let hello = match opening().await? {
            Some(Body::Hello(hello)) => Some(hello),
            _ => None,
        };
        let (_, stay) = self.check(hello, address)?;
        let Some(Body::Head(head)) = opening().await? else {
            return Err(Status::invalid_argument("head: must be the second frame"));
        };
        let mut incoming = of_agent(frames);
        let first = first_word(&mut incoming).await?;
        let said = self.api.attend(&From::relayed(head), first, incoming).await?;
        Ok(Response::new(Box::pin(said.map(move |message| {
            let _held = &stay;
            to_agent(message)
        }))))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotFrame>>,
    ) -> Result<Response<v1::SnapshotDone>, Status> {
        self.receive(request).await?;
        Ok(Response::new(v1::SnapshotDone {}))
    }
}

#[cfg(test)]
mod tests;
