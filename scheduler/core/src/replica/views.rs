//! What people are shown of machines and money.

use super::Replica;
use crate::limits::{DECISIONS_SHOWN, LAUNCHES_SHOWN};
use crate::observe::fleet::fleet;
use crate::plan::capacity::{Mix, mix};
use crate::types::Time;
use crate::view::{CostView, DecisionsView, FleetView, ForecastView, PoliciesView};

impl Replica {
    /// The cluster's clock, as far as this server knows it.
    fn clock_now(&self) -> Time {
        match &self.leader {
            Some(leader) => leader.clock.peek(self.now),
            None => self.state.now(),
        }
    }

    /// What people are shown of machines.
    pub(super) fn fleet_view(&self) -> FleetView {
        let state = &self.state;
        let now = self.clock_now();
        let machines = state.machines.live();
        let launches = state.launches.iter().rev().take(LAUNCHES_SHOWN);
        FleetView {
            control: state.control.get(),
            committed: state.committed(),
            spent: state.spent(now),
            machines: machines.map(|(id, one)| (id.clone(), one.clone())).collect(),
            launches: launches.map(|(id, one)| (id, one.clone())).collect(),
            now,
            spares: self.spares_view(now),
        }
    }

    /// What the policy keeps for a burst; only a leader knows the market.
    fn spares_view(&self, now: Time) -> Option<Mix> {
        self.state.control.known()?.scaling.spares.as_ref()?;
        let leader = self.leader.as_ref()?;
        let pace = |worker| leader.paces.get(&worker);
        let seen = fleet(&self.state, now, &leader.market, self.config.clock_rate, pace)?;
        mix(now, &seen)
    }

    /// What people are shown of past weeks.
    pub(super) fn forecast_view(&self) -> ForecastView {
        let control = self.state.control.get();
        let quarters = self.state.profile.iter();
        let quarters = quarters.map(|((quarter, name), record)| (*quarter, name.clone(), record.clone()));
        ForecastView {
            quarters: quarters.collect(),
            foresight: control.scaling.foresight,
            week_zone: control.scaling.week_zone,
        }
    }

    /// What people are shown of money.
    pub(super) fn cost_view(&self) -> CostView {
        let (state, now) = (&self.state, self.clock_now());
        let used = state.pools.iter().filter(|(_, record)| record.ran > 0);
        let environments = state.environments.iter();
        let unpaid = state.machines.live().map(|(_, machine)| machine.unpaid(now));
        CostView {
            hours: state.spend.hours().map(|(hour, one)| (hour, *one)).collect(),
            pools: used
                .map(|(pool, record)| (pool.clone(), record.clone()))
                .collect(),
            environments: environments
                .map(|(_, one)| (one.name.clone(), one.cost))
                .collect(),
            unpaid: unpaid.fold(0, u64::saturating_add),
            now,
        }
    }

    /// What people are shown of decisions.
    pub(super) fn decisions_view(&self, until: Option<Time>) -> DecisionsView {
        let all = self.state.decisions.iter().rev();
        let asked = all.filter(|(_, one)| until.is_none_or(|until| one.at <= until));
        let decisions = asked.take(DECISIONS_SHOWN);
        DecisionsView {
            decisions: decisions.map(|((index, _), one)| (*index, one.clone())).collect(),
            now: self.clock_now(),
        }
    }

    /// What people are shown of policies.
    pub(super) fn policies_view(&self) -> PoliciesView {
        let policies = self.state.policies.iter().rev();
        PoliciesView {
            policies: policies.map(|(index, record)| (index, record.clone())).collect(),
            trial: self.state.control.get().shadow,
            book: self
                .leader
                .as_ref()
                .map(|leader| leader.trial.clone())
                .unwrap_or_default(),
        }
    }
}
