//! Servers that come, go for good, lose their disk and hand over: what was acknowledged is there, and who must not
//! take part is told so.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rebound_tests::cluster::PATIENCE_S;
use rebound_tests::load::{StopOnDrop, submit_all};
use rebound_tests::{Cluster, Deadline, wait_until};
use serde_json::Value;

/// Jobs acknowledged before, during and after a change.
const JOBS_EACH: usize = 5;
/// Photos of each of these jobs.
const PHOTOS: usize = 20;
/// How a server ends that must not be started again.
const DISMISSED: Option<i32> = Some(10);

/// The record of a server, as `operator members` has it.
fn member(cluster: &Cluster, server: usize) -> Option<Value> {
    let members = cluster.json(0, &["operator", "members"]);
    let list = members.as_array().expect("a list");
    list.iter().find(|member| member["server"] == server).cloned()
}

fn has_role(cluster: &Cluster, server: usize, role: &str) -> bool {
    member(cluster, server).is_some_and(|member| member["role"] == role)
}

/// Ids of all members.
fn ids(cluster: &Cluster) -> Vec<u64> {
    let members = cluster.json(0, &["operator", "members"]);
    let list = members.as_array().expect("a list");
    list.iter()
        .filter_map(|member| member["server"].as_u64())
        .collect()
}

/// The leader has heard all others lately: without that it lets nobody go.
fn all_alive(cluster: &Cluster) -> bool {
    let members = cluster.json(0, &["operator", "members"]);
    let list = members.as_array().expect("a list");
    list.iter().all(|member| member["alive"] == true)
}

#[test]
fn a_server_lost_for_good_is_replaced_under_load() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 4, None, &[]);
    cluster.start_agent("b", 4, None, &[]);
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (dir, addresses) = (cluster.dir().to_owned(), cluster.addresses());
    let lost = std::thread::scope(|scope| {
        let submitter = scope.spawn(|| submit_all(&dir, &addresses, &stop, &acknowledged, PHOTOS, "60s"));
        // Whatever goes wrong, the other thread must end.
        let _stops = StopOnDrop(&stop);
        let more = || {
            let count = || acknowledged.lock().expect("nobody panics with it").len();
            let before = count();
            let enough = || count() >= before + JOBS_EACH || submitter.is_finished();
            wait_until(enough, Deadline::seconds(PATIENCE_S), "more jobs");
            assert!(!submitter.is_finished(), "a job was not acknowledged");
        };
        more();
        let lost = cluster.leader();
        cluster.kill_server(lost);
        cluster.belongs(lost, false);
        more();
        let new = cluster.one_more_server(4);
        let (peer, client) = cluster.server_addresses(new);
        let (peer, client) = (peer.to_owned(), client.to_owned());
        let gone = (lost + 1).to_string();
        let add = ["operator", "add", "4", "--peer", &peer, "--client", &client];
        let add = [&add[..], &["--replace", &gone, "--no-wait"]].concat();
        // A server that nobody added is not taken.
        let living = cluster.server_addresses((lost + 1) % 3).1.to_owned();
        cluster.start_server(new, &["--join", &living]);
        assert_eq!(cluster.server_ended(new), Some(1));
        let log = cluster.server_log(new);
        assert!(log.contains("4 was not added to the cluster"), "{log}");
        assert_eq!(cluster.json(0, &add)["role"], "learner");
        cluster.start_server(new, &["--join", &living]);
        cluster.wait_until(|| has_role(&cluster, 4, "voter"), "server 4 to vote");
        cluster.wait_until(
            || !ids(&cluster).contains(&(lost as u64 + 1)),
            "the lost one to go",
        );
        cluster.belongs(new, true);
        more();
        lost
    });
    for job in acknowledged.into_inner().expect("nobody panics with it") {
        assert_eq!(cluster.wait_job(0, job)["succeeded"], PHOTOS);
        assert_eq!(cluster.results(job).len(), PHOTOS);
    }
    // The lost one comes back from its disk: it hears that it is none of them any more.
    cluster.restart_server(lost);
    assert_eq!(cluster.server_ended(lost), DISMISSED);
    let log = cluster.server_log(lost);
    assert!(
        log.contains(&format!("server {} was removed from the cluster", lost + 1)),
        "{log}"
    );
    // Its list of members is another one than the cluster's by now: a warning, where anybody can know it.
    let config = cluster.config((lost + 1) % 3).display().to_string();
    let checked = cluster.json(0, &["config", "check", &config]);
    let warning = checked["warning"].as_str().unwrap_or_default();
    assert!(warning.contains("the cluster has"), "{checked}");
    // Servers start again without that list.
    let again = (lost + 1) % 3;
    assert_eq!(cluster.stop_server(again), Some(0));
    cluster.restart_server(again);
    cluster.finish();
}

#[test]
fn a_disk_that_is_lost_is_not_taken_for_the_old_one() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    // Another server under the id of one that lives.
    let twin = cluster.one_more_server(follower as u64 + 1);
    let list = fs::read_to_string(cluster.config(follower)).expect("a configuration");
    let (_, list) = list.split_once("[[members]]").expect("a list of members");
    let own = fs::read_to_string(cluster.config(twin)).expect("a configuration");
    fs::write(cluster.config(twin), format!("{own}[[members]]{list}")).expect("a file can be written");
    cluster.start_server(twin, &["--init"]);
    assert_eq!(cluster.server_ended(twin), DISMISSED);
    let lost = format!(
        "server {} lost its disk, or two servers run with this id",
        follower + 1
    );
    assert!(
        cluster.server_log(twin).contains(&lost),
        "{}",
        cluster.server_log(twin)
    );
    let others = [leader, (leader + 2) % 3].map(|at| cluster.server_log(at));
    assert!(others.iter().any(|log| log.contains(&lost)), "{others:?}");
    cluster.converge();
    // The same server, its directory wiped.
    cluster.kill_server(follower);
    fs::remove_dir_all(cluster.data_dir(follower)).expect("a directory can be removed");
    cluster.start_server(follower, &["--init"]);
    assert_eq!(cluster.server_ended(follower), DISMISSED);
    let log = cluster.server_log(follower);
    assert!(log.contains(&lost), "{log}");
    let seen = || member(&cluster, follower + 1).is_some_and(|member| !member["other_disk"].is_null());
    cluster.wait_until(seen, "operators to see it");
    // It is replaced, on the same machine.
    cluster.belongs(follower, false);
    let new = cluster.one_more_server(4);
    let (peer, client) = cluster.server_addresses(new);
    let (peer, client) = (peer.to_owned(), client.to_owned());
    let gone = (follower + 1).to_string();
    let add = ["operator", "add", "4", "--peer", &peer, "--client", &client];
    cluster.json(0, &[&add[..], &["--replace", &gone, "--no-wait"]].concat());
    let living = cluster.server_addresses(leader).1.to_owned();
    cluster.start_server(new, &["--join", &living]);
    cluster.wait_until(|| has_role(&cluster, 4, "voter"), "server 4 to vote");
    cluster.belongs(new, true);
    cluster.wait_until(|| ids(&cluster).len() == 3, "the lost one to go");
    cluster.finish();
}

#[test]
fn leaders_hand_over_and_are_removed() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let first = cluster.leader();
    let second = (first + 1) % 3;
    let to = (second + 1).to_string();
    let moved = cluster.json(0, &["operator", "transfer-leader", "--to", &to]);
    assert_eq!(moved["leader"], second + 1);
    assert_eq!(cluster.leader(), second);
    // Followers are well, and say so.
    let shown = cluster.rebound(&["operator", "status"]).stdout;
    assert!(!shown.contains("not ready"), "{shown}");
    // A graceful stop hands over too: the next one leads before this one has gone.
    assert_eq!(cluster.stop_server(second), Some(0));
    let third = cluster.leader();
    assert_ne!(third, second);
    cluster.restart_server(second);
    cluster.converge();
    cluster.wait_until(|| all_alive(&cluster), "the leader to hear everybody");
    let removed = cluster.leader();
    let id = (removed + 1).to_string();
    let answer = cluster.json(0, &["operator", "remove", &id, "--timeout", "60s"]);
    assert_eq!(answer["role"], "removed");
    assert_eq!(cluster.server_ended(removed), DISMISSED);
    cluster.belongs(removed, false);
    assert_eq!(ids(&cluster).len(), 2);
    let unknown = cluster.json(4, &["operator", "remove", "9"]);
    assert_eq!(unknown["error"]["kind"], "not_found", "{unknown}");
    cluster.finish();
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).expect("a file can be copied")),
        }
    }
}

#[test]
fn a_copy_of_a_data_directory_does_not_speak_beside_the_server_that_it_was() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let follower = (cluster.leader() + 1) % 3;
    let id = follower + 1;
    assert_eq!(cluster.stop_server(follower), Some(0));
    let copied = cluster.one_more_server(id as u64);
    copy(&cluster.data_dir(follower), &cluster.data_dir(copied));
    cluster.restart_server(follower);
    cluster.wait_until(|| all_alive(&cluster), "the leader to hear everybody");
    cluster.start_server(copied, &[]);
    assert_eq!(cluster.server_ended(copied), DISMISSED);
    let listens = format!("it listens on {}", cluster.server_addresses(copied).0);
    let said = [
        format!("another process runs as server {id}"),
        listens,
        format!("it listens on {}", cluster.server_addresses(follower).0),
    ];
    let of_others: String = (0..3)
        .filter(|at| *at != follower)
        .map(|at| cluster.server_log(at))
        .collect();
    for word in &said {
        let of_copy = cluster.server_log(copied);
        assert!(of_copy.contains(word), "{word}: {of_copy}");
        assert!(of_others.contains(word), "{word}: {of_others}");
    }
    cluster.converge();
    // Killed, it comes back at once: nothing of it was left to stand in its way.
    cluster.kill_server(follower);
    cluster.restart_server(follower);
    cluster.wait_until(|| all_alive(&cluster), "the leader to hear everybody again");
    cluster.finish();
}
