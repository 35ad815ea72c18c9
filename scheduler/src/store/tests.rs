//! The same orders into RocksDB and into a model, with the directory closed and opened between.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rebound_core::command::{Command, ENTRY_VERSION, Entry};
use rebound_core::state::members::Founder;
use rebound_core::table::Digest;
use rebound_core::types::{Caller, PersistId, ReplicaId, Time, TraceId};
use rebound_proto::v1::SnapshotChunk;

use super::pairs::chunks;
use super::*;
use crate::offline::OfflineStore;

const CLUSTER: &str = "test-00000000";
/// Its name.
const NAME: &str = "test";

pub(super) fn config() -> StoreConfig {
    StoreConfig {
        cache_mib: 1,
        write_buffer_mib: 1,
    }
}

pub(super) fn identity() -> Identity {
    Identity {
        cluster: CLUSTER.to_owned(),
        server: 1,
        incarnation: 7,
        founders: vec![Founder::named(ReplicaId(1))],
    }
}

/// raft's entry as it is on the wire: term in field 2, index in field 3, data in field 4.
pub(super) fn raft_entry(index: Index, term: Term, fill: usize) -> Bytes {
    let mut bytes = Vec::new();
    for (tag, value) in [(0x10, term), (0x18, index), (0x22, fill as u64)] {
        bytes.push(tag);
        prost::encoding::encode_varint(value, &mut bytes);
    }
    bytes.resize(bytes.len() + fill, index as u8);
    bytes.into()
}

/// What the disk should hold.
struct Model {
    log: BTreeMap<Index, Bytes>,
    archived: BTreeMap<Index, Bytes>,
    compacted: (Index, Term),
    hard_state: Option<Bytes>,
    state: State,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    digests: BTreeMap<Index, Digest>,
}

impl Model {
    fn new() -> Model {
        let mut state = State::new(Plant::None);
        state.settle();
        Model {
            log: BTreeMap::new(),
            archived: BTreeMap::new(),
            compacted: (0, 0),
            hard_state: None,
            state,
            kept: BTreeMap::new(),
            digests: BTreeMap::new(),
        }
    }

    fn last(&self) -> Index {
        self.log.keys().next_back().copied().unwrap_or(self.compacted.0)
    }

    /// Entries from `back` before the end on, but never over what is applied.
    fn append(&mut self, back: u64, count: u64, fill: usize, order: &mut Persist) {
        let first = self
            .last()
            .saturating_sub(back)
            .max(self.state.applied())
            .max(self.compacted.0)
            + 1;
        self.log.split_off(&first);
        for index in first..first + count {
            let bytes = raft_entry(index, 1, fill);
            self.log.insert(index, bytes.clone());
            order.entries.push((index, bytes));
        }
        let hard = Bytes::from(vec![back as u8, count as u8]);
        self.hard_state = Some(hard.clone());
        order.hard_state = Some(hard);
        order.sync = true;
    }

    /// Applies up to `count` entries of the log.
    fn apply(&mut self, count: u64, order: &mut Persist) {
        for index in self.state.applied() + 1..=self.last().min(self.state.applied() + count) {
            let by = Caller {
                environment: format!("e{}", index % 5),
                actor: "test".to_owned(),
            };
            let (at, trace) = (Time(index), TraceId::default());
            let entry = Entry {
                version: ENTRY_VERSION,
                at,
                by,
                trace,
                command: Command::Count,
            };
            self.state.apply(index, 1, Some(&entry)).reply.unwrap();
            let kept = (vec![2, index as u8, 1], vec![index as u8; 20]);
            self.kept.insert(kept.0.clone(), kept.1.clone());
            order.kept.push(kept);
            // Now and then records go, of this order and of earlier ones.
            if index.is_multiple_of(7) && index < 250 {
                let (from, to) = (vec![2, index.saturating_sub(5) as u8], vec![2, index as u8, 1]);
                self.kept.retain(|key, _| *key < from || *key >= to);
                order.kept_gone.push((from, to));
            }
        }
        order.state = self.state.settle();
        if self.state.applied() > 0 {
            let digest = (self.state.applied(), self.state.digest());
            self.digests.insert(digest.0, digest.1);
            order.digests.push(digest);
        }
    }

    fn compact(&mut self, behind: u64, order: &mut Persist) {
        let to = self.state.applied().saturating_sub(behind);
        if to > self.compacted.0 {
            let rest = self.log.split_off(&(to + 1));
            self.archived.append(&mut std::mem::replace(&mut self.log, rest));
            self.compacted = (to, 1);
            order.compacted = Some(self.compacted);
        }
    }

    fn check(&self, store: &mut Store) {
        let found = store.recover(Plant::None).unwrap();
        assert_eq!(found.compacted, self.compacted);
        assert_eq!(found.hard_state, self.hard_state);
        assert_eq!(found.entries, self.log.values().cloned().collect::<Vec<_>>());
        assert_eq!(found.state.applied(), self.state.applied());
        let on_disk = store.disk.db.iterator_cf(store.disk.kept(), IteratorMode::Start);
        let on_disk: BTreeMap<Vec<u8>, Vec<u8>> = on_disk
            .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
            .collect();
        assert_eq!(on_disk, self.kept);
        if self.state.applied() > 0 {
            assert_eq!(found.state.digest(), self.state.digest());
        }
    }

    fn check_offline(&self, dir: &Path, archive: bool) {
        let offline = OfflineStore::open(dir).unwrap();
        let entries: BTreeMap<Index, Bytes> = offline.log_entries().map(Result::unwrap).collect();
        let mut expected = self.log.clone();
        if archive {
            expected.extend(self.archived.clone());
        }
        assert_eq!(entries, expected);
        assert_eq!(
            offline.digests().unwrap(),
            self.digests.clone().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(offline.applied().unwrap(), self.state.applied());
        assert_eq!(offline.hard_state().unwrap(), self.hard_state);
        assert_eq!(offline.meta().unwrap(), identity());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append { back: u64, count: u64, fill: usize },
    Apply { count: u64 },
    Compact { behind: u64 },
    Install { ahead: u64 },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..6, 1u64..6, 0usize..300).prop_map(|(back, count, fill)| Op::Append { back, count, fill }),
        4 => (1u64..8).prop_map(|count| Op::Apply { count }),
        2 => (0u64..4).prop_map(|behind| Op::Compact { behind }),
        1 => (1u64..10).prop_map(|ahead| Op::Install { ahead }),
        2 => Just(Op::Reopen),
    ]
}

pub(super) fn open(dir: &Path, archive: bool) -> Store {
    Store::open(dir, NAME, 1, &config(), archive).unwrap()
}

/// The chunks of a snapshot of a server that is `ahead` entries further.
fn snapshot_ahead(model: &mut Model, ahead: u64) -> Vec<SnapshotChunk> {
    let dir = tempfile::tempdir().unwrap();
    Store::init(&dir.path().join("b"), &identity(), &config()).unwrap();
    let mut other = open(&dir.path().join("b"), false);
    let mut order = Persist::default();
    model.log.clear();
    model.compacted = (model.state.applied(), 1);
    model.append(0, ahead, 10, &mut order);
    model.apply(ahead, &mut order);
    order.state.clear();
    model
        .state
        .dump(|key, value| order.state.push((key, Some(value))));
    order.kept = model.kept.clone().into_iter().collect();
    other.write(&order, None);
    let mut sent = Vec::new();
    assert!(
        chunks(
            &other.disk,
            || {},
            |chunk| {
                sent.push(chunk);
                true
            }
        )
        .unwrap()
    );
    sent
}

fn run(ops: Vec<Op>, archive: bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    Store::init(&path, &identity(), &config()).unwrap();
    let (mut store, mut model) = (open(&path, archive), Model::new());
    model.check(&mut store);
    for op in ops {
        let mut order = Persist {
            id: PersistId(1),
            ..Persist::default()
        };
        let mut received = None;
        match op {
            Op::Append { back, count, fill } => model.append(back, count, fill, &mut order),
            Op::Apply { count } => model.apply(count, &mut order),
            Op::Compact { behind } => model.compact(behind, &mut order),
            Op::Install { ahead } => {
                // Digests between are not known here; entries before it are only in the archive.
                let (digests, hard) = (model.digests.clone(), model.hard_state.clone());
                let mut aside = Aside::begin(store.disk()).expect("nothing else is there");
                for chunk in snapshot_ahead(&mut model, ahead) {
                    aside.take(&chunk, 1 << 20).unwrap();
                }
                received = Some(aside);
                (model.digests, model.hard_state) = (digests, hard);
                model.log.clear();
                model.compacted = (model.state.applied(), 1);
                order = Persist {
                    id: PersistId(1),
                    install: Some(model.compacted),
                    ..Persist::default()
                };
            }
            Op::Reopen => {
                drop(store);
                model.check_offline(&path, archive);
                store = open(&path, archive);
                model.check(&mut store);
                continue;
            }
        }
        store.write(&order, received);
        assert_eq!((store.last, store.compacted), (model.last(), model.compacted));
    }
    model.check(&mut store);
    drop(store);
    model.check_offline(&path, archive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_holds_what_the_model_does(ops in prop::collection::vec(op(), 1..20), archive: bool) {
        run(ops, archive);
    }
}

#[test]
fn a_large_cut_reaches_the_archive_in_pieces() {
    let mut ops = vec![
        Op::Append {
            back: 0,
            count: 40,
            fill: 300_000,
        },
        Op::Apply { count: 40 },
    ];
    ops.extend([Op::Compact { behind: 2 }, Op::Reopen]);
    run(ops, true);
}

#[test]
fn a_directory_is_one_servers_of_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let fault = |cluster, server| {
        Store::open(&path, cluster, server, &config(), false)
            .err()
            .unwrap()
    };
    assert!(matches!(fault(NAME, 1), StoreError::Empty(_)));
    Store::init(&path, &identity(), &config()).unwrap();
    assert!(matches!(
        Store::init(&path, &identity(), &config()),
        Err(StoreError::NotEmpty(_))
    ));
    let other = fault("other", 1).to_string();
    assert!(
        other.contains("belongs to cluster test-00000000, not to one named other"),
        "{other}"
    );
    let other = fault(NAME, 2).to_string();
    assert!(other.contains("belongs to server 1, not 2"), "{other}");
    let held = open(&path, false);
    assert!(
        matches!(fault(NAME, 1), StoreError::Locked(_)),
        "{:?}",
        fault(NAME, 1)
    );
    drop(held);
    assert_eq!(open(&path, false).identity(), &identity());
}

#[test]
fn what_is_no_data_directory_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
    let error = Store::open(dir.path(), NAME, 1, &config(), false).err().unwrap();
    assert!(matches!(error, StoreError::Failed { .. }), "{error}");
    assert!(matches!(
        Store::init(dir.path(), &identity(), &config()),
        Err(StoreError::NotEmpty(_))
    ));
    assert!(matches!(
        OfflineStore::open(dir.path()),
        Err(StoreError::Empty(_))
    ));
}

#[test]
fn a_gap_in_the_log_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    Store::init(&path, &identity(), &config()).unwrap();
    let mut store = open(&path, false);
    let entries = [1, 2, 3].map(|index| (index, raft_entry(index, 1, 5)));
    store.write(
        &Persist {
            entries: entries.to_vec(),
            sync: true,
            ..Persist::default()
        },
        None,
    );
    store
        .disk
        .db
        .delete_cf(family(&store.disk.db, LOG), 2u64.to_be_bytes())
        .unwrap();
    let error = store.recover(Plant::None).err().unwrap().to_string();
    assert!(error.contains("entry 3 is where 2 should be"), "{error}");
}
