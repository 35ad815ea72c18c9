//! Results as they travel and as the spool keeps them: consecutive tasks together, in columns.

use bytes::{Bytes, BytesMut};
use rebound_proto::v1;

use super::{Attempt, TaskKey};

/// Puts attempts together, those of consecutive tasks with one fence in one run. They are sorted for it.
pub(crate) fn together(mut attempts: Vec<&Attempt>) -> Vec<v1::ResultRun> {
    attempts.sort_unstable_by_key(|one| one.task);
    let consecutive = |a: &&Attempt, b: &&Attempt| a.task.precedes(b.task);
    attempts.chunk_by(consecutive).map(run).collect()
}

fn run(attempts: &[&Attempt]) -> v1::ResultRun {
    let count = attempts.len();
    let TaskKey { job, given, task } = attempts[0].task;
    let bytes = attempts.iter().map(|one| one.output.len()).sum();
    let mut outputs = BytesMut::with_capacity(bytes);
    let mut columns = v1::ResultRun {
        job,
        first: task,
        given,
        count: count as u32,
        output_bytes: Vec::with_capacity(count),
        started_us: Vec::with_capacity(count),
        took_us: Vec::with_capacity(count),
        ..v1::ResultRun::default()
    };
    let mut before = 0u64;
    for one in attempts {
        outputs.extend_from_slice(&one.output);
        columns.output_bytes.push(one.output.len() as u32);
        // Differences wrap, and so does their sum: any two times are told exactly.
        columns
            .started_us
            .push(one.started_us.wrapping_sub(before) as i64);
        columns.took_us.push(one.ended_us.saturating_sub(one.started_us));
        before = one.started_us;
    }
    if attempts.iter().any(|one| one.cause != v1::Cause::Unspecified) {
        columns.causes = attempts.iter().map(|one| one.cause.into()).collect();
    }
    columns.outputs = match attempts {
        [one] => one.output.clone(),
        _ => outputs.freeze(),
    };
    columns
}

/// The attempts of a run, or `None` if its columns do not fit together.
pub(crate) fn apart(run: v1::ResultRun) -> Option<Vec<Attempt>> {
    let count = run.count as usize;
    let fits = [run.output_bytes.len(), run.started_us.len(), run.took_us.len()] == [count; 3]
        && (run.causes.is_empty() || run.causes.len() == count)
        && run.first.checked_add(run.count.into()).is_some();
    if !fits {
        return None;
    }
    let mut attempts = Vec::with_capacity(count);
    let (mut outputs, mut started_us) = (run.outputs, 0u64);
    for at in 0..count {
        let length = run.output_bytes[at] as usize;
        if length > outputs.len() {
            return None;
        }
        let output: Bytes = outputs.split_to(length);
        started_us = started_us.wrapping_add(run.started_us[at] as u64);
        let cause = run.causes.get(at).copied().unwrap_or_default();
        attempts.push(Attempt {
            task: TaskKey {
                job: run.job,
                given: run.given,
                task: run.first + at as u64,
            },
            cause: v1::Cause::try_from(cause).unwrap_or(v1::Cause::Recogniser),
            output,
            started_us,
            ended_us: started_us.saturating_add(run.took_us[at]),
        });
    }
    outputs.is_empty().then_some(attempts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt() -> impl Strategy<Value = Attempt> {
        let key = (0..2u64, 0..2u64, 0..9u64);
        let times = (any::<u64>(), 0..9u64);
        (key, 0..4i32, 0..5usize, times).prop_map(|((job, given, task), cause, size, (started_us, took))| {
            Attempt {
                task: TaskKey { job, given, task },
                cause: v1::Cause::try_from(cause).unwrap(),
                output: vec![task as u8; size].into(),
                started_us,
                ended_us: started_us.saturating_add(took),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_put_together_comes_apart_again(attempts in prop::collection::vec(attempt(), 0..20)) {
            let mut attempts = attempts;
            attempts.sort_by_key(|one| one.task);
            attempts.dedup_by_key(|one| one.task);
            let runs = together(attempts.iter().collect());
            let again: Vec<Attempt> = runs.into_iter().flat_map(|run| apart(run).unwrap()).collect();
            prop_assert_eq!(again, attempts);
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let good = v1::ResultRun {
            first: 3,
            count: 2,
            outputs: Bytes::from_static(b"abc"),
            output_bytes: vec![1, 2],
            started_us: vec![5, 1],
            took_us: vec![1, 1],
            ..v1::ResultRun::default()
        };
        assert_eq!(apart(good.clone()).unwrap().len(), 2);
        let change = |change: fn(&mut v1::ResultRun)| {
            let mut run = good.clone();
            change(&mut run);
            run
        };
        for bad in [
            change(|run| run.count = 3),
            change(|run| run.output_bytes = vec![1, 1]),
            change(|run| run.output_bytes = vec![1, 3]),
            change(|run| run.causes = vec![0]),
            change(|run| run.first = u64::MAX),
            change(|run| run.took_us.clear()),
        ] {
            assert!(apart(bad.clone()).is_none(), "{bad:?}");
        }
    }
}
