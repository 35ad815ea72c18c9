//! `rebound photos`: sample photos.

use clap::Subcommand;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, counted};
use crate::photos::{self, RenderError, compare};

/// Sample photos.
#[derive(Debug, Subcommand)]
pub enum PhotosCommand {
    /// Render photos of shelves, with the exact truth of each beside it
    Render(photos::RenderArgs),
    /// Hold what a job read off rendered photos against the truth beside them
    Score(compare::ScoreArgs),
}

/// Runs one of them.
pub fn run(ctx: &mut Context, command: &PhotosCommand) -> Result<Exit, Failure> {
    match command {
        PhotosCommand::Render(args) => render(ctx, args),
        PhotosCommand::Score(args) => score(ctx, args),
    }
}

fn render(ctx: &mut Context, args: &photos::RenderArgs) -> Result<Exit, Failure> {
    let summary = photos::run(args).map_err(failure)?;
    let dir = args.out.display().to_string();
    ctx.out.one(&summary, |out, summary| {
        let shown = format!(
            "{} facings, {} gaps and {} prices",
            summary.facings, summary.gaps, summary.prices
        );
        let photos = counted(summary.photos.into(), "photo");
        out.line(&format!(
            "Rendered {photos} with {shown} into {}, the truth of each in a .json beside it.",
            clean(&dir)
        ))
    })?;
    ctx.out.note(&format!(
        "Next: rebound submit {} --recogniser shelf-text --wait",
        clean(&dir)
    ));
    Ok(Exit::Ok)
}

fn score(ctx: &mut Context, args: &compare::ScoreArgs) -> Result<Exit, Failure> {
    let summary = compare::run(args).map_err(|error| Failure::failed(error.to_string()))?;
    ctx.out.one(&summary, |out, summary| {
        let columns = [
            ("WORDS", Align::Left),
            ("PRINTED", Align::Right),
            ("EXACT", Align::Right),
            ("SHARE", Align::Right),
            ("ONE LETTER OFF", Align::Right),
            ("SHARE", Align::Right),
        ];
        let mut table = Table::new(&columns);
        let kinds = [
            ("brands", summary.score.brands),
            ("variants", summary.score.variants),
            ("prices", summary.score.prices),
        ];
        for (name, found) in kinds {
            table.row([
                name,
                &found.printed.to_string(),
                &found.exact.to_string(),
                &percent(found.exact_share()),
                &found.near.to_string(),
                &percent(found.near_share()),
            ]);
        }
        out.table(&mut table)?;
        let photos = counted(summary.photos, "photo");
        let strangers = counted(summary.score.strangers, "word");
        out.line(&format!(
            "\n{photos}, {} without words; {strangers} read where none is printed.",
            summary.unread
        ))
    })?;
    Ok(Exit::Ok)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0))
}

/// A bad option ends with 2, anything that went wrong while rendering with 1.
fn failure(error: RenderError) -> Failure {
    let message = error.to_string();
    match error {
        RenderError::Count(_)
        | RenderError::Side { .. }
        | RenderError::Pixels(_)
        | RenderError::Ratio { .. }
        | RenderError::Quality(_)
        | RenderError::OutIsFile(_) => Failure::usage(message),
        RenderError::MakeOut { .. }
        | RenderError::Write { .. }
        | RenderError::Pack { .. }
        | RenderError::Font(_) => Failure::failed(message),
    }
}
