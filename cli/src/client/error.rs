//! What a call to the cluster may end with.

use std::time::Duration;

use prost::Message;
use rebound_proto::v1::{Refusal, refusal::Kind};
use tonic::{Code, Status};

/// Why a call gave no answer. Each is final: what can be tried again was, until the time limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The request breaks a rule.
    #[error("{}", with_field(field, message))]
    Rejected {
        /// What the server says.
        message: String,
        /// The part of the request at fault; may be empty.
        field: String,
        /// After an append that left a gap: where the server wants the next photo; else 0.
        expected_offset: u64,
    },
    /// The same key or offset was used with other content.
    #[error("conflict: {message}")]
    Conflict {
        /// What the server says.
        message: String,
    },
    /// No such job, task or worker.
    #[error("not found: {message}")]
    NotFound {
        /// What the server says.
        message: String,
    },
    /// A limit of the environment was met.
    #[error("{}", with_field(field, message))]
    Quota {
        /// What the server says.
        message: String,
        /// What the limit is on.
        field: String,
        /// When there is room again, in µs since 1970; 0: not known.
        retry_at_us: u64,
    },
    /// The caller may not do this.
    #[error("denied: {message}")]
    Denied {
        /// What the server says.
        message: String,
    },
    /// The cluster has too much to do, and the time limit left no room for another try.
    #[error("the cluster is overloaded: {message}; try again in {retry_after:?}")]
    Overloaded {
        /// What the server says.
        message: String,
        /// When it wants to be asked again; zero if it did not say.
        retry_after: Duration,
    },
    /// Servers answered, and none of them leads.
    #[error("no server leads the cluster: {message}")]
    NoLeader {
        /// Who said so.
        message: String,
    },
    /// No server could be reached.
    #[error("no server could be reached: {message}")]
    Unreachable {
        /// What each address came to.
        message: String,
    },
    /// The request may or may not have been carried out, and asking again would not be safe, or did not help.
    #[error("the outcome is not known: {message}")]
    Unknown {
        /// What happened.
        message: String,
    },
    /// The time limit passed without an answer.
    #[error("no answer in time: {message}")]
    Timeout {
        /// Who was asked last.
        message: String,
    },
    /// The server failed, or gave an answer this program cannot read.
    #[error("the server failed: {message}")]
    Internal {
        /// What the server says.
        message: String,
    },
}

fn with_field(field: &str, message: &str) -> String {
    if field.is_empty() {
        message.to_string()
    } else {
        format!("{field}: {message}")
    }
}

/// What one try came to, before it is decided whether to try again.
#[derive(Debug)]
pub(super) enum Refused {
    /// Not the leader; its address, if known.
    NotLeader { leader: Option<String>, message: String },
    /// Come back later.
    Overloaded { retry_after: Duration, message: String },
    /// Carried out or not, nobody knows.
    Unknown { message: String },
    /// The server's own limit for the call passed.
    Timeout { message: String },
    /// Asking again gives the same answer.
    Final(ClientError),
}

/// Reads a status: first the typed refusal in its details, else its code alone.
pub(super) fn refused(status: &Status) -> Refused {
    let message = status.message().to_string();
    let refusal = if status.details().is_empty() {
        None
    } else {
        Refusal::decode(status.details()).ok()
    };
    match refusal.as_ref().map(Refusal::kind) {
        None | Some(Kind::Unspecified) => by_code(status.code(), message),
        Some(kind) => by_kind(kind, refusal.unwrap_or_default(), message),
    }
}

fn by_kind(kind: Kind, refusal: Refusal, status_message: String) -> Refused {
    let Refusal {
        message,
        field,
        leader,
        retry_after_us,
        expected_offset,
        retry_at_us,
        ..
    } = refusal;
    let message = if message.is_empty() {
        status_message
    } else {
        message
    };
    match kind {
        Kind::NotLeader => Refused::NotLeader {
            leader: (!leader.is_empty()).then_some(leader),
            message,
        },
        Kind::Rejected => Refused::Final(ClientError::Rejected {
            message,
            field,
            expected_offset,
        }),
        Kind::Conflict => Refused::Final(ClientError::Conflict { message }),
        Kind::NotFound => Refused::Final(ClientError::NotFound { message }),
        Kind::Quota => Refused::Final(ClientError::Quota {
            message,
            field,
            retry_at_us,
        }),
        Kind::Overloaded => Refused::Overloaded {
            retry_after: Duration::from_micros(retry_after_us),
            message,
        },
        Kind::Unknown => Refused::Unknown { message },
        Kind::Denied => Refused::Final(ClientError::Denied { message }),
        Kind::Timeout => Refused::Timeout { message },
        Kind::Unspecified => Refused::Final(ClientError::Internal { message }),
    }
}

fn by_code(code: Code, message: String) -> Refused {
    let rejected = |message| ClientError::Rejected {
        message,
        field: String::new(),
        expected_offset: 0,
    };
    match code {
        Code::FailedPrecondition => Refused::NotLeader {
            leader: None,
            message,
        },
        Code::InvalidArgument | Code::OutOfRange => Refused::Final(rejected(message)),
        Code::Aborted | Code::AlreadyExists => Refused::Final(ClientError::Conflict { message }),
        Code::NotFound => Refused::Final(ClientError::NotFound { message }),
        Code::ResourceExhausted => Refused::Overloaded {
            retry_after: Duration::ZERO,
            message,
        },
        Code::PermissionDenied | Code::Unauthenticated => Refused::Final(ClientError::Denied { message }),
        Code::DeadlineExceeded => Refused::Timeout { message },
        // The connection broke, or the server stopped, with the request on its way.
        Code::Unavailable | Code::Cancelled | Code::Unknown => Refused::Unknown { message },
        Code::Unimplemented => Refused::Final(ClientError::Internal {
            message: format!("{message} (the server is of another version, or not a Rebound server)"),
        }),
        Code::Ok | Code::Internal | Code::DataLoss => Refused::Final(ClientError::Internal {
            message: format!("{code:?}: {message}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, refusal: Refusal) -> Status {
        Status::with_details(code, "status", refusal.encode_to_vec().into())
    }

    #[test]
    fn the_typed_refusal_wins_over_the_code() {
        let refusal = Refusal {
            kind: Kind::NotLeader as i32,
            message: "ask 3".into(),
            leader: "127.0.0.1:7403".into(),
            ..Default::default()
        };
        let Refused::NotLeader { leader, message } = refused(&status(Code::Unavailable, refusal)) else {
            panic!("a NotLeader is read as one");
        };
        assert_eq!(
            (leader.as_deref(), message.as_str()),
            (Some("127.0.0.1:7403"), "ask 3")
        );
    }

    #[test]
    fn a_gap_says_where_to_go_on() {
        let refusal = Refusal {
            kind: Kind::Rejected as i32,
            message: "a gap".into(),
            field: "offset".into(),
            expected_offset: 12,
            ..Default::default()
        };
        let Refused::Final(error) = refused(&status(Code::InvalidArgument, refusal)) else {
            panic!("a rejection is final");
        };
        let wanted = ClientError::Rejected {
            message: "a gap".into(),
            field: "offset".into(),
            expected_offset: 12,
        };
        assert_eq!(error, wanted);
        assert_eq!(error.to_string(), "offset: a gap");
    }

    #[test]
    fn a_status_without_detail_goes_by_its_code() {
        let answer = refused(&Status::resource_exhausted("busy"));
        assert!(
            matches!(
                answer,
                Refused::Overloaded {
                    retry_after: Duration::ZERO,
                    ..
                }
            ),
            "{answer:?}"
        );
        let answer = refused(&Status::unavailable("broken"));
        assert!(matches!(answer, Refused::Unknown { .. }), "{answer:?}");
        let answer = refused(&Status::with_details(
            Code::NotFound,
            "gone",
            vec![0xff_u8].into(),
        ));
        assert!(
            matches!(answer, Refused::Final(ClientError::NotFound { .. })),
            "{answer:?}"
        );
    }
}
