//! Entries that were right when they were proposed, and no longer are when they are applied.

use rebound_core::command::*;
use rebound_core::event::Fact;
use rebound_core::plan::{Assign, Because, Plan};
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

fn apply(state: &mut State, command: Command) -> Vec<Fact> {
    let entry = Entry {
        version: ENTRY_VERSION,
        at: Time(1),
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

#[test]
fn a_worker_that_drains_is_given_nothing_by_a_plan_from_before() {
    let mut state = State::new(Plant::None);
    let join = Join {
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
    };
    apply(&mut state, Command::WorkerJoined(Box::new(join)));
    let open = Open {
        key: Vec::new(),
        name: String::new(),
        labels: Vec::new(),
        priority: 0,
        deadline: Deadline::None,
        spec: Spec {
            recogniser: "noop".into(),
            resources: Resources::default(),
            photo_timeout: 0,
            max_attempts: 0,
            drop_late: false,
        },
        photos: ["file:///a", "file:///b"].into_iter().collect(),
        close: true,
    };
    apply(&mut state, Command::Open(Box::new(open)));
    let (worker, job) = (WorkerId(1), JobId(2));
    let give = |first| {
        let because = Because::FreeSlot {
            rank: 0,
            candidates: 1,
        };
        let assign = vec![Assign {
            worker,
            job,
            first,
            count: 1,
            because,
        }];
        Command::Adopt(Plan {
            assign,
            ..Plan::default()
        })
    };
    let given = apply(&mut state, give(0));
    assert!(matches!(given[..], [Fact::RunGiven { .. }]), "{given:?}");
    apply(&mut state, Command::WorkerDrain { worker });
    let dropped = apply(&mut state, give(1));
    let why = "the worker takes no work";
    assert!(
        matches!(dropped[..], [Fact::PieceDropped { why: said, .. }] if said == why),
        "{dropped:?}"
    );
    assert_eq!(state.runs.held_by(worker), 1);
}
