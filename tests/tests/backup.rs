//! Backups: saved under load, checked, and restored as a cluster of their own when all is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rebound_tests::cluster::SERVERS;
use rebound_tests::load::{StopOnDrop, submit_all};
use rebound_tests::{Cluster, Finished, recogniser};
use serde_json::Value;

/// Photos of each job that is submitted while the backup is saved.
const PHOTOS: usize = 20;
/// Photos of the job that runs while everything is lost: more than an agent holds.
const SLOW_PHOTOS: usize = 40;
/// Jobs acknowledged before the backup.
const JOBS_BEFORE: usize = 5;

fn restore(cluster: &Cluster, at: usize, file: &str, token: Option<&str>) -> Value {
    let config = cluster.config(at).display().to_string();
    let restore = ["operator", "snapshot", "restore", file, "--config", &config];
    match token {
        Some(token) => cluster.json(0, &[&restore[..], &["--token", token]].concat()),
        None => cluster.json(0, &restore),
    }
}

/// Each photo of a slow job takes a quarter of a second, so that some are with the agent whenever it is looked.
fn slow_recogniser(cluster: &Cluster) -> PathBuf {
    let all = cluster.dir().join("recognisers");
    recogniser::script(&all, "slow", "sleep 0.25; echo '{}'", "", "");
    all
}

#[test]
fn a_cluster_that_is_lost_is_restored_with_all_that_was_acknowledged() {
    let mut cluster = Cluster::start();
    let recognisers = slow_recogniser(&cluster);
    cluster.start_agent("a", 2, Some(&recognisers), &[]);
    let before = cluster.worker("a").expect("it has joined")["worker"].clone();
    let photo = cluster.dir().join("photo.jpg");
    fs::write(&photo, "any bytes do").expect("a file can be written");
    let slow: Vec<String> = vec![format!("file://{}", photo.display()); SLOW_PHOTOS];
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (dir, addresses) = (cluster.dir().to_owned(), cluster.addresses());
    let file = cluster.dir().join("backup").display().to_string();
    let (saved, known, slow_job) = std::thread::scope(|scope| {
        let submitter = scope.spawn(|| submit_all(&dir, &addresses, &stop, &acknowledged, PHOTOS, "20s"));
        let _stops = StopOnDrop(&stop);
        let count = || acknowledged.lock().expect("nobody panics with it").len();
        cluster.wait_until(|| count() >= JOBS_BEFORE || submitter.is_finished(), "jobs");
        let mut args = vec!["--recogniser", "slow"];
        args.extend(slow.iter().map(String::as_str));
        let slow_job = cluster.submit(0, &args);
        let given = || cluster.json(0, &["job", "show", &slow_job.to_string()])["given"].as_u64();
        cluster.wait_until(|| given() > Some(0), "photos with the agent");
        let known = acknowledged.lock().expect("nobody panics with it").clone();
        // A follower has it as well as the leader.
        let from = cluster
            .server_addresses((cluster.leader() + 1) % SERVERS)
            .1
            .to_owned();
        let behind = || {
            let status = cluster.status();
            let servers = status["servers"].as_array().expect("a list").clone();
            servers
                .iter()
                .all(|server| server["applied"].as_u64() >= known.last().copied())
        };
        cluster.wait_until(behind, "the followers to apply what was acknowledged");
        let saved = cluster.json(0, &["operator", "snapshot", "save", &file, "--from", &from]);
        let later = count();
        cluster.wait_until(
            || count() > later || submitter.is_finished(),
            "a job after the backup",
        );
        (saved, known, slow_job)
    });
    let index = saved["index"].as_u64().expect("an index");
    assert!(
        known.iter().all(|job| *job <= index) && slow_job <= index,
        "{saved}"
    );
    let mode = fs::metadata(&file).expect("it was saved").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let verified = cluster.json(0, &["operator", "snapshot", "verify", &file]);
    assert_eq!(verified["digest"], saved["digest"]);
    let results: Vec<Value> = known.iter().map(|job| cluster.wait_job(0, *job)).collect();
    let after: BTreeSet<u64> = acknowledged
        .into_inner()
        .expect("nobody panics with it")
        .into_iter()
        .collect();

    // Everything goes; the agent stays, with a session of the old cluster and perhaps results of it.
    for at in 0..SERVERS {
        cluster.kill_server(at);
        fs::remove_dir_all(cluster.data_dir(at)).expect("a directory can be removed");
    }
    let first = restore(&cluster, 0, &file, None);
    let token = first["token"].as_str().expect("it was drawn").to_owned();
    for at in 1..SERVERS {
        let other = restore(&cluster, at, &file, Some(&token));
        for field in ["cluster", "index", "digest", "digest_after", "tasks_requeued"] {
            assert_eq!(other[field], first[field], "{field}");
        }
    }
    // The state that was restored is, to the bit, the one that was saved.
    assert_eq!(
        (&first["digest"], &first["index"]),
        (&saved["digest"], &saved["index"])
    );
    assert_ne!(first["cluster"], saved["cluster"]);
    assert!(first["tasks_requeued"].as_u64() > Some(0), "{first}");
    (0..SERVERS).for_each(|at| cluster.restart_server(at));
    cluster.leader();

    let joined = || cluster.worker("a").filter(|worker| worker["state"] == "active");
    let anew = cluster.wait_for(
        || joined().filter(|worker| worker["worker"] != before),
        "the agent to join anew",
    );
    assert!(anew["worker"].as_u64() > Some(index + 1), "{anew}");
    for (job, then) in known.iter().zip(&results) {
        let now = cluster.wait_job(0, *job);
        assert_eq!(now["succeeded"], then["succeeded"], "job {job}");
        assert_eq!(cluster.results(*job).len(), PHOTOS);
    }
    assert_eq!(cluster.wait_job(0, slow_job)["succeeded"], SLOW_PHOTOS);
    assert_eq!(cluster.results(slow_job).len(), SLOW_PHOTOS);
    // What came after the backup is gone with the cluster that it was told to.
    let listed = cluster.json(0, &["job", "list"]);
    let listed: BTreeSet<u64> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|job| job["job"].as_u64())
        .collect();
    assert!(listed.iter().all(|job| *job <= index), "{listed:?} of {after:?}");
    cluster.finish();
}

#[track_caller]
fn refused(done: &Finished, says: &str) {
    assert_eq!((done.code, done.signal), (Some(1), None), "{done:?}");
    let clear = done.stderr.contains(says) && !done.stderr.contains("panicked");
    assert!(clear, "wanted {says:?} in:\n{}", done.stderr);
}

#[test]
fn a_file_that_is_no_whole_backup_is_refused_and_nothing_is_changed() {
    let mut cluster = Cluster::start();
    cluster.submit(3, &["--recogniser", "noop", "file:///p/1.jpg", "file:///p/2.jpg"]);
    let good = cluster.dir().join("good").display().to_string();
    cluster.json(0, &["operator", "snapshot", "save", &good]);
    let again = cluster.rebound(&["operator", "snapshot", "save", &good]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    let shown = cluster.json(0, &["operator", "snapshot", "inspect", &good]);
    assert_eq!(
        (&shown["jobs"], &shown["tasks"]),
        (&1.into(), &2.into()),
        "{shown}"
    );
    assert_eq!(shown["members"], serde_json::json!([1, 2, 3]), "{shown}");

    let bytes = fs::read(&good).expect("it was saved");
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases = [
        ("cut", bytes[..bytes.len() - 9].to_vec(), "is cut off at byte"),
        ("empty", Vec::new(), "is no backup"),
        ("head", flipped(30), "has another checksum"),
        ("chunk", flipped(bytes.len() - 9), "has another checksum"),
        ("length", flipped(12), "damaged"),
        (
            "longer",
            [&bytes[..], b"x"].concat(),
            "something is behind its end",
        ),
        ("other", flipped(11), "has format"),
        ("foreign", b"a photo, perhaps".to_vec(), "is no backup"),
    ];
    let data = cluster.data_dir(0);
    cluster.kill_server(0);
    fs::remove_dir_all(&data).expect("a directory can be removed");
    let config = cluster.config(0).display().to_string();
    for (name, bytes, says) in cases {
        let file = cluster.dir().join(name).display().to_string();
        fs::write(&file, bytes).expect("a file can be written");
        refused(
            &cluster.rebound(&["operator", "snapshot", "inspect", &file]),
            says,
        );
        refused(&cluster.rebound(&["operator", "snapshot", "verify", &file]), says);
        let restore = ["operator", "snapshot", "restore", &file, "--config", &config];
        refused(&cluster.rebound(&restore), says);
        let left: Vec<_> = fs::read_dir(cluster.dir())
            .expect("a directory can be read")
            .collect();
        let left = left.iter().flatten().map(|entry| entry.path());
        let made: Vec<PathBuf> = left
            .filter(|path| path.starts_with(&data) || path.to_string_lossy().ends_with("restoring"))
            .collect();
        assert!(made.is_empty(), "{name}: {made:?}");
    }
    // A directory that somebody has stays as it is.
    let config = cluster.config(1).display().to_string();
    let taken = cluster.rebound(&["operator", "snapshot", "restore", &good, "--config", &config]);
    assert!(taken.code == Some(1) || taken.code == Some(2), "{taken:?}");
    // One server with another token is of another cluster: the others do not take it in.
    restore(&cluster, 0, &good, Some("another"));
    cluster.restart_server(0);
    let log = || cluster.server_log(0);
    cluster.wait_until(
        || log().contains("cluster: this server is of"),
        "it to be refused",
    );
}
