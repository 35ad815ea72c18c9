//! Records that are only on disk: written once by `apply`, never read by it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::Cause;
use crate::types::{Given, Time, WorkerId};

/// The photos of one append, under [`crate::key::photos_key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhotoList {
    /// In order, from the append's offset on.
    pub uris: Vec<String>,
}

/// The one outcome of a task, under [`crate::key::result_key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The attempt.
    pub given: Given,
    /// Who made it.
    pub worker: WorkerId,
    /// None: it succeeded.
    pub cause: Option<Cause>,
    /// What the recogniser answered, or why it failed.
    pub output: Bytes,
    /// By the worker's clock.
    pub started: Time,
    /// By the worker's clock.
    pub ended: Time,
    /// By the cluster's clock.
    pub recorded: Time,
}

/// An attempt that gave no result, under [`crate::key::attempt_key`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The attempt.
    pub given: Given,
    /// Who made it.
    pub worker: WorkerId,
    /// Why it gave none.
    pub cause: Cause,
    /// In words; empty when the worker said nothing.
    pub message: Bytes,
    /// By the cluster's clock.
    pub at: Time,
}
