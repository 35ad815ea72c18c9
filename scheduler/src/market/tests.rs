use std::sync::Mutex;

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::types::{MicroUsd, Pool};
use rebound_pricer::health::Told;
use rebound_pricer::on_demand::{Listed, OnDemand};
use rebound_pricer::pool::{ZoneNames, on_demand, spot};

use super::*;

const MINUTE: u64 = 60 * rebound_core::types::SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Says what it is told to, once.
struct Said(Mutex<Vec<Result<Vec<Told>, String>>>);

#[tonic::async_trait]
impl Cloud for Said {
    async fn call(&self, _: &CloudCall) -> CloudOutcome {
        CloudOutcome::Unknown
    }

    async fn prices(&self, _: Time) -> Result<Vec<Told>, String> {
        self.0.lock().expect("unpoisoned").remove(0)
    }
}

fn pool() -> Pool {
    spot("m4.10xlarge", "us-east-1a", &ZoneNames::new()).expect("a pool")
}

fn told(at: u64, micros: i64) -> Told {
    Told {
        pool: pool(),
        at: Time(at),
        micros,
        line: 0,
    }
}

/// A watch whose clock stands at `now`, and which has heard all of `said`.
async fn watch(said: Vec<Result<Vec<Told>, String>>) -> Watch {
    let mut listed = OnDemand::new(None);
    let price = Listed::Price(MicroUsd(2_394_000));
    listed.list("us-east-1", "m4.10xlarge", price).expect("a price");
    let files = Beforehand {
        on_demand: listed,
        ..Beforehand::default()
    };
    let times = said.len();
    let cloud = Arc::new(Said(Mutex::new(said)));
    let mut watch = Watch::new(cloud, Clock::start(None), files, Duration::from_secs(60)).expect("tables");
    for _ in 0..times {
        watch.hear(&mut false).await;
    }
    watch
        .teller
        .wants("noop", &rebound_core::types::Resources::default());
    watch
}

#[tokio::test]
async fn pools_have_their_prices_their_history_and_their_place() {
    let now = Clock::start(None).now().wall;
    let at = |before: u64| now.0 - before;
    let watch = watch(vec![Ok(vec![
        told(at(3 * HOUR), 400_000),
        told(at(HOUR), 500_000),
        told(at(MINUTE), 600_000),
    ])])
    .await;
    let market = watch.teller.market(now);
    assert_eq!(market.heard, now);
    let quote = &market.pools[&pool()];
    assert_eq!(
        (quote.price.0, quote.on_demand.0, quote.vcpus),
        (600_000, 2_394_000, 40)
    );
    let prices: Vec<u64> = quote.lately.iter().map(|(_, price)| price.0).collect();
    assert_eq!(
        prices,
        [400_000, 500_000, 600_000],
        "with the one in force two hours ago"
    );
    let on_demand = &market.pools[&on_demand(&pool())];
    assert_eq!(on_demand.price.0, 2_394_000);
    let speeds = &market.speeds["noop"];
    // Two seconds of one vCPU were assumed, on 40 of them; one machine tries it.
    assert_eq!(speeds[&pool()].us_per_photo, 50_000);
    assert_eq!(speeds[&pool()].most, Some(1));
}

#[tokio::test]
async fn a_feed_that_cannot_be_believed_ages() {
    let now = Clock::start(None).now().wall;
    let good = Ok(vec![told(now.0 - HOUR, 500_000)]);
    let absurd = Ok(vec![told(now.0 - 2, 0), told(now.0 - 1, 900_000_000)]);
    let gone = Err("no way to it".to_owned());
    let one = watch(vec![good.clone(), absurd]).await;
    assert_eq!(
        one.teller.market(now).pools[&pool()].price.0,
        500_000,
        "the last good one"
    );
    let later = Time(now.0 + 3 * HOUR);
    assert!(one.teller.market(later).heard < Time(now.0 + MINUTE));
    assert_eq!(
        one.teller.market(later).pools[&pool()].price.0,
        2_394_000,
        "then on-demand's"
    );
    let one = watch(vec![good, gone]).await;
    assert_eq!(one.teller.market(now).pools[&pool()].price.0, 500_000);
    let one = watch(vec![Err("never".to_owned())]).await;
    assert_eq!(
        (one.teller.market(now).heard, one.teller.market(now).pools.len()),
        (Time(0), 0)
    );
}
