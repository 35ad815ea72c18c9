//! The commands against a small cluster: what they print, and how they end.

mod support;

use std::fs;
use std::process::Stdio;

use rebound_proto::v1::{Member, RecogniserRef, StatusReply, Worker};
use support::{Fake, Ran, photos, rebound, spec};

#[test]
fn a_directory_is_submitted_and_waited_for() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["b.jpg", "a.jpg", "notes.txt"] {
        fs::write(dir.path().join(name), "x").expect("a file");
    }
    let source = dir.path().display().to_string();
    let ran = fake.run(&[
        "submit",
        &source,
        "--recogniser",
        "grocery81",
        "--wait",
        "--name",
        "visit",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("visit") && ran.stdout.contains("done"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("2 of 2 photos, 0 failed"), "{ran:?}");
    assert!(ran.stderr.contains("Next: rebound job results 10"), "{ran:?}");
    let world = fake.world();
    let names: Vec<&str> = world.jobs[&10]
        .photos
        .iter()
        .filter_map(|uri| uri.rsplit('/').next())
        .collect();
    assert_eq!(names, ["a.jpg", "b.jpg"]);
}

#[test]
fn a_specification_is_submitted_with_all_it_says() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().expect("a directory");
    let text = "version: 1\nname: shelf\nrecogniser: noop\nresources: {cpu: 0.5, memory: 1GiB}\ndeadline: 3m\n\
                labels: {wave: a}\nidempotency_key: k1\nphotos: [x.jpg]\n";
    let file = spec(dir.path(), text.as_bytes());
    let ran = fake.run(&["-o", "json", "submit", &file, "--priority", "80"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json().pointer("/0/idempotency_key"), Some(&"k1".into()));
    let sent = fake.world().jobs[&10].job.spec.clone().expect("a spec");
    let resources = sent.resources.expect("resources");
    assert_eq!((resources.milli_cpu, resources.memory_mib), (500, 1024));
    assert_eq!(
        (sent.name.as_str(), sent.priority, sent.labels.len()),
        ("shelf", 80, 1)
    );
    let deadline = rebound_proto::v1::job_spec::Deadline::DeadlineInUs(180_000_000);
    assert_eq!(sent.deadline, Some(deadline));

    let again = fake.run(&["-q", "submit", &file, "--priority", "80"]);
    assert_eq!(
        (again.code, again.stdout.as_str(), again.stderr.as_str()),
        (0, "10\n", ""),
        "the same key, the same job"
    );
}

#[test]
fn stdin_is_a_list_or_a_specification() {
    let fake = Fake::start();
    let run = |args: &[&str], text: &str| -> Ran {
        use std::io::Write;
        let mut command = rebound();
        command
            .args(["--server", &fake.address, "submit", "-"])
            .args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        child
            .stdin
            .take()
            .expect("stdin")
            .write_all(text.as_bytes())
            .expect("it reads");
        child.wait_with_output().expect("it ends").into()
    };
    assert_eq!(run(&["--recogniser", "noop"], "/a.jpg\n/b.jpg\n").code, 0);
    assert_eq!(run(&[], "version: 1\nrecogniser: noop\nphotos: [/a.jpg]").code, 0);
    assert_eq!(
        run(
            &[],
            r#"{"version": 1, "recogniser": "noop", "photos": ["/a.jpg"]}"#
        )
        .code,
        0
    );
    let sizes: Vec<usize> = fake.world().jobs.values().map(|job| job.photos.len()).collect();
    assert_eq!(sizes, [2, 1, 1]);
    let ran = run(&[], "version: 1\nphotos: [7]");
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stderr,
        "rebound: <stdin>:2:10: photos[0]: wants a text, not the number 7; put it in quotes\n"
    );
}

#[test]
fn a_batch_makes_several_jobs() {
    let fake = Fake::start();
    let uris = photos(5);
    let mut args = vec![
        "-o",
        "jsonl",
        "submit",
        "--recogniser",
        "noop",
        "--batch",
        "2",
        "--idempotency-key",
        "k",
    ];
    args.extend(uris.iter().map(String::as_str));
    let ran = fake.run(&args);
    assert_eq!(ran.code, 0, "{ran:?}");
    let keys: Vec<String> = ran
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["idempotency_key"].to_string()
        })
        .collect();
    assert_eq!(keys, ["\"k/0\"", "\"k/1\"", "\"k/2\""]);
    let mut sizes: Vec<usize> = fake.world().jobs.values().map(|job| job.photos.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 2]);
}

#[test]
fn accepted_but_not_placeable_now() {
    let fake = Fake::start();
    fake.world().unplaceable = true;
    let args = ["submit", "file:///a.jpg", "--recogniser", "noop"];
    let ran = fake.run(&args);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stdout.starts_with("Job 10 ") && ran.stderr.contains("no worker"),
        "{ran:?}"
    );
    assert_eq!(
        fake.run(&[&args[..], &["--wait"]].concat()).code,
        0,
        "who waits, waits for workers too"
    );
}

#[test]
fn waiting_ends_with_the_job_or_with_its_limit() {
    let fake = Fake::start();
    let submit = [
        "submit",
        "file:///bad.jpg",
        "file:///b.jpg",
        "--recogniser",
        "noop",
        "--wait",
    ];
    let ran = fake.run(&submit);
    assert_eq!(ran.code, 9, "{ran:?}");
    fake.world().stuck = true;
    let ran = fake.run(&[&submit[..], &["--wait-timeout", "300ms"]].concat());
    assert_eq!(ran.code, 124, "{ran:?}");
    let ran = fake.run(&["job", "watch", "11", "--wait-timeout", "300ms"]);
    assert_eq!(ran.code, 124, "{ran:?}");
    let ran = fake.run(&["-o", "json", "job", "cancel", "11"]);
    assert_eq!(
        (ran.code, ran.json().pointer("/0/state")),
        (0, Some(&"cancelled".into())),
        "{ran:?}"
    );
    let ran = fake.run(&["-o", "json", "job", "wait", "11"]);
    assert_eq!(
        (ran.code, ran.json().pointer("/0/cancelled")),
        (1, Some(&2.into())),
        "{ran:?}"
    );
    assert_eq!(fake.run(&["job", "wait", "11", "99"]).code, 4);
}

#[test]
fn watching_prints_an_event_a_line() {
    let fake = Fake::start();
    assert_eq!(
        fake.run(&["submit", "file:///a.jpg", "--recogniser", "noop"])
            .code,
        0
    );
    let ran = fake.run(&["-o", "jsonl", "job", "watch", "10"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let states: Vec<String> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["state"].to_string())
        .collect();
    assert_eq!(states, ["\"closed\"", "\"done\""]);
    assert_eq!(
        fake.run(&["-o", "json", "job", "watch", "10"]).json()["state"],
        "done"
    );
}

#[test]
fn results_in_three_formats() {
    let fake = Fake::start();
    let mut uris = photos(299);
    uris.push("file:///p/bad.jpg".into());
    fake.world().done_job(20, "visit", "grocery81", &uris);
    let json = fake.run(&["-o", "json", "job", "results", "20"]).json();
    let all = json.as_array().expect("one array");
    assert_eq!(all.len(), 300, "more than a page");
    assert_eq!(all[1]["output"]["top"][0]["label"], "milk");
    assert_eq!(
        (&all[1]["recorded_at"], &all[1]["ms"]),
        (&"2026-11-22T00:00:00.05Z".into(), &42.into())
    );
    assert_eq!(
        (&all[299]["cause"], &all[299]["message"]),
        (&"input".into(), &"not an image".into())
    );
    assert_eq!(
        fake.run(&["-o", "jsonl", "job", "results", "20"])
            .stdout
            .lines()
            .count(),
        300
    );
    let failed = fake.run(&["job", "results", "20", "--failed"]);
    assert_eq!(failed.code, 0, "{failed:?}");
    assert!(
        failed
            .stdout
            .contains("299  bad.jpg  failed   42  input: not an image\n"),
        "{failed:?}"
    );
    let ran = fake.run(&["-o", "jsonl", "job", "results", "21"]);
    assert_eq!(
        (ran.code, ran.json().pointer("/error/code")),
        (4, Some(&4.into())),
        "{ran:?}"
    );
}

#[test]
fn a_report_counts_labels_and_failures() {
    let fake = Fake::start();
    let mut uris = photos(8);
    uris.extend(["file:///p/bad1.jpg".into(), "file:///p/bad2.jpg".into()]);
    fake.world().done_job(20, "visit", "grocery81", &uris);
    fake.world().done_job(21, "plain", "noop", &photos(2));
    let report = fake.run(&["-o", "json", "job", "report", "20"]).json();
    assert_eq!(report["labels"][0]["text"], "milk");
    assert_eq!(
        (&report["labels"][0]["photos"], &report["labels"][0]["share"]),
        (&5.into(), &0.5.into())
    );
    assert_eq!(report["labels"][1]["share"], 0.3);
    assert_eq!(
        (&report["failures"][0]["cause"], &report["failures"][0]["photos"]),
        (&"input".into(), &2.into())
    );
    let table = fake.run(&["job", "report", "20"]).stdout;
    assert!(table.contains("milk        5  50.0 %"), "{table}");
    let plain = fake.run(&["-o", "json", "job", "report", "21"]).json();
    assert_eq!(
        (&plain["other_answers"], &plain["labels"]),
        (&2.into(), &serde_json::json!([]))
    );
}

#[test]
fn jobs_are_listed_without_orders_to_the_terminal() {
    let fake = Fake::start();
    for id in 1..=30 {
        fake.world()
            .done_job(id, "a\u{1b}[2J\u{1b}]0;owned\u{7}b", "noop", &photos(1));
    }
    let ran = fake.run(&["job", "list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 21, "a head and twenty jobs");
    assert!(
        !ran.stdout.contains('\u{1b}') && ran.stdout.contains(" ab "),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("older jobs"), "{ran:?}");
    let all = fake.run(&["-o", "json", "job", "list", "--limit", "1000"]).json();
    let ids: Vec<u64> = all
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|job| job["job"].as_u64())
        .collect();
    assert_eq!(ids, (1..=30).rev().collect::<Vec<u64>>());
}

#[test]
fn a_task_is_shown_with_its_attempts() {
    let fake = Fake::start();
    fake.world().done_job(20, "visit", "noop", &photos(2));
    let ran = fake.run(&["task", "show", "20", "1"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("crashed") && ran.stdout.contains("ended by signal 9"),
        "{ran:?}"
    );
    assert_eq!(
        fake.run(&["-o", "json", "task", "show", "20", "1"]).json()["attempts_made"][0]["cause"],
        "crashed"
    );
    assert_eq!(fake.run(&["task", "show", "20", "2"]).code, 4);
}

#[test]
fn workers_are_listed_shown_and_drained() {
    let fake = Fake::start();
    let worker = |id, name: &str, state: &str| Worker {
        id,
        name: name.into(),
        state: state.into(),
        recognisers: vec![RecogniserRef {
            name: "grocery81".into(),
            digest: vec![0xab; 32].into(),
        }],
        ..Default::default()
    };
    fake.world().workers = vec![
        worker(1, "w1", "lost"),
        worker(2, "w1", "active"),
        worker(3, "w2", "active"),
    ];
    assert_eq!(
        fake.run(&["-o", "json", "worker", "list"])
            .json()
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(
        fake.run(&["-o", "json", "worker", "list", "--all"])
            .json()
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    assert!(
        fake.run(&["worker", "list"])
            .stdout
            .contains("grocery81@abababab")
    );
    assert_eq!(
        fake.run(&["-o", "json", "worker", "show", "w1"]).json()["worker"],
        2,
        "the one that is there"
    );
    assert_eq!(fake.run(&["worker", "show", "w9"]).code, 4);
    assert_eq!(fake.run(&["worker", "drain", "w2"]).code, 0);
    assert_eq!(fake.run(&["worker", "drain", "2"]).code, 0);
    assert_eq!(fake.run(&["worker", "drain", "w9"]).code, 4);
    let states: Vec<String> = fake.world().workers.iter().map(|w| w.state.clone()).collect();
    assert_eq!(states, ["lost", "draining", "draining"]);
}

#[test]
fn the_cluster_is_asked_server_by_server() {
    let (one, two) = (Fake::start(), Fake::start());
    let member = |server, address: &str| Member {
        server,
        peer_address: "p".into(),
        client_address: address.into(),
    };
    let members = vec![member(1, &one.address), member(2, &two.address)];
    let status = |server, role: &str| StatusReply {
        server,
        role: role.into(),
        term: 3,
        members: members.clone(),
        ..Default::default()
    };
    one.world().status = status(1, "follower");
    two.world().status = status(2, "leader");
    let ran = one.run(&["-o", "json", "operator", "status"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    assert_eq!(
        (&answer["leader"], &answer["servers"][1]["role"]),
        (&2.into(), &"leader".into()),
        "{answer}"
    );
    assert!(one.run(&["operator", "status"]).stdout.contains("follower"));
    two.world().status.role = "follower".into();
    let ran = one.run(&["-o", "json", "operator", "status"]);
    assert_eq!(
        (ran.code, &ran.json()["leader"]),
        (7, &serde_json::Value::Null),
        "{ran:?}"
    );
    assert_eq!(one.run(&["-o", "json", "operator", "ping"]).json()["index"], 40);
    assert_eq!(
        one.run(&["-o", "json", "operator", "ping", "--at", &two.address])
            .json()["count"],
        1
    );
    assert_eq!(
        one.run(&["-o", "json", "operator", "accept-clock"]).json()["now"],
        "2026-11-22T00:00:00Z"
    );
}

#[test]
fn settings_are_shown_and_changed() {
    let server = Fake::start();
    let ran = server.run(&["operator", "settings", "show"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("lease") && ran.stdout.contains("2s to 30m"),
        "{ran:?}"
    );
    let ran = server.run(&["-o", "json", "operator", "settings", "set", "lease=15s"]);
    assert_eq!(ran.json()[0]["value"], 15_000_000, "{ran:?}");
    for bad in ["lease=1s", "lease=15", "lease", "leash=15s"] {
        let ran = server.run(&["operator", "settings", "set", bad]);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    assert_eq!(server.world().lease_us, 15_000_000, "nothing else was sent");
}

#[test]
fn environments_are_listed_and_set() {
    let server = Fake::start();
    let ran = server.run(&["operator", "environment", "list"]);
    assert!(ran.code == 0 && ran.stdout.contains("default"), "{ran:?}");
    let set = [
        "-o",
        "json",
        "operator",
        "environment",
        "set",
        "default",
        "--weight",
        "3",
    ];
    assert_eq!(server.run(&set).json()[0]["weight"], 3);
    for bad in [
        &["default"][..],
        &["default", "--weight", "0"],
        &["default", "--max-jobs", "x"],
    ] {
        let ran = server.run(&[&["operator", "environment", "set"], bad].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    assert_eq!(server.world().count("set_environment"), 1);
}
