//! Scripts: what the machine does, step by step, in the words of its log.

use bytes::Bytes;
use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Said;
use rebound_proto::v1::server_message::Body as Heard;

use super::limits::{
    LEAVE_ANSWERS_US, LEAVE_WORK_US, MAX_BATCH_RESULTS, MAX_BATCHES_IN_FLIGHT, MAX_RESULT_BYTES,
    NOTICE_MARGIN_US, SUSPECT_SILENCE_US,
};
use super::{Action, Attempt, Config, Failure, Input, Machine, Now, Spooled, TaskKey, columns};

mod leaving;
mod working;

pub(super) const SECOND: u64 = 1_000_000;

pub(super) fn config(slots: u32) -> Config {
    let recogniser = |name: &str, digest| v1::RecogniserRef {
        name: name.to_string(),
        digest,
    };
    let digest = Bytes::from_static(&[0xab, 0x12, 0x34, 0x56]);
    Config {
        name: "machine-1".to_string(),
        boot_nonce: 7,
        slots,
        resources: v1::Resources {
            milli_cpu: 4000,
            memory_mib: 4096,
            gpus: 0,
        },
        pool: None,
        recognisers: vec![recogniser("noop", Bytes::new()), recogniser("shelf", digest)],
        version: "test".to_string(),
        spool_max_results: 10_000,
        spool_max_bytes: 1 << 30,
        notice_margin_us: NOTICE_MARGIN_US,
    }
}

pub(super) fn key(job: u64, task: u64, given: u64) -> TaskKey {
    TaskKey { job, task, given }
}

pub(super) fn spec(id: u64, recogniser: &str, milli_cpu: u32) -> v1::Spec {
    let resources = Some(v1::Resources {
        milli_cpu,
        memory_mib: 100,
        gpus: 0,
    });
    v1::Spec {
        id,
        recogniser: recogniser.to_string(),
        resources,
        photo_timeout_us: SECOND,
    }
}

pub(super) fn run(job: u64, first: u64, count: u64, given: u64, spec: u64) -> v1::Run {
    let uris: Vec<String> = (first..first + count)
        .map(|task| format!("file:///{job}/{task}"))
        .collect();
    let photos = v1::Photos {
        uri_bytes: uris.iter().map(|uri| uri.len() as u32).collect(),
        uris: uris.concat(),
        trace_id: Bytes::new(),
    };
    v1::Run {
        photos: Some(photos),
        ..again(job, first, count, given, spec)
    }
}

/// A run whose photos were said before.
pub(super) fn again(job: u64, first: u64, count: u64, given: u64, spec: u64) -> v1::Run {
    v1::Run {
        job,
        first,
        count: count as u32,
        given,
        spec,
        photos: None,
        alone: false,
    }
}

pub(super) fn message(body: Heard) -> Input {
    Input::Server(v1::ServerMessage { body: Some(body) })
}

pub(super) fn welcome(cluster: &str, worker: u64, term: u64) -> Input {
    message(Heard::Welcome(v1::Welcome {
        cluster: cluster.to_string(),
        worker,
        term,
        heartbeat_us: SECOND,
        orphan_for_us: 70 * SECOND,
        now_us: 0,
        protocol: 1,
    }))
}

pub(super) fn desired(term: u64, generation: u64, runs: Vec<v1::Run>, specs: Vec<v1::Spec>) -> Input {
    let cluster = "blue".to_string();
    message(Heard::Desired(v1::Desired {
        cluster,
        term,
        generation,
        runs,
        specs,
        drain: false,
    }))
}

pub(super) fn answer(verdict: v1::Verdict, keys: &[TaskKey]) -> Input {
    let runs = keys.iter().map(|key| v1::AnswerRun {
        job: key.job,
        first: key.task,
        count: 1,
        given: key.given,
        verdict: verdict.into(),
    });
    message(Heard::Answers(v1::Answers { runs: runs.collect() }))
}

/// Results of a message, apart again.
pub(super) fn attempts(results: &v1::Results) -> Vec<Attempt> {
    let runs = results.runs.iter().cloned();
    runs.flat_map(|run| columns::apart(run).unwrap()).collect()
}

pub(super) fn spooled(cluster: &str, task: TaskKey) -> Spooled {
    Spooled {
        cluster: cluster.into(),
        attempt: Attempt {
            task,
            cause: v1::Cause::Unspecified,
            output: Bytes::new(),
            started_us: 0,
            ended_us: 0,
        },
    }
}

/// An action in one line.
pub(super) fn word(action: &Action) -> String {
    let cause = |attempt: &Attempt| match attempt.cause {
        v1::Cause::Unspecified => "ok".to_string(),
        cause => format!("{cause:?}").to_lowercase(),
    };
    match action {
        Action::Send(message) => match &message.body {
            Some(Said::Hello(hello)) => format!("hello {}/{}", hello.cluster, hello.worker),
            Some(Said::Heartbeat(beat)) => {
                let cursors = beat
                    .started
                    .iter()
                    .map(|at| format!(" {}@{}<{}", at.job, at.given, at.next));
                let full = if beat.spool_full { " full" } else { "" };
                let cursors: String = cursors.collect();
                format!(
                    "beat g{} run {} spool {}{full}{cursors}",
                    beat.generation, beat.running, beat.spooled
                )
            }
            Some(Said::Results(results)) => {
                let keys = attempts(results).into_iter().map(|one| one.task.to_string());
                let keys: Vec<String> = keys.collect();
                format!("report {}", keys.join(" "))
            }
            Some(Said::Leaving(leaving)) => format!("leaving{}", if leaving.empty { " empty" } else { "" }),
            Some(Said::Noticed(noticed)) => format!("noticed {} s", noticed.within_us / 1_000_000),
            None => "nothing".to_string(),
        },
        Action::Fetch { task, .. } => format!("fetch {task}"),
        Action::Start { slot, task, .. } => format!("start {task} in {slot}"),
        Action::Stop { slot, task } => format!("stop {task} in {slot}"),
        Action::Forget { task } => format!("forget {task}"),
        Action::Spool(Spooled { attempt, .. }) => format!("spool {} {}", attempt.task, cause(attempt)),
        Action::Unspool(ranges) => {
            let keys = ranges.iter().flat_map(|range| range.keys());
            let keys: Vec<String> = keys.map(|key| key.to_string()).collect();
            format!("unspool {}", keys.join(" "))
        }
        Action::Disconnect { .. } => "disconnect".to_string(),
        Action::Exit => "exit".to_string(),
    }
}

/// A machine and a clock.
struct Agent {
    machine: Machine,
    now_us: u64,
}

impl Agent {
    fn new(slots: u32) -> Agent {
        Agent::with(config(slots), Vec::new())
    }

    fn with(config: Config, spooled: Vec<Spooled>) -> Agent {
        Agent {
            machine: Machine::new(config, spooled),
            now_us: SECOND,
        }
    }

    /// A machine in session 3 of cluster blue, term 5.
    fn joined(slots: u32) -> Agent {
        let mut agent = Agent::new(slots);
        agent.does(Input::Connected, &["hello /0"]);
        agent.does(welcome("blue", 3, 5), &["beat g0 run 0 spool 0"]);
        agent
    }

    fn input(&mut self, input: Input) -> Vec<String> {
        let now = Now {
            mono_us: self.now_us,
            wall_us: 1_700_000_000_000_000 + self.now_us,
        };
        let actions = self.machine.handle(now, input);
        self.machine.check();
        actions.iter().map(word).collect()
    }

    #[track_caller]
    fn does(&mut self, input: Input, expected: &[&str]) {
        let text = format!("{input:?}");
        assert_eq!(
            self.input(input),
            expected,
            "after {}",
            &text[..text.len().min(200)]
        );
    }

    fn fetched(&mut self, task: TaskKey) -> Vec<String> {
        self.input(Input::Fetched {
            task,
            outcome: Ok(()),
        })
    }

    fn finished(&mut self, task: TaskKey) -> Vec<String> {
        self.input(Input::Finished {
            task,
            outcome: Ok(Bytes::from_static(b"{}")),
        })
    }

    fn pass(&mut self, us: u64) {
        self.now_us += us;
    }

    /// The leader keeps in touch for so long; says what the agent did meanwhile.
    fn calm(&mut self, us: u64) -> Vec<String> {
        let until = self.now_us + us;
        let mut seen = Vec::new();
        while self.now_us < until {
            self.now_us += SECOND.min(until - self.now_us);
            seen.extend(self.input(message(Heard::Answers(v1::Answers::default()))));
        }
        seen
    }
}

#[test]
fn a_photo_is_fetched_while_the_one_before_is_in_the_recogniser() {
    let mut agent = Agent::joined(1);
    agent.does(
        desired(5, 10, vec![run(1, 0, 3, 9, 2)], vec![spec(2, "shelf", 1000)]),
        &["fetch 1/0@9"],
    );
    assert_eq!(agent.fetched(key(1, 0, 9)), ["start 1/0@9 in 0", "fetch 1/1@9"]);
    assert_eq!(agent.fetched(key(1, 1, 9)), [""; 0]);
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        [
            "spool 1/0@9 ok",
            "start 1/1@9 in 0",
            "fetch 1/2@9",
            "report 1/0@9"
        ]
    );
    agent.does(answer(v1::Verdict::Recorded, &[key(1, 0, 9)]), &["unspool 1/0@9"]);
    agent.pass(SECOND);
    agent.does(Input::Tick, &["beat g10 run 1 spool 0 1@9<2"]);
}

#[test]
fn runs_start_in_the_order_given_and_noop_needs_no_fetch() {
    let mut agent = Agent::joined(3);
    let runs = vec![run(9, 0, 2, 20, 1), run(4, 6, 2, 21, 1)];
    let started = ["start 9/0@20 in 0", "start 9/1@20 in 1", "start 4/6@21 in 2"];
    agent.does(desired(5, 22, runs, vec![spec(1, "noop", 0)]), &started);
    assert_eq!(
        agent.finished(key(9, 1, 20)),
        ["spool 9/1@20 ok", "start 4/7@21 in 1", "report 9/1@20"]
    );
}

#[test]
fn an_older_desired_set_is_refused_and_a_higher_term_wins() {
    let mut agent = Agent::joined(1);
    let specs = || vec![spec(1, "noop", 0)];
    agent.does(
        desired(5, 10, vec![run(1, 0, 1, 9, 1)], specs()),
        &["start 1/0@9 in 0"],
    );
    agent.does(desired(5, 9, vec![], vec![]), &[]);
    agent.does(desired(4, 90, vec![], vec![]), &[]);
    assert_eq!(agent.machine.counts().desired_refused, 2);
    agent.does(desired(6, 2, vec![], vec![]), &["stop 1/0@9 in 0"]);
    assert_eq!(
        agent.machine.running(),
        1,
        "the slot is taken until the driver says so"
    );
    assert_eq!(
        agent.finished(key(1, 0, 9)),
        [""; 0],
        "what was stopped gives no result"
    );
    assert_eq!(agent.machine.running(), 0);
}

#[test]
fn what_is_absent_is_stopped_or_forgotten_but_its_result_stays() {
    let mut agent = Agent::joined(2);
    agent.does(
        desired(5, 10, vec![run(1, 0, 4, 9, 2)], vec![spec(2, "shelf", 1000)]),
        &["fetch 1/0@9", "fetch 1/1@9"],
    );
    agent.fetched(key(1, 0, 9));
    agent.fetched(key(1, 1, 9));
    agent.fetched(key(1, 2, 9));
    agent.finished(key(1, 0, 9));
    // Running: 1, 2. Being fetched: 3.
    agent.does(
        desired(5, 11, vec![run(1, 2, 1, 9, 2)], vec![]),
        &["stop 1/1@9 in 1", "forget 1/3@9"],
    );
    assert_eq!(agent.machine.spooled(), 1);
    agent.does(
        Input::Fetched {
            task: key(1, 3, 9),
            outcome: Ok(()),
        },
        &[],
    );
}

#[test]
fn what_has_a_result_is_never_done_again() {
    let mut agent = Agent::joined(1);
    let set = || desired(5, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]);
    agent.does(set(), &["start 1/0@9 in 0"]);
    agent.finished(key(1, 0, 9));
    agent.does(set(), &[]);
    agent.does(answer(v1::Verdict::Recorded, &[key(1, 0, 9)]), &["unspool 1/0@9"]);
    agent.does(set(), &[]);
    agent.does(Input::Disconnected, &[]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(welcome("blue", 3, 6), &["beat g10 run 0 spool 0 1@9<1"]);
    agent.does(
        desired(6, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]),
        &[],
    );
}

#[test]
fn results_are_sent_again_on_each_stream_until_they_are_answered() {
    let mut agent = Agent::joined(2);
    agent.input(desired(5, 10, vec![run(1, 0, 2, 9, 1)], vec![spec(1, "noop", 0)]));
    assert_eq!(agent.finished(key(1, 0, 9)), ["spool 1/0@9 ok", "report 1/0@9"]);
    agent.does(Input::Disconnected, &[]);
    assert_eq!(agent.finished(key(1, 1, 9)), ["spool 1/1@9 ok"]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(
        welcome("blue", 3, 5),
        &["report 1/0@9 1/1@9", "beat g10 run 0 spool 2 1@9<2"],
    );
    agent.does(answer(v1::Verdict::Unspecified, &[key(1, 0, 9)]), &[]);
    agent.does(answer(v1::Verdict::Stale, &[key(1, 0, 9)]), &["unspool 1/0@9"]);
    agent.does(answer(v1::Verdict::Stale, &[key(1, 0, 9)]), &[]);
    agent.does(Input::Disconnected, &[]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(
        welcome("blue", 3, 5),
        &["report 1/1@9", "beat g10 run 0 spool 1 1@9<2"],
    );
}

#[test]
fn an_answer_that_never_comes_makes_it_ask_again_on_the_same_stream() {
    let mut agent = Agent::joined(1);
    agent.input(desired(5, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]));
    agent.finished(key(1, 0, 9));
    let seen = agent.calm(6 * SECOND);
    assert_eq!(
        seen.iter().filter(|word| *word == "report 1/0@9").count(),
        1,
        "{seen:?}"
    );
    assert_eq!(agent.machine.counts().resends, 1);
}

#[test]
fn many_results_go_in_bounded_messages_and_the_next_follow_the_answers() {
    let count = MAX_BATCH_RESULTS * (MAX_BATCHES_IN_FLIGHT + 1);
    let spooled = (0..count as u64).map(|task| spooled("blue", key(1, task, 9)));
    let mut agent = Agent::with(config(1), spooled.collect());
    agent.does(Input::Connected, &["hello /0"]);
    let reports = |seen: Vec<String>| seen.iter().filter(|word| word.starts_with("report ")).count();
    assert_eq!(reports(agent.input(welcome("blue", 3, 5))), MAX_BATCHES_IN_FLIGHT);
    let first: Vec<TaskKey> = (0..MAX_BATCH_RESULTS as u64)
        .map(|task| key(1, task, 9))
        .collect();
    assert_eq!(reports(agent.input(answer(v1::Verdict::Stale, &first[1..]))), 0);
    assert_eq!(reports(agent.input(answer(v1::Verdict::Stale, &first[..1]))), 1);
}

#[test]
fn a_few_results_wait_for_the_answer_to_those_before() {
    let mut agent = Agent::joined(3);
    agent.input(desired(5, 10, vec![run(1, 0, 3, 9, 1)], vec![spec(1, "noop", 0)]));
    assert_eq!(agent.finished(key(1, 0, 9)), ["spool 1/0@9 ok", "report 1/0@9"]);
    assert_eq!(agent.finished(key(1, 1, 9)), ["spool 1/1@9 ok"]);
    assert_eq!(agent.finished(key(1, 2, 9)), ["spool 1/2@9 ok"]);
    agent.does(
        answer(v1::Verdict::Recorded, &[key(1, 0, 9)]),
        &["unspool 1/0@9", "report 1/1@9 1/2@9"],
    );
}

#[test]
fn a_new_session_ends_all_work_but_reports_what_the_same_cluster_gave() {
    let mut agent = Agent::joined(2);
    agent.input(desired(5, 10, vec![run(1, 0, 3, 9, 1)], vec![spec(1, "noop", 0)]));
    agent.finished(key(1, 0, 9));
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(
        welcome("blue", 4, 5),
        &[
            "stop 1/1@9 in 1",
            "stop 1/2@9 in 0",
            "report 1/0@9",
            "beat g0 run 2 spool 1",
        ],
    );
    // A desired set of the new session may have a lower generation.
    agent.does(desired(5, 1, vec![], vec![]), &[]);
    assert_eq!(agent.machine.counts().desired_refused, 0);
}

#[test]
fn results_of_another_cluster_are_dropped() {
    let spooled = spooled("green", key(1, 0, 9));
    let mut agent = Agent::with(config(1), vec![spooled]);
    agent.does(Input::Connected, &["hello /0"]);
    agent.does(welcome("blue", 3, 5), &["unspool 1/0@9", "beat g0 run 0 spool 0"]);
    // The same numbers mean other work here: it is done.
    agent.does(
        desired(5, 10, vec![run(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]),
        &["start 1/0@9 in 0"],
    );
}

#[test]
fn a_deposed_leader_is_left() {
    let mut agent = Agent::joined(1);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(welcome("blue", 3, 4), &["disconnect"]);
    agent.does(Input::Connected, &["hello blue/3"]);
    agent.does(welcome("blue", 3, 6), &["beat g0 run 0 spool 0"]);
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let over = super::limits::MAX_DESIRED_TASKS as u64 + 1;
    let bad = [
        welcome("blue", 3, 5),
        desired(5, 10, vec![run(1, 0, 1, 9, 77)], vec![]),
        desired(5, 10, vec![again(1, 0, 1, 9, 1)], vec![spec(1, "noop", 0)]),
        desired(5, 10, vec![run(1, 0, 0, 9, 1)], vec![spec(1, "noop", 0)]),
        desired(
            5,
            10,
            vec![run(1, 0, 3, 9, 1), run(1, 2, 1, 9, 1)],
            vec![spec(1, "noop", 0)],
        ),
        desired(5, 10, vec![run(1, 0, over, 9, 1)], vec![spec(1, "noop", 0)]),
        desired(
            5,
            10,
            vec![v1::Run {
                first: u64::MAX,
                ..run(1, 0, 2, 9, 1)
            }],
            vec![spec(1, "noop", 0)],
        ),
        message(Heard::Desired(v1::Desired {
            cluster: "green".to_string(),
            ..Default::default()
        })),
    ];
    for input in bad {
        Agent::joined(1).does(input, &["disconnect"]);
    }
    let mut agent = Agent::new(1);
    agent.does(Input::Connected, &["hello /0"]);
    agent.does(desired(5, 10, vec![], vec![]), &["disconnect"]);
}

#[test]
fn a_photo_that_cannot_be_fetched_takes_no_slot() {
    let mut agent = Agent::joined(1);
    agent.input(desired(
        5,
        10,
        vec![run(1, 0, 2, 9, 2)],
        vec![spec(2, "shelf", 1000)],
    ));
    let gone = Err(Failure::new(v1::Cause::Fetch, "no such file"));
    agent.does(
        Input::Fetched {
            task: key(1, 0, 9),
            outcome: gone,
        },
        &["spool 1/0@9 fetch", "fetch 1/1@9", "report 1/0@9"],
    );
}
