use std::path::Path;
use std::time::Instant;

use futures_util::StreamExt as _;
use rebound_core::state::members::Founder;
use rebound_core::state::{Plant, State};
use rebound_core::types::ReplicaId;
use rebound_proto::v1;
use rebound_proto::v1::jobs_client::JobsClient;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};

use super::*;
use crate::api::{Api, refusal_of, services};
use crate::config::Config;
use crate::node::doors;
use crate::roster::Roster;

#[test]
fn connections_are_counted_and_agents_are_no_clients() {
    let entrance = Entrance::bounded(1, 3, 0);
    let first = entrance.enter(()).unwrap();
    let second = entrance.enter(()).unwrap();
    let third = entrance.enter(()).unwrap();
    assert!(entrance.enter(()).is_none(), "closed at once");
    let crowded = [&first, &second, &third].map(|one| one.place.is_crowded());
    assert_eq!(crowded, [false, true, true]);
    // An agent speaks on one of them, and another one ends.
    (0..2).for_each(|_| second.place.is_agents());
    drop(first);
    assert!(!third.place.is_crowded(), "there is room by now");
    drop((second, third));
    let left = [&entrance.all, &entrance.clients].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(left, [0, 0]);
    assert!(
        CROWDED.contains(&format!(" {CLIENT_CONNECTIONS_MAX} ")),
        "the limit is named"
    );
}

/// A server without a replica behind these bounds; where it listens.
async fn serve(entrance: &Entrance) -> String {
    let text = "cluster = \"c\"\nserver = 1\ndata_dir = \"d\"\n[listen]\nclient = \"127.0.0.1:1\"\n\
                peer = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n";
    let config = Config::parse(text, Path::new("c.toml")).unwrap();
    let own = Founder::named(ReplicaId(1));
    let state = State::new(Plant::None);
    let roster = Arc::new(Roster::new("c-1".into(), own.clone(), &[own], &state));
    let (doors, _inbox) = doors();
    let api = Api::new(doors.handle.clone(), Arc::new(config), roster);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = services(api, entrance);
    let entrance = entrance.clone();
    let incoming = accepted(listener).filter_map(move |stream| {
        std::future::ready(entrance.enter(stream.unwrap()).map(Ok::<_, io::Error>))
    });
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
    address
}

async fn connect(address: &str) -> JobsClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    JobsClient::new(endpoint.connect().await.unwrap())
}

/// A submit that is wrong in itself, which the server says where it takes calls at all.
async fn submit(client: &mut JobsClient<Channel>, bytes: usize) -> Status {
    let photos = vec![v1::Photo {
        uri: "x".repeat(bytes),
    }];
    let open = v1::OpenRequest {
        photos,
        ..Default::default()
    };
    client.open(open).await.unwrap_err()
}

fn is_turned_away(status: &Status, word: &str) -> bool {
    let refusal = refusal_of(status);
    status.code() == Code::ResourceExhausted
        && refusal.kind() == v1::refusal::Kind::Overloaded
        && refusal.retry_after_us > 0
        && status.message().contains(word)
}

#[tokio::test]
async fn calls_on_a_connection_too_many_are_refused_with_a_time_to_come_back() {
    let entrance = Entrance::bounded(1, 8, BYTES_COMING_MAX);
    let address = serve(&entrance).await;
    let mut first = connect(&address).await;
    assert_eq!(submit(&mut first, 1).await.code(), Code::InvalidArgument);
    let mut second = connect(&address).await;
    let refused = submit(&mut second, 1).await;
    assert!(is_turned_away(&refused, "connections of clients"), "{refused}");
    assert_eq!(submit(&mut first, 1).await.code(), Code::InvalidArgument);
    drop(first);
    let begun = Instant::now();
    while is_turned_away(&submit(&mut second, 1).await, "connections") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the first one has gone"
        );
    }
}

#[tokio::test]
async fn bytes_on_their_way_are_bounded() {
    let entrance = Entrance::bounded(8, 8, 4_000);
    let address = serve(&entrance).await;
    let mut client = connect(&address).await;
    assert_eq!(submit(&mut client, 3_000).await.code(), Code::InvalidArgument);
    let refused = submit(&mut client, 5_000).await;
    assert!(is_turned_away(&refused, "on their way"), "{refused}");
    assert_eq!(
        submit(&mut client, 3_000).await.code(),
        Code::InvalidArgument,
        "what is over counts no more"
    );
    drop(client);
}
