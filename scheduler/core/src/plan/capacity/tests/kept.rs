//! What is kept for a burst, what takes the place of a dearer machine, and what a reservation has.

use super::*;
use crate::observe::fleet::Resting;
use crate::scaling::{Commitment, Spares};

const HOUR: u64 = 60 * MINUTE;

/// A burst of photos within so many seconds; stopped machines start in twenty.
fn keeping(photos: u32, within: u64, instances: u32) -> Fleet {
    let mut fleet = fleet(&[]);
    let scaling = &mut fleet.control.scaling;
    scaling.caps.instances = instances;
    scaling.spare = 0;
    scaling.spares = Some(Spares {
        recogniser: "shelf".into(),
        photos,
        within: within * SECOND,
        start: 20 * SECOND,
        volume: 1_000,
    });
    fleet
}

fn resting(number: u64, stopped: bool) -> Resting {
    Resting {
        machine: InstanceId(format!("i-{number}")),
        pool: pool("a", Market::OnDemand),
        stopped,
        stopping: (!stopped).then_some(NOW),
        price: MicroUsd(200_000),
    }
}

fn idle(number: u64, market: Market) -> Unit {
    working(number, pool("a", market), Some(Time(NOW.0 - HOUR)))
}

fn grades(fleet: &Fleet) -> (u32, u32, u32) {
    let mix = mix(NOW, fleet).unwrap();
    (mix.hot, mix.stopped, mix.cold)
}

#[test]
fn the_mix_follows_from_deadline_caps_and_times_to_readiness() {
    // A cold machine does 60 photos in two minutes, a stopped one 100, a hot one 120.
    assert_eq!(grades(&keeping(600, 120, 10)), (0, 0, 10));
    assert_eq!(grades(&keeping(800, 120, 10)), (0, 5, 5));
    assert_eq!(grades(&keeping(1_100, 120, 10)), (5, 5, 0));
    // Within the time that a cold one takes only those that are kept do anything.
    assert_eq!(grades(&keeping(100, 40, 10)), (0, 5, 0));
    assert_eq!(grades(&keeping(100, 20, 10)), (5, 0, 0));
    let late = mix(NOW, &keeping(1_000, 20, 10)).unwrap();
    assert_eq!(
        (late.hot, late.late),
        (10, true),
        "as much as caps allow, and it is said"
    );
    let mut measured = keeping(100, 40, 10);
    let record = PoolRecord {
        restarted: vec![30 * SECOND],
        ..PoolRecord::default()
    };
    measured.pools.insert(pool("a", Market::OnDemand), record);
    assert_eq!(grades(&measured), (0, 10, 0), "as measured, not as said");
    assert_eq!(mix(NOW, &fleet(&[])), None);
}

#[test]
fn machines_on_demand_are_bought_to_stand_still_and_are_stopped_when_idle() {
    let mut fleet = keeping(100, 40, 10);
    assert_eq!(
        bought(&plan(&fleet)),
        [(5, Market::OnDemand, vec!["a", "b", "c"])]
    );
    let because = plan(&fleet).buy[0].because.ahead.clone();
    assert_eq!(because, Some(Ahead::Burst { hot: 0, stopped: 5 }));
    // Three stand still, two run and have nothing to do: these stop, and then a third one on spot goes.
    fleet.resting = (0..3).map(|n| resting(n, true)).collect();
    fleet.units = vec![
        idle(3, Market::OnDemand),
        idle(4, Market::OnDemand),
        idle(5, Market::Spot),
    ];
    let scale = plan(&fleet);
    let rest: Vec<_> = scale
        .rest
        .iter()
        .map(|one| (one.machine.0.as_str(), one.idle))
        .collect();
    assert_eq!(rest, [("i-3", HOUR), ("i-4", HOUR)]);
    assert!(scale.let_go.is_empty() && scale.buy.is_empty() && scale.start.is_empty());
    let mut stopped = keeping(100, 40, 10);
    stopped.resting = (0..5).map(|n| resting(n, true)).collect();
    stopped.units = vec![idle(5, Market::Spot)];
    let scale = plan(&stopped);
    let gone: Vec<_> = scale
        .let_go
        .iter()
        .map(|one| (one.machine.0.as_str(), one.why))
        .collect();
    assert_eq!(gone, [("i-5", EndWhy::Idle)]);
    assert!(scale.rest.is_empty() && scale.buy.is_empty());
    fleet.control.frozen = Some(Freeze {
        by: "ann".into(),
        at: NOW,
        why: String::new(),
    });
    assert!(plan(&fleet).rest.is_empty(), "scale-in is frozen");
}

#[test]
fn hot_ones_stay_and_one_with_work_never_stops() {
    let mut fleet = keeping(1_100, 120, 10);
    fleet.resting = (0..5).map(|n| resting(n, true)).collect();
    fleet.units = (5..10).map(|n| idle(n, Market::OnDemand)).collect();
    let scale = plan(&fleet);
    assert!(scale.is_empty(), "five run and wait, five stand still: {scale:?}");
    let mut fleet = keeping(100, 40, 10);
    fleet.units = vec![working(1, pool("a", Market::OnDemand), None)];
    assert!(plan(&fleet).rest.is_empty());
}

#[test]
fn what_stands_still_is_started_before_anything_is_bought() {
    let mut fleet = keeping(100, 40, 100);
    fleet.needs[0].due = vec![(Some(later(180)), 1_000)];
    fleet.resting = vec![resting(0, true), resting(1, false), resting(2, true)];
    let scale = plan(&fleet);
    let started: Vec<_> = scale.start.iter().map(|one| one.machine.0.as_str()).collect();
    assert_eq!(started, ["i-0", "i-2"], "one has not stopped yet");
    let because = &scale.start[0].because;
    assert_eq!((because.missing, because.ready_in), (1_000, 20 * SECOND));
    // Each does 160 until then; for 680 in 120 s others are bought.
    assert_eq!(bought(&scale)[0].0, 6);
    assert_eq!(scale.buy[0].because.missing, 680);
    // A pool that had nothing for one is left alone, and its others with it.
    let record = PoolRecord {
        refusals: 1,
        closed_until: Some(later(30)),
        ..PoolRecord::default()
    };
    fleet.pools.insert(pool("a", Market::OnDemand), record);
    assert!(plan(&fleet).start.is_empty());
}

#[test]
fn what_is_kept_no_longer_ends() {
    let mut fleet = keeping(100, 40, 10);
    fleet.resting = (0..7).map(|n| resting(n, true)).collect();
    let gone = |fleet: &Fleet| {
        let scale = plan(fleet);
        assert!(scale.let_go.iter().all(|one| one.why == EndWhy::Spare));
        scale.let_go.len()
    };
    assert_eq!(gone(&fleet), 1, "a quarter more than are wanted stay");
    fleet.control.scaling.spares = None;
    assert_eq!(gone(&fleet), 7);
    let mut deaf = keeping(100, 40, 10);
    deaf.resting = fleet.resting.clone();
    deaf.market = Arc::default();
    assert_eq!(gone(&deaf), 0, "who hears no prices knows nothing to be too much");
}

#[test]
fn one_that_the_cloud_does_not_stop_ends() {
    let mut fleet = keeping(100, 40, 10);
    fleet.resting = (0..4)
        .map(|n| resting(n, true))
        .chain([resting(4, false)])
        .collect();
    assert!(plan(&fleet).is_empty());
    fleet.resting[4].stopping = Some(Time(NOW.0 - 16 * MINUTE));
    let gone: Vec<_> = plan(&fleet).let_go.into_iter().map(|one| one.machine.0).collect();
    assert_eq!(gone, ["i-4"]);
}

/// One machine on demand that has worked for so long, while spot costs 60 instead of its 200.
fn dear_one(worked: u64, due: u64) -> Fleet {
    let mut fleet = fleet(&[(Some(later(600)), due)]);
    let machine = Unit {
        since: Some(Time(NOW.0 - worked)),
        price: MicroUsd(200_000),
        ..working(1, pool("a", Market::OnDemand), None)
    };
    fleet.units = vec![machine];
    fleet
}

#[test]
fn a_dearer_machine_is_replaced_when_it_has_cost_much_more_than_that_takes() {
    // A minute of spot is what a replacement costs before it works; 140 more an hour come to ten of these after 258 s.
    assert!(plan(&dear_one(257 * SECOND, 300)).is_empty());
    let scale = plan(&dear_one(259 * SECOND, 300));
    assert_eq!(bought(&scale), [(1, Market::Spot, vec!["a"])]);
    assert!(scale.let_go.is_empty(), "replacement first");
    assert!(
        matches!(&scale.buy[0].because.ahead, Some(Ahead::Cheaper { machine, .. }) if machine.0 == "i-1")
    );
    // While that one is on its way nothing more is bought.
    let mut coming = dear_one(HOUR, 300);
    coming.units.push(unit(spot("a"), later(30)));
    assert!(plan(&coming).is_empty());
    // It works: the other one goes.
    let mut there = dear_one(HOUR, 300);
    there.units.push(working(2, spot("a"), None));
    let scale = plan(&there);
    assert_eq!(scale.let_go.len(), 1);
    assert_eq!(
        (scale.let_go[0].machine.0.as_str(), scale.let_go[0].why),
        ("i-1", EndWhy::TooDear)
    );
    // Unless both are needed.
    let mut both = dear_one(HOUR, 900);
    both.units.push(working(2, spot("a"), None));
    let scale = plan(&both);
    assert!(scale.let_go.is_empty() && scale.buy.len() == 1);
}

#[test]
fn nothing_is_replaced_for_work_that_is_soon_over() {
    // A photo a second, and a replacement that is ready in a minute.
    assert!(plan(&dear_one(HOUR, 120)).is_empty());
    assert_eq!(plan(&dear_one(HOUR, 121)).buy.len(), 1);
    let mut comes = dear_one(HOUR, 30);
    comes.last_work = Some(Time(NOW.0 - 60 * SECOND));
    assert!(plan(&comes).is_empty(), "none has come for a minute");
    comes.last_work = Some(Time(NOW.0 - 59 * SECOND));
    assert_eq!(plan(&comes).buy.len(), 1, "more may come");
}

#[test]
fn what_is_kept_on_demand_is_not_replaced() {
    let mut fleet = dear_one(HOUR, 300);
    fleet.units.push(working(2, spot("a"), None));
    let kept = keeping(1, 40, 10).control.scaling.spares;
    fleet.control.scaling.spares = kept;
    let scale = plan(&fleet);
    assert!(scale.let_go.is_empty() && scale.buy.is_empty(), "{scale:?}");
}

#[test]
fn a_hot_one_on_demand_is_let_go_when_a_spot_one_is_there_instead() {
    let mut fleet = keeping(40, 20, 10);
    let dear = Unit {
        since: Some(Time(NOW.0 - HOUR)),
        price: MicroUsd(200_000),
        ..idle(1, Market::OnDemand)
    };
    fleet.units = vec![dear, idle(2, Market::Spot)];
    assert_eq!(mix(NOW, &fleet).unwrap().hot, 2);
    let scale = plan(&fleet);
    assert_eq!(bought(&scale), [(1, Market::Spot, vec!["a"])]);
    assert!(scale.let_go.is_empty(), "without it one is lacking");
    let comes = Unit {
        worker: None,
        ..working(3, spot("a"), Some(NOW))
    };
    fleet.units.push(comes);
    assert!(plan(&fleet).is_empty(), "what comes is not there");
    fleet.units[2].worker = working(3, spot("a"), None).worker;
    let scale = plan(&fleet);
    let gone: Vec<_> = scale.let_go.iter().map(|one| one.machine.0.as_str()).collect();
    assert_eq!((gone, scale.buy.len()), (vec!["i-1"], 0), "and once");
}

#[test]
fn letting_a_hot_one_go_asks_for_no_other() {
    // Five run and five stand still; a burst left two more on spot.
    let mut fleet = keeping(1_100, 120, 20);
    fleet.control.scaling.caps.instances = 10;
    fleet.resting = (0..5).map(|n| resting(n, true)).collect();
    fleet.units = (5..12).map(|n| idle(n, Market::Spot)).collect();
    let scale = plan(&fleet);
    assert_eq!((scale.let_go.len(), scale.buy.len()), (2, 0));
    fleet.units.truncate(5);
    assert!(plan(&fleet).is_empty());
}

#[test]
fn nothing_is_replaced_by_what_may_not_be_bought() {
    let mut fleet = dear_one(HOUR, 300);
    for zone in ["a", "b", "c"] {
        let record = PoolRecord {
            dear: Some(NOW),
            flipped: Some(NOW),
            ..PoolRecord::default()
        };
        fleet.pools.insert(spot(zone), record);
    }
    assert!(plan(&fleet).buy.is_empty());
    // It may again since ten seconds ago: what was before does not count.
    for zone in ["a", "b", "c"] {
        let record = fleet.pools.get_mut(&spot(zone)).unwrap();
        (record.dear, record.flipped) = (None, Some(Time(NOW.0 - 10 * SECOND)));
    }
    assert!(plan(&fleet).buy.is_empty());
}

#[test]
fn a_reservation_has_machines_when_its_pool_has_none() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    let closed = PoolRecord {
        refusals: 3,
        closed_until: Some(later(900)),
        ..PoolRecord::default()
    };
    for zone in ["a", "b", "c"] {
        for market in [Market::Spot, Market::OnDemand] {
            fleet.pools.insert(pool(zone, market), closed.clone());
        }
    }
    assert!(plan(&fleet).buy.is_empty());
    fleet.control.scaling.commitments = vec![Commitment {
        region: "us-east-1".into(),
        zone_id: "b".into(),
        instance_type: "c5.xlarge".into(),
        machines: 3,
    }];
    let scale = plan(&fleet);
    assert_eq!(bought(&scale), [(3, Market::OnDemand, vec!["b"])]);
    assert!(scale.buy[0].because.committed);
    let there = (0..3).map(|n| working(n, pool("b", Market::OnDemand), None));
    fleet.units.extend(there);
    assert!(plan(&fleet).buy.is_empty(), "all of it is used");
}
