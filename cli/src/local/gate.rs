//! The road between agents and servers: each server is announced to agents at a gate of ours, which can hold what an
//! agent says. So a worker can be killed with results that no server has heard of, at a moment of our choosing.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes carried at once.
const PIECE: usize = 64 * 1024;

/// What the gates do, by the local port of the agent's end.
#[derive(Clone, Default)]
struct Orders {
    held: BTreeSet<u16>,
    cut: BTreeSet<u16>,
}

/// All gates together.
#[derive(Clone)]
pub struct Gates {
    orders: Arc<watch::Sender<Orders>>,
    open: Arc<Mutex<BTreeSet<u16>>>,
}

impl Gates {
    /// No gate yet.
    pub fn new() -> Gates {
        Gates {
            orders: Arc::new(watch::Sender::new(Orders::default())),
            open: Arc::default(),
        }
    }

    /// Opens a gate before a server. Agents that connect while the server is down are turned away.
    pub fn open(&self, listener: TcpListener, server: String) {
        let gates = self.clone();
        tokio::spawn(async move {
            while let Ok((agent, from)) = listener.accept().await {
                let (gates, server) = (gates.clone(), server.clone());
                tokio::spawn(async move {
                    let port = from.port();
                    gates.open.lock().expect("never poisoned").insert(port);
                    if let Ok(server) = TcpStream::connect(&server).await {
                        gates.carry(agent, server, port).await;
                    }
                    gates.open.lock().expect("never poisoned").remove(&port);
                    // The next connection may get the same port.
                    gates.orders.send_modify(|orders| {
                        orders.held.remove(&port);
                        orders.cut.remove(&port);
                    });
                });
            }
        });
    }

    /// Holds everything the process says from now on; what servers say to it goes through.
    pub fn hold(&self, process: u32) {
        let ports = self.ports_of(process);
        self.orders.send_modify(|orders| orders.held.extend(&ports));
    }

    /// What is held goes on.
    pub fn release(&self) {
        self.orders.send_modify(|orders| orders.held.clear());
    }

    /// What is held is lost, with the connections it was on.
    pub fn lose(&self) {
        self.orders.send_modify(|orders| {
            let held = std::mem::take(&mut orders.held);
            orders.cut.extend(held);
        });
    }

    async fn carry(&self, agent: TcpStream, server: TcpStream, port: u16) {
        let _ = agent.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_agent, to_agent) = agent.into_split();
        let (from_server, to_server) = server.into_split();
        let orders = self.orders.subscribe();
        tokio::select! {
            _ = guarded(from_agent, to_server, port, orders) => {}
            _ = plain(from_server, to_agent) => {}
        }
    }

    /// The ports of our connections whose other end is this process.
    fn ports_of(&self, process: u32) -> BTreeSet<u16> {
        let sockets = sockets_of(process);
        let open = self.open.lock().expect("never poisoned");
        let owned = tcp_ports()
            .into_iter()
            .filter(|(port, socket)| open.contains(port) && sockets.contains(socket));
        owned.map(|(port, _)| port).collect()
    }
}

async fn plain(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<u64> {
    tokio::io::copy(&mut from, &mut to).await
}

async fn guarded(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    port: u16,
    mut orders: watch::Receiver<Orders>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        let free = |orders: &Orders| !orders.held.contains(&port) || orders.cut.contains(&port);
        let cut = match orders.wait_for(free).await {
            Ok(orders) => orders.cut.contains(&port),
            Err(_) => true,
        };
        if cut {
            return Ok(());
        }
        to.write_all(&piece[..read]).await?;
    }
}

/// Numbers of the sockets a process has open.
fn sockets_of(process: u32) -> BTreeSet<u64> {
    let dir = PathBuf::from(format!("/proc/{process}/fd"));
    let links = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let targets = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| {
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .collect()
}

/// Local port and socket number of all connections of this machine.
fn tcp_ports() -> Vec<(u16, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        let port = u16::from_str_radix(columns.nth(1)?.rsplit(':').next()?, 16).ok()?;
        Some((port, columns.nth(7)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(row).collect()
}
