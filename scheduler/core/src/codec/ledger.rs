//! What machines cost, what was decided about them, and policies of before: to the wire.

use rebound_proto::v1;

use super::fleet::{ahead_words, because, brake_words, cap_words, end_words, lacking_words, usd};
use super::policy::policy_out;
use super::pool_out;
use crate::bill::HOUR;
use crate::plan::capacity::{Buy, Sizing};
use crate::state::decisions::{Decision, What};
use crate::state::launches::{Lack, Outcome};
use crate::state::machines::Gone;
use crate::trial::{Difference, Tally, TrialBook};
use crate::types::{Index, Market, Pool, SECOND, Time};
use crate::view::{CostView, DecisionsView, PoliciesView};

/// What machines cost.
pub fn costs(view: &CostView) -> v1::CostsReply {
    let hours = view.hours.iter().map(|(hour, one)| v1::CostHour {
        at_us: hour.saturating_mul(HOUR),
        micro_usd: one.money,
        at_most_micro_usd: one.at_most,
        photos: one.photos,
        billed_micro_usd: one.billed,
    });
    let pools = view.pools.iter().map(|(pool, record)| v1::CostPool {
        pool: Some(pool_out(pool)),
        ran_us: record.ran,
        micro_usd: record.paid,
        at_most_micro_usd: record.at_most,
        machines: record.started,
        taken: record.reclaimed,
        lacked: record.lacked,
    });
    let environments = view.environments.iter().map(|(name, cost)| v1::CostEnvironment {
        name: name.clone(),
        micro_usd: *cost,
    });
    v1::CostsReply {
        hours: hours.collect(),
        pools: pools.collect(),
        environments: environments.collect(),
        unpaid_micro_usd: view.unpaid,
        now_us: view.now.0,
    }
}

/// What was decided.
pub fn decisions(view: &DecisionsView) -> v1::DecisionsReply {
    let all = view.decisions.iter();
    v1::DecisionsReply {
        decisions: all.map(|(index, one)| decision(*index, one)).collect(),
        now_us: view.now.0,
    }
}

/// Policies of before, and the one that is tried.
pub fn policies(view: &PoliciesView) -> v1::PoliciesReply {
    let all = view.policies.iter().map(|(index, record)| v1::PastPolicy {
        index: *index,
        at_us: record.at.0,
        by: record.by.clone(),
        policy: Some(policy_out(&record.scaling)),
    });
    let trial = view.trial.as_ref().map(|trial| {
        // What another leader counted is gone with it.
        let book = match view.book.of == trial.since {
            true => view.book.clone(),
            false => TrialBook::default(),
        };
        v1::PolicyTrial {
            index: trial.since,
            at_us: trial.at.0,
            by: trial.by.clone(),
            policy: Some(policy_out(&trial.scaling)),
            counted_from_us: book.begun.0,
            looks: book.looks,
            differed: book.differed,
            live: Some(tally(&book.live)),
            trial: Some(tally(&book.trial)),
            last: book.last.iter().rev().map(difference).collect(),
        }
    });
    v1::PoliciesReply {
        policies: all.collect(),
        trial,
    }
}

fn tally(own: &Tally) -> v1::TrialTally {
    v1::TrialTally {
        machines: own.machines,
        on_demand: own.on_demand,
        an_hour_micro_usd: own.an_hour,
        let_go: own.let_go,
    }
}

fn difference(own: &Difference) -> v1::TrialDifference {
    let words = |buys: &[Buy]| match buys {
        [] => "nothing".to_owned(),
        _ => buys.iter().map(buy_words).collect::<Vec<_>>().join(", "),
    };
    v1::TrialDifference {
        at_us: own.at.0,
        live: words(&own.live),
        trial: words(&own.trial),
    }
}

fn buy_words(buy: &Buy) -> String {
    let wanted = &buy.wanted;
    let pools = wanted.choices.iter().map(|one| pool_words(&wanted.pool(one)));
    format!("{} × {}", wanted.count, pools.collect::<Vec<_>>().join(" or "))
}

fn pool_words(pool: &Pool) -> String {
    let market = match pool.market {
        Market::Spot => "spot",
        Market::OnDemand => "on-demand",
        Market::None => "none",
    };
    format!("{}@{}/{market}", pool.instance_type, pool.zone_id)
}

fn decision(index: Index, own: &Decision) -> v1::Decision {
    let (what, words) = words(&own.what, own.at);
    let mut wire = v1::Decision {
        index,
        at_us: own.at.0,
        by: own.by.clone(),
        what: what.to_owned(),
        words,
        ..v1::Decision::default()
    };
    match &own.what {
        What::Launched {
            launch,
            pools,
            because: reason,
            ..
        } => {
            wire.launch = launch.0;
            wire.pools = pools.iter().map(pool_out).collect();
            wire.because = Some(because(reason));
        }
        What::Settled { launch, .. } => wire.launch = launch.0,
        What::Starting {
            machine,
            because: reason,
        } => {
            wire.machine.clone_from(&machine.0);
            wire.because = Some(because(reason));
        }
        What::LetGo { machine, .. }
        | What::Stopping { machine, .. }
        | What::Noticed { machine, .. }
        | What::Ended { machine, .. } => {
            wire.machine.clone_from(&machine.0);
        }
        What::Dear(flip) => wire.pools = vec![pool_out(&flip.pool)],
        What::Closed { pool, .. } | What::Banned { pool, .. } => wire.pools = vec![pool_out(pool)],
        _ => {}
    }
    wire
}

/// A decision's name, and what it says to people.
fn words(what: &What, at: Time) -> (&'static str, String) {
    match what {
        What::Launched {
            count,
            pools,
            because,
            ..
        } => ("launch", launched(*count, pools, because)),
        What::Dropped { count, why } => ("dropped", format!("{count} machines are not asked for: {why}")),
        What::Settled {
            launch,
            got,
            of,
            outcome,
        } => {
            let how = match outcome {
                Outcome::Answered { .. } => String::new(),
                Outcome::Refused { why } => format!("; the cloud refused: {why}"),
                Outcome::Expired => "; nothing more came of it".to_owned(),
            };
            ("settled", format!("launch {launch} gave {got} of {of}{how}"))
        }
        What::Starting { machine, because } => (
            "start",
            format!(
                "{machine} stood still: {} of {} photos would be late",
                because.missing, because.photos
            ),
        ),
        What::Stopping { machine, idle } => {
            let idle = idle / SECOND;
            ("stop", format!("{machine}: idle for {idle} s, kept for a burst"))
        }
        What::LetGo {
            machine,
            why,
            idle,
            keep,
        } => {
            let (why, idle, keep) = (end_words(*why), idle / SECOND, keep / SECOND);
            let text = format!("{machine}: {why}; idle for {idle} s, where keeping it is worth {keep} s");
            ("let-go", text)
        }
        What::Noticed { machine, ends } => {
            let left = ends.0.saturating_sub(at.0) / SECOND;
            ("notice", format!("the cloud takes {machine} back in {left} s"))
        }
        What::Ended { machine, how, paid } => {
            let how = match how {
                Gone::Ended => "ended by the cluster",
                Gone::Reclaimed => "taken back by the cloud",
                Gone::ByItself => "ended by itself, or by somebody else",
            };
            ("ended", format!("{machine} {how}; it cost {} USD", usd(*paid)))
        }
        What::Dear(flip) => {
            let (pool, price, on_demand) = (pool_words(&flip.pool), usd(flip.price.0), usd(flip.on_demand.0));
            match (flip.dear, flip.price.0) {
                (true, _) => (
                    "dear",
                    format!("{pool} costs {price} USD an hour, on demand {on_demand}"),
                ),
                (false, 0) => ("not-dear", format!("{pool}: the policy has no threshold")),
                (false, _) => (
                    "not-dear",
                    format!("{pool} costs {price} USD an hour, on demand {on_demand}"),
                ),
            }
        }
        What::Closed {
            pool, lack, refusals, ..
        } => {
            let lack = match lack {
                Lack::Capacity => "no machine there",
                Lack::Quota => "a quota of the account is used up",
                Lack::Addresses => "the zone's network has no address left",
                Lack::TakenBack => "too many of its machines were taken back",
            };
            let pool = pool_words(pool);
            (
                "closed",
                format!("{pool}: {lack}, {refusals} times in a row; left alone for a while"),
            )
        }
        What::Banned { pool, banned } => match banned {
            true => ("ban", pool_words(pool)),
            false => ("unban", pool_words(pool)),
        },
        What::Policy { since } => ("policy", format!("the policy of entry {since} is in force")),
        What::Shadow { on: true } => ("shadow", "a policy is tried beside the one in force".to_owned()),
        What::Shadow { on: false } => ("shadow", "no policy is tried any longer".to_owned()),
        What::Frozen { why: Some(why) } => ("freeze", why.clone()),
        What::Frozen { why: None } => ("unfreeze", "launches and scale-in go on".to_owned()),
        What::Braked { brake } => ("brake", brake_words(brake)),
        What::Thawed => ("thaw", "a person released the brake".to_owned()),
        What::Short { short: Some(short) } => {
            let why = lacking_words(short.why);
            ("short", format!("{} photos will be late: {why}", short.missing))
        }
        What::Short { short: None } => ("not-short", "photos will be in time again".to_owned()),
    }
}

fn launched(count: u32, pools: &[Pool], because: &Sizing) -> String {
    let pools: Vec<String> = pools.iter().map(pool_words).collect();
    let why = match &because.ahead {
        Some(ahead) => ahead_words(ahead),
        None => format!("{} of {} photos would be late", because.missing, because.photos),
    };
    let capped = because.capped.map_or(String::new(), |cap| {
        format!("; {} wanted, held back by {}", because.machines, cap_words(cap))
    });
    format!("{count} × {}: {why}{capped}", pools.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{InstanceId, LaunchId, MicroUsd};

    #[test]
    fn decisions_say_their_numbers() {
        let pool = Pool {
            region: "eu-west-1".into(),
            zone_id: "euw1-az1".into(),
            instance_type: "c5.large".into(),
            market: Market::Spot,
        };
        let launched = What::Launched {
            launch: LaunchId(64),
            pools: vec![pool.clone()],
            count: 4,
            because: Sizing {
                photos: 500,
                missing: 300,
                chosen: MicroUsd(90),
                ..Sizing::default()
            },
        };
        let by = |what| {
            decision(
                7,
                &Decision {
                    at: Time(9),
                    by: "op".into(),
                    what,
                },
            )
        };
        let wire = by(launched);
        assert_eq!(
            (wire.what.as_str(), wire.launch, wire.pools.len()),
            ("launch", 64, 1)
        );
        assert_eq!(
            wire.words,
            "4 × c5.large@euw1-az1/spot: 300 of 500 photos would be late"
        );
        assert_eq!(wire.because.unwrap().chosen_micro_usd, 90);
        let ended = by(What::Ended {
            machine: InstanceId("i-1".into()),
            how: Gone::Reclaimed,
            paid: 1_250_000,
        });
        assert_eq!(
            (ended.machine.as_str(), ended.words.as_str()),
            ("i-1", "i-1 taken back by the cloud; it cost 1.25 USD")
        );
    }
}
