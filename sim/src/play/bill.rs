//! What machines of a played market cost, by the one billing function.

use rebound_core::bill::{HOUR, Step, bill};
use rebound_core::state::spend::hour_of;
use rebound_core::types::{Market, MicroUsd, Time};
use serde::Serialize;

use super::Played;
use crate::cloud::{Instance, SimCloud};

/// One machine's bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its id.
    pub machine: String,
    /// Its pool.
    pub pool: String,
    /// Since when it was billed, in µs since 1970.
    pub from_us: u64,
    /// Until when.
    pub to_us: u64,
    /// Millionths of USD.
    pub micro_usd: u64,
    /// What it would have cost on demand.
    pub on_demand_micro_usd: u64,
    /// EC2 took it back.
    pub taken: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Millionths of USD.
    pub micro_usd: u64,
    /// The same machines for the same time on demand.
    pub on_demand_micro_usd: u64,
    /// Machines taken back.
    pub taken: u64,
    /// One line for each machine that ever ran.
    pub lines: Vec<Line>,
}

/// What machines cost in each of the last hours (since 1970) that are over, in millionths of USD.
pub fn by_hour(sim: &SimCloud, played: &Played, now: Time, hours: u64) -> Vec<(u64, u64)> {
    let this = hour_of(now);
    let up_to = |hour: u64| cost(sim, played, Time(hour.saturating_mul(HOUR))).micro_usd;
    let first = this.saturating_sub(hours);
    let mut before = up_to(first);
    let each = (first..this).map(|hour| {
        let after = up_to(hour + 1);
        let spent = after.saturating_sub(std::mem::replace(&mut before, after));
        (hour, spent)
    });
    each.filter(|(_, spent)| *spent > 0).collect()
}

/// What a machine's volume costs while it stands still.
fn volumes(sim: &SimCloud, one: &Instance, until: Time) -> u64 {
    let ended = one.ended.map_or(until.0, |(at, _)| at).min(until.0);
    let begins = one.ran.iter().skip(1).map(|(from, _)| *from);
    let again = begins
        .chain(one.stopped.is_none().then_some(one.runs))
        .chain([ended]);
    let stood = one
        .ran
        .iter()
        .zip(again)
        .map(|((_, stopped), again)| again.min(ended).saturating_sub(*stopped));
    stood.map(|us| rebound_core::bill::cost(sim.volume, us)).sum()
}

/// What machines cost up to an instant.
pub fn cost(sim: &SimCloud, played: &Played, until: Time) -> Cost {
    let mut all = Cost::default();
    for (id, one) in &sim.instances {
        let (ended, taken) = one.ended.unwrap_or((until.0, false));
        let last = one.stopped.is_none().then_some((one.runs, ended));
        let runs: Vec<(u64, u64)> = one.ran.iter().copied().chain(last).collect();
        let runs = runs
            .into_iter()
            .map(|(from, to)| (Time(from), Time(to.min(until.0))));
        let runs: Vec<(Time, Time)> = runs.filter(|(from, to)| to > from).collect();
        let (Some((from, _)), Some((_, to))) = (runs.first().copied(), runs.last().copied()) else {
            continue;
        };
        let spot_pool = rebound_core::types::Pool {
            market: Market::Spot,
            ..one.pool.clone()
        };
        let on_demand = played.on_demand.get(&spot_pool).copied().unwrap_or(MicroUsd(0));
        let always = [Step {
            at: from,
            price: on_demand,
        }];
        // Nobody pays more than the bound, which is the on-demand price.
        let bounded: Vec<Step> = played
            .spot
            .get(&spot_pool)
            .into_iter()
            .flatten()
            .map(|step| Step {
                price: step.price.min(on_demand),
                ..*step
            })
            .collect();
        let steps = match one.pool.market {
            Market::Spot => &bounded[..],
            _ => &always[..],
        };
        let mut paid = volumes(sim, one, until);
        let mut instead = paid;
        for (from, to) in runs {
            paid += bill(&played.terms, steps, from, to, taken).total();
            instead += bill(&played.terms, &always, from, to, false).total();
        }
        all.micro_usd += paid;
        all.on_demand_micro_usd += instead;
        all.taken += u64::from(taken);
        all.lines.push(Line {
            machine: id.0.clone(),
            pool: rebound_pricer::pool::text(&one.pool),
            from_us: from.0,
            to_us: to.0,
            micro_usd: paid,
            on_demand_micro_usd: instead,
            taken,
        });
    }
    all
}
