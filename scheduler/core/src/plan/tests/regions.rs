//! Photos go where they may, and stay where they are while somebody there has room.

use super::*;
use crate::env_rule::EnvRule;
use crate::scaling::Scaling;

const HOME: &str = "eu-central-1";
const AWAY: &str = "us-east-1";

fn log() -> Log {
    Log {
        state: State::new(Plant::None),
        at: Time(1_000_000 * SECOND),
    }
}

fn join(log: &mut Log, region: &str, slots: u32) -> WorkerId {
    let reply = log.apply(Command::WorkerJoined(Box::new(Join {
        name: region.into(),
        nonce: 1,
        slots,
        resources: Resources::default(),
        pool: Pool {
            region: region.into(),
            ..Pool::default()
        },
        recognisers: vec![Recogniser {
            name: "shelf".into(),
            digest: Vec::new(),
        }],
        version: String::new(),
    })));
    match reply {
        Reply::Joined { worker } => worker,
        other => panic!("{other:?}"),
    }
}

fn submit(log: &mut Log, env: usize, region: &str, photos: u64) {
    let spec = Spec {
        recogniser: "shelf".into(),
        resources: Resources::default(),
        photo_timeout: 0,
        max_attempts: 0,
        drop_late: false,
        region: region.into(),
    };
    log.apply_as(
        env,
        Command::Open(Box::new(Open {
            key: Vec::new(),
            name: String::new(),
            labels: Vec::new(),
            priority: 50,
            deadline: Deadline::None,
            spec,
            photos: (0..photos).map(|n| format!("file:///{n}")).collect(),
            close: true,
        })),
    );
}

/// Only slots, nothing ahead: so that each photo's place is plain.
fn decide(log: &Log) -> Plan {
    let policy = Policy {
        credit_per_slot: 1,
        ..Policy::default()
    };
    let known = |_| Some(Known::default());
    let seen = observe(&log.state, log.at, &policy, Look::Ahead, &[], known);
    plan(&policy, &seen)
}

fn given(log: &mut Log) -> (u64, u64, u64) {
    let decided = decide(log);
    log.apply(Command::Adopt(decided));
    let held = |region: &str| {
        let all = log.state.workers.iter_live();
        let here = all.filter(|(_, worker)| worker.join.pool.region == region);
        here.map(|(id, _)| log.state.runs.held_by(id)).sum()
    };
    (held(HOME), held(AWAY), held(""))
}

fn limit(log: &mut Log, regions: &[&str]) {
    let rule = EnvRule {
        name: "env 1".into(),
        regions: regions.iter().map(|one| one.to_string()).collect(),
        day: 0,
    };
    let scaling = Scaling {
        environments: vec![rule],
        ..Scaling::default()
    };
    log.apply(Command::Steer {
        scaling: Box::new(scaling),
        check: None,
    });
}

#[test]
fn an_environments_photos_go_to_its_regions_alone() {
    let mut log = log();
    for region in [HOME, AWAY, ""] {
        join(&mut log, region, 4);
    }
    limit(&mut log, &[HOME]);
    submit(&mut log, 1, "", 10);
    assert_eq!(given(&mut log), (4, 0, 0), "the other six wait");
    submit(&mut log, 2, "", 10);
    assert_eq!(given(&mut log), (4, 4, 4), "another's may go anywhere");
}

#[test]
fn a_plan_that_was_made_before_a_limit_is_not_followed() {
    let mut log = log();
    join(&mut log, AWAY, 4);
    submit(&mut log, 1, "", 2);
    let before = decide(&log);
    assert_eq!(before.assign.len(), 1);
    limit(&mut log, &[HOME]);
    let reply = log.apply(Command::Adopt(before));
    assert_eq!(reply, Reply::Adopted { runs: 0, dropped: 1 });
    limit(&mut log, &[]);
    assert_eq!(given(&mut log), (0, 2, 0), "and it is lifted again");
}

#[test]
fn photos_are_worked_on_where_they_are_while_there_is_room() {
    let mut log = log();
    // The most recently busy would come first: that is the other region's.
    let away = join(&mut log, AWAY, 4);
    join(&mut log, HOME, 4);
    submit(&mut log, 1, AWAY, 1);
    assert_eq!(given(&mut log), (0, 1, 0));
    let mut reports = Vec::new();
    for (key, run) in log.state.runs.of_worker(away) {
        reports.push(Report {
            job: key.job,
            first: run.first,
            given: run.given,
            cause: None,
            rows: Rows::one(Row {
                started: Time(0),
                ended: Time(0),
                output: &[],
            }),
        });
    }
    log.apply(Command::Ended {
        worker: away,
        reports,
    });
    submit(&mut log, 1, HOME, 3);
    assert_eq!(given(&mut log), (3, 0, 0));
    submit(&mut log, 1, HOME, 4);
    assert_eq!(
        given(&mut log),
        (4, 3, 0),
        "what has no room there goes elsewhere"
    );
}
