//! What goes to stdout, in three formats: a table for people, one JSON value, or one JSON value a line.

mod clean;
mod table;
mod time;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

pub use clean::clean;
pub use table::{Align, Table};
pub use time::{duration, parse_duration, time, time_opt};

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

impl Format {
    /// The format's name, as options and settings files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Stdout in the chosen format, and notes for people on stderr.
pub struct Out {
    /// The chosen format.
    pub format: Format,
    /// Whether stdout shows colours.
    pub color: bool,
    /// No notes, and only the essential on stdout.
    pub quiet: bool,
    stdout: io::BufWriter<io::Stdout>,
}

impl Out {
    /// Colours need a terminal and a user who did not refuse them.
    pub fn new(format: Format, color_allowed: bool, quiet: bool) -> Self {
        let color = color_allowed && io::stdout().is_terminal();
        Self {
            format,
            color,
            quiet,
            stdout: io::BufWriter::new(io::stdout()),
        }
    }

    /// One JSON value on one line.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(self.stdout, "{text}")
    }

    /// One value: JSON in both JSON formats, else what `table` writes.
    pub fn one<T: Serialize>(
        &mut self,
        value: &T,
        table: impl FnOnce(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => table(self, value),
            Format::Json | Format::Jsonl => self.json(value),
        }
    }

    /// Many values: one JSON array, a line each, or a table.
    pub fn many<T: Serialize>(
        &mut self,
        values: &[T],
        table: impl FnOnce(&mut Self, &[T]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => table(self, values),
            Format::Json => self.json(&values),
            Format::Jsonl => values.iter().try_for_each(|value| self.json(value)),
        }
    }

    /// A line for people on stdout. What others wrote must have been through [`clean`].
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }

    /// A table for people on stdout, or what it has more since the last time.
    pub fn table(&mut self, table: &mut Table) -> io::Result<()> {
        let text = table.render(self.color);
        self.stdout.write_all(text.as_bytes())
    }

    /// A note for people on stderr: hints, warnings. What is on its way to stdout goes first.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            // What failed to be written is still there, and is told when the command ends.
            let _ = self.flush();
            // A note that nobody reads must not end the command.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Hands everything to the reader.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// `1 photo`, `2 photos`: a number of things with a regular plural.
pub fn counted(n: u64, thing: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{plural}")
}

/// The format that a command line asks for, read loosely: for errors about that very command line.
pub fn asked(args: &[String], env: &str) -> Format {
    let mut asked = Format::from_str(env, false).unwrap_or(Format::Table);
    for (i, arg) in args.iter().enumerate() {
        let value = match arg.as_str() {
            "-o" | "--output" => args.get(i + 1).map(String::as_str),
            arg => arg
                .strip_prefix("--output=")
                .or_else(|| arg.strip_prefix("-o="))
                .or_else(|| arg.strip_prefix("-o")),
        };
        if let Some(format) = value.and_then(|value| Format::from_str(value, false).ok()) {
            asked = format;
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_in_a_command_line_with_mistakes() {
        let table = [
            (&["job", "-o", "json", "--what"][..], "", Format::Json),
            (&["-ojsonl", "job"], "table", Format::Jsonl),
            (&["--output=json"], "", Format::Json),
            (&["--output", "yaml"], "", Format::Table),
            (&["-o"], "jsonl", Format::Jsonl),
        ];
        for (args, env, format) in table {
            let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
            assert_eq!(asked(&args, env), format, "{args:?}");
        }
    }
}
