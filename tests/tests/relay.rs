//! An agent that is cut off from the leader alone works on through another server.

use rebound_tests::Cluster;
use rebound_tests::cluster::{Options, SERVERS};

/// Photos of each job.
const PHOTOS: usize = 100;

fn photos_are_done(cluster: &Cluster) {
    let photos: Vec<String> = (0..PHOTOS).map(|at| format!("file:///visit/{at}.jpg")).collect();
    let mut submit = vec!["--recogniser", "noop", "--wait", "--wait-timeout", "60s"];
    submit.extend(photos.iter().map(String::as_str));
    let job = cluster.submit(0, &submit);
    assert_eq!(cluster.results(job).len(), PHOTOS);
}

fn relayed(cluster: &Cluster) -> usize {
    cluster.agent_log("a").matches("relayed=true").count()
}

#[test]
fn an_agent_cut_off_from_the_leader_alone_works_on_through_another_server() {
    let options = Options {
        gates: true,
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(&options);
    cluster.start_agent("a", 2, None, &[]);
    photos_are_done(&cluster);
    assert_eq!(relayed(&cluster), 0, "the leader can be reached");
    let session = cluster.worker("a").expect("it has joined")["worker"].clone();
    assert!(session.is_u64(), "{session}");

    let leader = cluster.leader();
    cluster.ask_first(leader);
    cluster.gate(leader).shut();
    cluster.wait_until(|| relayed(&cluster) >= 1, "the stream to be relayed");
    photos_are_done(&cluster);
    let through = cluster.worker("a").expect("it is there");
    assert_eq!(
        (&through["worker"], &through["state"]),
        (&session, &"active".into()),
        "the session went on"
    );

    // Another server leads, which the agent reaches: it goes there itself.
    let next = (leader + 1) % SERVERS;
    cluster.json(
        0,
        &["operator", "transfer-leader", "--to", &(next + 1).to_string()],
    );
    cluster.ask_first(next);
    photos_are_done(&cluster);
    let direct = || cluster.agent_log("a").matches("relayed=false").count();
    cluster.wait_until(|| direct() >= 2, "a stream to the new leader itself");

    // Cut off from this one too, and let through again: it leaves the relay by itself.
    let (before, streams) = (relayed(&cluster), direct());
    cluster.gate(next).shut();
    cluster.wait_until(|| relayed(&cluster) > before, "the stream to be relayed again");
    photos_are_done(&cluster);
    cluster.gate(next).open();
    let direct = || cluster.agent_log("a").matches("relayed=false").count();
    cluster.wait_until(|| direct() > streams, "the agent to go back to the leader");
    photos_are_done(&cluster);
    let last = cluster.worker("a").expect("it is there");
    assert_eq!(last["worker"], session, "one session all along");
    cluster.gate(leader).open();
    cluster.finish();
}
