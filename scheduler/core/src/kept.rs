//! Records that are only on disk: written once by `apply`, never read by it. The photos of an append are one as they
//! are, under [`crate::key::photos_key`]: see [`crate::photos`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::Cause;
use crate::key::{Kept, kept_prefix, kept_task};
use crate::rows::Rows;
use crate::table::decode;
use crate::types::{EnvId, Given, JobId, Time, WorkerId};

/// The outcomes of consecutive tasks that were recorded together, under [`crate::key::result_key`] of the first. No
/// two records share a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsRecord {
    /// The attempts.
    pub given: Given,
    /// Who made them.
    pub worker: WorkerId,
    /// None: they succeeded.
    pub cause: Option<Cause>,
    /// By the cluster's clock.
    pub recorded: Time,
    /// What each of them gave, in order.
    pub rows: Rows,
}

impl ResultsRecord {
    /// The outcomes, in order, with their own hold on the bytes.
    pub fn iter(&self) -> impl Iterator<Item = ResultRecord> {
        self.rows.iter().map(|row| ResultRecord {
            given: self.given,
            worker: self.worker,
            cause: self.cause,
            output: self.rows.hold(row.output),
            started: row.started,
            ended: row.ended,
            recorded: self.recorded,
        })
    }
}

/// The one outcome of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The outcome of a task, from the last kept record whose key is not after [`crate::key::result_key`] of the task; `None` when it
/// has none.
pub fn result_of(
    key: &[u8],
    value: &[u8],
    env: EnvId,
    job: JobId,
    task: u64,
) -> Result<Option<ResultRecord>, &'static str> {
    let first = kept_task(key).filter(|_| key.starts_with(&kept_prefix(Kept::Results, env, job)));
    let Some(at) = first.and_then(|first| task.checked_sub(first)) else {
        return Ok(None);
    };
    let record: ResultsRecord = decode(value)?;
    Ok(usize::try_from(at).ok().and_then(|at| record.iter().nth(at)))
}
