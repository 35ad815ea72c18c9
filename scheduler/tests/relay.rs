//! An agent that could not reach a leader asks another server to relay its stream.

mod support;

use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Say;
use rebound_proto::v1::agents_client::AgentsClient;
use rebound_proto::v1::refusal::Kind;
use rebound_proto::v1::server_message::Body as Heard;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};

use support::agent::hello;
use support::{Cluster, channel, refusal, runtime};

/// The first that an agent hears at a server, which it tells that it could not reach a leader at `unreached`.
async fn first_heard(server: &str, unreached: &str) -> Result<Option<Heard>, Status> {
    let mut client = AgentsClient::new(channel(server).await.expect("it listens"));
    let first = v1::AgentMessage {
        body: Some(Say::Hello(hello(&(String::new(), 0)))),
    };
    let says = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut request = Request::new(says);
    let value = unreached.parse().expect("an address is a metadata value");
    request.metadata_mut().insert("rebound-relay", value);
    let mut heard = client.session(request).await?.into_inner();
    Ok(heard.message().await?.and_then(|message| message.body))
}

#[test]
fn a_stream_is_relayed_to_the_leader_that_was_not_reached_and_to_no_other() {
    runtime().block_on(async {
        let cluster = Cluster::start().await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let addresses = cluster.addresses();
        // A follower that has what the leader has knows who leads.
        cluster.converge().await;

        let heard = first_heard(&addresses[follower], &addresses[leader]).await;
        assert!(matches!(heard, Ok(Some(Heard::Welcome(_)))), "{heard:?}");

        // It could not reach the leader of before: perhaps it reaches this one.
        let before = &addresses[(leader + 2) % 3];
        let refused = first_heard(&addresses[follower], before)
            .await
            .expect_err("not relayed");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let why = refusal(&refused);
        assert_eq!((why.kind(), &why.leader), (Kind::NotLeader, &addresses[leader]));
        cluster.stop_all().await;
    });
}
