//! `rebound campaign soak`: a steady load for a long time, jobs deleted soon after they end. After each round the cluster
//! falls quiet and is looked at: memory, open files, disks, digests; all results of the round are read back.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use rebound_core::types::SECOND;
use rebound_proto::v1::SettingChange;
use rebound_scheduler::config::LogConfig;
use serde::Serialize;

use super::Common;
use crate::bench::QUIET_WITHIN;
use crate::bench::drill::{Load, read_back};
use crate::bench::figures::seconds;
use crate::bench::fill::Taken;
use crate::bench::scrape::Scrape;
use crate::bench::usage::Usage;
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{DataDir, House, asked, round};
use crate::output::Table;

/// How long jobs are kept after they ended.
const KEEP_US: u64 = 60 * SECOND;
/// Entries the servers keep in their log: few, so that a short soak sees it cut.
const LOG_KEEP: u64 = 10_000;
/// Rounds of a warm-up: the first third.
const WARM_UP: usize = 3;
/// Open files may differ by so many from the warm-up on: connections come and go.
const FILES_SPREAD: u64 = 64;
/// From the warm-up on a disk may grow to so many times its size, and by so many MiB: files wait to be merged.
const DISK_TIMES: f64 = 2.0;
const DISK_MORE_MIB: f64 = 256.0;
/// No process may hold more at any time, in MiB: what its buffers and caches may fill, several times.
const RSS_MAX_MIB: f64 = 512.0;
/// What a server's cache holds, as it tells.
const CACHE: &str = "rebound_store_memory_bytes{of=\"block_cache\"}";
/// A run of at least so many minutes is judged by the slope of its memory.
const SLOPE_MINUTES: f64 = 60.0;
/// Memory of a process may grow by so many MiB an hour from the warm-up on.
const SLOPE_MIB_H: f64 = 16.0;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct SoakArgs {
    /// Rounds of load, after each of which the cluster is looked at
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub rounds: u64,
    /// Length of a round's load
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    pub round: u64,
    #[command(flatten)]
    pub common: Common,
}

/// A quiet cluster, after a round.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    minute: f64,
    jobs: u64,
    processes: Vec<ProcessSeen>,
    disk_mib: Vec<f64>,
    digests_equal: bool,
}

#[derive(Clone, Debug, Serialize)]
struct ProcessSeen {
    name: String,
    rss_mib: f64,
    /// Of these, a server's cache of blocks: it fills for hours, up to its bound, and that is no leak.
    cache_mib: f64,
    files: u64,
}

#[derive(Debug, Serialize)]
struct Soak {
    campaign: &'static str,
    held: bool,
    minutes: f64,
    jobs: u64,
    unanswered: u64,
    results_compared: u64,
    /// From the warm-up on, by process, without its cache. Of a short run it would say nothing, so it is not told.
    rss_slope_mib_h: Vec<(String, f64)>,
    broken: Vec<String>,
    samples: Vec<Sample>,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: SoakArgs) -> Result<Exit, Failure> {
    args.common.check()?;
    super::check_count(args.rounds, 1, "--rounds")?;
    if !(1..=3_600).contains(&args.round) {
        return Err(Failure::usage("must be 1 to 3600").at("--round"));
    }
    let dir = DataDir::open(args.common.data_dir.as_ref(), "rebound-campaign-")?;
    let mut layout = args.common.layout();
    layout.log = LogConfig {
        keep: LOG_KEEP,
        archive: false,
    };
    let mut house = House::start(&layout, dir.path()).await?;
    let soaked = soak(ctx, &mut house, &args).await;
    house.stop().await;
    let held = soaked.as_ref().is_ok_and(|soak| soak.held);
    if !held {
        ctx.out
            .note(&format!("The processes' logs are in {}", dir.keep().display()));
    }
    ctx.out.one(&soaked?, |out, soak| {
        let mut table = Table::facts();
        for (name, value) in [
            ("campaign", soak.campaign.to_owned()),
            ("held", if soak.held { "yes" } else { "NO" }.to_owned()),
            ("minutes", format!("{:.1}", soak.minutes)),
            ("jobs, unanswered", format!("{}, {}", soak.jobs, soak.unanswered)),
            ("results compared", soak.results_compared.to_string()),
        ] {
            table.row([name.to_owned(), value]);
        }
        for (name, slope) in &soak.rss_slope_mib_h {
            table.row([format!("{name}: memory, MiB an hour"), format!("{slope:+.1}")]);
        }
        out.table(&mut table)?;
        soak.broken
            .iter()
            .try_for_each(|what| out.line(&format!("broken: {what}")))
    })?;
    Ok(if held { Exit::Ok } else { Exit::Failed })
}

async fn soak(ctx: &mut Context, house: &mut House, args: &SoakArgs) -> Result<Soak, Failure> {
    house.leader(QUIET_WITHIN).await?;
    house.start_workers().await?;
    let change = |name: &str| SettingChange {
        name: name.to_owned(),
        value: KEEP_US,
    };
    let changes = vec![change("key_for"), change("retention")];
    house
        .client()
        .change_settings(changes)
        .await
        .map_err(asked("settings"))?;
    let begun = tokio::time::Instant::now();
    let mut soak = Soak {
        campaign: "soak",
        held: false,
        minutes: 0.0,
        jobs: 0,
        unanswered: 0,
        results_compared: 0,
        rss_slope_mib_h: Vec::new(),
        broken: Vec::new(),
        samples: Vec::new(),
    };
    for number in 1..=args.rounds {
        let load = Load::start(house.client(), args.common.rate);
        tokio::time::sleep(Duration::from_secs(args.round)).await;
        let load = load.stop().await?;
        house.quiet(QUIET_WITHIN).await?;
        let read = read_back(&house.client(), &load.taken).await?;
        soak.jobs += load.taken.len() as u64;
        soak.unanswered += load.unanswered;
        let results: u64 = read.iter().map(|job| job.results.len() as u64).sum();
        soak.results_compared += results;
        let lacks = lacking(&load.taken, results);
        soak.broken
            .extend(lacks.map(|lacks| format!("round {number}: {lacks}")));
        let sample = look(house, seconds(begun.elapsed()) / 60.0, soak.jobs).await?;
        let mib = |of: &[f64]| {
            of.iter()
                .map(|mib| format!("{mib:.0}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let rss: Vec<f64> = sample.processes.iter().map(|one| one.rss_mib).collect();
        ctx.out.note(&format!(
            "minute {:.1}: {} jobs; memory {} MiB; disks {} MiB; digests {}",
            sample.minute,
            sample.jobs,
            mib(&rss),
            mib(&sample.disk_mib),
            if sample.digests_equal { "equal" } else { "DIFFER" }
        ));
        soak.samples.push(sample);
    }
    soak.minutes = round(seconds(begun.elapsed()) / 60.0, 2);
    judge(&mut soak);
    Ok(soak)
}

/// Every task of a job that is done has a result. Of those that are read back, none may be missing.
fn lacking(taken: &[Taken], results: u64) -> Option<String> {
    let tasks: u64 = taken.iter().map(|job| job.part.count).sum();
    (results != tasks).then(|| format!("{results} results of {tasks} tasks were read back"))
}

async fn look(house: &mut House, minute: f64, jobs: u64) -> Result<Sample, Failure> {
    let mut processes = Vec::new();
    for (at, (name, id)) in house.pids().into_iter().enumerate() {
        // Servers come first.
        let cache = match at < house.addresses().len() {
            true => Scrape::of(house.http(at)).await?.value(CACHE).unwrap_or_default(),
            false => 0.0,
        };
        let usage = Usage::of(id).ok_or_else(|| Failure::failed(format!("{name} has gone")))?;
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count) as u64;
        processes.push(ProcessSeen {
            name,
            rss_mib: round(usage.rss as f64 / (1 << 20) as f64, 1),
            cache_mib: round(cache / (1 << 20) as f64, 1),
            files,
        });
    }
    let disk = house.data_dirs();
    let disk_mib = disk
        .iter()
        .map(|dir| round(size(dir) as f64 / (1 << 20) as f64, 1));
    Ok(Sample {
        minute: round(minute, 2),
        jobs,
        processes,
        disk_mib: disk_mib.collect(),
        digests_equal: digests_equal(house).await?,
    })
}

/// Compares the servers' digests once all of them say one of the same entry.
async fn digests_equal(house: &mut House) -> Result<bool, Failure> {
    let servers = house.addresses().len();
    let until = tokio::time::Instant::now() + QUIET_WITHIN;
    loop {
        let statuses = house.statuses().await;
        if let [(_, first), others @ ..] = &statuses[..]
            && statuses.len() == servers
            && others.iter().all(|(_, other)| other.applied == first.applied)
        {
            return Ok(others.iter().all(|(_, other)| other.digest == first.digest));
        }
        if tokio::time::Instant::now() > until {
            return Err(Failure::timeout("the servers never were at one entry"));
        }
        tokio::time::sleep(super::LOOK).await;
    }
}

/// Bytes of a folder's files.
fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|file| file.len())
        .sum()
}

fn judge(soak: &mut Soak) {
    let samples = &soak.samples;
    let warm = &samples[(samples.len() / WARM_UP).min(samples.len().saturating_sub(1))..];
    let mut broken = std::mem::take(&mut soak.broken);
    for sample in samples.iter().filter(|sample| !sample.digests_equal) {
        broken.push(format!("minute {}: the servers' digests differ", sample.minute));
    }
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else {
        return;
    };
    for (at, process) in first.processes.iter().enumerate() {
        let of = |sample: &Sample| sample.processes[at].clone();
        let files: Vec<u64> = warm.iter().map(|sample| of(sample).files).collect();
        let (least, most) = (files.iter().min().copied(), files.iter().max().copied());
        if most > least.map(|least| least + FILES_SPREAD) {
            broken.push(format!("{}: open files {least:?} to {most:?}", process.name));
        }
        let most = samples
            .iter()
            .map(|sample| of(sample).rss_mib)
            .fold(0.0, f64::max);
        if most > RSS_MAX_MIB {
            broken.push(format!("{}: it held {most} MiB of memory", process.name));
        }
        let points: Vec<(f64, f64)> = warm
            .iter()
            .map(|sample| (sample.minute / 60.0, of(sample).rss_mib - of(sample).cache_mib))
            .collect();
        if soak.minutes < SLOPE_MINUTES {
            continue;
        }
        let slope = slope(&points);
        if slope > SLOPE_MIB_H {
            broken.push(format!(
                "{}: memory grows by {slope:.1} MiB an hour",
                process.name
            ));
        }
        soak.rss_slope_mib_h.push((process.name.clone(), round(slope, 1)));
    }
    for (at, (first, last)) in first.disk_mib.iter().zip(&last.disk_mib).enumerate() {
        if *last > first * DISK_TIMES + DISK_MORE_MIB {
            broken.push(format!(
                "server {}: its disk grew from {first} to {last} MiB",
                at + 1
            ));
        }
    }
    soak.held = broken.is_empty();
    soak.broken = broken;
}

/// Of the straight line through these points that is nearest to them; 0 where there is none.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let common: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if spread > 0.0 { common / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::JobPart;

    #[test]
    fn a_slope_is_the_nearest_lines() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 9.0), (2.0, 5.0)]), 0.0);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0, "one point has none");
    }

    fn sample(minute: f64, rss_mib: f64, disk: f64) -> Sample {
        Sample {
            minute,
            jobs: 1,
            processes: vec![ProcessSeen {
                name: "server 1".into(),
                rss_mib,
                cache_mib: 0.0,
                files: 30,
            }],
            disk_mib: vec![disk],
            digests_equal: true,
        }
    }

    fn judged(samples: Vec<Sample>) -> Soak {
        let mut soak = Soak {
            campaign: "soak",
            held: false,
            minutes: samples.last().map_or(0.0, |last| last.minute),
            jobs: 1,
            unanswered: 0,
            results_compared: 12,
            rss_slope_mib_h: Vec::new(),
            broken: Vec::new(),
            samples,
        };
        judge(&mut soak);
        soak
    }

    #[test]
    fn a_result_that_is_missing_is_found() {
        let part = JobPart { first: 0, count: 12 };
        let taken = [Taken { id: 1, part }, Taken { id: 2, part }];
        assert_eq!(lacking(&taken, 24), None);
        assert!(lacking(&taken, 23).is_some_and(|why| why.contains("23 results of 24 tasks")));
    }

    #[test]
    fn what_grows_and_what_differs_is_found() {
        let hours = |step: f64| {
            (0..10).map(move |at| sample(f64::from(at) * 30.0, 100.0 + step * f64::from(at), 50.0))
        };
        assert!(judged(hours(1.0).collect()).held, "2 MiB an hour");
        assert!(judged(hours(20.0).collect()).broken[0].contains("memory grows"));
        let much = judged(vec![sample(0.5, 600.0, 50.0), sample(1.0, 100.0, 50.0)]);
        assert!(much.broken[0].contains("held 600 MiB"), "however short: {much:?}");
        let mut samples: Vec<_> = hours(20.0).collect();
        (0..10).for_each(|at| samples[at].processes[0].cache_mib = 20.0 * at as f64);
        assert!(judged(samples).held, "what grows is its cache");
        let mut samples: Vec<_> = hours(0.0).collect();
        samples[5].digests_equal = false;
        samples[9].disk_mib = vec![1_000.0];
        let soak = judged(samples);
        assert!(!soak.held);
        assert!(soak.broken[0].contains("digests differ") && soak.broken[1].contains("50 to 1000 MiB"));
    }
}
