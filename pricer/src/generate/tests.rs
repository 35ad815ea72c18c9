use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::capacity::Spells;
use super::fit::{compare_capacity, compare_prices, prices};
use super::*;
use crate::feed::Capacity;
use crate::stats;

const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const FROM: Time = Time(1_456_000_000 * SECOND);
const ON_DEMAND: MicroUsd = MicroUsd(2_394_000);

fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

fn after(micros: u64) -> Time {
    Time(FROM.0 + micros)
}

#[test]
fn one_seed_one_series() {
    for era in [Era::Auction, Era::Modern] {
        let profile = Profile::built_in(era).unwrap();
        let series = |seed| profile.price(ON_DEMAND, FROM, after(30 * DAY), &mut rng(seed));
        assert!(series(1) == series(1));
        assert!(series(1) != series(2));
    }
    let spells = Profile::built_in(Era::Modern).unwrap().capacity.unwrap();
    let series = |seed| spells.series(30 * DAY, &mut rng(seed));
    assert!(series(1) == series(1));
    assert!(series(1) != series(2));
}

/// The shapes that the eras are told apart by, as recorded: auctions cross on-demand about once a day; since then
/// prices move a little, a few times a day, and never come near it.
#[test]
fn the_eras_are_what_they_were() {
    let until = after(500 * DAY);
    let auction = Profile::built_in(Era::Auction).unwrap();
    let series = auction.price(ON_DEMAND, FROM, until, &mut rng(3));
    let seen = stats::price(&series, until, ON_DEMAND).unwrap();
    assert!((300..700).contains(&seen.mean_permille), "{seen:?}");
    assert!((400..1_500).contains(&seen.up_kday[2]), "{seen:?}");
    assert!((80_000..250_000).contains(&seen.changes_kday), "{seen:?}");
    assert!(seen.max_permille > 2_000, "{seen:?}");
    assert_eq!(auction.capacity, None);
    let modern = Profile::built_in(Era::Modern).unwrap();
    let series = modern.price(ON_DEMAND, FROM, until, &mut rng(3));
    let seen = stats::price(&series, until, ON_DEMAND).unwrap();
    assert!((300..500).contains(&seen.mean_permille), "{seen:?}");
    assert_eq!((seen.up_kday, seen.above_permille), ([0; 3], [0; 3]));
    assert!((1_000..4_000).contains(&seen.changes_kday), "{seen:?}");
    assert!(seen.step_permille <= 30, "{seen:?}");
    let made = modern.capacity.unwrap().series(500 * DAY, &mut rng(3));
    let seen = stats::capacity(&made).unwrap();
    assert!((100..1_500).contains(&seen.lost_khour), "{seen:?}");
}

#[test]
fn calm_machines_are_lost_as_seldom_as_the_advisor_says() {
    let spells = Spells::of_band(Some(0), 1_800);
    let made = spells.series(4_000 * 365 * DAY, &mut rng(5));
    let hours = stats::uptime(&made).0 / HOUR;
    let ppm = made.lost * 1_000_000 / hours;
    assert!(
        (65..75).contains(&ppm),
        "{ppm} in a million instance-hours, not 70"
    );
}

#[test]
fn a_damaged_profile_is_refused() {
    for (text, word) in [
        ("{", "EOF"),
        (
            r#"{"era":"stone","fitted_to":"","prices":{},"capacity":null}"#,
            "stone",
        ),
        (
            r#"{"era":"auction","fitted_to":"","prices":{"kind":"jumps","bands":[]},"capacity":null}"#,
            "no band",
        ),
        (
            r#"{"era":"auction","fitted_to":"","prices":{"kind":"jumps","bands":[{"of":1,"price":[1],"hold_s":[1],"shape":{"of":1,"means":[1000]},"next":[[3,1]]}]},"capacity":null}"#,
            "leads nowhere",
        ),
        (
            r#"{"era":"modern","fitted_to":"","prices":{"kind":"steps","level":9,"low":500,"high":900,"gap_s":{"of":1,"means":[1]},"step":{"of":1,"means":[1]}},"capacity":null}"#,
            "not within",
        ),
        (
            r#"{"era":"modern","fitted_to":"","prices":{"kind":"steps","level":700,"low":500,"high":900,"gap_s":{"of":1,"means":[1]},"step":{"of":1,"means":[1]}},"capacity":{"up_s":{"of":9,"means":[1]},"down_s":{"of":1,"means":[1]}}}"#,
            "up_s or down_s",
        ),
    ] {
        let error = Profile::parse("p.json", text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// A made-up auction: an hour cheap, with spikes over on-demand of some minutes, at random.
fn spiky(seed: u64, days: u64) -> Vec<Point> {
    let mut rng = rng(seed);
    let mut points = Vec::new();
    let mut at = FROM.0;
    while at < FROM.0 + days * DAY {
        let (share, minutes) = match draws::below(20, &mut rng) {
            0 => (
                1_500 + draws::below(500, &mut rng),
                5 + draws::below(20, &mut rng),
            ),
            1 | 2 => (600 + draws::below(150, &mut rng), 10 + draws::below(30, &mut rng)),
            _ => (200 + draws::below(100, &mut rng), 5 + draws::below(120, &mut rng)),
        };
        points.push(Point {
            at: Time(at),
            price: MicroUsd(ON_DEMAND.0 * share / 1_000 / GRAIN * GRAIN),
        });
        at += minutes * 60 * SECOND;
    }
    points
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A fit keeps level, changes, crossings and time above, of any auction, and is whole again from its text.
    #[test]
    fn a_fit_keeps_what_it_says(seed: u64) {
        let points = spiky(seed, 60);
        let end = after(60 * DAY);
        let fitted = prices(Era::Auction, &points, end, ON_DEMAND).unwrap();
        let both = compare_prices(&fitted, &points, end, ON_DEMAND, &mut rng(seed)).unwrap();
        let near = |a: u64, b: u64, percent: u64, least: u64| a.abs_diff(b) <= least.max(a.max(b) * percent / 100);
        let (was, is) = (both.recorded, both.generated);
        prop_assert!(near(was.mean_permille, is.mean_permille, 10, 10), "{both:?}");
        prop_assert!(near(was.changes_kday, is.changes_kday, 10, 100), "{both:?}");
        for mark in 0..3 {
            prop_assert!(near(was.up_kday[mark], is.up_kday[mark], 20, 150), "{both:?}");
            prop_assert!(near(was.above_permille[mark], is.above_permille[mark], 20, 10), "{both:?}");
        }
        let profile = Profile { era: Era::Auction, fitted_to: "x".into(), prices: fitted, capacity: None };
        let text = serde_json::to_string(&profile).unwrap();
        prop_assert_eq!(Profile::parse("p", &text).unwrap(), profile);
    }

    /// Series are in order, within their time, above zero and on EC2's grain, for any on-demand price.
    #[test]
    fn series_are_sound(seed: u64, on_demand in 1_000u64..50_000_000, days in 1u64..40) {
        for era in [Era::Auction, Era::Modern] {
            let profile = Profile::built_in(era).unwrap();
            let until = after(days * DAY);
            let series = profile.price(MicroUsd(on_demand), FROM, until, &mut rng(seed));
            prop_assert!(series.first().is_some_and(|point| point.at == FROM));
            prop_assert!(series.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].price != pair[1].price));
            prop_assert!(series.iter().all(|point| point.at < until && point.price.0 > 0 && point.price.0 % GRAIN == 0));
        }
    }

    /// The share of time with a machine and the losses an instance-hour are kept.
    #[test]
    fn capacity_is_kept(seed: u64) {
        let mut rng = rng(seed);
        let mut at = 0;
        let mut changes = vec![(0, 1)];
        for spell in 1..400i64 {
            at += (1 + draws::below(5, &mut rng)) * HOUR / 2;
            changes.push((at, if spell % 2 == 0 { 1 } else { -1 }));
        }
        let all = Capacity::from_changes(&changes, at);
        let (_, both) = compare_capacity(&all, &mut rng).unwrap();
        let (was, is) = (both.recorded, both.generated);
        prop_assert!(was.available_permille.abs_diff(is.available_permille) <= 40, "{both:?}");
        prop_assert!(was.lost_khour.abs_diff(is.lost_khour) * 10 <= was.lost_khour, "{both:?}");
    }
}
