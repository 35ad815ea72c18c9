//! Tests of the policy that buys machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::market::{Market as Prices, Quote, Speed};
use crate::observe::fleet::{Need, Place, Unit};
use crate::scaling::{Caps, Scaling, Threshold};
use crate::state::buying::Committed;
use crate::state::control::{Brake, Control, Freeze};
use crate::state::pools::PoolRecord;
use crate::state::ready::Ready;
use crate::types::{EnvId, Market, Resources, SECOND, WorkerId};

mod bounds;
mod burst;
mod choice;
mod kept;

const MINUTE: u64 = 60 * SECOND;
const NOW: Time = Time(1_000_000 * SECOND);
const SPEC: SpecId = SpecId(5);

fn later(seconds: u64) -> Time {
    Time(NOW.0 + seconds * SECOND)
}

fn pool(zone: &str, market: Market) -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: zone.into(),
        instance_type: "c5.xlarge".into(),
        market,
    }
}

fn spot(zone: &str) -> Pool {
    pool(zone, Market::Spot)
}

/// Three zones: spot at 60, 61 and 62 thousandths of a dollar, on demand at 200; a photo a second and machine.
fn market() -> Prices {
    let mut market = Prices {
        heard: NOW,
        ..Prices::default()
    };
    let mut speeds = BTreeMap::new();
    for (at, zone) in ["a", "b", "c"].into_iter().enumerate() {
        for (pool, price) in [
            (spot(zone), 60_000 + 1_000 * at as u64),
            (pool(zone, Market::OnDemand), 200_000),
        ] {
            let quote = Quote {
                price: MicroUsd(price),
                on_demand: MicroUsd(200_000),
                lately: vec![(Time(0), MicroUsd(price))],
                vcpus: 4,
                resources: Resources::default(),
                interruptions: 0,
            };
            market.pools.insert(pool.clone(), quote);
            let machine = MicroUsd(price / 3_600 * 1_000);
            speeds.insert(
                pool,
                Speed {
                    slots: 4,
                    us_per_photo: SECOND,
                    machine,
                    ..Speed::default()
                },
            );
        }
    }
    market.speeds.insert("shelf".into(), speeds);
    market
}

fn scaling() -> Scaling {
    let caps = Caps {
        instances: 1_000,
        vcpus: 4_000,
        hour: 1_000_000_000,
        day: 1_000_000_000,
        committed: 5 * MINUTE,
    };
    Scaling {
        mode: Mode::Act,
        ready: MINUTE,
        caps,
        ..Scaling::default()
    }
}

fn fleet(due: &[(Option<Time>, u64)]) -> Fleet {
    let need = Need {
        spec: SPEC,
        env: EnvId(1),
        place: Place::default(),
        recogniser: "shelf".into(),
        resources: Resources::default(),
        due: due.to_vec(),
    };
    Fleet {
        control: Control {
            scaling: scaling(),
            proven: 1,
            ..Control::default()
        },
        market: Arc::new(market()),
        needs: vec![need],
        ..Fleet::default()
    }
}

fn unit(pool: Pool, ready: Time) -> Unit {
    Unit {
        since: None,
        machine: None,
        pool,
        worker: None,
        ready,
        speeds: BTreeMap::from([(SPEC, SECOND)]),
        held: 0,
        idle: None,
        leaves: false,
        over: None,
        paid_for_until: ready,
        price: MicroUsd(60_000),
    }
}

fn working(number: u64, pool: Pool, idle: Option<Time>) -> Unit {
    Unit {
        since: Some(NOW),
        machine: Some(InstanceId(format!("i-{number}"))),
        worker: Some(WorkerId(number)),
        held: u64::from(idle.is_none()),
        idle,
        paid_for_until: NOW,
        ..unit(pool, NOW)
    }
}

fn plan(fleet: &Fleet) -> Scale {
    capacity(1, NOW, fleet)
}

fn bought(scale: &Scale) -> Vec<(u32, Market, Vec<&str>)> {
    scale
        .buy
        .iter()
        .map(|buy| {
            let zones = buy
                .wanted
                .choices
                .iter()
                .map(|choice| choice.zone_id.as_str())
                .collect();
            (buy.wanted.count, buy.wanted.market, zones)
        })
        .collect()
}

#[test]
fn a_burst_is_sized_for_its_deadline_with_the_time_that_machines_take() {
    // 5 000 photos of a machine's second, in 180 s of which a minute is for getting ready: 42, and a twentieth more.
    let scale = plan(&fleet(&[(Some(later(180)), 5_000)]));
    assert_eq!(bought(&scale), [(44, Market::Spot, vec!["a", "b", "c"])]);
    let because = &scale.buy[0].because;
    assert_eq!(
        (because.photos, because.missing, because.due),
        (5_000, 5_000, later(180))
    );
    assert_eq!(
        (because.ready_in, because.machines, because.capped),
        (MINUTE, 44, None)
    );
    let (instead, _, why) = because.instead_of.as_ref().expect("there are others");
    assert_eq!((instead.market, *why), (Market::OnDemand, NotChosen::Dearer));
}

#[test]
fn what_is_there_and_what_comes_is_counted() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    fleet.units.extend((0..20).map(|n| working(n, spot("a"), None)));
    fleet.units.extend((0..10).map(|_| unit(spot("b"), later(30))));
    // 20 × 180 and not quite 10 × 150 photos: nothing is missing but the odd ones.
    let missing: u64 = super::size::gaps(NOW, &fleet).iter().map(Gap::count).sum();
    assert_eq!(missing, 0);
    fleet.units.truncate(25);
    assert_eq!(
        super::size::gaps(NOW, &fleet)[0].count(),
        5_000 - 20 * 180 - 5 * 150
    );
    fleet.units[0].leaves = true;
    assert_eq!(
        super::size::gaps(NOW, &fleet)[0].count(),
        5_000 - 19 * 180 - 5 * 150
    );
}

#[test]
fn each_deadline_is_met_and_the_tightest_decides() {
    let rate = |due: &[(u64, u64)]| {
        let missing = due.iter().map(|(at, photos)| (later(*at), *photos)).collect();
        let gap = Gap {
            env: EnvId(1),
            place: Place::default(),
            spec: SPEC,
            recogniser: "shelf".into(),
            photos: 0,
            missing,
        };
        let (rate, due) = gap.rate(NOW, MINUTE, 3 * MINUTE);
        (
            rate * u128::from(SECOND) / super::size::RATE,
            (due.0 - NOW.0) / SECOND,
        )
    };
    assert_eq!(rate(&[(120, 600), (240, 600)]), (10, 120));
    assert_eq!(rate(&[(120, 60), (240, 3_540)]), (20, 240));
    // What no machine could do in time has the time for late ones, from when it is ready.
    assert_eq!(rate(&[(30, 1_800)]), (10, 240));
}

#[test]
fn a_plan_is_a_fixed_point_once_its_machines_come() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000), (None, 900)]);
    let scale = plan(&fleet);
    for buy in &scale.buy {
        let choices = buy.wanted.choices.iter().cycle().take(buy.wanted.count as usize);
        fleet
            .units
            .extend(choices.map(|choice| unit(buy.wanted.pool(choice), later(60))));
    }
    fleet.last_launch = Some(NOW);
    assert_eq!(
        plan(&fleet),
        Scale {
            at: 1,
            ..Scale::default()
        }
    );
}

#[test]
fn pools_that_are_out_of_the_question_say_why() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    let record = |change: fn(&mut PoolRecord)| {
        let mut record = PoolRecord::default();
        change(&mut record);
        record
    };
    fleet.pools.insert(
        spot("a"),
        record(|one| one.banned = Some((later(60), "so".into()))),
    );
    fleet.pools.insert(
        spot("b"),
        record(|one| (one.refusals, one.closed_until) = (1, Some(later(9)))),
    );
    let scale = plan(&fleet);
    assert_eq!(bought(&scale)[0].2, ["c"]);
    assert_eq!(
        scale.buy[0].because.instead_of.as_ref().expect("two").2,
        NotChosen::Banned
    );
    fleet.pools.insert(spot("c"), record(|one| one.dear = Some(NOW)));
    assert_eq!(
        bought(&plan(&fleet)),
        [(44, Market::OnDemand, vec!["a", "b", "c"])]
    );
    fleet.control.scaling.on_demand = false;
    assert_eq!(plan(&fleet).buy, []);
}

#[test]
fn a_pool_that_had_nothing_is_asked_for_one_machine_when_its_time_has_come() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    let record = PoolRecord {
        refusals: 3,
        closed_until: Some(NOW),
        ..PoolRecord::default()
    };
    fleet.pools.insert(spot("a"), record);
    let found = plan(&fleet);
    let found = bought(&found);
    assert!(found.contains(&(1, Market::Spot, vec!["a"])), "{found:?}");
    assert!(
        found
            .iter()
            .any(|(count, _, zones)| *count > 40 && *zones == ["b", "c"]),
        "{found:?}"
    );
    // One that was asked is not asked again before it has answered.
    fleet.units.push(unit(spot("a"), later(60)));
    assert!(
        bought(&plan(&fleet))
            .iter()
            .all(|(.., zones)| !zones.contains(&"a"))
    );
}

#[test]
fn old_prices_buy_no_spot() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    let heard = Time(NOW.0 - fleet.control.scaling.stale_after - 1);
    fleet.market = Arc::new(Prices { heard, ..market() });
    let scale = plan(&fleet);
    assert_eq!(scale.buy[0].wanted.market, Market::OnDemand);
    assert_eq!(
        scale.buy[0].because.instead_of.as_ref().expect("spot").2,
        NotChosen::PriceOld
    );
}

#[test]
fn caps_beat_deadlines_and_say_so() {
    let capped = |change: fn(&mut Fleet)| {
        let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
        fleet.committed = Committed {
            instances: 3,
            vcpus: 12,
            burn: 600_000,
        };
        change(&mut fleet);
        let scale = plan(&fleet);
        scale
            .buy
            .first()
            .map(|buy| (buy.wanted.count, buy.because.capped.expect("a cap")))
    };
    assert_eq!(
        capped(|one| one.control.scaling.caps.instances = 10),
        Some((7, Capped::Instances))
    );
    assert_eq!(
        capped(|one| one.control.scaling.caps.vcpus = 50),
        Some((9, Capped::Vcpus))
    );
    // Five minutes of 200 thousandths an hour: 16 667 millionths each, and 50 000 for what is there.
    let hour = |one: &mut Fleet| (one.control.scaling.caps.hour, one.spent) = (150_000, (10_000, 10_000));
    assert_eq!(capped(hour), Some((5, Capped::Hour)));
    assert_eq!(
        capped(|one| (one.control.scaling.caps.day, one.spent) = (150_000, (0, 60_000))),
        Some((2, Capped::Day))
    );
    assert_eq!(capped(|one| one.control.scaling.caps.instances = 3), None);
    assert_eq!(capped(|one| one.control.proven = 0), Some((2, Capped::Canary)));
}

#[test]
fn nothing_is_bought_while_a_person_or_a_brake_says_so() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    fleet.control.brake = Some((Brake::Launches { count: 9 }, NOW));
    assert_eq!(plan(&fleet).buy, []);
    fleet.control.brake = None;
    fleet.units.push(working(1, spot("a"), Some(Time(0))));
    fleet.needs.clear();
    assert_eq!(plan(&fleet).let_go.len(), 1);
    fleet.control.frozen = Some(Freeze {
        by: "ann".into(),
        at: NOW,
        why: "so".into(),
    });
    assert!(plan(&fleet).is_empty());
    fleet.control.scaling.mode = Mode::Off;
    assert!(plan(&fleet).is_empty());
}

#[test]
fn machines_of_which_nothing_comes_any_more_end_whatever_is_frozen() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    fleet.control.frozen = Some(Freeze {
        by: "ann".into(),
        at: NOW,
        why: "so".into(),
    });
    fleet.units = vec![Unit {
        over: Some(EndWhy::Drained),
        leaves: true,
        ..working(1, spot("a"), Some(NOW))
    }];
    let gone: Vec<EndWhy> = plan(&fleet).let_go.iter().map(|one| one.why).collect();
    assert_eq!(gone, [EndWhy::Drained]);
}

#[test]
fn an_idle_machine_stays_as_long_as_another_one_would_take() {
    let mut fleet = fleet(&[]);
    let gone = |fleet: &Fleet| {
        plan(fleet)
            .let_go
            .iter()
            .map(|one| (one.why, one.idle, one.keep))
            .collect::<Vec<_>>()
    };
    let since = |seconds: u64| Some(Time(NOW.0 - seconds * SECOND));
    fleet.units = vec![working(1, spot("a"), since(59)), working(2, spot("a"), None)];
    assert_eq!(gone(&fleet), []);
    fleet.units[0].idle = since(60);
    assert_eq!(gone(&fleet), [(EndWhy::Idle, MINUTE, MINUTE)]);
    fleet.units[0].paid_for_until = later(1);
    assert_eq!(gone(&fleet), [], "its minute is paid for");
    fleet.units[0].paid_for_until = NOW;
    let slow = PoolRecord {
        ready: vec![Ready {
            boot: 2 * MINUTE,
            ..Ready::default()
        }],
        ..PoolRecord::default()
    };
    fleet.pools.insert(spot("a"), slow);
    assert_eq!(gone(&fleet), []);
}

fn priced(points: &[(u64, u64)]) -> Quote {
    let lately = points
        .iter()
        .map(|(ago, share)| (Time(NOW.0 - ago * SECOND), MicroUsd(share * 200)));
    Quote {
        on_demand: MicroUsd(200_000),
        lately: lately.collect(),
        ..Quote::default()
    }
}

#[test]
fn spot_is_dear_after_a_while_above_and_cheap_after_a_while_below() {
    let threshold = Threshold {
        high: 850,
        high_for: 5 * MINUTE,
        low: 700,
        low_for: 15 * MINUTE,
        hold: 30 * MINUTE,
    };
    let flips = |points: &[(u64, u64)], dear: Option<u64>, flipped: Option<u64>| {
        let mut fleet = fleet(&[]);
        fleet.control.scaling.threshold = Some(threshold);
        let mut prices = market();
        prices.pools = BTreeMap::from([(spot("a"), priced(points))]);
        fleet.market = Arc::new(prices);
        let ago = |seconds: u64| Time(NOW.0 - seconds * SECOND);
        let record = PoolRecord {
            dear: dear.map(ago),
            flipped: flipped.map(ago),
            ..PoolRecord::default()
        };
        fleet.pools.insert(spot("a"), record);
        plan(&fleet)
            .dear
            .into_iter()
            .map(|flip| flip.dear)
            .collect::<Vec<_>>()
    };
    assert_eq!(flips(&[(3_600, 300), (301, 850)], None, None), [true]);
    assert_eq!(
        flips(&[(3_600, 300), (299, 850)], None, None),
        [] as [bool; 0],
        "not for long enough"
    );
    assert_eq!(
        flips(&[(3_600, 900), (100, 849), (50, 900)], None, None),
        [] as [bool; 0],
        "it dipped"
    );
    assert_eq!(
        flips(&[(3_600, 900)], Some(1_900), Some(1_900)),
        [] as [bool; 0],
        "it still is"
    );
    assert_eq!(
        flips(&[(3_600, 900), (901, 700)], Some(1_900), Some(1_900)),
        [false]
    );
    assert_eq!(
        flips(&[(3_600, 900), (901, 700)], Some(1_700), Some(1_700)),
        [] as [bool; 0],
        "the hold"
    );
    assert_eq!(
        flips(&[(3_600, 900), (901, 701)], Some(1_900), Some(1_900)),
        [] as [bool; 0],
        "between the two"
    );
}

#[test]
fn what_is_too_dear_goes_when_others_have_taken_its_place() {
    let mut fleet = fleet(&[(Some(later(180)), 100)]);
    let threshold = Threshold {
        high: 850,
        high_for: 1,
        low: 700,
        low_for: 1,
        hold: 1,
    };
    fleet.control.scaling.threshold = Some(threshold);
    let mut prices = market();
    let quote = Quote {
        on_demand: MicroUsd(200_000),
        ..prices.pools[&spot("a")].clone()
    };
    prices.pools.insert(
        spot("a"),
        Quote {
            lately: vec![(Time(0), MicroUsd(190_000))],
            ..quote
        },
    );
    fleet.market = Arc::new(prices);
    let dear = PoolRecord {
        dear: Some(NOW),
        flipped: Some(NOW),
        ..PoolRecord::default()
    };
    fleet.pools.insert(spot("a"), dear);
    fleet.units = vec![working(1, spot("a"), None)];
    let scale = plan(&fleet);
    assert_eq!(
        (bought(&scale).len(), scale.let_go.len()),
        (1, 0),
        "replacement first"
    );
    fleet.units.push(unit(spot("b"), later(20)));
    fleet.last_launch = Some(NOW);
    assert!(plan(&fleet).is_empty(), "it has not joined");
    fleet.units[1] = working(2, spot("b"), None);
    let scale = plan(&fleet);
    assert_eq!(
        scale
            .let_go
            .iter()
            .map(|one| (one.machine.0.as_str(), one.why))
            .collect::<Vec<_>>(),
        [("i-1", EndWhy::TooDear)]
    );
}

#[test]
fn what_is_late_is_bought_for_once_however_long_machines_take() {
    let mut fleet = fleet(&[(Some(Time(NOW.0 - SECOND)), 300)]);
    // Less than the minute that a machine takes: those that come would never be in time for it.
    fleet.control.scaling.late_within = 30 * SECOND;
    let first = plan(&fleet).buy;
    let bought: u32 = first.iter().map(|buy| buy.wanted.count).sum();
    assert!((10..=12).contains(&bought), "{bought}");
    for buy in &first {
        let choices = buy.wanted.choices.iter().cycle().take(buy.wanted.count as usize);
        let ready = Time(NOW.0 + MINUTE);
        fleet
            .units
            .extend(choices.map(|choice| unit(buy.wanted.pool(choice), ready)));
    }
    fleet.last_launch = Some(NOW);
    for second in [1, 5, 30, 59] {
        let now = Time(NOW.0 + second * SECOND);
        assert_eq!(capacity(1, now, &fleet).buy, [], "after {second} s");
    }
}
