//! Real recordings: every file is read whole, the catalogue agrees with what EC2 says, and generated markets resemble
//! what was recorded. They are no part of the project; where they are absent each test says so and passes.

use std::path::PathBuf;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rebound_core::types::{MicroUsd, Time};
use rebound_pricer::book::{Bounds, PriceBook};
use rebound_pricer::catalogue::Catalogue;
use rebound_pricer::feed::{self, Capacity, Format, Parsed, Prices};
use rebound_pricer::generate::Era;
use rebound_pricer::generate::fit::{compare_capacity, compare_prices, prices};
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::{ZoneNames, chosen};
use rebound_pricer::series::Series;
use rebound_pricer::stats;

/// Later than all recordings.
const NOW: Time = Time(1_800_000_000_000_000);

/// A folder of recordings, from the environment or beside the checkout.
fn recordings(folder: &str) -> Option<PathBuf> {
    let named = std::env::var_os("REBOUND_SHARED_DATA").map(PathBuf::from);
    let data = named
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"))
        .join(folder);
    if !data.is_dir() {
        eprintln!("skipped: there are no recordings here ($REBOUND_SHARED_DATA)");
        return None;
    }
    Some(data)
}

fn read(path: PathBuf) -> (Format, Parsed) {
    let name = path.display().to_string();
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    feed::parse(&name, bytes, &ZoneNames::new(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn spot_prices(path: PathBuf) -> Prices {
    match read(path) {
        (_, Parsed::Prices(prices)) => prices,
        (format, _) => panic!("not prices but {format:?}"),
    }
}

fn capacity(path: PathBuf) -> Capacity {
    match read(path) {
        (_, Parsed::Capacity(capacity)) => capacity,
        (format, _) => panic!("not a capacity but {format:?}"),
    }
}

/// The history of the one pool that fits, on-demand prices given.
fn history(prices: &Prices, pattern: &str, listed: OnDemand) -> Series {
    let mut book = PriceBook::new(Bounds {
        points_per_pool: usize::MAX,
        ..Bounds::default()
    });
    book.set_on_demand(listed);
    for told in &prices.told {
        book.note(&told.pool, told.at, told.micros, NOW)
            .unwrap_or_else(|why| panic!("line {}: {why}", told.line));
    }
    let mut fitting = book
        .pools()
        .filter(|(pool, _)| chosen(&[pattern.to_owned()], pool));
    let (_, series) = fitting.next().expect("the pool is recorded");
    series.clone()
}

fn listed(types: &[(&str, u64)]) -> OnDemand {
    let mut all = OnDemand::new(None);
    for (name, micros) in types {
        all.list("us-east-1", name, Listed::Price(MicroUsd(*micros)))
            .unwrap();
    }
    all
}

#[test]
fn every_file_is_read_whole() {
    let Some(data) = recordings("spot-price") else {
        return;
    };
    let table = [
        ("ec2-2015-us-east-1.csv.gz", 69_242, 3),
        ("ec2-2016-us-east-1.csv.gz", 208_801, 20),
        ("ec2-2022-05-31-all-regions-snapshot.csv.gz", 9_281, 9_100),
        ("ec2-2024-eu-west-1.csv.gz", 2_880, 2),
    ];
    for (name, rows, pools) in table {
        let all = spot_prices(data.join(name));
        let seen: std::collections::BTreeSet<_> = all.told.iter().map(|told| &told.pool).collect();
        assert_eq!((all.told.len(), seen.len()), (rows, pools), "{name}");
    }
    let (_, Parsed::OnDemand(listed)) = read(data.join("ec2-on-demand-linux-2025-03.csv.gz")) else {
        panic!("not a list");
    };
    assert_eq!(
        (listed.len(), listed.as_of()),
        (12_835, Some(Time(1_740_787_200_000_000)))
    );
    let (_, Parsed::Advisor(advice)) = read(data.join("ec2-spot-advisor-linux-2025-07.csv.gz")) else {
        panic!("not an advisor");
    };
    assert_eq!(advice.len(), (14_962, 0));
}

#[test]
fn every_capacity_is_read_whole() {
    let Some(data) = recordings("spot-capacity") else {
        return;
    };
    let bamboo = capacity(data.join("bamboo-aws-g4dn.csv"));
    assert_eq!((bamboo.rows, bamboo.lost), (153, 74));
    let seen = stats::capacity(&bamboo).unwrap();
    assert!((500..600).contains(&seen.lost_khour), "{seen:?}");
    let zone = capacity(data.join("aws-02-15-2023/us-west-2b_v100_1.json.gz"));
    assert_eq!(zone.rows, 10_190);
    assert_eq!(stats::capacity(&zone).unwrap().available_permille, 853);
    let priced = capacity(data.join("aws-04-22-2023/us-west-2b_v100_1.json.gz"));
    assert_eq!(priced.prices, [(0, MicroUsd(918_000))], "the price never moved");
}

/// The advisor's file has vCPUs and memory of each type: nobody wrote the catalogue's tables from it.
#[test]
fn the_catalogue_agrees_with_the_advisor() {
    let Some(data) = recordings("spot-price") else {
        return;
    };
    let bytes = std::fs::read(data.join("ec2-spot-advisor-linux-2025-07.csv.gz")).unwrap();
    let text = String::from_utf8(feed::unpack("advisor", bytes).unwrap()).unwrap();
    let catalogue = Catalogue::built_in().unwrap();
    let (mut known, mut unknown) = (0, Vec::new());
    for line in text.lines().skip(1) {
        let row: Vec<&str> = line.split(',').collect();
        let [name, .., vcpu, gib] = row.as_slice() else {
            panic!("{line}")
        };
        let Some(facts) = catalogue.facts(name) else {
            unknown.push((*name).to_owned());
            continue;
        };
        if facts.metal {
            continue;
        }
        known += 1;
        let mib = gib.parse::<f64>().unwrap() * 1_024.0;
        assert_eq!(facts.vcpu.to_string(), *vcpu, "{name}");
        // Published sizes are rounded, to a tenth of a GiB and sometimes more.
        assert!(
            (f64::from(facts.memory_mib) - mib).abs() <= mib / 50.0 + 64.0,
            "{name}: {} MiB, not {mib}",
            facts.memory_mib
        );
    }
    unknown.sort();
    unknown.dedup();
    assert!(known > 13_000, "{known}");
    assert!(unknown.len() <= 10, "{unknown:?}");
}

#[test]
fn auctions_are_fitted() {
    let Some(data) = recordings("spot-price") else {
        return;
    };
    let all = spot_prices(data.join("ec2-2016-us-east-1.csv.gz"));
    let on_demand = MicroUsd(2_394_000);
    let series = history(
        &all,
        "m4.10xlarge@us-east-1a",
        listed(&[("m4.10xlarge", on_demand.0)]),
    );
    let (points, end) = (series.points(), series.heard());
    let fitted = prices(Era::Auction, points, end, on_demand).unwrap();
    let mut rng = SmallRng::seed_from_u64(7);
    let both = compare_prices(&fitted, points, end, on_demand, &mut rng).unwrap();
    let (was, is) = (both.recorded, both.generated);
    assert_eq!((was.mean_permille, was.max_permille), (382, 2_515), "{was:?}");
    assert!((640..=660).contains(&was.up_kday[2]), "{was:?}");
    let near = |a: u64, b: u64, percent: u64| a.abs_diff(b) * 100 <= a * percent;
    assert!(near(was.mean_permille, is.mean_permille, 10), "{both:?}");
    assert!(near(was.changes_kday, is.changes_kday, 5), "{both:?}");
    for mark in 0..3 {
        assert!(near(was.up_kday[mark], is.up_kday[mark], 25), "{both:?}");
        assert!(
            near(was.above_permille[mark], is.above_permille[mark], 25),
            "{both:?}"
        );
    }
}

#[test]
fn modern_prices_and_capacity_are_fitted() {
    let (Some(data), Some(zones)) = (recordings("spot-price"), recordings("spot-capacity")) else {
        return;
    };
    let all = spot_prices(data.join("ec2-2024-eu-west-1.csv.gz"));
    let listed = all.on_demand.clone().unwrap();
    let series = history(&all, "c5.large@*", listed);
    let (points, end) = (series.points(), series.heard());
    let fitted = prices(Era::Modern, points, end, MicroUsd(96_000)).unwrap();
    let mut rng = SmallRng::seed_from_u64(7);
    let both = compare_prices(&fitted, points, end, MicroUsd(96_000), &mut rng).unwrap();
    let (was, is) = (both.recorded, both.generated);
    assert!(was.mean_permille.abs_diff(is.mean_permille) <= 15, "{both:?}");
    assert!(
        was.changes_kday.abs_diff(is.changes_kday) * 10 <= was.changes_kday,
        "{both:?}"
    );
    assert_eq!((is.up_kday, is.above_permille), ([0; 3], [0; 3]));
    assert!(is.step_permille <= was.step_permille.max(10) * 3 / 2, "{both:?}");
    let recorded = capacity(zones.join("aws-02-15-2023/us-east-2b_v100_1.json.gz"));
    let (_, both) = compare_capacity(&recorded, &mut rng).unwrap();
    let (was, is) = (both.recorded, both.generated);
    assert!(
        was.available_permille.abs_diff(is.available_permille) <= 40,
        "{both:?}"
    );
    assert!(
        was.lost_khour.abs_diff(is.lost_khour) * 100 <= was.lost_khour * 15,
        "{both:?}"
    );
}
