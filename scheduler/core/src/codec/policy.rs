//! Policies of buying machines, to the wire and back.

use rebound_proto::v1;

use crate::env_rule::EnvRule;
use crate::reply::Rejected;
use crate::scaling::{
    Brakes, Breaker, Caps, Commitment, Escape, Foresight, Mode, Scaling, Spares, Threshold,
};
use crate::schedule::Schedule;

fn missing(field: &'static str) -> Rejected {
    Rejected::Invalid {
        field,
        why: "is not there; all of a policy is sent".to_owned(),
    }
}

/// A policy from the wire; [`Scaling::check`] says whether it makes sense.
///
/// # Errors
///
/// When a part of it is not there.
pub fn policy_in(wire: Option<&v1::Policy>) -> Result<Scaling, Rejected> {
    let wire = wire.ok_or(missing("policy"))?;
    let caps = wire.caps.as_ref().ok_or(missing("policy.caps"))?;
    let brakes = wire.brakes.as_ref().ok_or(missing("policy.brakes"))?;
    let breaker = wire.breaker.as_ref().ok_or(missing("policy.breaker"))?;
    let mode = match wire.mode() {
        v1::ScalingMode::Unspecified => return Err(missing("policy.mode")),
        v1::ScalingMode::Off => Mode::Off,
        v1::ScalingMode::Observe => Mode::Observe,
        v1::ScalingMode::Act => Mode::Act,
    };
    Ok(Scaling {
        mode,
        template: wire.template,
        spot: wire.spot,
        on_demand: wire.on_demand,
        within: wire.within_us,
        late_within: wire.late_within_us,
        ready: wire.ready_us,
        spare: wire.spare,
        share: wire.share,
        grown: wire.grown,
        again: wire.again_us,
        threshold: wire.threshold.as_ref().map(|wire| Threshold {
            high: wire.high,
            high_for: wire.high_for_us,
            low: wire.low,
            low_for: wire.low_for_us,
            hold: wire.hold_us,
        }),
        probe_first: wire.probe_first_us,
        probe_max: wire.probe_max_us,
        keep: wire.keep,
        stale_after: wire.stale_after_us,
        caps: Caps {
            instances: caps.instances,
            vcpus: caps.vcpus,
            hour: caps.hour_micro_usd,
            day: caps.day_micro_usd,
            committed: caps.committed_us,
        },
        brakes: Brakes {
            canary: brakes.canary,
            never_joined: brakes.never_joined,
            join_within: brakes.join_within_us,
            launches: brakes.launches,
            photo_cost: brakes.photo_cost,
            bill_apart: brakes.bill_apart,
        },
        breaker: Breaker {
            taken: breaker.taken,
            share: breaker.share,
            within: breaker.within_us,
            rest: breaker.rest_us,
        },
        schedules: wire.schedules.iter().map(schedule_in).collect(),
        foresight: match wire.foresight() {
            v1::Foresight::Unspecified => return Err(missing("policy.foresight")),
            v1::Foresight::Off => Foresight::Off,
            v1::Foresight::Watch => Foresight::Watch,
            v1::Foresight::Act => Foresight::Act,
        },
        week_zone: wire.week_zone.clone(),
        photo_kb: wire.photo_kb,
        away_saving: wire.away_saving,
        escape: wire.escape().map(escape_in).collect::<Result<_, _>>()?,
        commitments: wire.commitments.iter().map(commitment_in).collect(),
        environments: rules_in(&wire.environments),
        spares: wire.spares.as_ref().map(|wire| Spares {
            recogniser: wire.recogniser.clone(),
            photos: wire.photos,
            within: wire.within_us,
            start: wire.start_us,
            volume: wire.volume_micro_usd,
        }),
    })
}

/// The other way.
pub fn policy_out(own: &Scaling) -> v1::Policy {
    let mode = match own.mode {
        Mode::Off => v1::ScalingMode::Off,
        Mode::Observe => v1::ScalingMode::Observe,
        Mode::Act => v1::ScalingMode::Act,
    };
    v1::Policy {
        mode: mode.into(),
        template: own.template,
        spot: own.spot,
        on_demand: own.on_demand,
        within_us: own.within,
        late_within_us: own.late_within,
        ready_us: own.ready,
        spare: own.spare,
        share: own.share,
        grown: own.grown,
        again_us: own.again,
        threshold: own.threshold.as_ref().map(|own| v1::SpotThreshold {
            high: own.high,
            high_for_us: own.high_for,
            low: own.low,
            low_for_us: own.low_for,
            hold_us: own.hold,
        }),
        probe_first_us: own.probe_first,
        probe_max_us: own.probe_max,
        keep: own.keep,
        stale_after_us: own.stale_after,
        caps: Some(v1::SpendCaps {
            instances: own.caps.instances,
            vcpus: own.caps.vcpus,
            hour_micro_usd: own.caps.hour,
            day_micro_usd: own.caps.day,
            committed_us: own.caps.committed,
        }),
        brakes: Some(v1::LaunchBrakes {
            canary: own.brakes.canary,
            never_joined: own.brakes.never_joined,
            join_within_us: own.brakes.join_within,
            launches: own.brakes.launches,
            photo_cost: own.brakes.photo_cost,
            bill_apart: own.brakes.bill_apart,
        }),
        breaker: Some(v1::PoolBreaker {
            taken: own.breaker.taken,
            share: own.breaker.share,
            within_us: own.breaker.within,
            rest_us: own.breaker.rest,
        }),
        schedules: own.schedules.iter().map(schedule_out).collect(),
        foresight: foresight_out(own.foresight).into(),
        week_zone: own.week_zone.clone(),
        photo_kb: own.photo_kb,
        away_saving: own.away_saving,
        escape: own.escape.iter().map(|one| escape_out(*one).into()).collect(),
        commitments: own.commitments.iter().map(commitment_out).collect(),
        environments: own.environments.iter().map(rule_out).collect(),
        spares: own.spares.as_ref().map(|own| v1::Spares {
            recogniser: own.recogniser.clone(),
            photos: own.photos,
            within_us: own.within,
            start_us: own.start,
            volume_micro_usd: own.volume,
        }),
    }
}

fn escape_in(wire: v1::Escape) -> Result<Escape, Rejected> {
    match wire {
        v1::Escape::Unspecified => Err(Rejected::Invalid {
            field: "escape",
            why: "names something that this server does not know".to_owned(),
        }),
        v1::Escape::Market => Ok(Escape::Market),
        v1::Escape::Zone => Ok(Escape::Zone),
        v1::Escape::Type => Ok(Escape::Type),
        v1::Escape::Size => Ok(Escape::Size),
        v1::Escape::Region => Ok(Escape::Region),
    }
}

fn escape_out(own: Escape) -> v1::Escape {
    match own {
        Escape::Market => v1::Escape::Market,
        Escape::Zone => v1::Escape::Zone,
        Escape::Type => v1::Escape::Type,
        Escape::Size => v1::Escape::Size,
        Escape::Region => v1::Escape::Region,
    }
}

fn commitment_in(wire: &v1::Commitment) -> Commitment {
    Commitment {
        region: wire.region.clone(),
        zone_id: wire.zone_id.clone(),
        instance_type: wire.instance_type.clone(),
        machines: wire.machines,
    }
}

fn commitment_out(own: &Commitment) -> v1::Commitment {
    v1::Commitment {
        region: own.region.clone(),
        zone_id: own.zone_id.clone(),
        instance_type: own.instance_type.clone(),
        machines: own.machines,
    }
}

/// In the order of their names, whatever order they came in.
fn rules_in(wire: &[v1::EnvironmentRule]) -> Vec<EnvRule> {
    let mut rules: Vec<EnvRule> = wire.iter().map(rule_in).collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
}

fn rule_in(wire: &v1::EnvironmentRule) -> EnvRule {
    EnvRule {
        name: wire.name.clone(),
        regions: wire.regions.clone(),
        day: wire.day_micro_usd,
    }
}

fn rule_out(own: &EnvRule) -> v1::EnvironmentRule {
    v1::EnvironmentRule {
        name: own.name.clone(),
        regions: own.regions.clone(),
        day_micro_usd: own.day,
    }
}

fn schedule_in(wire: &v1::Schedule) -> Schedule {
    Schedule {
        name: wire.name.clone(),
        cron: wire.cron.clone(),
        time_zone: wire.time_zone.clone(),
        lasts: wire.lasts_us,
        recogniser: wire.recogniser.clone(),
        at_least: wire.at_least,
        at_most: wire.at_most,
    }
}

fn schedule_out(own: &Schedule) -> v1::Schedule {
    v1::Schedule {
        name: own.name.clone(),
        cron: own.cron.clone(),
        time_zone: own.time_zone.clone(),
        lasts_us: own.lasts,
        recogniser: own.recogniser.clone(),
        at_least: own.at_least,
        at_most: own.at_most,
    }
}

pub(super) fn foresight_out(own: Foresight) -> v1::Foresight {
    match own {
        Foresight::Off => v1::Foresight::Off,
        Foresight::Watch => v1::Foresight::Watch,
        Foresight::Act => v1::Foresight::Act,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_as_it_went() {
        let threshold = Threshold {
            high: 800,
            high_for: 1,
            low: 700,
            low_for: 2,
            hold: 3,
        };
        let own = Scaling {
            mode: Mode::Observe,
            template: 7,
            spot: false,
            threshold: Some(threshold),
            schedules: vec![Schedule {
                name: "opening".into(),
                at_most: Some(0),
                ..Schedule::default()
            }],
            foresight: Foresight::Act,
            commitments: vec![Commitment {
                region: "us-east-1".into(),
                zone_id: "use1-az1".into(),
                instance_type: "c5.large".into(),
                machines: 3,
            }],
            spares: Some(Spares {
                recogniser: "shelf".into(),
                photos: 1,
                within: 2,
                start: 3,
                volume: 4,
            }),
            ..Scaling::default()
        };
        assert_eq!(policy_in(Some(&policy_out(&own))), Ok(own));
        let whole = policy_out(&Scaling::default());
        let field = |wire: Option<&v1::Policy>| policy_in(wire).map_err(|rejected| rejected.field());
        assert_eq!(field(None), Err("policy"));
        let no_mode = v1::Policy {
            mode: 0,
            ..whole.clone()
        };
        assert_eq!(field(Some(&no_mode)), Err("policy.mode"));
        let no_caps = v1::Policy { caps: None, ..whole };
        assert_eq!(field(Some(&no_caps)), Err("policy.caps"));
    }
}
