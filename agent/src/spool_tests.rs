use std::fs;

use super::*;

fn one(task: u64, size: usize) -> Spooled {
    let attempt = Attempt {
        task: key(task),
        cause: v1::Cause::Unspecified,
        output: Bytes::from(vec![task as u8; size]),
        started_us: task,
        ended_us: task,
    };
    Spooled {
        cluster: "blue".into(),
        attempt,
    }
}

fn key(task: u64) -> TaskKey {
    let (job, given) = (1, 9);
    TaskKey { job, given, task }
}

fn range(first: u64, last: u64) -> TaskRange {
    TaskRange {
        job: 1,
        given: 9,
        first,
        last,
    }
}

fn add(spool: &mut Spool, spooled: Spooled) {
    spool.add(spooled);
    spool.flush().unwrap();
}

fn tasks(results: &[Spooled]) -> Vec<u64> {
    results.iter().map(|one| one.attempt.task.task).collect()
}

#[test]
fn what_is_not_removed_is_there_after_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, results) = Spool::open(dir.path()).unwrap();
    assert!(results.is_empty());
    for task in [5, 3, 8, 1] {
        add(&mut spool, one(task, MAX_RESULT_BYTES));
    }
    spool.remove(&[range(2, 4), range(77, 99)]).unwrap();
    drop(spool);
    let (_, results) = Spool::open(dir.path()).unwrap();
    assert_eq!(tasks(&results), [5, 8, 1]);
    assert_eq!(results[1], one(8, MAX_RESULT_BYTES));
}

#[test]
fn a_file_cut_at_any_byte_gives_the_records_before_it_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SPOOL_FILE);
    let (mut spool, _) = Spool::open(dir.path()).unwrap();
    let mut ends = vec![spool.end];
    for task in 0..3 {
        add(&mut spool, one(task, 20));
        ends.push(spool.end);
    }
    spool.remove(&[range(0, 0)]).unwrap();
    ends.push(spool.end);
    drop(spool);
    let whole = fs::read(&path).unwrap();
    let expected: [&[u64]; 5] = [&[], &[0], &[0, 1], &[0, 1, 2], &[1, 2]];
    for len in 0..=whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let records = ends.iter().filter(|end| **end <= len as u64).count();
        let (mut spool, results) = Spool::open(dir.path()).unwrap();
        assert_eq!(tasks(&results), expected[records.max(1) - 1], "cut at {len}");
        add(&mut spool, one(9, 5));
        drop(spool);
        let (_, again) = Spool::open(dir.path()).unwrap();
        assert_eq!(again.len(), results.len() + 1, "cut at {len}");
    }
}

#[test]
fn a_changed_byte_ends_what_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SPOOL_FILE);
    let (mut spool, _) = Spool::open(dir.path()).unwrap();
    add(&mut spool, one(0, 20));
    let first = spool.end;
    add(&mut spool, one(1, 20));
    drop(spool);
    let whole = fs::read(&path).unwrap();
    for at in first as usize..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&path, changed).unwrap();
        let (_, results) = Spool::open(dir.path()).unwrap();
        assert_eq!(tasks(&results), [0], "byte {at}");
    }
}

#[test]
fn the_file_stays_small_whatever_passes_through() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(dir.path()).unwrap();
    let mut alive = BTreeMap::new();
    for task in 0..20_000 {
        alive.insert(task, one(task, 1000));
        spool.add(one(task, 1000));
        if task % 5 == 0 {
            spool.flush().unwrap();
        }
        if task >= 10 && task % 5 == 0 {
            spool.remove(&[range(task - 10, task - 6)]).unwrap();
            (task - 10..task - 5).for_each(|task| drop(alive.remove(&task)));
            spool.compact(alive.len() * 1256, alive.values()).unwrap();
        }
        assert!(spool.end < COMPACT_ABOVE_BYTES + 10_000);
    }
    spool.flush().unwrap();
    drop(spool);
    let (mut spool, results) = Spool::open(dir.path()).unwrap();
    assert_eq!(results, alive.into_values().collect::<Vec<_>>());
    spool.remove(&[range(0, u64::MAX)]).unwrap();
    drop(spool);
    assert!(Spool::open(dir.path()).unwrap().1.is_empty());
}

#[test]
fn what_comes_together_is_one_write_and_results_of_other_clusters_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(dir.path()).unwrap();
    let empty = spool.end;
    let green = Spooled {
        cluster: "green".into(),
        ..one(7, 3)
    };
    let all = [one(5, 3), one(6, 3), green, one(8, MAX_RESULT_BYTES)];
    all.iter().for_each(|one| spool.add(one.clone()));
    assert_eq!(spool.end, empty, "nothing is written before the flush");
    spool.flush().unwrap();
    drop(spool);
    let (_, results) = Spool::open(dir.path()).unwrap();
    assert_eq!(results, all);
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SPOOL_FILE);
    fs::write(&path, b"RBSPOOL2 and more").unwrap();
    let error = Spool::open(dir.path()).err().unwrap();
    assert!(matches!(error, SpoolError::Format { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"RBSPOOL2 and more");
}
