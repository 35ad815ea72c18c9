//! `rebound worker`.

use clap::Subcommand;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, duration};
use crate::view::WorkerView;

/// Workers.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// List workers that are there
    List {
        /// Those that left or were lost, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        stale: Stale,
    },
    /// Show a worker
    Show {
        /// The worker's id or name
        worker: String,
    },
    /// Why it is there: its machine, the launch that it came of, and what was decided of it
    Explain {
        /// The worker's id or name
        worker: String,
    },
    /// Let a worker finish what it runs and take nothing new
    Drain {
        /// The worker's id or name
        worker: String,
    },
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: WorkerCommand) -> Result<Exit, Failure> {
    match command {
        WorkerCommand::List { all, stale } => list(ctx, all, stale).await,
        WorkerCommand::Show { worker } => show(ctx, &worker).await,
        WorkerCommand::Explain { worker } => {
            let view = find(ctx, &worker).await?;
            super::why::worker(ctx, view.worker, &view.name, &view.state).await
        }
        WorkerCommand::Drain { worker } => drain(ctx, &worker).await,
    }
}

async fn list(ctx: &mut Context, all: bool, stale: Stale) -> Result<Exit, Failure> {
    let client = ctx.reader(stale);
    let workers = client.workers().await?;
    let mut views: Vec<WorkerView> = workers.into_iter().map(Into::into).collect();
    views.retain(|view| all || is_there(view));
    ctx.out.many(&views, |out, views| {
        let columns = [
            ("WORKER", Align::Right),
            ("NAME", Align::Left),
            ("STATE", Align::Left),
            ("SLOTS", Align::Right),
            ("GIVEN", Align::Right),
            ("RUNNING", Align::Right),
            ("DONE", Align::Right),
            ("FAILED", Align::Right),
            ("HEARD", Align::Right),
            ("RECOGNISERS", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for view in views {
            table.row([
                &view.worker.to_string(),
                &view.name,
                &view.state,
                &view.slots.to_string(),
                &view.given.to_string(),
                &view.running.to_string(),
                &view.succeeded.to_string(),
                &view.failed.to_string(),
                &heard(view),
                &recognisers(view),
            ]);
        }
        out.table(&mut table)
    })?;
    ctx.note_age(&client);
    Ok(Exit::Ok)
}

async fn show(ctx: &mut Context, worker: &str) -> Result<Exit, Failure> {
    let view = find(ctx, worker).await?;
    ctx.out.one(&view, |out, view| out.table(&mut facts(view)))?;
    Ok(Exit::Ok)
}

async fn find(ctx: &mut Context, worker: &str) -> Result<WorkerView, Failure> {
    let workers = ctx.client().workers().await?;
    let mut views: Vec<WorkerView> = workers.into_iter().map(Into::into).collect();
    // Of several by one name, the one that is there, else the newest.
    views.sort_by_key(|view| (is_there(view), view.worker));
    let found = views
        .into_iter()
        .rev()
        .find(|view| view.worker.to_string() == worker || view.name == worker);
    found.ok_or_else(|| no_worker(worker))
}

async fn drain(ctx: &mut Context, worker: &str) -> Result<Exit, Failure> {
    // All digits is an id; the server takes a name only with id 0.
    let id = worker.parse::<u64>().unwrap_or(0);
    ctx.client().drain(id, if id == 0 { worker } else { "" }).await?;
    let answer = serde_json::json!({ "worker": worker, "draining": true });
    ctx.out.one(&answer, |out, _| {
        out.line(&format!(
            "Worker {} takes nothing new and ends when it is done.",
            crate::output::clean(worker)
        ))
    })?;
    ctx.out.note("Next: rebound worker list");
    Ok(Exit::Ok)
}

fn no_worker(worker: &str) -> Failure {
    Failure::not_found(format!(
        "no worker {worker}; `rebound worker list --all` shows those there are"
    ))
}

fn is_there(view: &WorkerView) -> bool {
    matches!(view.state.as_str(), "active" | "draining")
}

fn heard(view: &WorkerView) -> String {
    if is_there(view) {
        format!("{} ago", duration(view.heard_ms_ago * 1_000))
    } else {
        "-".into()
    }
}

fn recognisers(view: &WorkerView) -> String {
    let short = |digest: &Option<String>| digest.as_ref().map(|d| format!("@{}", d.get(..8).unwrap_or(d)));
    let names = view
        .recognisers
        .iter()
        .map(|r| format!("{}{}", r.name, short(&r.digest).unwrap_or_default()));
    names.collect::<Vec<_>>().join(" ")
}

fn facts(view: &WorkerView) -> Table {
    let mut table = Table::facts();
    table.row(["worker", &view.worker.to_string()]);
    table.row(["name", &view.name]);
    table.row(["state", &view.state]);
    if let Some(why) = &view.why {
        table.row(["why", why]);
    }
    if let Some(pool) = &view.pool {
        let place = format!(
            "{} {} {} {}",
            pool.region, pool.zone_id, pool.instance_type, pool.market
        );
        table.row(["pool", &place]);
    }
    if let Some(r) = &view.resources {
        let has = format!(
            "{} cores, {} MiB, {} GPUs",
            f64::from(r.milli_cpu) / 1000.0,
            r.memory_mib,
            r.gpus
        );
        table.row(["has", &has]);
    }
    table.row(["slots", &view.slots.to_string()]);
    table.row(["recognisers", &recognisers(view)]);
    table.row(["given", &view.given.to_string()]);
    table.row(["running", &view.running.to_string()]);
    table.row(["spooled", &view.spooled.to_string()]);
    table.row(["succeeded", &view.succeeded.to_string()]);
    table.row(["failed", &view.failed.to_string()]);
    table.row(["heard", &heard(view)]);
    table.row(["joined", view.joined_at.as_deref().unwrap_or("-")]);
    if let Some(time) = &view.ended_at {
        table.row(["ended", time]);
    }
    table.row(["version", &view.version]);
    table
}
