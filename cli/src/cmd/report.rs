//! `rebound job report`: what is on the photos of a job, counted.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::results::{Pages, top_label, words};
use crate::exit::{Exit, Failure};
use crate::limits::{REPORT_DISTINCT_MAX, REPORT_TOP_DEFAULT};
use crate::output::{Align, Table, clean, counted};
use crate::view::{JobView, ResultView};

/// Whose report.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The job's id
    job: u64,
    /// How many labels and words a table shows; JSON has them all
    #[arg(long, value_name = "N", default_value_t = REPORT_TOP_DEFAULT)]
    top: usize,
}

/// The report. Shares are of the job's photos.
#[derive(Debug, Serialize)]
struct ReportView {
    job: u64,
    name: String,
    state: &'static str,
    recogniser: String,
    photos: u64,
    succeeded: u64,
    failed: u64,
    /// Not recorded, now or ever.
    without_result: u64,
    labels: Vec<CountView>,
    words: Vec<CountView>,
    /// Photos whose answer has neither labels nor words.
    other_answers: u64,
    /// Labels or words that came after the first hundred thousand different ones.
    not_counted_singly: u64,
    failures: Vec<FailureView>,
}

/// A label or word.
#[derive(Debug, PartialEq, Serialize)]
struct CountView {
    text: String,
    /// Photos that show it.
    photos: u64,
    /// Times it was seen, over all photos.
    seen: u64,
    share: f64,
    /// The recogniser's mean probability or confidence.
    confidence: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct FailureView {
    cause: &'static str,
    photos: u64,
    share: f64,
    /// The first message of this cause.
    example: String,
}

/// Prints the report.
pub async fn run(ctx: &mut Context, args: &ReportArgs) -> Result<Exit, Failure> {
    let client = ctx.client();
    let job = JobView::from(client.get(args.job).await?);
    let mut tally = Tally::default();
    let mut pages = Pages::new(client, args.job, 0);
    while let Some(page) = pages.next().await? {
        page.iter().for_each(|result| tally.add(result));
    }
    let view = tally.finish(job);
    ctx.out.one(&view, |out, view| {
        out.line(&head(view))?;
        for (name, counts) in [("LABEL", &view.labels), ("WORD", &view.words)] {
            if !counts.is_empty() {
                out.line("")?;
                out.table(&mut counts_table(name, counts, args.top))?;
                if counts.len() > args.top {
                    out.line(&format!(
                        "… and {} more; --top {} shows them",
                        counts.len() - args.top,
                        counts.len()
                    ))?;
                }
            }
        }
        if view.other_answers > 0 {
            let photos = counted(view.other_answers, "photo");
            out.line(&format!(
                "\n{photos} with an answer that has neither labels nor words."
            ))?;
        }
        if !view.failures.is_empty() {
            out.line("")?;
            out.table(&mut failures_table(&view.failures))?;
        }
        Ok(())
    })?;
    Ok(Exit::Ok)
}

#[derive(Default)]
struct Tally {
    labels: Counts,
    words: Counts,
    other_answers: u64,
    succeeded: u64,
    failures: BTreeMap<&'static str, (u64, String)>,
}

/// Counts by text.
#[derive(Default)]
struct Counts {
    by_text: BTreeMap<String, Count>,
    left_out: u64,
}

#[derive(Default)]
struct Count {
    photos: u64,
    seen: u64,
    confidence: f64,
}

impl Tally {
    fn add(&mut self, result: &ResultView) {
        match &result.output {
            Some(output) => {
                self.succeeded += 1;
                self.add_answer(output);
            }
            None => {
                let example = || result.message.clone().unwrap_or_default();
                let entry = self.failures.entry(result.cause.unwrap_or("unspecified"));
                entry.or_insert_with(|| (0, example())).0 += 1;
            }
        }
    }

    fn add_answer(&mut self, output: &Value) {
        if let Some((label, p)) = top_label(output) {
            self.labels.add(label, 1, p);
        } else if let Some(words) = words(output) {
            let mut in_photo: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
            for (text, confidence) in words {
                let word = in_photo.entry(text).or_default();
                word.0 += 1;
                word.1 += confidence;
            }
            in_photo
                .into_iter()
                .for_each(|(text, (seen, confidence))| self.words.add(text, seen, confidence));
        } else {
            self.other_answers += 1;
        }
    }

    fn finish(self, job: JobView) -> ReportView {
        let photos = job.tasks;
        let not_counted_singly = self.labels.left_out + self.words.left_out;
        let failed: u64 = self.failures.values().map(|(count, _)| count).sum();
        let failure = |(cause, (count, example))| FailureView {
            cause,
            photos: count,
            share: share(count, photos),
            example,
        };
        let mut failures: Vec<FailureView> = self.failures.into_iter().map(failure).collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.photos));
        ReportView {
            job: job.job,
            name: job.name,
            state: job.state,
            recogniser: job.recogniser,
            photos,
            succeeded: self.succeeded,
            failed,
            without_result: photos.saturating_sub(self.succeeded + failed),
            labels: self.labels.finish(photos),
            words: self.words.finish(photos),
            other_answers: self.other_answers,
            not_counted_singly,
            failures,
        }
    }
}

impl Counts {
    /// One more photo, which shows `text` `seen` times with this confidence in sum.
    fn add(&mut self, text: &str, seen: u64, confidence: f64) {
        if !self.by_text.contains_key(text) && self.by_text.len() >= REPORT_DISTINCT_MAX {
            self.left_out += seen;
            return;
        }
        let count = self.by_text.entry(text.to_string()).or_default();
        count.photos += 1;
        count.seen += seen;
        count.confidence += confidence;
    }

    /// The most frequent first, equals by name.
    fn finish(self, photos: u64) -> Vec<CountView> {
        let view = |(text, count): (String, Count)| CountView {
            text,
            photos: count.photos,
            seen: count.seen,
            share: share(count.photos, photos),
            confidence: count.confidence / count.seen.max(1) as f64,
        };
        let mut views: Vec<CountView> = self.by_text.into_iter().map(view).collect();
        views.sort_by(|a, b| (b.photos, b.seen, &a.text).cmp(&(a.photos, a.seen, &b.text)));
        views
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn head(view: &ReportView) -> String {
    let rest = match view.without_result {
        0 => String::new(),
        n => format!(", {n} without a result"),
    };
    format!(
        "Job {} \"{}\" ({}, {}): {}, {} succeeded, {} failed{rest}.",
        view.job,
        clean(&view.name),
        clean(&view.recogniser),
        view.state,
        counted(view.photos, "photo"),
        view.succeeded,
        view.failed
    )
}

fn counts_table(name: &'static str, counts: &[CountView], top: usize) -> Table {
    let columns = [
        (name, Align::Left),
        ("PHOTOS", Align::Right),
        ("SHARE", Align::Right),
        ("SEEN", Align::Right),
        ("CONFIDENCE", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for count in counts.iter().take(top) {
        table.row([
            &count.text,
            &count.photos.to_string(),
            &percent(count.share),
            &count.seen.to_string(),
            &format!("{:.2}", count.confidence),
        ]);
    }
    table
}

fn failures_table(failures: &[FailureView]) -> Table {
    let columns = [
        ("FAILED BY", Align::Left),
        ("PHOTOS", Align::Right),
        ("SHARE", Align::Right),
        ("FOR EXAMPLE", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for failure in failures {
        table.row([
            failure.cause,
            &failure.photos.to_string(),
            &percent(failure.share),
            &failure.example,
        ]);
    }
    table
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use rebound_proto::v1::{Cause, Job, Outcome, TaskResult};

    use super::*;

    fn report(tasks: u64, outputs: &[(Outcome, Cause, &str)]) -> ReportView {
        let mut tally = Tally::default();
        for (outcome, cause, output) in outputs {
            let output = output.to_string().into();
            let result = TaskResult {
                outcome: *outcome as i32,
                cause: *cause as i32,
                output,
                ..Default::default()
            };
            tally.add(&ResultView::new(1, result));
        }
        tally.finish(JobView::from(Job {
            tasks,
            ..Default::default()
        }))
    }

    const OK: (Outcome, Cause) = (Outcome::Succeeded, Cause::Unspecified);

    #[test]
    fn labels_are_counted_with_their_share() {
        let label =
            |label: &str, p: f64| format!(r#"{{"kind":"labels","top":[{{"label":"{label}","p":{p}}}]}}"#);
        let outputs = [label("milk", 0.75), label("apple", 0.5), label("milk", 0.25)];
        let mut results: Vec<_> = outputs
            .iter()
            .map(|output| (OK.0, OK.1, output.as_str()))
            .collect();
        results.push((Outcome::Failed, Cause::Input, "not an image"));
        let view = report(5, &results);
        let count = |text: &str, photos, share, confidence| CountView {
            text: text.into(),
            photos,
            seen: photos,
            share,
            confidence,
        };
        assert_eq!(
            view.labels,
            [count("milk", 2, 0.4, 0.5), count("apple", 1, 0.2, 0.5)]
        );
        assert_eq!((view.succeeded, view.failed, view.without_result), (3, 1, 1));
        let failure = FailureView {
            cause: "input",
            photos: 1,
            share: 0.2,
            example: "not an image".into(),
        };
        assert_eq!(view.failures, [failure]);
    }

    #[test]
    fn words_are_counted_by_photo_and_in_all() {
        let photo = r#"{"kind":"words","words":[{"text":"A","confidence":1.0},{"text":"A","confidence":0.5},{"text":"B","confidence":0.5}]}"#;
        let other = r#"{"kind":"words","words":[{"text":"B","confidence":0.5}]}"#;
        let view = report(2, &[(OK.0, OK.1, photo), (OK.0, OK.1, other)]);
        let count = |text: &str, photos, share, confidence| CountView {
            text: text.into(),
            photos,
            seen: 2,
            share,
            confidence,
        };
        assert_eq!(view.words, [count("B", 2, 1.0, 0.5), count("A", 1, 0.5, 0.75)]);
    }

    #[test]
    fn other_answers_are_counted_too() {
        let noop = "ab".repeat(32);
        let view = report(
            4,
            &[
                (OK.0, OK.1, &noop),
                (OK.0, OK.1, r#"{"shelf": 3}"#),
                (OK.0, OK.1, r#"{"kind":"labels"}"#),
            ],
        );
        assert_eq!(
            (view.other_answers, view.labels.len(), view.words.len()),
            (3, 0, 0)
        );
    }
}
