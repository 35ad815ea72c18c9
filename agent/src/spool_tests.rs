use std::fs;

use super::*;

fn one(task: u64, size: usize) -> Spooled {
    let output = Bytes::from(vec![task as u8; size]);
    let result = v1::AttemptResult {
        job: 1,
        task,
        given: 9,
        output,
        ended_us: task,
        ..Default::default()
    };
    Spooled {
        cluster: "blue".to_string(),
        result,
    }
}

fn key(task: u64) -> TaskKey {
    TaskKey {
        job: 1,
        task,
        given: 9,
    }
}

fn tasks(results: &[Spooled]) -> Vec<u64> {
    results.iter().map(|one| one.result.task).collect()
}

#[test]
fn what_is_not_removed_is_there_after_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, results) = Spool::open(dir.path()).unwrap();
    assert!(results.is_empty());
    for task in [5, 3, 8, 1] {
        spool.add(&one(task, MAX_RESULT_BYTES)).unwrap();
    }
    spool.remove(&[key(3), key(77)]).unwrap();
    drop(spool);
    let (spool, results) = Spool::open(dir.path()).unwrap();
    assert_eq!(tasks(&results), [5, 8, 1]);
    assert_eq!(results[1], one(8, MAX_RESULT_BYTES));
    assert_eq!(spool.len(), 3);
}

#[test]
fn a_file_cut_at_any_byte_gives_the_records_before_it_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SPOOL_FILE);
    let (mut spool, _) = Spool::open(dir.path()).unwrap();
    let mut ends = vec![spool.end];
    for task in 0..3 {
        spool.add(&one(task, 20)).unwrap();
        ends.push(spool.end);
    }
    spool.remove(&[key(0)]).unwrap();
    ends.push(spool.end);
    drop(spool);
    let whole = fs::read(&path).unwrap();
    let expected: [&[u64]; 5] = [&[], &[0], &[0, 1], &[0, 1, 2], &[1, 2]];
    for len in 0..=whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let records = ends.iter().filter(|end| **end <= len as u64).count();
        let (mut spool, results) = Spool::open(dir.path()).unwrap();
        assert_eq!(tasks(&results), expected[records.max(1) - 1], "cut at {len}");
        spool.add(&one(9, 5)).unwrap();
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
    spool.add(&one(0, 20)).unwrap();
    let first = spool.end;
    spool.add(&one(1, 20)).unwrap();
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
    for task in 0..2000 {
        spool.add(&one(task, 1000)).unwrap();
        if task >= 10 && task % 5 == 0 {
            let oldest: Vec<TaskKey> = (task - 10..task - 5).map(key).collect();
            spool.remove(&oldest).unwrap();
        }
        assert!(spool.end < 2 * COMPACT_ABOVE_BYTES);
    }
    let alive = spool.len();
    drop(spool);
    let (mut spool, results) = Spool::open(dir.path()).unwrap();
    assert_eq!(results.len(), alive);
    assert_eq!(results.last(), Some(&one(1999, 1000)));
    let keys: Vec<TaskKey> = results.iter().map(|one| TaskKey::of(&one.result)).collect();
    spool.remove(&keys).unwrap();
    assert!(spool.is_empty());
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
