//! A small cluster in the test's own process: servers on loopback of which one leads, with what agents need of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prost::Message;
use rebound_agent::machine::{Attempt, TaskKey};
use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Said;
use rebound_proto::v1::agents_server::{Agents, AgentsServer};
use rebound_proto::v1::server_message::Body as Say;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub type Key = (u64, u64, u64);

/// What the cluster remembers, whoever leads.
#[derive(Default)]
pub struct State {
    pub leader: usize,
    pub term: u64,
    pub generation: u64,
    pub runs: Vec<v1::Run>,
    pub specs: Vec<v1::Spec>,
    pub recorded: BTreeMap<Key, Attempt>,
    /// How often each result came.
    pub reports: BTreeMap<Key, u32>,
    /// Off: results are taken in but not answered.
    pub answers: bool,
    pub hellos: Vec<v1::Hello>,
    pub sessions: BTreeMap<(String, u64), u64>,
    /// Empty or not, in the order they came.
    pub leavings: Vec<bool>,
    pub last_beat: Option<v1::Heartbeat>,
    pub welcomed_at: Option<Instant>,
}

pub const CLUSTER: &str = "test-cluster";
const TURN: Duration = Duration::from_millis(10);
const KEEP_ALIVE_TURNS: u32 = 20;

impl State {
    /// Gives these photos as one run with the next generation.
    pub fn give(&mut self, job: u64, spec: v1::Spec, uris: Vec<String>) {
        self.generation += 1;
        let given = 1000 + self.generation;
        self.runs.push(v1::Run {
            job,
            first: 0,
            given,
            spec: spec.id,
            count: uris.len() as u32,
            alone: false,
            photos: Some(v1::Photos {
                uri_bytes: uris.iter().map(|uri| uri.len() as u32).collect(),
                uris: uris.concat(),
                trace_id: vec![0xab; 16].into(),
            }),
        });
        self.specs.retain(|known| known.id != spec.id);
        self.specs.push(spec);
    }

    /// The recorded results of a job, by task.
    pub fn of_job(&self, job: u64) -> Vec<&Attempt> {
        self.recorded
            .values()
            .filter(|result| result.task.job == job)
            .collect()
    }

    fn record(&mut self, run: v1::ResultRun) -> Vec<v1::AnswerRun> {
        let mut answers = Vec::new();
        for result in attempts(run) {
            let TaskKey { job, given, task } = result.task;
            let key = (job, task, given);
            *self.reports.entry(key).or_default() += 1;
            let verdict = match self.recorded.contains_key(&key) {
                true => v1::Verdict::AlreadyRecorded,
                false => v1::Verdict::Recorded,
            };
            answers.push(v1::AnswerRun {
                job,
                first: task,
                count: 1,
                given,
                verdict: verdict.into(),
            });
            self.recorded.entry(key).or_insert(result);
        }
        answers
    }
}

/// Columns as attempts.
fn attempts(run: v1::ResultRun) -> Vec<Attempt> {
    let (mut outputs, mut started_us) = (run.outputs, 0);
    let attempt = |at: usize| {
        started_us += run.started_us[at] as u64;
        Attempt {
            task: TaskKey {
                job: run.job,
                given: run.given,
                task: run.first + at as u64,
            },
            cause: v1::Cause::try_from(run.causes.get(at).copied().unwrap_or_default()).unwrap(),
            output: outputs.split_to(run.output_bytes[at] as usize),
            started_us,
            ended_us: started_us + run.took_us[at],
        }
    };
    (0..run.count as usize).map(attempt).collect()
}

/// The cluster's servers.
pub struct Cluster {
    state: Arc<Mutex<State>>,
    pub addresses: Vec<SocketAddr>,
    servers: Vec<AbortHandle>,
}

impl Cluster {
    /// Starts servers on free ports; the first leads.
    pub async fn start(servers: usize) -> Cluster {
        let state = State {
            term: 1,
            answers: true,
            ..State::default()
        };
        let mut cluster = Cluster {
            state: Arc::new(Mutex::new(state)),
            addresses: Vec::new(),
            servers: Vec::new(),
        };
        let mut listeners = Vec::new();
        for _ in 0..servers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            cluster.addresses.push(listener.local_addr().unwrap());
            listeners.push(listener);
        }
        for (index, listener) in listeners.into_iter().enumerate() {
            let server = Server {
                index,
                state: cluster.state.clone(),
                addresses: cluster.addresses.clone(),
            };
            let router = tonic::transport::Server::builder().add_service(AgentsServer::new(server));
            let serving = tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
            cluster.servers.push(serving.abort_handle());
        }
        cluster
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn servers(&self) -> String {
        let all: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        all.join(",")
    }

    /// The leader is gone, another leads in the next term.
    pub fn fail_over(&self, to: usize) {
        let mut state = self.state();
        self.servers[state.leader].abort();
        state.leader = to;
        state.term += 1;
        state.welcomed_at = None;
    }

    /// Waits until something is so; panics with `what` when it takes too long.
    pub async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut turn = interval(TURN);
        while !is_so(&self.state()) {
            assert!(Instant::now() < deadline, "it did not come to this: {what}");
            turn.tick().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.servers.iter().for_each(AbortHandle::abort);
    }
}

struct Server {
    index: usize,
    state: Arc<Mutex<State>>,
    addresses: Vec<SocketAddr>,
}

#[tonic::async_trait]
impl Agents for Server {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let leader = self.state.lock().unwrap().leader;
        if leader != self.index {
            return Err(self.not_leader(leader));
        }
        let (say, said) = mpsc::channel(64);
        let server = Server {
            index: self.index,
            state: self.state.clone(),
            addresses: self.addresses.clone(),
        };
        tokio::spawn(async move {
            if let Err(status) = server.converse(request.into_inner(), &say).await {
                let _ = say.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

type Out = mpsc::Sender<Result<v1::ServerMessage, Status>>;

impl Server {
    fn not_leader(&self, leader: usize) -> Status {
        let leader = self.addresses[leader].to_string();
        let kind = v1::refusal::Kind::NotLeader.into();
        let refusal = v1::Refusal {
            kind,
            leader,
            message: "not the leader".to_string(),
            ..Default::default()
        };
        Status::with_details(
            tonic::Code::FailedPrecondition,
            "not the leader",
            refusal.encode_to_vec().into(),
        )
    }

    async fn converse(&self, mut heard: Streaming<v1::AgentMessage>, say: &Out) -> Result<(), Status> {
        let Some(v1::AgentMessage {
            body: Some(Said::Hello(hello)),
        }) = heard.message().await?
        else {
            return Err(Status::invalid_argument("the first word is not Hello"));
        };
        let welcome = self.welcome(hello);
        send(say, Say::Welcome(welcome)).await?;
        let mut turn = interval(TURN);
        let (mut turns, mut sent_generation, mut said_specs) = (0, 0, BTreeSet::new());
        let mut unanswered = Vec::new();
        loop {
            tokio::select! {
                message = heard.message() => match message? {
                    Some(message) => self.hear(message, &mut unanswered),
                    None => return Ok(()),
                },
                _ = turn.tick() => turns += 1,
            }
            let (leader, answers, desired) = {
                let state = self.state.lock().unwrap();
                (
                    state.leader,
                    state.answers,
                    self.desired(&state, &mut sent_generation, &mut said_specs),
                )
            };
            if leader != self.index {
                return Err(self.not_leader(leader));
            }
            if let Some(desired) = desired {
                send(say, Say::Desired(desired)).await?;
            }
            if answers && (!unanswered.is_empty() || turns % KEEP_ALIVE_TURNS == 0) {
                let answers = std::mem::take(&mut unanswered);
                send(say, Say::Answers(v1::Answers { runs: answers })).await?;
            } else if turns % KEEP_ALIVE_TURNS == 0 {
                send(say, Say::Answers(v1::Answers::default())).await?;
            }
        }
    }

    fn welcome(&self, hello: v1::Hello) -> v1::Welcome {
        let mut state = self.state.lock().unwrap();
        let key = (hello.name.clone(), hello.boot_nonce);
        let next = state.sessions.len() as u64 + 1;
        let worker = *state.sessions.entry(key).or_insert(next);
        state.hellos.push(hello);
        state.welcomed_at = Some(Instant::now());
        v1::Welcome {
            cluster: CLUSTER.to_string(),
            worker,
            term: state.term,
            heartbeat_us: 200_000,
            orphan_for_us: 70_000_000,
            now_us: 0,
            protocol: 1,
        }
    }

    fn hear(&self, message: v1::AgentMessage, unanswered: &mut Vec<v1::AnswerRun>) {
        let mut state = self.state.lock().unwrap();
        match message.body {
            Some(Said::Results(results)) => {
                let answers = results.runs.into_iter().flat_map(|run| state.record(run));
                unanswered.extend(answers);
            }
            Some(Said::Heartbeat(beat)) => state.last_beat = Some(beat),
            Some(Said::Leaving(leaving)) => state.leavings.push(leaving.empty),
            Some(Said::Hello(_) | Said::Noticed(_)) | None => {}
        }
    }

    fn desired(&self, state: &State, sent: &mut u64, said: &mut BTreeSet<u64>) -> Option<v1::Desired> {
        if *sent == state.generation {
            return None;
        }
        *sent = state.generation;
        let specs = state
            .specs
            .iter()
            .filter(|spec| said.insert(spec.id))
            .cloned()
            .collect();
        Some(v1::Desired {
            cluster: CLUSTER.to_string(),
            term: state.term,
            generation: state.generation,
            runs: state.runs.clone(),
            specs,
            drain: false,
        })
    }
}

async fn send(say: &Out, body: Say) -> Result<(), Status> {
    let message = v1::ServerMessage { body: Some(body) };
    say.send(Ok(message))
        .await
        .map_err(|_| Status::unavailable("the agent is gone"))
}
