//! Three server processes, killed without warning again and again: what was acknowledged stays.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rebound_proto::v1;
use rebound_proto::v1::operator_client::OperatorClient;
use rebound_scheduler::offline::OfflineStore;
use rebound_scheduler::{Config, End, Start, server};

use support::{channel, configs, runtime, within};

/// Names the configuration to the child.
const CONFIG: &str = "REBOUND_TEST_CONFIG";
/// Says to the child that its directory is to be made.
const INIT: &str = "REBOUND_TEST_INIT";
/// Leaders killed.
const KILLS: usize = 3;
/// Counts acknowledged between two kills.
const COUNTS: usize = 40;
/// One try of a count, in µs.
const TRY_US: u64 = 500_000;

/// Not a test of its own: what the other one starts as a process.
#[test]
#[ignore = "started as a process by the other test"]
fn serves() {
    let path = std::env::var(CONFIG).expect("the configuration's path");
    let config = Config::load(Path::new(&path)).unwrap();
    let start = match std::env::var(INIT) {
        Ok(_) => Start::Init,
        Err(_) => Start::Again,
    };
    assert_eq!(server::main(config, &start), End::Stopped);
}

/// A server's process, killed when dropped.
struct Process(Child);

impl Process {
    fn start(config: &Path, init: bool) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "serves", "--nocapture"])
            .env(CONFIG, config);
        command
            .env_remove(INIT)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if init {
            command.env(INIT, "1");
        }
        Process(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    fn terminate(mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: a child of ours that was not waited for: the id is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        assert!(self.0.wait().unwrap().success(), "a graceful stop ends well");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Counts once, at whoever leads; the count and the leader's place.
async fn count(addresses: &[String]) -> (u64, usize) {
    for (at, address) in addresses.iter().enumerate().cycle() {
        let Ok(channel) = channel(address).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let request = v1::PingRequest { timeout_us: TRY_US };
        let mut operator = OperatorClient::new(channel);
        let call = operator.ping(request);
        if let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_micros(TRY_US), call).await {
            return (reply.into_inner().count, at);
        }
    }
    unreachable!("the addresses go round")
}

#[test]
fn killed_leaders_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path());
    let addresses: Vec<String> = configs
        .iter()
        .map(|config| config.listen.client.clone())
        .collect();
    let files: Vec<_> = configs
        .iter()
        .map(|config| dir.path().join(format!("{}.toml", config.server)))
        .collect();
    for (config, file) in configs.iter().zip(&files) {
        std::fs::write(file, config.to_toml()).unwrap();
    }
    let mut servers: Vec<Process> = files.iter().map(|file| Process::start(file, true)).collect();
    let last = runtime().block_on(async {
        let mut last = 0;
        for kill in 0..=KILLS {
            let mut leader = 0;
            for _ in 0..COUNTS {
                let (count, at) = within("a count", count(&addresses)).await;
                assert!(
                    count > last,
                    "count {count} came after {last} had been acknowledged"
                );
                (last, leader) = (count, at);
            }
            if kill < KILLS {
                servers[leader].kill();
                servers[leader] = Process::start(&files[leader], false);
            }
        }
        last
    });
    servers.into_iter().for_each(Process::terminate);
    let mut counted = 0;
    for config in &configs {
        let store = OfflineStore::open(&config.data_dir).unwrap();
        let state = store.state().unwrap();
        state.check();
        let probe = state
            .environments
            .find("_probe")
            .and_then(|env| state.environments.get(env));
        counted = counted.max(probe.map_or(0, |environment| environment.probes));
        for (index, digest) in store.digests().unwrap() {
            assert_eq!(index % 1_000, 0, "{digest:?}");
        }
    }
    assert!(counted >= last, "{last} was acknowledged, {counted} is on disk");
}
