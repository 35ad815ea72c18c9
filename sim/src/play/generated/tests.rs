use std::sync::Arc;

use rebound_core::scaling::{Caps, Mode, Scaling};
use rebound_core::types::Market;
use rebound_pricer::pool::is_zone_id;

use super::*;
use crate::play::{Scenario, Wave, crossings, kind, play};

const MINUTE: u64 = 60 * SECOND;

fn drawn(era: Era, seed: u64, length: u64, pools: &[&str]) -> Result<Played, String> {
    let from = begins(era);
    let pools: Vec<String> = pools.iter().map(|one| (*one).to_owned()).collect();
    let known = OnDemand::of_2016().expect("built in");
    let hours = (from, Time(from.0 + length));
    generated(era, seed, hours, &pools, &known).map_err(|error| error.to_string())
}

fn market(era: Era, seed: u64, hours: u64) -> Played {
    drawn(era, seed, hours * HOUR, &[]).expect("a market")
}

/// Rooms of a pool from the market's first hour to its last, and the one in force at the beginning.
fn rooms_within(played: &Played, pool: &Pool) -> Vec<u32> {
    let steps = &played.rooms[pool];
    let first = steps.partition_point(|(at, _)| *at <= played.span.0);
    let last = steps.partition_point(|(at, _)| *at <= played.span.1);
    let within = &steps[first.saturating_sub(1)..last];
    within.iter().map(|(_, room)| *room).collect()
}

#[test]
fn one_seed_is_one_market() {
    for era in [Era::Auction, Era::Modern] {
        let (one, again, other) = (market(era, 1, 48), market(era, 1, 48), market(era, 2, 48));
        assert_eq!((&one.spot, &one.rooms), (&again.spot, &again.rooms));
        assert_ne!(one.spot, other.spot);
        assert_eq!(one.rooms.is_empty(), era == Era::Auction);
        assert!(era == Era::Auction || one.rooms != other.rooms);
    }
}

#[test]
fn every_pool_has_a_price_before_the_first_hour_and_prices_of_its_own() {
    for era in [Era::Auction, Era::Modern] {
        let played = market(era, 3, 24);
        assert_eq!((played.era, played.spot.len()), (era, TYPES.len() * ZONES.len()));
        let begin = Time(begins(era).0 - 4 * HOUR);
        for (pool, steps) in &played.spot {
            assert!(
                is_zone_id(&pool.zone_id) && pool.region == "us-east-1",
                "{pool:?}"
            );
            assert!(played.spot_at(pool, begin).is_some(), "{pool:?}");
            assert!(
                steps.iter().all(|step| step.at.0 % SECOND == 0),
                "as the pricer reads them"
            );
            let like = played.spot.values().filter(|other| *other == steps).count();
            assert_eq!(like, 1, "pools are drawn by themselves");
        }
    }
}

/// Who asks for fewer pools, or for fewer hours, gets the same prices of them.
#[test]
fn a_part_of_a_market_is_the_same_market() {
    for era in [Era::Auction, Era::Modern] {
        let whole = market(era, 5, 48);
        let part = drawn(era, 5, 3 * HOUR, &["m4.10xlarge@us-east-1*"]).expect("a market");
        assert_eq!(part.spot.len(), ZONES.len());
        for (pool, steps) in &part.spot {
            assert!(whole.spot[pool].starts_with(steps), "{pool:?}");
            if era == Era::Modern {
                assert!(whole.rooms[pool].starts_with(&part.rooms[pool]), "{pool:?}");
            }
        }
    }
}

#[test]
fn auctions_pass_on_demand_and_take_machines() {
    let crosses = |seed| {
        let played = market(Era::Auction, seed, 24);
        let over = crossings(&played, played.span.0, played.span.1);
        for (at, pool, over) in &over {
            let bound = played.on_demand[pool];
            let before = Time(at.0 - SECOND);
            assert!(!over || played.outbid(pool, bound, before) == Some(*at));
        }
        over.len()
    };
    assert!((1..=4).map(crosses).sum::<usize>() > 0);
}

#[test]
fn modern_prices_stay_below_on_demand_and_capacity_falls_out() {
    let mut fell_out_alone = 0;
    for seed in 1..=4 {
        let played = market(Era::Modern, seed, 24);
        for (pool, steps) in &played.spot {
            let bound = played.on_demand[pool];
            assert!(steps.iter().all(|step| step.price < bound));
            assert_eq!(played.outbid(pool, MicroUsd(1), played.span.0), None);
            let rooms = rooms_within(&played, pool);
            assert!(rooms.iter().all(|room| *room == 0 || *room == POOL_ROOM));
        }
        let empty = played
            .spot
            .keys()
            .filter(|pool| rooms_within(&played, pool)[0] == 0);
        let empty = empty.count();
        fell_out_alone += usize::from(empty > 0 && empty < played.spot.len());
        assert!(
            played
                .spot
                .keys()
                .any(|pool| rooms_within(&played, pool).len() > 1)
        );
        assert!(played.rooms.keys().all(|pool| pool.market == Market::Spot));
    }
    assert!(fell_out_alone > 0, "one pool is empty while another is not");
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let none = drawn(Era::Modern, 1, HOUR, &["x9.large*"]).expect_err("no such pool");
    assert!(
        none.contains("--pools x9.large*") && none.contains("m4.10xlarge@us-east-1*"),
        "{none}"
    );
    let (from, unknown) = (begins(Era::Modern), OnDemand::new(None));
    let unknown = generated(Era::Modern, 1, (from, from), &[], &unknown).expect_err("no price");
    assert!(
        unknown.to_string().contains("--on-demand m3.large=USD"),
        "{unknown}"
    );
}

#[test]
fn a_generated_modern_market_is_played_to_its_end() {
    let played = market(Era::Modern, 1, 2);
    let (from, until) = played.span;
    let waves = [MINUTE, 70 * MINUTE].map(|after| Wave {
        at: Time(from.0 + after),
        photos: 3_000,
        over: MINUTE,
    });
    let scenario = Scenario {
        market: Arc::new(played),
        from,
        until,
        waves: waves.to_vec(),
        deadline: 15 * MINUTE,
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
    };
    let outcome = play(&scenario).expect("known types");
    assert_eq!((outcome.photos, outcome.unended), (6_000, 0));
    assert!(outcome.machines > 0 && outcome.micro_usd > 0);
    assert!(outcome.micro_usd <= outcome.on_demand_micro_usd);
}
