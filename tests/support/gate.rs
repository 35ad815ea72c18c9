//! A gate on the road to a server: while it is shut, connections through it are cut and new ones refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::port::free_port;

/// See the module. It begins open, and is shut when it is dropped.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    server: SocketAddr,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stop: Arc<AtomicBool>,
    carried: Arc<Mutex<Carried>>,
    accepts: JoinHandle<()>,
}

/// Both ends of each connection.
#[derive(Debug, Default)]
struct Carried {
    next: u64,
    ends: BTreeMap<u64, (TcpStream, TcpStream)>,
}

impl Gate {
    /// A gate before the server at `address`.
    ///
    /// # Panics
    ///
    /// When the address is none, or no port is free.
    #[must_use]
    pub fn before(address: &str) -> Gate {
        let mut gate = Gate {
            port: free_port(),
            server: address.parse().expect("an address"),
            open: None,
        };
        gate.open();
        gate
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets connections through from now on.
    pub fn open(&mut self) {
        if self.open.is_some() {
            return;
        }
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the gate's port is its own");
        let (stop, carried) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Carried::default())),
        );
        let (stops, carries, server) = (stop.clone(), carried.clone(), self.server);
        let accepts = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is down turns its client away.
                if let Ok(server) = TcpStream::connect(server) {
                    let _ = carry(&carries, client, server);
                }
            }
        });
        self.open = Some(Open {
            stop,
            carried,
            accepts,
        });
    }

    /// Cuts what goes through it; nobody comes through from now on.
    pub fn shut(&mut self) {
        let Some(Open {
            stop,
            carried,
            accepts,
        }) = self.open.take()
        else {
            return;
        };
        stop.store(true, Ordering::SeqCst);
        // It waits for somebody to come.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        let _ = accepts.join();
        let carried = std::mem::take(&mut carried.lock().expect("nobody panics with it").ends);
        for end in carried
            .into_values()
            .flat_map(|(client, server)| [client, server])
        {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Two threads carry a connection, one each way, until either end closes it.
fn carry(carried: &Arc<Mutex<Carried>>, client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let number = {
        let mut carried = carried.lock().expect("nobody panics with it");
        carried.next += 1;
        let number = carried.next;
        carried
            .ends
            .insert(number, (client.try_clone()?, server.try_clone()?));
        number
    };
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (mut from, mut to) in ways {
        let carried = carried.clone();
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            carried
                .lock()
                .expect("nobody panics with it")
                .ends
                .remove(&number);
        });
    }
    Ok(())
}
