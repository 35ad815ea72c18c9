//! A policy tried beside the one in force: what it would have done with the same observations. It buys nothing, so what
//! it asks for again and again counts once; what it would have changed by buying is not known, and not made up.
//! Volatile: a new leader begins anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::TRIAL_DIFFERENCES_KEPT;
use crate::observe::fleet::Fleet;
use crate::plan::capacity::{Buy, Scale};
use crate::types::{Index, InstanceId, Market, MicroUsd, Pool, Time};

/// What a policy did, or would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Machines asked for.
    pub machines: u64,
    /// Of these, on demand.
    pub on_demand: u64,
    /// USD an hour, in millionths, of all that was asked for, at the prices of then.
    pub an_hour: u64,
    /// Machines let go.
    pub let_go: u64,
}

/// A look at which the two policies asked for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When.
    pub at: Time,
    /// What the one in force asked for.
    pub live: Vec<Buy>,
    /// What the one that is tried would have.
    pub trial: Vec<Buy>,
}

/// What is wanted at a look, to tell what is new at the next.
#[derive(Clone, Debug, Default)]
struct Wants {
    machines: u64,
    on_demand: u64,
    an_hour: u64,
    let_go: BTreeSet<InstanceId>,
}

impl Wants {
    fn of(scale: &Scale) -> Wants {
        let mut wants = Wants {
            let_go: scale.let_go.iter().map(|one| one.machine.clone()).collect(),
            ..Wants::default()
        };
        for buy in &scale.buy {
            let count = u64::from(buy.wanted.count);
            wants.machines += count;
            if buy.wanted.market != Market::Spot {
                wants.on_demand += count;
            }
            let price = buy.wanted.choices.first().map_or(MicroUsd(0), |one| one.price);
            wants.an_hour = wants.an_hour.saturating_add(price.0.saturating_mul(count));
        }
        wants
    }

    /// Counts what is more than at the look before.
    fn count(self, before: &mut Wants, tally: &mut Tally) {
        tally.machines += self.machines.saturating_sub(before.machines);
        tally.on_demand += self.on_demand.saturating_sub(before.on_demand);
        tally.an_hour += self.an_hour.saturating_sub(before.an_hour);
        tally.let_go += self.let_go.difference(&before.let_go).count() as u64;
        *before = self;
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct TrialBook {
    /// The entry that brought the policy that is tried; 0: none.
    pub of: Index,
    /// When this leader began to count.
    pub begun: Time,
    /// Looks at which both were asked.
    pub looks: u64,
    /// Of these, those at which they asked for another number of machines, or for others.
    pub differed: u64,
    /// What the policy in force did.
    pub live: Tally,
    /// What the one that is tried would have done.
    pub trial: Tally,
    /// The last differences, the newest last.
    pub last: VecDeque<Difference>,
    /// Pools that the tried one calls too dear, or did, and since when.
    dear: BTreeMap<Pool, (bool, Time)>,
    before: (Wants, Wants),
}

impl TrialBook {
    /// What the tried policy is to see: the fleet with its own numbers, and its own opinion of prices.
    pub fn fleet(&self, fleet: &Fleet) -> Option<Fleet> {
        let trial = fleet.control.shadow.as_ref()?;
        let mut other = fleet.clone();
        other.control.scaling = trial.scaling.clone();
        for record in other.pools.values_mut() {
            (record.dear, record.flipped) = (None, None);
        }
        let of_this = self.dear.iter().filter(|_| self.of == trial.since);
        for (pool, (dear, at)) in of_this {
            let record = other.pools.entry(pool.clone()).or_default();
            (record.dear, record.flipped) = (dear.then_some(*at), Some(*at));
        }
        Some(other)
    }

    /// Both were asked at an instant, the tried policy being that of an entry.
    pub fn note(&mut self, of: Index, at: Time, live: &Scale, trial: &Scale) {
        if self.of != of {
            *self = TrialBook {
                of,
                begun: at,
                ..TrialBook::default()
            };
        }
        self.looks += 1;
        for flip in &trial.dear {
            self.dear.insert(flip.pool.clone(), (flip.dear, at));
        }
        let wants = (Wants::of(live), Wants::of(trial));
        let is_new = wants.0.machines > self.before.0.machines || wants.1.machines > self.before.1.machines;
        let pools = |scale: &Scale| -> BTreeSet<Pool> {
            let choices = |buy: &Buy| -> Vec<Pool> {
                let wanted = &buy.wanted;
                wanted.choices.iter().map(|one| wanted.pool(one)).collect()
            };
            scale.buy.iter().flat_map(choices).collect()
        };
        if is_new && (wants.0.machines != wants.1.machines || pools(live) != pools(trial)) {
            self.differed += 1;
            if self.last.len() >= TRIAL_DIFFERENCES_KEPT {
                self.last.pop_front();
            }
            self.last.push_back(Difference {
                at,
                live: live.buy.clone(),
                trial: trial.buy.clone(),
            });
        }
        let (before_live, before_trial) = (&mut self.before.0, &mut self.before.1);
        wants.0.count(before_live, &mut self.live);
        wants.1.count(before_trial, &mut self.trial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::capacity::{Flip, LetGo, Sizing};
    use crate::state::launches::{Choice, Wanted};
    use crate::state::machines::EndWhy;

    fn buys(count: u32, market: Market) -> Scale {
        let choice = Choice {
            zone_id: "euw1-az1".into(),
            instance_type: "c5.large".into(),
            vcpus: 2,
            price: MicroUsd(10),
            bound: MicroUsd(20),
        };
        let wanted = Wanted {
            region: "eu-west-1".into(),
            market,
            choices: vec![choice],
            count,
            template: 1,
        };
        let because = Sizing::default();
        Scale {
            buy: if count > 0 {
                vec![Buy { wanted, because }]
            } else {
                vec![]
            },
            ..Scale::default()
        }
    }

    #[test]
    fn what_is_wanted_again_and_again_counts_once() {
        let mut book = TrialBook::default();
        let none = Scale::default();
        book.note(7, Time(1), &buys(3, Market::Spot), &buys(3, Market::Spot));
        assert_eq!((book.looks, book.differed), (1, 0));
        // The one in force has bought; the other goes on wanting.
        for at in 2..9 {
            book.note(7, Time(at), &none, &buys(3, Market::Spot));
        }
        assert_eq!(
            (book.live.machines, book.trial.machines, book.differed),
            (3, 3, 0)
        );
        book.note(7, Time(9), &none, &buys(5, Market::OnDemand));
        assert_eq!(
            (book.trial.machines, book.trial.on_demand, book.differed),
            (5, 5, 1)
        );
        let gone = LetGo {
            machine: InstanceId("i-1".into()),
            why: EndWhy::Idle,
            idle: 1,
            keep: 1,
        };
        let let_go = Scale {
            let_go: vec![gone],
            ..Scale::default()
        };
        book.note(7, Time(10), &none, &let_go);
        book.note(7, Time(11), &none, &let_go);
        assert_eq!((book.trial.let_go, book.live.let_go), (1, 0));
        book.note(8, Time(12), &none, &none);
        assert_eq!((book.looks, book.begun), (1, Time(12)), "another trial");
    }

    #[test]
    fn its_opinion_of_prices_is_its_own() {
        let mut book = TrialBook::default();
        let pool = Pool {
            zone_id: "euw1-az1".into(),
            ..Pool::default()
        };
        let mut fleet = Fleet::default();
        assert!(book.fleet(&fleet).is_none(), "nothing is tried");
        fleet.control.shadow = Some(crate::state::control::Trial {
            by: String::new(),
            at: Time(1),
            since: 7,
            scaling: crate::scaling::Scaling::default(),
        });
        let record = fleet.pools.entry(pool.clone()).or_default();
        (record.dear, record.flipped) = (Some(Time(1)), Some(Time(1)));
        assert_eq!(book.fleet(&fleet).unwrap().pools[&pool].dear, None);
        let flip = Flip {
            pool: pool.clone(),
            dear: true,
            ..Flip::default()
        };
        let flips = Scale {
            dear: vec![flip],
            ..Scale::default()
        };
        book.note(7, Time(5), &Scale::default(), &flips);
        assert_eq!(book.fleet(&fleet).unwrap().pools[&pool].dear, Some(Time(5)));
    }
}
