//! Processes that stand still for a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{House, LOOK};
use crate::exit::Failure;
use crate::local::process::Process;

/// How long a process may take to stand still.
const STOP_WITHIN: Duration = Duration::from_secs(30);

impl House {
    /// SIGSTOP for a server: nothing of it runs until [`House::go_on`].
    pub async fn pause(&mut self, at: usize) -> Result<(), Failure> {
        let server = &mut self.servers[at];
        server.paused = true;
        match &server.process {
            Some(process) => stop(process, &format!("server {}", at + 1)).await,
            None => Ok(()),
        }
    }

    /// SIGCONT for a server.
    pub fn go_on(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.paused = false;
        if let Some(process) = &server.process {
            process.signal(libc::SIGCONT);
        }
    }

    /// SIGSTOP for an agent, until [`House::agent_goes_on`]. Its recognisers, processes of their own, go on.
    pub async fn pause_agent(&mut self, at: usize) -> Result<(), Failure> {
        let agent = &self.agents[at];
        match &agent.process {
            Some(process) => stop(process, &agent.name).await,
            None => Ok(()),
        }
    }

    /// SIGCONT for an agent.
    pub fn agent_goes_on(&mut self, at: usize) {
        if let Some(process) = &self.agents[at].process {
            process.signal(libc::SIGCONT);
        }
    }

    /// An agent's name.
    pub fn agent_name(&self, at: usize) -> &str {
        &self.agents[at].name
    }
}

/// A thread that is in a call to the kernel, as a sync, stops when it comes back.
async fn stop(process: &Process, who: &str) -> Result<(), Failure> {
    process.signal(libc::SIGSTOP);
    let until = Instant::now() + STOP_WITHIN;
    while !process.is_stopped() {
        if Instant::now() > until {
            return Err(Failure::timeout(format!("{who} does not stand still")));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
