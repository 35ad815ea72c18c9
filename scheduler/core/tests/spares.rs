//! Machines that are kept for a burst, entry by entry: stopped when idle, paid for by their volume, started within caps.

use rebound_core::bill::HOUR;
use rebound_core::command::*;
use rebound_core::plan::capacity::{LetGo, Rest, Scale, Sizing, Start};
use rebound_core::scaling::Spares;
use rebound_core::state::decisions::What;
use rebound_core::state::machines::{EndWhy, Gone, Spare};
use rebound_core::state::sightings::Sighting;
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

mod till;
use till::*;

/// Millionths of USD an hour for a volume.
const VOLUME: u64 = 1_000;

fn keeping() -> Run {
    let mut run = Run::new(|scaling| {
        scaling.spares = Some(Spares {
            recogniser: "noop".into(),
            photos: 100,
            within: 40 * SECOND,
            start: 20 * SECOND,
            volume: VOLUME,
        });
    });
    run.market = Market::OnDemand;
    run
}

fn rest(run: &mut Run, id: &InstanceId) {
    let rest = Rest {
        machine: id.clone(),
        idle: SECOND,
    };
    run.apply(Command::Scale(Box::new(Scale {
        rest: vec![rest],
        ..Scale::default()
    })));
}

fn start(run: &mut Run, id: &InstanceId) {
    let start = Start {
        machine: id.clone(),
        because: Sizing::default(),
    };
    run.apply(Command::Scale(Box::new(Scale {
        start: vec![start],
        ..Scale::default()
    })));
}

fn stops(run: &mut Run, id: &InstanceId) {
    rest(run, id);
    let (machine, at) = (id.clone(), run.at);
    run.apply(Command::Seen(vec![Sighting::Stopped { machine, at }]));
}

fn spare(run: &Run, id: &InstanceId) -> Option<Spare> {
    run.state.machines.get(id).unwrap().spare
}

fn is_stopped(run: &Run, id: &InstanceId) -> bool {
    run.state.machines.get(id).unwrap().is_stopped()
}

#[test]
fn a_stopped_machine_costs_its_volume_and_counts_for_no_cap_until_it_starts() {
    let mut run = keeping();
    let id = run.machines(1).remove(0);
    run.pass(HOUR);
    rest(&mut run, &id);
    let counts = |run: &Run| (run.state.committed().instances, run.state.committed().vcpus);
    assert_eq!(spare(&run, &id), Some(Spare::Stopping(run.at)));
    assert_eq!(
        counts(&run),
        (1, 2),
        "it runs until the cloud says that it has stopped"
    );
    let (machine, at) = (id.clone(), run.at);
    run.apply(Command::Seen(vec![Sighting::Stopped { machine, at }]));
    assert!(is_stopped(&run, &id) && counts(&run) == (0, 0));
    assert_eq!(run.state.machines.get(&id).unwrap().paid, PRICE);
    run.pass(2 * HOUR);
    assert_eq!(
        run.state.spent(run.at).0,
        2 * VOLUME,
        "what stands still is not in the books yet"
    );
    start(&mut run, &id);
    assert!(matches!(spare(&run, &id), Some(Spare::Starting(..))));
    assert_eq!(counts(&run), (1, 2), "it is reserved before the call");
    // An old list still shows it running as it did before.
    let running = |machine: &InstanceId, since| Sighting::Running {
        machine: machine.clone(),
        since,
    };
    run.apply(Command::Seen(vec![running(&id, at)]));
    assert!(spare(&run, &id).is_some());
    run.pass(10 * SECOND);
    run.apply(Command::Seen(vec![running(&id, run.at)]));
    run.pass(10 * SECOND);
    run.join_again(&id);
    assert_eq!(spare(&run, &id), None);
    let pool = run.state.machines.get(&id).unwrap().pool.clone();
    let record = run.state.pools.get(&pool).unwrap();
    assert_eq!(record.restarted, [20 * SECOND]);
    assert_eq!(record.ready.len(), 1, "that of its first start");
    run.pass(HOUR);
    let gone = Sighting::Gone {
        machine: id.clone(),
        at: run.at,
        reclaimed: false,
    };
    run.apply(Command::Seen(vec![gone]));
    let machine = run.state.machines.get(&id).unwrap();
    let ran = PRICE + PRICE / 360;
    assert!(
        machine.paid.abs_diff(PRICE + 2 * VOLUME + ran) <= 3,
        "{}",
        machine.paid
    );
    let books: u64 = run.state.spend.hours().map(|(_, hour)| hour.money).sum();
    assert_eq!(books, machine.paid);
}

#[test]
fn one_with_work_is_not_stopped_and_one_that_stands_still_is_not_started_against_a_cap() {
    let mut run = keeping();
    let ids = run.machines(2);
    run.give(&ids[0], 3);
    rest(&mut run, &ids[0]);
    assert_eq!(
        spare(&run, &ids[0]),
        None,
        "it has got work since the plan was made"
    );
    stops(&mut run, &ids[1]);
    assert!(is_stopped(&run, &ids[1]));
    for change in [
        (|scaling| scaling.caps.instances = 1) as fn(&mut rebound_core::scaling::Scaling),
        |scaling| scaling.caps.vcpus = 3,
        |scaling| scaling.caps.hour = 1,
    ] {
        let mut scaling = run.state.control.get().scaling;
        let before = scaling.clone();
        change(&mut scaling);
        run.steer(scaling);
        start(&mut run, &ids[1]);
        assert!(is_stopped(&run, &ids[1]));
        run.steer(before);
    }
    run.apply(Command::Freeze {
        why: Some("look".into()),
    });
    start(&mut run, &ids[1]);
    assert!(is_stopped(&run, &ids[1]));
    let dropped = run
        .whats()
        .iter()
        .filter(|what| matches!(what, What::Dropped { .. }))
        .count();
    assert_eq!(dropped, 4, "each is on record");
    run.apply(Command::Freeze { why: None });
    start(&mut run, &ids[1]);
    assert!(!is_stopped(&run, &ids[1]));
}

#[test]
fn a_start_that_the_cloud_has_nothing_for_leaves_it_as_it_was_and_its_pool_alone() {
    let mut run = keeping();
    let id = run.machines(1).remove(0);
    stops(&mut run, &id);
    start(&mut run, &id);
    run.apply(Command::Seen(vec![Sighting::StartLacked { machine: id.clone() }]));
    assert!(is_stopped(&run, &id));
    let pool = run.state.machines.get(&id).unwrap().pool.clone();
    assert!(run.state.pools.get(&pool).unwrap().is_closed(run.at));
    // Said again of one that stands still it says nothing.
    run.apply(Command::Seen(vec![Sighting::StartLacked { machine: id.clone() }]));
    assert_eq!(run.state.pools.get(&pool).unwrap().refusals, 1);
    // Somebody starts it by hand: then it runs, and is paid for.
    run.pass(HOUR);
    let (machine, since) = (id.clone(), run.at);
    run.apply(Command::Seen(vec![Sighting::Running { machine, since }]));
    assert!(spare(&run, &id).is_none() && run.state.committed().instances == 1);
}

#[test]
fn one_that_stands_still_ends_like_another_and_all_of_it_survives_a_restart() {
    let mut run = keeping();
    let ids = run.machines(3);
    run.pass(HOUR);
    ids.iter().for_each(|id| stops(&mut run, id));
    start(&mut run, &ids[1]);
    let let_go = LetGo {
        machine: ids[0].clone(),
        why: EndWhy::Spare,
        idle: 0,
        keep: 0,
    };
    run.apply(Command::Scale(Box::new(Scale {
        let_go: vec![let_go],
        ..Scale::default()
    })));
    start(&mut run, &ids[0]);
    let mut records = Vec::new();
    run.state.dump(|key, value| records.push((key, value)));
    let again = State::load(records.into_iter(), Plant::None).unwrap();
    again.check();
    assert_eq!(again.digest(), run.state.digest());
    run.pass(HOUR);
    let gone = Sighting::Gone {
        machine: ids[0].clone(),
        at: run.at,
        reclaimed: false,
    };
    run.apply(Command::Seen(vec![gone]));
    let machine = run.state.machines.get(&ids[0]).unwrap();
    assert_eq!(machine.gone.map(|(how, _)| how), Some(Gone::Ended));
    assert_eq!(machine.paid, PRICE + VOLUME);
}
