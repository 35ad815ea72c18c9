//! What is wrong with a file, where, and how to mend it.

use std::fmt;

/// A fault of an input file. Told as `FILE:LINE: FIELD: what is wrong: the fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1; 0 where the file as a whole is at fault.
    pub line: u64,
    /// The column or the JSON member; empty where none is meant.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

impl FileError {
    /// A fault of a whole file.
    pub fn whole(file: &str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::at(file, 0, "", problem, fix)
    }

    /// A fault of one field.
    pub fn at(
        file: &str,
        line: u64,
        field: &str,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}: {}", self.problem, self.fix)
    }
}

impl std::error::Error for FileError {}
