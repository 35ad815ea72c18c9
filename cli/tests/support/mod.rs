//! A server that behaves like a small cluster, with troubles on order, and the `rebound` program to run against it.

#![allow(dead_code, reason = "each test program uses its own part")]

mod operator;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prost::Message;
use rebound_proto::v1::jobs_server::{Jobs, JobsServer};
use rebound_proto::v1::operator_server::OperatorServer;
use rebound_proto::v1::refusal::Kind;
use rebound_proto::v1::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// What the server does with a call instead of answering it.
pub enum Trouble {
    /// Refuses it and does nothing.
    Refuse(Status),
    /// Does it, and says that it does not know.
    DoAndForget,
    /// Says nothing, for as long as the client listens.
    Silence,
}

/// A call the server has seen.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub actor: String,
    pub key: String,
    pub offset: u64,
    pub photos: usize,
}

#[derive(Clone, Default)]
pub struct FakeJob {
    pub job: Job,
    pub photos: Vec<String>,
    key: Vec<u8>,
}

/// What the server knows, and what it is told to do wrong.
#[derive(Default)]
pub struct World {
    pub jobs: BTreeMap<u64, FakeJob>,
    pub calls: Vec<Call>,
    troubles: BTreeMap<&'static str, VecDeque<Trouble>>,
    /// Jobs never end by themselves.
    pub stuck: bool,
    /// No worker is there.
    pub unplaceable: bool,
    pub workers: Vec<Worker>,
    pub status: StatusReply,
    /// The one setting there is; 0 stands for its default.
    pub lease_us: u64,
    /// Of the one environment there is; 0 stands for its default.
    pub weight: u32,
}

impl World {
    fn begin<T>(&mut self, method: &'static str, request: &Request<T>) -> Option<Trouble> {
        let actor = request
            .metadata()
            .get("rebound-actor")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_string();
        self.calls.push(Call {
            method,
            actor,
            key: String::new(),
            offset: 0,
            photos: 0,
        });
        self.troubles.get_mut(method).and_then(VecDeque::pop_front)
    }

    fn note(&mut self, note: impl FnOnce(&mut Call)) {
        note(self.calls.last_mut().expect("a call has begun"));
    }

    pub fn count(&self, method: &str) -> usize {
        self.calls.iter().filter(|call| call.method == method).count()
    }

    /// Adds a job that is done: photos with `bad` in their names have failed.
    pub fn done_job(&mut self, id: u64, name: &str, recogniser: &str, photos: &[String]) {
        let spec = JobSpec {
            name: name.into(),
            recogniser: recogniser.into(),
            priority: 50,
            ..Default::default()
        };
        let job = Job {
            id,
            spec: Some(spec),
            opened_us: 1_795_305_600_000_000,
            ..Default::default()
        };
        self.jobs.insert(
            id,
            FakeJob {
                job,
                photos: photos.to_vec(),
                key: Vec::new(),
            },
        );
        self.end(id);
    }

    fn end(&mut self, id: u64) {
        let Some(fake) = self.jobs.get_mut(&id) else {
            return;
        };
        let failed = fake.photos.iter().filter(|uri| uri.contains("bad")).count() as u64;
        let job = &mut fake.job;
        job.tasks = fake.photos.len() as u64;
        job.failed = failed;
        job.succeeded = job.tasks - failed;
        job.waiting = 0;
        job.changed += 1;
        job.state = JobState::Done as i32;
    }
}

/// A running server. It stops when this is dropped.
pub struct Fake {
    pub address: String,
    pub world: Arc<Mutex<World>>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("threads");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(TcpListener::bind(any)).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let world = Arc::new(Mutex::new(World::default()));
        let service = Service { world: world.clone() };
        let server = tonic::transport::Server::builder()
            .add_service(JobsServer::new(service.clone()))
            .add_service(OperatorServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { server.await.expect("the server ends with its runtime") });
        Self {
            address,
            world,
            _runtime: runtime,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test thread panics with the lock")
    }

    /// The next calls of `method` meet these, in order.
    pub fn trouble(&self, method: &'static str, troubles: impl IntoIterator<Item = Trouble>) {
        self.world().troubles.entry(method).or_default().extend(troubles);
    }

    /// Runs `rebound` against this server.
    pub fn run(&self, args: &[&str]) -> Ran {
        run_at(&self.address, args)
    }
}

/// A status with its typed refusal.
pub fn refusal(code: Code, kind: Kind, change: impl FnOnce(&mut Refusal)) -> Status {
    let mut refusal = Refusal {
        kind: kind as i32,
        message: format!("{kind:?}"),
        ..Default::default()
    };
    change(&mut refusal);
    Status::with_details(code, refusal.message.clone(), refusal.encode_to_vec().into())
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Stdout as exactly one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON value ({error}): {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code().expect("an exit code"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// The program, with nothing of this machine's settings.
pub fn rebound() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rebound"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REBOUND_") || name == "NO_COLOR") {
        command.env_remove(name);
    }
    command
        .env("XDG_CONFIG_HOME", "/nowhere")
        .stdin(std::process::Stdio::null());
    command
}

pub fn run_at(servers: &str, args: &[&str]) -> Ran {
    rebound()
        .args(["--server", servers])
        .args(args)
        .output()
        .expect("the program runs")
        .into()
}

#[derive(Clone)]
struct Service {
    world: Arc<Mutex<World>>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    async fn serve<Q, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
        serve: impl FnOnce(&mut World, Q) -> Result<A, Status>,
    ) -> Answer<A> {
        let trouble = self.world.lock().expect("the world").begin(method, &request);
        match trouble {
            Some(Trouble::Refuse(status)) => return Err(status),
            Some(Trouble::Silence) => std::future::pending().await,
            Some(Trouble::DoAndForget) => {
                serve(&mut self.world.lock().expect("the world"), request.into_inner())?;
                return Err(refusal(Code::Unavailable, Kind::Unknown, |_| {}));
            }
            None => {}
        }
        serve(&mut self.world.lock().expect("the world"), request.into_inner()).map(Response::new)
    }
}

fn find(world: &mut World, job: u64) -> Result<&mut FakeJob, Status> {
    let missing = || {
        refusal(Code::NotFound, Kind::NotFound, |r| {
            r.message = format!("no job {job}")
        })
    };
    world.jobs.get_mut(&job).ok_or_else(missing)
}

#[tonic::async_trait]
impl Jobs for Service {
    async fn open(&self, request: Request<OpenRequest>) -> Answer<OpenReply> {
        self.serve("open", request, |world, open| {
            let key = open.idempotency_key.to_vec();
            world.note(|call| {
                call.key = String::from_utf8_lossy(&key).into_owned();
                call.photos = open.photos.len();
            });
            let placeable = !world.unplaceable;
            let reply = |fake: &FakeJob, repeated| OpenReply {
                job: fake.job.id,
                state: fake.job.state,
                next_offset: fake.photos.len() as u64,
                placeable,
                trace_id: fake.job.trace_id.clone(),
                repeated,
                outlook: None,
            };
            if let Some(known) = world
                .jobs
                .values()
                .find(|fake| !key.is_empty() && fake.key == key)
            {
                return Ok(reply(known, true));
            }
            let id = 10 + world.jobs.len() as u64;
            let state = if open.close {
                JobState::Closed
            } else {
                JobState::Open
            };
            let photos: Vec<String> = open.photos.into_iter().map(|photo| photo.uri).collect();
            let tasks = photos.len() as u64;
            let trace_id = open.trace_id;
            let job = Job {
                id,
                spec: open.spec,
                state: state as i32,
                tasks,
                waiting: tasks,
                changed: 1,
                trace_id,
                ..Default::default()
            };
            let fake = FakeJob { job, photos, key };
            let answer = reply(&fake, false);
            world.jobs.insert(id, fake);
            Ok(answer)
        })
        .await
    }

    async fn append(&self, request: Request<AppendRequest>) -> Answer<AppendReply> {
        self.serve("append", request, |world, append| {
            world.note(|call| {
                call.offset = append.offset;
                call.photos = append.photos.len();
            });
            let fake = find(world, append.job)?;
            if append.offset == fake.photos.len() as u64 {
                fake.photos
                    .extend(append.photos.into_iter().map(|photo| photo.uri));
            } else if append.offset > fake.photos.len() as u64 {
                return Err(refusal(Code::InvalidArgument, Kind::Rejected, |r| {
                    r.message = "a gap".into()
                }));
            }
            fake.job.tasks = fake.photos.len() as u64;
            Ok(AppendReply {
                next_offset: fake.job.tasks,
            })
        })
        .await
    }

    async fn close(&self, request: Request<CloseRequest>) -> Answer<JobReply> {
        self.serve("close", request, |world, close| {
            let fake = find(world, close.job)?;
            if close.total != fake.photos.len() as u64 {
                return Err(refusal(Code::Aborted, Kind::Conflict, |r| {
                    r.message = "another total".into()
                }));
            }
            fake.job.state = JobState::Closed as i32;
            Ok(JobReply {
                job: Some(fake.job.clone()),
            })
        })
        .await
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Answer<JobReply> {
        self.serve("cancel", request, |world, cancel| {
            let fake = find(world, cancel.job)?;
            fake.job.state = JobState::Cancelled as i32;
            fake.job.cancelled = fake.job.tasks;
            Ok(JobReply {
                job: Some(fake.job.clone()),
            })
        })
        .await
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<JobReply> {
        self.serve("get", request, |world, get| {
            Ok(JobReply {
                job: Some(find(world, get.job)?.job.clone()),
            })
        })
        .await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<JobReply> {
        let Self { world } = self;
        let (seen, timeout) = (
            request.get_ref().seen,
            Duration::from_micros(request.get_ref().timeout_us),
        );
        let stuck = world.lock().expect("the world").stuck;
        if stuck && seen > 0 {
            // Nothing changes until the question's own time limit.
            let _ = tokio::time::timeout(timeout, std::future::pending::<()>()).await;
        }
        self.serve("watch", request, |world, watch| {
            let fake = find(world, watch.job)?;
            // The first question is answered at once, the second one when all is done.
            let closed = fake.job.state() == JobState::Closed;
            if watch.seen > 0 && closed && !stuck {
                world.end(watch.job);
            }
            Ok(JobReply {
                job: Some(find(world, watch.job)?.job.clone()),
            })
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListReply> {
        self.serve("list", request, |world, list| {
            let below = |fake: &&FakeJob| list.before == 0 || fake.job.id < list.before;
            let mut jobs: Vec<Job> = world
                .jobs
                .values()
                .rev()
                .filter(below)
                .map(|fake| fake.job.clone())
                .collect();
            let more = jobs.len() > list.limit as usize;
            jobs.truncate(list.limit as usize);
            let next = jobs.last().map_or(0, |job| job.id);
            Ok(ListReply {
                jobs,
                next: if more { next } else { 0 },
            })
        })
        .await
    }

    async fn results(&self, request: Request<ResultsRequest>) -> Answer<ResultsReply> {
        self.serve("results", request, |world, ask| {
            let fake = find(world, ask.job)?;
            let all = fake.photos.len() as u64;
            let end = (ask.first + u64::from(ask.limit)).min(all);
            let results = (ask.first..end).map(|task| result_of(fake, task)).collect();
            Ok(ResultsReply {
                results,
                next: if end < all { end } else { 0 },
            })
        })
        .await
    }

    async fn task(&self, request: Request<TaskRequest>) -> Answer<TaskReply> {
        self.serve("task", request, |world, ask| {
            let fake = find(world, ask.job)?;
            if ask.task >= fake.photos.len() as u64 {
                return Err(refusal(Code::NotFound, Kind::NotFound, |r| {
                    r.message = format!("no task {}", ask.task)
                }));
            }
            let result = result_of(fake, ask.task);
            let attempt = Attempt {
                given: 5,
                worker: 3,
                cause: Cause::Crashed as i32,
                message: "ended by signal 9".into(),
                ended_us: 1_795_305_601_000_000,
            };
            Ok(TaskReply {
                job: ask.job,
                task: ask.task,
                uri: result.uri.clone(),
                state: "succeeded".into(),
                attempts: 1,
                result: Some(result),
                attempts_made: vec![attempt],
                ..Default::default()
            })
        })
        .await
    }
}

/// Every third photo shows an apple, the others milk; a `bad` one is not an image.
fn result_of(fake: &FakeJob, task: u64) -> TaskResult {
    let uri = fake.photos.get(task as usize).cloned().unwrap_or_default();
    let bad = uri.contains("bad");
    let label = if task.is_multiple_of(3) { "apple" } else { "milk" };
    let output = if bad {
        "not an image".to_string()
    } else if fake
        .job
        .spec
        .as_ref()
        .is_some_and(|spec| spec.recogniser == "noop")
    {
        format!("{task:064x}")
    } else {
        format!(r#"{{"kind":"labels","top":[{{"label":"{label}","p":0.5}}]}}"#)
    };
    TaskResult {
        task,
        uri,
        outcome: if bad { Outcome::Failed } else { Outcome::Succeeded } as i32,
        cause: if bad { Cause::Input } else { Cause::Unspecified } as i32,
        output: output.into(),
        given: 7,
        worker: 3,
        started_us: 1_795_305_600_000_000,
        ended_us: 1_795_305_600_042_000,
        recorded_us: 1_795_305_600_050_000,
    }
}

/// URIs of so many photos.
pub fn photos(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("file:///p/{i}.jpg")).collect()
}

/// Writes a specification into `dir`; returns its path.
pub fn spec(dir: &std::path::Path, text: &[u8]) -> String {
    let path = dir.join("job.yaml");
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
