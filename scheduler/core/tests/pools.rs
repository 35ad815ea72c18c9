//! What people are shown of capacity pools, and what they may want of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rebound_core::command::Command;
use rebound_core::io::{Answer, Input, PoolsView, Read, Request};
use rebound_core::limits::TICK;
use rebound_core::market::{Market as Prices, Quote, Speed};
use rebound_core::plan::capacity::NotChosen;
use rebound_core::scaling::{Mode, Scaling};
use rebound_core::types::*;

#[allow(dead_code)] // Each test crate uses a part of the stage.
mod stage;

use stage::{EPOCH, Stage};

fn pool(market: Market) -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: "use1-az1".into(),
        instance_type: "c5.xlarge".into(),
        market,
    }
}

/// Spot at a fifth of on-demand.
fn prices() -> Prices {
    let mut market = Prices {
        heard: Time(EPOCH),
        ..Prices::default()
    };
    let mut speeds = BTreeMap::new();
    for (kind, price) in [(Market::Spot, 40_000), (Market::OnDemand, 200_000)] {
        let quote = Quote {
            price: MicroUsd(price),
            on_demand: MicroUsd(200_000),
            vcpus: 4,
            ..Quote::default()
        };
        let speed = Speed {
            slots: 4,
            us_per_photo: SECOND,
            machine: MicroUsd(price),
            ..Speed::default()
        };
        market.pools.insert(pool(kind), quote);
        speeds.insert(pool(kind), speed);
    }
    market.speeds.insert("shelf".into(), speeds);
    market
}

fn ask(stage: &mut Stage, server: u64, request: Request) -> Answer {
    let ask = stage.ask(server, "", "default", 0, request);
    stage.settle();
    stage.take_lines();
    let answer = stage.answers.remove(&ask).expect("an answer");
    answer.expect("it is taken")
}

fn view(stage: &mut Stage, server: u64, request: Request) -> PoolsView {
    match ask(stage, server, request) {
        Answer::Pools(view) => *view,
        Answer::Stale { answer, .. } => match *answer {
            Answer::Pools(view) => *view,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn why(view: &PoolsView, market: Market) -> Option<NotChosen> {
    let of = view.pools.iter().find(|one| one.pool == pool(market));
    of.expect("it is known").speeds[0].2
}

#[test]
fn a_banned_pool_says_so_until_the_ban_ends_and_so_does_one_that_the_policy_does_not_buy() {
    let mut stage = Stage::new(3, |_| {});
    assert!(stage.elect());
    stage.advance(TICK);
    let leader = stage.leader().expect("somebody leads");
    let scaling = Scaling {
        mode: Mode::Act,
        on_demand: false,
        ..Scaling::default()
    };
    let steer = Command::Steer {
        scaling: Box::new(scaling),
        check: None,
    };
    ask(&mut stage, leader, Request::Steer(Box::new(steer)));
    stage.inbox(leader).push(Input::Market(Arc::new(prices())));
    stage.settle();
    let before = view(&mut stage, leader, Request::Read(Read::Pools));
    assert_eq!(before.pools.len(), 2);
    assert_eq!(why(&before, Market::Spot), None);
    assert_eq!(why(&before, Market::OnDemand), Some(NotChosen::NotAllowed));

    let until = Time(before.now.0 + 60 * SECOND);
    let ban = |until| {
        let (pool, why) = (pool(Market::Spot), "smells".to_owned());
        Request::Steer(Box::new(Command::Ban { pool, until, why }))
    };
    ask(&mut stage, leader, ban(Some(until)));
    let banned = view(&mut stage, leader, Request::Read(Read::Pools));
    assert_eq!(why(&banned, Market::Spot), Some(NotChosen::Banned));
    stage.advance(61 * SECOND);
    stage.inbox(leader).push(Input::Market(Arc::new(prices())));
    let over = view(&mut stage, leader, Request::Read(Read::Pools));
    assert_eq!(why(&over, Market::Spot), None, "it ends by itself");
    ask(&mut stage, leader, ban(Some(Time(u64::MAX))));
    ask(&mut stage, leader, ban(None));
    let unbanned = view(&mut stage, leader, Request::Read(Read::Pools));
    assert_eq!(why(&unbanned, Market::Spot), None);

    // Whoever does not lead knows what is in the state, and no prices.
    let other = (1..=3).find(|id| *id != leader).expect("three servers");
    let stale = view(&mut stage, other, Request::Stale(Read::Pools));
    assert_eq!((stale.pools.len(), stale.heard), (1, Time(0)));
    assert!(stale.pools[0].quote.is_none() && stale.pools[0].speeds.is_empty());
}
