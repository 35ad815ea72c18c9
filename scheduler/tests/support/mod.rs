//! Clusters of three servers within the test's process.

#![allow(dead_code)]

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message as _;
use rebound_proto::v1;
use rebound_proto::v1::jobs_client::JobsClient;
use rebound_proto::v1::operator_client::OperatorClient;
use rebound_scheduler::node::{Handle, Standing};
use rebound_scheduler::{Config, RunningServer, Server, telemetry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;
use tonic::{Code, Status};

pub mod agent;

/// Nothing here takes this long, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub async fn within<F: Future>(what: &str, work: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

pub fn refusal(status: &Status) -> v1::Refusal {
    v1::Refusal::decode(status.details()).unwrap()
}

pub fn photos(count: u64) -> Vec<v1::Photo> {
    (0..count)
        .map(|n| v1::Photo {
            uri: format!("file:///photos/{n}.jpg"),
        })
        .collect()
}

pub fn open_request(count: u64) -> v1::OpenRequest {
    let resources = v1::Resources {
        milli_cpu: 100,
        memory_mib: 10,
        gpus: 0,
    };
    let spec = v1::JobSpec {
        recogniser: "noop".into(),
        resources: Some(resources),
        ..v1::JobSpec::default()
    };
    v1::OpenRequest {
        spec: Some(spec),
        photos: photos(count),
        close: true,
        ..v1::OpenRequest::default()
    }
}

pub struct Cluster {
    dir: tempfile::TempDir,
    configs: Vec<Config>,
    servers: Vec<Option<RunningServer>>,
}

impl Cluster {
    pub async fn start() -> Cluster {
        telemetry::install();
        let dir = tempfile::tempdir().unwrap();
        let configs = configs(dir.path());
        let mut servers = Vec::new();
        for config in &configs {
            Server::init(config).unwrap();
            servers.push(Some(Server::start(config.clone()).await.unwrap()));
        }
        Cluster {
            dir,
            configs,
            servers,
        }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.configs
            .iter()
            .map(|config| config.listen.client.clone())
            .collect()
    }

    pub fn handle(&self, at: usize) -> &Handle {
        self.servers[at].as_ref().unwrap().handle()
    }

    pub fn standing(&self, at: usize) -> Standing {
        self.servers[at].as_ref().unwrap().handle().standing()
    }

    /// Waits for a leader that is ready.
    pub async fn leader(&self) -> usize {
        let alive = self
            .servers
            .iter()
            .enumerate()
            .filter_map(|(at, server)| Some((at, server.as_ref()?)));
        let waits = alive.map(|(at, server)| {
            let mut standing = server.handle().watch();
            Box::pin(async move {
                standing.wait_for(|standing| standing.status.ready).await.unwrap();
                at
            })
        });
        within("a leader", futures_util::future::select_all(waits))
            .await
            .0
    }

    /// Waits until all servers stand at the same entry with the same digest.
    pub async fn converge(&self) {
        let leader = self.leader().await;
        let target = self.standing(leader).status.applied;
        for server in self.servers.iter().flatten() {
            let mut standing = server.handle().watch();
            let reached = standing.wait_for(|standing| standing.status.applied >= target);
            within("all servers applied", reached).await.unwrap();
        }
        let all: Vec<Standing> = (0..3).map(|at| self.standing(at)).collect();
        for standing in &all {
            assert_eq!(standing.status.applied, target, "something was applied meanwhile");
            assert_eq!(standing.status.digest, all[0].status.digest, "at entry {target}");
        }
    }

    pub async fn stop(&mut self, at: usize) {
        within("a stop", self.servers[at].take().unwrap().stop()).await;
    }

    pub async fn restart(&mut self, at: usize) {
        self.servers[at] = Some(Server::start(self.configs[at].clone()).await.unwrap());
    }

    /// Stops all; the directories, which are removed with the first of the answer.
    pub async fn stop_all(mut self) -> (tempfile::TempDir, Vec<PathBuf>) {
        // The leader last: one that ends before the others hands over, and they would apply an entry more than it.
        let leader = self.leader().await;
        for at in (0..3).filter(|at| *at != leader).chain([leader]) {
            if self.servers[at].is_some() {
                self.stop(at).await;
            }
        }
        (
            self.dir,
            self.configs
                .iter()
                .map(|config| config.data_dir.clone())
                .collect(),
        )
    }

    pub async fn jobs(&self, at: usize) -> JobsClient<Channel> {
        let channel = channel(&self.configs[at].listen.client).await.unwrap();
        JobsClient::new(channel).max_decoding_message_size(8 << 20)
    }

    pub async fn operator(&self, at: usize) -> OperatorClient<Channel> {
        OperatorClient::new(channel(&self.configs[at].listen.client).await.unwrap())
    }

    /// Opens a job of so many photos at the leader; its id and tasks.
    pub async fn submit(&self, count: u64) -> (u64, u64) {
        let request = v1::OpenRequest {
            idempotency_key: format!("{:?}", std::time::Instant::now()).into_bytes().into(),
            ..open_request(count)
        };
        let call = async || {
            let mut jobs = self.jobs(self.leader().await).await;
            jobs.open(request.clone()).await
        };
        let opened = within("an open", again(call)).await;
        assert_eq!(opened.trace_id.len(), 16);
        (opened.job, count)
    }

    /// The same in several appends.
    pub async fn submit_in_parts(&self, parts: &[u64]) -> (u64, u64) {
        let mut jobs = self.jobs(self.leader().await).await;
        let open = v1::OpenRequest {
            close: false,
            photos: Vec::new(),
            ..open_request(0)
        };
        let job = jobs.open(open).await.unwrap().into_inner().job;
        let mut offset = 0;
        for count in parts {
            let append = v1::AppendRequest {
                job,
                offset,
                photos: photos(*count),
                timeout_us: 0,
            };
            offset = jobs.append(append).await.unwrap().into_inner().next_offset;
        }
        let close = v1::CloseRequest {
            job,
            total: offset,
            timeout_us: 0,
        };
        let closed = jobs.close(close).await.unwrap().into_inner().job.unwrap();
        assert_eq!((closed.id, closed.tasks), (job, offset));
        (job, offset)
    }

    /// Waits until all these jobs are done.
    pub async fn finish(&self, submitted: &[(u64, u64)]) {
        for (job, tasks) in submitted {
            let done = within("a job's end", self.watch_to_end(*job)).await;
            assert_eq!(
                (done.state(), done.succeeded),
                (v1::JobState::Done, *tasks),
                "{done:?}"
            );
        }
    }

    pub async fn watch_to_end(&self, job: u64) -> v1::Job {
        let mut seen = 0;
        loop {
            let call = async || {
                let mut jobs = self.jobs(self.leader().await).await;
                jobs.watch(v1::WatchRequest {
                    timeout_us: 1_000_000,
                    job,
                    seen,
                })
                .await
            };
            let found = again(call).await.job.unwrap();
            if found.state() == v1::JobState::Done {
                return found;
            }
            seen = found.changed;
        }
    }

    /// Every result of these jobs, by pages of 5.
    pub async fn all_results(&self, submitted: &[(u64, u64)]) -> Vec<(u64, v1::TaskResult)> {
        let mut all = Vec::new();
        let mut jobs = self.jobs(self.leader().await).await;
        for (job, _) in submitted {
            let mut first = 0;
            loop {
                let request = v1::ResultsRequest {
                    timeout_us: 0,
                    job: *job,
                    first,
                    limit: 5,
                };
                let page = jobs.results(request).await.unwrap().into_inner();
                for result in page.results {
                    assert_eq!(result.outcome(), v1::Outcome::Succeeded);
                    assert_eq!(
                        result.output,
                        agent::output(&result.uri),
                        "the agent's own words come back"
                    );
                    all.push((*job, result));
                }
                first = page.next;
                if first == 0 {
                    break;
                }
            }
        }
        let (job, result) = all.last().unwrap();
        let task = v1::TaskRequest {
            timeout_us: 0,
            job: *job,
            task: result.task,
        };
        let task = jobs.task(task).await.unwrap().into_inner();
        assert_eq!(
            (task.state.as_str(), task.result.as_ref()),
            ("succeeded", Some(result))
        );
        all
    }

    /// A plain GET; its code and body.
    pub async fn http(&self, at: usize, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(&self.configs[at].listen.http)
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("an answer over HTTP", stream.read_to_string(&mut answer))
            .await
            .unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (code, body)
    }
}

/// Calls until it is answered: no leader, or one that has just gone, is no answer.
async fn again<A>(call: impl AsyncFn() -> Result<tonic::Response<A>, Status>) -> A {
    loop {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) => {
                tokio::task::yield_now().await;
            }
            Err(status) => panic!("{status}"),
        }
    }
}

pub async fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
}

/// Configurations of three servers under `dir`, on ports that are free.
pub fn configs(dir: &std::path::Path) -> Vec<Config> {
    // All at once, so that no port is drawn twice.
    let listeners: Vec<TcpListener> = (0..9)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = |at: usize| listeners[at].local_addr().unwrap().to_string();
    let mut members = String::new();
    for at in 0..3 {
        let (peer, client) = (address(at * 3), address(at * 3 + 1));
        members += &format!(
            "[[members]]\nid = {}\npeer = \"{peer}\"\nclient = \"{client}\"\n",
            at + 1
        );
    }
    let config = |at: usize| {
        let (id, peer, client, http) = (at + 1, address(at * 3), address(at * 3 + 1), address(at * 3 + 2));
        let text = format!(
            "cluster = \"test\"\nserver = {id}\ndata_dir = \"{}\"\n[listen]\nclient = \"{client}\"\n\
             peer = \"{peer}\"\nhttp = \"{http}\"\n[log]\nkeep = 16\narchive = true\n{members}",
            dir.join(id.to_string()).display()
        );
        Config::parse(&text, std::path::Path::new("test.toml")).unwrap()
    };
    (0..3).map(config).collect()
}
