//! Connections between servers. What raft says goes over two streams to each peer, so that a heartbeat never waits
//! behind a megabyte of entries; snapshots have a connection of their own. Every queue is bounded in bytes, and a
//! full one drops: raft sends again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::Rng as _;
use rebound_core::io::SnapshotOrder;
use rebound_core::limits::PEER_MESSAGE_BYTES_MAX;
use rebound_core::replica::is_append;
use rebound_core::types::ReplicaId;
use rebound_proto::v1;
use rebound_proto::v1::peers_client::PeersClient;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::roster::Roster;
use crate::telemetry;

pub mod digests;
pub mod presence;
pub mod service;

/// Version of the servers' protocol that this build speaks; the only one so far.
pub const PEER_PROTOCOL: u32 = 1;
/// Messages longer than this, and all that bring entries, go over the bulk stream. Entries keep one stream whatever
/// their length: out of order, raft would refuse and send them again.
pub const BULK_BYTES: usize = 64 * 1024;
/// Bytes after which a frame is full. One message more may be in it.
const FRAME_BYTES: usize = 1024 * 1024;
/// A frame is at most so long.
pub const FRAME_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX + FRAME_BYTES + 64 * 1024;
/// Frames handed to a stream that has no room yet.
const FRAMES_AHEAD: usize = 2;
/// Longest time for a connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a connection failed, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection without a sign of life is given up after this and as long again.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// The small stream says something at least so often: a peer that lives is told from what is left of one.
const BEAT: Duration = Duration::from_millis(500);
/// What one stream may have in flight.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

/// How long a snapshot may take; [`rebound_core::limits::SNAPSHOT_HOLDS_LOG`] is longer than all of it.
const SNAPSHOT_PATIENCE: Patience = Patience {
    stall: Duration::from_secs(30),
    build: Duration::from_secs(600),
    whole: Duration::from_secs(6 * 3600),
    look: Duration::from_secs(1),
};

/// How long a snapshot may take, part by part.
#[derive(Clone, Copy)]
struct Patience {
    /// The follower takes nothing.
    stall: Duration,
    /// The follower has all of it, builds the state and installs it.
    build: Duration,
    /// All together.
    whole: Duration,
    /// Between two looks how far it has come.
    look: Duration,
}

/// All peers of this server.
pub struct Peers {
    roster: Arc<Roster>,
    queue_bytes: u64,
    peers: RwLock<BTreeMap<ReplicaId, Peer>>,
}

struct Peer {
    small: Queue,
    bulk: Queue,
    unreachable: Arc<AtomicBool>,
}

/// The stream of messages that must not wait behind entries.
const SMALL: &str = "small";

/// A queue bounded in bytes.
#[derive(Clone)]
struct Queue {
    messages: mpsc::UnboundedSender<Bytes>,
    bytes: Arc<AtomicU64>,
    most: u64,
}

impl Queue {
    /// False when it is full.
    fn put(&self, message: Bytes) -> bool {
        let length = message.len() as u64;
        if self.bytes.load(Ordering::Relaxed) + length > self.most {
            return false;
        }
        self.bytes.fetch_add(length, Ordering::Relaxed);
        self.messages.send(message).is_ok()
    }
}

/// The other end of a queue.
struct Outbox {
    messages: mpsc::UnboundedReceiver<Bytes>,
    bytes: Arc<AtomicU64>,
}

impl Outbox {
    fn taken(&self, message: &Bytes) {
        self.bytes.fetch_sub(message.len() as u64, Ordering::Relaxed);
    }

    async fn frame(&mut self) -> Option<v1::PeerFrame> {
        let first = self.messages.recv().await?;
        self.taken(&first);
        let mut bytes = first.len();
        let mut messages = vec![first];
        while bytes < FRAME_BYTES
            && let Ok(message) = self.messages.try_recv()
        {
            self.taken(&message);
            bytes += message.len();
            messages.push(message);
        }
        Some(v1::PeerFrame {
            body: Some(v1::peer_frame::Body::Raft(v1::RaftFrame {
                messages,
                digests: Vec::new(),
            })),
        })
    }

    /// Drops what waits. True when there was anything.
    fn clear(&mut self) -> bool {
        let mut any = false;
        while let Ok(message) = self.messages.try_recv() {
            self.taken(&message);
            any = true;
        }
        any
    }
}

impl Peers {
    /// Starts the connections to all that the roster names. `queue_bytes` bounds each queue. They end when this is
    /// dropped.
    pub fn start(roster: Arc<Roster>, queue_bytes: u64) -> Peers {
        let peers = Peers {
            roster,
            queue_bytes,
            peers: RwLock::default(),
        };
        peers.follow();
        peers
    }

    /// Who the others are.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The roster has changed: lines to those that are new, none to those that have gone.
    pub fn follow(&self) {
        // In this order: two that follow at once both end with the newest.
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.roster.others();
        peers.retain(|id, _| wanted.contains(id));
        for id in wanted {
            peers.entry(id).or_insert_with(|| self.dial(id));
        }
    }

    fn dial(&self, id: ReplicaId) -> Peer {
        let unreachable = Arc::new(AtomicBool::new(false));
        let connect = |name| connect(name, id, &self.roster, self.queue_bytes, &unreachable);
        let (small, bulk) = (connect(SMALL), connect("bulk"));
        Peer {
            small,
            bulk,
            unreachable,
        }
    }

    fn all(&self) -> RwLockReadGuard<'_, BTreeMap<ReplicaId, Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues messages. What does not fit is dropped and told by [`Peers::take_unreachable`].
    pub fn send(&self, messages: Vec<(ReplicaId, Bytes)>) {
        let peers = self.all();
        for (to, message) in messages {
            let Some(peer) = peers.get(&to) else { continue };
            let bulk = message.len() > BULK_BYTES || is_append(&message);
            let queue = if bulk { &peer.bulk } else { &peer.small };
            if !queue.put(message) {
                telemetry::peer_dropped(to);
                peer.unreachable.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Peers that something did not reach since the last call.
    pub fn take_unreachable(&self) -> Vec<ReplicaId> {
        let peers = self.all();
        let taken = peers
            .iter()
            .filter(|(_, peer)| peer.unreachable.swap(false, Ordering::Relaxed));
        taken.map(|(id, _)| *id).collect()
    }

    /// Bytes waiting for all peers together.
    pub fn queued_bytes(&self) -> u64 {
        let bytes = |queue: &Queue| queue.bytes.load(Ordering::Relaxed);
        self.all()
            .values()
            .map(|peer| bytes(&peer.small) + bytes(&peer.bulk))
            .sum()
    }

    /// Sends a snapshot on a connection of its own; the answer is whether the follower has taken it.
    pub fn send_snapshot(
        &self,
        order: &SnapshotOrder,
        chunks: mpsc::Receiver<v1::SnapshotChunk>,
    ) -> impl Future<Output = bool> + Send + use<> {
        let (address, hello) = (self.roster.peer_address(order.to), self.roster.hello(order.to));
        let (to, index, message) = (order.to, order.index, order.message.clone());
        async move {
            let Some(address) = address else { return false };
            match snapshot(&address, hello, message, chunks).await {
                Ok(()) => {
                    tracing::info!(%to, index, "snapshot taken by the follower");
                    true
                }
                Err(error) => {
                    tracing::warn!(%to, index, %error, "snapshot not taken by the follower");
                    false
                }
            }
        }
    }
}

async fn snapshot(
    address: &str,
    hello: v1::PeerHello,
    message: Bytes,
    chunks: mpsc::Receiver<v1::SnapshotChunk>,
) -> Result<(), String> {
    use v1::snapshot_frame::Body;
    let frame = |body| v1::SnapshotFrame { body: Some(body) };
    let head = [
        frame(Body::Hello(hello)),
        frame(Body::Head(v1::SnapshotHead { message })),
    ];
    let progress = Progress::default();
    let taken = progress.clone();
    let chunks = ReceiverStream::new(chunks).map(move |chunk| {
        taken.note(chunk.last);
        frame(Body::Chunk(chunk))
    });
    let mut client = client(address).await?;
    tokio::select! {
        done = client.snapshot(tokio_stream::iter(head).chain(chunks)) => {
            done.map(|_| ()).map_err(|status| format!("{address}: {}", status.message()))
        }
        why = progress.hangs(SNAPSHOT_PATIENCE) => Err(format!("{address}: {why}")),
    }
}

/// How far a snapshot has come, so that one that hangs is given up: while it is under way the log is not cut past it,
/// and the disk keeps what it shows.
#[derive(Clone, Default)]
struct Progress {
    chunks: Arc<AtomicU64>,
    all: Arc<AtomicBool>,
}

impl Progress {
    fn note(&self, last: bool) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.all.fetch_or(last, Ordering::Relaxed);
    }

    /// Ends, with the reason, when the snapshot hangs.
    async fn hangs(self, patience: Patience) -> &'static str {
        let begun = tokio::time::Instant::now();
        let (mut seen, mut moved) = (0, begun);
        loop {
            tokio::time::sleep(patience.look).await;
            let now = tokio::time::Instant::now();
            let chunks = self.chunks.load(Ordering::Relaxed);
            if std::mem::replace(&mut seen, chunks) != chunks {
                moved = now;
            }
            let all = self.all.load(Ordering::Relaxed);
            if now.duration_since(begun) > patience.whole {
                return "the snapshot took too long";
            }
            if all && now.duration_since(moved) > patience.build {
                return "the follower did not say what became of the snapshot";
            }
            if !all && now.duration_since(moved) > patience.stall {
                return "the snapshot hangs: the follower takes nothing";
            }
        }
    }
}

pub(crate) async fn client(address: &str) -> Result<PeersClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW);
    // tonic's error hides its reason behind "transport error".
    let channel = endpoint.connect().await.map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("{address}: {reason}")
    })?;
    // A relay's answers are what the leader says to an agent: as large as that may be.
    let client = PeersClient::new(channel).max_decoding_message_size(FRAME_BYTES_MAX);
    Ok(client.max_encoding_message_size(FRAME_BYTES_MAX))
}

fn connect(
    name: &'static str,
    id: ReplicaId,
    roster: &Arc<Roster>,
    most: u64,
    unreachable: &Arc<AtomicBool>,
) -> Queue {
    let (messages, waiting) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicU64::new(0));
    let outbox = Outbox {
        messages: waiting,
        bytes: bytes.clone(),
    };
    let line = Line {
        name,
        id,
        roster: roster.clone(),
        unreachable: unreachable.clone(),
        beats: name == SMALL,
    };
    tokio::spawn(line.run(outbox));
    Queue {
        messages,
        bytes,
        most,
    }
}

/// Why a peer refused this server for good: no other try helps. A reason that this build does not know is none.
fn refused_for_good(status: &tonic::Status) -> Option<v1::peer_refusal::Kind> {
    let refusal = v1::PeerRefusal::decode(status.details()).ok()?;
    Some(refusal.kind()).filter(|kind| *kind != v1::peer_refusal::Kind::Unspecified)
}

/// One stream to one peer, made again whenever it ends.
struct Line {
    name: &'static str,
    id: ReplicaId,
    roster: Arc<Roster>,
    unreachable: Arc<AtomicBool>,
    /// It speaks also when there is nothing to say.
    beats: bool,
}

/// A frame that says only that this server lives, and what its state is.
fn beat(roster: &Roster) -> v1::PeerFrame {
    let frame = v1::RaftFrame {
        messages: Vec::new(),
        digests: roster.digests().told(),
    };
    v1::PeerFrame {
        body: Some(v1::peer_frame::Body::Raft(frame)),
    }
}

impl Line {
    async fn run(self, mut outbox: Outbox) {
        let mut pause = PAUSE_MIN;
        let mut said = String::new();
        loop {
            let begun = tokio::time::Instant::now();
            let Err(why) = self.stream(&mut outbox).await else {
                return;
            };
            if begun.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            if why != said {
                tracing::info!(peer = %self.id, stream = self.name, %why, "peer stream ended");
                said = why;
            }
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(PAUSE_MAX);
            // What waited meanwhile is old: raft is told, and says what is true now.
            if outbox.clear() {
                self.unreachable.store(true, Ordering::Relaxed);
            }
            if outbox.messages.is_closed() {
                return;
            }
        }
    }

    /// Runs one stream to its end. `Ok` when this server stops.
    async fn stream(&self, outbox: &mut Outbox) -> Result<(), String> {
        let Some(address) = self.roster.peer_address(self.id) else {
            return Err("its address is not known any more".to_owned());
        };
        let mut client = client(&address).await?;
        let (frames, waiting) = mpsc::channel(FRAMES_AHEAD);
        let hello = v1::PeerFrame {
            body: Some(v1::peer_frame::Body::Hello(self.roster.hello(self.id))),
        };
        frames.send(hello).await.map_err(|error| error.to_string())?;
        let call = client.raft(ReceiverStream::new(waiting));
        tokio::pin!(call);
        let ended = |done: Result<_, tonic::Status>| match done {
            Ok(_) => "the peer closed it".to_owned(),
            Err(status) => {
                match refused_for_good(&status) {
                    Some(v1::peer_refusal::Kind::OtherVersion) => {
                        self.roster.outgrow(status.message().to_owned());
                    }
                    Some(_) => self.roster.dismiss(status.message().to_owned()),
                    None => {}
                }
                format!("{:?}: {}", status.code(), status.message())
            }
        };
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let frame = tokio::select! {
                done = &mut call => return Err(ended(done)),
                frame = outbox.frame() => frame,
                _ = beats.tick(), if self.beats => Some(beat(&self.roster)),
            };
            let Some(frame) = frame else { return Ok(()) };
            tokio::select! {
                done = &mut call => return Err(ended(done)),
                sent = frames.send(frame) => sent.map_err(|_| "the stream has gone".to_owned())?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);
    const PATIENCE: Patience = Patience {
        stall: LONG,
        build: LONG,
        whole: LONG,
        look: Duration::from_millis(1),
    };

    #[tokio::test]
    async fn a_snapshot_that_hangs_is_given_up_whatever_it_waits_for() {
        let progress = Progress::default();
        progress.note(false);
        let stall = Patience {
            stall: SHORT,
            ..PATIENCE
        };
        assert!(progress.clone().hangs(stall).await.contains("takes nothing"));
        let whole = Patience {
            whole: SHORT,
            ..PATIENCE
        };
        assert!(progress.clone().hangs(whole).await.contains("too long"));
        progress.note(true);
        // It takes nothing more, since it has everything.
        let build = Patience {
            build: 2 * SHORT,
            ..stall
        };
        let why = progress.hangs(build).await;
        assert!(why.contains("did not say what became"), "{why}");
    }
}
