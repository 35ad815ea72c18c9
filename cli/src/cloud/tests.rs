use rebound_core::bill::Step;
use rebound_core::types::{Market, MicroUsd, SECOND};
use rebound_pricer::on_demand::OnDemand;
use rebound_sim::cloud::Nature;

use super::*;

const CSV: &str = "instance_type,zone,epoch_s,usd_per_hour
m4.10xlarge,us-east-1a,1456400000,0.5
m4.10xlarge,us-east-1a,1456403600,2.5
m4.10xlarge,us-east-1a,1456407200,0.6
m3.large,us-east-1a,1456400000,0.02
";

fn at(seconds: u64) -> Time {
    Time((1_456_400_000 + seconds) * SECOND)
}

fn played(pools: &str) -> Result<Played, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("prices.csv");
    std::fs::write(&path, CSV).expect("written");
    let known = OnDemand::of_2016().expect("built in");
    Played::load(&path, &[pools.to_owned()], &known, None).map_err(|error| error.to_string())
}

fn pool(market: Market) -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: "us-east-1a".into(),
        instance_type: "m4.10xlarge".into(),
        market,
    }
}

#[test]
fn the_auction_takes_whoever_pays_less() {
    let played = played("m4.10xlarge*").expect("a recording");
    assert_eq!(played.era, Era::Auction, "of 2016");
    let outbid = |bound, from| played.outbid(&pool(Market::Spot), MicroUsd(bound), at(from));
    assert_eq!(outbid(2_394_000, 0), Some(at(3_600)));
    assert_eq!(outbid(2_394_000, 4_000), Some(at(4_000)), "at once");
    assert_eq!(outbid(2_394_000, 7_200), None);
    assert_eq!(outbid(2_500_000, 0), None, "whoever pays as much stays");
    assert_eq!(played.outbid(&pool(Market::OnDemand), MicroUsd(1), at(0)), None);
    let modern = Played {
        era: Era::Modern,
        ..played.clone()
    };
    assert_eq!(modern.outbid(&pool(Market::Spot), MicroUsd(1), at(0)), None);
    let crossed = crossings(&played, at(0), at(10_000));
    let crossed: Vec<(Time, bool)> = crossed.into_iter().map(|(at, _, over)| (at, over)).collect();
    assert_eq!(crossed, [(at(3_600), true), (at(7_200), false)]);
}

#[test]
fn prices_are_told_as_the_pricer_reads_them() {
    let played = played("m4.10xlarge*").expect("a recording");
    let told = |after, until| played.csv(at(after), at(until)).lines().count();
    assert_eq!(told(0, 0), 2, "its head, and the price in force");
    assert_eq!(told(3_600, 7_199), 2);
    assert_eq!(told(0, 7_200), 4, "nothing of the future");
    assert!(
        played
            .csv(at(0), at(0))
            .ends_with("m4.10xlarge,us-east-1a,1456400000,0.500000\n")
    );
}

#[test]
fn what_cannot_be_played_is_said() {
    let none = played("c5.large*").expect_err("not in it");
    assert!(none.contains("--pools"), "{none}");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("prices.csv");
    let known = OnDemand::of_2016().expect("built in");
    let load = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Played::load(&path, &[], &known, None)
            .expect_err("wrong")
            .to_string()
    };
    let zero = load("instance_type,zone,epoch_s,usd_per_hour\nm3.large,us-east-1a,1456400000,0\n");
    assert!(zero.contains(":2: usd_per_hour"), "{zero}");
    let unknown = load("instance_type,zone,epoch_s,usd_per_hour\nx9.large,us-east-1a,1456400000,1\n");
    assert!(unknown.contains("--on-demand x9.large=USD"), "{unknown}");
}

#[test]
fn machines_are_billed_from_running_at_the_price_in_force() {
    let played = played("m4.10xlarge*").expect("a recording");
    let mut sim = SimCloud::new(
        Nature {
            room: 9,
            quota: 400,
            ..Nature::default()
        },
        Rng::new(1),
    );
    let instance = |market, from: u64, to: u64, taken| rebound_sim::cloud::Instance {
        pool: pool(market),
        vcpus: 40,
        launch: rebound_core::types::LaunchId(1),
        began: at(from).0,
        shown: at(from).0,
        runs: at(from).0,
        stopped: None,
        ran: Vec::new(),
        ended: Some((at(to).0, taken)),
    };
    // It stood still for an hour between its first hour and half another.
    let mut kept = instance(Market::OnDemand, 7_200, 9_000, false);
    kept.ran = vec![(at(0).0, at(3_600).0)];
    sim.volume = MicroUsd(1_000);
    let machines = [
        instance(Market::Spot, 1_800, 5_400, true),
        instance(Market::OnDemand, 0, 3_600, false),
        kept,
    ];
    for (number, machine) in machines.into_iter().enumerate() {
        sim.instances.insert(InstanceId(format!("i-{number}")), machine);
    }
    let cost = cost(&sim, &played, at(100_000));
    // Half an hour at 0.5, and half an hour at 2.5, of which nobody pays more than on-demand's 2.394.
    let micro: Vec<u64> = cost.lines.iter().map(|line| line.micro_usd).collect();
    let spared = 2_394_000 * 3 / 2 + 1_000;
    assert_eq!(micro, [250_000 + 1_197_000, 2_394_000, spared]);
    let on_demand = 2 * 2_394_000 + spared;
    assert_eq!((cost.taken, cost.on_demand_micro_usd), (1, on_demand));
    let steps = &played.spot[&pool(Market::Spot)];
    assert_eq!(steps.first().map(|step: &Step| step.price.0), Some(500_000));
}
