//! CSV with a header: spot prices, on-demand prices, the advisor's bands.

use csv::{ReaderBuilder, StringRecord};
use rebound_core::types::{MicroUsd, Time};

use super::{Format, Prices, parse_time};
use crate::advisor::Advice;
use crate::error::FileError;
use crate::health::Told;
use crate::money::{parse_micros, parse_usd, shown};
use crate::on_demand::{Listed, OnDemand, System};
use crate::pool::{ZoneNames, spot};

/// Longest name of a type, zone or region.
const NAME_MAX: usize = 64;
/// SpotLake, whose columns these are, writes placement scores in thirds.
const SCORES: u64 = 3;

/// `text` without the mark that some programs put before UTF-8.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// By the header; nothing where it is none that is known.
pub fn detect(text: &[u8]) -> Option<Format> {
    let line = text.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let columns: Vec<&str> = line.trim().split(',').map(str::trim).collect();
    let all = |names: &[&str]| names.iter().all(|name| columns.contains(name));
    if all(&["instance_type", "zone"]) {
        Some(Format::Prices)
    } else if all(&["instance_type", "region", "interruption_band"]) {
        Some(Format::Advisor)
    } else if all(&["instance_type", "region"]) {
        Some(Format::OnDemand)
    } else {
        None
    }
}

/// One file's rows, with the names of its columns.
struct Table<'a> {
    file: &'a str,
    header: StringRecord,
    records: csv::StringRecordsIntoIter<&'a [u8]>,
}

/// One row, which knows where it stands.
struct Row<'a> {
    file: &'a str,
    line: u64,
    record: StringRecord,
}

impl<'a> Table<'a> {
    fn open(file: &'a str, text: &'a [u8]) -> Result<Self, FileError> {
        let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers().map_err(|error| fault(file, &error))?.clone();
        Ok(Self {
            file,
            header,
            records: reader.into_records(),
        })
    }

    fn column(&self, name: &str) -> Result<usize, FileError> {
        self.optional(name).ok_or_else(|| {
            FileError::at(
                self.file,
                1,
                name,
                "this column is missing",
                "add it to the header and to each row",
            )
        })
    }

    fn optional(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = Result<Row<'a>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let file = self.file;
        let record = self.records.next()?;
        Some(record.map_err(|error| fault(file, &error)).map(|record| Row {
            file,
            line: record.position().map_or(0, csv::Position::line),
            record,
        }))
    }
}

impl Row<'_> {
    fn get(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    fn error(&self, field: &str, problem: impl Into<String>, fix: &str) -> FileError {
        FileError::at(self.file, self.line, field, problem, fix)
    }

    /// A name, as of a type or a zone.
    fn name(&self, column: usize, field: &str, like: &str) -> Result<&str, FileError> {
        let text = self.get(column);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(plain) {
            let problem = format!("`{}` is no name", shown(text));
            return Err(self.error(field, problem, &format!("write one as {like}")));
        }
        Ok(text)
    }

    fn usd(&self, column: usize, field: &str) -> Result<MicroUsd, FileError> {
        parse_usd(self.get(column))
            .map_err(|problem| self.error(field, problem, "write USD an hour, as 0.0312"))
    }
}

fn fault(file: &str, error: &csv::Error) -> FileError {
    let line = error.position().map_or(0, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("has {len} columns, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        other => format!("cannot be read: {other:?}"),
    };
    FileError::at(
        file,
        line,
        "",
        problem,
        "write one value for each column of the header",
    )
}

/// Spot prices over time.
///
/// # Errors
///
/// The first fault.
pub fn prices(file: &str, text: &[u8], names: &ZoneNames) -> Result<Prices, FileError> {
    let table = Table::open(file, text)?;
    let kind = table.column("instance_type")?;
    let zone = table.column("zone")?;
    let epoch = table.column("epoch_s")?;
    let price = table.column("usd_per_hour")?;
    let on_demand = table.optional("on_demand");
    let score = table.optional("placement_score");
    let calm = table.optional("interruption_free_score");
    let mut all = Prices::default();
    let mut listed = OnDemand::default();
    let mut newest = Time(0);
    for row in table {
        let row = row?;
        let name = row.name(kind, "instance_type", "c5.large")?;
        let zone_text = row.name(zone, "zone", "use1-az4")?;
        let pool = spot(name, zone_text, names).map_err(|problem| {
            row.error(
                "zone",
                problem,
                "write a zone id as use1-az4, or a name as us-east-1a",
            )
        })?;
        let at = parse_time(row.get(epoch)).map_err(|problem| {
            row.error(
                "epoch_s",
                problem,
                "write seconds since 1970 UTC, or a time as 2016-02-25T10:38:07Z",
            )
        })?;
        let micros = parse_micros(row.get(price))
            .map_err(|problem| row.error("usd_per_hour", problem, "write USD an hour, as 0.0312"))?;
        if let Some(column) = on_demand.filter(|column| !row.get(*column).is_empty()) {
            let price = row.usd(column, "on_demand")?;
            listed
                .list(&pool.region, name, Listed::Price(price))
                .map_err(|problem| row.error("on_demand", problem, "split the file"))?;
            newest = newest.max(at);
        }
        if let Some(column) = score.filter(|column| !row.get(*column).is_empty()) {
            let text = row.get(column);
            let value = text.parse().unwrap_or(0);
            all.advice
                .note_score(&pool.zone_id, name, value, SCORES)
                .map_err(|problem| row.error("placement_score", problem, "write 1, 2 or 3"))?;
        }
        if let Some(column) = calm.filter(|column| !row.get(*column).is_empty()) {
            let band = calm_band(row.get(column)).ok_or_else(|| {
                let problem = format!("`{}` is no score", shown(row.get(column)));
                row.error(
                    "interruption_free_score",
                    problem,
                    "write 1.0, 1.5, 2.0, 2.5 or 3.0",
                )
            })?;
            all.advice
                .note_band(&pool.region, name, band)
                .map_err(|problem| row.error("interruption_free_score", problem, "write 1.0 to 3.0"))?;
        }
        all.told.push(Told {
            pool,
            at,
            micros,
            line: row.line,
        });
    }
    all.told.sort_by_key(|told| told.at);
    if !listed.is_empty() {
        all.on_demand = Some(listed.dated(newest));
    }
    Ok(all)
}

/// The advisor's band of a collected score: 3.0 is the calmest band, 1.0 the roughest, in halves.
fn calm_band(text: &str) -> Option<u64> {
    let halves = parse_micros(text).ok()? / 500_000;
    u64::try_from(6 - halves).ok().filter(|band| *band <= 4)
}

/// On-demand prices of types in regions.
///
/// # Errors
///
/// The first fault.
pub fn on_demand(file: &str, text: &[u8], as_of: Option<Time>) -> Result<OnDemand, FileError> {
    let table = Table::open(file, text)?;
    let kind = table.column("instance_type")?;
    let region = table.column("region")?;
    let currency = table.optional("currency");
    let price = match currency {
        Some(_) => table
            .optional("price_per_hour")
            .map_or_else(|| table.column("usd_per_hour"), Ok)?,
        None => table.column("usd_per_hour")?,
    };
    let system = table.optional("operating_system");
    let mut all = OnDemand::new(as_of);
    for row in table {
        let row = row?;
        let name = row.name(kind, "instance_type", "c5.large")?;
        let place = row.name(region, "region", "us-east-1")?;
        let listed = match system.map(|column| System::parse(row.get(column))) {
            Some(System::Other(system)) => Listed::OtherSystem(system),
            Some(System::Linux) | None => match currency.map(|column| row.get(column)) {
                Some(other) if other != "USD" => Listed::OtherCurrency(shown(other)),
                _ => Listed::Price(row.usd(price, "usd_per_hour")?),
            },
        };
        all.list(place, name, listed)
            .map_err(|problem| row.error("", problem, "split the file by region"))?;
    }
    Ok(all)
}

/// The spot advisor's bands.
///
/// # Errors
///
/// The first fault.
pub fn advisor(file: &str, text: &[u8]) -> Result<Advice, FileError> {
    let table = Table::open(file, text)?;
    let kind = table.column("instance_type")?;
    let region = table.column("region")?;
    let band = table.column("interruption_band")?;
    let mut all = Advice::default();
    for row in table {
        let row = row?;
        let name = row.name(kind, "instance_type", "c5.large")?;
        let place = row.name(region, "region", "us-east-1")?;
        let fix = "write the advisor's band, 0 (<5 %) to 4 (>20 %)";
        let value = row.get(band).parse().map_err(|_| {
            row.error(
                "interruption_band",
                format!("`{}` is no number", shown(row.get(band))),
                fix,
            )
        })?;
        all.note_band(place, name, value)
            .map_err(|problem| row.error("interruption_band", problem, fix))?;
    }
    Ok(all)
}
