//! The client against a server in trouble: what is asked again, where, and what it ends with.

mod support;

use std::time::{Duration, Instant};

use rebound_proto::v1::refusal::Kind;
use support::{Fake, Trouble, refusal, run_at};
use tonic::{Code, Status};

const SUBMIT: [&str; 6] = ["-o", "json", "submit", "file:///a.jpg", "--recogniser", "noop"];

fn not_leader(leader: &str) -> Trouble {
    Trouble::Refuse(refusal(Code::FailedPrecondition, Kind::NotLeader, |r| {
        r.leader = leader.into()
    }))
}

fn unknown() -> Trouble {
    Trouble::Refuse(refusal(Code::Unavailable, Kind::Unknown, |_| {}))
}

fn overloaded(retry_after: Duration) -> Trouble {
    let us = retry_after.as_micros() as u64;
    Trouble::Refuse(refusal(Code::ResourceExhausted, Kind::Overloaded, |r| {
        r.retry_after_us = us
    }))
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn the_leader_is_followed() {
    let (follower, leader) = (Fake::start(), Fake::start());
    follower.trouble("open", [not_leader(&leader.address)]);
    let ran = follower.run(&SUBMIT);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((follower.world().jobs.len(), leader.world().jobs.len()), (0, 1));
    let world = leader.world();
    assert!(
        world.calls.iter().all(|call| !call.actor.is_empty()),
        "{:?}",
        world.calls
    );
}

#[test]
fn a_leader_that_is_gone_is_found_again() {
    let (follower, leader) = (Fake::start(), Fake::start());
    let gone = nobody();
    follower.trouble(
        "open",
        [not_leader(&gone), not_leader(""), not_leader(&leader.address)],
    );
    let ran = follower.run(&SUBMIT);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        (follower.world().count("open"), leader.world().jobs.len()),
        (3, 1)
    );
}

#[test]
fn a_dead_server_is_passed_over() {
    let fake = Fake::start();
    let ran = run_at(&format!("{},{}", nobody(), fake.address), &SUBMIT);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn an_unknown_outcome_is_asked_again_with_the_same_key() {
    let fake = Fake::start();
    fake.trouble("open", [Trouble::DoAndForget, unknown()]);
    let ran = fake.run(&SUBMIT);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer.pointer("/0/repeated"), Some(&true.into()), "{answer}");
    let world = fake.world();
    let keys: Vec<&str> = world
        .calls
        .iter()
        .map(|call| call.key.as_str())
        .filter(|key| !key.is_empty())
        .collect();
    assert_eq!(keys.len(), 2, "the refused call did nothing: {keys:?}");
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
    assert_eq!((world.count("open"), world.jobs.len()), (3, 1));
}

#[test]
fn what_may_not_be_repeated_is_not() {
    let fake = Fake::start();
    fake.trouble("ping", [unknown()]);
    let ran = fake.run(&["-o", "json", "operator", "ping"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    assert_eq!(ran.json().pointer("/error/kind"), Some(&"unknown_outcome".into()));
    assert_eq!(fake.world().count("ping"), 1);
}

#[test]
fn a_busy_cluster_is_asked_when_it_says() {
    let fake = Fake::start();
    let wanted = Duration::from_millis(400);
    fake.trouble("open", [overloaded(wanted)]);
    let begin = Instant::now();
    let ran = fake.run(&SUBMIT);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begin.elapsed() >= wanted, "{:?}", begin.elapsed());
    assert_eq!(fake.world().count("open"), 2);
}

#[test]
fn a_busy_cluster_that_wants_more_time_than_there_is() {
    let fake = Fake::start();
    fake.trouble("open", [overloaded(Duration::from_secs(60))]);
    let ran = fake.run(&SUBMIT);
    assert_eq!(ran.code, 8, "{ran:?}");
    assert_eq!(ran.json().pointer("/error/kind"), Some(&"overloaded".into()));
    assert!(ran.stderr.contains("try again in 60s"), "{ran:?}");
}

#[test]
fn no_server_at_all() {
    let address = nobody();
    let begin = Instant::now();
    let ran = run_at(&address, &["-o", "json", "--timeout", "300ms", "job", "list"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    let answer = ran.json();
    assert_eq!(
        answer.pointer("/error/kind"),
        Some(&"unreachable".into()),
        "{answer}"
    );
    assert_eq!(answer.pointer("/error/code"), Some(&7.into()), "{answer}");
    assert!(
        ran.stderr.contains(&address) && ran.stderr.contains("REBOUND_SERVERS"),
        "{ran:?}"
    );
    assert!(
        begin.elapsed() >= Duration::from_millis(300),
        "it tried until its time was up"
    );
}

#[test]
fn no_leader_at_all() {
    let fake = Fake::start();
    fake.trouble("list", (0..1000).map(|_| not_leader("")));
    let ran = fake.run(&["-o", "json", "--timeout", "300ms", "job", "list"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    assert_eq!(ran.json().pointer("/error/kind"), Some(&"no_leader".into()));
    let tries = fake.world().count("list");
    assert!((2..40).contains(&tries), "pauses grow: {tries} tries");
}

#[test]
fn a_silent_server() {
    let fake = Fake::start();
    fake.trouble("list", (0..10).map(|_| Trouble::Silence));
    let ran = fake.run(&["-o", "json", "--timeout", "300ms", "job", "list"]);
    assert_eq!(ran.code, 124, "{ran:?}");
    assert_eq!(ran.json().pointer("/error/kind"), Some(&"timeout".into()));
}

#[test]
fn a_silent_leader_is_left_for_another() {
    let (silent, other) = (Fake::start(), Fake::start());
    silent.trouble("list", [Trouble::Silence]);
    let begin = Instant::now();
    let ran = run_at(&format!("{},{}", silent.address, other.address), &["job", "list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(
        (silent.world().count("list"), other.world().count("list")),
        (1, 1)
    );
}

#[test]
fn final_refusals_have_their_codes_and_are_asked_once() {
    let table = [
        (Code::InvalidArgument, Kind::Rejected, 2, "rejected"),
        (Code::NotFound, Kind::NotFound, 4, "not_found"),
        (Code::PermissionDenied, Kind::Denied, 5, "denied"),
        (Code::Aborted, Kind::Conflict, 6, "conflict"),
    ];
    let fake = Fake::start();
    for (i, (code, kind, exit, word)) in table.into_iter().enumerate() {
        fake.trouble(
            "get",
            [Trouble::Refuse(refusal(code, kind, |r| r.field = "job".into()))],
        );
        let ran = fake.run(&["-o", "json", "job", "show", "5"]);
        assert_eq!(ran.code, exit, "{ran:?}");
        assert_eq!(ran.json().pointer("/error/kind"), Some(&word.into()));
        assert_eq!(fake.world().count("get"), i + 1);
    }
    fake.trouble("get", [Trouble::Refuse(Status::internal("a broken promise"))]);
    let ran = fake.run(&["job", "show", "5"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("a broken promise"), "{ran:?}");
}

#[test]
fn a_large_job_goes_in_parts_that_are_repeated_where_needed() {
    let fake = Fake::start();
    fake.trouble("append", [Trouble::DoAndForget]);
    fake.trouble("close", [unknown()]);
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("photos.txt");
    let text: String = (0..4_500).map(|i| format!("/photos/{i}.jpg\n")).collect();
    std::fs::write(&list, text).expect("a list");
    let list = list.display().to_string();
    let ran = fake.run(&["-o", "json", "submit", &list, "--recogniser", "noop"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let world = fake.world();
    let appends: Vec<(u64, usize)> = world
        .calls
        .iter()
        .filter(|call| call.method == "append")
        .map(|call| (call.offset, call.photos))
        .collect();
    assert_eq!(appends, [(0, 2_000), (0, 2_000), (2_000, 2_000), (4_000, 500)]);
    let job = world.jobs.values().next().expect("one job");
    assert_eq!((world.jobs.len(), job.photos.len(), job.job.state), (1, 4_500, 2));
    assert_eq!(
        job.photos.last().map(String::as_str),
        Some("file:///photos/4499.jpg")
    );
}
