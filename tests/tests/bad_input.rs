//! What operators, clients and machines get wrong: each mistake has a clear message and the right exit code, and the
//! cluster goes on as if nothing had been said.

use std::fs;
use std::path::Path;

use rebound_tests::cluster::{Options, PATIENCE_S, command, server_toml};
use rebound_tests::{Cluster, Deadline, Finished, free_port, free_ports, recogniser, run};

/// A specification that is right; each case changes a line of it.
const SPEC: &str = "version: 1\nrecogniser: noop\ndeadline: 3m\nphotos: [file:///p/1.jpg]\n";

/// The specification with `from` replaced, and the place, field and words of the complaint.
const SPECS: [(&str, &str, &str); 7] = [
    (
        "deadline: 3m",
        "dead_line: 3m",
        ":3:1: dead_line: no such field; there are: ",
    ),
    ("deadline: 3m", "deadline: -3m", ":3:11: deadline: "),
    ("deadline: 3m", "priority: 101", ":3:11: priority: "),
    ("recogniser: noop", "recogniser: [noop", ":3:9: "),
    ("version: 1", "version: 2", ":1:10: version: wants 1"),
    ("[file:///p/1.jpg]", "[]", ":4:9: photos: names no photo"),
    (
        "[file:///p/1.jpg]",
        "[s3://bucket/1.jpg]",
        ":4:10: photos[0]: s3:// is not supported",
    ),
];

#[track_caller]
fn refused(done: &Finished, code: i32, says: &str) {
    assert_eq!((done.code, done.signal), (Some(code), None), "{done:?}");
    let clear = done.stderr.contains(says) && !done.stderr.contains("panicked");
    assert!(clear, "wanted {says:?} in:\n{}", done.stderr);
}

fn jobs(cluster: &Cluster) -> usize {
    cluster.json(0, &["job", "list"]).as_array().map_or(0, Vec::len)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours is UTF-8")
}

#[test]
fn bad_specifications_are_refused_with_place_and_field() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let file = cluster.dir().join("visit.yaml");
    let submit = |bytes: &[u8]| {
        fs::write(&file, bytes).expect("a file can be written");
        cluster.rebound(&["submit", path(&file)])
    };
    for (from, to, says) in SPECS {
        assert!(SPEC.contains(from), "{from}");
        let done = submit(SPEC.replace(from, to).as_bytes());
        refused(&done, 2, &format!("{}{says}", file.display()));
    }
    let latin = [b"version: 1\nname: caf\xe9\n", SPEC.as_bytes()].concat();
    refused(
        &submit(&latin),
        2,
        "visit.yaml:2:10: byte 0xe9 is not valid UTF-8",
    );
    let many = (0..100_001)
        .map(|at| format!("- file:///p/{at}.jpg\n"))
        .collect::<String>();
    let many = SPEC.replace("[file:///p/1.jpg]", &format!("\n{many}"));
    refused(
        &submit(many.as_bytes()),
        2,
        "photos: 100001 photos; a job has at most 100000",
    );
    let huge = [SPEC.as_bytes(), &vec![b'#'; 50 << 20]].concat();
    refused(&submit(&huge), 2, "is longer than");
    let json = cluster.dir().join("visit.json");
    fs::write(&json, "{\"version\": 1,\n \"colour\": 3}").expect("a file can be written");
    refused(
        &cluster.rebound(&["submit", path(&json)]),
        2,
        "visit.json:2:2: colour: no such field",
    );

    let one = |more: &[&str]| cluster.rebound(&[&["submit", "file:///p/1.jpg"], more].concat());
    refused(
        &one(&["--recogniser", "noop", "--deadline", "-3m"]),
        2,
        "--deadline: ",
    );
    refused(&one(&[]), 2, "name a recogniser");
    refused(
        &one(&["--recogniser", "noop", "--priority", "101"]),
        2,
        "--priority",
    );
    refused(
        &cluster.rebound(&["submit", "/no/such/place", "--recogniser", "noop"]),
        2,
        "no such file or directory",
    );
    // Programs are told in their own language, too.
    let done = cluster.rebound(&["submit", path(&json), "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&done.stdout).expect("an error in JSON");
    assert_eq!(
        (&error["error"]["code"], &error["error"]["field"]),
        (&2.into(), &"colour".into()),
        "{error}"
    );
    assert_eq!(jobs(&cluster), 0, "nothing of it was taken");
    fs::write(&file, SPEC).expect("a file can be written");
    cluster.submit(0, &[path(&file), "--wait"]);
    cluster.finish();
}

#[test]
fn every_end_has_its_exit_code() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let submit = |more: &[&str]| cluster.rebound(&[&["submit", "--recogniser", "noop"], more].concat());

    // Not placeable: taken, and waiting for a worker that can.
    let done = cluster.rebound(&[
        "submit",
        "file:///p/1.jpg",
        "--recogniser",
        "soothsayer",
        "-o",
        "json",
    ]);
    refused(&done, 3, "no worker that could run it is there now");
    let waiting: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
    let waiting = waiting[0]["job"].to_string();
    let shown = cluster.json(0, &["job", "show", &waiting]);
    assert_eq!(
        (&shown["state"], &shown["waiting"]),
        (&"closed".into(), &1.into()),
        "{shown}"
    );
    let done = cluster.rebound(&[
        "submit",
        "file:///p/2.jpg",
        "--recogniser",
        "soothsayer",
        "--wait",
        "--wait-timeout",
        "300ms",
    ]);
    refused(&done, 124, "not ended after 300ms; the work goes on");
    refused(&done, 124, "no worker that could run it is there now");
    let done = cluster.rebound(&["job", "wait", &waiting, "--wait-timeout", "300ms"]);
    refused(&done, 124, "not ended after 300ms; the work goes on");
    let done = cluster.rebound(&["job", "watch", &waiting, "--wait-timeout", "300ms"]);
    refused(&done, 124, "has not ended after 300ms");
    cluster.json(0, &["job", "cancel", &waiting]);
    assert_eq!(
        cluster.rebound(&["job", "wait", &waiting]).code,
        Some(1),
        "a cancelled job is no success"
    );

    for args in [
        &["job", "show", "4711"][..],
        &["job", "results", "4711"],
        &["job", "cancel", "4711"],
        &["job", "wait", "4711"],
        &["task", "show", &waiting, "1"],
        &["worker", "show", "nobody"],
        &["worker", "drain", "nobody"],
    ] {
        refused(&cluster.rebound(args), 4, "no");
    }

    let keyed = |photo: &str| submit(&[photo, "--idempotency-key", "visit-12"]);
    assert_eq!(keyed("file:///p/1.jpg").code, Some(0));
    let again = keyed("file:///p/1.jpg");
    assert!(
        again.code == Some(0) && again.stdout.contains("had been submitted before"),
        "{again:?}"
    );
    refused(&keyed("file:///p/2.jpg"), 6, "conflict: ");

    let port = free_port();
    let nobody = format!("127.0.0.1:{port}");
    for args in [
        &["job", "list"][..],
        &["operator", "ping"],
        &["submit", "file:///p", "--recogniser", "noop"],
    ] {
        let done = cluster.rebound(&[args, &["--server", &nobody, "--timeout", "500ms"]].concat());
        refused(&done, 7, "no server could be reached");
        assert!(done.stderr.contains(&nobody), "{}", done.stderr);
    }
    assert_eq!(
        cluster.rebound(&["operator", "status", "--server", &nobody]).code,
        Some(7)
    );
    cluster.finish();
}

#[test]
fn two_servers_of_three_gone_is_no_leader() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    cluster.kill_server(0);
    cluster.kill_server(1);
    let submit = [
        "submit",
        "file:///p/1.jpg",
        "--recogniser",
        "noop",
        "--idempotency-key",
        "once",
        "--timeout",
        "3s",
    ];
    let done = cluster.rebound(&submit);
    assert!(matches!(done.code, Some(7 | 124)), "{done:?}");
    cluster.restart_server(0);
    cluster.leader();
    cluster.restart_server(1);
    // The same key again: one job, whatever became of the first try.
    assert_eq!(cluster.rebound(&submit).code, Some(0));
    assert_eq!(jobs(&cluster), 1);
    cluster.finish();
}

/// Runs a server that must not start.
fn start_server(cluster: &Cluster, config: &Path, more: &[&str]) -> Finished {
    let mut command = command("rebound", cluster.dir());
    command.args(["server", "--config", path(config)]).args(more);
    run(&mut command, Deadline::seconds(PATIENCE_S))
}

#[test]
fn a_server_takes_only_its_own_data_directory() {
    let mut cluster = Cluster::start();
    cluster.start_agent("a", 2, None, &[]);
    let job = cluster.submit(0, &["file:///p/1.jpg", "--recogniser", "noop", "--wait"]);
    let before = cluster.results(job);
    let follower = (cluster.leader() + 1) % 3;
    let own = cluster.config(follower).to_owned();
    let data = cluster.data_dir(follower);
    let data = path(&data);

    // While it runs, its ports and its directory are its own.
    refused(
        &start_server(&cluster, &own, &[]),
        1,
        "listen.client: cannot listen on 127.0.0.1:",
    );
    let ports: [u16; 9] = free_ports();
    let other = |name: &str, at: usize, data: &Path| {
        let file = cluster.dir().join(format!("other-{name}.toml"));
        fs::write(&file, server_toml(name, at, data, &ports, &Options::default()))
            .expect("a file can be written");
        file
    };
    let stranger = other("bakery", follower, Path::new(data));
    refused(
        &start_server(&cluster, &stranger, &[]),
        1,
        "another process has it open",
    );
    let strangers_init = start_server(&cluster, &stranger, &["--init"]);
    refused(
        &strangers_init,
        1,
        "is not empty, and nothing that is there may be lost; start without --init, or name an empty one",
    );

    let empty = other("empty", 0, &cluster.dir().join("nothing-here"));
    let says = "nothing-here: is empty or missing; start with --init to begin a cluster, with --join to come to one, or \
                correct the path";
    refused(&start_server(&cluster, &empty, &[]), 1, says);
    assert!(
        !cluster.dir().join("nothing-here").exists(),
        "and nothing was made"
    );

    assert_eq!(cluster.stop_server(follower), Some(0));
    let done = start_server(&cluster, &stranger, &[]);
    refused(&done, 1, "belongs to cluster shelves-");
    assert!(
        done.stderr.contains(data) && done.stderr.contains("not to one named bakery"),
        "{}",
        done.stderr
    );
    refused(
        &start_server(&cluster, &own, &["--init"]),
        1,
        "is not empty, and nothing that is there may be lost; start without --init, or name an empty one",
    );
    // The same cluster, but another server's directory: while that one runs, and after.
    let text = fs::read_to_string(&own).expect("a configuration of ours");
    let neighbour = (follower + 1) % 3;
    let swapped = text.replace(data, path(&cluster.data_dir(neighbour)));
    let file = cluster.dir().join("swapped.toml");
    fs::write(&file, swapped).expect("a file can be written");
    refused(
        &start_server(&cluster, &file, &[]),
        1,
        "another process has it open",
    );
    assert_eq!(cluster.stop_server(neighbour), Some(0));
    let says = format!("belongs to server {}, not {}", neighbour + 1, follower + 1);
    refused(&start_server(&cluster, &file, &[]), 1, &says);
    cluster.restart_server(neighbour);
    let wrong = text.replace("cluster = ", "clutser = ");
    fs::write(&file, wrong).expect("a file can be written");
    refused(
        &start_server(&cluster, &file, &[]),
        2,
        "swapped.toml:1: clutser: ",
    );
    fs::write(&file, [b"# caf\xe9\n", text.as_bytes()].concat()).expect("a file can be written");
    refused(&start_server(&cluster, &file, &[]), 2, "UTF-8");

    cluster.restart_server(follower);
    cluster.converge();
    assert_eq!(cluster.results(job), before);
    cluster.finish();
}

/// Runs an agent that must not start.
fn start_agent(cluster: &Cluster, folder: &Path, name: &str, variables: &[(&str, &Path)]) -> Finished {
    let mut command = cluster.agent_command("stranger", 1, Some(folder));
    command.args(["--recogniser", name]);
    command.envs(variables.iter().copied());
    run(&mut command, Deadline::seconds(PATIENCE_S))
}

#[test]
fn an_agent_offers_only_recognisers_that_are_whole() {
    let mut cluster = Cluster::start();
    let folder = cluster.dir().join("recognisers");
    let digest = "0".repeat(64);
    let files = format!("[[files]]\nrole = \"words\"\nname = \"words.txt\"\nsha256 = \"{digest}\"");
    let changed = recogniser::script(&folder, "changed", "echo '{}'", &files, "");
    fs::write(changed.join("words.txt"), "milk\n").expect("a file can be written");
    recogniser::script(&folder, "whole", "echo '{}'", "", "");
    recogniser::script(&folder, "misspelt", "echo '{}'", "colour = 3", "");
    refused(
        &start_agent(&cluster, &folder, "changed", &[]),
        1,
        "words.txt: words: its sha256 is ",
    );
    refused(
        &start_agent(&cluster, &folder, "misspelt", &[]),
        1,
        "misspelt/manifest.toml: line 4: unknown field `colour`",
    );
    refused(
        &start_agent(&cluster, &folder, "absent", &[]),
        1,
        "--recogniser absent: there is no such recogniser in ",
    );
    if recogniser::runtime_is_here() {
        let model = recogniser::copy_shipped("grocery81", &folder).join("grocery81_lite0.onnx");
        let mut bytes = fs::read(&model).expect("a model that ships");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // The copy has the rights of the file that ships, which may be for reading only.
        fs::remove_file(&model)
            .and_then(|()| fs::write(&model, bytes))
            .expect("a file can be written");
        refused(
            &start_agent(&cluster, &folder, "grocery81", &[]),
            1,
            "grocery81_lite0.onnx: model: its sha256 is ",
        );
    }

    // Without a wish the agent works with what is whole, and says what is not.
    cluster.start_agent("a", 2, Some(&folder), &[]);
    let log = cluster.agent_log("a");
    for words in [
        "words.txt: words: its sha256 is ",
        "misspelt/manifest.toml: line 4",
    ] {
        assert!(log.contains(words), "{words:?} is not in:\n{log}");
    }
    let worker = cluster.worker("a").expect("it is there");
    let offered: Vec<&str> = worker["recognisers"].as_array().map_or(Vec::new(), |all| {
        all.iter().filter_map(|one| one["name"].as_str()).collect()
    });
    assert_eq!(offered, ["noop", "whole"]);
    let photo = cluster.dir().join("photo.jpg");
    fs::write(&photo, "a photo").expect("a file can be written");
    let job = cluster.submit(3, &[path(&photo), "--recogniser", "changed"]);
    cluster.json(0, &["job", "cancel", &job.to_string()]);
    cluster.submit(0, &[path(&photo), "--recogniser", "whole", "--wait"]);
    // A job may name a recogniser to the byte: another digest is another recogniser.
    let job = cluster.submit(3, &[path(&photo), "--recogniser", "whole@00000000"]);
    cluster.json(0, &["job", "cancel", &job.to_string()]);
    cluster.finish();
}

#[test]
fn a_machine_without_onnx_runtime_is_told_how_to_get_it() {
    let mut cluster = Cluster::start();
    let nowhere = cluster.dir().join("nowhere.so");
    let text = cluster.dir().join("text.so");
    fs::write(&text, "not a library").expect("a file can be written");
    for (library, says) in [
        (&nowhere, "nowhere.so: not there"),
        (&text, "text.so: cannot be loaded"),
    ] {
        let done = start_agent(
            &cluster,
            &recogniser::shipped(),
            "grocery81",
            &[("ORT_DYLIB_PATH", library)],
        );
        refused(
            &done,
            1,
            "ONNX Runtime 1.24 or newer was not found; `make runtime` installs it",
        );
        assert!(
            done.stderr.contains("--recogniser grocery81") && done.stderr.contains(says),
            "{}",
            done.stderr
        );
    }
    // Nothing named, and a home without it. A machine may have one of its own beside that.
    let system = [
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    if system
        .iter()
        .all(|dir| !Path::new(dir).join("libonnxruntime.so").exists())
    {
        let variables = [
            ("ORT_DYLIB_PATH", Path::new("")),
            ("XDG_CACHE_HOME", Path::new("")),
            ("HOME", cluster.dir()),
        ];
        let done = start_agent(&cluster, &recogniser::shipped(), "grocery81", &variables);
        refused(&done, 1, "`make runtime` installs it");
        let tried = cluster
            .dir()
            .join(".cache/rebound/onnxruntime/libonnxruntime.so: not there");
        assert!(done.stderr.contains(path(&tried)), "{}", done.stderr);
    }
    cluster.start_agent("a", 1, None, &[]);
    let job = cluster.submit(3, &["file:///p/1.jpg", "--recogniser", "grocery81"]);
    cluster.json(0, &["job", "cancel", &job.to_string()]);
    cluster.finish();
}
