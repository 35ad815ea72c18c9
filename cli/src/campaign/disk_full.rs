//! `rebound campaign disk-full`: a server's disk fills up under load. The server ends, the others go on; started again
//! on the full disk it ends again or goes on, and once there is room it catches up.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::disk::{LoopDisk, TOOLS};
use super::{Common, REST, Stage, WITHIN, campaign, check_count, in_ms, lead, normal, root, skipped};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{Layout, Place};

/// How long a server may go on with what its files have room for.
const END_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to end when it is started on a full disk.
const REFUSE_WITHIN: Duration = Duration::from_secs(15);
/// The servers' write buffer.
const WRITE_BUFFER_MIB: u64 = 1;
/// What the disk is filled with at once.
const PIECE: usize = 64 * 1024;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct DiskFullArgs {
    /// How often the disk fills up
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub times: u64,
    /// Size of the disk
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub mib: u64,
    #[command(flatten)]
    pub common: Common,
}

/// One full disk.
#[derive(Debug, Serialize)]
struct Full {
    server: u64,
    led: bool,
    /// From the disk being full until the server ended.
    ended_ms: f64,
    /// How, and what it said last.
    ended: String,
    /// How it ended when it was started on the full disk; none when it went on.
    refused: Option<String>,
    /// From there being room until it had caught up.
    back_ms: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: DiskFullArgs) -> Result<Exit, Failure> {
    const NAME: &str = "disk-full";
    args.common.check()?;
    check_count(args.times, 1, "--times")?;
    if !(64..=1 << 20).contains(&args.mib) {
        return Err(Failure::usage("must be 64 to 1048576").at("--mib"));
    }
    if let Err(why) = root::enter(&[], &TOOLS) {
        return skipped(ctx, NAME, &why);
    }
    let place = |dir: &Path, layout: &mut Layout| {
        let disk = LoopDisk::make(&dir.join("disk.img"), args.mib, &dir.join("disk"))?;
        layout.places = vec![Place {
            data: Some(disk.at().join("data")),
            ..Place::default()
        }];
        // RocksDB takes room for its log of writes ahead: little, so that a full disk is soon felt.
        layout.store.write_buffer_mib = WRITE_BUFFER_MIB;
        Ok(disk)
    };
    let work = async |stage: Stage<'_, '_, Full, LoopDisk>| fills(stage, args.times).await;
    campaign(ctx, NAME, &args.common, place, work).await
}

/// The first server's disk is the small one.
const VICTIM: usize = 0;

async fn fills(mut stage: Stage<'_, '_, Full, LoopDisk>, times: u64) -> Result<(), Failure> {
    for number in 1..=times {
        tokio::time::sleep(REST).await;
        let full = fill(&mut stage, number).await?;
        stage.ctx.out.note(&format!(
            "full disk {number} of {times}: the server ended after {:.2} s, had caught up {:.2} s after there was room",
            full.ended_ms / 1e3,
            full.back_ms / 1e3
        ));
        stage.record.cases.push(full);
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

async fn fill(stage: &mut Stage<'_, '_, Full, LoopDisk>, number: u64) -> Result<Full, Failure> {
    let house = &mut *stage.drill.house;
    // Every other time it is the leader whose disk is full.
    let leads = number.is_multiple_of(2);
    lead(house, VICTIM, leads).await?;
    let filler = stage.with.at().join("filler");
    fill_up(&filler)?;
    let begun = Instant::now();
    let ended = house.ends(VICTIM, END_WITHIN).await;
    let ended_ms = in_ms(begun.elapsed());
    let Some((status, words)) = ended else {
        return Err(Failure::failed("a server whose disk is full goes on and on"));
    };
    stage.record.must(words.contains("data_dir"), || {
        format!("full disk {number}: the server does not say which directory is full: {words}")
    });
    let ended = format!("{status}: {}", words.lines().last().unwrap_or_default());
    // The others go on meanwhile.
    house.leader(WITHIN).await?;
    house.start_server(VICTIM, false)?;
    let refused = house.ends(VICTIM, REFUSE_WITHIN).await;
    std::fs::remove_file(&filler)
        .map_err(|error| Failure::failed(format!("{}: {error}", filler.display())))?;
    let room = Instant::now();
    if refused.is_some() || house.ends(VICTIM, Duration::ZERO).await.is_some() {
        house.start_server(VICTIM, false)?;
    }
    house.caught_up(VICTIM, WITHIN).await?;
    let back_ms = in_ms(room.elapsed());
    normal(house).await?;
    Ok(Full {
        server: VICTIM as u64 + 1,
        led: leads,
        ended_ms,
        ended,
        refused: refused
            .map(|(status, words)| format!("{status}: {}", words.lines().last().unwrap_or_default())),
        back_ms,
    })
}

/// Fills the disk until nothing more goes onto it.
fn fill_up(filler: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", filler.display()));
    let mut file = File::create(filler).map_err(failed)?;
    let piece = vec![0xa5; PIECE];
    let mut length = piece.len();
    loop {
        match file.write(&piece[..length]) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && length > 1 => length /= 2,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}
