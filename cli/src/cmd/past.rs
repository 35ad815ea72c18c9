//! `rebound policy history`, `rollback` and `shadow`: policies of before, and one tried beside the one in force.

use clap::Subcommand;
use rebound_proto::v1::{PoliciesReply, PolicyTrial, TrialTally};
use serde::Serialize;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, time, time_opt};
use crate::policy::load;

/// A policy tried beside the one in force: it buys nothing, and what it would have done otherwise is counted.
#[derive(Debug, Subcommand)]
pub enum ShadowCommand {
    /// Begins, in place of what is tried now
    Start {
        /// A file, or a policy that ships: default, threshold
        file: String,
    },
    /// What it would have done, beside what was done
    Report {
        #[command(flatten)]
        stale: Stale,
    },
    /// Ends it
    Stop,
}

#[derive(Serialize)]
struct Past {
    index: u64,
    at: String,
    by: String,
    in_force: bool,
    mode: String,
}

#[derive(Serialize)]
struct Trial {
    index: u64,
    at: String,
    by: String,
    counted_from: Option<String>,
    looks: u64,
    differed: u64,
    live: Tally,
    trial: Tally,
    last: Vec<Difference>,
}

#[derive(Serialize)]
struct Tally {
    machines: u64,
    on_demand: u64,
    usd_per_hour: f64,
    let_go: u64,
}

#[derive(Serialize)]
struct Difference {
    at: String,
    live: String,
    trial: String,
}

/// Policies that were in force, the newest first.
pub async fn history(ctx: &mut Context, stale: Stale) -> Result<Exit, Failure> {
    let client = ctx.reader(stale);
    let reply = client.policies().await?;
    let views: Vec<Past> = past(&reply);
    ctx.out.many(&views, |out, views| {
        let columns = [
            ("INDEX", Align::Right),
            ("SINCE", Align::Left),
            ("BY", Align::Left),
            ("MODE", Align::Left),
            ("", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in views {
            let mark = if one.in_force { "in force" } else { "" };
            table.row([&one.index.to_string(), &one.at, &one.by, &one.mode, mark]);
        }
        out.table(&mut table)
    })?;
    ctx.note_age(&client);
    ctx.out.note(match views.is_empty() {
        true => "No policy was ever applied: the built-in one is in force.",
        false => "Next: rebound policy rollback INDEX",
    });
    Ok(Exit::Ok)
}

/// Puts the policy of an index in force again; nobody may have changed it meanwhile.
pub async fn rollback(ctx: &mut Context, index: u64) -> Result<Exit, Failure> {
    let client = ctx.client();
    let reply = client.policies().await?;
    let found = reply.policies.iter().find(|one| one.index == index);
    let policy = found.and_then(|one| one.policy.clone()).ok_or_else(|| {
        Failure::not_found(format!(
            "no policy of index {index} is kept; `rebound policy history` shows those that are"
        ))
    })?;
    let since = reply.policies.first().map_or(0, |one| one.index);
    if index == since {
        ctx.out
            .note(&format!("The policy of index {index} is in force already."));
        return Ok(Exit::Ok);
    }
    let done = client.apply_policy(policy, Some(since)).await?;
    let answer = serde_json::json!({ "since": done.since, "as_of": index });
    let words = format!(
        "The policy of index {index} is in force again, as of index {}.",
        done.since
    );
    ctx.out.one(&answer, |out, _| out.line(&words))?;
    Ok(Exit::Ok)
}

/// `rebound policy shadow`
pub async fn shadow(ctx: &mut Context, command: ShadowCommand) -> Result<Exit, Failure> {
    match command {
        ShadowCommand::Start { file } => {
            let policy = rebound_core::codec::policy::policy_out(&load(&file)?);
            ctx.client().shadow(Some(policy)).await?;
            ctx.out
                .note("It is tried from now on. Next: rebound policy shadow report");
        }
        ShadowCommand::Stop => {
            ctx.client().shadow(None).await?;
            ctx.out.note("Nothing is tried any longer.");
        }
        ShadowCommand::Report { stale } => {
            let client = ctx.reader(stale);
            let reply = client.policies().await?;
            let trial = reply.trial.as_ref().ok_or_else(|| {
                Failure::not_found("nothing is tried; `rebound policy shadow start FILE` begins".to_owned())
            })?;
            report(ctx, trial)?;
            ctx.note_age(&client);
        }
    }
    Ok(Exit::Ok)
}

fn past(reply: &PoliciesReply) -> Vec<Past> {
    let all = reply.policies.iter().enumerate();
    all.map(|(place, one)| Past {
        index: one.index,
        at: time(one.at_us),
        by: clean(&one.by),
        in_force: place == 0,
        mode: one.policy.as_ref().map_or_else(String::new, |policy| {
            let name = policy.mode().as_str_name();
            name.trim_start_matches("SCALING_MODE_").to_lowercase()
        }),
    })
    .collect()
}

fn tally(wire: Option<&TrialTally>) -> Tally {
    let wire = wire.copied().unwrap_or_default();
    Tally {
        machines: wire.machines,
        on_demand: wire.on_demand,
        usd_per_hour: wire.an_hour_micro_usd as f64 / 1e6,
        let_go: wire.let_go,
    }
}

fn report(ctx: &mut Context, wire: &PolicyTrial) -> Result<(), Failure> {
    let shown = Trial {
        index: wire.index,
        at: time(wire.at_us),
        by: clean(&wire.by),
        counted_from: time_opt(wire.counted_from_us),
        looks: wire.looks,
        differed: wire.differed,
        live: tally(wire.live.as_ref()),
        trial: tally(wire.trial.as_ref()),
        last: wire
            .last
            .iter()
            .map(|one| Difference {
                at: time(one.at_us),
                live: clean(&one.live),
                trial: clean(&one.trial),
            })
            .collect(),
    };
    ctx.out.one(&shown, |out, shown| {
        let mut facts = Table::facts();
        facts.row([
            "tried",
            &format!("index {}, by {} since {}", shown.index, shown.by, shown.at),
        ]);
        let from = shown.counted_from.as_deref().unwrap_or("not yet");
        facts.row(["counted from", from]);
        let looks = format!("{}, of these {} otherwise", shown.looks, shown.differed);
        facts.row(["looks", &looks]);
        out.table(&mut facts)?;
        out.line("")?;
        let columns = [
            ("", Align::Left),
            ("IN FORCE", Align::Right),
            ("TRIED", Align::Right),
        ];
        let mut table = Table::new(&columns);
        let mut row = |name: &str, of: fn(&Tally) -> String| {
            table.row([name.to_owned(), of(&shown.live), of(&shown.trial)]);
        };
        row("machines asked for", |one| one.machines.to_string());
        row("on demand", |one| one.on_demand.to_string());
        row("$ an hour", |one| format!("{:.4}", one.usd_per_hour));
        row("machines let go", |one| one.let_go.to_string());
        out.table(&mut table)?;
        for one in &shown.last {
            out.line(&format!(
                "{}  in force: {}; tried: {}",
                one.at, one.live, one.trial
            ))?;
        }
        Ok(())
    })?;
    ctx.out.note(
        "Asked for is what was wanted when it was first wanted. What buying it would have changed is not known.",
    );
    Ok(())
}
