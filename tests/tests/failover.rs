//! Servers and agents that end, with and without warning, while work is under way: what was acknowledged is done.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rebound_tests::cluster::{PATIENCE_S, command};
use rebound_tests::{Cluster, Deadline, recogniser, run};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Leaders killed.
const KILLS: usize = 2;
/// Jobs acknowledged before, between and after the kills.
const JOBS_EACH: usize = 8;
/// Photos of each of these jobs.
const PHOTOS: usize = 25;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uri(job: usize, photo: usize) -> String {
    format!("file:///visit/{job}/{photo}.jpg")
}

/// Submits job after job until told to stop; each must be acknowledged. Their ids.
fn submit_all(
    cluster_dir: &std::path::Path,
    addresses: &str,
    stop: &AtomicBool,
    acknowledged: &Mutex<Vec<u64>>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut submit = command("rebound", cluster_dir);
        submit.env("REBOUND_SERVERS", addresses);
        submit.args(["submit", "--recogniser", "noop", "-o", "json", "--timeout", "60s"]);
        submit.args((0..PHOTOS).map(|photo| uri(number, photo)));
        let done = run(&mut submit, Deadline::seconds(2 * PATIENCE_S));
        assert_eq!(done.code, Some(0), "job {number} was not acknowledged: {done:?}");
        let answer: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
        let job = answer[0]["job"].as_u64().expect("a job has an id");
        acknowledged.lock().expect("nobody panics with it").push(job);
    }
}

#[test]
fn jobs_submitted_while_leaders_are_killed_all_end() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 4, None, &[]);
    cluster.start_agent("b", 4, None, &[]);
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (dir, addresses) = (cluster.dir().to_owned(), cluster.addresses());
    std::thread::scope(|scope| {
        let submitter = scope.spawn(|| submit_all(&dir, &addresses, &stop, &acknowledged));
        // Whatever goes wrong, the other thread must end.
        let _stops = StopOnDrop(&stop);
        let count = || acknowledged.lock().expect("nobody panics with it").len();
        let more = |than: usize| {
            cluster_wait(
                || count() >= than + JOBS_EACH || submitter.is_finished(),
                "more jobs",
            );
            assert!(!submitter.is_finished(), "a job was not acknowledged");
        };
        more(0);
        for _ in 0..KILLS {
            let old = cluster.leader();
            let before = count();
            cluster.kill_server(old);
            more(before);
            assert_ne!(cluster.leader(), old, "another one leads");
            cluster.restart_server(old);
            more(count());
        }
    });
    let jobs = acknowledged.into_inner().expect("nobody panics with it");
    assert!(jobs.len() >= JOBS_EACH * (1 + 2 * KILLS));
    for (number, job) in jobs.iter().enumerate() {
        let shown = cluster.wait_job(0, *job);
        assert_eq!(shown["succeeded"], PHOTOS, "{shown}");
        let results = cluster.results(*job);
        assert_eq!(results.len(), PHOTOS);
        for (photo, result) in results.iter().enumerate() {
            let (uri, task) = (uri(number, photo), &result["task"]);
            assert_eq!(
                (task, &result["uri"]),
                (&photo.into(), &uri.clone().into()),
                "{result}"
            );
            assert_eq!(
                result["output"],
                hex(&Sha256::digest(&uri)),
                "noop's own words: {result}"
            );
        }
    }
    // Asking again after a lost answer made no second job of any.
    let listed = cluster.json(0, &["job", "list", "--limit", "1000000"]);
    let listed: BTreeSet<u64> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|job| job["job"].as_u64())
        .collect();
    assert_eq!(
        listed,
        jobs.iter().copied().collect(),
        "listed jobs are those acknowledged"
    );
    cluster.finish();
}

fn cluster_wait(condition: impl FnMut() -> bool, what: &str) {
    rebound_tests::wait_until(condition, Deadline::within(Duration::from_secs(PATIENCE_S)), what);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers only once the test opens the gate.
const WAITS: &str = "until [ -e ../../gate ]; do sleep 0.02; done; echo '{}'";

/// A cluster with agents `names`, two slots each, whose recogniser `waits`, and a photo.
fn waiting_cluster(toml: &str, names: &[&str]) -> (Cluster, String) {
    let options = rebound_tests::cluster::Options {
        server_toml: toml.to_owned(),
        ..Default::default()
    };
    let mut cluster = Cluster::start_with(&options);
    let folder = cluster.dir().join("recognisers");
    recogniser::script(&folder, "waits", WAITS, "", "");
    for name in names {
        cluster.start_agent(name, 2, Some(&folder), &[]);
    }
    let photo = cluster.dir().join("photo.jpg");
    fs::write(&photo, "a photo").expect("a file can be written");
    (cluster, photo.display().to_string())
}

fn open_gate(cluster: &Cluster) {
    fs::write(cluster.dir().join("gate"), "").expect("a file can be written");
}

fn submit_waiting(cluster: &Cluster, photo: &str, photos: usize) -> u64 {
    let mut args = vec!["--recogniser", "waits"];
    args.extend(std::iter::repeat_n(photo, photos));
    cluster.submit(0, &args)
}

/// Waits until the worker has both slots busy and more behind them.
fn wait_for_work(cluster: &Cluster, name: &str) {
    let busy = || {
        cluster
            .worker(name)
            .is_some_and(|w| w["running"] == 2 && w["given"].as_u64() > Some(2))
    };
    cluster.wait_until(busy, "two photos in recognisers and more behind them");
}

#[test]
fn an_agent_told_to_end_hands_its_work_back() {
    let (mut cluster, photo) = waiting_cluster("", &["a"]);
    let job = submit_waiting(&cluster, &photo, 10);
    wait_for_work(&cluster, "a");
    cluster.agent("a").signal(libc::SIGTERM);
    // What is not in a recogniser comes back while the two are still in theirs.
    let handed_back = || {
        cluster
            .worker("a")
            .is_some_and(|w| w["state"] == "draining" && w["given"] == 2)
    };
    cluster.wait_until(handed_back, "the agent to keep only what runs");
    let folder = cluster.dir().join("recognisers");
    cluster.start_agent("b", 2, Some(&folder), &[]);
    wait_for_work(&cluster, "b");
    open_gate(&cluster);
    assert_eq!(cluster.agent_ended("a"), Some(0), "{}", cluster.agent_log("a"));
    assert_eq!(cluster.wait_job(0, job)["succeeded"], 10);
    let done = |name: &str| {
        let worker = cluster.worker(name).expect("a worker that left is still shown");
        (
            worker["state"].clone(),
            worker["succeeded"].clone(),
            worker["failed"].clone(),
        )
    };
    assert_eq!(done("a"), ("left".into(), 2.into(), 0.into()));
    assert_eq!(done("b"), ("active".into(), 8.into(), 0.into()));
    cluster.finish();
}

#[test]
fn a_killed_agents_work_is_done_by_another() {
    let (mut cluster, photo) = waiting_cluster("", &["a"]);
    let set = cluster.json(0, &["operator", "settings", "set", "lease=2s"]);
    let lease = set
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "lease"));
    assert_eq!(lease.expect("it is shown")["value"], 2_000_000);
    let job = submit_waiting(&cluster, &photo, 4);
    wait_for_work(&cluster, "a");
    cluster.agent("a").kill();
    cluster.agent_ended("a");
    let lost = || {
        cluster
            .worker("a")
            .is_some_and(|worker| worker["state"] == "lost")
    };
    cluster.wait_until(lost, "the lease to end");
    open_gate(&cluster);
    let folder = cluster.dir().join("recognisers");
    cluster.start_agent("b", 2, Some(&folder), &[]);
    assert_eq!(cluster.wait_job(0, job)["succeeded"], 4);
    let worker = cluster.worker("b").expect("it is there");
    assert!(
        cluster
            .results(job)
            .iter()
            .all(|result| result["worker"] == worker["worker"])
    );
    let task = cluster.json(0, &["task", "show", &job.to_string(), "0"]);
    assert_eq!(
        (&task["losses"], &task["attempts"]),
        (&1.into(), &0.into()),
        "nobody is blamed: {task:#}"
    );
    cluster.finish();
}

#[test]
fn servers_told_to_end_do_so_and_come_back() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let job = cluster.submit(0, &["file:///p/1.jpg", "--recogniser", "noop", "--wait"]);
    let before = cluster.results(job);
    let leader = cluster.leader();
    assert_eq!(cluster.stop_server(leader), Some(0));
    assert_ne!(cluster.leader(), leader);
    assert_eq!(cluster.results(job), before);
    for at in (0..3).filter(|at| *at != leader) {
        assert_eq!(cluster.stop_server(at), Some(0), "with nobody left to lead, too");
    }
    for at in 0..3 {
        cluster.restart_server(at);
    }
    cluster.leader();
    assert_eq!(cluster.results(job), before, "all of it was on disk");
    cluster.finish();
}
