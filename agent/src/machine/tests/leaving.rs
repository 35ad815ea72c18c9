//! Scripts of agents that are full, cut off, leave, or change their stream.

use super::*;

#[test]
fn a_full_spool_takes_no_new_work_until_there_is_room() {
    let mut agent = Agent::with(
        Config {
            spool_max_results: 2,
            ..config(1)
        },
        Vec::new(),
    );
    agent.input(Input::Connected);
    agent.input(welcome("blue", 3, 5));
    agent.does(
        desired(5, 10, vec![run(1, 0, 4, 9, 1)], vec![spec(1, "noop", 0)]),
        &["start 1/0@9 in 0"],
    );
    agent.does(Input::Disconnected, &[]);
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        ["spool 1/0@9 ok", "start 1/1@9 in 0"]
    );
    assert_eq!(agent.finished(key(1, 1, 9)), ["spool 1/1@9 ok"]);
    agent.input(Input::Connected);
    agent.does(
        welcome("blue", 3, 5),
        &["report 1/0@9 1/1@9", "beat g10 run 0 spool 2 full 1@9<2"],
    );
    agent.does(
        answer(v1::Verdict::Recorded, &[key(1, 1, 9)]),
        &["unspool 1/1@9", "start 1/2@9 in 0"],
    );
}

#[test]
fn an_orphan_finishes_what_runs_and_starts_nothing_new() {
    let mut agent = Agent::joined(1);
    agent.input(desired(5, 10, vec![run(1, 0, 3, 9, 1)], vec![spec(1, "noop", 0)]));
    agent.does(Input::Disconnected, &[]);
    agent.pass(69 * SECOND);
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        ["spool 1/0@9 ok", "start 1/1@9 in 0"]
    );
    agent.pass(SECOND);
    agent.does(Input::Tick, &[]);
    assert!(agent.machine.is_orphaned());
    assert_eq!(agent.finished(key(1, 1, 9)), ["spool 1/1@9 ok"]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(
        welcome("blue", 3, 6),
        &[
            "start 1/2@9 in 0",
            "report 1/0@9 1/1@9",
            "beat g10 run 1 spool 2 1@9<3",
        ],
    );
}

#[test]
fn a_silent_stream_is_given_up() {
    let mut agent = Agent::joined(1);
    agent.pass(3 * SECOND - 1);
    agent.does(Input::Tick, &["beat g0 run 0 spool 0"]);
    agent.pass(1);
    agent.does(Input::Tick, &["disconnect"]);
    agent.does(Input::Tick, &[]);
}

#[test]
fn leaving_hands_back_what_is_not_started_and_ends_when_all_is_answered() {
    let mut agent = Agent::joined(1);
    agent.input(desired(
        5,
        10,
        vec![run(1, 0, 3, 9, 2)],
        vec![spec(2, "shelf", 1000)],
    ));
    agent.fetched(key(1, 0, 9));
    agent.does(
        Input::Leave {
            why: "SIGTERM".to_string(),
        },
        &[
            "leaving",
            "forget 1/1@9",
            "spool 1/1@9 released",
            "spool 1/2@9 released",
            "report 1/1@9 1/2@9",
        ],
    );
    agent.does(
        answer(v1::Verdict::Recorded, &[key(1, 1, 9), key(1, 2, 9)]),
        &["unspool 1/1@9 1/2@9"],
    );
    // New work comes back at once.
    agent.does(
        desired(5, 11, vec![again(1, 0, 1, 9, 2), run(7, 0, 1, 10, 2)], vec![]),
        &["spool 7/0@10 released", "report 7/0@10"],
    );
    assert_eq!(agent.finished(key(1, 0, 9)), ["spool 1/0@9 ok"]);
    agent.does(
        answer(v1::Verdict::Recorded, &[key(7, 0, 10)]),
        &["unspool 7/0@10", "report 1/0@9"],
    );
    agent.does(
        answer(v1::Verdict::Recorded, &[key(1, 0, 9)]),
        &["unspool 1/0@9", "leaving empty", "exit"],
    );
    assert!(agent.machine.is_finished());
    agent.does(Input::Tick, &[]);
}

#[test]
fn leaving_ends_by_its_deadlines_or_when_asked_twice_and_keeps_the_spool() {
    let working = || {
        let mut agent = Agent::joined(1);
        agent.input(desired(5, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]));
        agent.does(
            Input::Leave {
                why: "notice".to_string(),
            },
            &["leaving"],
        );
        agent
    };
    let mut agent = working();
    agent.does(
        Input::Leave {
            why: "again".to_string(),
        },
        &["exit"],
    );

    let mut agent = working();
    let seen = agent.calm(LEAVE_WORK_US);
    assert_eq!(seen.last().map(String::as_str), Some("exit"));

    let mut agent = working();
    agent.does(Input::Disconnected, &[]);
    agent.finished(key(1, 0, 9));
    assert_eq!(agent.machine.wake_at(), agent.now_us + LEAVE_ANSWERS_US);
    agent.pass(LEAVE_ANSWERS_US);
    agent.does(Input::Tick, &["exit"]);
    assert_eq!(agent.machine.spooled(), 1);
}

#[test]
fn one_that_is_drained_finishes_what_runs_however_long() {
    let mut agent = Agent::joined(1);
    agent.input(desired(5, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]));
    let Input::Server(mut drained) = desired(5, 11, vec![again(1, 0, 1, 9, 1)], vec![]) else {
        unreachable!("it is a server's message");
    };
    if let Some(Heard::Desired(desired)) = &mut drained.body {
        desired.drain = true;
    }
    agent.does(Input::Server(drained), &["leaving"]);
    let seen = agent.calm(3 * LEAVE_WORK_US);
    assert!(seen.iter().all(|word| word.starts_with("beat ")), "{seen:?}");
    // Whoever stops the process is in a hurry.
    let why = "SIGTERM".to_string();
    agent.does(Input::Leave { why }, &[]);
    let seen = agent.calm(LEAVE_WORK_US);
    assert_eq!(seen.last().map(String::as_str), Some("exit"));
}

#[test]
fn one_whose_machine_will_be_taken_back_finishes_what_fits_and_hands_back_the_rest() {
    let mut agent = Agent::joined(2);
    agent.input(desired(5, 10, vec![run(1, 0, 3, 9, 1)], vec![spec(1, "noop", 0)]));
    agent.does(
        Input::Noticed {
            within_us: 120_000_000,
        },
        &["noticed 120 s", "leaving", "spool 1/2@9 released", "report 1/2@9"],
    );
    // Nothing of it is said twice.
    agent.does(
        Input::Noticed {
            within_us: 120_000_000,
        },
        &[],
    );
    agent.does(answer(v1::Verdict::Recorded, &[key(1, 2, 9)]), &["unspool 1/2@9"]);
    assert_eq!(agent.finished(key(1, 0, 9)), ["spool 1/0@9 ok", "report 1/0@9"]);
    agent.does(answer(v1::Verdict::Recorded, &[key(1, 0, 9)]), &["unspool 1/0@9"]);
    // The other one takes longer than there is time for.
    let seen = agent.calm(120_000_000 - NOTICE_MARGIN_US);
    let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
    let at = seen.iter().position(|word| *word == "stop 1/1@9 in 1");
    assert_eq!(
        at.map(|at| &seen[at..at + 3]),
        Some(&["stop 1/1@9 in 1", "spool 1/1@9 released", "report 1/1@9"][..]),
        "{seen:?}"
    );
    assert_eq!(agent.finished(key(1, 1, 9)), [""; 0], "it counts for nothing");
    agent.does(
        answer(v1::Verdict::Recorded, &[key(1, 1, 9)]),
        &["unspool 1/1@9", "leaving empty", "exit"],
    );
}

#[test]
fn leaving_before_any_session_ends_at_once() {
    Agent::new(1).does(
        Input::Leave {
            why: "SIGTERM".to_string(),
        },
        &["exit"],
    );
}

#[test]
fn specs_of_an_earlier_stream_stay_while_their_work_does() {
    let mut agent = Agent::joined(1);
    agent.input(desired(
        5,
        10,
        vec![run(1, 0, 2, 9, 1)],
        vec![spec(1, "noop", 0), spec(2, "noop", 0)],
    ));
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(welcome("blue", 3, 5), &["beat g10 run 1 spool 0 1@9<1"]);
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        ["spool 1/0@9 ok", "start 1/1@9 in 0", "report 1/0@9"]
    );
    agent.does(desired(5, 11, vec![run(3, 0, 1, 11, 2)], vec![]), &["disconnect"]);
}
