//! A whole cluster for a test: three servers and its agents, each a process of its own on loopback, and the
//! operators' binary to talk to them. All is under one temporary directory and ends with the value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::binary;
use crate::gate::Gate;
use crate::port::free_ports;
use crate::process::{Finished, Process, alone, run};
use crate::wait::{Deadline, look_until};

/// Servers of a cluster.
pub const SERVERS: usize = 3;
/// What is waited for takes a second or two on a free machine; a busy one gets this, in seconds.
pub const PATIENCE_S: u64 = 60;
/// Lines of each log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 25;
/// What a process that met a broken invariant leaves in its log.
const PANIC_WORDS: [&str; 2] = ["panicked at", "panic: this server ends"];

/// How a cluster is made; [`Options::default`] is production's.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lines of TOML that every server's configuration gets besides.
    pub server_toml: String,
    /// Each server is announced to agents at a [`Gate`], which can be shut.
    pub gates: bool,
}

/// Three servers, agents, and the folder that they live in.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    agents: Vec<Agent>,
    gates: Vec<Gate>,
    /// Whom the operators' binary asks first.
    first: usize,
    dir: TempDir,
    _alone: File,
}

#[derive(Debug)]
struct Server {
    config: PathBuf,
    address: String,
    peer: String,
    log: PathBuf,
    process: Option<Process>,
    /// It is none of the cluster any more, or not yet.
    outside: bool,
}

#[derive(Debug)]
struct Agent {
    name: String,
    log: PathBuf,
    process: Option<Process>,
}

impl Cluster {
    /// Starts three servers, and waits for a leader. Only one cluster runs on the machine at a time.
    ///
    /// # Panics
    ///
    /// When there is no leader within [`PATIENCE_S`].
    pub fn start() -> Cluster {
        Cluster::start_with(&Options::default())
    }

    /// As [`Cluster::start`], with a say in how.
    pub fn start_with(options: &Options) -> Cluster {
        let alone = alone();
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let ports: [u16; SERVERS * 3] = free_ports();
        let gate = |at| Gate::before(&client_address(&ports, at));
        let gates: Vec<Gate> = (0..if options.gates { SERVERS } else { 0 }).map(gate).collect();
        let announced: Vec<String> = gates.iter().map(Gate::address).collect();
        let servers = (0..SERVERS).map(|at| {
            let config = dir.path().join(format!("server-{}.toml", at + 1));
            let data = dir.path().join(format!("data-{}", at + 1));
            let toml = server_toml("shelves", at, &data, &ports, options);
            let toml = announced.iter().enumerate().fold(toml, |toml, (at, gate)| {
                let real = format!("client = \"{}\"\n", client_address(&ports, at));
                let head = toml.find("[[members]]").expect("there is a list of members");
                let (head, list) = toml.split_at(head);
                format!("{head}{}", list.replace(&real, &format!("client = \"{gate}\"\n")))
            });
            fs::write(&config, toml).expect("a file can be written");
            Server {
                config,
                address: client_address(&ports, at),
                peer: format!("127.0.0.1:{}", ports[at * 3 + 1]),
                log: dir.path().join(format!("server-{}.log", at + 1)),
                process: None,
                outside: false,
            }
        });
        let mut cluster = Cluster {
            servers: servers.collect(),
            agents: Vec::new(),
            gates,
            first: 0,
            dir,
            _alone: alone,
        };
        for at in 0..SERVERS {
            cluster.start_server(at, &["--init"]);
        }
        cluster.leader();
        cluster
    }

    /// The folder that all of it lives in; tests may put their own files there.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory of the server at this place, from 0.
    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.dir().join(format!("data-{}", at + 1))
    }

    /// The configuration of the server at this place, from 0.
    pub fn config(&self, at: usize) -> &Path {
        &self.servers[at].config
    }

    /// The operators' binary asks the server at this place first from now on.
    pub fn ask_first(&mut self, at: usize) {
        self.first = at;
    }

    /// Where clients reach the servers, separated by commas.
    pub fn addresses(&self) -> String {
        let (before, from) = self.servers.split_at(self.first);
        let all: Vec<&str> = from
            .iter()
            .chain(before)
            .filter(|server| !server.outside)
            .map(|server| server.address.as_str())
            .collect();
        all.join(",")
    }

    /// Where other servers reach the server at this place, and where clients do.
    pub fn server_addresses(&self, at: usize) -> (&str, &str) {
        (&self.servers[at].peer, &self.servers[at].address)
    }

    /// Writes the configuration of one more server, which no list of members names; its place. It is not started, and
    /// `number` is its id.
    pub fn one_more_server(&mut self, number: u64) -> usize {
        let ports: [u16; 3] = free_ports();
        let at = self.servers.len();
        let name = format!("server-{}", at + 1);
        let config = self.dir.path().join(format!("{name}.toml"));
        let [client, peer, http] = ports.map(|port| format!("127.0.0.1:{port}"));
        let text = format!(
            "cluster = \"shelves\"\nserver = {number}\ndata_dir = {:?}\n[listen]\nclient = \"{client}\"\n\
             peer = \"{peer}\"\nhttp = \"{http}\"\n[store]\ncache_mib = 8\nwrite_buffer_mib = 16\n",
            self.data_dir(at)
        );
        fs::write(&config, text).expect("a file can be written");
        self.servers.push(Server {
            config,
            address: client,
            peer,
            log: self.dir.path().join(format!("{name}.log")),
            process: None,
            outside: true,
        });
        at
    }

    /// The gate on the road from agents to the server at this place.
    pub fn gate(&mut self, at: usize) -> &mut Gate {
        &mut self.gates[at]
    }

    /// The server at this place is one of the cluster from now on, or is none any more.
    pub fn belongs(&mut self, at: usize, belongs: bool) {
        self.servers[at].outside = !belongs;
    }

    /// What the server at this place wrote to its log so far.
    #[track_caller]
    pub fn server_log(&self, at: usize) -> String {
        fs::read_to_string(&self.servers[at].log).expect("the log can be read")
    }

    /// Waits until the server at this place ends by itself; its exit code.
    #[track_caller]
    pub fn server_ended(&mut self, at: usize) -> Option<i32> {
        let mut process = self.servers[at].process.take().expect("the server runs");
        process.wait(Deadline::seconds(PATIENCE_S)).code()
    }

    /// Starts the server at this place, with more arguments than its configuration.
    pub fn start_server(&mut self, at: usize, more: &[&str]) {
        let server = &mut self.servers[at];
        let mut command = command("rebound", self.dir.path());
        command
            .arg("server")
            .arg("--config")
            .arg(&server.config)
            .args(more);
        server.process = Some(spawn_logged(
            &format!("server {}", at + 1),
            &mut command,
            &server.log,
        ));
    }

    /// The most memory that the server at this place has had at once, in bytes.
    #[track_caller]
    pub fn server_peak_bytes(&self, at: usize) -> u64 {
        let process = self.servers[at].process.as_ref().expect("the server runs");
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("Linux has it");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }

    /// Starts the server at this place again on its directory.
    pub fn restart_server(&mut self, at: usize) {
        assert!(self.servers[at].process.is_none(), "server {} runs", at + 1);
        self.start_server(at, &[]);
    }

    /// SIGKILL to the server at this place.
    pub fn kill_server(&mut self, at: usize) {
        let mut process = self.servers[at].process.take().expect("the server runs");
        process.kill();
    }

    /// SIGTERM to the server at this place; its exit code.
    pub fn stop_server(&mut self, at: usize) -> Option<i32> {
        let mut process = self.servers[at].process.take().expect("the server runs");
        process.signal(libc::SIGTERM);
        process.wait(Deadline::seconds(PATIENCE_S)).code()
    }

    /// What every server that runs says of itself, as `operator status` shows it.
    pub fn status(&self) -> Value {
        let done = self.rebound(&["operator", "status", "-o", "json"]);
        serde_json::from_str(&done.stdout).unwrap_or_default()
    }

    /// Waits for a leader that takes calls; its place, from 0.
    #[track_caller]
    pub fn leader(&self) -> usize {
        let look = || {
            let status = self.status();
            let leader = status["leader"].as_u64()?;
            let ready = |server: &&Value| server["server"] == leader && server["ready"] == true;
            status["servers"].as_array()?.iter().find(ready)?;
            usize::try_from(leader).ok()?.checked_sub(1)
        };
        self.wait_for(look, "a leader that is ready")
    }

    /// Waits until all servers of the cluster stand at the same entry, and holds them to the same digest.
    #[track_caller]
    pub fn converge(&self) {
        let look = || {
            let status = self.status();
            let servers = status["servers"].as_array()?.clone();
            let first = servers.first()?;
            let same = |field: &str| {
                servers
                    .iter()
                    .all(|server| server[field] == first[field] && !server[field].is_null())
            };
            let count = self.servers.iter().filter(|server| !server.outside).count();
            (servers.len() == count && same("applied")).then(|| (same("digest"), servers.clone()))
        };
        let (equal, servers) = self.wait_for(look, "all servers at the same entry");
        assert!(equal, "their digests differ: {servers:#?}");
    }

    /// Starts an agent, and waits until the cluster has it. `recognisers` is the folder of recognisers' folders.
    #[track_caller]
    pub fn start_agent(&mut self, name: &str, slots: u32, recognisers: Option<&Path>, more: &[&str]) {
        let mut command = self.agent_command(name, slots, recognisers);
        command.args(more);
        self.start_agent_by(name, command);
    }

    /// Starts an agent with a command made from [`agent_command`](Cluster::agent_command), and waits as above.
    #[track_caller]
    pub fn start_agent_by(&mut self, name: &str, mut command: Command) {
        let log = self.dir().join(format!("agent-{name}.log"));
        let process = Some(spawn_logged(&format!("agent {name}"), &mut command, &log));
        self.agents.retain(|agent| agent.name != name);
        self.agents.push(Agent {
            name: name.to_owned(),
            log,
            process,
        });
        self.wait_until(
            || {
                self.worker(name)
                    .is_some_and(|worker| worker["state"] == "active")
            },
            &format!("worker {name}"),
        );
    }

    /// The command that starts an agent of this cluster.
    pub fn agent_command(&self, name: &str, slots: u32, recognisers: Option<&Path>) -> Command {
        let mut command = command("rebound-agent", self.dir());
        let gates: Vec<String> = self.gates.iter().map(Gate::address).collect();
        let servers = match gates.is_empty() {
            true => self.addresses(),
            false => gates.join(","),
        };
        command.args(["run", "--server", &servers, "--name", name]);
        command.args(["--slots", &slots.to_string()]);
        command
            .arg("--data-dir")
            .arg(self.dir().join(format!("spool-{name}")));
        if let Some(folder) = recognisers {
            command.arg("--recognisers").arg(folder);
        }
        command
    }

    /// The agent's process.
    #[track_caller]
    pub fn agent(&mut self, name: &str) -> &mut Process {
        let agent = self.agents.iter_mut().find(|agent| agent.name == name);
        agent
            .and_then(|agent| agent.process.as_mut())
            .expect("the agent was started")
    }

    /// What the agent wrote to its log so far.
    #[track_caller]
    pub fn agent_log(&self, name: &str) -> String {
        let agent = self.agents.iter().find(|agent| agent.name == name);
        fs::read_to_string(&agent.expect("the agent was started").log).expect("the log can be read")
    }

    /// Waits for the agent's end, which the test has asked for; its exit code.
    #[track_caller]
    pub fn agent_ended(&mut self, name: &str) -> Option<i32> {
        let code = self.agent(name).wait(Deadline::seconds(PATIENCE_S)).code();
        self.agents
            .iter_mut()
            .find(|agent| agent.name == name)
            .expect("just waited for")
            .process = None;
        code
    }

    /// The worker of this name, as `worker show` has it.
    pub fn worker(&self, name: &str) -> Option<Value> {
        let done = self.rebound(&["worker", "show", name, "-o", "json"]);
        serde_json::from_str(&done.stdout)
            .ok()
            .filter(|_| done.code == Some(0))
    }

    /// Runs the operators' binary with these arguments against this cluster.
    #[track_caller]
    pub fn rebound(&self, args: &[&str]) -> Finished {
        let mut command = command("rebound", self.dir());
        command.env("REBOUND_SERVERS", self.addresses()).args(args);
        run(&mut command, Deadline::seconds(2 * PATIENCE_S))
    }

    /// As [`Cluster::rebound`] with `-o json`: must end with `code`; the answer.
    #[track_caller]
    pub fn json(&self, code: i32, args: &[&str]) -> Value {
        let done = self.rebound(&[args, &["-o", "json"]].concat());
        assert_eq!(done.code, Some(code), "{args:?}: {done:?}");
        match serde_json::from_str(&done.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{args:?} answered no JSON: {error}: {done:?}"),
        }
    }

    /// Submits a job, which must end with `code`; its id.
    #[track_caller]
    pub fn submit(&self, code: i32, args: &[&str]) -> u64 {
        let answer = self.json(code, &[&["submit"], args].concat());
        answer[0]["job"]
            .as_u64()
            .unwrap_or_else(|| panic!("no job in {answer}"))
    }

    /// Waits until the job has ended, which must exit with `code`.
    #[track_caller]
    pub fn wait_job(&self, code: i32, job: u64) -> Value {
        let jobs = self.json(code, &["job", "wait", &job.to_string(), "--wait-timeout", "100s"]);
        jobs[0].clone()
    }

    /// Every result of a job, in the order of its photos.
    #[track_caller]
    pub fn results(&self, job: u64) -> Vec<Value> {
        match self.json(0, &["job", "results", &job.to_string()]) {
            Value::Array(results) => results,
            other => panic!("results of job {job}: {other}"),
        }
    }

    /// Waits until `condition` holds, at most [`PATIENCE_S`].
    #[track_caller]
    pub fn wait_until(&self, mut condition: impl FnMut() -> bool, what: &str) {
        self.wait_for(|| condition().then_some(()), what);
    }

    /// Waits until `look` finds something, at most [`PATIENCE_S`].
    #[track_caller]
    pub fn wait_for<T>(&self, look: impl FnMut() -> Option<T>, what: &str) -> T {
        match look_until(look, Deadline::seconds(PATIENCE_S)) {
            Some(found) => found,
            None => panic!("waited {PATIENCE_S} s for {what}; status: {:#}", self.status()),
        }
    }

    /// The end of every test: a job of five photos through `noop` succeeds, all processes still run that nobody
    /// ended, the servers agree, and nothing has panicked.
    #[track_caller]
    pub fn finish(mut self) {
        let photos: Vec<String> = (0..5).map(|at| format!("file:///after/{at}.jpg")).collect();
        let mut args = vec!["--recogniser", "noop", "--wait", "--wait-timeout", "60s"];
        args.extend(photos.iter().map(String::as_str));
        let answer = self.json(0, &[&["submit"], args.as_slice()].concat());
        assert_eq!(answer[0]["succeeded"], 5, "{answer}");
        self.converge();
        let servers = self.servers.iter_mut().map(|server| server.process.as_mut());
        let agents = self.agents.iter_mut().map(|agent| agent.process.as_mut());
        for process in servers.chain(agents).flatten() {
            assert_eq!(process.ended(), None, "process {} ended by itself", process.id());
        }
        for (log, text) in self.logs() {
            for words in PANIC_WORDS {
                assert!(!text.contains(words), "{} says {words:?}", log.display());
            }
        }
    }

    fn logs(&self) -> Vec<(PathBuf, String)> {
        let servers = self.servers.iter().map(|server| &server.log);
        let agents = self.agents.iter().map(|agent| &agent.log);
        let read = |log: &PathBuf| (log.clone(), fs::read_to_string(log).unwrap_or_default());
        servers.chain(agents).map(read).collect()
    }
}

impl Drop for Cluster {
    /// Nothing is asked to stop in order: agents' recognisers end with them, and the directory goes.
    fn drop(&mut self) {
        let servers = self.servers.iter_mut().map(|server| server.process.as_mut());
        let agents = self.agents.iter_mut().map(|agent| agent.process.as_mut());
        for process in agents.chain(servers).flatten() {
            process.signal(libc::SIGKILL);
        }
        if std::thread::panicking() {
            for (log, text) in self.logs() {
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
                eprintln!("--- {}, its last lines:\n{}", log.display(), last.join("\n"));
            }
        }
    }
}

/// One of our binaries, with nothing of the caller's own settings: a home of the test's own, no variables of ours.
pub fn command(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(binary(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("REBOUND_") {
            command.env_remove(variable);
        }
    }
    command
        .env("XDG_CONFIG_HOME", dir)
        .env("NO_COLOR", "1")
        .current_dir(dir);
    command
}

/// Starts a process whose log is added to the file `log`.
#[track_caller]
pub fn spawn_logged(name: &str, command: &mut Command, log: &Path) -> Process {
    let file = File::options().create(true).append(true).open(log);
    let file = file.expect("a log can be opened");
    command.stdin(std::process::Stdio::null());
    command.stdout(file.try_clone().expect("a file can be cloned"));
    command.stderr(file);
    Process::spawn(name, command)
}

fn client_address(ports: &[u16], at: usize) -> String {
    format!("127.0.0.1:{}", ports[at * 3])
}

/// The configuration of the server at this place in the cluster `name`.
pub fn server_toml(name: &str, at: usize, data: &Path, ports: &[u16], options: &Options) -> String {
    let address = |at: usize| format!("\"127.0.0.1:{}\"", ports[at]);
    let members = (0..SERVERS).map(|member| {
        let (client, peer) = (address(member * 3), address(member * 3 + 1));
        format!(
            "[[members]]\nid = {}\npeer = {peer}\nclient = {client}\n",
            member + 1
        )
    });
    format!(
        "cluster = \"{name}\"\nserver = {}\ndata_dir = {:?}\n[listen]\nclient = {}\npeer = {}\nhttp = {}\n\
         [store]\ncache_mib = 8\nwrite_buffer_mib = 16\n{}\n{}",
        at + 1,
        data,
        address(at * 3),
        address(at * 3 + 1),
        address(at * 3 + 2),
        options.server_toml,
        members.collect::<String>()
    )
}
