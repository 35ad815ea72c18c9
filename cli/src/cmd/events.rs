//! `rebound scale events` and `explain --at`: what was decided about machines, and what became of it.

use rebound_proto::v1::{Decision, LaunchReason};
use serde::Serialize;

use super::{Context, Stale};
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean, duration, time};

/// What `explain --at` shows is not older than this before the time asked for, in µs; but the last launch always is there.
const AROUND_US: u64 = 15 * 60 * 1_000_000;

#[derive(Serialize)]
struct EventView {
    index: u64,
    at: String,
    by: String,
    what: String,
    words: String,
    pools: Vec<String>,
    machine: Option<String>,
    launch: Option<u64>,
    reason: Option<ReasonView>,
}

/// The numbers behind a launch.
#[derive(Serialize)]
struct ReasonView {
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

/// Parses a time as people write it, into µs since 1970.
///
/// # Errors
///
/// When it is none.
pub fn instant(text: &str, option: &'static str) -> Result<u64, Failure> {
    let wrong = || Failure::usage("is no time; write 2026-11-23T12:00:00Z").at(option);
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(at.as_microsecond()).map_err(|_| wrong())
}

/// All that is kept, up to a time.
pub async fn list(ctx: &mut Context, stale: Stale, until: Option<&str>) -> Result<Exit, Failure> {
    let until = until.map(|text| instant(text, "--until")).transpose()?;
    let client = ctx.reader(stale);
    let reply = client.decisions(until.unwrap_or(0)).await?;
    let views: Vec<EventView> = reply.decisions.iter().map(view).collect();
    ctx.out.many(&views, |out, views| {
        let columns = [
            ("AT", Align::Left),
            ("WHAT", Align::Left),
            ("BY", Align::Left),
            ("", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for one in views {
            table.row([&one.at, &one.what, &one.by, &one.words]);
        }
        out.table(&mut table)
    })?;
    ctx.note_age(&client);
    if views.is_empty() {
        ctx.out
            .note("Nothing was decided about machines in the last week.");
    }
    Ok(Exit::Ok)
}

/// What was decided before a time, with its numbers.
pub async fn at(ctx: &mut Context, stale: Stale, at: &str) -> Result<Exit, Failure> {
    let at = instant(at, "--at")?;
    let client = ctx.reader(stale);
    let reply = client.decisions(at.max(1)).await?;
    let launch = reply.decisions.iter().position(|one| one.what == "launch");
    let near = |(place, one): &(usize, &Decision)| {
        at.saturating_sub(one.at_us) <= AROUND_US || launch.is_some_and(|launch| *place <= launch)
    };
    let shown: Vec<EventView> = reply
        .decisions
        .iter()
        .enumerate()
        .filter(near)
        .map(|(_, one)| view(one))
        .collect();
    ctx.out.many(&shown, |out, shown| {
        for one in shown {
            out.line(&format!("{} {}: {}", one.at, one.what, one.words))?;
            if let Some(reason) = &one.reason {
                for line in reason_lines(reason) {
                    out.line(&line)?;
                }
            }
        }
        Ok(())
    })?;
    ctx.note_age(&client);
    if shown.is_empty() {
        ctx.out
            .note("Nothing is kept of then: decisions are kept for a week.");
    }
    Ok(Exit::Ok)
}

fn view(one: &Decision) -> EventView {
    let text = |text: &str| clean(text).to_string();
    EventView {
        index: one.index,
        at: time(one.at_us),
        by: text(&one.by),
        what: text(&one.what),
        words: text(&one.words),
        pools: one.pools.iter().map(super::pool::text).collect(),
        machine: (!one.machine.is_empty()).then(|| text(&one.machine)),
        launch: (one.launch > 0).then_some(one.launch),
        reason: one.because.as_ref().map(reason),
    }
}

fn reason(because: &LaunchReason) -> ReasonView {
    let usd = |micro: u64| micro as f64 / 1e6;
    let instead = because.instead_of.as_ref();
    ReasonView {
        photos: because.photos,
        missing: because.missing,
        due: time(because.due_us),
        ready_in_us: because.ready_in_us,
        wanted: because.machines,
        have: because.have,
        capped: clean(&because.capped).to_string(),
        ahead: clean(&because.ahead).to_string(),
        usd_per_thousand: usd(because.chosen_micro_usd),
        instead_of: instead.map(super::pool::text),
        instead_of_usd_per_thousand: instead.map(|_| usd(because.instead_of_micro_usd)),
        not_chosen: clean(&because.not_chosen).to_string(),
        escape: clean(&because.escape).to_string(),
        committed: because.committed,
    }
}

/// How the first pool was found, where that is not by cost alone.
pub fn how(escape: &str, committed: bool) -> String {
    match (escape, committed) {
        (_, true) => "; paid for already".to_string(),
        ("", _) => String::new(),
        (escape, _) => format!("; the best could not be had: another {escape}"),
    }
}

fn reason_lines(one: &ReasonView) -> Vec<String> {
    if !one.ahead.is_empty() {
        return vec![format!(
            "  for work to come: {}; {} more are wanted, {} are there or come",
            one.ahead, one.wanted, one.have
        )];
    }
    let capped = match one.capped.is_empty() {
        true => String::new(),
        false => format!("; stopped by {}", one.capped),
    };
    let instead = one.instead_of.as_ref().map_or_else(String::new, |pool| {
        let total = one.instead_of_usd_per_thousand.unwrap_or_default();
        format!("; not {pool} at ${total:.4}: {}", one.not_chosen)
    });
    let instead = format!("{}{instead}", how(&one.escape, one.committed));
    vec![
        format!(
            "  {} of {} photos would miss {}; a machine is ready in {}; {} more are wanted, {} are there or come{capped}",
            one.missing,
            one.photos,
            one.due,
            duration(one.ready_in_us),
            one.wanted,
            one.have,
        ),
        format!("  ${:.4} for a thousand photos{instead}", one.usd_per_thousand),
    ]
}
