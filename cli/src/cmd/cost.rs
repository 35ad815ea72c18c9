//! `rebound cost`: what machines cost, by hour, pool and environment, beside the most that they could have.

use clap::{Args, Subcommand, ValueEnum};
use rebound_proto::v1::CostsReply;
use serde::Serialize;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, duration, time};

/// What machines cost.
#[derive(Debug, Subcommand)]
pub enum CostCommand {
    /// By hour, pool and environment, beside what the same machines would have cost on demand
    Report(ReportArgs),
}

/// `rebound cost report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    stale: Stale,
    /// What a line of the table is
    #[arg(long, value_enum, default_value = "pool")]
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// An hour of the last eight days
    Hour,
    /// A capacity pool, all told
    Pool,
    /// An environment: machine time of its photos, all told
    Environment,
}

#[derive(Serialize)]
struct Report {
    now: String,
    /// Of all hours that are kept, with what runs now.
    usd: f64,
    on_demand_usd: f64,
    photos: u64,
    usd_per_thousand: Option<f64>,
    /// Of the hours whose bill is known.
    billed_usd: Option<f64>,
    /// What the cluster's books say of the same hours.
    billed_hours_usd: Option<f64>,
    hours: Vec<Hour>,
    pools: Vec<PoolCost>,
    environments: Vec<EnvironmentCost>,
}

#[derive(Serialize)]
struct Hour {
    at: String,
    usd: f64,
    on_demand_usd: f64,
    photos: u64,
    usd_per_thousand: Option<f64>,
    billed_usd: Option<f64>,
}

#[derive(Serialize)]
struct PoolCost {
    pool: String,
    machines: u64,
    ran_us: u64,
    usd: f64,
    on_demand_usd: f64,
    taken: u64,
    lacked: u64,
}

#[derive(Serialize)]
struct EnvironmentCost {
    environment: String,
    usd: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, command: CostCommand) -> Result<Exit, Failure> {
    let CostCommand::Report(args) = command;
    let client = ctx.reader(args.stale);
    let report = report(&client.costs().await?);
    ctx.out.one(&report, |out, report| {
        let mut facts = Table::facts();
        let mut row = |name: &str, value: String| facts.row([name.to_owned(), value]);
        row("up to", report.now.clone());
        row("cost", dollars(report.usd));
        row("on demand", dollars(report.on_demand_usd));
        row("photos", report.photos.to_string());
        row("a thousand", optional(report.usd_per_thousand));
        if let (Some(billed), Some(own)) = (report.billed_usd, report.billed_hours_usd) {
            let words = format!(
                "{}; own books of the same hours: {}",
                dollars(billed),
                dollars(own)
            );
            row("billed", words);
        }
        out.table(&mut facts)?;
        out.line("")?;
        out.table(&mut lines(report, args.by))
    })?;
    ctx.note_age(&client);
    ctx.out.note(match args.by {
        By::Hour => "The last hour may not be over. --by pool and --by environment show more.",
        By::Pool => "All told, also of hours that are kept no longer.",
        By::Environment => "Machine time of photos at measured speeds; idle time is nobody's.",
    });
    Ok(Exit::Ok)
}

fn usd(micro: u64) -> f64 {
    micro as f64 / 1e6
}

fn dollars(usd: f64) -> String {
    format!("${usd:.4}")
}

fn optional(usd: Option<f64>) -> String {
    usd.map_or_else(|| "-".to_owned(), dollars)
}

fn a_thousand(micro: u64, photos: u64) -> Option<f64> {
    (photos > 0).then(|| usd(micro) * 1_000.0 / photos as f64)
}

fn report(reply: &CostsReply) -> Report {
    let sum = |of: fn(&rebound_proto::v1::CostHour) -> u64| reply.hours.iter().map(of).sum::<u64>();
    let money = sum(|hour| hour.micro_usd) + reply.unpaid_micro_usd;
    let photos = sum(|hour| hour.photos);
    let billed = reply.hours.iter().filter(|hour| hour.billed_micro_usd.is_some());
    let known = billed.clone().count() > 0;
    Report {
        now: time(reply.now_us),
        usd: usd(money),
        on_demand_usd: usd(sum(|hour| hour.at_most_micro_usd)),
        photos,
        usd_per_thousand: a_thousand(money, photos),
        billed_usd: known.then(|| usd(billed.clone().filter_map(|hour| hour.billed_micro_usd).sum())),
        billed_hours_usd: known.then(|| usd(billed.map(|hour| hour.micro_usd).sum())),
        hours: reply
            .hours
            .iter()
            .map(|hour| Hour {
                at: time(hour.at_us),
                usd: usd(hour.micro_usd),
                on_demand_usd: usd(hour.at_most_micro_usd),
                photos: hour.photos,
                usd_per_thousand: a_thousand(hour.micro_usd, hour.photos),
                billed_usd: hour.billed_micro_usd.map(usd),
            })
            .collect(),
        pools: reply
            .pools
            .iter()
            .map(|one| PoolCost {
                pool: one.pool.as_ref().map_or("-".to_owned(), super::pool::text),
                machines: one.machines,
                ran_us: one.ran_us,
                usd: usd(one.micro_usd),
                on_demand_usd: usd(one.at_most_micro_usd),
                taken: one.taken,
                lacked: one.lacked,
            })
            .collect(),
        environments: reply
            .environments
            .iter()
            .map(|one| EnvironmentCost {
                environment: clean(&one.name).to_string(),
                usd: usd(one.micro_usd),
            })
            .collect(),
    }
}

fn lines(report: &Report, by: By) -> Table {
    match by {
        By::Hour => {
            let mut table = Table::new(&[
                ("HOUR", Align::Left),
                ("$", Align::Right),
                ("ON DEMAND $", Align::Right),
                ("PHOTOS", Align::Right),
                ("$/1000", Align::Right),
                ("BILLED $", Align::Right),
            ]);
            for one in &report.hours {
                table.row([
                    one.at.clone(),
                    dollars(one.usd),
                    dollars(one.on_demand_usd),
                    one.photos.to_string(),
                    optional(one.usd_per_thousand),
                    optional(one.billed_usd),
                ]);
            }
            table
        }
        By::Pool => {
            let mut table = Table::new(&[
                ("POOL", Align::Left),
                ("MACHINES", Align::Right),
                ("RAN", Align::Right),
                ("$", Align::Right),
                ("ON DEMAND $", Align::Right),
                ("TAKEN", Align::Right),
                ("LACKED", Align::Right),
            ]);
            for one in &report.pools {
                table.row([
                    one.pool.clone(),
                    one.machines.to_string(),
                    duration(one.ran_us),
                    dollars(one.usd),
                    dollars(one.on_demand_usd),
                    one.taken.to_string(),
                    one.lacked.to_string(),
                ]);
            }
            table
        }
        By::Environment => {
            let mut table = Table::new(&[("ENVIRONMENT", Align::Left), ("$", Align::Right)]);
            for one in &report.environments {
                table.row([one.environment.clone(), dollars(one.usd)]);
            }
            table
        }
    }
}
