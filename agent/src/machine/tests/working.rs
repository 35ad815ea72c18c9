//! Scripts of photos at work: what they need, how they end, what is said of them.

use super::*;

#[test]
fn a_recogniser_that_is_not_here_and_a_result_that_is_too_large_are_failures() {
    let mut agent = Agent::joined(1);
    agent.does(
        desired(
            5,
            10,
            vec![run(1, 0, 1, 9, 2)],
            vec![spec(2, "poetry@00ff", 1000)],
        ),
        &["spool 1/0@9 recogniser", "report 1/0@9"],
    );
    agent.does(answer(v1::Verdict::Recorded, &[key(1, 0, 9)]), &["unspool 1/0@9"]);
    agent.does(
        desired(
            5,
            10,
            vec![run(3, 0, 1, 9, 3), run(4, 0, 1, 9, 4)],
            vec![spec(3, "shelf@ab12", 0), spec(4, "shelf@AB13", 0)],
        ),
        &["fetch 3/0@9"],
    );
    agent.does(
        Input::Fetched {
            task: key(3, 0, 9),
            outcome: Err(Failure::new(v1::Cause::Fetch, "gone")),
        },
        &[
            "spool 3/0@9 fetch",
            "spool 4/0@9 recogniser",
            "report 3/0@9 4/0@9",
        ],
    );
    agent.does(
        answer(v1::Verdict::Recorded, &[key(3, 0, 9), key(4, 0, 9)]),
        &["unspool 3/0@9 4/0@9"],
    );
    agent.does(
        desired(5, 11, vec![run(2, 0, 2, 10, 1)], vec![spec(1, "noop", 0)]),
        &["start 2/0@10 in 0"],
    );
    let at_limit = Bytes::from(vec![b'x'; MAX_RESULT_BYTES]);
    let over = Bytes::from(vec![b'x'; MAX_RESULT_BYTES + 1]);
    agent.does(
        Input::Finished {
            task: key(2, 0, 10),
            outcome: Ok(at_limit),
        },
        &["spool 2/0@10 ok", "start 2/1@10 in 0", "report 2/0@10"],
    );
    agent.does(
        Input::Finished {
            task: key(2, 1, 10),
            outcome: Ok(over),
        },
        &["spool 2/1@10 resulttoolarge"],
    );
}

#[test]
fn photos_share_the_machine_as_far_as_its_resources_go() {
    let mut agent = Agent::joined(4);
    let specs = vec![
        spec(1, "noop", 3000),
        spec(2, "noop", 1000),
        spec(3, "noop", 9000),
    ];
    let runs = vec![
        run(1, 0, 1, 9, 1),
        run(2, 0, 1, 9, 2),
        run(3, 0, 1, 9, 3),
        run(4, 0, 1, 9, 2),
    ];
    // The third is larger than the machine: it runs alone, and nothing overtakes it.
    agent.does(
        desired(5, 10, runs, specs),
        &["start 1/0@9 in 0", "start 2/0@9 in 1"],
    );
    assert_eq!(agent.finished(key(1, 0, 9)), ["spool 1/0@9 ok", "report 1/0@9"]);
    assert_eq!(
        agent.finished(key(2, 0, 9)),
        ["spool 2/0@9 ok", "start 3/0@9 in 0"]
    );
    assert_eq!(
        agent.finished(key(3, 0, 9)),
        ["spool 3/0@9 ok", "start 4/0@9 in 0"]
    );
}

#[test]
fn photos_are_said_once_on_a_stream_and_kept_while_they_are_wanted() {
    let mut agent = Agent::joined(1);
    agent.does(
        desired(5, 10, vec![run(1, 0, 6, 9, 2)], vec![spec(2, "shelf", 1000)]),
        &["fetch 1/0@9"],
    );
    agent.fetched(key(1, 0, 9));
    agent.fetched(key(1, 1, 9));
    // Two parts of it are left.
    agent.does(
        desired(5, 11, vec![again(1, 4, 2, 9, 2), again(1, 0, 2, 9, 2)], vec![]),
        &[],
    );
    let now = Now {
        mono_us: agent.now_us,
        wall_us: 0,
    };
    let outcome = Ok(Bytes::new());
    let finished = |task| Input::Finished {
        task,
        outcome: outcome.clone(),
    };
    let actions = agent.machine.handle(now, finished(key(1, 0, 9)));
    let uri = |action: &Action| match action {
        Action::Start { uri, .. } | Action::Fetch { uri, .. } => Some(uri.to_string()),
        _ => None,
    };
    let uris: Vec<String> = actions.iter().filter_map(uri).collect();
    assert_eq!(uris, ["file:///1/1", "file:///1/4"]);
    // What was dropped is not known any more.
    agent.does(
        desired(5, 12, vec![again(1, 0, 6, 9, 2)], vec![]),
        &["disconnect"],
    );
}

#[test]
fn what_waits_together_is_taken_together() {
    let mut agent = Agent::joined(3);
    let specs = vec![spec(1, "noop", 0)];
    agent.input(desired(5, 10, vec![run(1, 0, 6, 9, 1)], specs));
    let now = Now {
        mono_us: agent.now_us,
        wall_us: 0,
    };
    let finished = (0..3).map(|task| Input::Finished {
        task: key(1, task, 9),
        outcome: Ok(Bytes::new()),
    });
    let actions = agent.machine.handle_all(now, finished);
    agent.machine.check();
    let words: Vec<String> = actions.iter().map(word).collect();
    assert_eq!(
        words,
        [
            "spool 1/0@9 ok",
            "spool 1/1@9 ok",
            "spool 1/2@9 ok",
            "start 1/3@9 in 0",
            "start 1/4@9 in 1",
            "start 1/5@9 in 2",
            "report 1/0@9 1/1@9 1/2@9"
        ]
    );
}

#[test]
fn a_suspect_runs_only_while_a_leader_is_heard() {
    let mut agent = Agent::joined(2);
    let alone = v1::Run {
        alone: true,
        ..run(1, 0, 1, 9, 2)
    };
    let runs = vec![alone, run(1, 1, 1, 9, 2)];
    agent.does(
        desired(5, 10, runs, vec![spec(2, "shelf", 1000)]),
        &["fetch 1/0@9", "fetch 1/1@9"],
    );
    agent.fetched(key(1, 0, 9));
    agent.fetched(key(1, 1, 9));
    agent.does(Input::Disconnected, &[]);
    assert_eq!(agent.machine.wake_at(), agent.now_us + SUSPECT_SILENCE_US);
    agent.pass(SUSPECT_SILENCE_US);
    agent.does(Input::Tick, &["stop 1/0@9 in 0", "fetch 1/0@9"]);
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        [""; 0],
        "what was stopped gives no result"
    );
    // It may be made ready again, but it does not start before a leader speaks.
    assert_eq!(agent.fetched(key(1, 0, 9)), [""; 0]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(
        welcome("blue", 3, 6),
        &["start 1/0@9 in 0", "beat g10 run 2 spool 0 1@9<1 1@9<2"],
    );
}
