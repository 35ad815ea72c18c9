//! `rebound campaign clock`: the wall clock of one server jumps (libfaketime), while it leads and while it follows. The
//! cluster's clock does not follow, and nobody loses the lead.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::{Common, REST, Stage, WITHIN, campaign, in_ms, lead, normal, skipped};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{Layout, Place};

/// Where libfaketime may be.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
/// The server whose clock jumps.
const VICTIM: usize = 0;
/// How far it jumps, in seconds.
const JUMPS_S: [i64; 2] = [3_600, -3_600];
/// The cluster's clock may be off by so much, in microseconds: what it leans to a clock that is not far off.
const OFF_MAX_US: i64 = 30_000_000;
/// A leader's report of its own clock may be off by so much from the jump, in microseconds.
const SEEN_WITHIN_US: i64 = 120_000_000;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct ClockArgs {
    /// How long each jump stays
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub seconds: u64,
    #[command(flatten)]
    pub common: Common,
}

/// One jump.
#[derive(Debug, Serialize)]
struct Jump {
    led: bool,
    jump_s: i64,
    /// The leader's wall clock less the cluster's, as the leader says.
    said_off_s: i64,
    /// The cluster's clock less this machine's, in milliseconds.
    cluster_off_ms: i64,
    /// Somebody else leads afterwards.
    lead_lost: bool,
    /// A job submitted when the clock was right again was done after this.
    back_ms: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: ClockArgs) -> Result<Exit, Failure> {
    const NAME: &str = "clock";
    args.common.check()?;
    if args.seconds == 0 || args.seconds > 3_600 {
        return Err(Failure::usage("must be 1 to 3600").at("--seconds"));
    }
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        return skipped(ctx, NAME, "needs libfaketime (package faketime)");
    };
    let place = |dir: &Path, layout: &mut Layout| {
        let clock = dir.join("clock");
        set(&clock, 0)?;
        let env = [
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        layout.places = vec![Place {
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Place::default()
        }];
        Ok(clock)
    };
    let work = async |stage: Stage<'_, '_, Jump, PathBuf>| jumps(stage, args.seconds).await;
    campaign(ctx, NAME, &args.common, place, work).await
}

/// Sets the victim's clock so many seconds off. In one piece: it is read at any time.
fn set(clock: &Path, off_s: i64) -> Result<(), Failure> {
    let next = clock.with_extension("next");
    std::fs::write(&next, format!("{off_s:+}\n"))
        .and_then(|()| std::fs::rename(&next, clock))
        .map_err(|error| Failure::failed(format!("{}: {error}", clock.display())))
}

async fn jumps(mut stage: Stage<'_, '_, Jump, PathBuf>, seconds: u64) -> Result<(), Failure> {
    for (leads, jump_s) in [true, false]
        .into_iter()
        .flat_map(|leads| JUMPS_S.map(|jump| (leads, jump)))
    {
        tokio::time::sleep(REST).await;
        let jump = one(&mut stage, leads, jump_s, seconds).await?;
        stage.ctx.out.note(&format!(
            "server {}, {}: its clock jumped by {jump_s} s; the cluster's was {} ms off",
            VICTIM + 1,
            if leads { "the leader" } else { "a follower" },
            jump.cluster_off_ms
        ));
        stage.record.cases.push(jump);
    }
    Ok(())
}

async fn one(
    stage: &mut Stage<'_, '_, Jump, PathBuf>,
    leads: bool,
    jump_s: i64,
    seconds: u64,
) -> Result<Jump, Failure> {
    let house = &mut *stage.drill.house;
    let leader = lead(house, VICTIM, leads).await?;
    set(stage.with, jump_s)?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (now, status) = house.leader(WITHIN).await?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let off_us = status.now_us as i64 - wall.as_micros() as i64;
    set(stage.with, 0)?;
    let back = normal(house).await?;
    let jump = Jump {
        led: leads,
        jump_s,
        said_off_s: status.clock_off_us / 1_000_000,
        cluster_off_ms: off_us / 1_000,
        lead_lost: now != leader,
        back_ms: in_ms(back),
    };
    let record = &mut *stage.record;
    record.must(off_us.abs() < OFF_MAX_US, || {
        format!("{jump:?}: the cluster's clock followed")
    });
    record.must(!jump.lead_lost, || format!("{jump:?}: a clock cost the lead"));
    let seen = (status.clock_off_us - jump_s * 1_000_000).abs() < SEEN_WITHIN_US;
    record.must(!leads || seen, || {
        format!("{jump:?}: the leader does not say that its clock is off")
    });
    Ok(jump)
}
