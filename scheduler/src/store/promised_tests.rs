//! Damage to what was synced, and to what was not.

use super::tests::{config, identity, open, raft_entry};
use super::*;

/// Orders written one by one.
const ORDERS: u64 = 40;

/// A directory with [`ORDERS`] synced orders, closed.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    Store::init(&path, &identity(), &config()).unwrap();
    let mut store = open(&path, false);
    for index in 1..=ORDERS {
        let entries = vec![(index, raft_entry(index, 1, 500))];
        let sync = true;
        let order = Persist {
            entries,
            sync,
            ..Persist::default()
        };
        store.write(&order, None);
    }
    (dir, path)
}

/// RocksDB's log of writes.
fn wal(path: &Path) -> PathBuf {
    let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|file| file.extension().is_some_and(|end| end == "log"));
    logs.max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

fn entries(path: &Path) -> Result<usize, StoreError> {
    let mut store = Store::open(path, "test", 1, &config(), false)?;
    Ok(store.recover(Plant::None)?.entries.len())
}

#[test]
fn a_server_that_forgot_what_it_promised_does_not_start() {
    // The rest of the file, in quarters: in the middle, and the very last byte.
    for place in [1, 2, 3, 4] {
        let (_dir, path) = written();
        change(&wal(&path), |bytes| {
            let at = (bytes.len() * place / 4).min(bytes.len() - 1);
            bytes[at] ^= 0x10;
        });
        for _ in 0..2 {
            match entries(&path) {
                Err(StoreError::Forgot { last, synced, .. }) => assert!(last < synced, "{last} and {synced}"),
                other => panic!("damage at {place}/4: {other:?}"),
            }
        }
    }
}

/// Places of the headers' types in a log whose records are all whole and in its first block.
fn types(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    std::iter::from_fn(|| {
        let header = bytes.get(at..at + 7)?;
        at += 7 + usize::from(u16::from_le_bytes([header[4], header[5]]));
        Some(at)
    })
    .scan(0, |begin, next| Some(std::mem::replace(begin, next) + 6))
    .collect()
}

#[test]
fn a_type_that_rocksdb_never_gets_over_is_told_by_its_checksum() {
    for (wrong, good) in [(5, true), (6, false), (131, false)] {
        let (_dir, path) = written();
        change(&wal(&path), |bytes| {
            let places = types(bytes);
            let place = places[places.len() / 2];
            assert_eq!(bytes[place], 1);
            bytes[place] = wrong;
            // Besides the type, a byte of what it stands for.
            bytes[place + 9] ^= u8::from(!good);
        });
        match entries(&path) {
            Ok(found) => assert!(good && found as u64 == ORDERS),
            Err(error) => assert!(!good && matches!(error, StoreError::Forgot { .. }), "{error}"),
        }
    }
}

#[test]
fn a_log_that_is_cut_short_is_no_better() {
    let (_dir, path) = written();
    change(&wal(&path), |bytes| bytes.truncate(bytes.len() / 2));
    assert!(matches!(entries(&path), Err(StoreError::Forgot { .. })));
}

#[test]
fn a_write_that_was_cut_off_does_not_keep_a_server_from_starting() {
    // The beginning of one more record, and what was on the disk before: also what RocksDB alone would never get over.
    for rest in [
        &[0; 300][..],
        &[1; 5],
        &[1; 300],
        &[0xff; 300],
        &[5; 300],
        &[7; 300],
        &[131; 300],
    ] {
        let (_dir, path) = written();
        change(&wal(&path), |bytes| bytes.extend(rest));
        assert_eq!(entries(&path).unwrap() as u64, ORDERS, "{rest:?}");
    }
}

#[test]
fn a_loss_of_power_may_take_the_note_back_or_leave_none() {
    let (_dir, path) = written();
    let note = path.join(promised::FILE);
    let late = std::fs::read(&note).unwrap();
    assert_eq!(entries(&path).unwrap() as u64, ORDERS);
    for left in [&late[..], &[0; 16], &late[..5], &[]] {
        std::fs::write(&note, left).unwrap();
        assert_eq!(entries(&path).unwrap() as u64, ORDERS);
    }
}
