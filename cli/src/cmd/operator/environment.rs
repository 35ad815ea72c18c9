//! `rebound operator environment`: shares of the workers, and limits.

use clap::{Args, Subcommand};
use rebound_proto::v1::{Environment, SetEnvironmentRequest};
use serde::Serialize;

use super::super::Context;
use crate::exit::{Exit, Failure};
use crate::limits::WEIGHT_MAX;
use crate::output::{Align, Table};

/// Environments.
#[derive(Debug, Subcommand)]
pub enum EnvironmentCommand {
    /// List all, with what they have and may have
    List,
    /// Change what an environment may have; a limit of 0 is the setting's again
    Set(SetArgs),
}

/// What an environment shall have; what is left out stays.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The environment's name
    name: String,
    /// Its part of the workers beside other environments
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(WEIGHT_MAX)))]
    weight: Option<u32>,
    /// Most photos in the queue
    #[arg(long, value_name = "N")]
    max_waiting: Option<u64>,
    /// Most jobs that have not ended
    #[arg(long, value_name = "N")]
    max_jobs: Option<u64>,
    /// Most photos with workers at once
    #[arg(long, value_name = "N")]
    max_given: Option<u64>,
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: EnvironmentCommand) -> Result<Exit, Failure> {
    let client = ctx.client();
    let environments = match command {
        EnvironmentCommand::List => client.environments().await?,
        EnvironmentCommand::Set(args) => {
            let change = SetEnvironmentRequest {
                timeout_us: 0,
                name: args.name,
                weight: args.weight,
                max_waiting: args.max_waiting,
                max_jobs: args.max_jobs,
                max_given: args.max_given,
            };
            let limits = [change.max_waiting, change.max_jobs, change.max_given];
            if change.weight.is_none() && limits == [None; 3] {
                return Err(Failure::usage(
                    "nothing to change; name --weight, --max-waiting, --max-jobs or --max-given",
                ));
            }
            client.set_environment(change).await?
        }
    };
    let views: Vec<EnvironmentView> = environments.into_iter().map(Into::into).collect();
    ctx.out
        .many(&views, |out, views| out.table(&mut environments_table(views)))?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct EnvironmentView {
    name: String,
    weight: u32,
    waiting: u64,
    max_waiting: u64,
    given: u64,
    max_given: u64,
    jobs: u64,
    max_jobs: u64,
    keys: u64,
    submitted: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    deleted: u64,
}

impl From<Environment> for EnvironmentView {
    fn from(one: Environment) -> Self {
        Self {
            name: one.name,
            weight: one.weight,
            waiting: one.waiting,
            max_waiting: one.max_waiting,
            given: one.given,
            max_given: one.max_given,
            jobs: one.jobs,
            max_jobs: one.max_jobs,
            keys: one.keys,
            submitted: one.submitted,
            succeeded: one.succeeded,
            failed: one.failed,
            cancelled: one.cancelled,
            deleted: one.deleted,
        }
    }
}

fn environments_table(views: &[EnvironmentView]) -> Table {
    let columns = [
        ("NAME", Align::Left),
        ("WEIGHT", Align::Right),
        ("WAITING", Align::Right),
        ("MOST", Align::Right),
        ("GIVEN", Align::Right),
        ("MOST", Align::Right),
        ("JOBS", Align::Right),
        ("MOST", Align::Right),
        ("KEYS", Align::Right),
        ("SUCCEEDED", Align::Right),
        ("FAILED", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for view in views {
        table.row([
            &view.name,
            &view.weight.to_string(),
            &view.waiting.to_string(),
            &view.max_waiting.to_string(),
            &view.given.to_string(),
            &view.max_given.to_string(),
            &view.jobs.to_string(),
            &view.max_jobs.to_string(),
            &view.keys.to_string(),
            &view.succeeded.to_string(),
            &view.failed.to_string(),
        ]);
    }
    table
}
