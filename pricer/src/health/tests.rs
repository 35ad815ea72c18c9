use proptest::prelude::*;

use super::*;
use crate::on_demand::{Listed, OnDemand};
use crate::pool::{ZoneNames, spot};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const T0: u64 = 1_700_000_000 * SECOND;

fn pool(number: u64) -> Pool {
    spot("c5.large", &format!("euw1-az{number}"), &ZoneNames::new()).unwrap()
}

fn book() -> PriceBook {
    let mut prices = OnDemand::new(None);
    prices
        .list("eu-west-1", "c5.large", Listed::Price(MicroUsd(96_000)))
        .unwrap();
    let mut book = PriceBook::default();
    book.set_on_demand(prices);
    book
}

fn told(number: u64, at: u64, micros: i64) -> Told {
    Told {
        pool: pool(number),
        at: Time(at),
        micros,
        line: 0,
    }
}

/// A feed of three pools that spoke once, at `T0`.
fn begun() -> (PriceBook, Feed) {
    let (mut book, mut feed) = (book(), Feed::new());
    let batch: Vec<Told> = (1..=3).map(|number| told(number, T0, 38_000)).collect();
    let intake = feed.take(&mut book, &batch, Time(T0));
    assert_eq!((intake.changed, intake.believed), (3, true));
    (book, feed)
}

#[test]
fn a_feed_that_is_gone() {
    let (book, feed) = begun();
    let quote = |after: u64| feed.quote(&book, &pool(1), Time(T0 + after)).unwrap();
    assert_eq!(quote(GONE_AFTER).basis, Basis::Live);
    let gone = Health::Gone { since: Time(T0) };
    let last_good = quote(GONE_AFTER + 1);
    assert_eq!(last_good.price, MicroUsd(38_000));
    assert_eq!(
        last_good.basis,
        Basis::LastGood {
            health: gone,
            refused: None
        }
    );
    let dear = quote(GONE_AFTER + LAST_GOOD_FOR + 1);
    assert_eq!(dear.price, MicroUsd(96_000));
    assert_eq!(
        dear.basis,
        Basis::OnDemand {
            health: gone,
            refused: None
        }
    );
    assert_eq!(Feed::new().health(Time(T0)), Health::Never);
}

#[test]
fn a_feed_that_is_frozen() {
    let (mut book, mut feed) = begun();
    let limit = feed.frozen_after();
    assert_eq!(limit, 20 * DAY / 6);
    let mut now = T0;
    while now <= T0 + limit {
        assert_eq!(feed.health(Time(now)), Health::Live);
        now += 10 * MINUTE;
        feed.take(&mut book, &[told(1, now, 38_000)], Time(now));
    }
    assert_eq!(feed.health(Time(now)), Health::Frozen { since: Time(T0) });
    // One change, and it lives.
    feed.take(&mut book, &[told(1, now, 38_100)], Time(now));
    assert_eq!(feed.health(Time(now)), Health::Live);
}

#[test]
fn an_absurd_batch_is_not_believed_at_all() {
    let (mut book, mut feed) = begun();
    let now = Time(T0 + MINUTE);
    let batch = [
        told(1, now.0, 0),
        told(2, now.0, 38_000_000),
        told(3, now.0, 39_000),
    ];
    let intake = feed.take(&mut book, &batch, now);
    assert!(!intake.believed);
    assert_eq!(intake.refused, [(0, Refused::Zero), (1, Refused::TooHigh)]);
    let quote = feed.quote(&book, &pool(3), now).unwrap();
    assert_eq!(
        quote.price,
        MicroUsd(38_000),
        "the good one of a bad batch is not used"
    );
    let health = Health::Absurd {
        since: now,
        refused_permille: 667,
    };
    assert_eq!(
        quote.basis,
        Basis::LastGood {
            health,
            refused: None
        }
    );
    // While it goes on, the last good price grows old.
    let later = Time(now.0 + LAST_GOOD_FOR + 1);
    feed.take(&mut book, &batch, later);
    let quote = feed.quote(&book, &pool(3), later).unwrap();
    assert_eq!(quote.price, MicroUsd(96_000));
    let good: Vec<Told> = (1..=3).map(|number| told(number, later.0, 40_000)).collect();
    feed.take(&mut book, &good, later);
    assert_eq!(feed.quote(&book, &pool(3), later).unwrap().basis, Basis::Live);
}

#[test]
fn one_absurd_price_is_one_pools_matter() {
    let (mut book, mut feed) = begun();
    let now = Time(T0 + MINUTE);
    for (micros, why) in [
        (0, Refused::Zero),
        (-5, Refused::Negative),
        (38_000_000, Refused::TooHigh),
    ] {
        feed.take(&mut book, &[told(1, now.0, micros)], now);
        let quote = feed.quote(&book, &pool(1), now).unwrap();
        assert_eq!(quote.price, MicroUsd(38_000));
        let basis = Basis::LastGood {
            health: Health::Live,
            refused: Some(why),
        };
        assert_eq!(quote.basis, basis);
        assert_eq!(feed.quote(&book, &pool(2), now).unwrap().basis, Basis::Live);
    }
    feed.take(&mut book, &[told(1, T0 + HOUR, 39_000)], now);
    let quote = feed.quote(&book, &pool(1), now).unwrap();
    assert_ne!(quote.basis, Basis::Live, "a price from the future is no cure");
    feed.take(&mut book, &[told(1, now.0, 39_000)], now);
    assert_eq!(feed.quote(&book, &pool(1), now).unwrap().basis, Basis::Live);
}

proptest! {
    /// Whatever a feed says, a quote is a price that was believable, or on-demand's.
    #[test]
    fn no_quote_is_absurd(
        said in prop::collection::vec((1u64..4, 0u64..7_200, -100_000i64..10_000_000), 0..80),
        ask in 0u64..20_000,
    ) {
        let (mut book, mut feed) = begun();
        let mut now = T0;
        for batch in said.chunks(3) {
            now += 60 * SECOND;
            let batch: Vec<Told> = batch
                .iter()
                .map(|(number, at, micros)| told(*number, T0 + at * SECOND, *micros))
                .collect();
            feed.take(&mut book, &batch, Time(now));
        }
        let now = Time(now + ask * SECOND);
        for number in 1..4 {
            let quote = feed.quote(&book, &pool(number), now).unwrap();
            prop_assert!(quote.price.0 >= 96_000 / 200 && quote.price.0 <= 20 * 96_000);
            if let Basis::OnDemand { .. } = quote.basis {
                prop_assert_eq!(quote.price, quote.on_demand);
            }
        }
    }
}
