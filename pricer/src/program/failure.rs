//! How the program ends: the exit codes of `rebound`, and its way of telling errors.

use std::io::{self, Write};
use std::process::ExitCode;

use rebound_pricer::error::FileError;
use rebound_pricer::money::shown;
use serde::Serialize;

use super::output::Format;

/// Failed for a reason without a code of its own.
pub const FAILED: u8 = 1;
/// The command line or a file breaks a rule; the same again ends the same way.
pub const USAGE: u8 = 2;
/// No such pool.
pub const NOT_FOUND: u8 = 4;

/// Why the program did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    kind: &'static str,
    message: String,
    field: Option<String>,
}

impl Failure {
    /// A mistake of the caller.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "usage", message)
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, "not_found", message)
    }

    /// Any failure without a code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, "failed", message)
    }

    fn new(exit: u8, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind,
            // Words of files are in it, and a terminal obeys what it is sent.
            message: message
                .into()
                .chars()
                .filter(|c| *c == '\n' || !c.is_control())
                .collect(),
            field: None,
        }
    }

    /// Says it, on stderr for people and as one value on stdout for programs, and gives the code to end with. A reader
    /// that went away is not told.
    pub fn end(self, format: Format) -> ExitCode {
        if self.exit == 0 {
            return ExitCode::SUCCESS;
        }
        eprintln!("rebound-pricer: {}", self.message);
        if format != Format::Table {
            let body = Body {
                error: Detail {
                    code: self.exit,
                    kind: self.kind,
                    message: &self.message,
                    field: self.field.as_deref(),
                },
            };
            if let Ok(text) = serde_json::to_string(&body) {
                // Nobody is left to tell when stdout is gone too.
                let _ = writeln!(io::stdout(), "{text}");
            }
        }
        ExitCode::from(self.exit)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: u8,
    kind: &'static str,
    message: &'a str,
    field: Option<&'a str>,
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let field = (!error.field.is_empty()).then(|| shown(&error.field));
        Self {
            field,
            ..Self::new(USAGE, "file", error.to_string())
        }
    }
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout. A closed pipe (`| head`) is how a reader says that it has enough.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(0, "broken_pipe", "");
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}
