//! The stream to the leader: finds it among the servers, keeps one stream, and finds it again.
//!
//! One task tries the servers in turn, a server that knows the leader shortens the way. What happens goes to the agent's
//! loop in order: [`Event::Up`], messages, [`Event::Down`], and again.
//!
//! A leader that was named and cannot be reached from here is reached through another server, which is asked to relay the
//! stream. Meanwhile the leader itself is tried now and then, and taken when it can be reached again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use prost::Message;
use rand::Rng;
use rebound_proto::v1;
use rebound_proto::v1::agents_client::AgentsClient;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tracing::{debug, info, warn};

/// Longest wait for a connection. Servers are near.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// Longest wait for a server to take the stream; it is given more when no server did.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a server to take the stream, ever.
pub const MAX_GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// Least time between two attempts, before jitter: at most 20 attempts a second …
pub const ATTEMPT_SPACING: Duration = Duration::from_millis(50);

/// … and after rounds in which no server had us, this much: with three servers the leader is still found within a
/// second of being elected.
pub const MAX_ATTEMPT_SPACING: Duration = Duration::from_millis(250);

/// A connection that does not answer pings for so long is dead.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the connection is pinged.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Messages that may wait for the network. The machine keeps fewer under way; a full queue means a stuck stream.
pub const OUTGOING_MESSAGES: usize = 64;

/// Messages that may wait for the agent's loop; beyond, the network waits.
pub const INCOMING_MESSAGES: usize = 64;

/// Largest message taken from a server, in bytes.
pub const MAX_SERVER_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Most hints of servers, who leads, that are followed one after another before the round goes on.
pub const MAX_HINTS_IN_A_ROW: u32 = 2;

/// The metadata key that asks a server that does not lead to relay the stream. Its value is the leader's address, as it was
/// named: a server that follows another one by now names that one instead, and one that leads by now takes the stream
/// itself. One that relays it says so under the same key.
pub const RELAY_KEY: &str = "rebound-relay";

/// While a stream is relayed, its leader is tried after so long …
pub const DIRECT_AFTER: Duration = Duration::from_secs(10);

/// … and after twice as long each time that it could be connected to and yet took no stream, at most.
pub const MAX_DIRECT_AFTER: Duration = Duration::from_secs(300);

/// Most servers of a cluster that are tried.
pub const MAX_SERVERS: usize = 32;

/// A server's address that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not host:port.
    #[error("{0:?} is not an address; give host:port, for example 127.0.0.1:7101")]
    Malformed(String),
    /// There are no credentials yet, so nothing leaves the machine.
    #[error("{0:?} is not on this machine; until there are credentials only loopback addresses are taken")]
    NotLoopback(String),
}

/// A server's address, checked: `host:port`, with or without `http://`.
pub fn parse_address(text: &str) -> Result<SocketAddr, AddressError> {
    let bare = text.trim();
    let bare = bare.strip_prefix("http://").unwrap_or(bare).trim_end_matches('/');
    let address = match bare.strip_prefix("localhost:") {
        Some(port) => port
            .parse()
            .ok()
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
        None => bare.parse::<SocketAddr>().ok(),
    };
    match address {
        Some(address) if is_loopback(address.ip()) => Ok(address),
        Some(_) => Err(AddressError::NotLoopback(text.to_string())),
        None if bare
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) =>
        {
            Err(AddressError::NotLoopback(text.to_string()))
        }
        None => Err(AddressError::Malformed(text.to_string())),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// What the link tells the agent's loop.
#[derive(Debug)]
pub enum Event {
    /// A stream is open; this is its way out. Dropping it ends the stream.
    Up(mpsc::Sender<v1::AgentMessage>),
    /// The server said this.
    Message(v1::ServerMessage),
    /// The stream is over.
    Down,
}

/// The agent's end of the link.
pub struct Link {
    /// What happens, in order.
    pub events: mpsc::Receiver<Event>,
    /// Which stream is to end, counted in [`Event::Up`]s.
    give_up: watch::Sender<u64>,
    streams: u64,
}

impl Link {
    /// Starts looking for the leader. `servers` is not empty.
    pub fn start(servers: Vec<SocketAddr>) -> Link {
        let (sender, events) = mpsc::channel(INCOMING_MESSAGES);
        let (give_up, given_up) = watch::channel(0);
        let search = Search {
            servers,
            at: 0,
            hint: None,
            hints: 0,
            failures: 0,
            named: String::new(),
            unreached: None,
            direct_after: DIRECT_AFTER,
        };
        tokio::spawn(run(search, sender, given_up));
        Link {
            events,
            give_up,
            streams: 0,
        }
    }

    /// The next event; never ends while the link's task lives.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.count(event)
    }

    /// The next event, if it is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok();
        self.count(event)
    }

    fn count(&mut self, event: Option<Event>) -> Option<Event> {
        self.streams += u64::from(matches!(event, Some(Event::Up(_))));
        event
    }

    /// Ends the present stream; the search goes on.
    pub fn give_up(&self) {
        self.give_up.send_replace(self.streams);
    }
}

/// Which server to try next, and when.
struct Search {
    servers: Vec<SocketAddr>,
    at: usize,
    hint: Option<SocketAddr>,
    /// Hints followed one after another: two servers that name each other must not keep us from the third.
    hints: u32,
    failures: u32,
    /// The last hint that was followed, as it was given.
    named: String,
    /// The leader that was named last, and could not be reached.
    unreached: Option<SocketAddr>,
    /// Until it is tried again while another server relays.
    direct_after: Duration,
}

impl Search {
    fn next(&mut self) -> SocketAddr {
        if let Some(hint) = self.hint.take() {
            self.hints += 1;
            // Until it has answered.
            self.unreached = Some(hint);
            return hint;
        }
        self.hints = 0;
        let server = self.servers[self.at % self.servers.len()];
        self.at += 1;
        server
    }

    /// Jittered; grows with each round that found nobody.
    fn spacing(&self) -> Duration {
        let rounds = self.rounds();
        let spacing = ATTEMPT_SPACING
            .saturating_mul(1 << rounds.min(4))
            .min(MAX_ATTEMPT_SPACING);
        spacing.mul_f64(rand::rng().random_range(0.75..1.25))
    }

    /// Rounds in which no server took us.
    fn rounds(&self) -> u32 {
        self.failures / u32::try_from(self.servers.len()).unwrap_or(u32::MAX).max(1)
    }

    fn patience(&self) -> Duration {
        GREETING_TIMEOUT
            .saturating_mul(1 + self.rounds().min(8))
            .min(MAX_GREETING_TIMEOUT)
    }

    /// The leader that is not reached from here, when `server` is asked to relay to it.
    fn relay_past(&self, server: SocketAddr) -> Option<SocketAddr> {
        self.unreached.filter(|leader| *leader != server)
    }

    /// The server answered, or took the stream.
    fn reached(&mut self, server: SocketAddr) {
        if self.unreached == Some(server) {
            self.unreached = None;
            self.direct_after = DIRECT_AFTER;
        }
    }

    /// While its stream is relayed the leader could be connected to: it is tried next.
    fn try_direct(&mut self, leader: SocketAddr) {
        self.hint = Some(leader);
        self.direct_after = (self.direct_after * 2).min(MAX_DIRECT_AFTER);
    }

    fn refused(&mut self, server: SocketAddr, status: &tonic::Status) {
        let refusal = v1::Refusal::decode(status.details()).unwrap_or_default();
        if refusal.kind() != v1::refusal::Kind::Unspecified {
            self.reached(server);
        }
        if refusal.kind() != v1::refusal::Kind::NotLeader {
            debug!(%server, code = ?status.code(), message = status.message(), "the server did not keep the stream");
            return;
        }
        match parse_address(&refusal.leader) {
            Ok(leader) if leader != server && self.hints < MAX_HINTS_IN_A_ROW => {
                self.hint = Some(leader);
                self.named = refusal.leader;
            }
            Err(error @ AddressError::NotLoopback(_)) => {
                warn!(%server, %error, "the leader it names is not tried")
            }
            _ => {}
        }
    }
}

async fn run(mut search: Search, events: mpsc::Sender<Event>, mut given_up: watch::Receiver<u64>) {
    let mut next_attempt = Instant::now();
    let mut stream = 0;
    while !events.is_closed() {
        sleep_until(next_attempt).await;
        next_attempt = Instant::now() + search.spacing();
        let server = search.next();
        let past = search.relay_past(server);
        let Ok(mut client) = connect(server).await else {
            search.failures = search.failures.saturating_add(1);
            continue;
        };
        stream += 1;
        let (outgoing, messages) = mpsc::channel(OUTGOING_MESSAGES);
        if events.send(Event::Up(outgoing)).await.is_err() {
            return;
        }
        let relay = past.map(|_| search.named.as_str());
        let (tell_relayed, relayed) = watch::channel(false);
        let heard = tokio::select! {
            ended = converse(&mut client, search.patience(), messages, &events, relay, &tell_relayed) => ended,
            leader = direct(past, relayed, search.direct_after) => {
                search.try_direct(leader);
                Ended { heard: true, status: None }
            }
            _ = given_up.wait_for(|given_up| *given_up >= stream) => Ended { heard: false, status: None },
        };
        search.failures = if heard.heard {
            0
        } else {
            search.failures.saturating_add(1)
        };
        if heard.heard {
            search.reached(server);
            // What ended it may be another leader, which can perhaps be reached from here.
            search.unreached = None;
        }
        if let Some(status) = heard.status {
            search.refused(server, &status);
        }
        if events.send(Event::Down).await.is_err() {
            return;
        }
    }
}

/// Ends when the leader that a stream is relayed past can be connected to again; never for a stream that is not relayed.
async fn direct(past: Option<SocketAddr>, mut relayed: watch::Receiver<bool>, after: Duration) -> SocketAddr {
    let is_relayed = relayed.wait_for(|relayed| *relayed).await.is_ok();
    let Some(leader) = past.filter(|_| is_relayed) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(after).await;
        if connect(leader).await.is_ok() {
            info!(%leader, "the leader can be reached again");
            return leader;
        }
    }
}

/// How a stream ended.
struct Ended {
    /// The server said something on it.
    heard: bool,
    status: Option<tonic::Status>,
}

async fn connect(
    server: SocketAddr,
) -> Result<AgentsClient<tonic::transport::Channel>, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{server}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .inspect_err(|error| debug!(%server, %error, "no connection"))?;
    Ok(AgentsClient::new(channel).max_decoding_message_size(MAX_SERVER_MESSAGE_BYTES))
}

/// Opens the stream and hands on what the server says, until the stream ends. `relay` is the leader that the server
/// shall relay it to; whether it does is told.
async fn converse(
    client: &mut AgentsClient<tonic::transport::Channel>,
    patience: Duration,
    messages: mpsc::Receiver<v1::AgentMessage>,
    events: &mpsc::Sender<Event>,
    relay: Option<&str>,
    tell_relayed: &watch::Sender<bool>,
) -> Ended {
    let mut heard = false;
    let ended = |heard, status| Ended { heard, status };
    // The server may wait for our first word before it opens its side.
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    if let Some(leader) = relay.and_then(|leader| MetadataValue::try_from(leader).ok()) {
        request.metadata_mut().insert(RELAY_KEY, leader);
    }
    let session = timeout(patience, client.session(request)).await;
    let mut incoming = match session {
        Ok(Ok(response)) => {
            tell_relayed.send_replace(response.metadata().contains_key(RELAY_KEY));
            response.into_inner()
        }
        Ok(Err(status)) => return ended(heard, Some(status)),
        Err(_) => return ended(heard, None),
    };
    loop {
        match incoming.next().await {
            Some(Ok(message)) => {
                if !heard {
                    info!(relayed = *tell_relayed.borrow(), "a leader answers");
                }
                heard = true;
                if events.send(Event::Message(message)).await.is_err() {
                    return ended(heard, None);
                }
            }
            Some(Err(status)) => return ended(heard, Some(status)),
            None => return ended(heard, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_this_machine() {
        for good in [
            "127.0.0.1:7101",
            "http://127.0.0.1:7101",
            "localhost:7101",
            "[::1]:7101",
            " 127.9.9.9:1/ ",
        ] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for elsewhere in [
            "10.0.0.1:7101",
            "0.0.0.0:1",
            "scheduler.example:7101",
            "http://[2001:db8::1]:1",
        ] {
            assert_eq!(
                parse_address(elsewhere),
                Err(AddressError::NotLoopback(elsewhere.to_string()))
            );
        }
        for bad in [
            "",
            "7101",
            "127.0.0.1",
            "localhost:http",
            "127.0.0.1:99999",
            ":7101",
        ] {
            assert_eq!(parse_address(bad), Err(AddressError::Malformed(bad.to_string())));
        }
    }

    fn search(servers: u16) -> Search {
        let servers = (1..=servers)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        Search {
            servers,
            at: 0,
            hint: None,
            hints: 0,
            failures: 0,
            named: String::new(),
            unreached: None,
            direct_after: DIRECT_AFTER,
        }
    }

    fn not_leader(leader: &str) -> tonic::Status {
        let refusal = v1::Refusal {
            kind: v1::refusal::Kind::NotLeader.into(),
            leader: leader.into(),
            ..Default::default()
        };
        tonic::Status::with_details(
            tonic::Code::FailedPrecondition,
            "not leader",
            refusal.encode_to_vec().into(),
        )
    }

    #[test]
    fn hints_are_followed_but_not_for_ever() {
        let mut search = search(3);
        let first = search.next();
        search.refused(first, &not_leader("127.0.0.1:3"));
        let hinted = search.next();
        assert_eq!(hinted.port(), 3);
        search.refused(hinted, &not_leader("127.0.0.1:1"));
        let again = search.next();
        assert_eq!(again.port(), 1);
        search.refused(again, &not_leader("127.0.0.1:3"));
        assert_eq!(search.next().port(), 2, "two that name each other are left");
        search.refused(first, &not_leader("127.0.0.1:1"));
        assert_eq!(
            search.next().port(),
            3,
            "a server that names itself is not believed"
        );
        search.refused(first, &not_leader("10.0.0.1:9"));
        assert_eq!(search.next().port(), 1);
    }

    #[test]
    fn another_server_is_asked_to_relay_only_past_a_leader_that_was_named_and_not_reached() {
        let mut search = search(3);
        let first = search.next();
        assert_eq!(search.relay_past(first), None, "no leader was named yet");
        search.refused(first, &not_leader("127.0.0.1:3"));
        let leader = search.next();
        assert_eq!(
            search.relay_past(leader),
            None,
            "the leader itself relays nothing"
        );
        // It could not be connected to: the search goes on.
        let second = search.next();
        assert_eq!((second.port(), search.relay_past(second)), (2, Some(leader)));
        assert_eq!(search.named, "127.0.0.1:3", "as it was given");
        // It refuses, and names another leader, which answers.
        search.refused(second, &not_leader("127.0.0.1:1"));
        let other = search.next();
        assert_eq!((other.port(), search.relay_past(other)), (1, None));
        search.reached(other);
        assert_eq!(search.relay_past(second), None);
    }

    #[test]
    fn the_leader_is_tried_again_less_and_less_often_while_it_takes_no_stream() {
        let mut search = search(3);
        let leader = SocketAddr::from(([127, 0, 0, 1], 3));
        for _ in 0..20 {
            search.try_direct(leader);
            assert_eq!(search.next(), leader);
        }
        assert_eq!(search.direct_after, MAX_DIRECT_AFTER);
        search.reached(leader);
        assert_eq!(search.direct_after, DIRECT_AFTER);
    }

    #[test]
    fn the_rate_of_attempts_is_bounded_and_a_round_of_three_takes_less_than_a_second() {
        let mut search = search(3);
        for failures in [0, 1, 10, 1000, u32::MAX] {
            search.failures = failures;
            for _ in 0..100 {
                let spacing = search.spacing();
                assert!(spacing >= ATTEMPT_SPACING.mul_f64(0.7), "{spacing:?}");
                assert!(spacing * 3 < Duration::from_secs(1), "{spacing:?}");
            }
        }
    }
}
