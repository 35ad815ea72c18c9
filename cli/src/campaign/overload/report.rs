//! What a run of the overload came to, what of it must hold, and how it is told.

use serde::Serialize;

use super::OverloadArgs;
use super::generator::{Counts, Phase};
use super::records;
use crate::bench::figures::Machine;
use crate::bench::load::SMALL_TASKS;
use crate::cmd::Context;
use crate::exit::Failure;
use crate::local::{Quantiles, round};
use crate::output::Table;

/// Least of the peak's photos that must be done in time under overload.
const GOODPUT_MIN: f64 = 0.9;
/// Refusals take at most so long, 99 of 100, in milliseconds at the generator.
const REFUSED_MS_MAX: f64 = 50.0;
/// A process may hold so much memory, in MiB.
const RSS_MIB_MAX: f64 = 512.0;
/// Afterwards photos start within so many times as long as before,
const BACK_TIMES: f64 = 1.5;
/// for so many seconds in a row,
const BACK_FOR: usize = 10;
/// within so many seconds.
const BACK_WITHIN: usize = 30;

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub campaign: &'static str,
    pub held: bool,
    pub machine: Machine,
    /// How processes were kept on their cores.
    pub kept_by: &'static str,
    pub recogniser: String,
    pub deadline_s: u64,
    pub peak: Peak,
    pub before: Stretch,
    pub overload: Stretch,
    /// Photos done in time, a second, under overload, and what part of the peak's that is.
    pub goodput_per_s: f64,
    pub of_peak: f64,
    pub after: Stretch,
    /// From its end until the first of the seconds in which photos started as soon as before.
    pub back_after_s: Option<usize>,
    /// 99th percentile from submit to start in each second afterwards, in milliseconds.
    pub after_p99_ms: Vec<Option<f64>>,
    pub processes: Vec<Process>,
    /// All that was taken was done in the end.
    pub drained: bool,
    pub broken: Vec<String>,
}

/// The most that was done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Peak {
    pub photos_per_s: f64,
    /// Photos that waited or ran meanwhile.
    pub backlog: u64,
}

/// A stretch of steady submits.
#[derive(Debug, Serialize)]
pub struct Stretch {
    pub photos_per_s: f64,
    pub seconds: f64,
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the photos taken, those done in time.
    pub in_time: f64,
    pub start_ms: Quantiles,
    pub taken_ms: Quantiles,
    pub refused_ms: Quantiles,
    pub lag_ms: Quantiles,
}

/// A server or an agent.
#[derive(Debug, Serialize)]
pub struct Process {
    pub name: String,
    pub peak_rss_mib: f64,
    /// Of the core under overload, without what ended meanwhile.
    pub core: f64,
}

/// What was done, as it was seen.
pub struct Done {
    pub peak: Peak,
    pub phases: Vec<(Phase, Vec<records::Photo>)>,
    pub processes: Vec<Process>,
    pub drained: bool,
}

impl Done {
    /// What that comes to.
    pub fn report(self, args: &OverloadArgs, machine: Machine, kept_by: &'static str) -> Report {
        let mut stretches: Vec<Stretch> = self
            .phases
            .iter()
            .map(|(phase, photos)| stretch(phase, photos))
            .collect();
        let (flood, photos) = &self.phases[1];
        let to_us = flood.began_us + (flood.seconds * 1e6) as u64;
        let goodput = records::in_time(photos, flood.began_us, to_us) as f64 / flood.seconds;
        let (after, photos) = &self.phases[2];
        let windows = records::windows(photos, after.began_us, after.seconds as u64);
        let most = stretches[0].start_ms.p99 * BACK_TIMES;
        let back = records::back(&windows, most, BACK_FOR);
        let of_peak = goodput / self.peak.photos_per_s;
        let mut broken = Vec::new();
        let mut must = |holds: bool, otherwise: String| {
            if !holds {
                broken.push(otherwise);
            }
        };
        let under = &stretches[1];
        must(
            of_peak >= GOODPUT_MIN,
            format!(
                "{:.1} % of the peak was done in time, least {:.0} %",
                of_peak * 100.0,
                GOODPUT_MIN * 100.0
            ),
        );
        must(
            !under.counts.refused.is_empty(),
            "nothing was refused: that was no overload".to_owned(),
        );
        must(
            under.refused_ms.p99 < REFUSED_MS_MAX,
            format!(
                "p99 of refusals is {:.1} ms, at most {REFUSED_MS_MAX} ms",
                under.refused_ms.p99
            ),
        );
        must(
            under.counts.unsent == 0,
            format!("the generator did not send {} submits", under.counts.unsent),
        );
        for one in self.processes.iter().filter(|one| one.peak_rss_mib > RSS_MIB_MAX) {
            must(
                false,
                format!(
                    "{} held {} MiB, at most {RSS_MIB_MAX}",
                    one.name, one.peak_rss_mib
                ),
            );
        }
        must(
            back.is_some_and(|first| first + BACK_FOR <= BACK_WITHIN),
            format!(
                "photos did not start within {most:.1} ms for {BACK_FOR} s within {BACK_WITHIN} s afterwards"
            ),
        );
        must(self.drained, "not all that was taken was done".to_owned());
        let mut next = || stretches.remove(0);
        Report {
            campaign: "overload",
            held: broken.is_empty(),
            machine,
            kept_by,
            recogniser: args.recogniser.clone(),
            deadline_s: args.deadline,
            peak: self.peak,
            before: next(),
            overload: next(),
            goodput_per_s: round(goodput, 1),
            of_peak: round(of_peak, 3),
            after: next(),
            back_after_s: back,
            after_p99_ms: windows,
            processes: self.processes,
            drained: self.drained,
            broken,
        }
    }
}

fn stretch(phase: &Phase, photos: &[records::Photo]) -> Stretch {
    let in_time = photos.iter().filter(|photo| photo.in_time).count() as f64;
    let taken = (phase.taken.len() as u64 * SMALL_TASKS) as f64;
    Stretch {
        photos_per_s: round(phase.submits as f64 * SMALL_TASKS as f64 / phase.seconds, 1),
        seconds: phase.seconds,
        counts: phase.counts(),
        in_time: round(in_time / taken.max(1.0), 4),
        start_ms: records::starts(photos),
        taken_ms: Quantiles::of(phase.taken_ms.clone(), 1),
        refused_ms: Quantiles::of(phase.refused_ms.clone(), 1),
        lag_ms: Quantiles::of(phase.lag_ms.clone(), 1),
    }
}

/// Tells it.
pub fn show(ctx: &mut Context, report: &Report) -> Result<(), Failure> {
    ctx.out.one(report, |out, report| {
        let mut table = Table::facts();
        let times = |q: &Quantiles| {
            format!(
                "p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
                q.p50, q.p99, q.max
            )
        };
        let under = &report.overload;
        let back = match report.back_after_s {
            Some(first) => format!("after {first} s"),
            None => "NOT".to_owned(),
        };
        let memory = report
            .processes
            .iter()
            .map(|one| format!("{} {:.0} MiB", one.name, one.peak_rss_mib));
        let core = report
            .processes
            .iter()
            .map(|one| format!("{} {:.1} %", one.name, one.core * 100.0));
        for (name, value) in [
            ("campaign", report.campaign.to_owned()),
            ("held", if report.held { "yes" } else { "NO" }.to_owned()),
            ("kept on their cores by", report.kept_by.to_owned()),
            (
                "recogniser, deadline",
                format!("{}, {} s", report.recogniser, report.deadline_s),
            ),
            ("peak", format!("{:.1} photos a second", report.peak.photos_per_s)),
            (
                "submitted under overload",
                format!(
                    "{:.1} photos a second for {:.0} s",
                    under.photos_per_s, under.seconds
                ),
            ),
            (
                "done in time",
                format!(
                    "{:.1} a second, {:.1} % of the peak",
                    report.goodput_per_s,
                    report.of_peak * 100.0
                ),
            ),
            (
                "jobs submitted, taken, refused, unknown",
                format!(
                    "{}, {}, {}, {}",
                    under.counts.submits,
                    under.counts.taken,
                    under.counts.refused.values().sum::<u64>(),
                    under.counts.unknown.values().sum::<u64>()
                ),
            ),
            (
                "of the photos taken in time",
                format!("{:.2} %", under.in_time * 100.0),
            ),
            ("submit to refusal", times(&under.refused_ms)),
            ("submit to taken", times(&under.taken_ms)),
            ("the generator's lag", times(&under.lag_ms)),
            ("submit to start before", times(&report.before.start_ms)),
            ("submit to start under overload", times(&under.start_ms)),
            ("as before again", back),
            ("most memory", memory.collect::<Vec<_>>().join(", ")),
            ("of the core under overload", core.collect::<Vec<_>>().join(", ")),
        ] {
            table.row([name.to_owned(), value]);
        }
        out.table(&mut table)?;
        let broken = report.broken.iter().map(|what| format!("broken: {what}"));
        broken
            .collect::<Vec<_>>()
            .iter()
            .try_for_each(|line| out.line(line))
    })?;
    Ok(())
}
