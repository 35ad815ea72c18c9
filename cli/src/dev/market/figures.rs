//! The figures of a run on a played market.

use std::collections::BTreeMap;

use rebound_core::types::{Pool, SECOND, Time};
use rebound_pricer::pool::text;
use serde::Serialize;

use super::story::{Decision, dollars};
use crate::cloud::{Cost, Era, Event, Moment, What};
use crate::cmd::Context;
use crate::exit::Failure;
use crate::local::Quantiles;
use crate::output::time;
use crate::output::{Format, Table};

/// Launch calls belong to a wave until so long after its last photo, in µs.
const CALLS_AFTER: u64 = 60 * SECOND;
/// A machine that no launch accounts for is ended within so long, in seconds of the market.
const ORPHAN_MAX_S: f64 = 300.0;
/// Lines of the timeline that people are shown.
const SHOWN: usize = 40;

/// Spot crossed its on-demand price, and what the cluster made of it.
#[derive(Clone, Debug, Serialize)]
pub struct Crossing {
    /// By the recording.
    pub at: String,
    /// The pool.
    pub pool: String,
    /// Over, or back below.
    pub over: bool,
    /// When the cluster changed over, if it did before the next crossing.
    pub followed: Option<String>,
    /// Seconds between the two; less than 0 where its threshold came first.
    pub after_s: Option<f64>,
}

/// How far the run is off, since its time goes faster, in seconds of the market.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OwnError {
    /// From a submit to its acknowledgement.
    pub submit: Quantiles,
    /// From a launch's commit to its machines being known.
    pub launch: Quantiles,
    /// How late agents' processes started.
    pub boot: Quantiles,
    /// The 99th percentiles together.
    pub total_s: f64,
    /// As a part of the deadline, in percent.
    pub of_deadline_percent: f64,
}

/// The run.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub from: String,
    pub until: String,
    /// What was played, as `--market` names it; a generated one is drawn from `seed`.
    pub market: String,
    pub era: Era,
    pub policy: String,
    pub seed: u64,
    pub speedup: u64,
    pub photos: u64,
    pub jobs: u64,
    pub late_photos: u64,
    pub late_jobs: u64,
    pub cost_usd: f64,
    pub on_demand_cost_usd: f64,
    pub ledger_usd: f64,
    pub machines: u64,
    pub launches: u64,
    pub launch_calls: u64,
    /// Leaders killed while a launch was on its way, by where it was.
    pub leaders_killed: BTreeMap<Moment, u64>,
    /// Launches that gave more machines than they asked for.
    pub launched_twice: u64,
    /// Most machines and vCPUs at once.
    pub machines_most: u64,
    pub vcpus_most: u64,
    /// The longest life of a machine that the cluster never knew, in seconds of the market.
    pub unknown_longest_s: f64,
    pub interruptions: u64,
    /// From a notice until its agent had nothing in hand and left, in seconds of the market.
    pub handed_back: Quantiles,
    /// Notices after which an agent was lost with what it had in hand.
    pub not_handed_back: u64,
    /// From a wave's first submit on an empty fleet to its first launch call, in seconds that really passed.
    pub first_call: Quantiles,
    /// Most launch calls for one wave, as long as it came and a minute after.
    pub calls_of_a_wave_most: u64,
    pub orphans: u64,
    pub recorded_twice: u64,
    pub acknowledged_lost: u64,
    pub digests_equal: bool,
    pub crossings: Vec<Crossing>,
    pub error: OwnError,
    pub findings: Vec<String>,
    pub decisions: Vec<Decision>,
    pub timeline: Vec<Event>,
    pub bill: Cost,
}

impl Figures {
    /// True when nothing went wrong that must not, whatever it cost.
    pub fn is_good(&self) -> bool {
        self.orphans == 0
            && self.launched_twice == 0
            && self.unknown_longest_s <= ORPHAN_MAX_S
            && self.recorded_twice == 0
            && self.acknowledged_lost == 0
            && self.digests_equal
            && self.findings.is_empty()
    }
}

/// What the cluster made of each crossing: its first change of that pool the same way, until the pool crosses again.
/// A threshold below on-demand comes before the crossing, so that a change since the crossing before counts.
pub fn crossings(all: &[(Time, Pool, bool)], flips: &[(Time, Pool, bool)]) -> Vec<Crossing> {
    let of_pool = |pool: &Pool| all.iter().filter(|one| one.1 == *pool).collect::<Vec<_>>();
    let one = |(at, pool, over): &(Time, Pool, bool)| {
        let own = of_pool(pool);
        let place = own.iter().position(|one| one.0 == *at).unwrap_or(0);
        let after = place.checked_sub(1).map_or(Time(0), |before| own[before].0);
        let until = own.get(place + 1).map_or(Time(u64::MAX), |next| next.0);
        let followed = flips
            .iter()
            .find(|flip| flip.1 == *pool && flip.2 == *over && after <= flip.0 && flip.0 < until);
        let seconds = |flip: Time| (flip.0 as f64 - at.0 as f64) / SECOND as f64;
        Crossing {
            at: time(at.0),
            pool: text(pool),
            over: *over,
            followed: followed.map(|flip| time(flip.0.0)),
            after_s: followed.map(|flip| crate::local::round(seconds(flip.0), 1)),
        }
    };
    all.iter().map(one).collect()
}

/// From each wave's first submit to its first launch call, of waves that found no machine, in seconds that really
/// passed; and the most calls for one wave while it came.
pub fn calls(begins: &[Time], asked_at: &[Time], timeline: &[Event], speedup: u64) -> (Quantiles, u64) {
    let (mut took, mut most) = (Vec::new(), 0);
    for (number, begin) in begins.iter().enumerate() {
        let next = begins.get(number + 1).map_or(u64::MAX, |next| next.0);
        let Some(first) = asked_at.iter().filter(|at| **at >= *begin && at.0 < next).min() else {
            continue;
        };
        let came = asked_at
            .iter()
            .filter(|at| at.0 < next)
            .max()
            .map_or(first.0, |at| at.0);
        let launches = timeline.iter().filter(|one| one.what == What::Launch);
        let of_wave: Vec<u64> = launches
            .map(|one| one.at_us)
            .filter(|at| (first.0..came + CALLS_AFTER).contains(at))
            .collect();
        let before = |what: fn(&What) -> bool| {
            let all = timeline
                .iter()
                .filter(|one| what(&one.what) && one.at_us < first.0);
            all.count()
        };
        let came_up = before(|what| *what == What::Pending);
        let empty = came_up == before(|what| matches!(what, What::Ended | What::Taken));
        if let Some(call) = of_wave.first().filter(|_| empty) {
            took.push((call - first.0) as f64 / speedup as f64 / SECOND as f64);
        }
        most = most.max(of_wave.len() as u64);
    }
    (Quantiles::of(took, 3), most)
}

/// Shows them.
pub fn show(ctx: &mut Context, figures: &Figures) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(error.to_string());
    if ctx.out.format != Format::Table {
        return ctx.out.json(figures).map_err(failed);
    }
    let mut lines: Vec<(u64, String)> = figures
        .decisions
        .iter()
        .map(|one| (one.at_us, format!("{:<12} {} {}", one.what, one.of, one.because)))
        .chain(figures.timeline.iter().map(|one| {
            let what = format!("{:?}", one.what).to_lowercase();
            (
                one.at_us,
                format!("  {what:<10} {} {} {}", one.machine, one.pool, one.note),
            )
        }))
        .collect();
    lines.sort();
    let more = lines.len().saturating_sub(SHOWN);
    for (at, line) in lines.into_iter().take(SHOWN) {
        ctx.out
            .line(&format!("{} {line}", time(at / SECOND * SECOND)))
            .map_err(failed)?;
    }
    if more > 0 {
        ctx.out
            .line(&format!("… and {more} lines more; -o json has them all"))
            .map_err(failed)?;
    }
    ctx.out.table(&mut facts(figures)).map_err(failed)
}

fn facts(figures: &Figures) -> Table {
    let mut table = Table::facts();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row(
        "market",
        format!(
            "{}, seed {}: {} to {}",
            figures.market, figures.seed, figures.from, figures.until
        ),
    );
    row("photos", format!("{} in {} jobs", figures.photos, figures.jobs));
    row(
        "late",
        format!("{} photos, {} jobs", figures.late_photos, figures.late_jobs),
    );
    row(
        "cost",
        format!(
            "${:.4}; the same machines on demand ${:.4}",
            figures.cost_usd, figures.on_demand_cost_usd
        ),
    );
    row(
        "machines",
        format!(
            "{} by {} launches in {} calls; {} taken back",
            figures.machines, figures.launches, figures.launch_calls, figures.interruptions
        ),
    );
    if figures.interruptions > 0 {
        row(
            "handed back",
            format!(
                "within {:.1} s of the market after a notice; {} agents were lost with work in hand",
                figures.handed_back.max, figures.not_handed_back
            ),
        );
    }
    row(
        "first call",
        format!(
            "{:.3} s after the first submit, half of the times less; at most {} calls for a wave",
            figures.first_call.p50, figures.calls_of_a_wave_most
        ),
    );
    for crossing in &figures.crossings {
        let way = if crossing.over { "over" } else { "below" };
        let followed = crossing.followed.as_deref().unwrap_or("never");
        row(
            "crossing",
            format!(
                "{} {} {way} on-demand; changed over {followed}",
                crossing.at, crossing.pool
            ),
        );
    }
    if !figures.leaders_killed.is_empty() {
        let killed = |moment| figures.leaders_killed.get(&moment).copied().unwrap_or(0);
        row(
            "leaders killed",
            format!(
                "{} with a launch uncalled, {} with one unsettled; launches made twice: {}",
                killed(Moment::Uncalled),
                killed(Moment::Unsettled),
                figures.launched_twice
            ),
        );
    }
    row("orphans", figures.orphans.to_string());
    row(
        "recorded twice, acknowledged lost",
        format!("{}, {}", figures.recorded_twice, figures.acknowledged_lost),
    );
    row(
        "own error of the speed-up",
        format!(
            "{:.1} s of the market, {:.1} % of the deadline (submit {:.1}, launch {:.1}, boot {:.1})",
            figures.error.total_s,
            figures.error.of_deadline_percent,
            figures.error.submit.p99,
            figures.error.launch.p99,
            figures.error.boot.p99
        ),
    );
    for finding in &figures.findings {
        row("wrong", finding.clone());
    }
    table
}

/// Millionths of USD as a number for JSON.
pub fn usd(micro: u64) -> f64 {
    dollars(micro).parse().unwrap_or_default()
}
