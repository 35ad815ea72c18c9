//! What goes to stdout: tables for people, JSON for programs.

use std::io::{self, BufWriter, Write};

use clap::ValueEnum;
use rebound_core::types::{MicroUsd, Time};
use serde::Serialize;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people
    Table,
    /// Exactly one JSON value
    Json,
    /// One JSON value a line
    Jsonl,
}

/// The format, where the command line as a whole could not be read.
pub fn asked(args: impl Iterator<Item = String>) -> Format {
    let all: Vec<String> = args.collect();
    let words = all.iter().map(String::as_str);
    let value = words
        .clone()
        .zip(words.skip(1))
        .find_map(|(name, value)| (name == "-o" || name == "--output").then_some(value));
    let joined = || {
        all.iter()
            .find_map(|word| word.strip_prefix("--output=").or(word.strip_prefix("-o")))
    };
    let env = std::env::var("REBOUND_OUTPUT").unwrap_or_default();
    let text = value.or_else(joined).unwrap_or(&env);
    Format::from_str(text, true).unwrap_or(Format::Table)
}

/// Stdout in the chosen format, and notes for people on stderr.
pub struct Out {
    format: Format,
    stdout: BufWriter<io::Stdout>,
}

impl Out {
    /// In `format`.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            stdout: BufWriter::new(io::stdout()),
        }
    }

    /// Many values: one JSON array, a line each, or a table with one row each.
    ///
    /// # Errors
    ///
    /// Where they cannot be written.
    pub fn many<T: Serialize>(
        &mut self,
        values: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&values),
            Format::Jsonl => values.iter().try_for_each(|value| self.json(value)),
            Format::Table => self.table(head, values.iter().map(row).collect()),
        }
    }

    /// One value, when it happens: a line of JSON or of text.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn event<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        match self.format {
            Format::Table => writeln!(self.stdout, "{}", text(value))?,
            _ => self.json(value)?,
        }
        self.stdout.flush()
    }

    /// Whether answers are for people.
    pub fn for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// A sentence for people, on stderr.
    pub fn note(&mut self, text: &str) {
        // What failed to be written is told when the program ends; a note that nobody reads ends nothing.
        let _ = self.stdout.flush();
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(self.stdout, "{text}")
    }

    fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut widths: Vec<usize> = head.iter().map(|name| name.len()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        for row in std::iter::once(head).chain(rows) {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                let numeric = index > 0 && cell.starts_with(|c: char| c.is_ascii_digit());
                // Numbers stand below each other by their last digit; the first column is names.
                if numeric {
                    line.extend([&pad, cell.as_str(), "  "]);
                } else {
                    line.extend([cell.as_str(), &pad, "  "]);
                }
            }
            writeln!(self.stdout, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Hands everything to the reader.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Dollars for JSON. Programs that add up take the millionths.
pub fn dollars(amount: MicroUsd) -> f64 {
    amount.0 as f64 / 1e6
}

/// A time as RFC 3339.
pub fn time(at: Time) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| "-".to_owned(), |stamp| stamp.to_string())
}

/// A number of thousandths with `digits` decimals, at most three.
pub fn milli(value: u64, digits: usize) -> String {
    format!("{:.digits$}", value as f64 / 1_000.0)
}
