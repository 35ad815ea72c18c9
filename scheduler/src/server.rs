//! A whole server: opens the data directory, starts its parts, and stops them in order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rebound_core::replica::{Config as ReplicaConfig, RecoverError, Replica};
use rebound_core::types::{ClusterId, Index};
use rebound_core::version::Build;
use rebound_pricer::experience::Experience;
use rebound_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Server as Grpc;

use crate::api::{Api, services};
use crate::cloud::local::Local;
use crate::cloud::{Cloud, NoCloud};
use crate::config::{Config, Driver};
use crate::entrance::{Entrance, accepted, raise_open_files};
use crate::join::join;
use crate::market::{self, FilesError, Watch};
use crate::node::{Clock, Control, Handle, Node, Outside, doors};
use crate::peers::service::PeerService;
use crate::peers::{FRAME_BYTES_MAX, Peers};
use crate::roster::Roster;
use crate::store::identity::Identity;
use crate::store::photos::Reader;
use crate::store::thread::{Durable, start};
use crate::store::{Store, StoreError};
use crate::{http, telemetry};

/// Streams on one connection of a client.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// Headers of one request, in bytes.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// What one stream may have in flight, in bytes.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// A connection without a sign of life is given up after this and as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A server that is no member any more answers the others for so long before it stops.
const DISMISSED_LINGERS: Duration = Duration::from_secs(3);
/// Listeners get so long to end what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The store gets so long to make its last writes durable.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the data directory holds.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// An address.
    #[error("{field}: cannot listen on {address}: {why}")]
    Listen {
        field: &'static str,
        address: String,
        why: std::io::Error,
    },
    /// A new cluster without servers.
    #[error(
        "members: name the servers that the new cluster begins with, this one included; a server that comes to a cluster that runs starts with --join"
    )]
    NoMembers,
    /// A cluster that does not take this server.
    #[error("--join {address}: {why}")]
    Join { address: String, why: String },
    /// A file of the market.
    #[error("market: {0}")]
    Market(#[from] FilesError),
    /// The machine.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// Starts servers.
pub struct Server;

/// A server that runs.
pub struct RunningServer {
    handle: Handle,
    control: mpsc::UnboundedSender<Control>,
    dismissed: watch::Receiver<Option<String>>,
    roster: Arc<Roster>,
    stop: watch::Sender<bool>,
    node: JoinHandle<()>,
    listeners: Vec<JoinHandle<()>>,
    writer: std::thread::JoinHandle<()>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Sockets, bound before anything else starts.
struct Sockets {
    client: TcpListener,
    peer: TcpListener,
    http: TcpListener,
}

impl Server {
    /// Makes the data directory of a new cluster's server.
    pub fn init(config: &Config) -> Result<(), StartError> {
        if config.members.is_empty() {
            return Err(StartError::NoMembers);
        }
        let identity = Identity::found(config.cluster_id().0, config.server, config.founders());
        Ok(Store::init(&config.data_dir, &identity, &config.store)?)
    }

    /// Makes the data directory of a server that was added to the cluster of the server at `address`, and says so to
    /// that cluster. Must be called within a tokio runtime.
    pub async fn join(config: &Config, address: &str) -> Result<(), StartError> {
        join(config, &Build::ours(), address).await
    }

    /// Starts a server on its data directory. Must be called within a tokio runtime.
    pub async fn start(config: Config) -> Result<RunningServer, StartError> {
        Server::start_as(config, Build::ours()).await
    }

    async fn start_as(config: Config, build: Build) -> Result<RunningServer, StartError> {
        let config = Arc::new(config);
        let sockets = bind(&config).await?;
        let clock = Clock::start(config.clock);
        let cloud = cloud(&config);
        let market = watch_market(&config, &cloud, clock)?;
        let (store, replica) = recover(&config, &build, &clock)?;
        let roster = roster(&config, store.identity(), &replica);
        let roster = Arc::new(roster.of_build(build));
        let disk = store.disk().clone();
        let reader = Arc::new(Reader::new(disk.clone(), config.limits.photo_lists as usize));

        let (doors, inbox) = doors();
        let peers = Arc::new(Peers::start(roster.clone(), config.limits.peer_queue_bytes));
        let durable = durable(peers.clone(), doors.control.clone());
        let (jobs, writer) = start(store, reader, durable).map_err(StartError::Thread)?;
        let api = Api::new(doors.handle.clone(), config.clone(), roster.clone());
        let service = PeerService::new(
            &config,
            roster.clone(),
            peers.clone(),
            &doors,
            Arc::downgrade(&disk),
            api.clone(),
        );
        let (handle, control) = (doors.handle.clone(), doors.control.clone());
        let (experience_tell, experience) = watch::channel(Experience::default());
        if let Some(market) = market {
            tokio::spawn(market.run(experience, control.clone()));
        }
        let policy = rebound_core::plan::Policy {
            run_tasks_max: config.limits.run_photos,
            ..Default::default()
        };
        let outside = Outside {
            jobs,
            cloud,
            experience: experience_tell,
            peers,
        };
        let node = Node::new(replica, policy, clock, outside, doors, inbox);
        let node = tokio::spawn(node.run());

        let (stop, stopped) = watch::channel(false);
        let listeners = vec![
            tokio::spawn(serve_clients(sockets.client, api, stopped.clone())),
            tokio::spawn(serve_peers(sockets.peer, service, stopped.clone())),
            tokio::spawn(http::serve(
                sockets.http,
                handle.clone(),
                Arc::downgrade(&disk),
                stopped,
            )),
        ];
        tracing::info!(
            cluster = roster.cluster(), server = config.server, client = %config.listen.client, peer = %config.listen.peer,
            http = %config.listen.http, data_dir = %config.data_dir.display(), "server started"
        );
        Ok(RunningServer {
            handle,
            control,
            dismissed: roster.dismissal(),
            roster,
            stop,
            node,
            listeners,
            writer,
            closed: Box::pin(disk.closed()),
        })
    }
}

impl RunningServer {
    /// To ask it from within the process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Resolves when the server's own task has ended, which it does only when told to or by a panic.
    pub async fn ended(&mut self) {
        let _ = (&mut self.node).await;
    }

    /// Resolves, with the reason, when this server is no member of its cluster or must not be: it is to be stopped.
    pub async fn dismissed(&self) -> String {
        dismissal(self.dismissed.clone()).await
    }

    /// Stops it: leadership goes to another one, no new calls, streams of agents end, what is with the store becomes durable, the directory is free.
    pub async fn stop(self) {
        let RunningServer {
            handle,
            control,
            dismissed: _,
            roster: _,
            stop,
            node,
            mut listeners,
            writer,
            closed,
        } = self;
        drop(handle);
        // Peers and clients are heard until another server leads.
        let _ = control.send(Control::Stop);
        if !node.is_finished() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, node).await;
        }
        stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        for listener in &mut listeners {
            if tokio::time::timeout_at(deadline, &mut *listener).await.is_err() {
                listener.abort();
            }
        }
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("the store is not closed after {CLOSE_TIMEOUT:?}");
        }
        tracing::info!("server stopped");
    }
}

/// How a server begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// On its data directory.
    Again,
    /// Its data directory is made first, of a new cluster.
    Init,
    /// It comes to the cluster of the server that clients reach at this address.
    Join(String),
}

/// How a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// It did not start, or could not go on.
    Failed,
    /// It is no member of its cluster, or lost its disk: it must not be started again.
    Dismissed,
    /// Its build does not know the version at which its cluster runs: another build is to be started.
    OtherVersion,
}

/// Runs a server until it is told to stop by SIGTERM or SIGINT, or is no member of its cluster any more. Any panic
/// ends the process at once: what it would do next is not known to be right.
pub fn main(config: Config, start: &Start) -> End {
    main_as(config, start, Build::ours())
}

/// The same as another build would: for tests of upgrades, which have one build alone.
pub fn main_as(config: Config, start: &Start, build: Build) -> End {
    telemetry::logging(&config.logging);
    abort_on_panic();
    raise_open_files();
    telemetry::install();
    if *start == Start::Init
        && let Err(error) = Server::init(&config)
    {
        return fail(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::Thread(error)),
    };
    let end = runtime.block_on(async {
        if let Start::Join(address) = start
            && let Err(error) = join(&config, &build, address).await
        {
            return fail(&error);
        }
        match Server::start_as(config, build).await {
            Ok(server) => run(server).await,
            Err(error) => fail(&error),
        }
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
    end
}

async fn run(mut server: RunningServer) -> End {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        server.stop().await;
        return fail(&StartError::Thread(std::io::Error::other(
            "signals cannot be heard",
        )));
    };
    let told = server.dismissed.clone();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = server.ended() => return End::Failed,
        why = dismissal(told) => {
            if server.roster.is_outgrown() {
                tracing::error!(%why, "the cluster has outgrown this build: stopping");
                eprintln!("error: {why}");
                server.stop().await;
                return End::OtherVersion;
            }
            tracing::error!(%why, "this server is no member of its cluster: stopping for good");
            eprintln!("error: {why}");
            if !server.roster.is_diverged() {
                // Others may not know yet that the change is done, and need this one's voice until they do.
                tokio::time::sleep(DISMISSED_LINGERS).await;
            }
            server.stop().await;
            return End::Dismissed;
        }
    }
    server.stop().await;
    End::Stopped
}

/// Resolves with the reason when this server must stop for good.
async fn dismissal(mut told: watch::Receiver<Option<String>>) -> String {
    loop {
        let why = told.borrow_and_update().clone();
        match why {
            Some(why) => return why,
            None if told.changed().await.is_ok() => {}
            None => std::future::pending().await,
        }
    }
}

fn fail(error: &StartError) -> End {
    tracing::error!(%error, "server did not start");
    eprintln!("error: {error}");
    match error {
        StartError::Recover(RecoverError::OtherVersion(_)) | StartError::Store(StoreError::Newer(_)) => {
            End::OtherVersion
        }
        _ => End::Failed,
    }
}

fn abort_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        tracing::error!(%info, "panic: this server ends");
        std::process::abort();
    }));
}

async fn bind(config: &Config) -> Result<Sockets, StartError> {
    let bind = async |field, address: &String| {
        let bound = TcpListener::bind(address).await;
        bound.map_err(|why| StartError::Listen {
            field,
            address: address.clone(),
            why,
        })
    };
    Ok(Sockets {
        client: bind("listen.client", &config.listen.client).await?,
        peer: bind("listen.peer", &config.listen.peer).await?,
        http: bind("listen.http", &config.listen.http).await?,
    })
}

/// The cloud that the configuration names.
fn cloud(config: &Config) -> Arc<dyn Cloud> {
    match (config.cloud.driver, config.cloud.socket()) {
        (Driver::Local, Some(address)) => Arc::new(Local::new(address)),
        _ => Arc::new(NoCloud),
    }
}

/// Who watches the market, if there is one.
fn watch_market(config: &Config, cloud: &Arc<dyn Cloud>, clock: Clock) -> Result<Option<Watch>, StartError> {
    if config.cloud.driver == Driver::None {
        return Ok(None);
    }
    let files = market::load(&config.market)?;
    let every = Duration::from_millis(config.cloud.prices_every_ms);
    Ok(Some(Watch::new(cloud.clone(), clock, files, every)?))
}

fn recover(config: &Config, build: &Build, clock: &Clock) -> Result<(Store, Replica), StartError> {
    let mut store = Store::open(
        &config.data_dir,
        &config.cluster,
        config.server,
        &config.store,
        config.log.archive,
    )?;
    let found = store.recover(config.plant())?;
    let (applied, entries): (Index, usize) = (found.state.applied(), found.entries.len());
    let Identity {
        cluster,
        founders,
        incarnation,
        ..
    } = store.identity().clone();
    let own = ReplicaConfig {
        log_keep: config.log.keep,
        clock_rate: clock.rate(),
        plant: config.plant(),
        incarnation,
        build: build.clone(),
        ..ReplicaConfig::new(config.id(), founders, ClusterId(cluster))
    };
    if let Some(difference) = config.differs_from(&found.state) {
        tracing::warn!(%difference, "the configuration's list of members is not the cluster's; the cluster's counts");
    }
    let replica = Replica::recover(own, found, clock.now())?;
    tracing::info!(applied, entries, "data directory read");
    Ok((store, replica))
}

fn roster(config: &Config, identity: &Identity, replica: &Replica) -> Roster {
    let mut own = config.own();
    // As it was added, whatever this file says now.
    if let Some(member) = replica.state().members.get(own.id) {
        (own.peer, own.client) = (member.peer.clone(), member.client.clone());
    }
    own.incarnation = identity.incarnation;
    let roster = Roster::new(identity.cluster.clone(), own, &identity.founders, replica.state());
    roster.listening(&config.listen.peer)
}

/// What waits for an order's durability goes first to the peers, then the replica is told.
fn durable(peers: Arc<Peers>, control: mpsc::UnboundedSender<Control>) -> Durable {
    Box::new(move |id, sends| {
        peers.send(sends);
        let _ = control.send(Control::Persisted(id));
    })
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn serve_clients(listener: TcpListener, api: Api, stop: watch::Receiver<bool>) {
    let entrance = Entrance::default();
    let routes = services(api, &entrance);
    let incoming = accepted(listener).filter_map(move |stream| {
        let entered = match stream {
            Ok(stream) => entrance.enter(stream).map(Ok),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(entered)
    });
    let served = grpc()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopped(stop));
    if let Err(error) = served.await {
        tracing::error!(%error, "the clients' listener failed");
    }
}

async fn serve_peers(listener: TcpListener, service: PeerService, stop: watch::Receiver<bool>) {
    let service = v1::peers_server::PeersServer::new(service).max_decoding_message_size(FRAME_BYTES_MAX);
    let served = grpc()
        .add_service(service)
        .serve_with_incoming_shutdown(accepted(listener), stopped(stop));
    if let Err(error) = served.await {
        tracing::error!(%error, "the peers' listener failed");
    }
}

fn grpc() -> Grpc {
    Grpc::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 4)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
}
