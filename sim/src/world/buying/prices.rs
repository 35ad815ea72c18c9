//! Prices that the servers hear: as they are, or as a feed that is spoilt has them.

use super::*;

/// What is wrong with the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoilt {
    /// Nothing comes.
    Gone,
    /// The same prices come, of the same moment.
    Frozen,
    /// Spot costs nothing.
    Nothing,
    /// A thousand times as much.
    Thousandfold,
    /// Prices are of an hour that has not begun.
    Future,
    /// Nothing: spot really costs more than on demand, and is given to nobody who does not pay that.
    Jump,
}

impl Spoilt {
    const ALL: [(Spoilt, &str); 6] = [
        (Spoilt::Gone, "feeds gone"),
        (Spoilt::Frozen, "feeds frozen"),
        (Spoilt::Nothing, "prices of nothing"),
        (Spoilt::Thousandfold, "prices a thousandfold"),
        (Spoilt::Future, "prices of the future"),
        (Spoilt::Jump, "prices above on-demand's"),
    ];
}

/// What is wrong with prices, until when.
#[derive(Default)]
pub(super) struct Feed(Option<(Spoilt, u64)>);

impl Feed {
    fn now(&self, now: u64) -> Option<Spoilt> {
        self.0.filter(|(_, until)| now < *until).map(|(how, _)| how)
    }
}

impl Buying {
    /// The market at a moment: spot wanders between a fifth and the whole of on-demand.
    fn prices(&mut self, now: Time, spoilt: Option<Spoilt>) -> Prices {
        if spoilt != Some(Spoilt::Frozen) {
            self.heard = now;
            let share = match spoilt {
                Some(Spoilt::Jump) => self.rng.within(1_050, 5_000),
                _ => self.rng.within(200, 1_000),
            };
            self.lately.push((now, share));
            let keep = self.lately.len().saturating_sub(30);
            self.lately.drain(..keep);
        }
        let mut market = Prices {
            heard: self.heard,
            ..Prices::default()
        };
        let mut speeds = BTreeMap::new();
        for (at, zone) in ZONES.iter().enumerate() {
            for (instance_type, vcpus, on_demand) in TYPES {
                for kind in [Market::Spot, Market::OnDemand] {
                    let of = |share: u64| MicroUsd(on_demand * (share + 10 * at as u64) / 1_000);
                    let price = match kind {
                        Market::Spot => of(self.lately.last().map_or(500, |(_, share)| *share)),
                        _ => MicroUsd(on_demand),
                    };
                    let quote = Quote {
                        price,
                        on_demand: MicroUsd(on_demand),
                        lately: self.lately.iter().map(|(at, share)| (*at, of(*share))).collect(),
                        vcpus,
                        resources: Resources::default(),
                        interruptions: 0,
                    };
                    let pool = pool(zone, instance_type, kind);
                    speeds.insert(pool.clone(), speed(vcpus, price, self.drawn.photo_times));
                    market.pools.insert(pool, quote);
                }
            }
        }
        market.speeds.insert("noop".into(), speeds);
        market
    }

    /// While spot costs more than on demand nobody has it for less.
    fn asks_its_price(&mut self, market: &Prices, spoilt: Option<Spoilt>) {
        self.cloud.prices.clear();
        if spoilt == Some(Spoilt::Jump) {
            let spot = market
                .pools
                .iter()
                .filter(|(pool, _)| pool.market == Market::Spot);
            self.cloud
                .prices
                .extend(spot.map(|(pool, quote)| (pool.clone(), quote.price)));
        }
    }
}

fn speed(vcpus: u32, price: MicroUsd, times: u64) -> Speed {
    let us_per_photo = 60 * MILLISECOND * times / u64::from(vcpus);
    Speed {
        slots: vcpus,
        us_per_photo,
        machine: MicroUsd(price.0 * us_per_photo / 3_600_000),
        ..Speed::default()
    }
}

/// Makes of true prices what a spoilt feed says.
fn spoil(market: &mut Prices, how: Spoilt, now: Time) {
    let price = |price: MicroUsd| match how {
        Spoilt::Nothing => MicroUsd(0),
        Spoilt::Thousandfold => MicroUsd(price.0 * 1_000),
        _ => price,
    };
    let later = Time(now.0 + 3_600 * SECOND);
    if how == Spoilt::Future {
        market.heard = later;
    }
    let speeds = market.speeds.values_mut().flatten();
    for (_, speed) in speeds.filter(|(pool, _)| pool.market == Market::Spot) {
        speed.machine = price(speed.machine);
    }
    for (_, quote) in market
        .pools
        .iter_mut()
        .filter(|(pool, _)| pool.market == Market::Spot)
    {
        quote.price = price(quote.price);
        if let Some((at, last)) = quote.lately.last_mut() {
            *last = price(*last);
            if how == Spoilt::Future {
                *at = later;
            }
        }
    }
}

impl World {
    /// The feed goes wrong, in one way or another.
    pub(super) fn spoils_prices(&mut self) {
        let kind = Kind::Prices;
        let until = self.now + self.length(kind);
        let (how, words) = *self.dice(kind).pick(&Spoilt::ALL).expect("there are some");
        if let Some(buying) = &mut self.buying {
            buying.feed = Feed(Some((how, until)));
            self.count(words);
        }
    }

    pub(super) fn tells_prices(&mut self) {
        let now = wall(self.now);
        let at = self.now;
        let Some(buying) = &mut self.buying else { return };
        let (every, spoilt) = (buying.drawn.prices_every, buying.feed.now(at));
        if spoilt != Some(Spoilt::Gone) {
            let mut market = buying.prices(now, spoilt);
            buying.asks_its_price(&market, spoilt);
            if let Some(how) = spoilt {
                spoil(&mut market, how, now);
            }
            self.tells_all(market);
        }
        if spoilt.is_some() {
            self.count("prices spoilt");
        }
        self.buys(every, Step::Prices);
    }

    fn tells_all(&mut self, market: Prices) {
        let market = Arc::new(market);
        for server in 1..=self.count_servers() {
            let life = self.host(server).life;
            self.input(server, life, Input::Market(market.clone()));
        }
    }
}
