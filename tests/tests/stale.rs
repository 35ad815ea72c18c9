//! Reads that any server answers, with how old they may be; and those of the leader, which are never old.

use rebound_tests::cluster::{SERVERS, command};
use rebound_tests::{Cluster, Deadline, Finished, run};

/// Longest call, in seconds: it is to be seen that there is no leader.
const PATIENCE_S: u64 = 30;

/// Asks this server first.
fn ask(cluster: &Cluster, at: usize, args: &[&str]) -> Finished {
    let mut ask = command("rebound", cluster.dir());
    ask.env("REBOUND_SERVERS", cluster.server_addresses(at).1);
    ask.args(args).args(["--timeout", "2s"]);
    run(&mut ask, Deadline::seconds(PATIENCE_S))
}

#[test]
fn any_server_answers_and_says_how_old_its_answer_is() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let photos: Vec<String> = (0..20).map(|at| format!("file:///visit/{at}.jpg")).collect();
    let mut submit = vec!["--recogniser", "noop", "--wait"];
    submit.extend(photos.iter().map(String::as_str));
    let job = cluster.submit(0, &submit).to_string();
    cluster.converge();
    let leader = cluster.leader();
    let reads: [&[&str]; 4] = [
        &["job", "show", &job, "--stale", "-o", "json"],
        &["job", "list", "--stale", "-o", "json"],
        &["job", "results", &job, "--stale", "-o", "json"],
        &["worker", "list", "--stale", "-o", "json"],
    ];
    for at in 0..SERVERS {
        for read in reads {
            let stale = ask(&cluster, at, read);
            assert_eq!(stale.code, Some(0), "{read:?} of server {}: {stale:?}", at + 1);
            assert!(stale.stderr.contains("As of index "), "{}", stale.stderr);
            let fresh: Vec<&str> = read.iter().copied().filter(|word| *word != "--stale").collect();
            let fresh = cluster.rebound(&fresh);
            assert!(!fresh.stderr.contains("As of index "), "{}", fresh.stderr);
            // When a worker was last heard only the leader knows.
            if read[0] == "job" {
                assert_eq!(stale.stdout, fresh.stdout, "{read:?} of server {}", at + 1);
            }
        }
    }
    let of_leader = ask(&cluster, leader, &["job", "show", &job, "--stale"]);
    // A majority has just spoken to it.
    assert!(of_leader.stderr.contains("ms old."), "{}", of_leader.stderr);

    // One server alone has no leader: it still tells what it has, and how old that is.
    let (alone, last) = ((leader + 1) % SERVERS, (leader + 2) % SERVERS);
    cluster.kill_server(leader);
    cluster.kill_server(last);
    let old = || {
        let shown = ask(&cluster, alone, &["job", "show", &job, "--stale"]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let seconds = shown
            .stderr
            .split(", ")
            .nth(1)
            .is_some_and(|age| !age.contains("ms"));
        assert!(shown.stderr.contains("As of index "), "{}", shown.stderr);
        seconds
    };
    cluster.wait_until(old, "the answer to be more than a second old");
    let now = ask(&cluster, alone, &["job", "show", &job]);
    assert!(now.code != Some(0), "a read of now without a leader: {now:?}");
}
