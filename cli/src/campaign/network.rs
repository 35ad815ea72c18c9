//! A network of namespaces: each server in one, the agents in another, this process in a third, joined by a bridge.
//! Servers listen on loopback alone, each on an address of its own; packets to another server's are translated to its
//! address on the bridge, and there back to its loopback. So a packet between two of them passes the bridge, and rules
//! of its receiver decide whether it arrives. All of it ends with this process.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

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
/// Where packets that are dropped would have arrived. Rules are in a chain of this name, the same in each namespace.
const CHAIN: &str = "INPUT";

/// What a rule has seen. Packets are the kernel's: what it puts together to hand over at once is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Whose packets; none: those of all servers and agents.
    pub from: Option<u8>,
    /// Where they would have arrived.
    pub to: u8,
    /// Packets that came.
    pub came: u64,
    /// Packets of these that were dropped.
    pub dropped: u64,
}

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
    said_within(number, line).map(|_| ())
}

/// The same, and what it printed.
fn said_within(number: u8, line: &str) -> Result<String, Failure> {
    let name = name(number);
    let inside = ["ip", "netns", "exec", &name];
    let line = line.split_whitespace();
    let line: Vec<&str> = match number {
        OWN => line.collect(),
        _ => inside.into_iter().chain(line).collect(),
    };
    run(&line)
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
            &format!("iptables -w -A {CHAIN} -s {} -j DROP", on_bridge(from)),
        )
    }

    /// So many of a hundred packets between servers and agents are lost.
    pub fn lose(&self, percent: u8) -> Result<(), Failure> {
        let share = format!("0.{percent:02}");
        for number in self.numbers() {
            // The first does nothing but count.
            within(number, &format!("iptables -w -A {CHAIN} -s {OTHERS}"))?;
            let some = format!("-m statistic --mode random --probability {share}");
            within(
                number,
                &format!("iptables -w -A {CHAIN} -s {OTHERS} {some} -j DROP"),
            )?;
        }
        Ok(())
    }

    /// Everything arrives again. Answers what the rules saw until then.
    pub fn heal(&self) -> Result<Vec<Rule>, Failure> {
        let mut seen = Vec::new();
        for number in self.numbers() {
            let list = said_within(number, &format!("iptables -w -n -v -x -L {CHAIN}"))?;
            seen.extend(rules(number, &list)?);
            within(number, &format!("iptables -w -F {CHAIN}"))?;
        }
        Ok(seen)
    }
}

/// What `iptables -nvxL` says of the rules of a namespace.
fn rules(to: u8, list: &str) -> Result<Vec<Rule>, Failure> {
    let unknown = |line: &str| Failure::failed(format!("iptables lists a rule that is none of ours: {line}"));
    let (mut rules, mut came) = (Vec::new(), None);
    // A line of the chain and one of headings come first.
    for line in list.lines().skip(2).filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let packets = fields.first().and_then(|field| field.parse().ok());
        let packets: u64 = packets.ok_or_else(|| unknown(line))?;
        if !fields.contains(&"DROP") {
            came = Some(packets);
            continue;
        }
        let of = |number: &u8| fields.contains(&on_bridge(*number).as_str());
        let from = (1..=AGENTS).find(of);
        if from.is_none() && !fields.contains(&OTHERS) {
            return Err(unknown(line));
        }
        rules.push(Rule {
            from,
            to,
            came: came.take().unwrap_or(packets),
            dropped: packets,
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_iptables_lists_them() {
        let list = "Chain INPUT (policy ACCEPT 15 packets, 1260 bytes)\n    pkts      bytes target     prot opt in     out     source               destination\n       3      252 DROP       0    --  *      *       10.77.0.2            0.0.0.0/0           \n       0        0 DROP       all  --  *      *       10.77.0.100          0.0.0.0/0           \n";
        let rule = |from, dropped| Rule {
            from: Some(from),
            to: 1,
            came: dropped,
            dropped,
        };
        assert_eq!(rules(1, list).unwrap(), [rule(2, 3), rule(100, 0)]);
        let list = "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n    pkts      bytes target     prot opt in     out     source               destination\n    1000    84000            0    --  *      *       10.77.0.0/25         0.0.0.0/0\n     301    25284 DROP       0    --  *      *       10.77.0.0/25         0.0.0.0/0            statistic mode random probability 0.29999999981\n";
        let share = Rule {
            from: None,
            to: 2,
            came: 1000,
            dropped: 301,
        };
        assert_eq!(rules(2, list).unwrap(), [share]);
        assert_eq!(
            rules(2, "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes\n").unwrap(),
            []
        );
        assert!(rules(1, "Chain\npkts\n 1 2 DROP 0 -- * * 192.0.2.1 0.0.0.0/0\n").is_err());
    }
}
