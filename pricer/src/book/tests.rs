use proptest::prelude::*;

use super::*;
use crate::pool;

const NOW: Time = Time(1_000_000_000_000);

fn a_pool(number: u64) -> Pool {
    pool::spot("m4.large", &format!("use1-az{number}"), &pool::ZoneNames::new()).unwrap()
}

fn listed(micros: u64) -> OnDemand {
    let mut prices = OnDemand::new(Some(Time(7)));
    prices
        .list("us-east-1", "m4.large", Listed::Price(MicroUsd(micros)))
        .unwrap();
    prices
}

#[test]
fn what_cannot_be_true_is_refused() {
    let mut book = PriceBook::default();
    book.set_on_demand(listed(100_000));
    let pool = a_pool(1);
    let table = [
        (0, NOW, Refused::Zero),
        (-30_000, NOW, Refused::Negative),
        (30_000_000, NOW, Refused::TooHigh),
        (30, NOW, Refused::TooLow),
        (30_000, Time(NOW.0 + FUTURE_SLACK + 1), Refused::Future),
    ];
    for (micros, at, why) in table {
        assert_eq!(book.note(&pool, at, micros, NOW), Err(why), "{micros}");
    }
    assert_eq!(book.price_at(&pool, NOW), None);
    assert_eq!(book.note(&pool, NOW, 30_000, NOW), Ok(Noted::Changed));
    // What auctions really did in 2016 is believed: ten times on-demand.
    assert_eq!(book.note(&pool, NOW, 1_050_000, NOW), Ok(Noted::Changed));
    let bought = pool::on_demand(&pool);
    assert_eq!(book.note(&bought, NOW, 30_000, NOW), Err(Refused::NotSpot));
}

#[test]
fn without_an_on_demand_price_the_last_one_is_the_measure() {
    let mut book = PriceBook::default();
    let pool = a_pool(1);
    book.note(&pool, Time(1), 30_000, NOW).unwrap();
    assert_eq!(book.note(&pool, Time(2), 30_000_000, NOW), Err(Refused::TooHigh));
    assert_eq!(book.note(&pool, Time(2), 30, NOW), Err(Refused::TooLow));
    assert_eq!(book.note(&pool, Time(2), 31_000, NOW), Ok(Noted::Changed));
}

#[test]
fn no_reference_no_purchase_no_threshold() {
    let pool = a_pool(1);
    let mut book = PriceBook::default();
    book.note(&pool, Time(1), 30_000, NOW).unwrap();
    let foreign = |entry| {
        let mut prices = OnDemand::new(None);
        prices.list("us-east-1", "m4.large", entry).unwrap();
        prices
    };
    let table = [
        (OnDemand::default(), NotBuyable::OnDemandUnknown),
        (
            foreign(Listed::OtherSystem("Windows".into())),
            NotBuyable::OtherSystem("Windows".into()),
        ),
        (
            foreign(Listed::OtherCurrency("CNY".into())),
            NotBuyable::OtherCurrency("CNY".into()),
        ),
    ];
    for (prices, why) in table {
        book.set_on_demand(prices);
        for pool in [pool.clone(), pool::on_demand(&pool)] {
            assert_eq!(book.offer(&pool, NOW), Err(why.clone()));
            assert_eq!(book.threshold(&pool, 80), Err(why.clone()));
        }
    }
    book.set_on_demand(listed(100_000));
    assert_eq!(book.threshold(&pool, 80), Ok(MicroUsd(80_000)));
    assert_eq!(book.offer(&pool, NOW).unwrap().price, MicroUsd(30_000));
    assert_eq!(
        book.offer(&pool::on_demand(&pool), NOW).unwrap().price,
        MicroUsd(100_000)
    );
    assert_eq!(book.offer(&a_pool(2), NOW), Err(NotBuyable::NoSpotPrice));
    let none = Pool {
        market: Market::None,
        ..pool
    };
    assert_eq!(book.offer(&none, NOW), Err(NotBuyable::NoMarket));
}

#[test]
fn pools_are_bounded() {
    let mut book = PriceBook::new(Bounds {
        pools: 1,
        ..Bounds::default()
    });
    book.note(&a_pool(1), Time(1), 5, NOW).unwrap();
    assert_eq!(book.note(&a_pool(2), Time(1), 5, NOW), Err(Refused::TooManyPools));
    book.note(&a_pool(1), Time(2), 6, NOW).unwrap();
}

proptest! {
    /// Memory is bounded, the newest price of each pool is never lost, and nothing is remembered wrongly.
    #[test]
    fn bounded_and_true(
        words in prop::collection::vec((1u64..4, 1u64..2_000, 100i64..200), 1..400),
        per_pool in 1usize..20,
        points in 1usize..40,
    ) {
        let bounds = Bounds { pools: 3, points_per_pool: per_pool, points };
        let mut book = PriceBook::new(bounds);
        let mut unbounded = PriceBook::default();
        for (number, at, micros) in words {
            let pool = a_pool(number);
            let noted = book.note(&pool, Time(at), micros, NOW);
            prop_assert_eq!(noted, unbounded.note(&pool, Time(at), micros, NOW));
            let kept: usize = book.pools().map(|(_, series)| series.points().len()).sum();
            prop_assert_eq!(kept, book.points().0);
            prop_assert!(kept <= points.max(book.pools().count()));
            prop_assert!(book.pools().all(|(_, series)| series.points().len() <= per_pool));
            for at in (0..2_000).step_by(97) {
                let (short, whole) = (book.price_at(&pool, Time(at)), unbounded.price_at(&pool, Time(at)));
                prop_assert!(short.is_none() || short == whole);
            }
            prop_assert_eq!(
                book.series(&pool).and_then(Series::last),
                unbounded.series(&pool).and_then(Series::last)
            );
        }
    }
}
