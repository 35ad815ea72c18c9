//! Ports on loopback that nothing listens on.

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port on 127.0.0.1 that was free a moment ago.
///
/// Another process may take it before the caller's server binds it; the system hands ports out in turn, so that
/// is rare. A server that can bind port 0 and say which one it got should do that instead.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// As [`free_port`], `N` different ones: all are held until the last is drawn.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback can be bound")
    });
    held.map(|listener| {
        listener
            .local_addr()
            .expect("a bound listener has an address")
            .port()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: [u16; 3] = free_ports();
        let bound = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        assert!(bound.iter().all(Result::is_ok), "{ports:?}: {bound:?}");
    }
}
