//! What a run used, process by process, and where it ran.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::scrape::Scrape;
use super::usage::Usage;
use crate::exit::Failure;
use crate::local::{House, round};
use crate::output::{Align, Table};

/// Where a run happened: figures of two machines are not to be compared.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cores: usize,
    kernel: String,
    processor: String,
    /// Processes waiting for a processor when the run began: above 0.2 or so, others were at work.
    load_before: f64,
    data_dir: String,
}

impl Machine {
    /// This one.
    pub fn here(data_dir: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo.lines().find_map(|line| {
            line.strip_prefix("model name")?
                .trim_start_matches(['\t', ' ', ':'])
                .to_owned()
                .into()
        });
        let load = read("/proc/loadavg");
        Machine {
            cores: cores(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: processor.unwrap_or_default(),
            load_before: load
                .split(' ')
                .next()
                .and_then(|one| one.parse().ok())
                .unwrap_or(0.0),
            data_dir: data_dir.display().to_string(),
        }
    }
}

/// Processors this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a process does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Leader,
    Follower,
    Agent,
    Client,
}

/// One process while the clock ran.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessFigures {
    name: String,
    role: Role,
    user_s: f64,
    system_s: f64,
    peak_rss_mib: f64,
    written_mib: f64,
    /// Synced writes of a server's store.
    syncs: u64,
}

/// Processor time a task, by role and in all, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PerTask {
    pub all: f64,
    pub leader: f64,
    pub followers: f64,
    pub agents: f64,
    pub client: f64,
}

/// A reading of all processes of a house and of this one.
pub struct Reading {
    processes: Vec<(String, u32, Usage, u64)>,
}

impl Reading {
    /// Reads them now.
    pub async fn take(house: &House) -> Result<Reading, Failure> {
        let mut processes = Vec::new();
        for (name, id) in house.pids() {
            let usage =
                Usage::of(id).ok_or_else(|| Failure::failed(format!("{name} is gone: process {id}")))?;
            let syncs = match server_place(&name) {
                Some(at) => Scrape::of(house.http(at)).await?.syncs(),
                None => 0,
            };
            processes.push((name, id, usage, syncs));
        }
        let own = Usage::own().ok_or_else(|| Failure::failed("/proc does not tell of this process"))?;
        processes.push(("client".to_owned(), std::process::id(), own, 0));
        Ok(Reading { processes })
    }

    /// What each process used from an earlier reading to this one.
    pub fn since(&self, before: &Reading, leader: usize) -> Vec<ProcessFigures> {
        let one = |(name, id, usage, syncs): &(String, u32, Usage, u64)| {
            let earlier = before.processes.iter().find(|(_, other, ..)| other == id);
            let (used, synced) = earlier.map_or((*usage, *syncs), |(_, _, then, synced)| {
                (usage.since(then), syncs - synced)
            });
            let role = match server_place(name) {
                Some(at) if at == leader => Role::Leader,
                Some(_) => Role::Follower,
                None if name == "client" => Role::Client,
                None => Role::Agent,
            };
            ProcessFigures {
                name: name.clone(),
                role,
                user_s: seconds(used.user),
                system_s: seconds(used.system),
                peak_rss_mib: mib(used.peak_rss),
                written_mib: mib(used.written),
                syncs: synced,
            }
        };
        self.processes.iter().map(one).collect()
    }
}

fn server_place(name: &str) -> Option<usize> {
    let number: usize = name.strip_prefix("server ")?.parse().ok()?;
    number.checked_sub(1)
}

/// Processor time of a task.
pub fn per_task(processes: &[ProcessFigures], tasks: u64) -> PerTask {
    let of = |wanted: Option<Role>| {
        let used: f64 = processes
            .iter()
            .filter(|process| wanted.is_none_or(|role| process.role == role))
            .map(|process| process.user_s + process.system_s)
            .fold(0.0, |sum, one| sum + one);
        round(used * 1e6 / tasks.max(1) as f64, 2)
    };
    PerTask {
        all: of(None),
        leader: of(Some(Role::Leader)),
        followers: of(Some(Role::Follower)),
        agents: of(Some(Role::Agent)),
        client: of(Some(Role::Client)),
    }
}

/// For people.
pub fn process_table(processes: &[ProcessFigures]) -> Table {
    let columns = [
        ("PROCESS", Align::Left),
        ("ROLE", Align::Left),
        ("USER S", Align::Right),
        ("SYSTEM S", Align::Right),
        ("PEAK RSS MIB", Align::Right),
        ("WRITTEN MIB", Align::Right),
        ("SYNCS", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for one in processes {
        table.row([
            one.name.clone(),
            format!("{:?}", one.role).to_lowercase(),
            format!("{:.2}", one.user_s),
            format!("{:.2}", one.system_s),
            format!("{:.0}", one.peak_rss_mib),
            format!("{:.0}", one.written_mib),
            one.syncs.to_string(),
        ]);
    }
    table
}

/// Seconds, to the millisecond.
pub fn seconds(time: Duration) -> f64 {
    round(time.as_secs_f64(), 3)
}

/// MiB, to a tenth.
pub fn mib(bytes: u64) -> f64 {
    round(bytes as f64 / f64::from(1 << 20), 1)
}
