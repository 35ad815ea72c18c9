use std::collections::BTreeMap;

use rebound_core::bill::{Step, Terms};
use rebound_core::event::Fact;
use rebound_core::scaling::{Caps, Mode, Scaling, Threshold};
use rebound_core::types::{Market, MicroUsd, Pool};

use super::*;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// 2016-04-19.
const BEGIN: u64 = 1_461_024_000 * SECOND;

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
    assert_eq!((outcome.unended, outcome.late_photos, outcome.late_jobs), (0, 0, 0));
    assert!(outcome.machines > 0 && outcome.micro_usd > 0);
    let off = outcome.ledger_micro_usd.abs_diff(outcome.micro_usd);
    assert!(off * 100 <= outcome.micro_usd, "{outcome:?}");
    assert!(outcome.age.p50_us <= outcome.age.p99_us && outcome.age.max_us < scenario.deadline);
    assert_eq!(play(&scenario).expect("known types"), outcome, "one seed, one run");
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
    let on_demand = outcome.story.iter().filter(|(_, fact)| {
        matches!(fact, Fact::Launched { market, .. } if *market == Market::OnDemand)
    });
    assert!(on_demand.count() > 0);
}
