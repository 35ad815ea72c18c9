//! The processes of a cluster on this machine: servers and agents on loopback, started, killed and started again.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rebound_proto::v1::StatusReply;
use rebound_scheduler::config::{Config, ListenConfig, MemberConfig};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::Layout;
use super::gate::Gates;
use super::process::{Place, Process};
use crate::client::{Client, ClientError};
use crate::exit::Failure;

mod builds;

pub use builds::agent_program;

mod pauses;

/// Between two looks at a process that cannot be waited for.
const LOOK: Duration = Duration::from_millis(2);
/// Longest time of a call of the client: a failover fits many times.
const CALL: Duration = Duration::from_secs(60);
/// How long agents may take until all have joined.
const JOIN_WITHIN: Duration = Duration::from_secs(60);

struct Server {
    config: PathBuf,
    data: PathBuf,
    log: PathBuf,
    place: Place,
    address: String,
    http: String,
    /// The program of another build.
    build: Option<PathBuf>,
    process: Option<Process>,
    /// It stands still: nobody waits for its word.
    paused: bool,
}

struct Agent {
    name: String,
    args: Vec<String>,
    data: PathBuf,
    place: Place,
    /// The program `rebound` of another build.
    build: Option<PathBuf>,
    process: Option<Process>,
}

/// All processes.
pub struct House {
    servers: Vec<Server>,
    agents: Vec<Agent>,
    /// Between agents and servers.
    pub gates: Gates,
}

impl House {
    /// Starts the servers.
    pub async fn start(layout: &Layout, dir: &Path) -> Result<House, Failure> {
        let gates = Gates::new();
        let mut members = Vec::new();
        let mut ports = Vec::new();
        let place = |id: u64| layout.places.get(id as usize - 1).cloned().unwrap_or_default();
        for id in 1..=layout.servers {
            let address = place(id).address.unwrap_or(Ipv4Addr::LOCALHOST);
            // Held until all are chosen, so that none is chosen twice.
            let mut own = Vec::new();
            for _ in 0..3 {
                own.push(TcpListener::bind((address, 0)).await.map_err(no_port)?);
            }
            let gate = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
            let at = |listener: &TcpListener| listener.local_addr().map(|at| at.to_string()).map_err(no_port);
            let (client, peer, http) = (at(&own[0])?, at(&own[1])?, at(&own[2])?);
            members.push(MemberConfig {
                id,
                peer: peer.clone(),
                client: if layout.gates { at(&gate)? } else { client.clone() },
            });
            ports.push((client, peer, http, gate, own));
        }
        let mut servers = Vec::new();
        for (id, (client, peer, http, gate, own)) in (1..).zip(ports) {
            drop(own);
            if layout.gates {
                gates.open(gate, client.clone());
            }
            let place = place(id);
            let beside = dir.join(format!("server-{id}"));
            let log = beside.with_extension("log");
            let data = place.data.clone().unwrap_or(beside);
            let listen = ListenConfig {
                client: client.clone(),
                peer,
                http: http.clone(),
            };
            let config = config(layout, id, data.clone(), listen, members.clone());
            let path = dir.join(format!("server-{id}.toml"));
            std::fs::write(&path, config.to_toml()).map_err(|error| no_file(&path, &error))?;
            servers.push(Server {
                config: path,
                data,
                log,
                place,
                address: client,
                http,
                build: None,
                process: None,
                paused: false,
            });
        }
        let agents = agents(layout, dir, &members);
        let mut house = House {
            servers,
            agents,
            gates,
        };
        for at in 0..house.servers.len() {
            house.start_server(at, true)?;
        }
        Ok(house)
    }

    /// Starts the agents and waits until all have joined.
    pub async fn start_workers(&mut self) -> Result<(), Failure> {
        for at in 0..self.agents.len() {
            self.start_agent(at)?;
        }
        let until = Instant::now() + JOIN_WITHIN;
        loop {
            let workers = self.client().workers().await?;
            if workers.iter().filter(|worker| worker.state == "active").count() == self.agents.len() {
                return Ok(());
            }
            self.check_alive()?;
            if Instant::now() > until {
                return Err(Failure::timeout("the workers did not join in time"));
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Starts a server, for the first time or again.
    pub fn start_server(&mut self, at: usize, init: bool) -> Result<(), Failure> {
        let program = self.server_program(at)?;
        let server = &mut self.servers[at];
        let mut args = vec![
            "server".to_owned(),
            "--config".to_owned(),
            server.config.display().to_string(),
        ];
        if init {
            args.push("--init".to_owned());
        }
        let process = Process::start(&program, &args, &server.log, &server.place);
        server.process = Some(process.map_err(|error| no_file(&program, &error))?);
        server.paused = false;
        Ok(())
    }

    /// Starts an agent, for the first time or again.
    pub fn start_agent(&mut self, at: usize) -> Result<(), Failure> {
        let program = self.agent_program(at)?;
        let agent = &mut self.agents[at];
        let log = agent.data.with_extension("log");
        let process = Process::start(&program, &agent.args, &log, &agent.place);
        agent.process = Some(process.map_err(|error| no_file(&program, &error))?);
        Ok(())
    }

    /// SIGKILL for a server.
    pub fn kill_server(&mut self, at: usize) {
        if let Some(process) = self.servers[at].process.take() {
            process.kill();
        }
    }

    /// Starts servers that are down.
    pub fn all_up(&mut self) -> Result<(), Failure> {
        let down = |(_, server): &(usize, &Server)| server.process.is_none();
        let down: Vec<usize> = self
            .servers
            .iter()
            .enumerate()
            .filter(down)
            .map(|(at, _)| at)
            .collect();
        down.into_iter().try_for_each(|at| self.start_server(at, false))
    }

    /// Waits until a server has ended by itself: how, and its last words; none when it still runs.
    pub async fn ends(&mut self, at: usize, within: Duration) -> Option<(ExitStatus, String)> {
        let until = Instant::now() + within;
        loop {
            let server = &mut self.servers[at];
            let process = server.process.as_mut()?;
            if let Some(status) = process.status() {
                let words = process.last_words();
                server.process = None;
                return Some((status, words));
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(LOOK * 5).await;
        }
    }

    /// SIGKILL for an agent.
    pub fn kill_agent(&mut self, at: usize) {
        if let Some(process) = self.agents[at].process.take() {
            process.kill();
        }
    }

    /// The agent's process and the file of its spool.
    pub fn agent(&self, at: usize) -> Option<(u32, PathBuf)> {
        let agent = self.agents.get(at)?;
        Some((agent.process.as_ref()?.id(), agent.data.join("spool")))
    }

    /// An agent's place by its name.
    pub fn agent_named(&self, name: &str) -> Option<usize> {
        self.agents.iter().position(|agent| agent.name == name)
    }

    /// Where clients reach the servers.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }

    /// Where a server tells its figures.
    pub fn http(&self, at: usize) -> &str {
        &self.servers[at].http
    }

    /// Where a server's log lines go.
    pub fn log(&self, at: usize) -> PathBuf {
        self.servers[at].log.clone()
    }

    /// Names and ids of all processes.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let servers = self
            .servers
            .iter()
            .enumerate()
            .map(|(at, one)| (format!("server {}", at + 1), &one.process));
        let agents = self.agents.iter().map(|one| (one.name.clone(), &one.process));
        servers
            .chain(agents)
            .filter_map(|(name, process)| Some((name, process.as_ref()?.id())))
            .collect()
    }

    /// The servers' data directories.
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        self.servers.iter().map(|server| server.data.clone()).collect()
    }

    /// A client of all servers.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses(), CALL)
    }

    /// What each server says of itself; none of those that are down.
    pub async fn statuses(&self) -> Vec<(usize, StatusReply)> {
        let client = self.client();
        let mut found = Vec::new();
        for (at, server) in self
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| server.process.is_some() && !server.paused)
        {
            if let Ok(status) = client.status_of(&server.address).await {
                found.push((at, status));
            }
        }
        found
    }

    /// Waits for a leader that is ready.
    pub async fn leader(&mut self, within: Duration) -> Result<(usize, StatusReply), Failure> {
        let until = Instant::now() + within;
        loop {
            let mut ready: Vec<_> = self
                .statuses()
                .await
                .into_iter()
                .filter(|(_, status)| status.ready)
                .collect();
            ready.sort_by_key(|(_, status)| status.term);
            if let Some(leader) = ready.pop() {
                return Ok(leader);
            }
            self.check_alive()?;
            if Instant::now() > until {
                return Err(Failure::timeout("no leader was elected in time"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the server has applied what the leader has now.
    pub async fn caught_up(&mut self, at: usize, within: Duration) -> Result<(), Failure> {
        let (_, leader) = self.leader(within).await?;
        let until = Instant::now() + within;
        while Instant::now() < until {
            let statuses = self.statuses().await;
            if statuses
                .iter()
                .any(|(one, status)| *one == at && status.applied >= leader.applied)
            {
                return Ok(());
            }
            self.check_alive()?;
            tokio::time::sleep(LOOK * 2).await;
        }
        Err(Failure::timeout(format!("server {} did not catch up", at + 1)))
    }

    /// Waits until all servers have applied the same, all agents have joined and say that their spools are empty, and
    /// no task is open. Returns the leader's last word.
    pub async fn quiet(&mut self, within: Duration) -> Result<StatusReply, Failure> {
        let until = Instant::now() + within;
        loop {
            let statuses = self.statuses().await;
            let leader = statuses
                .iter()
                .find(|(_, status)| status.ready)
                .map(|(_, status)| status.clone());
            if let Some(leader) = leader {
                let same = statuses.len() == self.servers.len()
                    && statuses
                        .iter()
                        .all(|(_, status)| status.applied == leader.applied);
                let done = leader.tasks_waiting + leader.tasks_given + leader.jobs_open == 0;
                let agents = self.agents.iter().filter(|agent| agent.process.is_some()).count() as u64;
                let heard = leader.workers == agents && leader.results_spooled == 0;
                if same && done && heard && leader.proposed == 0 {
                    return Ok(leader);
                }
            }
            self.check_alive()?;
            if Instant::now() > until {
                let seen = statuses.iter().map(|(at, s)| {
                    let (role, applied) = (&s.role, s.applied);
                    format!(
                        "server {}: {role} at {applied}, {} spooled, {} open",
                        at + 1,
                        s.results_spooled,
                        s.tasks_given
                    )
                });
                let seen = seen.collect::<Vec<_>>().join("; ");
                return Err(Failure::timeout(format!(
                    "the cluster did not become quiet: {seen}"
                )));
            }
            tokio::time::sleep(LOOK * 5).await;
        }
    }

    /// A process that ended by itself is an error.
    pub fn check_alive(&mut self) -> Result<(), Failure> {
        let servers = self
            .servers
            .iter_mut()
            .map(|one| (one.data.display().to_string(), &mut one.process));
        let agents = self
            .agents
            .iter_mut()
            .map(|one| (one.data.display().to_string(), &mut one.process));
        for (name, process) in servers.chain(agents) {
            if let Some(process) = process
                && process.has_ended()
            {
                return Err(Failure::failed(format!(
                    "{name} ended by itself:\n{}",
                    process.last_words()
                )));
            }
        }
        Ok(())
    }

    /// Ends the agents: they hand back what they have.
    pub async fn stop_agents(&mut self) {
        (0..self.agents.len()).for_each(|at| self.agent_goes_on(at));
        end(self
            .agents
            .iter_mut()
            .filter_map(|agent| agent.process.take())
            .collect())
        .await;
    }

    /// Ends all processes, agents first.
    pub async fn stop(&mut self) {
        (0..self.servers.len()).for_each(|at| self.go_on(at));
        self.stop_agents().await;
        end(self
            .servers
            .iter_mut()
            .filter_map(|server| server.process.take())
            .collect())
        .await;
    }
}

/// Asks all of them to end, then waits for each.
async fn end(processes: Vec<Process>) {
    let ended = tokio::task::spawn_blocking(move || {
        processes.iter().for_each(Process::ask_to_end);
        for process in processes {
            let _ = process.wait();
        }
    });
    let _ = ended.await;
}

fn config(
    layout: &Layout,
    id: u64,
    data_dir: PathBuf,
    listen: ListenConfig,
    members: Vec<MemberConfig>,
) -> Config {
    Config {
        cluster: layout.cluster.clone(),
        server: id,
        data_dir,
        plant: layout.plant.clone(),
        listen,
        log: layout.log.clone(),
        store: layout.store.clone(),
        limits: layout.limits.clone(),
        logging: layout.logging.clone(),
        cloud: layout.cloud.clone(),
        market: layout.market.clone(),
        clock: layout.clock,
        members,
    }
}

fn agents(layout: &Layout, dir: &Path, members: &[MemberConfig]) -> Vec<Agent> {
    let servers = members
        .iter()
        .map(|member| member.client.as_str())
        .collect::<Vec<_>>()
        .join(",");
    let agent = |number: u64| {
        let (name, data) = (format!("worker-{number}"), dir.join(format!("worker-{number}")));
        let mut flags: Vec<String> = ["run", "--server", &servers, "--name", &name, "--slots"]
            .map(String::from)
            .into();
        flags.push(layout.slots.to_string());
        flags.extend(["--data-dir".into(), data.display().to_string()]);
        if let Some((dir, recogniser)) = &layout.recogniser {
            flags.extend(["--recognisers".into(), dir.display().to_string()]);
            flags.extend(["--recogniser".into(), recogniser.clone()]);
        }
        flags.extend(layout.agent_flags.iter().cloned());
        Agent {
            name,
            args: flags,
            data,
            place: layout.agents_at.clone(),
            build: None,
            process: None,
        }
    };
    (1..=layout.workers).map(agent).collect()
}

fn no_port(error: std::io::Error) -> Failure {
    Failure::failed(format!("no free port on 127.0.0.1: {error}"))
}

fn no_file(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// A call that failed, with what was asked.
pub fn asked(what: &str) -> impl Fn(ClientError) -> Failure + '_ {
    move |error| Failure::failed(format!("{what}: {error}"))
}
