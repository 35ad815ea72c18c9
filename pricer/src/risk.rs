//! How often machines of a pool are taken away, and how often launches into it fail.
//!
//! Both are Beta counts: what happened and what did not, over a prior with a weight of its own. An instance-minute is
//! one trial of being interrupted; a launch is one trial of failing. Own counts fade with a half-life, the prior does
//! not: a pool that nobody uses goes back to what EC2 says of it. The price is no input: since 2017 it has not
//! announced interruptions.

use std::collections::BTreeMap;

use rebound_core::types::{Market, Pool, Time};
use serde::Serialize;

use crate::advisor::{Advice, failures_of, interruptions_of};
use crate::decay::{Fading, UNIT};
use crate::limits::{
    INTERRUPTION_HALF_LIFE, INTERRUPTION_PRIOR_MINUTES, LAUNCH_HALF_LIFE, LAUNCH_PRIOR_LAUNCHES,
    LAUNCH_PRIOR_ON_DEMAND, RISKS_MAX,
};
use crate::money::ratio;

const MILLION: u64 = 1_000_000;
const MINUTES_AN_HOUR: u64 = 60;
/// Instance time is counted in µs, and a minute is one trial.
const MINUTE: u64 = 60_000_000;

/// What a pool did to us, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    interrupted: Fading,
    minutes: Fading,
    failed: Fading,
    launched: Fading,
    touched: Time,
}

/// How risky a pool is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// Interruptions a million instance-hours.
    pub interruptions_ppm_hour: u64,
    /// Launches of a million that fail.
    pub launch_failures_ppm: u64,
    /// The advisor's band, where known.
    pub band: Option<u8>,
    /// The placement score of ten, where known.
    pub score: Option<u8>,
    /// Own interruptions still counted, in millionths.
    pub own_interruptions: u64,
    /// Own instance-minutes still counted, in millionths.
    pub own_minutes: u64,
    /// Own launches still counted, failed or not, in millionths.
    pub own_launches: u64,
}

/// Own counts of all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Risks {
    counts: BTreeMap<Pool, Counts>,
}

impl Risks {
    /// A machine of `pool` ran for `ran` µs up to `now`.
    pub fn note_running(&mut self, pool: &Pool, ran: u64, now: Time) {
        let trials = ratio(ran, UNIT, MINUTE);
        self.of(pool, now)
            .minutes
            .add(trials, now, INTERRUPTION_HALF_LIFE);
    }

    /// EC2 took a machine of `pool` away at `now`.
    pub fn note_interruption(&mut self, pool: &Pool, now: Time) {
        self.of(pool, now)
            .interrupted
            .add(UNIT, now, INTERRUPTION_HALF_LIFE);
    }

    /// A launch into `pool` gave `started` machines of `asked` at `now`.
    pub fn note_launch(&mut self, pool: &Pool, asked: u32, started: u32, now: Time) {
        let failed = asked.saturating_sub(started);
        let counts = self.of(pool, now);
        let units = |machines: u32| u64::from(machines) * UNIT;
        counts.failed.add(units(failed), now, LAUNCH_HALF_LIFE);
        counts.launched.add(units(asked), now, LAUNCH_HALF_LIFE);
    }

    /// What is to be reckoned with at `now`.
    pub fn of_pool(&self, pool: &Pool, advice: &Advice, now: Time) -> Risk {
        let counts = self.counts.get(pool).copied().unwrap_or_default();
        let band = advice.band(&pool.region, &pool.instance_type);
        let score = advice.score(&pool.zone_id, &pool.instance_type);
        let interrupted = counts.interrupted.left(now, INTERRUPTION_HALF_LIFE);
        let minutes = counts.minutes.left(now, INTERRUPTION_HALF_LIFE);
        let failed = counts.failed.left(now, LAUNCH_HALF_LIFE);
        let launched = counts.launched.left(now, LAUNCH_HALF_LIFE);
        // Bands and scores are of spot; on-demand machines stay, and few launches of them fail.
        let (taken, refused) = match pool.market {
            Market::Spot => (interruptions_of(band), failures_of(score)),
            _ => (0, LAUNCH_PRIOR_ON_DEMAND),
        };
        let prior = taken * UNIT / MINUTES_AN_HOUR;
        let a_minute = beta((interrupted, minutes), prior, INTERRUPTION_PRIOR_MINUTES);
        let a_launch = beta((failed, launched), refused * UNIT, LAUNCH_PRIOR_LAUNCHES);
        Risk {
            interruptions_ppm_hour: a_minute.saturating_mul(MINUTES_AN_HOUR) / UNIT,
            launch_failures_ppm: a_launch / UNIT,
            band,
            score,
            own_interruptions: interrupted,
            own_minutes: minutes,
            own_launches: launched,
        }
    }

    /// Pools with counts of their own.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The counts of a pool. When there are too many, those touched longest ago are forgotten: they have faded most.
    fn of(&mut self, pool: &Pool, now: Time) -> &mut Counts {
        if self.counts.len() >= RISKS_MAX && !self.counts.contains_key(pool) {
            let oldest = self.counts.iter().min_by_key(|(_, counts)| counts.touched);
            if let Some(oldest) = oldest.map(|(pool, _)| pool.clone()) {
                self.counts.remove(&oldest);
            }
        }
        let counts = self.counts.entry(pool.clone()).or_default();
        counts.touched = counts.touched.max(now);
        counts
    }
}

/// The mean of a Beta distribution in parts of 10^12: `happened` of `trials` (both in millionths) over a prior that
/// says `prior` (parts of 10^12) and weighs `weight` trials. Never above one.
fn beta((happened, trials): (u64, u64), prior: u64, weight: u64) -> u64 {
    let whole = u128::from(MILLION * UNIT);
    let weight = u128::from(weight * UNIT);
    // More may have happened than was tried, where an interruption was told before the time that led to it.
    let trials = u128::from(trials.max(happened));
    let up = u128::from(happened) * whole + u128::from(prior) * weight;
    u64::try_from((up / (trials + weight)).min(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{ZoneNames, spot};
    use proptest::prelude::*;

    const HOUR: u64 = 60 * MINUTE;
    const T0: Time = Time(1_700_000_000_000_000);

    fn pool() -> Pool {
        spot("c5.large", "euw1-az1", &ZoneNames::new()).unwrap()
    }

    fn after(micros: u64) -> Time {
        Time(T0.0 + micros)
    }

    #[test]
    fn it_begins_with_what_ec2_says() {
        let mut advice = Advice::default();
        let risks = Risks::default();
        let unknown = risks.of_pool(&pool(), &advice, T0);
        assert_eq!(
            (unknown.interruptions_ppm_hour, unknown.launch_failures_ppm),
            (222, 100_000)
        );
        advice.note_band("eu-west-1", "c5.large", 0).unwrap();
        advice.note_score("euw1-az1", "c5.large", 10, 10).unwrap();
        let told = risks.of_pool(&pool(), &advice, T0);
        assert_eq!(
            (told.interruptions_ppm_hour, told.launch_failures_ppm),
            (69, 20_000)
        );
    }

    #[test]
    fn own_experience_wins_and_fades() {
        let mut advice = Advice::default();
        advice.note_band("eu-west-1", "c5.large", 0).unwrap();
        let mut risks = Risks::default();
        for hour in 1..=400 {
            risks.note_running(&pool(), 5 * HOUR, after(hour * HOUR / 4));
            risks.note_interruption(&pool(), after(hour * HOUR / 4));
        }
        let now = after(100 * HOUR);
        let hot = risks.of_pool(&pool(), &advice, now).interruptions_ppm_hour;
        // One interruption each five instance-hours, drawn a little to the band.
        assert!((160_000..200_000).contains(&hot), "{hot}");
        let cool = risks.of_pool(&pool(), &advice, after(130 * 24 * HOUR));
        assert!(cool.interruptions_ppm_hour <= 80, "{cool:?}");
    }

    #[test]
    fn failed_launches_are_forgotten_within_an_hour_or_two() {
        let advice = Advice::default();
        let mut risks = Risks::default();
        risks.note_launch(&pool(), 10, 0, T0);
        let dry = risks.of_pool(&pool(), &advice, T0).launch_failures_ppm;
        assert!(dry > 800_000, "{dry}");
        risks.note_launch(&pool(), 20, 20, after(HOUR / 2));
        let back = risks
            .of_pool(&pool(), &advice, after(HOUR / 2))
            .launch_failures_ppm;
        assert!(back < 150_000, "{back}");
    }

    #[test]
    fn memory_is_bounded_and_the_stalest_go() {
        let mut risks = Risks::default();
        for number in 0..=RISKS_MAX as u64 {
            let one = Pool {
                zone_id: format!("z{number}"),
                ..pool()
            };
            // The scan for the oldest is done only when the bound is met: once here.
            risks.note_interruption(&one, after(number));
        }
        assert_eq!(risks.len(), RISKS_MAX);
        let first = Pool {
            zone_id: "z0".into(),
            ..pool()
        };
        assert!(!risks.counts.contains_key(&first));
    }

    proptest! {
        /// Whatever happens, the answers are shares; more interruptions never look safer, more good hours never riskier.
        #[test]
        fn in_bounds_and_monotone(
            told in prop::collection::vec((0u64..10, 0u64..500, 0u32..9, 0u32..9), 0..30),
            band in prop::option::of(0u64..5),
        ) {
            let mut advice = Advice::default();
            if let Some(band) = band {
                advice.note_band("eu-west-1", "c5.large", band).unwrap();
            }
            let mut risks = Risks::default();
            let mut now = T0;
            for (hours, minutes, asked, started) in told {
                now = Time(now.0 + hours * HOUR);
                risks.note_running(&pool(), minutes * MINUTE, now);
                if minutes % 3 == 0 { risks.note_interruption(&pool(), now); }
                risks.note_launch(&pool(), asked, started.min(asked), now);
            }
            let before = risks.of_pool(&pool(), &advice, now);
            prop_assert!(before.launch_failures_ppm <= MILLION);
            prop_assert!(before.interruptions_ppm_hour <= 60 * MILLION);
            let mut worse = risks.clone();
            worse.note_interruption(&pool(), now);
            worse.note_launch(&pool(), 1, 0, now);
            let after = worse.of_pool(&pool(), &advice, now);
            prop_assert!(after.interruptions_ppm_hour >= before.interruptions_ppm_hour);
            prop_assert!(after.launch_failures_ppm >= before.launch_failures_ppm);
            let mut better = risks.clone();
            better.note_running(&pool(), 100 * HOUR, now);
            better.note_launch(&pool(), 1, 1, now);
            let after = better.of_pool(&pool(), &advice, now);
            prop_assert!(after.interruptions_ppm_hour <= before.interruptions_ppm_hour);
            prop_assert!(after.launch_failures_ppm <= before.launch_failures_ppm);
        }
    }
}
