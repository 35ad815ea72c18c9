//! Entries that were right when they were proposed, and no longer are when they are applied.

use rebound_core::command::*;
use rebound_core::event::{Cause, Fact};
use rebound_core::plan::{Assign, Because, Plan};
use rebound_core::rows::{Packing, Row};
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

fn apply(state: &mut State, command: Command) -> Vec<Fact> {
    apply_at(state, 1, command)
}

fn apply_at(state: &mut State, second: u64, command: Command) -> Vec<Fact> {
    let entry = Entry {
        version: ENTRY_VERSION,
        at: Time(second * SECOND),
        by: Caller {
            environment: "default".into(),
            actor: "ann".into(),
        },
        trace: TraceId::default(),
        command,
    };
    let applied = state.apply(state.applied() + 1, 1, Some(&entry));
    applied.events.into_iter().map(|event| event.fact).collect()
}

fn join() -> Command {
    Command::WorkerJoined(Box::new(Join {
        name: "w".into(),
        nonce: 1,
        slots: 4,
        resources: Resources::default(),
        pool: Pool::default(),
        recognisers: vec![Recogniser {
            name: "noop".into(),
            digest: Vec::new(),
        }],
        version: "1".into(),
    }))
}

fn open(photos: u64, deadline: Deadline) -> Command {
    Command::Open(Box::new(Open {
        key: Vec::new(),
        name: String::new(),
        labels: Vec::new(),
        priority: 0,
        deadline,
        spec: Spec {
            recogniser: "noop".into(),
            resources: Resources::default(),
            photo_timeout: 0,
            max_attempts: 0,
            drop_late: false,
            region: String::new(),
        },
        photos: (0..photos).map(|n| format!("file:///{n}")).collect(),
        close: true,
    }))
}

fn give(first: u64, count: u64) -> Command {
    let because = Because::FreeSlot {
        rank: 0,
        candidates: 1,
    };
    let (worker, job) = (WorkerId(1), JobId(2));
    Command::Adopt(Plan {
        assign: vec![Assign {
            worker,
            job,
            first,
            count,
            because,
        }],
        ..Plan::default()
    })
}

#[test]
fn a_worker_that_drains_is_given_nothing_by_a_plan_from_before() {
    let mut state = State::new(Plant::None);
    apply(&mut state, join());
    apply(&mut state, open(2, Deadline::None));
    let given = apply(&mut state, give(0, 1));
    assert!(matches!(given[..], [Fact::RunGiven { .. }]), "{given:?}");
    let worker = WorkerId(1);
    apply(&mut state, Command::WorkerDrain { worker });
    let dropped = apply(&mut state, give(1, 1));
    let why = "the worker takes no work";
    assert!(
        matches!(dropped[..], [Fact::PieceDropped { why: said, .. }] if said == why),
        "{dropped:?}"
    );
    assert_eq!(state.runs.held_by(worker), 1);
}

/// The entry that says that a deadline has passed may come after results that are late.
#[test]
fn results_that_come_late_are_late_before_anybody_says_so() {
    let mut state = State::new(Plant::None);
    apply(&mut state, join());
    apply(&mut state, open(5, Deadline::In(10 * SECOND)));
    apply(&mut state, give(0, 5));
    let ended = |first: u64, count: u64| {
        let mut packing = Packing::default();
        for _ in 0..count {
            packing.push(Row {
                started: Time(1),
                ended: Time(2),
                output: b"x",
            });
        }
        let reports = vec![Report {
            job: JobId(2),
            first,
            given: Given(3),
            cause: None,
            rows: packing.done(),
        }];
        Command::Ended {
            worker: WorkerId(1),
            reports,
        }
    };
    let late = |state: &State| state.jobs.get(JobId(2)).expect("just opened").1.late;
    apply_at(&mut state, 11, ended(0, 1));
    assert_eq!(late(&state), 0, "it came at the deadline");
    apply_at(&mut state, 12, ended(1, 3));
    assert_eq!(late(&state), 3);
    let appends = vec![(JobId(2), 0)];
    apply_at(&mut state, 13, Command::Overdue { appends });
    assert_eq!(late(&state), 4, "each counts once");
}

/// A leader sees a retry due by its own clock, which the next leader's first entries may be behind.
#[test]
fn a_retry_is_not_given_before_it_is_due_by_the_entries_clock() {
    let mut state = State::new(Plant::None);
    apply(&mut state, join());
    apply(&mut state, open(1, Deadline::None));
    apply(&mut state, give(0, 1));
    let mut why = Packing::default();
    why.push(Row {
        started: Time(1),
        ended: Time(2),
        output: b"no answer",
    });
    let failed = Command::Ended {
        worker: WorkerId(1),
        reports: vec![Report {
            job: JobId(2),
            first: 0,
            given: Given(3),
            cause: Some(Cause::Recogniser),
            rows: why.done(),
        }],
    };
    apply_at(&mut state, 5, failed);
    assert_eq!(state.runs.held_by(WorkerId(1)), 0);
    let early = apply_at(&mut state, 5, give(0, 1));
    let why = "the tasks do not wait";
    assert!(
        matches!(early[..], [Fact::PieceDropped { why: said, .. }] if said == why),
        "{early:?}"
    );
    let due = apply_at(&mut state, 3_600, give(0, 1));
    assert!(matches!(due[..], [Fact::RunGiven { .. }]), "{due:?}");
}
