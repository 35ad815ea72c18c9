//! The simulated disk and RocksDB are given the same writes: random histories of a cluster, cut logs, other ends of
//! logs, received snapshots, with the directory opened again and power lost between. What each holds afterwards is
//! what the same beginning of the writes comes to on a simulated disk that never lost anything.
//!
//! A loss of power is a copy of the directory whose live log of writes is cut, zeroed or changed somewhere behind its
//! last synced byte. Older logs of writes and files are taken as whole: RocksDB syncs them before it goes on.
//!
//! `REBOUND_STORAGE_CASES` is how many seeds are run, `REBOUND_STORAGE_SEED` the first of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use rebound_core::replica::{Config, Replica};
use rebound_core::state::Plant;
use rebound_core::state::members::Founder;
use rebound_core::types::{ClusterId, Now, ReplicaId};
use rebound_scheduler::config::StoreConfig;
use rebound_scheduler::store::Store;
use rebound_scheduler::store::aside::Aside;
use rebound_scheduler::store::identity::Identity;
use rebound_scheduler::store::pairs::{KEPT_FAMILY, chunks};
use rebound_sim::disk::Loss;
use rebound_sim::rng::Rng;
use tempfile::TempDir;

#[path = "../../scheduler/core/tests/history/mod.rs"]
mod history;
#[path = "storage/model.rs"]
mod model;
#[path = "storage/reads.rs"]
mod reads;

use history::{Step, step};
use model::{Found, Model, Piece};

/// Seeds of a run if not said otherwise; about a third of a second each.
const CASES: u64 = 48;
/// Operations of a case.
const OPS: usize = 24;
/// Bytes that make an entry long enough for files to be written now and then.
const PAD_MAX: usize = 200_000;
/// How long a failing case is made smaller, in milliseconds.
const SHRINK_MS: u32 = 30_000;
const CLUSTER: &str = "test";

#[derive(Clone, Debug)]
enum Op {
    /// Entries, each applied before the next one comes.
    Work(Vec<Step>),
    /// Entries in one write, over the end of the log.
    Append {
        back: u64,
        steps: Vec<Step>,
        pad: usize,
    },
    Apply(u64),
    Compact(u64),
    /// A snapshot of a server that is further by these.
    Install(Vec<Step>),
    Reopen,
    PowerLoss(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let steps = |most| prop::collection::vec(step(), 1..most);
    prop_oneof![
        6 => steps(12).prop_map(Op::Work),
        3 => (0u64..5, steps(5), 0..PAD_MAX).prop_map(|(back, steps, pad)| Op::Append { back, steps, pad }),
        2 => (1u64..6).prop_map(Op::Apply),
        2 => (0u64..6).prop_map(Op::Compact),
        1 => steps(8).prop_map(Op::Install),
        1 => Just(Op::Reopen),
        4 => any::<u64>().prop_map(Op::PowerLoss),
    ]
}

fn config() -> StoreConfig {
    StoreConfig {
        cache_mib: 1,
        write_buffer_mib: 1,
    }
}

fn founders() -> Vec<Founder> {
    [1, 2, 3].map(ReplicaId).map(Founder::named).into()
}

fn make(dir: &Path) {
    let identity = Identity {
        cluster: format!("{CLUSTER}-00000000"),
        server: 1,
        incarnation: 7,
        founders: founders(),
    };
    Store::init(dir, &identity, &config()).expect("the directory is new");
}

fn open(dir: &Path, archive: bool) -> Store {
    Store::open(dir, CLUSTER, 1, &config(), archive).expect("a directory of our own opens")
}

/// A server's disk twice: as RocksDB, and as a model.
struct Pair<'a> {
    dir: TempDir,
    archive: bool,
    store: Option<Store>,
    model: Model,
    /// The live log of writes and its length when something was last synced.
    synced: (u64, u64),
    tally: &'a Tally,
}

/// What a run has met.
#[derive(Default)]
struct Tally {
    /// Losses of power that took something away.
    lost: Cell<u64>,
    /// Losses of power that left something that was not synced.
    spared: Cell<u64>,
    /// Losses of power after RocksDB had begun another log of writes, since its files were written.
    rotated: Cell<u64>,
    snapshots: Cell<u64>,
}

fn count(counter: &Cell<u64>, when: bool) {
    counter.set(counter.get() + u64::from(when));
}

impl Pair<'_> {
    fn new(archive: bool, tally: &Tally) -> Pair<'_> {
        let dir = scratch();
        make(&dir.path().join("data"));
        let store = open(&dir.path().join("data"), archive);
        let mut pair = Pair {
            dir,
            archive,
            store: Some(store),
            model: Model::new(),
            synced: (0, 0),
            tally,
        };
        pair.recovered();
        pair
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("it is open")
    }

    /// One batch into both.
    fn write(&mut self, piece: Piece, received: Option<Aside>) {
        if piece.is_empty() {
            return;
        }
        let sync = piece.sync;
        self.store().write(&piece.persist(), received);
        self.model.write(piece);
        if sync {
            self.synced = live_log(&self.dir.path().join("data"));
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Work(steps) => {
                for step in steps {
                    let first = self.model.append(0, &[step], 0);
                    self.write(first, None);
                    self.apply(1);
                }
            }
            Op::Append { back, steps, pad } => {
                let first = self.model.append(back, &steps, pad);
                self.write(first, None);
            }
            Op::Apply(count) => self.apply(count),
            Op::Compact(behind) => {
                if let Some(cut) = self.model.compact(behind) {
                    self.write(cut, None);
                }
            }
            Op::Install(steps) => self.install(&steps),
            Op::Reopen => {
                self.store = None;
                self.store = Some(open(&self.dir.path().join("data"), self.archive));
                let found = self.found();
                assert!(
                    found == self.model.found(self.model.pieces.len()),
                    "a process that ended lost something: {found:?}"
                );
                self.model.go_back(self.model.pieces.len());
                self.synced = live_log(&self.dir.path().join("data"));
                self.recovered();
            }
            Op::PowerLoss(seed) => self.lose_power(&mut Rng::new(seed)),
        }
    }

    fn apply(&mut self, count: u64) {
        let (commit, second) = self.model.apply(count);
        self.write(commit, None);
        self.write(second, None);
    }

    /// Installs a snapshot that comes from another pair, further by these steps.
    fn install(&mut self, steps: &[Step]) {
        let (piece, whole) = self.model.further(steps);
        let dir = scratch();
        make(&dir.path().join("data"));
        let mut other = open(&dir.path().join("data"), false);
        other.write(&whole.persist(), None);
        let mut aside = Aside::begin(self.store().disk()).expect("no other is there");
        let sent = chunks(other.disk(), || {}, |chunk| aside.take(&chunk, 1 << 30).is_ok());
        assert!(sent.expect("readable") && aside.is_whole());
        self.write(piece, Some(aside));
        count(&self.tally.snapshots, true);
        self.model.installed();
    }

    /// What RocksDB holds.
    fn found(&mut self) -> Found {
        let store = self.store();
        let disk = store.recover(Plant::None).expect("it can be gone on from");
        let mut kept = BTreeMap::new();
        let sent = chunks(
            store.disk(),
            || {},
            |chunk| {
                let pairs = chunk.pairs.into_iter().filter(|pair| pair.family == KEPT_FAMILY);
                kept.extend(pairs.map(|pair| (pair.key.to_vec(), pair.value.to_vec())));
                true
            },
        );
        assert!(sent.expect("readable"));
        Found::new(&disk, kept)
    }

    /// What every start goes through: the replica begins, and reads answer as the simulated disk does.
    fn recovered(&mut self) {
        let disk = self.store().recover(Plant::None).expect("it can be gone on from");
        // That of a new state is of no use to anybody yet.
        if disk.state.applied() > 0 {
            disk.state.check();
        }
        let config = Config::new(ReplicaId(1), founders(), ClusterId(CLUSTER.into()));
        let now = Now::default();
        if let Err(error) = Replica::recover(config, disk, now) {
            panic!("a replica cannot begin from it: {error}");
        }
        let disk = self.store().disk().clone();
        reads::compare(
            &disk,
            self.model.live.image(),
            &self.model.state,
            &self.model.jobs(),
        );
    }

    fn lose_power(&mut self, rng: &mut Rng) {
        // Files are written and merged in the background: a copy of the directory must be of one moment.
        self.store().disk().db.cancel_all_background_work(true);
        let data = self.dir.path().join("data");
        let image = scratch();
        copy(&data, &image.path().join("data"));
        self.store = None;
        let (number, length) = live_log(&image.path().join("data"));
        let floor = if self.synced.0 == number { self.synced.1 } else { 0 };
        assert!(floor <= length, "what is synced is in the file");
        let log = image.path().join("data").join(format!("{number:06}.log"));
        let cut = damage(&log, floor, length, rng);
        self.dir = image;
        self.store = Some(open(&self.dir.path().join("data"), self.archive));
        let found = self.found();
        let (durable, all) = (self.model.durable, self.model.pieces.len());
        if cut == Some(length) {
            assert!(
                found == self.model.found(all),
                "nothing was lost, and something is gone"
            );
        }
        if cut == Some(floor) && self.synced.0 == number {
            assert!(
                found == self.model.found(durable),
                "more or less than what was synced"
            );
        }
        let left = (durable..=all).rev().find(|k| found == self.model.found(*k));
        let left = left.unwrap_or_else(|| {
            panic!(
                "no beginning of {all} writes, {durable} of them synced, comes to what was found: {found:?}"
            )
        });
        count(&self.tally.lost, left < all);
        count(&self.tally.spared, left > durable);
        count(&self.tally.rotated, self.synced.0 > 0 && self.synced.0 != number);
        self.lose_power_in_simulation(rng);
        self.model.go_back(left);
        self.synced = live_log(&self.dir.path().join("data"));
        self.recovered();
    }

    /// The simulated disk keeps to the same: a beginning of what was written, and all that was synced.
    fn lose_power_in_simulation(&mut self, rng: &mut Rng) {
        let loss = *rng
            .pick(&[Loss::Nothing, Loss::Batches, Loss::Bytes])
            .expect("three");
        let (durable, all) = (self.model.durable, self.model.pieces.len());
        self.model.live.crash(loss, rng);
        let found = Found::of(&self.model.live);
        let least = if loss == Loss::Nothing { all } else { durable };
        assert!(
            (least..=all).any(|k| found == self.model.found(k)),
            "{loss:?}: no beginning of {all} writes, {durable} of them synced: {found:?}"
        );
    }
}

/// A new directory; in memory where there is such a place: power is lost in a copy, whatever is below.
fn scratch() -> TempDir {
    let found = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    found.expect("a temporary directory can be made")
}

/// Number and length of the log of writes that is written to. Older ones may go while they are looked at.
fn live_log(dir: &Path) -> (u64, u64) {
    let entries = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("readable"));
    let logs = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u64 = name.strip_suffix(".log")?.parse().ok()?;
        Some((number, entry.metadata().ok()?.len()))
    });
    logs.max().expect("there is always one")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
}

/// Loses what a disk may lose of a file that was synced up to `floor`. Where it was only cut, the length that is left.
fn damage(log: &Path, floor: u64, length: u64, rng: &mut Rng) -> Option<u64> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(log)
        .expect("it is there");
    let set_length = |to| file.set_len(to).expect("a file can be cut");
    let at = rng.within(floor, length);
    match rng.within(0, 5) {
        0 => Some(length),
        1 => {
            set_length(floor);
            Some(floor)
        }
        2 => {
            // Its length was written, its content was not.
            set_length(at);
            set_length(length);
            None
        }
        3 if at < length => {
            use std::os::unix::fs::FileExt as _;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("it is that long");
            byte[0] ^= 1 << rng.within(0, 7);
            file.write_all_at(&byte, at).expect("a file can be written");
            None
        }
        _ => {
            set_length(at);
            Some(at)
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => default,
    }
}

#[test]
fn rocksdb_and_the_simulated_disk_hold_the_same() {
    let (first, cases) = (
        number("REBOUND_STORAGE_SEED", 1),
        number("REBOUND_STORAGE_CASES", CASES),
    );
    let tally = Tally::default();
    for seed in first..first + cases {
        let config = ProptestConfig {
            cases: 1,
            failure_persistence: None,
            max_shrink_time: SHRINK_MS,
            ..ProptestConfig::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let ops = prop::collection::vec(op(), OPS / 2..OPS);
        let outcome = TestRunner::new_with_rng(config, rng).run(&(ops, any::<bool>()), |(ops, archive)| {
            let mut pair = Pair::new(archive, &tally);
            ops.into_iter().for_each(|op| pair.run(op));
            pair.run(Op::PowerLoss(seed));
            Result::<(), TestCaseError>::Ok(())
        });
        if let Err(error) = outcome {
            panic!("seed {seed} (REBOUND_STORAGE_SEED={seed} REBOUND_STORAGE_CASES=1): {error}");
        }
    }
    let Tally {
        lost,
        spared,
        rotated,
        snapshots,
    } = &tally;
    let met = [lost, spared, rotated, snapshots].map(Cell::get);
    println!(
        "{cases} cases: power lost something, spared something unsynced, found another log; snapshots: {met:?}"
    );
    assert!(cases < CASES || met.iter().all(|times| *times > 0), "{met:?}");
}
