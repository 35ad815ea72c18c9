//! How a task gets its result.

use bytes::Bytes;
use rebound_proto::v1;

use super::limits::{MAX_MESSAGE_BYTES, MAX_RESULT_BYTES};
use super::work::State;
use super::{Action, Attempt, Failure, Machine, Now, Spooled, TaskKey};

impl Machine {
    /// A fetch ended.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        key: TaskKey,
        outcome: Result<(), Failure>,
        out: &mut Vec<Action>,
    ) {
        self.paces.fetched(key, now.mono_us, outcome.is_ok());
        if self.work.state(key) != Some(State::Fetching) {
            return;
        }
        match outcome {
            Ok(()) => self.work.set(key, State::Ready),
            Err(failure) => self.settle(now, key, now.wall_us, Err(failure), out),
        }
    }

    /// An execution ended.
    pub(super) fn finished(
        &mut self,
        now: Now,
        key: TaskKey,
        outcome: Result<Bytes, Failure>,
        out: &mut Vec<Action>,
    ) {
        let Some(held) = self.work.slots.release(key) else {
            return;
        };
        if !held.stopping {
            self.paces
                .served(held.spec, now.mono_us.saturating_sub(held.started_us));
            self.settle(now, key, held.started_wall_us, outcome, out);
        }
    }

    /// The task has its result: it is spooled, and never done again.
    pub(super) fn settle(
        &mut self,
        now: Now,
        key: TaskKey,
        started_us: u64,
        outcome: Result<Bytes, Failure>,
        out: &mut Vec<Action>,
    ) {
        let cluster = self
            .session
            .as_ref()
            .map_or_else(|| "".into(), |session| session.cluster.clone());
        let (cause, output) = match outcome {
            Ok(output) if output.len() <= MAX_RESULT_BYTES => (v1::Cause::Unspecified, output),
            Ok(output) => {
                let message = format!(
                    "a result of {} bytes; at most {MAX_RESULT_BYTES} may be",
                    output.len()
                );
                (v1::Cause::ResultTooLarge, message.into())
            }
            Err(failure) => (failed(failure.cause), cut(failure.message).into()),
        };
        let attempt = Attempt {
            task: key,
            cause,
            output,
            started_us,
            ended_us: now.wall_us.max(started_us),
        };
        let spooled = Spooled { cluster, attempt };
        self.work.set(key, State::Over);
        out.push(Action::Spool(spooled.clone()));
        self.outbox.push(spooled);
    }
}

/// A failure must not read as success.
fn failed(cause: v1::Cause) -> v1::Cause {
    if cause == v1::Cause::Unspecified {
        v1::Cause::Recogniser
    } else {
        cause
    }
}

/// At most [`MAX_MESSAGE_BYTES`] of a message, not cutting a character.
pub(super) fn cut(mut message: String) -> String {
    let mut end = message.len().min(MAX_MESSAGE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}
