//! Where machines are bought: near the photos, where they may go, what is paid for, and what comes after the best.

use super::*;
use crate::observe::fleet::Place;
use crate::scaling::{Commitment, Escape};
use crate::types::EnvId;

const HOME: &str = "us-east-1";
const AWAY: &str = "eu-west-1";
const ENV: EnvId = EnvId(7);

/// The three zones, and one of another region where a machine costs so many thousandths of the cheapest of them; the way
/// there costs so many dollars a GB, in millionths, if anybody knows.
fn two_regions(away: u64, way: Option<u64>, place: Place) -> Fleet {
    let mut fleet = fleet(&[(Some(later(180)), 1_000)]);
    fleet.needs[0].place = place;
    fleet.needs[0].env = ENV;
    let mut market = market();
    let there = Pool {
        region: AWAY.into(),
        ..spot("e")
    };
    let price = 60_000 * away / 1_000;
    let quote = market.pools[&spot("a")].clone();
    let speed = market.speeds["shelf"][&spot("a")];
    market.pools.insert(
        there.clone(),
        Quote {
            price: MicroUsd(price),
            ..quote
        },
    );
    let machine = MicroUsd(speed.machine.0 * away / 1_000);
    market
        .speeds
        .get_mut("shelf")
        .expect("it is there")
        .insert(there, Speed { machine, ..speed });
    if let Some(way) = way {
        market.ways.insert((HOME.into(), AWAY.into()), MicroUsd(way));
    }
    fleet.market = Arc::new(market);
    fleet
}

fn at(home: &str, regions: &[&str]) -> Place {
    Place {
        home: home.into(),
        regions: regions.iter().map(|one| one.to_string()).collect(),
    }
}

/// Where the first launch goes.
fn first(fleet: &Fleet) -> Option<(String, Market, String)> {
    let scale = plan(fleet);
    let wanted = &scale.buy.first()?.wanted;
    Some((
        wanted.region.clone(),
        wanted.market,
        wanted.choices[0].zone_id.clone(),
    ))
}

fn region(fleet: &Fleet) -> Option<String> {
    first(fleet).map(|(region, ..)| region)
}

/// No pool of a region has anything.
fn dry(fleet: &mut Fleet, region: &str) {
    let closed = PoolRecord {
        closed_until: Some(later(60)),
        ..PoolRecord::default()
    };
    let pools: Vec<Pool> = fleet
        .market
        .pools
        .keys()
        .filter(|pool| pool.region == region)
        .cloned()
        .collect();
    fleet
        .pools
        .extend(pools.into_iter().map(|pool| (pool, closed.clone())));
}

#[test]
fn photos_stay_in_their_region_unless_another_saves_more_than_their_way_costs() {
    let home = || at(HOME, &[]);
    let cases = [
        // A fifth cheaper, and the way is free.
        (800, Some(0), home(), AWAY),
        // A twentieth cheaper: not enough for the latency.
        (950, Some(0), home(), HOME),
        // Half the price, and 3 GB for a thousand photos cost more than the machines.
        (500, Some(20_000), home(), HOME),
        // The same for photos of which nobody says where they are.
        (950, Some(20_000), Place::default(), AWAY),
        // Half the price, and nobody knows what the way costs.
        (500, None, home(), HOME),
    ];
    for (away, way, place, expected) in cases {
        let fleet = two_regions(away, way, place.clone());
        assert_eq!(
            region(&fleet).as_deref(),
            Some(expected),
            "{away} {way:?} {place:?}"
        );
    }
    let mut dry_home = two_regions(950, Some(20_000), home());
    dry(&mut dry_home, HOME);
    assert_eq!(region(&dry_home).as_deref(), Some(AWAY), "the region is dry");
    let mut unknown = two_regions(950, None, home());
    dry(&mut unknown, HOME);
    let scale = plan(&unknown);
    assert!(scale.buy.is_empty(), "the way is not known");
}

#[test]
fn an_environments_regions_are_kept_whatever_it_costs() {
    let mut fleet = two_regions(2_000, Some(1_000_000), at(HOME, &[AWAY]));
    assert_eq!(region(&fleet).as_deref(), Some(AWAY), "dearer, and far");
    dry(&mut fleet, AWAY);
    assert_eq!(region(&fleet), None, "dry: its photos wait");
    let short = plan(&fleet).short.flatten().expect("it is said");
    assert_eq!(short.why, Lacking::AllClosed);
    let nowhere = two_regions(500, Some(0), at(HOME, &["ap-south-1"]));
    assert_eq!(region(&nowhere), None);
}

#[test]
fn an_environments_money_buys_no_more_than_it_has() {
    let all: u32 = plan(&two_regions(1_000, None, at(HOME, &[])))
        .buy
        .iter()
        .map(|buy| buy.wanted.count)
        .sum();
    let mut fleet = two_regions(1_000, None, at(HOME, &[]));
    // A machine is reckoned to cost 200 thousandths of a dollar an hour, for five minutes: 16 667 millionths.
    fleet.left.insert(ENV, 40_000);
    let scale = plan(&fleet);
    let counts: Vec<u32> = scale.buy.iter().map(|buy| buy.wanted.count).collect();
    assert_eq!(counts, [2], "of {all}");
    assert_eq!(scale.buy[0].because.capped, Some(Capped::Environment));
    fleet.left.insert(ENV, 0);
    let scale = plan(&fleet);
    assert!(scale.buy.is_empty());
    let short = scale.short.flatten().expect("that photos will be late is said");
    assert_eq!(short.why, Lacking::Capped(Capped::Environment));
    // Another's money is another's.
    fleet.needs[0].env = EnvId(8);
    assert_eq!(
        plan(&fleet).buy.iter().map(|buy| buy.wanted.count).sum::<u32>(),
        all
    );
}

#[test]
fn what_comes_after_the_best_is_the_policys_to_say() {
    let closed = PoolRecord {
        closed_until: Some(later(60)),
        ..PoolRecord::default()
    };
    let mut fleet = fleet(&[(Some(later(180)), 1_000)]);
    let open = plan(&fleet);
    assert_eq!(open.buy[0].because.escape, None, "the best may be had");
    fleet.pools.insert(spot("a"), closed);
    let first = |fleet: &Fleet, escape: &[Escape]| {
        let mut fleet = fleet.clone();
        fleet.control.scaling.escape = escape.to_vec();
        let scale = plan(&fleet);
        let (wanted, because) = (&scale.buy[0].wanted, &scale.buy[0].because);
        assert_eq!(
            because.instead_of.as_ref().map(|one| one.2),
            Some(NotChosen::Closed)
        );
        (wanted.market, wanted.choices[0].zone_id.clone(), because.escape)
    };
    let zone = (Market::Spot, "b".to_owned(), Some(Escape::Zone));
    assert_eq!(first(&fleet, &[]), zone, "by cost");
    assert_eq!(first(&fleet, &[Escape::Zone]), zone);
    let on_demand = (Market::OnDemand, "a".to_owned(), Some(Escape::Market));
    assert_eq!(first(&fleet, &[Escape::Market, Escape::Zone]), on_demand);
}

#[test]
fn what_is_paid_for_comes_first_and_once() {
    let mut fleet = fleet(&[(Some(later(180)), 5_000)]);
    fleet.control.scaling.commitments = vec![Commitment {
        region: HOME.into(),
        zone_id: String::new(),
        instance_type: "c5.xlarge".into(),
        machines: 3,
    }];
    let bought = |fleet: &Fleet| -> Vec<(u32, Market, bool)> {
        let scale = plan(fleet);
        scale
            .buy
            .iter()
            .map(|buy| (buy.wanted.count, buy.wanted.market, buy.because.committed))
            .collect()
    };
    assert_eq!(
        bought(&fleet),
        [(3, Market::OnDemand, true), (41, Market::Spot, false)]
    );
    fleet
        .units
        .extend((0..2).map(|n| working(n, pool("b", Market::OnDemand), None)));
    assert_eq!(bought(&fleet)[0].0, 1, "two of the three are there");
    fleet.units.push(working(2, pool("c", Market::OnDemand), None));
    assert!(bought(&fleet).iter().all(|one| one.1 == Market::Spot));
}
