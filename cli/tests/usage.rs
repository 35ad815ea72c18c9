//! What is asked wrongly, and what needs no cluster.

mod support;

use std::fs;
use std::process::Stdio;

use support::{Fake, Ran, photos, rebound, run_at, spec};

#[test]
fn bad_specifications_end_with_2_and_their_place() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().expect("a directory");
    let many = format!(
        "version: 1\nrecogniser: noop\nphotos:\n{}",
        "- /a.jpg\n".repeat(100_001)
    );
    let table: [(&[u8], &str, Option<&str>); 5] = [
        (
            b"version: 1\nphotos: [/a.jpg]\ncolour: red\n",
            ":3:1: colour: no such field",
            Some("colour"),
        ),
        (
            b"version: 1\nphotos: [/a.jpg]\ndeadline: -3m\n",
            ":3:11: deadline: a deadline cannot be negative",
            Some("deadline"),
        ),
        (
            b"version: 1\nname: \xff\n",
            ":2:7: byte 0xff is not valid UTF-8",
            None,
        ),
        (
            many.as_bytes(),
            ":4:3: photos: 100001 photos; a job has at most 100000",
            Some("photos"),
        ),
        (
            b"version: 1\nphotos: [/a.jpg]\n",
            "name a recogniser",
            Some("recogniser"),
        ),
    ];
    for (text, message, field) in table {
        let file = spec(dir.path(), text);
        let ran = fake.run(&["-o", "json", "submit", &file]);
        assert_eq!(ran.code, 2, "{ran:?}");
        let answer = ran.json();
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|m| m.contains(message)),
            "{answer}"
        );
        assert_eq!(answer["error"]["field"].as_str(), field, "{answer}");
    }
    assert_eq!(fake.world().calls.len(), 0, "nothing was sent");
    let file = spec(dir.path(), many.as_bytes());
    let ran = fake.run(&["-o", "json", "submit", &file, "--batch", "12", "--dry-run"]);
    assert_eq!((ran.code, &ran.json()["jobs"]), (0, &8334.into()), "{ran:?}");
}

#[test]
fn bad_command_lines_end_with_2() {
    let table: [&[&str]; 6] = [
        &["submit"],
        &["submit", "/nowhere.jpg", "--recogniser", "noop"],
        &[
            "submit",
            "file:///a.jpg",
            "--recogniser",
            "noop",
            "--deadline",
            "-3m",
        ],
        &[
            "submit",
            "file:///a.jpg",
            "--recogniser",
            "noop",
            "--priority",
            "101",
        ],
        &["--timeout", "10", "job", "list"],
        &["job", "show", "twelve"],
    ];
    for args in table {
        let ran = run_at("127.0.0.1:1", &[&["-o", "json"], args].concat());
        assert_eq!(ran.code, 2, "{args:?} {ran:?}");
        assert_eq!(
            ran.json().pointer("/error/kind"),
            Some(&"usage".into()),
            "{args:?}"
        );
        assert!(!ran.stderr.is_empty());
        let plain = run_at("127.0.0.1:1", args);
        assert_eq!((plain.code, plain.stdout.as_str()), (2, ""), "{args:?}");
    }
    assert_eq!(run_at("127.0.0.1:1", &["--help"]).code, 0);
    assert_eq!(
        run_at("127.0.0.1:1", &["-o", "json", "version"]).json()["name"],
        "rebound"
    );
}

#[test]
fn settings_say_where_they_come_from() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(
        dir.path().join(".rebound.toml"),
        "servers = [\"10.0.0.1:7401\"]\ntimeout = \"3s\"\n",
    )
    .expect("a file");
    let run = |args: &[&str]| -> Ran {
        let mut command = rebound();
        command
            .current_dir(dir.path())
            .env("REBOUND_TIMEOUT", "5s")
            .args(args);
        command.output().expect("the program runs").into()
    };
    let ran = run(&["-o", "json", "config", "show"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let origins: Vec<String> = ran
        .json()
        .as_array()
        .expect("an array")
        .iter()
        .map(|s| format!("{}={} {}", s["setting"], s["value"], s["origin"]).replace('"', ""))
        .collect();
    let wanted = [
        "servers=[10.0.0.1:7401] ./.rebound.toml",
        "output=json --output",
        "timeout=5s $REBOUND_TIMEOUT",
        "color=true default",
        "quiet=false default",
        "verbose=0 default",
    ];
    assert_eq!(origins, wanted);
}

#[test]
fn a_server_configuration_is_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("server.toml");
    let file = path.display().to_string();
    let good = "cluster = \"shelves\"\nserver = 1\ndata_dir = \"d\"\n[listen]\nclient = \"127.0.0.1:7401\"\n\
                peer = \"127.0.0.1:7501\"\nhttp = \"127.0.0.1:7601\"\n[[members]]\nid = 1\n\
                peer = \"127.0.0.1:7501\"\nclient = \"127.0.0.1:7401\"\n";
    fs::write(&path, good).expect("a file");
    let ran = run_at("127.0.0.1:1", &["-o", "json", "config", "check", &file]);
    assert_eq!((ran.code, &ran.json()["good"]), (0, &true.into()), "{ran:?}");
    fs::write(&path, good.replace("server = 1", "server = 4")).expect("a file");
    let ran = run_at("127.0.0.1:1", &["-o", "json", "config", "check", &file]);
    assert_eq!(
        (ran.code, &ran.json()["error"]["field"]),
        (2, &"server".into()),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("server.toml:2: server: "), "{ran:?}");
    let ran = run_at("127.0.0.1:1", &["config", "check", "/nowhere.toml"]);
    assert!(ran.code == 2 && ran.stderr.contains("cannot be read"), "{ran:?}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let fake = Fake::start();
    fake.world().done_job(20, "visit", "noop", &photos(20_000));
    let mut command = rebound();
    command.args(["--server", &fake.address, "-o", "jsonl", "job", "results", "20"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), output.stderr.len()),
        (Some(0), 0),
        "{output:?}"
    );
}

#[test]
fn the_agent_is_the_program_beside_this_one() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path().join("rebound");
    fs::copy(env!("CARGO_BIN_EXE_rebound"), &here).expect("a copy");
    let run = || -> Ran {
        std::process::Command::new(&here)
            .args(["agent", "--server", "a:1", "-vq", "--help", "-o", "x"])
            .output()
            .expect("the program runs")
            .into()
    };
    let ran = run();
    let path = dir.path().join("rebound-agent");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains(&format!("cannot run {}: No such file", path.display())),
        "{ran:?}"
    );
    fs::write(&path, "#!/bin/sh\necho agent \"$@\"\nexit 17\n").expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an executable");
    let ran = run();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (17, "agent --server a:1 -vq --help -o x\n"),
        "{ran:?}"
    );
}

#[test]
fn completion_scripts_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_at("127.0.0.1:1", &["completion", shell]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(
            ran.stdout.contains("submit") && ran.stdout.contains("accept-clock"),
            "{shell}"
        );
    }
}
