//! What clients and agents may hold open: connections, and bytes of requests that are not whole yet.
//!
//! The queue of questions is bounded further in ([`crate::node::doors`]); what comes before it is bounded here. Agents come
//! through the same listener and are not held up by clients: only the calls of clients are refused on a connection too
//! many, and a connection over which an agent speaks counts for clients no more.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::Connected;

use crate::api::overloaded;
use crate::telemetry;

/// Connections of clients that are served; on more of them each call is refused.
pub const CLIENT_CONNECTIONS_MAX: usize = 1_024;
/// What is said on those.
const CROWDED: &str = "this server has 1024 connections of clients already; use fewer, or another server";
/// Connections of clients and agents together; more are closed at once. All workers of a cluster fit
/// ([`rebound_core::limits::WORKERS_MAX`]).
pub const CONNECTIONS_MAX: usize = 12_288;
/// Bytes of clients' requests that have come and are not whole yet; a request with which there are more is refused.
pub const BYTES_COMING_MAX: u64 = 64 * 1024 * 1024;
/// Pause after a connection could not be accepted: out of file descriptors, say. Others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections as they come, without Nagle's delay: it would hold a small message back until the other side's delayed
/// acknowledgement, 40 ms. Never an error: tonic would stop listening.
pub fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // A connection that has gone already says so when it is read.
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(stream), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// The bounds of one server's listener; see the module.
#[derive(Clone)]
pub struct Entrance {
    all: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
    coming: Arc<AtomicU64>,
    clients_max: usize,
    all_max: usize,
    coming_max: u64,
}

impl Default for Entrance {
    fn default() -> Entrance {
        Entrance::bounded(CLIENT_CONNECTIONS_MAX, CONNECTIONS_MAX, BYTES_COMING_MAX)
    }
}

impl Entrance {
    /// Connections of clients, of all, and bytes on their way.
    pub fn bounded(clients_max: usize, all_max: usize, coming_max: u64) -> Entrance {
        Entrance {
            all: Arc::default(),
            clients: Arc::default(),
            coming: Arc::default(),
            clients_max,
            all_max,
            coming_max,
        }
    }

    /// Counts a connection; none when there are too many.
    pub fn enter<S>(&self, stream: S) -> Option<Connection<S>> {
        let place = Place(Arc::new(Held {
            entrance: self.clone(),
            crowded: AtomicBool::new(self.clients.fetch_add(1, Ordering::Relaxed) >= self.clients_max),
            agent: AtomicBool::new(false),
        }));
        // Dropped, it takes back what it counted.
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.all_max {
            telemetry::refused("connections");
            return None;
        }
        Some(Connection { stream, place })
    }

    /// A service of clients, within the bounds.
    pub fn guard<S>(&self, service: S) -> Guarded<S> {
        Guarded {
            entrance: self.clone(),
            service,
        }
    }
}

/// A connection that is counted, as long as it is open.
pub struct Connection<S> {
    stream: S,
    place: Place,
}

/// What a call knows of the connection it came on.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    entrance: Entrance,
    /// There was no room when it came, nor since.
    crowded: AtomicBool,
    agent: AtomicBool,
}

impl Place {
    /// An agent speaks here: no client's connection.
    pub fn is_agents(&self) {
        if !self.0.agent.swap(true, Ordering::Relaxed) {
            self.0.entrance.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a client's call on it is refused. One that finds room once keeps it.
    fn is_crowded(&self) -> bool {
        let Held {
            entrance, crowded, ..
        } = &*self.0;
        if crowded.load(Ordering::Relaxed) && entrance.clients.load(Ordering::Relaxed) <= entrance.clients_max
        {
            crowded.store(false, Ordering::Relaxed);
        }
        crowded.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.entrance.all.fetch_sub(1, Ordering::Relaxed);
        if !*self.agent.get_mut() {
            self.entrance.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Place;

    fn connect_info(&self) -> Place {
        self.place.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// See [`Entrance::guard`].
#[derive(Clone)]
pub struct Guarded<S> {
    entrance: Entrance,
    service: S,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let place = request.extensions().get::<Place>();
        if place.is_some_and(Place::is_crowded) {
            let refusal = overloaded(CROWDED);
            return Box::pin(async move { Ok(refusal.into_http()) });
        }
        let coming = |body| Body::new(Coming::new(&self.entrance, body));
        Box::pin(self.service.call(request.map(coming)))
    }
}

/// A request's body on its way: its bytes count until it is whole, which is when it is dropped.
struct Coming {
    body: Body,
    entrance: Entrance,
    bytes: u64,
}

impl Coming {
    fn new(entrance: &Entrance, body: Body) -> Coming {
        Coming {
            body,
            entrance: entrance.clone(),
            bytes: 0,
        }
    }

    /// False when there are too many.
    fn count(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let before = self.entrance.coming.fetch_add(bytes as u64, Ordering::Relaxed);
        before + bytes as u64 <= self.entrance.coming_max
    }
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        Poll::Ready(match self.count(bytes) {
            true => frame,
            false => Some(Err(overloaded("requests of too many bytes are on their way"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.entrance.coming.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// As many open files as the system lets this process have: each connection is one.
pub fn raise_open_files() {
    // SAFETY: both calls read and write the struct alone, and an all-zero one is valid.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        limit
    };
    if limit.rlim_max < CONNECTIONS_MAX as u64 {
        tracing::warn!(
            open_files = limit.rlim_max,
            "fewer open files are allowed than connections may come; raise the limit (LimitNOFILE, ulimit -Hn)"
        );
    }
}

#[cfg(test)]
#[path = "entrance_tests.rs"]
mod tests;
