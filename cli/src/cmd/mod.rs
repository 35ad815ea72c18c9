//! The commands, one group a file.

pub mod agent;
pub mod bench;
pub mod campaign;
pub mod compare;
pub mod completion;
pub mod config;
pub mod cost;
pub mod events;
#[cfg(feature = "planted")]
pub mod hunt;
pub mod job;
pub mod market;
pub mod members;
pub mod operator;
pub mod past;
pub mod photos;
pub mod policy;
pub mod pool;
pub mod report;
pub mod results;
pub mod scale;
pub mod server;
pub mod set;
pub mod sim;
pub mod submit;
pub mod task;
pub mod version;
pub mod why;
pub mod worker;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use clap::Args;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Out, duration};
use crate::settings::Settings;

/// What every command has at hand.
pub struct Context {
    /// All settings in force.
    pub settings: Settings,
    /// Stdout, and notes on stderr.
    pub out: Out,
}

/// Whether a read must be of now.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Stale {
    /// Take what the first server that answers has applied, leader or not, and say how old it may be
    #[arg(long)]
    stale: bool,
}

impl Context {
    /// With stdout in the format that the settings ask for.
    pub fn new(settings: Settings) -> Self {
        let out = Out::new(settings.output.value, settings.color.value, settings.quiet.value);
        Self { settings, out }
    }

    /// A client of the servers that the settings name.
    pub fn client(&self) -> Client {
        Client::connect(self.settings.servers.value.clone(), self.settings.timeout.value)
    }

    /// A client for a read.
    pub fn reader(&self, stale: Stale) -> Client {
        match stale.stale {
            true => self.client().stale(),
            false => self.client(),
        }
    }

    /// Says how old what `client` read may be, if it need not be of now.
    pub fn note_age(&mut self, client: &Client) {
        let Some(seen) = client.seen() else { return };
        let index = seen.index;
        self.out.note(&match seen.age {
            Some(age) => {
                let age = duration(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
                format!("As of index {index}, {age} old.")
            }
            None => format!("As of index {index}; that server has not heard a leader since it started."),
        });
    }

    /// Runs a command that talks to the cluster, with its log on stderr as `--verbose` asks.
    pub fn block_on<A>(
        &mut self,
        command: impl AsyncFnOnce(&mut Self, A) -> Result<Exit, Failure>,
        args: A,
    ) -> Result<Exit, Failure> {
        self.start_log();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        runtime.block_on(command(self, args))
    }

    fn start_log(&self) {
        let filter = match self.settings.verbose.value {
            0 => return,
            1 => EnvFilter::new("off,rebound=debug"),
            _ => EnvFilter::new("debug"),
        };
        let color = self.settings.color.value && io::stderr().is_terminal();
        // A second subscriber is refused; the first one stays.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(color)
            .with_writer(io::stderr)
            .try_init();
    }
}
