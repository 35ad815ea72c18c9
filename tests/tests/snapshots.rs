//! Snapshots between servers, and backups.

use std::fmt::Write as _;
use std::fs;

use rebound_tests::Cluster;
use rebound_tests::cluster::Options;

/// Jobs in it, each as long as a list of photos may be.
const JOBS: usize = 4;
/// Photos of each.
const TASKS: usize = 25_000;
/// Bytes of each of their URIs: nearly as long as may be.
const URI_BYTES: usize = 1_000;
/// What a server that takes this snapshot may use, in bytes: what an idle one uses, and a few chunks. The records that
/// it takes are more than this.
const MEMORY: u64 = 90 * 1024 * 1024;

/// A list of so many photos with long URIs that compress badly; its path.
fn list(cluster: &Cluster, job: usize) -> String {
    let mut lines = String::with_capacity(TASKS * (URI_BYTES + 1));
    let mut noise = 7 + job as u64;
    for at in 0..TASKS {
        let from = lines.len();
        let _ = write!(lines, "file:///{at}/");
        while lines.len() - from < URI_BYTES - 20 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let _ = write!(lines, "{noise:016x}");
        }
        lines.push('\n');
    }
    let path = cluster.dir().join(format!("{job}.txt"));
    fs::write(&path, lines).expect("a file can be written");
    path.display().to_string()
}

#[test]
fn a_large_snapshot_comes_to_a_new_server_through_little_memory() {
    let options = Options {
        server_toml: "[log]\nkeep = 16\n".to_owned(),
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(&options);
    let submit = |job| cluster.submit(3, &[&list(&cluster, job), "--recogniser", "noop"]);
    let jobs: Vec<u64> = (0..JOBS).map(submit).collect();
    let new = cluster.one_more_server(4);
    let (peer, client) = cluster.server_addresses(new);
    let (peer, client) = (peer.to_owned(), client.to_owned());
    cluster.json(
        0,
        &[
            "operator",
            "add",
            "4",
            "--peer",
            &peer,
            "--client",
            &client,
            "--no-wait",
        ],
    );
    let other = cluster.server_addresses(0).1.to_owned();
    cluster.start_server(new, &["--join", &other]);
    let votes = || {
        let members = cluster.json(0, &["operator", "members"]);
        let list = members.as_array().expect("a list").clone();
        list.iter()
            .any(|member| member["server"] == 4 && member["role"] == "voter")
    };
    cluster.wait_until(votes, "server 4 to vote");
    let peak = cluster.server_peak_bytes(new);
    eprintln!("server 4 had {} MiB at most", peak >> 20);
    let bytes = (JOBS * TASKS * URI_BYTES) as u64;
    assert!(
        peak < MEMORY && MEMORY < bytes,
        "{peak} bytes for a snapshot of {bytes}"
    );
    cluster.belongs(new, true);
    cluster.converge();
    let log = cluster.server_log(new);
    assert!(log.contains("snapshot received"), "{log}");
    // What it took is what the others have: it is read when the others are gone.
    cluster.json(0, &["operator", "transfer-leader", "--to", "4"]);
    let last = (TASKS - 1).to_string();
    let shown = cluster.json(0, &["task", "show", &jobs[JOBS - 1].to_string(), &last]);
    let uri = shown["uri"].as_str().expect("it has a URI");
    assert!(uri.starts_with(&format!("file:///{last}/")), "{uri}");
}
