//! What a `noop` photo costs the agent: one agent process with many slots against a leader in this process that
//! answers each millisecond. Prints tasks a second and µs of the agent's processor time a task.
//!
//! `cargo run --release -p rebound-agent --example noop_cost -- [TASKS] [SLOTS] [CREDIT]`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Said;
use rebound_proto::v1::agents_server::{Agents, AgentsServer};
use rebound_proto::v1::server_message::Body as Say;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Half of the tasks are in jobs of this size, half in one large job.
const SMALL_JOB: u64 = 12;
const TURN: Duration = Duration::from_millis(1);

struct Leader {
    tasks: u64,
    credit: u64,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

struct Door(Arc<Leader>);

type Out = mpsc::Sender<Result<v1::ServerMessage, Status>>;

#[tonic::async_trait]
impl Agents for Door {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (say, said) = mpsc::channel(64);
        tokio::spawn(lead(self.0.clone(), request.into_inner(), say));
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

/// What the agent holds: runs by (job, first), as (last, given).
#[derive(Default)]
struct Books {
    runs: BTreeMap<(u64, u64), (u64, u64)>,
    held: u64,
    given: u64,
    recorded: u64,
    small: u64,
    large: u64,
    said: BTreeSet<(u64, u64)>,
    began: bool,
}

impl Books {
    fn top_up(&mut self, tasks: u64, credit: u64) -> bool {
        let before = self.held;
        while self.held < credit && self.recorded + self.held < tasks {
            self.given += 1;
            let count = SMALL_JOB.min(tasks - self.recorded - self.held);
            let (job, first) = match self.given % 2 {
                0 => (1, self.large),
                _ => (1_000 + self.small, 0),
            };
            match job {
                1 => self.large += count,
                _ => self.small += 1,
            }
            self.runs.insert((job, first), (first + count - 1, self.given));
            self.held += count;
        }
        self.held != before
    }

    fn take(&mut self, job: u64, task: u64) {
        let (key, (last, given)) = self
            .runs
            .range(..=(job, task))
            .next_back()
            .map(|(key, run)| (*key, *run))
            .unwrap();
        self.runs.remove(&key);
        if key.1 < task {
            self.runs.insert(key, (task - 1, given));
        }
        if task < last {
            self.runs.insert((job, task + 1), (last, given));
        }
        self.held -= 1;
        self.recorded += 1;
    }

    fn desired(&mut self) -> v1::Desired {
        let mut runs = Vec::new();
        for ((job, first), (last, given)) in &self.runs {
            let photos = self
                .said
                .insert((*job, *given))
                .then(|| photos(*job, *first, *last));
            runs.push(v1::Run {
                job: *job,
                first: *first,
                count: (last - first + 1) as u32,
                given: *given,
                spec: 1,
                photos,
                alone: false,
            });
        }
        runs.sort_by_key(|run| run.given);
        let spec = v1::Spec {
            id: 1,
            recogniser: "noop".into(),
            ..v1::Spec::default()
        };
        let new = !std::mem::replace(&mut self.began, true);
        v1::Desired {
            cluster: "bench".into(),
            term: 1,
            generation: self.recorded + self.given,
            runs,
            specs: new.then_some(spec).into_iter().collect(),
            drain: false,
        }
    }
}

fn photos(job: u64, first: u64, last: u64) -> v1::Photos {
    let uris: Vec<String> = (first..=last).map(|task| uri(job, task)).collect();
    v1::Photos {
        uri_bytes: uris.iter().map(|uri| uri.len() as u32).collect(),
        uris: uris.concat(),
        trace_id: vec![7; 16].into(),
    }
}

fn uri(job: u64, task: u64) -> String {
    format!("{:<80}", format!("file:///photos/{job}/{task}/")).replace(' ', "x")
}

async fn lead(leader: Arc<Leader>, mut heard: Streaming<v1::AgentMessage>, say: Out) {
    let send = async |body| {
        let _ = say.send(Ok(v1::ServerMessage { body: Some(body) })).await;
    };
    send(Say::Welcome(v1::Welcome {
        cluster: "bench".into(),
        worker: 1,
        term: 1,
        heartbeat_us: 1_000_000,
        orphan_for_us: 70_000_000,
        now_us: 0,
        protocol: 1,
    }))
    .await;
    let mut books = Books::default();
    let mut turn = tokio::time::interval(TURN);
    let mut answers = Vec::new();
    books.top_up(leader.tasks, leader.credit);
    send(Say::Desired(books.desired())).await;
    loop {
        tokio::select! {
            message = heard.message() => match message {
                Ok(Some(message)) => {
                    if let Some(Said::Results(results)) = message.body {
                        for run in results.runs {
                            let tasks = run.first..run.first + u64::from(run.count);
                            tasks.for_each(|task| books.take(run.job, task));
                            assert!(run.output_bytes.iter().all(|bytes| *bytes == 64));
                            answers.push(v1::AnswerRun {
                                job: run.job,
                                first: run.first,
                                count: run.count,
                                given: run.given,
                                verdict: v1::Verdict::Recorded.into(),
                            });
                        }
                    }
                }
                _ => return,
            },
            _ = turn.tick() => {
                if answers.is_empty() {
                    continue;
                }
                send(Say::Answers(v1::Answers { runs: std::mem::take(&mut answers) })).await;
                books.top_up(leader.tasks, leader.credit);
                send(Say::Desired(books.desired())).await;
                if books.recorded == leader.tasks
                    && let Some(done) = leader.done.lock().unwrap().take()
                {
                    let _ = done.send(());
                }
            }
        }
    }
}

/// Processor time of a process so far, in µs: user and system.
fn processor_us(pid: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap() * 10_000;
    (ticks(11), ticks(12))
}

fn agent_program() -> PathBuf {
    let example = std::env::current_exe().unwrap();
    let release = example.parent().and_then(Path::parent).unwrap();
    release.join("rebound-agent")
}

#[tokio::main]
async fn main() {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|word| word.parse().unwrap())
        .collect();
    let number = |at: usize, otherwise| numbers.get(at).copied().unwrap_or(otherwise);
    let (tasks, slots) = (number(0, 200_000), number(1, 256));
    let credit = number(2, 2 * slots);
    let (done, finished) = oneshot::channel();
    let leader = Arc::new(Leader {
        tasks,
        credit,
        done: Mutex::new(Some(done)),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tonic::transport::Server::builder().add_service(AgentsServer::new(Door(leader)));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    let dir = std::env::temp_dir().join(format!("rebound-noop-cost-{}", std::process::id()));
    let mut agent = std::process::Command::new(agent_program())
        .args([
            "--server",
            &address.to_string(),
            "--name",
            "bench",
            "--slots",
            &slots.to_string(),
        ])
        .arg("--data-dir")
        .arg(&dir)
        .args(["--log", "warn"])
        .spawn()
        .unwrap();
    let begun = Instant::now();
    finished.await.unwrap();
    let took = begun.elapsed();
    let (user, system) = processor_us(agent.id());
    let _ = (agent.kill(), agent.wait());
    let _ = std::fs::remove_dir_all(&dir);
    let each = |us: u64| us as f64 / tasks as f64;
    println!(
        "{tasks} tasks, {slots} slots, credit {credit}: {:.0} tasks/s, {:.2} µs of the agent a task ({:.2} user, {:.2} system)",
        tasks as f64 / took.as_secs_f64(),
        each(user + system),
        each(user),
        each(system),
    );
}
