//! `rebound job results`, and how a result is told in a few words.

use clap::Args;
use serde_json::Value;

use super::{Context, Stale};
use crate::client::{Client, ClientError};
use crate::exit::{Exit, Failure};
use crate::limits::{RESULTS_PAGE_MAX, SUMMARY_CHARS_MAX};
use crate::output::{Align, Format, Table};
use crate::view::ResultView;

/// Whose results, and which.
#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// The job's id
    job: u64,
    /// Only photos that failed
    #[arg(long)]
    failed: bool,
    /// Begin with this photo's index
    #[arg(long, value_name = "TASK", default_value_t = 0)]
    first: u64,
    #[command(flatten)]
    stale: Stale,
}

/// Prints results. With `jsonl` and `table` page by page; one JSON array needs them all at once.
pub async fn run(ctx: &mut Context, args: &ResultsArgs) -> Result<Exit, Failure> {
    let client = ctx.reader(args.stale);
    // A job without results has none to page through; one that is not there is an error.
    client.get(args.job).await?;
    let mut pages = Pages::new(client.clone(), args.job, args.first);
    let mut all = Vec::new();
    let mut table = new_table();
    while let Some(mut page) = pages.next().await? {
        page.retain(|result| !args.failed || result.outcome == "failed");
        match ctx.out.format {
            Format::Json => all.append(&mut page),
            Format::Jsonl => page.iter().try_for_each(|result| ctx.out.json(result))?,
            Format::Table => {
                page.iter().for_each(|result| add_row(&mut table, result));
                ctx.out.table(&mut table)?;
            }
        }
    }
    if ctx.out.format == Format::Json {
        ctx.out.json(&all)?;
    }
    ctx.note_age(&client);
    Ok(Exit::Ok)
}

/// The results of a job, a page at a time.
pub struct Pages {
    client: Client,
    job: u64,
    first: Option<u64>,
}

impl Pages {
    /// From task `first` on.
    pub fn new(client: Client, job: u64, first: u64) -> Self {
        Self {
            client,
            job,
            first: Some(first),
        }
    }

    /// The next page, until there is none.
    pub async fn next(&mut self) -> Result<Option<Vec<ResultView>>, ClientError> {
        let Some(first) = self.first else { return Ok(None) };
        let page = self.client.results(self.job, first, RESULTS_PAGE_MAX).await?;
        // A page that does not lead on would be asked for without end.
        self.first = (page.next > first).then_some(page.next);
        Ok(Some(
            page.results
                .into_iter()
                .map(|result| ResultView::new(self.job, result))
                .collect(),
        ))
    }
}

fn new_table() -> Table {
    Table::new(&[
        ("TASK", Align::Right),
        ("PHOTO", Align::Left),
        ("OUTCOME", Align::Left),
        ("MS", Align::Right),
        ("RESULT", Align::Left),
    ])
}

fn add_row(table: &mut Table, result: &ResultView) {
    let photo = result.uri.rsplit('/').next().unwrap_or(&result.uri);
    table.row([
        &result.task.to_string(),
        photo,
        result.outcome,
        &result.ms.map_or("-".into(), |ms| ms.to_string()),
        &summary(result),
    ]);
}

/// A result in at most [`SUMMARY_CHARS_MAX`] characters.
pub fn summary(result: &ResultView) -> String {
    let text = match (&result.output, &result.message) {
        (Some(output), _) => told(output),
        (None, message) => {
            format!(
                "{}: {}",
                result.cause.unwrap_or("failed"),
                message.as_deref().unwrap_or_default()
            )
        }
    };
    if text.chars().count() <= SUMMARY_CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(SUMMARY_CHARS_MAX - 1).collect();
    short.push('…');
    short
}

fn told(output: &Value) -> String {
    if let Some((label, p)) = top_label(output) {
        return format!("{label} {p:.2}");
    }
    if let Some(words) = words(output) {
        let words: Vec<&str> = words.map(|(text, _)| text).collect();
        return format!("{} words: {}", words.len(), words.join(" "));
    }
    match output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The best label and its probability, if the answer has labels.
pub fn top_label(output: &Value) -> Option<(&str, f64)> {
    if output.get("kind")? != "labels" {
        return None;
    }
    let top = output.get("top")?.get(0)?;
    Some((
        top.get("label")?.as_str()?,
        top.get("p").and_then(Value::as_f64).unwrap_or_default(),
    ))
}

/// The words and how sure the recogniser is of each, if the answer has words.
pub fn words(output: &Value) -> Option<impl Iterator<Item = (&str, f64)>> {
    if output.get("kind")? != "words" {
        return None;
    }
    let words = output.get("words")?.as_array()?;
    Some(words.iter().filter_map(|word| {
        let text = word.get("text")?.as_str()?;
        Some((
            text,
            word.get("confidence").and_then(Value::as_f64).unwrap_or_default(),
        ))
    }))
}

#[cfg(test)]
mod tests {
    use rebound_proto::v1::{Cause, Outcome, TaskResult};

    use super::*;

    fn told_of(outcome: Outcome, cause: Cause, output: &str) -> String {
        let output = output.to_string().into();
        let result = TaskResult {
            outcome: outcome as i32,
            cause: cause as i32,
            output,
            ..Default::default()
        };
        summary(&ResultView::new(1, result))
    }

    #[test]
    fn results_in_a_few_words() {
        let ok = |output: &str| told_of(Outcome::Succeeded, Cause::Unspecified, output);
        assert_eq!(
            ok(r#"{"kind":"labels","top":[{"label":"Oat-Milk","p":0.9341},{"label":"x","p":0.01}]}"#),
            "Oat-Milk 0.93"
        );
        let words = r#"{"kind":"words","words":[{"text":"NORDA","confidence":0.99,"box":[[0,0],[1,0],[1,1],[0,1]]},{"text":"2.49"}]}"#;
        assert_eq!(ok(words), "2 words: NORDA 2.49");
        assert_eq!(
            ok(r#"{"kind":"labels","top":[]}"#),
            r#"{"kind":"labels","top":[]}"#
        );
        assert_eq!(ok(r#"{"any":"thing"}"#), r#"{"any":"thing"}"#);
        assert_eq!(ok(&"ab".repeat(32)), format!("{}…", "ab".repeat(29) + "a"));
        assert_eq!(
            told_of(Outcome::Failed, Cause::Input, "not an image"),
            "input: not an image"
        );
    }
}
