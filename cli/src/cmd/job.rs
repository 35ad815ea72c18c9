//! `rebound job`.

use std::time::Duration;

use clap::Subcommand;

use super::{Context, Stale, report, results};
use crate::exit::{Exit, Failure};
use crate::limits::{LIST_DEFAULT, LIST_MAX};
use crate::output::{Align, Format, Table, clean, parse_duration, time};
use crate::view::JobView;
use crate::wait;

/// Jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List jobs, newest first
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = LIST_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
        #[command(flatten)]
        stale: Stale,
    },
    /// Show a job
    Show {
        /// The job's id
        job: u64,
        #[command(flatten)]
        stale: Stale,
    },
    /// Why a job is where it is: what goes before it, what is bought for it, what stops that
    Explain {
        /// The job's id
        job: u64,
        #[command(flatten)]
        stale: Stale,
    },
    /// Follow a job until it ends, a line (with -o jsonl: an event) for each change
    Watch {
        /// The job's id
        job: u64,
        /// Stop following after so long; exit 124
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        wait_timeout: Option<Duration>,
    },
    /// Wait until jobs have ended; exit 9 if a task failed, 1 if a job was cancelled
    Wait {
        /// The jobs' ids
        #[arg(required = true)]
        jobs: Vec<u64>,
        /// Stop waiting after so long; exit 124
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        wait_timeout: Option<Duration>,
    },
    /// Cancel jobs; what is not recorded yet never will be
    Cancel {
        /// The jobs' ids
        #[arg(required = true)]
        jobs: Vec<u64>,
    },
    /// Print the recorded result of each photo
    Results(results::ResultsArgs),
    /// Count labels or words over the job's photos
    Report(report::ReportArgs),
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: JobCommand) -> Result<Exit, Failure> {
    match command {
        JobCommand::List { limit, stale } => list(ctx, limit, stale).await,
        JobCommand::Show { job, stale } => show(ctx, job, stale).await,
        JobCommand::Explain { job, stale } => super::why::job(ctx, job, stale).await,
        JobCommand::Watch { job, wait_timeout } => watch(ctx, job, wait_timeout).await,
        JobCommand::Wait { jobs, wait_timeout } => wait_for(ctx, &jobs, wait_timeout).await,
        JobCommand::Cancel { jobs } => cancel(ctx, &jobs).await,
        JobCommand::Results(args) => results::run(ctx, &args).await,
        JobCommand::Report(args) => report::run(ctx, &args).await,
    }
}

async fn list(ctx: &mut Context, limit: u32, stale: Stale) -> Result<Exit, Failure> {
    let client = ctx.reader(stale);
    let mut views: Vec<JobView> = Vec::new();
    let mut before = 0;
    loop {
        let wanted = limit
            .saturating_sub(u32::try_from(views.len()).unwrap_or(u32::MAX))
            .min(LIST_MAX);
        if wanted == 0 {
            break;
        }
        let page = client.list(before, wanted).await?;
        views.extend(page.jobs.into_iter().map(JobView::from));
        before = page.next;
        if before == 0 {
            break;
        }
    }
    ctx.out
        .many(&views, |out, views| out.table(&mut jobs_table(views)))?;
    ctx.note_age(&client);
    if before != 0 {
        ctx.out.note(&format!(
            "There are older jobs; --limit {} shows more.",
            u64::from(limit) * 10
        ));
    }
    Ok(Exit::Ok)
}

async fn show(ctx: &mut Context, job: u64, stale: Stale) -> Result<Exit, Failure> {
    let client = ctx.reader(stale);
    let view = JobView::from(client.get(job).await?);
    ctx.out.one(&view, |out, view| out.table(&mut facts(view)))?;
    ctx.note_age(&client);
    Ok(Exit::Ok)
}

async fn watch(ctx: &mut Context, job: u64, limit: Option<Duration>) -> Result<Exit, Failure> {
    let client = ctx.client();
    let out = &mut ctx.out;
    let followed = wait::follow(&client, job, |job| {
        let view = JobView::from(job.clone());
        match out.format {
            Format::Table => out.line(&progress_line(&view))?,
            Format::Jsonl => out.json(&view)?,
            Format::Json => {}
        }
        Ok(out.flush()?)
    });
    let ended = match limit {
        None => followed.await?,
        Some(limit) => match tokio::time::timeout(limit, followed).await {
            Ok(ended) => ended?,
            Err(_) => {
                return Err(Failure::timeout(format!(
                    "job {job} has not ended after {limit:?}; its work goes on"
                )));
            }
        },
    };
    if ctx.out.format == Format::Json {
        ctx.out.json(&JobView::from(ended.clone()))?;
    }
    Ok(wait::exit_of(&[ended]))
}

async fn wait_for(ctx: &mut Context, jobs: &[u64], limit: Option<Duration>) -> Result<Exit, Failure> {
    let ended = wait::until_ended(&ctx.client(), jobs, limit, &ctx.out).await?;
    let exit = wait::exit_of(&ended);
    let views: Vec<JobView> = ended.into_iter().map(Into::into).collect();
    ctx.out
        .many(&views, |out, views| out.table(&mut jobs_table(views)))?;
    Ok(exit)
}

async fn cancel(ctx: &mut Context, jobs: &[u64]) -> Result<Exit, Failure> {
    let client = ctx.client();
    let mut views: Vec<JobView> = Vec::new();
    for job in jobs {
        views.push(client.cancel(*job).await?.into());
    }
    ctx.out.many(&views, |out, views| {
        views.iter().try_for_each(|view| {
            let line = match view.state {
                "cancelled" => format!(
                    "Job {} is cancelled; {} results stay.",
                    view.job,
                    view.succeeded + view.failed
                ),
                state => format!("Job {} is {state}: it had ended before.", view.job),
            };
            out.line(&line)
        })
    })?;
    Ok(Exit::Ok)
}

/// Jobs as a table.
pub fn jobs_table(views: &[JobView]) -> Table {
    let columns = [
        ("JOB", Align::Right),
        ("NAME", Align::Left),
        ("RECOGNISER", Align::Left),
        ("STATE", Align::Left),
        ("PHOTOS", Align::Right),
        ("DONE", Align::Right),
        ("FAILED", Align::Right),
        ("PRIO", Align::Right),
        ("OPENED", Align::Left),
        ("ENDED", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for view in views {
        table.row([
            &view.job.to_string(),
            &view.name,
            &view.recogniser,
            view.state,
            &view.tasks.to_string(),
            &view.ended().to_string(),
            &view.failed.to_string(),
            &view.priority.to_string(),
            view.opened_at.as_deref().unwrap_or("-"),
            view.ended_at.as_deref().unwrap_or("-"),
        ]);
    }
    table
}

fn progress_line(view: &JobView) -> String {
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_micros() as u64);
    let counts = format!(
        "{} of {} photos, {} failed, {} given, {} wait",
        view.ended(),
        view.tasks,
        view.failed,
        view.given,
        view.waiting
    );
    let why = view
        .waiting_for
        .as_ref()
        .map(|why| format!(" ({})", clean(why)))
        .unwrap_or_default();
    format!(
        "{}  job {} {}: {counts}{why}",
        time(now / 1_000 * 1_000),
        view.job,
        view.state
    )
}

fn facts(view: &JobView) -> Table {
    let mut table = Table::facts();
    table.row(["job", &view.job.to_string()]);
    table.row(["name", &view.name]);
    table.row(["state", view.state]);
    if let Some(why) = &view.waiting_for {
        table.row(["waits for", why]);
    }
    table.row(["recogniser", &view.recogniser]);
    table.row(["photos", &view.tasks.to_string()]);
    table.row(["waiting", &view.waiting.to_string()]);
    table.row(["given", &view.given.to_string()]);
    table.row(["succeeded", &view.succeeded.to_string()]);
    table.row(["failed", &view.failed.to_string()]);
    if view.late > 0 {
        let dropped = match view.dropped {
            0 => String::new(),
            dropped => format!(", {dropped} of them dropped"),
        };
        table.row(["late", &format!("{}{dropped}", view.late)]);
    }
    if let Some(ahead) = view.ahead {
        table.row(["ahead of it", &ahead.to_string()]);
    }
    if let Some(at) = &view.expected_done_at {
        let late = if view.too_late { ", after its deadline" } else { "" };
        table.row(["expected", &format!("{at}{late}")]);
    }
    table.row(["cancelled", &view.cancelled.to_string()]);
    if view.suspects > 0 {
        let suspects = format!("{} photos with which a recogniser ended", view.suspects);
        table.row(["suspects", &suspects]);
    }
    if view.usd > 0.0 {
        table.row(["machine time", &format!("${:.4}", view.usd)]);
    }
    table.row(["priority", &view.priority.to_string()]);
    let times = [
        ("opened", &view.opened_at),
        ("deadline", &view.deadline_at),
        ("ended", &view.ended_at),
    ];
    for (name, time) in times {
        table.row([name, time.as_deref().unwrap_or("-")]);
    }
    if let Some(ms) = view.photo_timeout_ms {
        table.row(["photo timeout", &format!("{ms} ms")]);
    }
    if let Some(attempts) = view.max_attempts {
        table.row(["max attempts", &attempts.to_string()]);
    }
    if let Some(r) = &view.resources {
        let each = format!(
            "{} cores, {} MiB, {} GPUs",
            f64::from(r.milli_cpu) / 1000.0,
            r.memory_mib,
            r.gpus
        );
        table.row(["each photo", &each]);
    }
    for (key, value) in &view.labels {
        table.row(["label", &format!("{key}={value}")]);
    }
    table.row(["environment", &view.environment]);
    table.row(["by", &view.actor]);
    table.row(["trace", view.trace_id.as_deref().unwrap_or("-")]);
    table
}
