//! A snapshot comes in, and the process ends at each step of it: what is found is all old or all new.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rebound_core::command::{Command, Deadline, ENTRY_VERSION, Entry, Open, Spec};
use rebound_core::replica::snapshot::About;
use rebound_core::state::members::Founder;
use rebound_core::table::Digest;
use rebound_core::types::{Caller, PersistId, ReplicaId, Resources, Time, TraceId};
use rebound_proto::v1::SnapshotChunk;

use super::aside::Aside;
use super::pairs::{Cutter, chunks};
use super::*;

/// Photos of each job.
const PHOTOS: usize = 400;
/// Enough for all that is sent here.
const MOST: u64 = 1 << 30;

fn config() -> StoreConfig {
    StoreConfig {
        cache_mib: 1,
        write_buffer_mib: 1,
    }
}

fn identity() -> Identity {
    Identity {
        cluster: "test-00000000".to_owned(),
        server: 1,
        incarnation: 7,
        founders: vec![Founder::named(ReplicaId(1))],
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, "test", 1, &config(), false).unwrap()
}

/// A directory with so many jobs in it, by real entries.
fn with_jobs(dir: &Path, jobs: u64) -> (Store, About) {
    Store::init(dir, &identity(), &config()).unwrap();
    let mut store = open(dir);
    let mut state = State::new(Plant::None);
    for index in 1..=jobs {
        let photo = |at| format!("file:///{index}/{at}/{:0>900}.jpg", at * 7_919);
        let command = Command::Open(Box::new(Open {
            key: format!("key {index}").into_bytes(),
            name: String::new(),
            labels: Vec::new(),
            priority: 0,
            deadline: Deadline::None,
            spec: Spec {
                recogniser: "noop".to_owned(),
                resources: Resources::default(),
                photo_timeout: 0,
                max_attempts: 0,
                drop_late: false,
                region: String::new(),
            },
            photos: (0..PHOTOS).map(photo).collect(),
            close: true,
        }));
        let entry = Entry {
            version: ENTRY_VERSION,
            at: Time(index),
            by: Caller {
                environment: "default".to_owned(),
                actor: "test".to_owned(),
            },
            trace: TraceId::default(),
            command,
        };
        let applied = state.apply(index, 1, Some(&entry));
        applied.reply.unwrap();
        let order = Persist {
            state: state.settle(),
            kept: applied.kept,
            compacted: Some((index, 1)),
            ..Persist::default()
        };
        store.write(&order, None);
    }
    (store, About::of(&state))
}

fn sent(store: &Store) -> Vec<SnapshotChunk> {
    let mut sent = Vec::new();
    let all = chunks(
        store.disk(),
        || {},
        |chunk| {
            sent.push(chunk);
            true
        },
    );
    assert!(all.unwrap());
    sent
}

fn received(store: &Store, chunks: &[SnapshotChunk]) -> Aside {
    let mut aside = Aside::begin(store.disk()).expect("nothing else is there");
    for chunk in chunks {
        aside.take(chunk, MOST).unwrap();
    }
    aside
}

fn install(about: &About) -> Persist {
    Persist {
        id: PersistId(1),
        install: Some((about.index, about.term)),
        ..Persist::default()
    }
}

/// What the disk holds now, as a process that ends here leaves it. RocksDB removes files in the background: a copy that
/// met that is no moment's, and is made anew.
fn image(of: &Path, to: PathBuf) -> PathBuf {
    for _ in 0..100 {
        let before = names(of);
        fs::create_dir(&to).unwrap();
        let copied = before
            .iter()
            .all(|name| fs::copy(of.join(name), to.join(name)).is_ok());
        if copied && names(of) == before {
            return to;
        }
        fs::remove_dir_all(&to).unwrap();
    }
    panic!("{} never stood still", of.display());
}

fn names(of: &Path) -> BTreeSet<OsString> {
    let names = fs::read_dir(of).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name != "LOCK").collect()
}

/// Which of these a directory holds, whole: state, kept records and where the log begins. Nothing is left beside it.
fn holds(dir: &Path, either: &[&About]) -> Index {
    let mut store = open(dir);
    let found = store.recover(Plant::None).unwrap();
    let about = About::of(&found.state);
    assert!(
        either.contains(&&about),
        "neither the old nor the new state: {about:?}"
    );
    assert_eq!(found.compacted, (about.index, about.term));
    let mut kept = Digest::default();
    let db = &store.disk().db;
    for item in db.iterator_cf(store.disk().kept(), IteratorMode::Start) {
        let (key, value) = item.unwrap();
        kept.add(rebound_core::table::record_hash(&key, &value));
    }
    assert_eq!(about.differs(&found.state, kept), None);
    for left in handles(db, store.disk().live().other()) {
        assert!(db.iterator_cf(left, IteratorMode::Start).next().is_none());
    }
    about.index
}

#[test]
fn whenever_the_process_ends_the_disk_holds_the_old_state_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (own, images) = (dir.path().join("own"), dir.path().join("images"));
    fs::create_dir(&images).unwrap();
    let (mut store, old) = with_jobs(&own, 3);
    let (sender, new) = with_jobs(&dir.path().join("sender"), 9);
    let chunks = sent(&sender);
    assert!(chunks.len() > 2, "{} chunks", chunks.len());

    let mut steps = Vec::new();
    let mut step = |name: String| steps.push(image(&own, images.join(name)));
    step("before".to_owned());
    let mut aside = Aside::begin(store.disk()).unwrap();
    for (at, chunk) in chunks.iter().enumerate() {
        aside.take(chunk, MOST).unwrap();
        step(format!("chunk-{at}"));
    }
    let state = aside.load(&new, Plant::None).unwrap();
    assert_eq!(About::of(&state), new);
    step("checked".to_owned());
    for dir in &steps {
        assert_eq!(holds(dir, &[&old]), old.index, "{}", dir.display());
    }
    store.write(&install(&new), Some(aside));
    let after = image(&own, images.join("installed"));
    assert_eq!(holds(&after, &[&new]), new.index);
    drop(store);
    assert_eq!(holds(&own, &[&new]), new.index);
}

#[test]
fn whatever_of_the_log_of_writes_is_lost_the_disk_holds_one_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    let (mut store, old) = with_jobs(&own, 2);
    store.disk().db.flush().unwrap();
    store.flush().unwrap();
    let (sender, new) = with_jobs(&dir.path().join("sender"), 4);
    let chunks = sent(&sender);
    let aside = received(&store, &chunks);
    store.write(&install(&new), Some(aside));
    let whole = image(&own, dir.path().join("whole"));
    drop(store);
    let logs = |dir: &Path| -> Vec<PathBuf> {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut logs: Vec<PathBuf> = files
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        logs.sort();
        logs
    };
    let last = logs(&whole).pop().expect("there is a log of writes");
    let length = fs::metadata(&last).unwrap().len();
    let mut found = Vec::new();
    for part in 0..=12 {
        let cut = image(&whole, dir.path().join(format!("cut-{part}")));
        let file = fs::File::options()
            .write(true)
            .open(cut.join(last.file_name().unwrap()))
            .unwrap();
        file.set_len(length * part / 12).unwrap();
        // More is lost than a loss of power may take: the note that would tell so goes too.
        fs::remove_file(cut.join(crate::store::promised::FILE)).unwrap();
        found.push(holds(&cut, &[&old, &new]));
    }
    assert!(found.is_sorted(), "{found:?}");
    assert_eq!(found.last(), Some(&new.index));
}

#[test]
fn what_is_not_as_described_is_not_taken_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    let (store, old) = with_jobs(&own, 1);
    let (sender, new) = with_jobs(&dir.path().join("sender"), 4);
    let chunks = sent(&sender);
    let refused = |chunks: &[SnapshotChunk], about: &About| {
        received(&store, chunks).load(about, Plant::None).err().unwrap()
    };
    let about = About {
        digest: new.digest ^ 1,
        ..new.clone()
    };
    assert!(refused(&chunks, &about).contains("the live records add up to"));
    // Whole chunks by their own checksums, and yet not what was kept.
    let (mut forged, mut first) = (Vec::new(), true);
    let mut cutter = Cutter::default();
    for pair in chunks.iter().flat_map(|chunk| &chunk.pairs) {
        let mut pair = pair.clone();
        if pair.family == 1 && std::mem::take(&mut first) {
            pair.value = Bytes::from_static(b"other");
        }
        forged.extend(cutter.put(pair));
    }
    forged.push(cutter.end());
    assert!(refused(&forged, &new).contains("the kept records add up to"));
    let mut aside = Aside::begin(store.disk()).unwrap();
    assert!(Aside::begin(store.disk()).is_none(), "one at a time");
    assert!(
        aside
            .take(&chunks[0], 10)
            .unwrap_err()
            .contains("limits.snapshot_bytes")
    );
    drop(aside);
    assert!(received(&store, &chunks).load(&new, Plant::None).is_ok());
    drop(store);
    assert_eq!(holds(&own, &[&old]), old.index);
}

#[test]
fn a_view_that_was_pinned_before_is_whole_after_its_generation_went() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = with_jobs(&dir.path().join("own"), 5);
    let before = sent(&store);
    let (sender, new) = with_jobs(&dir.path().join("sender"), 6);
    let aside = received(&store, &sent(&sender));
    store.disk().db.flush().unwrap();
    let disk = store.disk().clone();
    let mut order = Some((install(&new), aside));
    let mut view = Vec::new();
    let all = chunks(
        &disk,
        || {},
        |chunk| {
            if let Some((order, aside)) = order.take() {
                store.write(&order, Some(aside));
            }
            view.push(chunk);
            true
        },
    );
    assert!(all.unwrap());
    assert_eq!(view, before);
    assert_eq!(sent(&store), sent(&sender));
}
