//! `rebound scale`: machines that the cluster buys: which, why, and what stops it.

use clap::Subcommand;
use rebound_proto::v1::{ForecastReply, Foresight, Launch, Machine, Pool, ScaleStatusReply, ScalingMode};
use serde::Serialize;

use super::set::{self, SetArgs};
use super::{Context, Stale, events};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, duration, time, time_opt};

/// Machines that the cluster buys.
#[derive(Debug, Subcommand)]
pub enum ScaleCommand {
    /// What is bought, what it costs, what stops it
    Status {
        #[command(flatten)]
        stale: Stale,
    },
    /// Launches with the numbers that they follow from, the newest first
    Explain {
        #[command(flatten)]
        stale: Stale,
        /// What was decided in the quarter hour before this time, as 2026-11-23T12:00:00Z, and the launch before it
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// What was decided about machines and what became of it, for a week, the newest first
    Events {
        #[command(flatten)]
        stale: Stale,
        /// Only what was decided up to then, as 2026-11-23T12:00:00Z
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Changes a few fields of the policy in force
    Set(SetArgs),
    /// What quarter hours of the week took, what is forecast, and how good forecasts were
    Forecast {
        #[command(flatten)]
        stale: Stale,
    },
    /// No launches and no scale-in until a thaw; draining, handing back and intake go on
    Freeze {
        /// For whoever finds it frozen
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Ends a freeze, and releases a brake
    Thaw,
}

#[derive(Serialize)]
struct Status {
    mode: &'static str,
    policy_since: u64,
    frozen: Option<Frozen>,
    brake: Option<String>,
    short: Option<Short>,
    instances: u64,
    instances_max: u32,
    vcpus: u64,
    vcpus_max: u32,
    hour_usd: f64,
    hour_usd_max: f64,
    day_usd: f64,
    day_usd_max: f64,
    open_launches: usize,
    spares: Option<SparesView>,
    machines: Vec<MachineView>,
}

#[derive(Serialize)]
struct SparesView {
    instance_type: String,
    hot: u32,
    stopped: u32,
    cold: u32,
    usd_per_hour: f64,
    late: bool,
}

#[derive(Serialize)]
struct Short {
    why: String,
    since: String,
    missing: u64,
    due: String,
    not_before: Option<String>,
}

#[derive(Serialize)]
struct QuarterView {
    recogniser: String,
    begins: String,
    weeks: Vec<u64>,
    forecast: Option<u64>,
    hits: u32,
    misses: u32,
    wasted: u64,
}

#[derive(Serialize)]
struct Frozen {
    by: String,
    at: String,
    why: String,
}

#[derive(Serialize)]
struct MachineView {
    id: String,
    pool: String,
    state: String,
    age_us: u64,
    running: Option<String>,
    usd_per_hour: f64,
    paid_usd: f64,
    ending: String,
}

#[derive(Serialize)]
struct Explained {
    launch: u64,
    at: String,
    pools: Vec<String>,
    machines: u32,
    got: u32,
    outcome: String,
    photos: u64,
    missing: u64,
    due: String,
    ready_in_us: u64,
    wanted: u32,
    have: u32,
    capped: String,
    ahead: String,
    usd_per_thousand: f64,
    instead_of: Option<String>,
    instead_of_usd_per_thousand: Option<f64>,
    not_chosen: String,
    escape: String,
    committed: bool,
}

/// Runs it.
pub async fn run(ctx: &mut Context, command: ScaleCommand) -> Result<Exit, Failure> {
    match command {
        ScaleCommand::Status { stale } => {
            let client = ctx.reader(stale);
            let reply = client.scale_status().await?;
            status(ctx, &reply)?;
            ctx.note_age(&client);
        }
        ScaleCommand::Explain { stale, at: Some(at) } => return events::at(ctx, stale, &at).await,
        ScaleCommand::Events { stale, until } => return events::list(ctx, stale, until.as_deref()).await,
        ScaleCommand::Set(args) => return set::run(ctx, &args).await,
        ScaleCommand::Explain { stale, at: None } => {
            let client = ctx.reader(stale);
            let reply = client.scale_status().await?;
            explain(ctx, &reply)?;
            ctx.note_age(&client);
        }
        ScaleCommand::Forecast { stale } => {
            let client = ctx.reader(stale);
            let reply = client.forecast().await?;
            forecast(ctx, &reply)?;
            ctx.note_age(&client);
        }
        ScaleCommand::Freeze { why } => {
            ctx.client().freeze(&why).await?;
            ctx.out
                .note("Nothing is launched and nothing ended until `rebound scale thaw`.");
        }
        ScaleCommand::Thaw => {
            ctx.client().thaw().await?;
            ctx.out.note("Launches and scale-in go on.");
        }
    }
    Ok(Exit::Ok)
}

fn pool(pool: Option<&Pool>) -> String {
    pool.map_or("-".to_owned(), super::pool::text)
}

fn usd(micro: u64) -> f64 {
    micro as f64 / 1e6
}

fn mode(reply: &ScaleStatusReply) -> &'static str {
    match reply.policy.as_ref().map(|policy| policy.mode()) {
        Some(ScalingMode::Act) => "act",
        Some(ScalingMode::Observe) => "observe",
        _ => "off",
    }
}

fn machine(reply: &ScaleStatusReply, one: &Machine) -> MachineView {
    MachineView {
        id: clean(&one.id).to_string(),
        pool: pool(one.pool.as_ref()),
        state: clean(&one.state).to_string(),
        age_us: reply.now_us.saturating_sub(one.wanted_us),
        running: time_opt(one.running_us),
        usd_per_hour: usd(one.price_micro_usd),
        paid_usd: usd(one.paid_micro_usd),
        ending: clean(&one.ending).to_string(),
    }
}

fn status(ctx: &mut Context, reply: &ScaleStatusReply) -> Result<(), Failure> {
    let policy = reply.policy.clone().unwrap_or_default();
    let caps = policy.caps.unwrap_or_default();
    let frozen = (reply.frozen_us > 0).then(|| Frozen {
        by: clean(&reply.frozen_by).to_string(),
        at: time(reply.frozen_us),
        why: clean(&reply.frozen_why).to_string(),
    });
    let short = (reply.short_us > 0).then(|| Short {
        why: clean(&reply.short).to_string(),
        since: time(reply.short_us),
        missing: reply.short_missing,
        due: time(reply.short_due_us),
        not_before: time_opt(reply.short_not_before_us),
    });
    let shown = Status {
        short,
        mode: mode(reply),
        policy_since: reply.since,
        frozen,
        brake: (!reply.brake.is_empty()).then(|| clean(&reply.brake).to_string()),
        instances: reply.instances,
        instances_max: caps.instances,
        vcpus: reply.vcpus,
        vcpus_max: caps.vcpus,
        hour_usd: usd(reply.hour_micro_usd),
        hour_usd_max: usd(caps.hour_micro_usd),
        day_usd: usd(reply.day_micro_usd),
        day_usd_max: usd(caps.day_micro_usd),
        open_launches: reply.launches.iter().filter(|one| one.outcome == "open").count(),
        spares: reply.spares.as_ref().map(|mix| SparesView {
            instance_type: clean(&mix.instance_type).to_string(),
            hot: mix.hot,
            stopped: mix.stopped,
            cold: mix.cold,
            usd_per_hour: usd(mix.an_hour_micro_usd),
            late: mix.late,
        }),
        machines: reply.machines.iter().map(|one| machine(reply, one)).collect(),
    };
    ctx.out.one(&shown, |out, shown| {
        let mut table = Table::facts();
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row(
            "mode",
            format!("{}, policy of index {}", shown.mode, shown.policy_since),
        );
        if let Some(frozen) = &shown.frozen {
            row(
                "frozen",
                format!("by {} at {}: {}", frozen.by, frozen.at, frozen.why),
            );
        }
        if let Some(brake) = &shown.brake {
            row(
                "stopped",
                format!("{brake}; `rebound scale thaw` lets launches go on"),
            );
        }
        if let Some(mix) = &shown.spares {
            let late = match mix.late {
                true => "; that is all that caps allow, and not all is done in time",
                false => "",
            };
            row(
                "for a burst",
                format!(
                    "of {}: {} run, {} stand still, {} are bought when it comes; kept for ${:.4} an hour{late}",
                    mix.instance_type, mix.hot, mix.stopped, mix.cold, mix.usd_per_hour
                ),
            );
        }
        if let Some(short) = &shown.short {
            let more = short.not_before.as_deref().unwrap_or("nobody can say when");
            row(
                "too late",
                format!(
                    "{} photos will miss {}, since {}: {}; a machine more is ready at the earliest: {more}",
                    short.missing, short.due, short.since, short.why
                ),
            );
        }
        row(
            "machines",
            format!("{} of {}", shown.instances, shown.instances_max),
        );
        row("vCPUs", format!("{} of {}", shown.vcpus, shown.vcpus_max));
        row(
            "this hour",
            format!("${:.4} of ${:.2}", shown.hour_usd, shown.hour_usd_max),
        );
        row(
            "this day",
            format!("${:.4} of ${:.2}", shown.day_usd, shown.day_usd_max),
        );
        row("open launches", shown.open_launches.to_string());
        out.table(&mut table)?;
        if shown.machines.is_empty() {
            return Ok(());
        }
        out.line("")?;
        let columns = [
            ("MACHINE", Align::Left),
            ("POOL", Align::Left),
            ("STATE", Align::Left),
            ("AGE", Align::Right),
            ("$/H", Align::Right),
            ("PAID $", Align::Right),
            ("ENDS", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in &shown.machines {
            table.row([
                one.id.clone(),
                one.pool.clone(),
                one.state.clone(),
                duration(one.age_us),
                format!("{:.4}", one.usd_per_hour),
                format!("{:.4}", one.paid_usd),
                one.ending.clone(),
            ]);
        }
        out.table(&mut table)
    })?;
    Ok(())
}

fn explained(one: &Launch) -> Explained {
    let because = one.because.clone().unwrap_or_default();
    let instead = because.instead_of.as_ref();
    Explained {
        launch: one.id,
        at: time(one.at_us),
        pools: one.pools.iter().map(|one| pool(Some(one))).collect(),
        machines: one.count,
        got: one.got,
        outcome: clean(&one.outcome).to_string(),
        photos: because.photos,
        missing: because.missing,
        due: time(because.due_us),
        ready_in_us: because.ready_in_us,
        wanted: because.machines,
        have: because.have,
        capped: clean(&because.capped).to_string(),
        ahead: clean(&because.ahead).to_string(),
        usd_per_thousand: usd(because.chosen_micro_usd),
        instead_of: instead.map(|one| pool(Some(one))),
        instead_of_usd_per_thousand: instead.map(|_| usd(because.instead_of_micro_usd)),
        not_chosen: clean(&because.not_chosen).to_string(),
        escape: clean(&because.escape).to_string(),
        committed: because.committed,
    }
}

fn forecast(ctx: &mut Context, reply: &ForecastReply) -> Result<(), Failure> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let shown: Vec<QuarterView> = reply
        .quarters
        .iter()
        .map(|one| QuarterView {
            recogniser: clean(&one.recogniser).to_string(),
            begins: format!(
                "{} {:02}:{:02}",
                DAYS[(one.quarter / 96 % 7) as usize],
                one.quarter % 96 / 4,
                one.quarter % 4 * 15
            ),
            weeks: one.took.clone(),
            forecast: (one.forecast > 0).then_some(one.forecast),
            hits: one.hits,
            misses: one.misses,
            wasted: one.wasted,
        })
        .collect();
    ctx.out.many(&shown, |out, shown| {
        let columns = [
            ("BEGINS", Align::Left),
            ("RECOGNISER", Align::Left),
            ("WEEKS", Align::Right),
            ("FORECAST/H", Align::Right),
            ("HITS", Align::Right),
            ("MISSES", Align::Right),
            ("WASTED/H", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in shown {
            table.row([
                one.begins.clone(),
                one.recogniser.clone(),
                one.weeks.len().to_string(),
                one.forecast.map_or("-".to_owned(), |rate| rate.to_string()),
                one.hits.to_string(),
                one.misses.to_string(),
                one.wasted.to_string(),
            ]);
        }
        out.table(&mut table)
    })?;
    ctx.out.note(match reply.foresight() {
        Foresight::Act => "Machines are ready before what is forecast.",
        Foresight::Off => "Nothing is remembered: foresight is off.",
        _ => "Nothing is bought for forecasts: foresight = \"act\" does.",
    });
    Ok(())
}

fn explain(ctx: &mut Context, reply: &ScaleStatusReply) -> Result<(), Failure> {
    let shown: Vec<Explained> = reply.launches.iter().map(explained).collect();
    ctx.out.many(&shown, |out, shown| {
        for one in shown {
            out.line(&format!(
                "{} launch {}: {} machines of {}; {} came, {}",
                one.at,
                one.launch,
                one.machines,
                one.pools.join(", "),
                one.got,
                one.outcome
            ))?;
            if !one.ahead.is_empty() {
                out.line(&format!(
                    "  for work to come: {}; {} more are wanted, {} are there or come",
                    one.ahead, one.wanted, one.have
                ))?;
                continue;
            }
            out.line(&format!(
                "  {} of {} photos would miss {}; a machine is ready in {}; {} more are wanted, {} are there or come{}",
                one.missing,
                one.photos,
                one.due,
                duration(one.ready_in_us),
                one.wanted,
                one.have,
                if one.capped.is_empty() { String::new() } else { format!("; stopped by {}", one.capped) },
            ))?;
            let instead = one.instead_of.as_ref().map_or_else(String::new, |pool| {
                let total = one.instead_of_usd_per_thousand.unwrap_or_default();
                format!("; not {pool} at ${total:.4}: {}", one.not_chosen)
            });
            let instead = format!("{}{instead}", super::events::how(&one.escape, one.committed));
            out.line(&format!("  ${:.4} for a thousand photos{instead}", one.usd_per_thousand))?;
        }
        Ok(())
    })?;
    if shown.is_empty() {
        ctx.out.note("Nothing was launched yet.");
    }
    Ok(())
}
