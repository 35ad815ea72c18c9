//! `rebound-pricer rank`: pools by dollars for a thousand photos.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rebound_core::types::Time;
use rebound_pricer::catalogue::{Arch, Catalogue};
use rebound_pricer::eligible::Limits;
use rebound_pricer::money::{parse_micros, ratio, usd};
use rebound_pricer::pool;
use rebound_pricer::rank::{Known, Photos, Place, Ranking, Row, candidates, from_book, place, rank};
use rebound_pricer::risk::Risks;
use rebound_pricer::throughput::{Need, Throughputs};
use rebound_pricer::transfer::{Nat, Transfers};
use serde::Serialize;

use super::failure::Failure;
use super::load::{Files, Loaded, bytes, name, option_time, text};
use super::output::{Out, dollars, time};

/// Largest photo, in MB.
const PHOTO_MB_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NatArg {
    /// Agents have public addresses
    None,
    /// Private subnets with S3's endpoint: photos of other regions pass the gateway
    Away,
    /// Private subnets without one
    Always,
}

/// What to rank, and for which photos.
#[derive(Debug, Args)]
pub struct RankArgs {
    #[command(flatten)]
    files: Files,
    /// Region of the photos' bucket; without it their way costs nothing
    #[arg(long, value_name = "REGION")]
    photos_in: Option<String>,
    /// Size of a photo, in MB
    #[arg(long, value_name = "MB", default_value = "3")]
    mb: String,
    /// When photos pass a NAT gateway
    #[arg(long, value_enum, default_value_t = NatArg::Away)]
    nat: NatArg,
    /// Prices of data by region, in place of the built-in ones: region,out_usd_per_gb,nat_usd_per_gb
    #[arg(long, value_name = "FILE")]
    transfer: Option<PathBuf>,
    /// The recogniser, as in --throughput
    #[arg(long, value_name = "NAME", default_value = "shelf-text")]
    recogniser: String,
    /// Measured machines: instance_type,recogniser,photos_per_hour
    #[arg(long, value_name = "FILE")]
    throughput: Option<PathBuf>,
    /// Memory of a slot, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1_024)]
    slot_mib: u32,
    /// GPUs of a slot
    #[arg(long, value_name = "N", default_value_t = 0)]
    slot_gpus: u32,
    /// Limits on machines, as TOML: archs, regions, types, not_types, burstable, vcpu_min, vcpu_max, zone_ids_only
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Regions that may be used, over those of --limits
    #[arg(long, value_name = "REGIONS", value_delimiter = ',')]
    regions: Vec<String>,
    /// Architectures that there is an image for, over those of --limits: x86_64,arm64
    #[arg(long, value_name = "ARCHS", value_delimiter = ',')]
    arch: Vec<String>,
    /// Pools, as 'c5*@use1-*/spot'; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pools: Vec<String>,
    /// The time at which prices are taken; the newest of them if not given
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Rows to show; 0 for all
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Shows the pools that are out of the question instead, with the reason
    #[arg(long)]
    barred: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    rank: usize,
    #[serde(flatten)]
    row: &'a Row,
    usd_per_hour: f64,
    usd_per_thousand: f64,
}

#[derive(Serialize)]
struct BarredRow {
    pool: String,
    why: String,
    #[serde(flatten)]
    barred: rebound_pricer::eligible::Barred,
}

/// Runs it.
///
/// # Errors
///
/// Exit 2 for a bad file or option, 4 where no pool fits.
pub fn run(args: &RankArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = args.files.load(super::now())?;
    let at = at(args, &loaded)?;
    let ranking = ranked(args, &loaded, at)?;
    loaded.notes(at, out);
    if ranking.rows.is_empty() && ranking.barred.is_empty() {
        return Err(Failure::not_found(
            "no pool fits: no prices were given, or --pools is too narrow",
        ));
    }
    if args.barred {
        return barred(&ranking, out);
    }
    let top = if args.top == 0 { usize::MAX } else { args.top };
    let rows: Vec<Shown<'_>> = ranking
        .rows
        .iter()
        .take(top)
        .enumerate()
        .map(|(index, row)| Shown {
            rank: index + 1,
            row,
            usd_per_hour: dollars(row.price),
            usd_per_thousand: dollars(row.total_k),
        })
        .collect();
    let head = [
        "POOL",
        "$/H",
        "ON-DEMAND",
        "PHOTOS/S",
        "MACHINE/K",
        "TRANSFER/K",
        "NAT/K",
        "RISK/K",
        "TOTAL/K",
        "BREAK-EVEN $/H",
        "CAP",
    ];
    out.many(&rows, &head, |shown| cells(shown.row))?;
    summary(args, &ranking, at, out);
    if ranking.rows.is_empty() {
        return Err(Failure::not_found("no pool may be used; --barred tells why"));
    }
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    // Photos a second, in thousandths.
    let speed = ratio(1_000, 1_000_000, row.speed.us_per_photo);
    let assumed = if row.speed.measured { "" } else { "?" };
    vec![
        pool::text(&row.pool),
        usd(row.price),
        usd(row.on_demand),
        format!("{}{assumed}", super::output::milli(speed, 2)),
        usd(row.machine_k),
        usd(row.transfer_k),
        usd(row.nat_k),
        usd(row.risk_k),
        usd(row.total_k),
        row.break_even.map_or_else(|| "-".into(), usd),
        row.cap.map_or_else(|| "-".into(), |cap| cap.to_string()),
    ]
}

fn summary(args: &RankArgs, ranking: &Ranking, at: Time, out: &mut Out) {
    let measured = ranking.rows.iter().filter(|row| row.speed.measured).count();
    out.note(&format!(
        "{} pools at {}, {measured} of them measured (? is an assumed speed), {} barred.",
        ranking.rows.len(),
        time(at),
        ranking.barred.len()
    ));
    if let Some(region) = &args.photos_in {
        out.note(&match place(&ranking.rows, region) {
            Place::Home => format!("Photos stay in {region}: nothing elsewhere saves a tenth."),
            Place::Away => format!("Photos go elsewhere: it saves a tenth or more against {region}."),
            Place::HomeDry => format!("Photos go elsewhere: nothing may be used in {region}."),
            Place::Nowhere => "Photos have nowhere to go.".into(),
        });
    }
}

fn barred(ranking: &Ranking, out: &mut Out) -> Result<(), Failure> {
    if out.for_people() {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (_, why) in &ranking.barred {
            *counts.entry(why.to_string()).or_default() += 1;
        }
        let mut rows: Vec<(String, usize)> = counts.into_iter().collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        out.many(&rows, &["REASON", "POOLS"], |(why, count)| {
            vec![why.clone(), count.to_string()]
        })?;
        return Ok(());
    }
    let rows: Vec<BarredRow> = ranking
        .barred
        .iter()
        .map(|(pool, why)| BarredRow {
            pool: pool::text(pool),
            why: why.to_string(),
            barred: why.clone(),
        })
        .collect();
    out.many(&rows, &[], |_| Vec::new())?;
    Ok(())
}

fn at(args: &RankArgs, loaded: &Loaded) -> Result<Time, Failure> {
    match &args.at {
        Some(text) => option_time("--at", text),
        None => loaded
            .book
            .newest()
            .ok_or_else(|| Failure::usage("no spot prices: name a file of them with --file")),
    }
}

fn ranked(args: &RankArgs, loaded: &Loaded, at: Time) -> Result<Ranking, Failure> {
    let catalogue = Catalogue::built_in()?;
    let transfers = match &args.transfer {
        Some(path) => Transfers::parse(&name(path), &bytes(path)?)?,
        None => Transfers::built_in()?,
    };
    let throughputs = match &args.throughput {
        Some(path) => Throughputs::parse(&name(path), &text(path)?)?,
        None => Throughputs::default(),
    };
    let mut need = Need::new(&args.recogniser, args.slot_mib);
    need.slot.gpus = args.slot_gpus;
    let pools: Vec<_> = candidates(&loaded.book)
        .into_iter()
        .filter(|one| pool::chosen(&args.pools, one))
        .collect();
    let known = Known {
        catalogue: &catalogue,
        throughputs: &throughputs,
        advice: &loaded.advice,
        risks: &Risks::default(),
        transfers: &transfers,
    };
    let photos = Photos {
        region: args.photos_in.clone(),
        bytes: photo_bytes(&args.mb)?,
        nat: match args.nat {
            NatArg::None => Nat::None,
            NatArg::Away => Nat::Away,
            NatArg::Always => Nat::Always,
        },
    };
    let price = from_book(&loaded.book, at);
    Ok(rank(&known, &limits(args)?, &need, &photos, &pools, at, &price))
}

/// Megabytes as text into bytes: the millionths of a megabyte.
fn photo_bytes(text: &str) -> Result<u64, Failure> {
    let bad = |problem: String| {
        Failure::usage(format!(
            "--mb: {problem}: write the size of a photo in MB, as 3 or 0.5"
        ))
    };
    let micros = parse_micros(text)
        .map_err(|_| bad(format!("`{}` is no number", rebound_pricer::money::shown(text))))?;
    if !(0..=PHOTO_MB_MAX * 1_000_000).contains(&micros) {
        return Err(bad(format!("not within 0 to {PHOTO_MB_MAX}")));
    }
    Ok(micros.unsigned_abs())
}

fn limits(args: &RankArgs) -> Result<Limits, Failure> {
    let mut limits = match &args.limits {
        Some(path) => Limits::parse(&name(path), &text(path)?)?,
        None => Limits::default(),
    };
    if !args.regions.is_empty() {
        for region in &args.regions {
            if !pool::regions().any(|(_, known)| known == region) {
                let problem = rebound_pricer::money::shown(region);
                return Err(Failure::usage(format!(
                    "--regions: `{problem}` is no region: write one as eu-west-1"
                )));
            }
        }
        limits.regions.clone_from(&args.regions);
    }
    if !args.arch.is_empty() {
        limits.archs = args
            .arch
            .iter()
            .map(|arch| match arch.as_str() {
                "x86_64" => Ok(Arch::X86),
                "arm64" => Ok(Arch::Arm),
                _ => Err(Failure::usage("--arch: write x86_64, arm64 or both with a comma")),
            })
            .collect::<Result<_, _>>()?;
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_photos() {
        assert_eq!(photo_bytes("3").unwrap(), 3_000_000);
        assert_eq!(photo_bytes("0.5").unwrap(), 500_000);
        for text in ["-1", "x", "1001"] {
            assert!(photo_bytes(text).is_err());
        }
    }
}
