//! How a command ends: the exit codes scripts may rely on, and the one place that maps errors to them.

use std::io;

use serde::Serialize;

use crate::client::ClientError;
use crate::output::Format;
use crate::spec::SpecError;

/// The process' exit codes. They never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Ok = 0,
    /// Failed for a reason without a code of its own.
    Failed = 1,
    /// The command line, a specification or a request breaks a rule; the same again ends the same way.
    Usage = 2,
    /// Accepted, but no worker that could run it is there now.
    NotPlaceable = 3,
    /// No such job, task or worker.
    NotFound = 4,
    /// The caller may not do this.
    Denied = 5,
    /// The same key or offset was used with other content.
    Conflict = 6,
    /// No server could be reached, or none leads.
    NoLeader = 7,
    /// The cluster has too much to do now.
    Overloaded = 8,
    /// The job ended, and at least one of its tasks failed.
    TasksFailed = 9,
    /// A server that was removed from its cluster, lost its disk, runs twice or has another state than the others: it must
    /// not be started again.
    Dismissed = 10,
    /// A build that does not know the version at which its cluster runs, or a backup was made: start another one.
    OtherVersion = 11,
    /// The time limit passed.
    Timeout = 124,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    /// The code the process ends with.
    pub exit: Exit,
    /// A word for programs, such as `not_found`.
    pub kind: &'static str,
    /// A sentence for people: what is wrong and how to mend it.
    pub message: String,
    /// The option or the field of a specification that is at fault.
    pub field: Option<String>,
}

impl Failure {
    /// A mistake of the caller: exit 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            kind: "usage",
            message: message.into(),
            field: None,
        }
    }

    /// Any failure without a code of its own: exit 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            kind: "failed",
            message: message.into(),
            field: None,
        }
    }

    /// Something that is not there: exit 4.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::NotFound,
            kind: "not_found",
            message: message.into(),
            field: None,
        }
    }

    /// A time limit of this program that passed: exit 124.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Timeout,
            kind: "timeout",
            message: message.into(),
            field: None,
        }
    }

    /// The same failure, blamed on an option or field.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says it: text for people on stderr, and with `json` or `jsonl` one value on stdout.
    /// A reader that went away is not told.
    pub fn report(&self, format: Format) {
        if self.kind == BROKEN_PIPE {
            return;
        }
        eprintln!("rebound: {}", crate::output::clean(&self.message));
        if format != Format::Table {
            let body = ErrorBody {
                error: ErrorDetail {
                    code: self.exit as u8,
                    kind: self.kind,
                    message: &self.message,
                    field: self.field.as_deref(),
                },
            };
            if let Ok(text) = serde_json::to_string(&body) {
                use io::Write;
                // Nobody is left to tell when stdout is gone too.
                let _ = writeln!(io::stdout(), "{text}");
            }
        }
    }
}

const BROKEN_PIPE: &str = "broken_pipe";

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: u8,
    kind: &'static str,
    message: &'a str,
    field: Option<&'a str>,
}

impl From<io::Error> for Failure {
    /// An error of writing to stdout. A closed pipe (`| head`) is how a reader says that it has enough.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                exit: Exit::Ok,
                kind: BROKEN_PIPE,
                message: String::new(),
                field: None,
            };
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        let field = (!error.field.is_empty()).then(|| error.field.clone());
        Self {
            exit: Exit::Usage,
            kind: "specification",
            message: error.to_string(),
            field,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, kind) = match &error {
            ClientError::Rejected { .. } => (Exit::Usage, "rejected"),
            ClientError::NotFound { .. } => (Exit::NotFound, "not_found"),
            ClientError::Denied { .. } => (Exit::Denied, "denied"),
            ClientError::Conflict { .. } => (Exit::Conflict, "conflict"),
            ClientError::NoLeader { .. } => (Exit::NoLeader, "no_leader"),
            ClientError::Unreachable { .. } => (Exit::NoLeader, "unreachable"),
            ClientError::Unknown { .. } => (Exit::NoLeader, "unknown_outcome"),
            ClientError::Overloaded { .. } => (Exit::Overloaded, "overloaded"),
            ClientError::Quota { .. } => (Exit::Overloaded, "quota"),
            ClientError::Timeout { .. } => (Exit::Timeout, "timeout"),
            ClientError::Internal { .. } => (Exit::Failed, "internal"),
        };
        let field = match &error {
            ClientError::Rejected { field, .. } | ClientError::Quota { field, .. } if !field.is_empty() => {
                Some(field.clone())
            }
            _ => None,
        };
        Self {
            exit,
            kind,
            message: error.to_string(),
            field,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_client_error_has_its_code() {
        let m = || "m".to_string();
        let table = [
            (
                ClientError::Rejected {
                    message: m(),
                    field: "spec.name".into(),
                    expected_offset: 0,
                },
                2,
                "rejected",
            ),
            (ClientError::NotFound { message: m() }, 4, "not_found"),
            (ClientError::Denied { message: m() }, 5, "denied"),
            (ClientError::Conflict { message: m() }, 6, "conflict"),
            (ClientError::NoLeader { message: m() }, 7, "no_leader"),
            (ClientError::Unreachable { message: m() }, 7, "unreachable"),
            (ClientError::Unknown { message: m() }, 7, "unknown_outcome"),
            (
                ClientError::Overloaded {
                    message: m(),
                    retry_after: Duration::from_secs(1),
                },
                8,
                "overloaded",
            ),
            (
                ClientError::Quota {
                    message: m(),
                    field: "idempotency_key".into(),
                    retry_at_us: 1,
                },
                8,
                "quota",
            ),
            (ClientError::Timeout { message: m() }, 124, "timeout"),
            (ClientError::Internal { message: m() }, 1, "internal"),
        ];
        for (error, code, kind) in table {
            let failure = Failure::from(error);
            assert_eq!((failure.exit as u8, failure.kind), (code, kind));
        }
    }

    #[test]
    fn a_rejection_names_its_field() {
        let error = ClientError::Rejected {
            message: "no".into(),
            field: "priority".into(),
            expected_offset: 0,
        };
        assert_eq!(Failure::from(error).field.as_deref(), Some("priority"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Ok);
    }
}
