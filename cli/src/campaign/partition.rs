//! `rebound campaign network`: the network between servers and agents breaks in many ways, one after another. The
//! client reaches all servers throughout. Within ten seconds of healing a job submitted then must be done.

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::Instant;

use super::network::{AGENTS, Network, Rule, TOOLS};
use super::{Common, REST, Record, SERVERS, Stage, WITHIN, campaign, in_ms, normal, root, skipped};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{Layout, round};

/// How soon after healing all must be normal.
const NORMAL_WITHIN: Duration = Duration::from_secs(10);
/// Half of a flap's period.
const FLAP: Duration = Duration::from_millis(500);
/// Packets lost, of a hundred.
const LOSS_PERCENT: u8 = 30;
/// So much more or less of a hundred may really be lost: of some hundred packets, chance alone takes no more.
const LOSS_WITHIN: f64 = 10.0;

/// How the network breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// The leader and the other servers hear nothing of each other
    Isolated,
    /// The leader hears nothing of the other servers
    Deaf,
    /// The other servers hear nothing of the leader
    Mute,
    /// The leader and one other server hear nothing of each other: each still sees a majority
    Ring,
    /// The leader is isolated and back, every second
    Flap,
    /// 30 of a hundred packets between servers and agents are lost
    Loss,
    /// The agents and the leader hear nothing of each other
    Agents,
}

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct NetworkArgs {
    /// How long each break lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub seconds: u64,
    /// Only these, separated by commas; all if none is named
    #[arg(long, value_name = "BREAKS", value_delimiter = ',')]
    pub breaks: Vec<Break>,
    #[command(flatten)]
    pub common: Common,
}

/// One break.
#[derive(Debug, Serialize)]
struct Broken {
    kind: Break,
    /// The leader when it began.
    leader: u64,
    /// Somebody else led at its end.
    lead_lost: bool,
    /// Jobs acknowledged while it lasted.
    acknowledged: u64,
    /// What each rule saw while it lasted.
    rules: Vec<Rule>,
    /// Of a hundred packets that came to a rule, so many were dropped.
    dropped_percent: f64,
    /// From healing until a job submitted then was done and all servers had caught up.
    back_ms: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: NetworkArgs) -> Result<Exit, Failure> {
    const NAME: &str = "network";
    args.common.check()?;
    if args.seconds == 0 || args.seconds > 86_400 {
        return Err(Failure::usage("must be 1 to 86400").at("--seconds"));
    }
    if let Err(why) = root::enter(&["--net"], &TOOLS) {
        return skipped(ctx, NAME, &why);
    }
    let place = |_: &Path, layout: &mut Layout| {
        let network = Network::make(SERVERS as u8)?;
        layout.places = network.servers_at();
        layout.agents_at = network.agents_at();
        Ok(network)
    };
    let breaks = match args.breaks.is_empty() {
        true => Break::value_variants().to_vec(),
        false => args.breaks,
    };
    let lasts = Duration::from_secs(args.seconds);
    let work = async |stage: Stage<'_, '_, Broken, Network>| all(stage, &breaks, lasts).await;
    campaign(ctx, NAME, &args.common, place, work).await
}

async fn all(
    mut stage: Stage<'_, '_, Broken, Network>,
    breaks: &[Break],
    lasts: Duration,
) -> Result<(), Failure> {
    for kind in breaks {
        tokio::time::sleep(REST).await;
        let broken = one(&mut stage, *kind, lasts).await?;
        judge(stage.record, &broken);
        let dropped: u64 = broken.rules.iter().map(|rule| rule.dropped).sum();
        stage.ctx.out.note(&format!(
            "{kind:?} for {} s: {dropped} packets dropped, {:.1} of a hundred; {} jobs acknowledged meanwhile; normal {:.2} s after \
             healing",
            lasts.as_secs(),
            broken.dropped_percent,
            broken.acknowledged,
            broken.back_ms / 1e3
        ));
        stage.record.cases.push(broken);
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

/// The break was one, and its end too.
fn judge(record: &mut Record<Broken>, broken: &Broken) {
    let (kind, back_s) = (broken.kind, broken.back_ms / 1e3);
    record.must(broken.back_ms <= in_ms(NORMAL_WITHIN), || {
        format!("{kind:?}: normal only {back_s:.1} s after healing")
    });
    record.must(!broken.rules.is_empty(), || {
        format!("{kind:?}: there were no rules")
    });
    // A flap is over before every server has something to say: then it is each direction that must have been cut.
    let is_one = |one: &Rule, of: &Rule| {
        let (to, leader) = (of.to, broken.leader);
        one == of || kind == Break::Flap && (u64::from(one.to) == leader) == (u64::from(to) == leader)
    };
    for rule in &broken.rules {
        let same = broken.rules.iter().filter(|one| is_one(one, rule));
        let dropped: u64 = same.map(|one| one.dropped).sum();
        record.must(dropped > 0, || {
            format!("{kind:?}: a rule dropped nothing: {rule:?}")
        });
    }
    let percent = broken.dropped_percent;
    let off = (percent - f64::from(LOSS_PERCENT)).abs();
    record.must(kind != Break::Loss || off <= LOSS_WITHIN, || {
        format!("{kind:?}: {percent} of a hundred packets were lost, not {LOSS_PERCENT}")
    });
}

/// Adds what rules saw to what the same rules saw before.
fn add(all: &mut Vec<Rule>, seen: Vec<Rule>) {
    for rule in seen {
        match all
            .iter_mut()
            .find(|one| (one.from, one.to) == (rule.from, rule.to))
        {
            Some(one) => {
                one.came += rule.came;
                one.dropped += rule.dropped;
            }
            None => all.push(rule),
        }
    }
}

async fn one(
    stage: &mut Stage<'_, '_, Broken, Network>,
    kind: Break,
    lasts: Duration,
) -> Result<Broken, Failure> {
    let (leader, _) = stage.drill.house.leader(WITHIN).await?;
    let (before, _) = stage.drill.acknowledged();
    let begun = Instant::now();
    let network = &*stage.with;
    let number = leader as u8 + 1;
    let mut rules = Vec::new();
    match kind {
        Break::Flap => {
            while begun.elapsed() < lasts {
                begin(network, Break::Isolated, number)?;
                tokio::time::sleep(FLAP).await;
                add(&mut rules, network.heal()?);
                tokio::time::sleep(FLAP).await;
            }
        }
        _ => {
            begin(network, kind, number)?;
            tokio::time::sleep(lasts).await;
        }
    }
    let (after, _) = stage.drill.acknowledged();
    let now = stage.drill.house.leader(WITHIN).await.map(|(now, _)| now);
    add(&mut rules, network.heal()?);
    let back = normal(stage.drill.house).await?;
    let count = |of: fn(&Rule) -> u64| rules.iter().map(of).sum::<u64>() as f64;
    let (came, dropped) = (count(|rule| rule.came), count(|rule| rule.dropped));
    Ok(Broken {
        kind,
        leader: leader as u64 + 1,
        lead_lost: now? != leader,
        acknowledged: after - before,
        rules,
        dropped_percent: round(dropped * 100.0 / came.max(1.0), 1),
        back_ms: in_ms(back),
    })
}

fn begin(network: &Network, kind: Break, leader: u8) -> Result<(), Failure> {
    let others: Vec<u8> = (1..=SERVERS as u8).filter(|other| *other != leader).collect();
    let hears_nothing = || others.iter().try_for_each(|other| network.cut(*other, leader));
    let is_not_heard = || others.iter().try_for_each(|other| network.cut(leader, *other));
    let apart = |other: u8| {
        network
            .cut(leader, other)
            .and_then(|()| network.cut(other, leader))
    };
    match kind {
        Break::Deaf => hears_nothing(),
        Break::Mute => is_not_heard(),
        Break::Isolated | Break::Flap => hears_nothing().and_then(|()| is_not_heard()),
        Break::Ring => apart(others[0]),
        Break::Loss => network.lose(LOSS_PERCENT),
        Break::Agents => apart(AGENTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: Break, rules: &[(u64, u64)]) -> Vec<String> {
        let rule = |(came, dropped): &(u64, u64)| Rule {
            from: None,
            to: 1,
            came: *came,
            dropped: *dropped,
        };
        let rules: Vec<Rule> = rules.iter().map(rule).collect();
        let of = |of: fn(&Rule) -> u64| rules.iter().map(of).sum::<u64>() as f64;
        let dropped_percent = of(|rule| rule.dropped) * 100.0 / of(|rule| rule.came).max(1.0);
        let mut record = Record {
            cases: Vec::new(),
            broken: Vec::new(),
        };
        let broken = Broken {
            kind,
            leader: 1,
            lead_lost: false,
            acknowledged: 1,
            rules,
            dropped_percent,
            back_ms: 10.0,
        };
        judge(&mut record, &broken);
        record.broken
    }

    #[test]
    fn a_break_that_broke_nothing_is_found() {
        assert!(seen(Break::Deaf, &[(5, 5), (1, 1)]).is_empty());
        assert!(seen(Break::Deaf, &[(5, 5), (0, 0)])[0].contains("dropped nothing"));
        assert!(seen(Break::Flap, &[(5, 5), (0, 0)]).is_empty(), "one direction");
        assert!(seen(Break::Flap, &[(0, 0), (0, 0)])[0].contains("dropped nothing"));
        assert!(seen(Break::Mute, &[])[0].contains("no rules"));
        assert!(seen(Break::Loss, &[(1_000, 310), (900, 260)]).is_empty());
        assert!(seen(Break::Loss, &[(1_000, 10)])[0].contains("1 of a hundred packets"));
    }

    #[test]
    fn what_a_rule_saw_is_added_up() {
        let rule = |from, dropped| Rule {
            from: Some(from),
            to: 1,
            came: dropped,
            dropped,
        };
        let mut all = Vec::new();
        add(&mut all, vec![rule(2, 1), rule(3, 0)]);
        add(&mut all, vec![rule(2, 4), rule(3, 5)]);
        assert_eq!(all, [rule(2, 5), rule(3, 5)]);
    }
}
