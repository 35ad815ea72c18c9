//! `rebound campaign power-cut`: servers lose power, one at a time and all at once. Each has a disk of its own, ext4
//! on a loop device. In the middle of the load a server is stopped, its disk is copied without any sync, the server is
//! killed and its disk taken away; the copy takes its place, the file system's journal is played, and the server
//! starts from it. What a real disk's own cache would lose beyond that cannot be shown so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rebound_scheduler::offline::OfflineStore;
use serde::Serialize;
use tokio::time::Instant;

use super::disk::{LoopDisk, TOOLS};
use super::{Common, REST, Record, SERVERS, Stage, WITHIN, campaign, check_count, in_ms, root, skipped};
use crate::bench::drill::joined;
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{Layout, Place, asked};

/// Size of a disk, in MiB. The file takes only what is written to it.
const DISK_MIB: u64 = 8 * 1024;
/// A cut comes so many milliseconds after the rest, at most.
const MOMENT_MS: u64 = 400;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct PowerArgs {
    /// How often one server loses power
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub images: u64,
    /// How often all three do at once, after that
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub all: u64,
    /// A library loaded into the servers first. With libeatmydata.so, whose syncs do nothing, the campaign must fail
    #[arg(long, value_name = "FILE")]
    pub preload: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

/// One loss of power.
#[derive(Debug, Serialize)]
struct Cut {
    servers: Vec<u64>,
    led: bool,
    /// Copies until one was of a single moment, of all disks together.
    copies: u32,
    images: Vec<ImageSeen>,
    /// The newest job acknowledged before; its id is its entry's index.
    acknowledged: u64,
    /// Jobs acknowledged before that are on none of these disks; counted where all lost power.
    gone: u64,
    /// From the stop until all had caught up.
    back_ms: f64,
}

/// What was on a disk.
#[derive(Clone, Debug, Serialize)]
struct ImageSeen {
    server: u64,
    /// What the server had told the leader to be on its disk, as the leader said before.
    promised: u64,
    /// Last entry of the log.
    last: u64,
    applied: u64,
}

/// The disks: each server's, and which of its two files it is in.
struct Disks {
    dir: PathBuf,
    disks: Vec<(Option<LoopDisk>, u64)>,
}

impl Disks {
    fn make(dir: &Path) -> Result<Disks, Failure> {
        let mut disks = Disks {
            dir: dir.to_owned(),
            disks: Vec::new(),
        };
        for server in 0..SERVERS as usize {
            let disk = LoopDisk::make(
                &disks.file(server, 0),
                DISK_MIB,
                &dir.join(format!("disk-{}", server + 1)),
            )?;
            disks.disks.push((Some(disk), 0));
        }
        Ok(disks)
    }

    fn file(&self, server: usize, generation: u64) -> PathBuf {
        self.dir
            .join(format!("disk-{}.{}.img", server + 1, generation % 2))
    }

    fn places(&self, preload: Option<&Path>) -> Vec<Place> {
        let preload = preload.map(|file| ("LD_PRELOAD".to_owned(), file.display().to_string()));
        let place = |disk: &LoopDisk| Place {
            data: Some(disk.at().join("data")),
            env: preload.iter().cloned().collect(),
            ..Place::default()
        };
        self.disks
            .iter()
            .filter_map(|(disk, _)| disk.as_ref().map(place))
            .collect()
    }

    /// Copies the disk beside itself.
    fn copy(&self, server: usize) -> Result<u32, Failure> {
        let (disk, generation) = &self.disks[server];
        let next = self.file(server, generation + 1);
        let _ = std::fs::remove_file(&next);
        disk.as_ref().expect("it is mounted").copy(&next)
    }

    /// The copy takes the disk's place.
    fn swap(&mut self, server: usize) -> Result<(), Failure> {
        let (disk, generation) = &mut self.disks[server];
        let at = disk.take().expect("it is mounted").at().to_owned();
        *generation += 1;
        let file = self.file(server, self.disks[server].1);
        self.disks[server].0 = Some(LoopDisk::mount(&file, &at)?);
        Ok(())
    }
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: PowerArgs) -> Result<Exit, Failure> {
    const NAME: &str = "power-cut";
    args.common.check()?;
    check_count(args.images, 0, "--images")?;
    check_count(args.all, 0, "--all")?;
    if let Err(why) = root::enter(&[], &TOOLS) {
        return skipped(ctx, NAME, &why);
    }
    let place = |dir: &Path, layout: &mut Layout| {
        let disks = Disks::make(dir)?;
        layout.places = disks.places(args.preload.as_deref());
        Ok(disks)
    };
    let work = async |stage: Stage<'_, '_, Cut, Disks>| cuts(stage, &args).await;
    campaign(ctx, NAME, &args.common, place, work).await
}

async fn cuts(mut stage: Stage<'_, '_, Cut, Disks>, args: &PowerArgs) -> Result<(), Failure> {
    if args.preload.is_some() || !args.common.plant.is_empty() {
        // Where syncs do nothing, the directories themselves would be missing and nothing be learned of their logs.
        root::run(&["sync"])?;
    }
    for number in 1..=args.images + args.all {
        let moment = Duration::from_millis(stage.rng.within(0, MOMENT_MS));
        tokio::time::sleep(REST + moment).await;
        let victims = match number <= args.images {
            true => vec![stage.rng.within(0, SERVERS - 1) as usize],
            false => (0..SERVERS as usize).collect(),
        };
        let cut = cut(&mut stage, number, &victims).await?;
        let (who, copies, back) = (&cut.servers, cut.copies, cut.back_ms / 1e3);
        stage.ctx.out.note(&format!(
            "loss of power {number} of {}: servers {who:?}, {copies} copies; all have caught up after {back:.2} s",
            args.images + args.all
        ));
        stage.record.cases.push(cut);
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

async fn cut(stage: &mut Stage<'_, '_, Cut, Disks>, number: u64, victims: &[usize]) -> Result<Cut, Failure> {
    let (leader, _) = stage.drill.house.leader(WITHIN).await?;
    let members = stage
        .drill
        .house
        .client()
        .members()
        .await
        .map_err(asked("members"))?;
    // What is acknowledged after this may be on the disks or not: the servers still run.
    let (_, acknowledged) = stage.drill.acknowledged();
    let before = stage.drill.acknowledged_after(0);
    let begun = Instant::now();
    let house = &mut *stage.drill.house;
    for at in victims {
        house.pause(*at).await?;
    }
    let mut copies = 0;
    for at in victims {
        copies += stage.with.copy(*at)?;
    }
    let mut images = Vec::new();
    for at in victims {
        house.kill_server(*at);
        stage.with.swap(*at)?;
        let server = *at as u64 + 1;
        let promised = members.members.iter().find(|member| member.server == server);
        let promised = promised.map_or(0, |member| member.matched);
        let dir = house.data_dirs()[*at].clone();
        images.push(joined(tokio::task::spawn_blocking(move || look(&dir, server, promised))).await??);
    }
    // Before they start: a server that misses what it had promised ends at once, and says less well why.
    let gone = match victims.len() < SERVERS as usize {
        true => 0,
        false => gone(&images, &before),
    };
    judge(stage.record, number, &images, acknowledged, gone);
    if let Some(what) = stage.record.broken.first() {
        return Err(Failure::failed(what.clone()));
    }
    for at in victims {
        house.start_server(*at, false)?;
    }
    for at in victims {
        house.caught_up(*at, WITHIN).await?;
    }
    Ok(Cut {
        servers: victims.iter().map(|at| *at as u64 + 1).collect(),
        led: victims.contains(&leader),
        copies,
        images,
        acknowledged,
        gone,
        back_ms: in_ms(begun.elapsed()),
    })
}

/// What an image holds, read before its server starts.
fn look(dir: &Path, server: u64, promised: u64) -> Result<ImageSeen, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("server {server}'s image: {error}"));
    let store = OfflineStore::open(dir).map_err(|error| failed(&error))?;
    let mut last = store.compacted().map_err(|error| failed(&error))?.0;
    for entry in store.log_entries() {
        last = last.max(entry.map_err(|error| failed(&error))?.0);
    }
    let applied = store.applied().map_err(|error| failed(&error))?;
    Ok(ImageSeen {
        server,
        promised,
        last,
        applied,
    })
}

/// How many of these jobs no log reaches. A log has no holes: it holds each job up to its last entry.
fn gone(images: &[ImageSeen], jobs: &[u64]) -> u64 {
    let longest = images.iter().map(|image| image.last).max().unwrap_or(0);
    jobs.iter().filter(|job| **job > longest).count() as u64
}

/// Each disk holds what its server had promised; of all disks together, a majority holds what was acknowledged.
fn judge(record: &mut Record<Cut>, number: u64, images: &[ImageSeen], acknowledged: u64, gone: u64) {
    record.must(gone == 0, || {
        format!("loss {number}: {gone} acknowledged jobs are gone, up to job {acknowledged}: no disk's log reaches them")
    });
    for image in images {
        let ImageSeen {
            server,
            promised,
            last,
            applied,
        } = image.clone();
        record.must(last >= promised, || {
            format!("loss {number}: server {server} had promised its log up to {promised}; its disk has it up to {last}")
        });
        record.must(applied <= last, || {
            format!("loss {number}: server {server}'s state is of entry {applied}, its log ends at {last}")
        });
    }
    let holders = images.iter().filter(|image| image.last >= acknowledged).count();
    let majority = SERVERS as usize / 2 + 1;
    record.must(images.len() < SERVERS as usize || holders >= majority, || {
        format!(
            "loss {number}: job {acknowledged} was acknowledged, and the logs of {holders} disks reach it"
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(server: u64, promised: u64, last: u64) -> ImageSeen {
        ImageSeen {
            server,
            promised,
            last,
            applied: last.min(promised),
        }
    }

    fn judged(images: &[ImageSeen], jobs: &[u64]) -> Vec<String> {
        let mut record = Record {
            cases: Vec::new(),
            broken: Vec::new(),
        };
        let newest = jobs.iter().copied().max().unwrap_or(0);
        judge(&mut record, 1, images, newest, gone(images, jobs));
        record.broken
    }

    #[test]
    fn what_disks_lack_is_told_apart() {
        let whole = [image(1, 9, 12), image(2, 9, 9), image(3, 5, 6)];
        assert!(judged(&whole, &[4, 8]).is_empty());
        let broken = judged(&[image(1, 9, 12), image(2, 9, 7), image(3, 5, 6)], &[4, 8]);
        assert!(broken[0].contains("server 2 had promised") && broken[1].contains("the logs of 1 disks"));
        let broken = judged(&[image(1, 9, 3), image(2, 9, 2), image(3, 5, 0)], &[2, 4, 8]);
        assert!(broken[0].contains("2 acknowledged jobs are gone"), "{broken:?}");
        let one = judged(&[image(1, 9, 3)], &[2]);
        assert_eq!(one.len(), 1, "{one:?}");
    }
}
