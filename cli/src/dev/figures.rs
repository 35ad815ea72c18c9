//! The figures of a run, for people and for programs.

use std::collections::BTreeMap;
use std::path::Path;

use rebound_proto::v1::{Outcome, StatusReply, TaskResult};
use serde::Serialize;
use serde_json::Value;

use super::audit::Audit;
use super::kills::{Killed, Who};
use super::{DevArgs, Seen};
use crate::cmd::Context;
use crate::cmd::results::{top_label, words};
use crate::exit::Failure;
use crate::local::{Quantiles, round};
use crate::output::{Align, Table, clean};

/// Labels or words shown.
const SHOWN: usize = 12;
/// Photos shown one by one.
const PHOTOS_SHOWN: usize = 5;

/// From asking for a job to seeing it done, in milliseconds.
#[derive(Debug, Serialize)]
pub struct SubmitToDone {
    job: Quantiles,
    photo: Quantiles,
}

/// The run.
#[derive(Debug, Serialize)]
pub struct Figures {
    photos: u64,
    jobs: u64,
    succeeded: u64,
    failed: u64,
    recorded_twice: u64,
    acknowledged_lost: u64,
    stale_refused: u64,
    digests_equal: bool,
    leader_changes: u64,
    workers_lost: u64,
    wall_s: f64,
    photos_per_s: f64,
    submit_to_done_ms: SubmitToDone,
    /// From the last commit answered before the leader was killed to the first after; none without a kill.
    failover_ms: Option<f64>,
    /// Share of photos whose top label is that of labels.csv; none without one.
    accuracy: Option<f64>,
    kills: Vec<Killed>,
    probes_answered: u64,
    probes_asked: u64,
    audit: AuditFigures,
}

#[derive(Debug, Serialize)]
struct AuditFigures {
    entries: u64,
    digests_compared: u64,
    results_compared: u64,
    findings: Vec<String>,
}

impl Figures {
    /// True when the run shows what it should.
    pub fn is_good(&self, args: &DevArgs) -> bool {
        let killed_worker = args.kill_worker.is_some();
        self.succeeded == self.photos
            && self.recorded_twice == 0
            && self.acknowledged_lost == 0
            && self.digests_equal
            && self.audit.findings.is_empty()
            && (!killed_worker || (self.stale_refused >= 1 && self.workers_lost >= 1))
            && (args.kill_leader.is_none() || self.leader_changes >= 1)
    }
}

/// Puts the figures together.
pub fn of(
    args: &DevArgs,
    seen: &Seen,
    results: &[Vec<TaskResult>],
    last: &StatusReply,
    audit: &Audit,
) -> Figures {
    let jobs = &seen.burst.jobs;
    let wall_s = seen.burst.wall.as_secs_f64();
    let job_ms = jobs
        .iter()
        .map(|job| (job.done - job.asked).as_secs_f64() * 1e3)
        .collect();
    let photo_ms = jobs.iter().flat_map(|job| job.photo_ms.iter().copied()).collect();
    let leader_killed = seen.kills.iter().find(|killed| killed.who == Who::Leader);
    let photos = jobs.iter().map(|job| job.photos.len() as u64).sum();
    Figures {
        photos,
        jobs: jobs.len() as u64,
        succeeded: jobs.iter().map(|job| job.succeeded).sum(),
        failed: jobs.iter().map(|job| job.failed).sum(),
        recorded_twice: audit.recorded_twice,
        acknowledged_lost: audit.acknowledged_lost,
        stale_refused: last.stale_refused,
        digests_equal: audit.digests_equal,
        leader_changes: audit.leader_changes,
        workers_lost: audit.workers_lost,
        wall_s: round(wall_s, 3),
        photos_per_s: round(photos as f64 / wall_s.max(1e-9), 1),
        submit_to_done_ms: SubmitToDone {
            job: Quantiles::of(job_ms, 1),
            photo: Quantiles::of(photo_ms, 1),
        },
        failover_ms: leader_killed
            .and_then(|killed| seen.probe.gap_ms(killed.at))
            .map(|ms| round(ms, 1)),
        accuracy: args.photos.as_deref().and_then(|dir| accuracy(dir, results)),
        kills: seen.kills.clone(),
        probes_answered: seen.probe.answered.len() as u64,
        probes_asked: seen.probe.asked,
        audit: AuditFigures {
            entries: audit.entries,
            digests_compared: audit.digests_compared,
            results_compared: audit.acknowledged_compared,
            findings: audit.findings.clone(),
        },
    }
}

/// Against `labels.csv` (file, class, …) beside the photos.
fn accuracy(dir: &Path, results: &[Vec<TaskResult>]) -> Option<f64> {
    let table = std::fs::read_to_string(dir.join("labels.csv")).ok()?;
    let row = |line: &str| {
        let mut columns = line.split(',');
        Some((columns.next()?.to_owned(), columns.next()?.to_owned()))
    };
    let truth: BTreeMap<String, String> = table.lines().skip(1).filter_map(row).collect();
    let (mut right, mut known) = (0u64, 0u64);
    for result in results.iter().flatten() {
        let Some(class) = truth.get(&file_name(&result.uri)) else {
            continue;
        };
        known += 1;
        let output: Option<Value> = serde_json::from_slice(&result.output).ok();
        right += u64::from(
            output
                .as_ref()
                .and_then(top_label)
                .is_some_and(|(label, _)| label == class),
        );
    }
    (known > 0).then(|| round(right as f64 / known as f64, 4))
}

fn file_name(uri: &str) -> String {
    uri.rsplit('/').next().unwrap_or(uri).to_owned()
}

/// Prints them.
pub fn show(
    ctx: &mut Context,
    args: &DevArgs,
    figures: &Figures,
    results: &[Vec<TaskResult>],
) -> Result<(), Failure> {
    ctx.out.one(figures, |out, figures| {
        out.line("")?;
        show_photos(out, results)?;
        out.table(&mut counts(results))?;
        out.line("")?;
        out.table(&mut facts(figures))?;
        for finding in &figures.audit.findings {
            out.line(&format!("audit: {finding}"))?;
        }
        let verdict = match figures.is_good(args) {
            true => "Nothing that was acknowledged is lost, nothing was recorded twice, all servers agree.",
            false => "This run does not show what it should; see above.",
        };
        out.line(&format!("\n{verdict}"))
    })?;
    Ok(())
}

/// A few photos and what was read off them.
fn show_photos(out: &mut crate::output::Out, results: &[Vec<TaskResult>]) -> std::io::Result<()> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for result in results
        .iter()
        .flatten()
        .filter(|result| result.outcome() == Outcome::Succeeded)
    {
        let Ok(output) = serde_json::from_slice::<Value>(&result.output) else {
            continue;
        };
        let told = match (top_label(&output), words(&output)) {
            (Some((label, p)), _) => format!("{label} ({:.0} %)", p * 100.0),
            (_, Some(words)) => {
                let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
                words.for_each(|(word, _)| *counts.entry(word).or_default() += 1);
                let mut counts: Vec<_> = counts.into_iter().collect();
                counts.sort_by_key(|(word, count)| (std::cmp::Reverse(*count), *word));
                let shown = counts
                    .iter()
                    .take(6)
                    .map(|(word, count)| format!("{word} ×{count}"));
                shown.collect::<Vec<_>>().join(", ")
            }
            _ => continue,
        };
        seen.entry(file_name(&result.uri)).or_insert(told);
    }
    for (photo, told) in seen.iter().take(PHOTOS_SHOWN) {
        out.line(&format!("{}: {}", clean(photo), clean(told)))?;
    }
    if seen.len() > PHOTOS_SHOWN {
        out.line(&format!("… and {} more photos\n", seen.len() - PHOTOS_SHOWN))?;
    }
    Ok(())
}

/// What was seen most, over all photos.
fn counts(results: &[Vec<TaskResult>]) -> Table {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut photos = 0u64;
    for result in results
        .iter()
        .flatten()
        .filter(|result| result.outcome() == Outcome::Succeeded)
    {
        photos += 1;
        let Ok(output) = serde_json::from_slice::<Value>(&result.output) else {
            continue;
        };
        let mut here: BTreeMap<String, u64> = BTreeMap::new();
        if let Some((label, _)) = top_label(&output) {
            here.insert(label.to_owned(), 1);
        } else if let Some(words) = words(&output) {
            words.for_each(|(word, _)| *here.entry(word.to_owned()).or_default() += 1);
        }
        for (text, seen) in here {
            let sum = counts.entry(text).or_default();
            sum.0 += 1;
            sum.1 += seen;
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(text, (_, seen))| (std::cmp::Reverse(*seen), text.clone()));
    let columns = [
        ("SEEN", Align::Left),
        ("TIMES", Align::Right),
        ("PHOTOS", Align::Right),
        ("SHARE OF PHOTOS", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for (text, (on, seen)) in rows.into_iter().take(SHOWN) {
        let share = format!("{:.1} %", on as f64 * 100.0 / photos.max(1) as f64);
        table.row([text, seen.to_string(), on.to_string(), share]);
    }
    table
}

fn facts(figures: &Figures) -> Table {
    let mut table = Table::facts();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let quantiles = |q: &Quantiles| format!("p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms", q.p50, q.p95, q.p99);
    row(
        "photos",
        format!(
            "{} in {} jobs: {} succeeded, {} failed",
            figures.photos, figures.jobs, figures.succeeded, figures.failed
        ),
    );
    row(
        "time",
        format!("{:.1} s, {:.1} photos/s", figures.wall_s, figures.photos_per_s),
    );
    row("a job, submit to done", quantiles(&figures.submit_to_done_ms.job));
    row(
        "a photo, submit to done",
        quantiles(&figures.submit_to_done_ms.photo),
    );
    if let Some(ms) = figures.failover_ms {
        row("no commits after the leader's death", format!("{ms:.0} ms"));
    }
    if let Some(accuracy) = figures.accuracy {
        row("top label right", format!("{:.1} %", accuracy * 100.0));
    }
    row(
        "leader changes, workers lost",
        format!("{}, {}", figures.leader_changes, figures.workers_lost),
    );
    row("late results refused", figures.stale_refused.to_string());
    row(
        "recorded twice, acknowledged lost",
        format!("{}, {}", figures.recorded_twice, figures.acknowledged_lost),
    );
    row(
        "servers' digests",
        if figures.digests_equal {
            "equal".into()
        } else {
            "DIFFERENT".into()
        },
    );
    let audit = &figures.audit;
    row(
        "audited",
        format!(
            "{} entries, {} digests, {} stored results",
            audit.entries, audit.digests_compared, audit.results_compared
        ),
    );
    table
}
