//! What the policy in force says of single environments: where their photos may be worked on, and what machines bought
//! for them may cost in a day.

use super::State;
use super::spend::day_of;
use crate::bill::cost;
use crate::command::Join;
use crate::env_rule::EnvRule;
use crate::observe::could_run;
use crate::state::launches::Wanted;
use crate::types::{EnvId, LaunchId, MicroUsd, SpecId, Time};

impl State {
    /// What holds for an environment alone.
    pub fn rule(&self, env: EnvId) -> Option<&EnvRule> {
        let name = &self.environments.get(env)?.name;
        self.control.known()?.scaling.rule(name)
    }

    /// True where an environment's photos may be worked on.
    pub fn allows(&self, env: EnvId, region: &str) -> bool {
        self.rule(env).is_none_or(|rule| rule.allows(region))
    }

    /// True when a worker like this could ever run a photo of the spec, and may.
    pub fn may_run(&self, worker: &Join, spec: SpecId) -> bool {
        let Some(home) = self.specs.home(spec) else {
            return false;
        };
        let record = self.specs.get(spec);
        record.is_some_and(|record| could_run(worker, record)) && self.allows(home, &worker.pool.region)
    }

    /// Millionths of USD that may still be reserved for an environment in the day of `at`: none where no rule limits it.
    /// What was bought for it and may cost yet is reserved.
    pub fn left_of(&self, env: EnvId, at: Time) -> Option<u64> {
        let most = self.rule(env).map(|rule| rule.day).filter(|day| *day > 0)?;
        let (day, money) = self.environments.get(env)?.day;
        let spent = if day == day_of(at) { money } else { 0 };
        let committed = self.control.known()?.scaling.caps.committed;
        let ahead = cost(MicroUsd(self.burn_of(env)), committed);
        Some(most.saturating_sub(spent).saturating_sub(ahead))
    }

    /// USD an hour, in millionths, that what was bought for an environment comes to at most.
    fn burn_of(&self, env: EnvId) -> u64 {
        let is_for = |id: LaunchId| {
            let launch = self.launches.get(id);
            launch.is_some_and(|launch| launch.because.env == env)
        };
        let there = self.machines.live().filter(|(_, machine)| is_for(machine.launch));
        let there = there.fold(0u64, |sum, (_, machine)| sum.saturating_add(machine.bound.0));
        let coming = self
            .launches
            .live()
            .filter(|(_, launch)| launch.because.env == env);
        coming.fold(there, |sum, (_, launch)| {
            let coming = Wanted {
                count: launch.coming(),
                ..launch.wanted.clone()
            };
            sum.saturating_add(coming.dearest().0)
        })
    }
}
