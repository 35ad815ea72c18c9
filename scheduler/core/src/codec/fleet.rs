//! Machines that the cluster buys: the policy, and what is shown of what it did.

use rebound_proto::v1;

use super::policy::{foresight_out, policy_out};
use super::pool_out;
use crate::bill::HOUR;
use crate::io::{FleetView, ForecastView};
use crate::plan::capacity::{Ahead, Capped, Lacking, NotChosen, Sizing};
use crate::scaling::Escape;
use crate::state::control::Brake;
use crate::state::launches::{Launch, Outcome};
use crate::state::machines::{EndWhy, Machine, Spare};
use crate::state::profile::QuarterRecord;
use crate::types::{InstanceId, LaunchId, Pool};

/// What is known of past weeks.
pub fn forecast(view: &ForecastView) -> v1::ForecastReply {
    let quarter = |(quarter, name, record): &(u16, String, QuarterRecord)| v1::Quarter {
        recogniser: name.clone(),
        quarter: u32::from(*quarter),
        took: record.took.iter().map(|rate| an_hour(*rate)).collect(),
        forecast: record.forecast().map_or(0, an_hour),
        hits: record.hits,
        misses: record.misses,
        wasted: an_hour(record.wasted),
    };
    v1::ForecastReply {
        quarters: view.quarters.iter().map(quarter).collect(),
        foresight: foresight_out(view.foresight).into(),
        week_zone: view.week_zone.clone(),
    }
}

/// Photos in 10^12 µs as photos in an hour, rounded up.
fn an_hour(rate: u64) -> u64 {
    let hours = 10u128.pow(12).div_ceil(u128::from(HOUR));
    u64::try_from(u128::from(rate).div_ceil(hours)).unwrap_or(u64::MAX)
}

/// Why there are machines for work that has not come, in words.
pub fn ahead_words(ahead: &Ahead) -> String {
    match ahead {
        Ahead::Schedule { name } => format!("the schedule {name:?}"),
        Ahead::Week { quarter, rate } => {
            let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let day = days.get(usize::from(quarter / 96)).copied().unwrap_or("");
            let (hour, minute) = (quarter % 96 / 4, quarter % 4 * 15);
            let rate = an_hour(*rate);
            format!("{day} {hour:02}:{minute:02} took up to {rate} photos an hour in past weeks")
        }
        Ahead::Burst { hot, stopped } => {
            format!("{hot} machines that run and {stopped} that stand still are kept for a burst")
        }
        Ahead::Cheaper { machine, extra } => {
            let extra = usd(*extra);
            format!("{machine} has cost {extra} USD more than one here would have, and is replaced")
        }
    }
}

/// What is shown of machines.
pub fn status(view: &FleetView) -> v1::ScaleStatusReply {
    let control = &view.control;
    let frozen = control.frozen.as_ref();
    let short = control.short;
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
        short: short
            .map(|(short, _)| lacking_words(short.why))
            .unwrap_or_default(),
        short_us: short.map_or(0, |(_, at)| at.0),
        short_missing: short.map_or(0, |(short, _)| short.missing),
        short_due_us: short.map_or(0, |(short, _)| short.due.0),
        short_not_before_us: short.and_then(|(short, _)| short.not_before).map_or(0, |at| at.0),
        spares: view.spares.as_ref().map(|mix| v1::SpareMix {
            hot: mix.hot,
            stopped: mix.stopped,
            cold: mix.cold,
            an_hour_micro_usd: mix.standing.0,
            late: mix.late,
            instance_type: mix.instance_type.clone(),
        }),
    }
}

/// What stands in the way of a launch, in words.
pub fn lacking_words(why: Lacking) -> String {
    match why {
        Lacking::Frozen => "a person froze launches".to_owned(),
        Lacking::Braked => "a brake is on".to_owned(),
        Lacking::NoPool => "no pool is known that could do it".to_owned(),
        Lacking::AllClosed => "every pool is dry, banned, or too dear".to_owned(),
        Lacking::Capped(cap) => format!("the cap {}", cap_words(cap)),
    }
}

/// Millionths of USD as USD.
pub fn usd(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let short = text.trim_end_matches('0');
    short.trim_end_matches('.').to_owned()
}

/// A brake in words.
pub fn brake_words(brake: &Brake) -> String {
    match brake {
        Brake::NeverJoined { template, machines } => {
            format!("{machines} machines in a row of template {template} never joined")
        }
        Brake::Launches { count } => format!("{count} launches within an hour"),
        Brake::PhotoCost { lately, before } => format!(
            "a thousand photos cost {} USD in these two hours, and {} in the week before",
            usd(*lately),
            usd(*before)
        ),
        Brake::Bill { ledger, billed } => format!(
            "the cloud's bill says {} USD and the cluster's own books {}",
            usd(*billed),
            usd(*ledger)
        ),
    }
}

fn machine(id: &InstanceId, own: &Machine) -> v1::Machine {
    let state = match () {
        () if own.ending.is_some() => "ending",
        () if own.notice.is_some() => "noticed",
        () if matches!(own.spare, Some(Spare::Stopping(_))) => "stopping",
        () if matches!(own.spare, Some(Spare::Stopped(..))) => "stopped",
        () if own.spare.is_some() => "starting",
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
        launch: own.launch.0,
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
        EndWhy::Spare => "it is kept for a burst no longer",
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

pub(super) fn because(own: &Sizing) -> v1::LaunchReason {
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
        ahead: own.ahead.as_ref().map(ahead_words).unwrap_or_default(),
        escape: own
            .escape
            .map(|one| escape_words(one).to_owned())
            .unwrap_or_default(),
        committed: own.committed,
    }
}

/// In what two pools differ, in words.
pub fn escape_words(escape: Escape) -> &'static str {
    match escape {
        Escape::Market => "market",
        Escape::Zone => "zone",
        Escape::Type => "type",
        Escape::Size => "size",
        Escape::Region => "region",
    }
}

/// A cap in words.
pub fn cap_words(cap: Capped) -> &'static str {
    match cap {
        Capped::Schedule => "schedule.at_most",
        Capped::Instances => "caps.instances",
        Capped::Vcpus => "caps.vcpus",
        Capped::Hour => "caps.hour",
        Capped::Day => "caps.day",
        Capped::Environment => "environment.day_usd",
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
        NotChosen::Region => "the environment's photos may not go there",
        NotChosen::Way => "what photos cost on their way there is not known",
        NotChosen::Share => "it has its share",
    }
}
