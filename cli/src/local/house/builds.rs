//! Processes of another build: they are told to end, and started again as that one.

use std::path::{Path, PathBuf};

use super::{House, end};
use crate::exit::Failure;

impl House {
    /// The program of servers: this one, or that of another build.
    pub(super) fn server_program(&self, at: usize) -> Result<PathBuf, Failure> {
        program(self.servers[at].build.as_deref(), None)
    }

    /// The program of agents, beside that of servers.
    pub(super) fn agent_program(&self, at: usize) -> Result<PathBuf, Failure> {
        program(self.agents[at].build.as_deref(), Some("rebound-agent"))
    }

    /// SIGTERM for a server, which hands over if it leads, and waits until it has ended; then another build is started
    /// on its data. `None`: this program's own.
    pub async fn swap_server(&mut self, at: usize, build: Option<&Path>) -> Result<(), Failure> {
        end(self.servers[at].process.take().into_iter().collect()).await;
        self.servers[at].build = build.map(Path::to_owned);
        self.start_server(at, false)
    }

    /// The same for an agent, which hands back what it has not started.
    pub async fn swap_agent(&mut self, at: usize, build: Option<&Path>) -> Result<(), Failure> {
        end(self.agents[at].process.take().into_iter().collect()).await;
        self.agents[at].build = build.map(Path::to_owned);
        self.start_agent(at)
    }

    /// How many agents there are.
    pub fn count_agents(&self) -> usize {
        self.agents.len()
    }
}

fn program(build: Option<&Path>, name: Option<&str>) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::failed(error.to_string()));
    let program = build.map_or_else(|| own, |build| Ok(build.to_owned()))?;
    Ok(name.map_or_else(|| program.clone(), |name| program.with_file_name(name)))
}

/// `rebound-agent` beside this program.
pub fn agent_program() -> Result<PathBuf, Failure> {
    program(None, Some("rebound-agent"))
}
