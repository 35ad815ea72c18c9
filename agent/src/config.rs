//! What the agent is told: flags, their environment twins, and a TOML file. Flags win.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rebound_proto::v1;
use reqwest::Url;
use serde::Deserialize;
use thiserror::Error;

use crate::fetch::web::{MAX_ALLOWED, parse_allowed};
use crate::imds;
use crate::link::{AddressError, MAX_SERVERS, parse_address};
use crate::machine::limits::{MAX_RESULT_BYTES, MAX_SLOTS};
use crate::recognise::child::MAX_THREADS;
use crate::runner;

/// Longest name of a machine, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Results kept until they are answered, unless told otherwise.
pub const DEFAULT_SPOOL_RESULTS: usize = 10_000;

/// The same in MiB.
pub const DEFAULT_SPOOL_MIB: usize = 64;

/// Largest photo fetched, in MiB, unless told otherwise. Each recogniser has its own limit as well.
pub const DEFAULT_PHOTO_MIB: u64 = 64;

/// Photos of http(s) on the disk at a time, in MiB, unless told otherwise.
pub const DEFAULT_LOADED_MIB: u64 = 1024;

/// Fastest time of a market, in times of the real one.
pub const MAX_CLOCK_RATE: u64 = 3_600;

/// Longest time that `noop` may take, in µs.
pub const MAX_NOOP_US: u64 = 3_600_000_000;

/// Largest configuration file, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 256 * 1024;

/// What cannot be used of what the agent was told.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not as it should be.
    #[error("the configuration {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line and field.
        message: String,
    },
    /// A server's address.
    #[error("--server: {0}")]
    Address(#[from] AddressError),
    /// A value that cannot be, and what can.
    #[error("--{flag}: {problem}")]
    Value {
        /// The flag without its dashes; in the file with `_` for `-`.
        flag: &'static str,
        /// What is wrong and what to give.
        problem: String,
    },
}

fn wrong(flag: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        flag,
        problem: problem.into(),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// All that can be told, on the command line or in the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Options {
    /// Servers of the cluster, host:port; only loopback until there are credentials
    #[arg(
        long,
        env = "REBOUND_SERVERS",
        value_delimiter = ',',
        value_name = "HOST:PORT,…"
    )]
    #[serde(default)]
    pub server: Vec<String>,

    /// The machine's own name, at most 64 bytes; the host's name if not given
    #[arg(long, env = "REBOUND_AGENT_NAME")]
    pub name: Option<String>,

    /// Photos in recognisers at a time; one for each CPU if not given
    #[arg(long)]
    pub slots: Option<u32>,

    /// Folder for results that wait for their answers; one agent only
    #[arg(long, env = "REBOUND_AGENT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Folder of the recognisers' folders
    #[arg(long, env = "REBOUND_RECOGNISERS", value_name = "DIR")]
    pub recognisers: Option<PathBuf>,

    /// A recogniser to offer, which must load; repeatable; all that load if not given (`noop` is always there)
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub recogniser: Vec<String>,

    /// Threads a recogniser uses for one photo
    #[arg(long)]
    pub threads_per_slot: Option<usize>,

    /// Thousandths of a CPU for recognisers; all CPUs if not given
    #[arg(long)]
    pub milli_cpu: Option<u32>,

    /// Memory for recognisers; all of it if not given
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u32>,

    /// Most memory of one recogniser's process; 0: no limit; as --memory-mib if not given
    #[arg(long, value_name = "MIB")]
    pub child_memory_mib: Option<u64>,

    /// GPUs for recognisers
    #[arg(long)]
    pub gpus: Option<u32>,

    /// Where the machine stands: REGION/ZONE-ID/INSTANCE-TYPE/spot or …/on-demand
    #[arg(long)]
    pub pool: Option<String>,

    /// Largest photo fetched
    #[arg(long, value_name = "MIB")]
    pub max_photo_mib: Option<u64>,

    /// Load photos of http(s) from below this URL, which ends with /; repeatable; none are loaded if not given
    #[arg(long, env = "REBOUND_ALLOW_URL", value_delimiter = ',', value_name = "URL,…")]
    #[serde(default)]
    pub allow_url: Vec<String>,

    /// Most MiB of photos of http(s) on the disk at a time
    #[arg(long, value_name = "MIB")]
    pub max_loaded_mib: Option<u64>,

    /// Most results kept until they are answered
    #[arg(long, value_name = "N")]
    pub spool_max_results: Option<usize>,

    /// Most MiB of results kept until they are answered
    #[arg(long, value_name = "MIB")]
    pub spool_max_mib: Option<usize>,

    /// Length of what `noop` answers, for benchmarks
    #[arg(long, value_name = "BYTES", hide = true)]
    pub noop_bytes: Option<usize>,

    /// How long `noop` takes, in µs, half of the time less: photos without recognition, for clusters that play a market
    #[arg(long, value_name = "US", hide = true)]
    pub noop_us: Option<u64>,

    /// Watch this metadata service for notices that the machine will be taken back; `ec2` for EC2's own. It is not
    /// watched if not given
    #[arg(long, env = "REBOUND_IMDS", value_name = "URL")]
    pub imds: Option<String>,

    /// Time of the market passes so many times as fast: what a notice leaves is shorter
    #[arg(long, value_name = "N", hide = true)]
    pub clock_rate: Option<u64>,

    /// What to log, for example info or rebound_agent=debug
    #[arg(long, env = "REBOUND_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// How log lines look
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// What the agent runs with, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// At least one.
    pub servers: Vec<SocketAddr>,
    /// 1 to [`MAX_NAME_BYTES`] bytes.
    pub name: String,
    /// 1 to [`MAX_SLOTS`].
    pub slots: u32,
    /// Exclusively this agent's.
    pub data_dir: PathBuf,
    /// Where recognisers are looked for.
    pub recognisers: Option<PathBuf>,
    /// Those that must load; empty: all that load.
    pub wanted: Vec<String>,
    /// 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// For recognisers.
    pub resources: v1::Resources,
    /// `None`: no limit.
    pub child_memory_mib: Option<u64>,
    /// Where it stands.
    pub pool: Option<v1::Pool>,
    /// In bytes.
    pub max_photo_bytes: u64,
    /// Photos of http(s) are loaded from below these only, at most [`MAX_ALLOWED`].
    pub allow_url: Vec<Url>,
    /// Most bytes of photos of http(s) on the disk at a time.
    pub max_loaded_bytes: u64,
    /// At least 1.
    pub spool_max_results: usize,
    /// In bytes.
    pub spool_max_bytes: usize,
    /// Length of what `noop` answers, 1 to [`MAX_RESULT_BYTES`].
    pub noop_bytes: usize,
    /// Median time that `noop` takes, in µs; 0: none.
    pub noop_us: u64,
    /// The metadata service that is watched.
    pub imds: Option<Url>,
    /// 1 to [`MAX_CLOCK_RATE`]; 1 outside of recordings played fast.
    pub clock_rate: u64,
}

impl Options {
    /// Reads the file and takes from it what the command line does not say.
    pub fn over_file(mut self, path: &Path) -> Result<Options, ConfigError> {
        let read = |error| ConfigError::Read {
            path: path.into(),
            error,
        };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_CONFIG_BYTES {
            let message = format!("it has {size} bytes; at most {MAX_CONFIG_BYTES} are read");
            return Err(ConfigError::Parse {
                path: path.into(),
                message,
            });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let file: Options = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.into(),
            message: error.to_string(),
        })?;
        if self.server.is_empty() {
            self.server = file.server;
        }
        if self.recogniser.is_empty() {
            self.recogniser = file.recogniser;
        }
        if self.allow_url.is_empty() {
            self.allow_url = file.allow_url;
        }
        Ok(Options {
            allow_url: self.allow_url,
            server: self.server,
            recogniser: self.recogniser,
            name: self.name.or(file.name),
            slots: self.slots.or(file.slots),
            data_dir: self.data_dir.or(file.data_dir),
            recognisers: self.recognisers.or(file.recognisers),
            threads_per_slot: self.threads_per_slot.or(file.threads_per_slot),
            milli_cpu: self.milli_cpu.or(file.milli_cpu),
            memory_mib: self.memory_mib.or(file.memory_mib),
            child_memory_mib: self.child_memory_mib.or(file.child_memory_mib),
            gpus: self.gpus.or(file.gpus),
            pool: self.pool.or(file.pool),
            max_photo_mib: self.max_photo_mib.or(file.max_photo_mib),
            max_loaded_mib: self.max_loaded_mib.or(file.max_loaded_mib),
            spool_max_results: self.spool_max_results.or(file.spool_max_results),
            spool_max_mib: self.spool_max_mib.or(file.spool_max_mib),
            noop_bytes: self.noop_bytes.or(file.noop_bytes),
            noop_us: self.noop_us.or(file.noop_us),
            imds: self.imds.or(file.imds),
            clock_rate: self.clock_rate.or(file.clock_rate),
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
        })
    }

    /// Checks everything and fills in what the machine tells.
    pub fn check(self) -> Result<Config, ConfigError> {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        let memory_mib = self.memory_mib.unwrap_or_else(machine_memory_mib);
        let mut servers = self
            .server
            .iter()
            .map(|text| parse_address(text))
            .collect::<Result<Vec<_>, _>>()?;
        servers.dedup();
        if servers.is_empty() {
            return Err(wrong(
                "server",
                "give the cluster's servers, for example 127.0.0.1:7101,127.0.0.1:7102",
            ));
        }
        if servers.len() > MAX_SERVERS {
            return Err(wrong(
                "server",
                format!("{} servers; at most {MAX_SERVERS} are tried", servers.len()),
            ));
        }
        if !self.recogniser.is_empty()
            && self.recognisers.is_none()
            && self.recogniser.iter().any(|name| name != "noop")
        {
            return Err(wrong(
                "recognisers",
                "give the folder that holds the recognisers named by --recogniser",
            ));
        }
        let child_memory = self.child_memory_mib.unwrap_or(memory_mib.into());
        Ok(Config {
            servers,
            name: checked_name(self.name)?,
            slots: in_range("slots", self.slots.unwrap_or(cpus.min(MAX_SLOTS)), 1, MAX_SLOTS)?,
            data_dir: self
                .data_dir
                .ok_or_else(|| wrong("data-dir", "give a folder of the agent's own"))?,
            recognisers: self.recognisers,
            wanted: self.recogniser,
            threads: in_range(
                "threads-per-slot",
                self.threads_per_slot.unwrap_or(1),
                1,
                MAX_THREADS,
            )?,
            resources: v1::Resources {
                milli_cpu: self.milli_cpu.unwrap_or(cpus.saturating_mul(1000)),
                memory_mib,
                gpus: self.gpus.unwrap_or(0),
            },
            child_memory_mib: Some(child_memory).filter(|mib| *mib > 0),
            pool: self.pool.as_deref().map(parse_pool).transpose()?,
            max_photo_bytes: in_range(
                "max-photo-mib",
                self.max_photo_mib.unwrap_or(DEFAULT_PHOTO_MIB),
                1,
                1 << 20,
            )? << 20,
            allow_url: parse_allow_url(&self.allow_url)?,
            max_loaded_bytes: in_range(
                "max-loaded-mib",
                self.max_loaded_mib.unwrap_or(DEFAULT_LOADED_MIB),
                1,
                1 << 20,
            )? << 20,
            spool_max_results: in_range(
                "spool-max-results",
                self.spool_max_results.unwrap_or(DEFAULT_SPOOL_RESULTS),
                1,
                1_000_000,
            )?,
            spool_max_bytes: in_range(
                "spool-max-mib",
                self.spool_max_mib.unwrap_or(DEFAULT_SPOOL_MIB),
                1,
                1 << 16,
            )? << 20,
            noop_bytes: in_range(
                "noop-bytes",
                self.noop_bytes.unwrap_or(runner::NOOP_BYTES),
                1,
                MAX_RESULT_BYTES,
            )?,
            noop_us: in_range("noop-us", self.noop_us.unwrap_or(0), 0, MAX_NOOP_US)?,
            imds: self.imds.as_deref().map(parse_imds).transpose()?,
            clock_rate: in_range("clock-rate", self.clock_rate.unwrap_or(1), 1, MAX_CLOCK_RATE)?,
        })
    }
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    flag: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<T, ConfigError> {
    if value < least || value > most {
        return Err(wrong(
            flag,
            format!("{value} is out of range; give {least} to {most}"),
        ));
    }
    Ok(value)
}

fn checked_name(name: Option<String>) -> Result<String, ConfigError> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.unwrap_or_else(host).trim().to_string();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let problem =
            format!("{name:?} is not a name; give 1 to {MAX_NAME_BYTES} bytes without control characters");
        return Err(wrong("name", problem));
    }
    Ok(name)
}

fn parse_allow_url(texts: &[String]) -> Result<Vec<Url>, ConfigError> {
    if texts.len() > MAX_ALLOWED {
        let problem = format!("{} URLs; at most {MAX_ALLOWED} are taken", texts.len());
        return Err(wrong("allow-url", problem));
    }
    let parsed = texts.iter().map(|text| parse_allowed(text));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|problem| wrong("allow-url", problem))
}

fn parse_imds(text: &str) -> Result<Url, ConfigError> {
    let text = if text == "ec2" { imds::ENDPOINT } else { text };
    let url = Url::parse(text).ok();
    let fits = |url: &Url| url.scheme() == "http" && url.has_host() && url.path().ends_with('/');
    url.filter(fits).ok_or_else(|| {
        let problem =
            format!("{text:?} is not a metadata service; give ec2, or http://HOST/ with a / at its end");
        wrong("imds", problem)
    })
}

fn parse_pool(text: &str) -> Result<v1::Pool, ConfigError> {
    let problem = || {
        wrong(
            "pool",
            format!("{text:?} is not a pool; give REGION/ZONE-ID/INSTANCE-TYPE/spot or …/on-demand"),
        )
    };
    let parts: Vec<&str> = text.split('/').collect();
    let [region, zone_id, instance_type, market] = parts[..] else {
        return Err(problem());
    };
    if [region, zone_id, instance_type]
        .iter()
        .any(|part| part.is_empty())
    {
        return Err(problem());
    }
    let market = match market {
        "spot" => v1::Market::Spot,
        "on-demand" => v1::Market::OnDemand,
        _ => return Err(problem()),
    };
    let [region, zone_id, instance_type] = [region, zone_id, instance_type].map(str::to_string);
    Ok(v1::Pool {
        region,
        zone_id,
        instance_type,
        market: market.into(),
    })
}

/// All memory of the machine, or 1 GiB if it does not say.
fn machine_memory_mib() -> u32 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.and_then(|kib| u32::try_from(kib / 1024).ok()).unwrap_or(1024)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
