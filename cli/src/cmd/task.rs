//! `rebound task`.

use clap::Subcommand;

use super::Context;
use super::results::summary;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};
use crate::view::TaskView;

/// Tasks: the photos of a job, one by one.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Show a task: its state, its result, and the attempts that gave none
    Show {
        /// The job's id
        job: u64,
        /// The photo's index in the job, from 0
        task: u64,
    },
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: TaskCommand) -> Result<Exit, Failure> {
    let TaskCommand::Show { job, task } = command;
    let view = TaskView::from(ctx.client().task(job, task).await?);
    ctx.out.one(&view, |out, view| {
        out.table(&mut facts(view))?;
        if !view.attempts_made.is_empty() {
            out.line("\nAttempts without a recorded result:")?;
            out.table(&mut attempts(view))?;
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

fn facts(view: &TaskView) -> Table {
    let mut table = Table::facts();
    table.row(["task", &format!("{} of job {}", view.task, view.job)]);
    table.row(["photo", &view.uri]);
    table.row(["state", &view.state]);
    if let (Some(given), Some(worker)) = (view.given, view.worker) {
        table.row(["given", &format!("at index {given} to worker {worker}")]);
    }
    table.row(["failed attempts", &view.attempts.to_string()]);
    table.row(["lost attempts", &view.losses.to_string()]);
    if view.deaths > 0 {
        let suspect = format!("{} recognisers ended with it: it runs alone", view.deaths);
        table.row(["suspect", &suspect]);
    }
    if let Some(time) = &view.not_before {
        table.row(["not before", time]);
    }
    if let Some(result) = &view.result {
        table.row(["outcome", result.outcome]);
        table.row(["result", &summary(result)]);
        table.row([
            "by",
            &format!("worker {} as given at {}", result.worker, result.given),
        ]);
        table.row(["took", &result.ms.map_or("-".into(), |ms| format!("{ms} ms"))]);
        table.row(["recorded", result.recorded_at.as_deref().unwrap_or("-")]);
    }
    table
}

fn attempts(view: &TaskView) -> Table {
    let columns = [
        ("GIVEN", Align::Right),
        ("WORKER", Align::Right),
        ("CAUSE", Align::Left),
        ("ENDED", Align::Left),
        ("MESSAGE", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for attempt in &view.attempts_made {
        table.row([
            &attempt.given.to_string(),
            &attempt.worker.to_string(),
            attempt.cause.unwrap_or("-"),
            attempt.ended_at.as_deref().unwrap_or("-"),
            &attempt.message,
        ]);
    }
    table
}
