//! Bills that servers hear, right ones and wrong ones, and policies that an operator tries beside the one in force.

use rebound_core::command::Command;
use rebound_core::io::{Input, Request};
use rebound_core::scaling::{Mode, Scaling};
use rebound_core::state::State;
use rebound_core::state::spend::hour_of;
use rebound_core::types::SECOND;

use super::World;
use super::buying::Step;

/// Bills are told so often, in µs.
const BILLS_EVERY: u64 = 20 * SECOND;
/// Of so many, in a million, all amounts are doubled.
const WRONG: u64 = 50_000;
/// Each time the operator looks, in a million: launches are frozen, …
const FREEZES: u64 = 30_000;
/// … and go on again.
const FROZEN_ON: u64 = 300_000;

/// Hours that are over, as a state's books have them.
fn hours(state: &State, times: u64) -> Vec<(u64, u64)> {
    let this = hour_of(state.now());
    let over = state.spend.hours().filter(|(hour, _)| *hour < this);
    over.map(|(hour, one)| (hour, one.money.saturating_mul(times)))
        .collect()
}

impl World {
    pub(super) fn begin_bills(&mut self) {
        self.buys_again(BILLS_EVERY, Step::Bill);
    }

    /// Each server that is up hears the bill, or twice the bill.
    pub(super) fn tells_bill(&mut self) {
        let Some(buying) = &mut self.buying else { return };
        let times = if buying.rng.chance(WRONG) { 2 } else { 1 };
        let tries = buying.rng.chance(500_000).then(|| buying.rng.chance(500_000));
        for server in 1..=self.count_servers() {
            let bill = self
                .host(server)
                .replica
                .as_ref()
                .map(|one| hours(one.state(), times));
            if let Some(bill) = bill.filter(|bill| !bill.is_empty()) {
                self.count("bills told");
                let life = self.host(server).life;
                self.input(server, life, Input::Billed(bill));
            }
        }
        if let Some(on) = tries {
            let scaling = on.then(|| {
                Box::new(Scaling {
                    mode: Mode::Act,
                    spot: false,
                    ..Scaling::default()
                })
            });
            self.operator_asks(Request::Steer(Box::new(Command::Shadow { scaling })));
        }
        self.buys_again(BILLS_EVERY, Step::Bill);
    }

    /// The operator stops launches and scale-in for a while, now and then; in the end they go on.
    pub(super) fn freezes(&mut self) {
        let frozen = self
            .newest_state()
            .is_some_and(|state| state.control.get().frozen.is_some());
        let calm = self.calm;
        let Some(buying) = &mut self.buying else { return };
        let why = match frozen {
            true if calm || buying.rng.chance(FROZEN_ON) => None,
            false if !calm && buying.rng.chance(FREEZES) => Some("a look round".to_owned()),
            _ => return,
        };
        if why.is_some() {
            self.count("launches frozen");
        }
        self.operator_asks(Request::Steer(Box::new(Command::Freeze { why })));
    }

    /// What the books have come to have, at the end.
    pub(super) fn count_books(&mut self) {
        let Some(state) = self.newest_state() else { return };
        let speeds = state.measures.iter().count() as u64;
        let billed = state
            .spend
            .hours()
            .filter(|(_, one)| one.billed.is_some())
            .count() as u64;
        *self.counters.entry("speeds measured").or_default() += speeds;
        *self.counters.entry("hours billed").or_default() += billed;
    }
}
