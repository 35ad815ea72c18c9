//! Machines that the cluster buys: the policy, and what is shown of what it did.

use rebound_proto::v1;

use super::pool_out;
use crate::io::FleetView;
use crate::plan::capacity::{Capped, NotChosen, Sizing};
use crate::reply::Rejected;
use crate::scaling::{Brakes, Caps, Mode, Scaling, Threshold};
use crate::state::control::Brake;
use crate::state::launches::{Launch, Outcome};
use crate::state::machines::{EndWhy, Machine};
use crate::types::{InstanceId, LaunchId, Pool};

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
        },
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
        }),
    }
}

/// What is shown of machines.
pub fn status(view: &FleetView) -> v1::ScaleStatusReply {
    let control = &view.control;
    let frozen = control.frozen.as_ref();
    v1::ScaleStatusReply {
        policy: Some(policy_out(&control.scaling)),
        since: control.since,
        frozen_by: frozen.map(|one| one.by.clone()).unwrap_or_default(),
        frozen_why: frozen.map(|one| one.why.clone()).unwrap_or_default(),
        frozen_us: frozen.map_or(0, |one| one.at.0),
        brake: control
            .brake
            .map(|(brake, _)| brake_words(&brake))
            .unwrap_or_default(),
        brake_us: control.brake.map_or(0, |(_, at)| at.0),
        instances: view.committed.instances,
        vcpus: view.committed.vcpus,
        hour_micro_usd: view.spent.0,
        day_micro_usd: view.spent.1,
        machines: view.machines.iter().map(|(id, one)| machine(id, one)).collect(),
        launches: view.launches.iter().map(|(id, one)| launch(*id, one)).collect(),
        now_us: view.now.0,
    }
}

/// A brake in words.
pub fn brake_words(brake: &Brake) -> String {
    match brake {
        Brake::NeverJoined { template, machines } => {
            format!("{machines} machines in a row of template {template} never joined")
        }
        Brake::Launches { count } => format!("{count} launches within an hour"),
    }
}

fn machine(id: &InstanceId, own: &Machine) -> v1::Machine {
    let state = match () {
        () if own.ending.is_some() => "ending",
        () if own.notice.is_some() => "noticed",
        () if own.joined.is_some() => "serving",
        () if own.running.is_some() => "booting",
        () => "pending",
    };
    v1::Machine {
        id: id.0.clone(),
        pool: Some(pool_out(&own.pool)),
        state: state.to_owned(),
        wanted_us: own.wanted.0,
        running_us: own.running.map_or(0, |at| at.0),
        joined_us: own.joined.map_or(0, |(_, at)| at.0),
        price_micro_usd: own.price.0,
        paid_micro_usd: own.paid,
        worker: own.joined.map_or(0, |(worker, _)| worker.0),
        ending: own
            .ending
            .map(|(why, _)| end_words(why).to_owned())
            .unwrap_or_default(),
    }
}

/// Why a machine ends, in words.
pub fn end_words(why: EndWhy) -> &'static str {
    match why {
        EndWhy::Idle => "idle for longer than keeping it is worth",
        EndWhy::TooDear => "another one takes its place for less",
        EndWhy::Cap => "a cap",
        EndWhy::NeverJoined => "it never joined",
        EndWhy::Drained => "it was drained",
        EndWhy::Left => "its agent left",
        EndWhy::Silent => "its agent fell silent",
        EndWhy::Orphan => "no launch accounts for it",
        EndWhy::Asked => "a person asked for it",
    }
}

fn launch(id: LaunchId, own: &Launch) -> v1::Launch {
    let outcome = match &own.settled {
        None => "open".to_owned(),
        Some((_, Outcome::Answered { .. })) => "answered".to_owned(),
        Some((_, Outcome::Refused { why })) => format!("refused: {why}"),
        Some((_, Outcome::Expired)) => "nothing more came of it".to_owned(),
    };
    let pools = own
        .wanted
        .choices
        .iter()
        .map(|choice| pool_out(&own.wanted.pool(choice)));
    v1::Launch {
        id: id.0,
        at_us: own.at.0,
        pools: pools.collect(),
        count: own.wanted.count,
        got: own.machines,
        outcome,
        because: Some(because(&own.because)),
    }
}

fn because(own: &Sizing) -> v1::LaunchReason {
    let instead: Option<&(Pool, _, _)> = own.instead_of.as_ref();
    v1::LaunchReason {
        photos: own.photos,
        missing: own.missing,
        due_us: own.due.0,
        ready_in_us: own.ready_in,
        machines: own.machines,
        have: own.have,
        capped: own
            .capped
            .map(|cap| cap_words(cap).to_owned())
            .unwrap_or_default(),
        chosen_micro_usd: own.chosen.0,
        instead_of: instead.map(|(pool, ..)| pool_out(pool)),
        instead_of_micro_usd: instead.map_or(0, |(_, total, _)| total.0),
        not_chosen: instead
            .map(|(.., why)| not_chosen_words(*why).to_owned())
            .unwrap_or_default(),
    }
}

/// A cap in words.
pub fn cap_words(cap: Capped) -> &'static str {
    match cap {
        Capped::Instances => "caps.instances",
        Capped::Vcpus => "caps.vcpus",
        Capped::Hour => "caps.hour",
        Capped::Day => "caps.day",
        Capped::Canary => "brakes.canary",
    }
}

/// Why a pool was not chosen, in words.
pub fn not_chosen_words(why: NotChosen) -> &'static str {
    match why {
        NotChosen::Dearer => "dearer",
        NotChosen::AboveThreshold => "spot is above the threshold",
        NotChosen::Closed => "it had no machine, and is left alone for a while",
        NotChosen::Banned => "banned",
        NotChosen::NotAllowed => "the policy does not buy this market",
        NotChosen::PriceOld => "its price is too old",
        NotChosen::Share => "it has its share",
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
            ..Scaling::default()
        };
        assert_eq!(policy_in(Some(&policy_out(&own))), Ok(own));
        let whole = policy_out(&Scaling::default());
        let field = |wire: Option<&v1::Policy>| policy_in(wire).map_err(|rejected| rejected.field());
        assert_eq!(field(None), Err("policy"));
        let no_mode = v1::Policy { mode: 0, ..whole };
        assert_eq!(field(Some(&no_mode)), Err("policy.mode"));
        let no_caps = v1::Policy { caps: None, ..whole };
        assert_eq!(field(Some(&no_caps)), Err("policy.caps"));
    }
}
