use proptest::prelude::*;

use super::*;
use crate::on_demand::{Listed, OnDemand};
use crate::pool::{ZoneNames, spot};

const AT: Time = Time(1_700_000_000_000_000);

/// What the tests' market is made of.
struct Stage {
    catalogue: Catalogue,
    throughputs: Throughputs,
    advice: Advice,
    risks: Risks,
    transfers: Transfers,
    book: PriceBook,
    photos: Photos,
    limits: Limits,
}

/// Three types with on-demand prices in two regions; photos of 3 MB in eu-west-1.
fn stage() -> Stage {
    let mut prices = OnDemand::new(None);
    for region in ["us-east-1", "eu-west-1"] {
        for (name, micros) in [
            ("c5.large", 90_000),
            ("c5.xlarge", 180_000),
            ("t3.medium", 42_000),
        ] {
            prices
                .list(region, name, Listed::Price(MicroUsd(micros)))
                .unwrap();
        }
    }
    let mut book = PriceBook::default();
    book.set_on_demand(prices);
    Stage {
        catalogue: Catalogue::built_in().unwrap(),
        throughputs: Throughputs::default(),
        advice: Advice::default(),
        risks: Risks::default(),
        transfers: Transfers::built_in().unwrap(),
        book,
        photos: Photos {
            region: Some("eu-west-1".into()),
            bytes: 3_000_000,
            nat: Nat::Away,
        },
        limits: Limits::default(),
    }
}

impl Stage {
    fn price(&mut self, name: &str, zone: &str, micros: i64) -> Pool {
        let pool = spot(name, zone, &ZoneNames::new()).unwrap();
        self.book.note(&pool, Time(1), micros, AT).unwrap();
        pool
    }

    fn rank(&self) -> Ranking {
        self.rank_of(&candidates(&self.book))
    }

    fn rank_of(&self, pools: &[Pool]) -> Ranking {
        let known = Known {
            catalogue: &self.catalogue,
            throughputs: &self.throughputs,
            advice: &self.advice,
            risks: &self.risks,
            transfers: &self.transfers,
        };
        let need = Need::new("shelf-text", 1_024);
        rank(
            &known,
            &self.limits,
            &need,
            &self.photos,
            pools,
            AT,
            &from_book(&self.book, AT),
        )
    }
}

#[test]
fn each_part_is_its_own_column() {
    let mut stage = stage();
    stage
        .throughputs
        .note("shelf-text", "c5.large", 1_000, 1_000_000_000)
        .unwrap();
    let near = stage.price("c5.large", "euw1-az1", 36_000);
    let far = stage.price("c5.large", "use1-az1", 18_000);
    let rows = stage.rank().rows;
    let find = |pool: &Pool| rows.iter().find(|row| row.pool == *pool).unwrap();
    // A photo a second for .036 USD an hour: .01 USD a thousand. Risk: 222 in a million hours lose two minutes each
    // (7 ppm), and one launch in ten fails (1/9 of 30 s in an hour: 926 ppm).
    let home = find(&near);
    assert_eq!(
        (home.machine_k.0, home.risk_k.0, home.total_k.0),
        (10_000, 9, 10_009)
    );
    assert_eq!((home.transfer_k.0, home.nat_k.0, home.cap), (0, 0, None));
    let away = find(&far);
    assert_eq!(
        (away.machine_k.0, away.transfer_k.0, away.nat_k.0),
        (5_000, 60_000, 135_000)
    );
    assert_eq!(
        away.break_even,
        Some(MicroUsd(0)),
        "the photos' way alone costs more"
    );
    assert_eq!(rows[0].pool, near);
    assert_eq!(place(&rows, "eu-west-1"), Place::Home);
}

#[test]
fn what_was_never_measured_may_be_probed_once() {
    let mut stage = stage();
    stage.price("c5.large", "euw1-az1", 36_000);
    let rows = stage.rank().rows;
    assert!(rows.iter().all(|row| row.cap == Some(1) && !row.speed.measured));
}

#[test]
fn a_burstable_type_is_as_dear_as_its_baseline() {
    let mut stage = stage();
    let burst = stage.price("t3.medium", "euw1-az1", 12_000);
    let steady = stage.price("c5.large", "euw1-az1", 36_000);
    let rows = stage.rank_of(&[burst, steady.clone()]).rows;
    assert_eq!(
        rows[0].pool, steady,
        "a third of the price at a fifth of the speed"
    );
}

#[test]
fn interruptions_and_failed_launches_cost() {
    let mut stage = stage();
    let calm = stage.price("c5.large", "euw1-az1", 36_100);
    let rough = stage.price("c5.large", "euw1-az2", 36_000);
    assert_eq!(stage.rank().rows[0].pool, rough);
    for _ in 0..50 {
        stage.risks.note_running(&rough, 3_600_000_000, AT);
        stage.risks.note_interruption(&rough, AT);
    }
    let rows = stage.rank().rows;
    assert_eq!(rows[0].pool, calm);
    let row = rows.iter().find(|row| row.pool == rough).unwrap();
    assert!(row.risk_k.0 > row.machine_k.0 / 100, "{row:?}");
}

#[test]
fn what_may_not_be_bought_is_not_ranked() {
    let mut stage = stage();
    let no_reference = spot("m5.large", "euw1-az1", &ZoneNames::new()).unwrap();
    stage.book.note(&no_reference, Time(1), 30_000, AT).unwrap();
    let abroad = stage.price("c5.large", "use1-az1", 1_000);
    stage.limits.regions = vec!["eu-west-1".into()];
    let ranking = stage.rank_of(&[no_reference.clone(), abroad.clone()]);
    assert!(ranking.rows.is_empty());
    let unknown = Barred::Price(NotBuyable::OnDemandUnknown);
    assert_eq!(ranking.barred[0], (no_reference, unknown));
    assert_eq!(ranking.barred[1], (abroad, Barred::Region("us-east-1".into())));
    assert_eq!(place(&ranking.rows, "eu-west-1"), Place::Nowhere);
}

#[test]
fn a_dry_home_or_a_large_saving_moves_photos() {
    let mut stage = stage();
    // Photos of 10 kB: their way costs next to nothing.
    stage.photos.bytes = 10_000;
    let far = stage.price("c5.large", "use1-az1", 20_000);
    assert_eq!(
        place(&stage.rank_of(std::slice::from_ref(&far)).rows, "eu-west-1"),
        Place::HomeDry
    );
    let near = stage.price("c5.large", "euw1-az1", 36_000);
    assert_eq!(
        place(&stage.rank_of(&[near.clone(), far.clone()]).rows, "eu-west-1"),
        Place::Away
    );
    let near2 = stage.price("c5.large", "euw1-az2", 23_000);
    assert_eq!(
        place(&stage.rank_of(&[near2, far]).rows, "eu-west-1"),
        Place::Home,
        "it saves 10 % less"
    );
}

proptest! {
    /// Totals are sums and in order; at its break-even price each pool costs what it is measured by.
    #[test]
    fn totals_and_break_even(prices in prop::collection::vec((0usize..3, 0usize..4, 1_000i64..200_000), 1..12)) {
        let mut stage = stage();
        stage.photos.bytes = 100_000;
        let zones = ["euw1-az1", "euw1-az2", "use1-az1", "use1-az2"];
        let names = ["c5.large", "c5.xlarge", "t3.medium"];
        for (name, zone, micros) in prices {
            stage.price(names[name], zones[zone], micros);
        }
        let rows = stage.rank().rows;
        prop_assert!(rows.is_sorted_by_key(|row| row.total_k));
        let best_at_home = rows.iter().position(|row| row.pool.region == "eu-west-1");
        for (index, row) in rows.iter().enumerate() {
            let sum = row.machine_k.0 + row.transfer_k.0 + row.nat_k.0 + row.risk_k.0;
            prop_assert_eq!(row.total_k.0, sum);
            let Some(home) = best_at_home else {
                prop_assert_eq!(row.break_even, None);
                continue;
            };
            let measure = if index == home { rows.iter().enumerate().find(|(at, _)| *at != home) } else { rows.get(home).map(|row| (home, row)) };
            let (Some((_, measure)), Some(even)) = (measure, row.break_even) else { continue };
            let way = row.transfer_k.0 + row.nat_k.0;
            if even.0 == 0 {
                prop_assert!(measure.total_k.0 <= way + 1);
                continue;
            }
            let machine_k = machine(even, &row.speed).0;
            let total = machine_k + ratio(machine_k, wasted_ppm(&row.risk), MILLION) + way;
            // A price is in whole millionths, which are so many of a thousand photos:
            let grain = row.speed.us_per_photo * 1_000 / HOUR_US + 2;
            prop_assert!(total.abs_diff(measure.total_k.0) <= grain, "{} {}", total, measure.total_k.0);
        }
    }
}
