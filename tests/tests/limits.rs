//! What the cluster takes in, at each limit and one over. Limits of single calls are tested on the wire, beside the
//! server; these are those that an operator can meet.

use std::fmt::Write as _;
use std::fs;

use rebound_tests::{Cluster, recogniser};

/// Most photos in a job.
const TASKS_PER_JOB: usize = 100_000;
/// Most photos in one append: a larger job is sent in several.
const PHOTOS_PER_APPEND: usize = 2_000;
/// Longest URI, in bytes.
const URI_BYTES: usize = 1_024;
/// Longest result, in bytes.
const RESULT_BYTES: usize = 16 * 1_024;
/// Longest idempotency key, in bytes.
const KEY_BYTES: usize = 256;

/// A list of so many photos; its path.
fn list(cluster: &Cluster, photos: usize) -> String {
    let lines = (0..photos).fold(String::new(), |mut lines, at| {
        // Writing into a string does not fail.
        let _ = writeln!(lines, "file:///p/{at}.jpg");
        lines
    });
    let path = cluster.dir().join(format!("{photos}.txt"));
    fs::write(&path, lines).expect("a file can be written");
    path.display().to_string()
}

fn jobs(cluster: &Cluster) -> usize {
    cluster.json(0, &["job", "list"]).as_array().map_or(0, Vec::len)
}

/// No worker is there, so that what is taken stays as it was taken.
#[test]
fn a_job_has_so_many_photos_and_no_more() {
    let cluster = Cluster::start();
    for photos in [PHOTOS_PER_APPEND, PHOTOS_PER_APPEND + 1, TASKS_PER_JOB] {
        let job = cluster
            .submit(3, &[&list(&cluster, photos), "--recogniser", "noop"])
            .to_string();
        let shown = cluster.json(0, &["job", "show", &job]);
        assert_eq!(
            (&shown["tasks"], &shown["state"]),
            (&photos.into(), &"closed".into()),
            "{shown}"
        );
        let last = cluster.json(0, &["task", "show", &job, &(photos - 1).to_string()]);
        assert_eq!(last["uri"], format!("file:///p/{}.jpg", photos - 1), "{last}");
        cluster.json(0, &["job", "cancel", &job]);
    }
    assert_eq!(jobs(&cluster), 3);
    let over = list(&cluster, TASKS_PER_JOB + 1);
    let done = cluster.rebound(&["submit", &over, "--recogniser", "noop"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    let says = "100001 photos; a job has at most 100000: make several jobs of them with --batch N";
    assert!(done.stderr.contains(says), "{}", done.stderr);
    assert_eq!(jobs(&cluster), 3, "nothing was taken");
    let batched = cluster.json(3, &["submit", &over, "--recogniser", "noop", "--batch", "100000"]);
    assert_eq!(
        (&batched[0]["photos"], &batched[1]["photos"]),
        (&TASKS_PER_JOB.into(), &1.into()),
        "{batched}"
    );
    for job in [&batched[0]["job"], &batched[1]["job"]] {
        cluster.json(0, &["job", "cancel", &job.to_string()]);
    }
    let mut cluster = cluster;
    cluster.start_agent("a", 4, None, &[]);
    cluster.finish();
}

#[test]
fn uris_keys_and_results_have_their_length_and_no_more() {
    let mut cluster = Cluster::start();
    let folder = cluster.dir().join("recognisers");
    // The photo's name says how long the answer shall be, its quotes included.
    let script =
        "n=${0##*/}; n=${n%.jpg}; printf '\"'; head -c $((n - 2)) /dev/zero | tr '\\0' x; printf '\"'";
    recogniser::script(&folder, "answers", script, "", "");
    cluster.start_agent("a", 2, Some(&folder), &[]);

    let uri = |bytes: usize| format!("{:x<bytes$}", "file:///p/");
    let job = cluster.submit(0, &[&uri(URI_BYTES), "--recogniser", "noop", "--wait"]);
    assert_eq!(cluster.results(job)[0]["uri"], uri(URI_BYTES));
    let done = cluster.rebound(&["submit", &uri(URI_BYTES + 1), "--recogniser", "noop"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr
            .contains("a URI of 1025 bytes; at most 1024 are allowed"),
        "{}",
        done.stderr
    );

    let with_key = |bytes: usize| {
        let key = "k".repeat(bytes);
        cluster.rebound(&[
            "submit",
            "file:///p/1.jpg",
            "--recogniser",
            "noop",
            "--idempotency-key",
            &key,
        ])
    };
    assert_eq!(with_key(KEY_BYTES).code, Some(0));
    let done = with_key(KEY_BYTES + 1);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr
            .contains("--idempotency-key: has 257 bytes; at most 256"),
        "{}",
        done.stderr
    );

    let photos = [RESULT_BYTES, RESULT_BYTES + 1].map(|bytes| {
        let path = cluster.dir().join(format!("{bytes}.jpg"));
        fs::write(&path, "a photo").expect("a file can be written");
        path.display().to_string()
    });
    let job = cluster.submit(9, &[&photos[0], &photos[1], "--recogniser", "answers", "--wait"]);
    let results = cluster.results(job);
    let answer = results[0]["output"].as_str().map(str::len);
    assert_eq!(
        (&results[0]["outcome"], answer),
        (&"succeeded".into(), Some(RESULT_BYTES)),
        "{:.200}",
        results[0]
    );
    assert_eq!(
        (&results[1]["outcome"], &results[1]["cause"]),
        (&"failed".into(), &"result_too_large".into())
    );
    cluster.finish();
}
