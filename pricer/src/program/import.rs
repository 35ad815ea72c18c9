//! `rebound-pricer import`: what is in files, what cannot be true, and prices in one format.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use rebound_pricer::book::PriceBook;
use rebound_pricer::feed::Format;
use rebound_pricer::limits::FAULTS_TOLD_MAX;
use rebound_pricer::money::usd;
use rebound_pricer::pool::is_zone_id;
use serde::Serialize;

use super::failure::Failure;
use super::load::{Files, Loaded, name};
use super::output::{Out, time};

/// What to read and what to write.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    files: Files,
    /// Leaves prices out that cannot be true, instead of refusing their file
    #[arg(long)]
    skip_bad: bool,
    /// Writes all spot prices here, as CSV, gzipped if the name ends in .gz
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct FileRow {
    file: String,
    format: Format,
    rows: u64,
    pools: usize,
    from: Option<String>,
    until: Option<String>,
    skipped: u64,
    refused: u64,
}

/// Runs it.
///
/// # Errors
///
/// Exit 2 where a file has a fault, or a price that cannot be true and was not to be left out.
pub fn run(args: &ImportArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = args.files.load(super::now())?;
    if !args.skip_bad && !loaded.refused.is_empty() {
        return Err(bad_prices(&loaded, out));
    }
    let rows: Vec<FileRow> = loaded
        .files
        .iter()
        .map(|read| FileRow {
            file: read.file.clone(),
            format: read.format,
            rows: read.rows,
            pools: read.pools,
            from: read.span.map(|(from, _)| time(from)),
            until: read.span.map(|(_, until)| time(until)),
            skipped: read.skipped.values().sum(),
            refused: loaded
                .refused
                .iter()
                .filter(|(file, ..)| *file == read.file)
                .count() as u64,
        })
        .collect();
    let head = [
        "FILE", "FORMAT", "ROWS", "POOLS", "FROM", "UNTIL", "SKIPPED", "REFUSED",
    ];
    out.many(&rows, &head, |row| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![
            row.file.rsplit('/').next().unwrap_or_default().to_owned(),
            format!("{:?}", row.format),
            row.rows.to_string(),
            row.pools.to_string(),
            or_dash(&row.from),
            or_dash(&row.until),
            row.skipped.to_string(),
            row.refused.to_string(),
        ]
    })?;
    notes(&loaded, out);
    match &args.out {
        Some(path) => write(&loaded.book, path, out),
        None => Ok(()),
    }
}

fn bad_prices(loaded: &Loaded, out: &mut Out) -> Failure {
    let tell = |index: usize| {
        loaded.refused.get(index).map(|(file, told, why)| {
            let line = if told.line > 0 {
                format!(":{}", told.line)
            } else {
                String::new()
            };
            let fix = "correct it, or leave such prices out with --skip-bad";
            format!("{file}{line}: usd_per_hour: {why}: {fix}")
        })
    };
    for text in (1..FAULTS_TOLD_MAX).filter_map(tell) {
        out.note(&text);
    }
    let more = loaded.refused.len().saturating_sub(FAULTS_TOLD_MAX);
    if more > 0 {
        out.note(&format!("… and {more} more"));
    }
    Failure::usage(tell(0).unwrap_or_default())
}

fn notes(loaded: &Loaded, out: &mut Out) {
    for read in &loaded.files {
        for (what, count) in &read.skipped {
            out.note(&format!("{}: {count} prices for {what} left out", read.file));
        }
    }
    let named = loaded
        .book
        .pools()
        .filter(|(pool, _)| !is_zone_id(&pool.zone_id))
        .count();
    if named > 0 {
        out.note(&format!(
            "{named} pools have zone names, which differ between accounts. Map them to ids with --zones."
        ));
    }
    let (_, dropped) = loaded.book.points();
    if dropped > 0 {
        out.note(&format!(
            "{dropped} older changes of price are not kept: histories are bounded."
        ));
    }
}

fn write(book: &PriceBook, path: &Path, out: &mut Out) -> Result<(), Failure> {
    let file = name(path);
    let cannot = |error: std::io::Error| Failure::failed(format!("{file}: cannot be written: {error}"));
    let to = std::io::BufWriter::new(std::fs::File::create(path).map_err(cannot)?);
    let mut to: Box<dyn Write> = if file.ends_with(".gz") {
        Box::new(GzEncoder::new(to, Compression::default()))
    } else {
        Box::new(to)
    };
    let mut lines = 0u64;
    writeln!(to, "instance_type,zone,epoch_s,usd_per_hour").map_err(cannot)?;
    for (pool, series) in book.pools() {
        for point in series.points() {
            let second = point.at.0 / 1_000_000;
            writeln!(
                to,
                "{},{},{second},{}",
                pool.instance_type,
                pool.zone_id,
                usd(point.price)
            )
            .map_err(cannot)?;
            lines += 1;
        }
    }
    to.flush().map_err(cannot)?;
    out.note(&format!("{file}: {lines} prices written"));
    Ok(())
}
