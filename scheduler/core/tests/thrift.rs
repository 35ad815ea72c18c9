//! What stops launches for money's sake, what closes a pool, what is learnt, kept and gone back to: entry by entry.

use rebound_core::bill::HOUR;
use rebound_core::command::*;
use rebound_core::plan::capacity::{LetGo, Scale};
use rebound_core::scaling::Scaling;
use rebound_core::state::control::Brake;
use rebound_core::state::decisions::What;
use rebound_core::state::launches::Lack;
use rebound_core::state::machines::EndWhy;
use rebound_core::state::sightings::Sighting;
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

mod till;
use till::*;

#[test]
fn photos_that_cost_many_times_what_they_did_stop_launches_until_a_person_says_otherwise() {
    let mut run = Run::new(|scaling| scaling.brakes.photo_cost = 5);
    let ids = run.machines(4);
    for _ in 0..20 {
        run.done(&ids[0], 600);
        run.pass(HOUR);
        run.apply(Command::Billed(Vec::new()));
    }
    assert!(run.buy(1), "600 photos an hour as ever");
    run.pass(HOUR);
    assert!(run.buy(1), "one hour of little work beside one of much");
    run.pass(2 * HOUR);
    run.apply(Command::Billed(Vec::new()));
    assert!(!run.buy(1), "two hours for which there is nothing to show");
    let Some(Brake::PhotoCost { lately, before }) = run.brake() else {
        panic!("{:?}", run.brake())
    };
    assert!(lately > 5 * before && before > 0, "{lately} {before}");
    run.apply(Command::Thaw);
    assert!(run.buy(1), "a person knows of it");
    assert_eq!(run.brake(), None);
    let mut run = Run::new(|scaling| scaling.brakes.photo_cost = 0);
    run.machines(4);
    run.pass(100 * HOUR);
    run.apply(Command::Billed(Vec::new()));
    assert!(run.buy(1), "nobody asked for that brake");
}

#[test]
fn a_bill_that_is_another_one_stops_launches() {
    let table: [(i64, u32, bool); 5] = [
        (0, 50, false),
        (4, 50, false),
        (6, 50, true),
        (-6, 50, true),
        (60, 0, false),
    ];
    for (percent, apart, braked) in table {
        let mut run = Run::new(|scaling| scaling.brakes.bill_apart = apart);
        run.machines(10);
        run.pass(3 * HOUR);
        // Ten machines for an hour.
        let own = 10 * PRICE as i64;
        let hour = run.at.0 / HOUR;
        let billed = (own + own * percent / 100) as u64;
        run.apply(Command::Billed(vec![(hour - 2, billed), (hour, 7 * billed)]));
        assert_eq!(run.brake().is_some(), braked, "{percent} % {:?}", run.brake());
        assert_eq!(run.buy(1), !braked, "{percent} %");
        run.apply(Command::Thaw);
        run.apply(Command::Billed(vec![(hour - 2, 9 * billed)]));
        assert_eq!(run.brake(), None, "a person knows of what was before");
    }
}

#[test]
fn an_hour_that_is_just_over_is_not_held_against_the_books_yet() {
    let mut run = Run::new(|scaling| scaling.brakes.bill_apart = 50);
    run.machines(10);
    run.pass(3 * HOUR);
    let over = run.at.0 / HOUR - 1;
    let twice = 20 * PRICE;
    run.apply(Command::Billed(vec![(over, twice)]));
    assert_eq!(run.brake(), None, "machines of its end may not be known yet");
    run.pass(HOUR);
    run.apply(Command::Billed(vec![(over, twice)]));
    assert!(run.brake().is_some());
}

#[test]
fn prices_that_are_noted_late_are_paid_from_when_they_were_in_force() {
    let mut run = Run::new(|_| {});
    let id = run.machines(1).remove(0);
    let from = run.at.0;
    run.pass(HOUR);
    // Nobody led for a quarter of an hour: half as much from its beginning, twice as much from its middle, which is the
    // most that the machine may come to.
    let quarter = HOUR / 4;
    let at = |part: u64| Time(from + HOUR - quarter + part);
    let told = vec![
        (pool(), MicroUsd(PRICE / 2), at(0)),
        (pool(), MicroUsd(3 * PRICE), at(quarter / 2)),
    ];
    run.apply(Command::Prices(told));
    run.apply(Command::Prices(vec![(pool(), MicroUsd(PRICE), run.at)]));
    let machine = run.state.machines.get(&id).unwrap();
    let expected = PRICE * 3 / 4 + PRICE / 2 / 8 + 2 * PRICE / 8;
    assert!(
        machine.paid.abs_diff(expected) <= 3,
        "{} {expected}",
        machine.paid
    );
    assert_eq!(
        (machine.price, machine.priced, machine.paid_to),
        (MicroUsd(PRICE), run.at, run.at)
    );
}

#[test]
fn a_machine_that_has_just_ended_is_paid_again_at_a_price_told_later() {
    let mut run = Run::new(|_| {});
    let (id, from) = (run.machines(1).remove(0), run.at);
    run.pass(HOUR);
    let gone = Sighting::Gone {
        machine: id.clone(),
        at: run.at,
        reclaimed: true,
    };
    run.apply(Command::Seen(vec![gone]));
    let paid = |run: &Run| {
        let hours: u64 = run.state.spend.hours().map(|(_, hour)| hour.money).sum();
        let pools: u64 = run.state.pools.iter().map(|(_, one)| one.paid).sum();
        let machine = run.state.machines.get(&id).unwrap().paid;
        assert_eq!((hours, pools), (machine, machine), "all books say the same");
        machine
    };
    assert_eq!(paid(&run), PRICE);
    // Of the last quarter of it the price was twice as much.
    let dear = Time(from.0 + HOUR * 3 / 4);
    run.pass(MINUTE);
    let told = Command::Prices(vec![(pool(), MicroUsd(2 * PRICE), dear)]);
    run.apply(told.clone());
    assert_eq!(paid(&run), PRICE + PRICE / 4);
    // Said again, or said of a time that is over, it changes nothing.
    run.apply(told);
    run.apply(Command::Prices(vec![(pool(), MicroUsd(1), Time(dear.0 - 1))]));
    run.apply(Command::Prices(vec![(pool(), MicroUsd(1), run.at)]));
    assert_eq!(paid(&run), PRICE + PRICE / 4);
    // And less, for the last minute: told in time and too late.
    run.apply(Command::Prices(vec![(
        pool(),
        MicroUsd(PRICE),
        Time(from.0 + HOUR - MINUTE),
    )]));
    let expected = PRICE + PRICE / 4 - PRICE / 60;
    assert!(paid(&run).abs_diff(expected) <= 2, "{} {expected}", paid(&run));
    run.pass(2 * HOUR);
    let before = paid(&run);
    run.apply(Command::Prices(vec![(
        pool(),
        MicroUsd(2 * PRICE),
        Time(from.0 + HOUR - SECOND),
    )]));
    assert_eq!(paid(&run), before, "books of long ago are closed");
}

#[test]
fn the_books_are_kept_by_the_clouds_clock() {
    let mut run = Run::new(|_| {});
    let id = run.machines(1).remove(0);
    let since = run.at;
    // The cluster's clock stood still for a quarter of an hour while the machine ran and ended.
    let gone = Sighting::Gone {
        machine: id.clone(),
        at: Time(since.0 + HOUR / 4),
        reclaimed: false,
    };
    run.pass(SECOND);
    run.apply(Command::Seen(vec![gone]));
    let machine = run.state.machines.get(&id).unwrap();
    assert_eq!(machine.paid, PRICE / 4);
}

#[test]
fn a_pool_that_takes_many_back_rests_and_is_then_asked_for_one() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(4);
    run.notice(&ids[0]);
    run.notice(&ids[1]);
    let closed = |run: &Run| run.state.pools.get(&pool()).unwrap().is_closed(run.at);
    assert!(!closed(&run), "two of four are not three");
    run.notice(&ids[1]);
    assert!(!closed(&run), "the same again");
    run.notice(&ids[2]);
    assert!(closed(&run));
    let rest = Scaling::default().breaker.rest;
    assert!(run.whats().contains(&What::Closed {
        pool: pool(),
        lack: Lack::TakenBack,
        refusals: 1,
        until: Time(run.at.0 + rest),
    }));
    run.pass(rest);
    assert!(!closed(&run));
    assert_eq!(
        run.state.pools.get(&pool()).unwrap().refusals,
        1,
        "a probe of one is next"
    );

    // Three of twenty are not a quarter; three over an hour are not within half of it.
    let mut run = Run::new(|scaling| scaling.caps.hour = scaling.caps.day);
    let ids = run.machines(20);
    ids.iter().take(3).for_each(|id| run.notice(id));
    assert!(!closed(&run));
    let mut run = Run::new(|_| {});
    let ids = run.machines(3);
    for id in &ids {
        run.notice(id);
        run.pass(20 * 60 * SECOND);
    }
    assert!(!closed(&run));
    let mut run = Run::new(|scaling| scaling.breaker.taken = 0);
    let ids = run.machines(3);
    ids.iter().for_each(|id| run.notice(id));
    assert!(!closed(&run), "nobody asked for it");
}

#[test]
fn machine_time_at_measured_speed_is_its_jobs() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(1);
    let before = run.done(&ids[0], 10);
    // A photo takes 360 ms of the machine: ten thousand of them an hour.
    let us = 360_000;
    run.apply(Command::Measured(vec![
        ("noop".into(), TYPE.into(), us),
        (String::new(), TYPE.into(), us),
        ("noop".into(), "c5.xlarge".into(), 0),
    ]));
    assert_eq!(
        run.state.measures.iter().count(),
        1,
        "what is no speed is not kept"
    );
    let after = run.done(&ids[0], 100);
    let env = EnvId(run.state.environments.iter().next().unwrap().0.0);
    let cost = |job| run.state.jobs.get_in(env, job).unwrap().cost;
    assert_eq!((cost(before), cost(after)), (0, PRICE / 100));
    let environment = run.state.environments.iter().next().unwrap().1;
    assert_eq!(environment.cost, PRICE / 100);
    let hour = run.at.0 / HOUR;
    assert_eq!(run.state.spend.sum(hour..=hour).photos, 110);
}

#[test]
fn policies_of_before_are_kept_and_one_is_tried_beside_the_live_one() {
    let mut run = Run::new(|scaling| scaling.caps.instances = 7);
    let first = run.state.control.get().since;
    let mut second = run.state.control.get().scaling;
    second.caps.instances = 9;
    run.steer(second.clone());
    let kept: Vec<(Index, u32)> = run
        .state
        .policies
        .iter()
        .map(|(index, one)| (index, one.scaling.caps.instances))
        .collect();
    assert_eq!(kept, [(first, 7), (run.state.control.get().since, 9)]);
    let scaling = Some(Box::new(second.clone()));
    assert!(run.apply(Command::Shadow { scaling }).is_some());
    assert_eq!(run.state.control.get().shadow.unwrap().scaling, second);
    second.share = 0;
    let scaling = Some(Box::new(second));
    assert!(
        run.apply(Command::Shadow { scaling }).is_none(),
        "it contradicts itself"
    );
    assert!(run.state.control.get().shadow.is_some(), "the other one stays");
    run.apply(Command::Shadow { scaling: None });
    assert_eq!(run.state.control.get().shadow, None);
    let whats = run.whats();
    assert!(whats.contains(&What::Shadow { on: true }) && whats.contains(&What::Shadow { on: false }));
}

#[test]
fn decisions_are_kept_with_their_numbers() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(2);
    let let_go = LetGo {
        machine: ids[0].clone(),
        why: EndWhy::Idle,
        idle: 90 * SECOND,
        keep: 60 * SECOND,
    };
    run.apply(Command::Scale(Box::new(Scale {
        let_go: vec![let_go],
        ..Scale::default()
    })));
    run.apply(Command::Freeze {
        why: Some("stocktaking".into()),
    });
    assert!(!run.buy(1));
    let whats = run.whats();
    let launched = |what: &What| matches!(what, What::Launched { count: 2, pools, .. } if pools[0] == pool());
    assert!(whats.iter().any(launched), "{whats:?}");
    assert!(whats.contains(&What::LetGo {
        machine: ids[0].clone(),
        why: EndWhy::Idle,
        idle: 90 * SECOND,
        keep: 60 * SECOND,
    }));
    assert!(whats.contains(&What::Frozen {
        why: Some("stocktaking".into())
    }));
    let dropped = |what: &What| matches!(what, What::Dropped { count: 1, why } if why.contains("frozen"));
    assert!(whats.iter().any(dropped), "{whats:?}");
    let loaded = {
        let mut records = Vec::new();
        run.state.dump(|key, value| records.push((key, value)));
        State::load(records.into_iter(), Plant::None).unwrap()
    };
    assert_eq!(
        loaded.decisions.iter().count(),
        run.state.decisions.iter().count()
    );
}
