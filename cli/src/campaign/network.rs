//! A network of namespaces: each server in one, the agents in another, this process in a third, joined by a bridge.
//! Servers listen on loopback alone, each on an address of its own; packets to another server's are translated to its
//! address on the bridge, and there back to its loopback. So a packet between two of them passes the bridge, and rules
//! of its receiver decide whether it arrives. All of it ends with this process.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::root::run;
use crate::exit::Failure;
use crate::local::Place;

/// The tools it needs.
pub const TOOLS: [&str; 4] = ["ip", "iptables", "sysctl", "mount"];
/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
/// The bridge, where this process is.
const BRIDGE: &str = "bridge0";
/// This process' number on the bridge; beyond what rules for all others cover.
const OWN: u8 = 254;
/// The agents'.
pub const AGENTS: u8 = 100;
/// All but this process.
const OTHERS: &str = "10.77.0.0/25";

/// See the module.
pub struct Network {
    servers: u8,
}

fn on_bridge(number: u8) -> String {
    format!("10.77.0.{number}")
}

/// A server's loopback address.
fn loopback(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, server)
}

fn name(number: u8) -> String {
    format!("n{number}")
}

/// Runs a line in a namespace; 254 is this process' own.
fn within(number: u8, line: &str) -> Result<(), Failure> {
    let name = name(number);
    let inside = ["ip", "netns", "exec", &name];
    let line = line.split_whitespace();
    let line: Vec<&str> = match number {
        OWN => line.collect(),
        _ => inside.into_iter().chain(line).collect(),
    };
    run(&line).map(|_| ())
}

impl Network {
    /// Makes it, for so many servers and one namespace of agents.
    pub fn make(servers: u8) -> Result<Network, Failure> {
        std::fs::create_dir_all(NAMES).map_err(|error| Failure::failed(format!("{NAMES}: {error}")))?;
        within(OWN, &format!("mount -t tmpfs none {NAMES}"))?;
        within(OWN, "ip link set lo up")?;
        within(OWN, &format!("ip link add {BRIDGE} type bridge"))?;
        within(OWN, &format!("ip addr add {}/24 dev {BRIDGE}", on_bridge(OWN)))?;
        within(OWN, &format!("ip link set {BRIDGE} up"))?;
        let network = Network { servers };
        for number in network.numbers() {
            let (name, address) = (name(number), on_bridge(number));
            within(OWN, &format!("ip netns add {name}"))?;
            within(
                OWN,
                &format!("ip link add v{number} type veth peer name eth0 netns {name}"),
            )?;
            within(OWN, &format!("ip link set v{number} master {BRIDGE} up"))?;
            within(number, "ip link set lo up")?;
            within(number, &format!("ip addr add {address}/24 dev eth0"))?;
            within(number, "ip link set eth0 up")?;
            network.translate(number, "eth0")?;
        }
        network.translate(OWN, BRIDGE)?;
        Ok(network)
    }

    fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        (1..=self.servers).chain([AGENTS])
    }

    /// Addresses of other servers become those on the bridge, and back.
    fn translate(&self, number: u8, device: &str) -> Result<(), Failure> {
        within(
            number,
            &format!("sysctl -qw net.ipv4.conf.{device}.route_localnet=1"),
        )?;
        let nat = |rule: String| within(number, &format!("iptables -w -t nat -A {rule}"));
        for server in (1..=self.servers).filter(|server| *server != number) {
            let (from, to) = (loopback(server), on_bridge(server));
            nat(format!("OUTPUT -d {from} -j DNAT --to-destination {to}"))?;
        }
        let own = on_bridge(number);
        nat(format!(
            "POSTROUTING -o {device} -s 127.0.0.0/8 -j SNAT --to-source {own}"
        ))?;
        if number <= self.servers {
            let to = loopback(number);
            nat(format!(
                "PREROUTING -i {device} -d {own} -j DNAT --to-destination {to}"
            ))?;
        }
        Ok(())
    }

    fn place(number: u8, address: Option<Ipv4Addr>) -> Place {
        Place {
            address,
            network: Some(PathBuf::from(NAMES).join(name(number))),
            ..Place::default()
        }
    }

    /// Where the servers are.
    pub fn servers_at(&self) -> Vec<Place> {
        (1..=self.servers)
            .map(|server| Network::place(server, Some(loopback(server))))
            .collect()
    }

    /// Where the agents are.
    pub fn agents_at(&self) -> Place {
        Network::place(AGENTS, None)
    }

    /// Nothing from one arrives at the other any more.
    pub fn cut(&self, from: u8, to: u8) -> Result<(), Failure> {
        within(
            to,
            &format!("iptables -w -A INPUT -s {} -j DROP", on_bridge(from)),
        )
    }

    /// So many of a hundred packets between servers and agents are lost.
    pub fn lose(&self, percent: u8) -> Result<(), Failure> {
        let share = format!("0.{percent:02}");
        for number in self.numbers() {
            let rule = format!("INPUT -s {OTHERS} -m statistic --mode random --probability {share} -j DROP");
            within(number, &format!("iptables -w -A {rule}"))?;
        }
        Ok(())
    }

    /// Everything arrives again.
    pub fn heal(&self) -> Result<(), Failure> {
        self.numbers()
            .try_for_each(|number| within(number, "iptables -w -F INPUT"))
    }
}
