//! An agent that answers each photo at once, and finds the leader again.

use std::collections::BTreeSet;

use bytes::Bytes;
use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Say;
use rebound_proto::v1::agents_client::AgentsClient;
use rebound_proto::v1::server_message::Body as Heard;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::channel;

/// What the agent recognises on a photo; `file:///bytes/N` asks for so many bytes.
pub fn output(uri: &str) -> Bytes {
    if let Some(length) = uri.strip_prefix("file:///bytes/") {
        return vec![b'x'; length.parse().unwrap()].into();
    }
    format!("{{\"seen\":\"{uri}\"}}").into()
}

pub struct Agent {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Runs beside the test until stopped.
    pub fn start(servers: Vec<String>) -> Agent {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let work = async {
                let mut session = (String::new(), 0);
                for server in servers.iter().cycle() {
                    let _ = serve(server, &mut session).await;
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                () = work => {}
            }
        });
        Agent { stop, task }
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

/// One stream, to its end.
async fn serve(server: &str, session: &mut (String, u64)) -> Result<(), Box<dyn std::error::Error>> {
    let mut client = AgentsClient::new(channel(server).await?);
    let (say, said) = mpsc::channel(64);
    say.send(v1::AgentMessage {
        body: Some(Say::Hello(hello(session))),
    })
    .await?;
    let mut heard = client.session(ReceiverStream::new(said)).await?.into_inner();
    let mut reported = BTreeSet::new();
    while let Some(message) = heard.message().await? {
        match message.body {
            Some(Heard::Welcome(welcome)) => *session = (welcome.cluster, welcome.worker),
            Some(Heard::Desired(desired)) => {
                assert_eq!(desired.cluster, session.0);
                let runs = results(desired, &mut reported);
                if !runs.is_empty() {
                    let results = v1::Results {
                        runs,
                        ..v1::Results::default()
                    };
                    say.send(v1::AgentMessage {
                        body: Some(Say::Results(results)),
                    })
                    .await?;
                }
            }
            // A word each second: the lease goes on.
            Some(Heard::Answers(answers)) if answers.runs.is_empty() => {
                let heartbeat = v1::Heartbeat::default();
                say.send(v1::AgentMessage {
                    body: Some(Say::Heartbeat(heartbeat)),
                })
                .await?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn results(desired: v1::Desired, reported: &mut BTreeSet<(u64, u64, u64)>) -> Vec<v1::ResultRun> {
    let mut results = Vec::new();
    for run in desired.runs {
        // Photos that were said before are reported already.
        let photos = run.photos.unwrap_or_default();
        let mut at = 0;
        for (task, bytes) in (run.first..).zip(photos.uri_bytes) {
            let uri = &photos.uris[at..at + bytes as usize];
            at += bytes as usize;
            if reported.insert((run.job, task, run.given)) {
                let outputs = output(uri);
                results.push(v1::ResultRun {
                    job: run.job,
                    first: task,
                    given: run.given,
                    count: 1,
                    output_bytes: vec![outputs.len() as u32],
                    outputs,
                    started_us: vec![0],
                    took_us: vec![0],
                    ..v1::ResultRun::default()
                });
            }
        }
    }
    results
}

pub fn hello(session: &(String, u64)) -> v1::Hello {
    v1::Hello {
        protocol: 1,
        name: "agent-1".into(),
        boot_nonce: 5,
        cluster: session.0.clone(),
        worker: session.1,
        slots: 4,
        resources: Some(v1::Resources {
            milli_cpu: 4_000,
            memory_mib: 1_000,
            gpus: 0,
        }),
        recognisers: vec![v1::RecogniserRef {
            name: "noop".into(),
            digest: Bytes::new(),
        }],
        version: "test".into(),
        ..v1::Hello::default()
    }
}
