//! Where to ask: the addresses given, the leader as last heard, and the open connections.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::limits::CONNECT_TIMEOUT;

/// Shared by all calls of one client.
#[derive(Debug)]
pub(super) struct Route {
    servers: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    target: String,
    /// Place of the address given that was asked last: a leader that is not among them may not be reached from here.
    last: usize,
    channels: BTreeMap<String, Channel>,
}

impl Route {
    pub fn new(servers: Vec<String>) -> Self {
        let target = servers.first().cloned().unwrap_or_default();
        Self {
            servers,
            state: Mutex::new(State {
                target,
                last: 0,
                channels: BTreeMap::new(),
            }),
        }
    }

    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The address to ask now.
    pub fn target(&self) -> String {
        self.lock().target.clone()
    }

    /// Asks `leader` from now on.
    pub fn follow(&self, leader: String) {
        self.lock().target = leader;
    }

    /// Turns away from `from` to the next address given, unless another call did so already.
    pub fn turn_from(&self, from: &str) {
        let mut state = self.lock();
        if state.target != from {
            return;
        }
        let given = self.servers.iter().position(|server| server == from);
        let next = given.unwrap_or(state.last) + 1;
        let next = if next < self.servers.len() { next } else { 0 };
        if let Some(server) = self.servers.get(next) {
            state.target = server.clone();
            state.last = next;
        }
    }

    /// A connection to `address`, new if there is none yet. Nothing has been asked when this fails.
    pub async fn channel(&self, address: &str, limit: Duration) -> Result<Channel, String> {
        if let Some(channel) = self.lock().channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = connect(address, limit).await?;
        self.lock().channels.insert(address.to_string(), channel.clone());
        Ok(channel)
    }

    /// Forgets a connection that gave trouble.
    pub fn drop_channel(&self, address: &str) {
        self.lock().channels.remove(address);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: &str, limit: Duration) -> Result<Channel, String> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|_| "not an address".to_string())?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    match tokio::time::timeout(limit.min(CONNECT_TIMEOUT), endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err("no connection in time".into()),
    }
}

/// The innermost cause: the outer ones only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_turn() {
        let route = Route::new(vec!["a".into(), "b".into()]);
        assert_eq!(route.target(), "a");
        route.turn_from("a");
        assert_eq!(route.target(), "b");
        route.turn_from("a");
        assert_eq!(route.target(), "b", "another call already turned away from a");
        route.turn_from("b");
        assert_eq!(route.target(), "a");
        route.follow("c".into());
        route.turn_from("c");
        assert_eq!(
            route.target(),
            "b",
            "the list goes on behind a leader that is not in it and cannot be reached"
        );
    }
}
