//! Job specifications, in YAML or JSON, and the photos they name.
//!
//! A file is read once into a tree of values that know their line and column ([`node`]); the fields are taken
//! from the tree one by one ([`job`]), so that every complaint names the place, the field and the fix.

mod job;
mod node;
mod photos;
mod read;
mod value;

use std::fmt;

pub use job::{JobFile, key_text, parse, recogniser, region};
pub use photos::{Gather, Photos, file_uri, is_photo, looks_like_glob};
pub use read::{STDIN, read_file, read_stdin};
pub use value::{deadline, job_name};

/// A mistake in a specification, a list of photos or the photos themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The file, as the user named it; empty for an option.
    pub file: String,
    /// Line and column, both from 1; 0 where there is none.
    pub line: u64,
    /// See `line`.
    pub column: u64,
    /// The field, such as `resources.cpu` or `photos[3]`; empty for the file as a whole.
    pub field: String,
    /// What is wrong, and how to mend it.
    pub message: String,
}

impl SpecError {
    /// About a file as a whole.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match (self.line, self.column) {
            (0, _) => parts.extend((!self.file.is_empty()).then(|| self.file.clone())),
            (line, 0) => parts.push(format!("{}:{line}", self.file)),
            (line, column) => parts.push(format!("{}:{line}:{column}", self.file)),
        }
        parts.extend((!self.field.is_empty()).then(|| self.field.clone()));
        parts.push(self.message.clone());
        f.write_str(&parts.join(": "))
    }
}

impl std::error::Error for SpecError {}

/// What is wrong with one value, before it is known where that value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(pub String);

impl<T: Into<String>> From<T> for Mistake {
    fn from(message: T) -> Self {
        Self(message.into())
    }
}
