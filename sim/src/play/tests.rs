use std::collections::BTreeMap;

use rebound_core::bill::{Step, Terms};
use rebound_core::event::Fact;
use rebound_core::plan::capacity::Lacking;
use rebound_core::scaling::{Caps, Foresight, Mode, Scaling, Spares, Threshold};
use rebound_core::types::{Market, MicroUsd, Pool};

use super::*;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// 2016-04-19.
const BEGIN: u64 = 1_461_024_000 * SECOND;

/// A machine that has its notice holds nothing any more after so long: P1.
const HELD_MAX: u64 = 110 * SECOND;

fn pool(zone: &str) -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: zone.into(),
        instance_type: "c4.2xlarge".into(),
        market: Market::Spot,
    }
}

/// Three zones at a fifth of on-demand, which is 0.40 USD.
fn market(era: Era) -> Played {
    let zones = ["use1-az1", "use1-az2", "use1-az3"].map(pool);
    let step = |at| Step {
        at: Time(BEGIN + at),
        price: MicroUsd(80_000),
    };
    Played {
        era,
        spot: zones.iter().map(|pool| (pool.clone(), vec![step(0)])).collect(),
        on_demand: zones
            .iter()
            .map(|pool| (pool.clone(), MicroUsd(400_000)))
            .collect(),
        rooms: BTreeMap::new(),
        terms: Terms::default(),
        span: (Time(BEGIN), Time(BEGIN + 100 * HOUR)),
    }
}

fn scenario(market: Played, waves: Vec<Wave>) -> Scenario {
    Scenario {
        market: Arc::new(market),
        from: Time(BEGIN + HOUR),
        until: Time(BEGIN + 2 * HOUR),
        waves,
        deadline: 10 * MINUTE,
        photos_per_job: 12,
        photo: 2 * SECOND,
        boot: (25 * SECOND, 45 * SECOND),
        never_join: 0,
        policy: Scaling {
            mode: Mode::Act,
            caps: Caps {
                vcpus: 4_000,
                instances: 400,
                hour: 200_000_000,
                day: 1_000_000_000,
                ..Scaling::default().caps
            },
            ..Scaling::default()
        },
        nature: kind(),
        seed: 1,
    }
}

fn wave(photos: u64, over: u64) -> Wave {
    Wave {
        at: Time(BEGIN + HOUR + MINUTE),
        photos,
        over,
    }
}

#[test]
fn a_wave_is_done_in_time_and_the_books_agree() {
    let scenario = scenario(market(Era::Modern), vec![wave(3_000, MINUTE)]);
    let outcome = play(&scenario).expect("known types");
    assert_eq!((outcome.photos, outcome.jobs), (3_000, 250));
    assert_eq!(
        (outcome.unended, outcome.late_photos, outcome.late_jobs),
        (0, 0, 0)
    );
    assert!(outcome.machines > 0 && outcome.micro_usd > 0);
    let off = outcome.ledger_micro_usd.abs_diff(outcome.micro_usd);
    assert!(off * 100 <= outcome.micro_usd, "{outcome:?}");
    assert!(outcome.age.p50_us <= outcome.age.p99_us && outcome.age.max_us < scenario.deadline);
    assert_eq!(
        play(&scenario).expect("known types"),
        outcome,
        "one seed, one run"
    );
}

#[test]
fn what_is_kept_for_a_burst_stands_still_and_is_started_for_it() {
    let at = |minutes: u64| Wave {
        at: Time(BEGIN + HOUR + minutes * MINUTE),
        ..wave(1_000, SECOND)
    };
    let mut scenario = scenario(market(Era::Modern), vec![at(15), at(45)]);
    // Machines that are bought when it comes take most of the time that there is.
    scenario.deadline = 60 * SECOND;
    scenario.policy.spares = Some(Spares {
        recogniser: "noop".into(),
        photos: 1_000,
        within: 60 * SECOND,
        start: 30 * SECOND,
        volume: 1_000,
    });
    scenario.policy.caps.instances = 20;
    let outcome = play(&scenario).expect("known types");
    assert_eq!((outcome.unended, outcome.late_photos), (0, 0), "{outcome:?}");
    assert!(outcome.stops >= 2 && outcome.starts >= 2, "{outcome:?}");
    let off = outcome.ledger_micro_usd.abs_diff(outcome.micro_usd);
    assert!(off * 100 <= outcome.micro_usd, "{outcome:?}");
    let mut cold = scenario.clone();
    cold.policy.spares = None;
    let cold = play(&cold).expect("known types");
    assert!(cold.late_photos > 0, "without them the burst is late");
}

#[test]
fn too_dear_a_price_moves_the_work_and_takes_its_machines() {
    let mut played = market(Era::Auction);
    let dear = Step {
        at: Time(BEGIN + HOUR + 5 * MINUTE),
        price: MicroUsd(900_000),
    };
    played.spot.values_mut().for_each(|steps| steps.push(dear));
    let mut scenario = scenario(played, vec![wave(9_000, MINUTE)]);
    scenario.deadline = 15 * MINUTE;
    scenario.policy.threshold = Some(Threshold {
        high: 900,
        high_for: MINUTE,
        low: 700,
        low_for: 5 * MINUTE,
        hold: 10 * MINUTE,
    });
    let outcome = play(&scenario).expect("known types");
    assert_eq!((outcome.unended, outcome.rebounds), (0, 3), "{outcome:?}");
    assert!(outcome.interruptions > 0);
    assert!(outcome.notice_us <= HELD_MAX, "{} µs", outcome.notice_us);
    assert_eq!(outcome.notices_unmet, 0);
    let on_demand = outcome.story.iter().filter(
        |(_, fact)| matches!(fact, Fact::Launched { pools, .. } if pools[0].market == Market::OnDemand),
    );
    assert!(on_demand.count() > 0);
}

#[test]
fn a_template_whose_agents_never_join_stops_the_buying() {
    let mut scenario = scenario(market(Era::Modern), vec![wave(3_000, MINUTE)]);
    scenario.never_join = 1_000_000;
    let outcome = play(&scenario).expect("known types");
    assert!(
        (1..=5).contains(&outcome.machines),
        "{} machines",
        outcome.machines
    );
    assert_eq!((outcome.brakes, outcome.unended), (1, 3_000));
}

#[test]
fn pools_that_are_all_dry_are_not_asked_in_a_circle() {
    let mut played = market(Era::Modern);
    let dry: Vec<Pool> = played.spot.keys().cloned().collect();
    for pool in dry {
        let on_demand = Pool {
            market: Market::OnDemand,
            ..pool.clone()
        };
        for pool in [pool, on_demand] {
            // They have machines again half an hour later.
            let steps = vec![(Time(BEGIN), 0), (Time(BEGIN + HOUR + 31 * MINUTE), 200)];
            played.rooms.insert(pool, steps);
        }
    }
    let scenario = scenario(played, vec![wave(3_000, MINUTE)]);
    let outcome = play(&scenario).expect("known types");
    // Six pools, each first and then after 30 s, 1 min, 2 min, … 15 min.
    assert!(
        outcome.launch_calls <= 6 * 8,
        "{} launch calls in half an hour",
        outcome.launch_calls
    );
    assert_eq!((outcome.unended, outcome.late_photos), (0, 3_000));
    let short = |begins: bool| {
        let at = outcome.story.iter().find_map(|(at, fact)| match fact {
            Fact::Short { short } if short.is_some() == begins => Some((*at, *short)),
            _ => None,
        });
        at.expect("it is said")
    };
    let times = outcome
        .story
        .iter()
        .filter(|(_, fact)| matches!(fact, Fact::Short { .. }));
    assert_eq!(times.count(), 2, "it begins once and ends once");
    let (said, why) = short(true);
    assert!(said < Time(BEGIN + HOUR + 2 * MINUTE), "{said:?}");
    let why = why.expect("it begins");
    assert_eq!(why.why, Lacking::AllClosed);
    assert!(why.not_before.is_some_and(|at| at > said));
    assert!(short(false).0 > Time(BEGIN + HOUR + 31 * MINUTE));
}

/// 09:00 on each weekday of four weeks, but for one holiday in the fourth; from a Monday on.
fn mornings(photos: u64) -> (Vec<Wave>, Time, Time) {
    // 2016-04-25 is a Monday.
    let monday = 1_461_542_400 * SECOND;
    let mut waves = Vec::new();
    for day in (0..28).filter(|day| day % 7 < 5 && *day != 23) {
        waves.push(Wave {
            at: Time(monday + day * DAY + 9 * HOUR),
            photos,
            over: 0,
        });
    }
    (waves, Time(monday), Time(monday + 28 * DAY))
}

#[test]
#[ignore = "four weeks of virtual time: `make weeks` runs it"]
fn a_wave_each_morning_is_in_time_from_the_third_week_on_and_a_holiday_costs_one_floor() {
    let (waves, from, until) = mornings(1_200);
    let mut played = market(Era::Modern);
    // A price that moves a little each hour: one that never does is taken for a feed that froze.
    let steps = (from.0 - HOUR..until.0 + DAY)
        .step_by(HOUR as usize)
        .map(|at| Step {
            at: Time(at),
            price: MicroUsd(80_000 + at / HOUR % 2 * 100),
        });
    let steps: Vec<Step> = steps.collect();
    played.spot.values_mut().for_each(|of| *of = steps.clone());
    played.span = (steps[0].at, until);
    let mut scenario = scenario(played, waves.clone());
    (scenario.from, scenario.until) = (from, until);
    scenario.deadline = MINUTE;
    scenario.boot = (50 * SECOND, 60 * SECOND);
    scenario.policy.late_within = MINUTE;
    let blind = play(&scenario).expect("known types");
    scenario.policy.foresight = Foresight::Act;
    let sees = play(&scenario).expect("known types");
    assert_eq!((blind.unended, sees.unended), (0, 0));
    println!(
        "without: {} late of {}, {} USD; with: {} late, {} USD, {} machines; {:?}",
        blind.late_photos,
        blind.photos,
        blind.micro_usd as f64 / 1e6,
        sees.late_photos,
        sees.micro_usd as f64 / 1e6,
        sees.machines,
        (blind.submits_refused, sees.submits_refused)
    );
    assert!(
        blind.late_photos * 10 >= blind.photos * 9,
        "cold machines cannot do it"
    );
    // Two weeks, five waves each, are learnt from.
    assert_eq!(sees.late_by_wave[10..], [0; 9], "late from the third week on");
    // On the holiday: what the floor costs from its first machine to its last.
    let holiday = (from.0 + 23 * DAY, from.0 + 24 * DAY);
    let cost_of = |range: (u64, u64)| -> u64 {
        let lines = sees.bill.lines.iter();
        let within = lines.filter(|line| (range.0..range.1).contains(&line.from_us));
        within.map(|line| line.micro_usd).sum()
    };
    let before = (from.0 + 22 * DAY, from.0 + 23 * DAY);
    println!("a day: {}, the holiday: {}", cost_of(before), cost_of(holiday));
    assert!(cost_of(holiday) > 0 && cost_of(holiday) <= cost_of(before));
}

#[test]
fn a_zone_that_is_gone_in_three_minutes_is_made_up_for_in_a_quarter_of_an_hour() {
    let mut played = market(Era::Modern);
    let gone = HOUR + 20 * MINUTE;
    // The cheapest zone, so that there is something to lose.
    for step in played.spot.get_mut(&pool("use1-az1")).expect("a zone") {
        step.price = MicroUsd(70_000);
    }
    let on_demand = Pool {
        market: Market::OnDemand,
        ..pool("use1-az1")
    };
    for pool in [pool("use1-az1"), on_demand] {
        let at = |minutes: u64| Time(BEGIN + gone + minutes * MINUTE);
        let steps = vec![(Time(BEGIN), 200), (at(0), 2), (at(1), 1), (at(2), 0)];
        played.rooms.insert(pool, steps);
    }
    let minutes = (0..60).map(|minute| Wave {
        at: Time(BEGIN + HOUR + minute * MINUTE),
        photos: 1_800,
        over: MINUTE,
    });
    let mut scenario = scenario(played, minutes.collect());
    scenario.deadline = 4 * MINUTE;
    let outcome = play(&scenario).expect("known types");
    assert_eq!(outcome.unended, 0);
    assert!(
        outcome.interruptions >= 2,
        "{} interruptions",
        outcome.interruptions
    );
    let late = &outcome.late_by_wave;
    println!(
        "late by minute: {late:?}; {} machines at most",
        outcome.machines_most
    );
    assert!(outcome.notice_us > 0, "some had work when they were told");
    assert!(outcome.notice_us <= HELD_MAX, "{} µs", outcome.notice_us);
    assert_eq!(outcome.notices_unmet, 0);
    // What came just before it is in the hands that are lost.
    assert_eq!(late[..16].iter().sum::<u64>(), 0, "all was well before");
    assert_eq!(late[35..].iter().sum::<u64>(), 0, "and is again");
}
