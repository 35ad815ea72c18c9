//! `rebound policy`: what is bought, when and where, as the cluster's log has it.

use clap::{Args, Subcommand};
use rebound_core::codec::policy::{policy_in, policy_out};
use rebound_proto::v1::{Policy, PolicyReply};
use serde::Serialize;

use super::past::{self, ShadowCommand};
use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};
use crate::policy::load;

/// `rebound policy`
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// The policy in force
    Show,
    /// Whether a file is a policy; nothing is sent
    Validate {
        /// A file, or a policy that ships: default, threshold
        file: String,
    },
    /// What would change if a file were applied
    Plan {
        /// A file, or a policy that ships: default, threshold
        file: String,
    },
    /// Policies that were in force, the newest first
    History {
        #[command(flatten)]
        stale: Stale,
    },
    /// Puts a policy of before in force again
    Rollback {
        /// Its index, as `history` says it
        index: u64,
    },
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Puts a file in force
    Apply {
        /// A file, or a policy that ships: default, threshold
        file: String,
        /// Only if the policy in force is still that of this index, as `plan` and `show` say it
        #[arg(long, value_name = "INDEX")]
        check_index: Option<u64>,
    },
}

#[derive(Serialize)]
struct Shown {
    since: u64,
    #[serde(flatten)]
    fields: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Change {
    field: String,
    now: String,
    then: String,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: PolicyArgs) -> Result<Exit, Failure> {
    match args.command {
        PolicyCommand::Show => {
            let reply = ctx.client().policy().await?;
            show(ctx, &reply)?;
        }
        PolicyCommand::History { stale } => return past::history(ctx, stale).await,
        PolicyCommand::Rollback { index } => return past::rollback(ctx, index).await,
        PolicyCommand::Shadow(command) => return past::shadow(ctx, command).await,
        PolicyCommand::Validate { file } => {
            load(&file)?;
            ctx.out.note(&format!("{file} is a policy"));
        }
        PolicyCommand::Plan { file } => {
            let then = policy_out(&load(&file)?);
            let now = ctx.client().policy().await?;
            plan(ctx, &now, &then)?;
        }
        PolicyCommand::Apply { file, check_index } => {
            let policy = policy_out(&load(&file)?);
            let reply = ctx.client().apply_policy(policy, check_index).await?;
            show(ctx, &reply)?;
        }
    }
    Ok(Exit::Ok)
}

/// All fields with their values, those within others by `a.b`.
fn fields(policy: Option<&Policy>) -> Result<Vec<(String, String)>, Failure> {
    let own = policy_in(policy).map_err(|rejected| Failure::failed(rejected.to_string()))?;
    let value = serde_json::to_value(&own).map_err(|error| Failure::failed(error.to_string()))?;
    let mut all = Vec::new();
    flatten("", &value, &mut all);
    Ok(all)
}

fn flatten(name: &str, value: &serde_json::Value, all: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                flatten(&name, value, all);
            }
        }
        serde_json::Value::String(text) => all.push((name.to_owned(), text.to_lowercase())),
        other => all.push((name.to_owned(), other.to_string())),
    }
}

fn show(ctx: &mut Context, reply: &PolicyReply) -> Result<(), Failure> {
    let fields = fields(reply.policy.as_ref())?;
    let shown = Shown {
        since: reply.since,
        fields: fields
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    serde_json::from_str(value).unwrap_or_else(|_| value.clone().into()),
                )
            })
            .collect(),
    };
    let since = reply.since;
    ctx.out.one(&shown, |out, _| {
        let mut table = Table::facts();
        table.row(["since index", &since.to_string()]);
        for (name, value) in &fields {
            table.row([name, value]);
        }
        out.table(&mut table)
    })?;
    ctx.out
        .note("Times are in µs, shares in thousandths, money in millionths of USD.");
    Ok(())
}

fn plan(ctx: &mut Context, now: &PolicyReply, then: &Policy) -> Result<(), Failure> {
    let (before, after) = (fields(now.policy.as_ref())?, fields(Some(then))?);
    let value = |all: &[(String, String)], name: &str| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let mut names: Vec<&String> = before.iter().chain(&after).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let changes: Vec<Change> = names
        .into_iter()
        .map(|name| Change {
            field: name.clone(),
            now: value(&before, name),
            then: value(&after, name),
        })
        .filter(|change| change.now != change.then)
        .collect();
    ctx.out.many(&changes, |out, changes| {
        let columns = [
            ("FIELD", Align::Left),
            ("NOW", Align::Right),
            ("THEN", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for change in changes {
            table.row([&change.field, &change.now, &change.then]);
        }
        out.table(&mut table)
    })?;
    ctx.out.note(&format!(
        "{} fields change. Apply it with --check-index {}",
        changes.len(),
        now.since
    ));
    Ok(())
}
