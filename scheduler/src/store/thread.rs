//! The store's own threads: one writes, in the order it is told; two read what was written before; one looks after what
//! RocksDB writes by itself.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::types::{PersistId, ReplicaId};
use rebound_proto::v1::SnapshotChunk;
use tokio::sync::{mpsc, oneshot};

use super::aside::Aside;
use super::pairs::chunks;
use super::photos::Reader;
use super::{Disk, Store};
use crate::telemetry;

/// Jobs that may wait for the writer; then whoever gives them waits.
pub const JOBS_MAX: usize = 1_024;
/// Of them, so many that none is a read: what reads ask for never keeps a write out.
pub const JOBS_FOR_WRITES: usize = 128;
/// Reads that may wait in one lane: desired sets of all workers there may be.
const READS_MAX: usize = 10_240;

/// How often RocksDB is asked whether a write of its own failed.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// A read, run when all that was written before it can be seen; without a reader when too many wait: it says so to
/// whoever asked.
pub type Read = Box<dyn FnOnce(Option<&Reader>) + Send>;

/// Which thread reads. Reads of one lane are done in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Photos of desired sets.
    Desired,
    /// Answers to questions.
    Answers,
}

/// Something for the store, done in the order given.
pub enum Job {
    /// Writes an order; with the snapshot it installs.
    Persist(Box<Persist>, Option<Aside>),
    /// Reads.
    Read(Lane, Read),
    /// Cuts the state and kept records as they are now into chunks. The channel closes early on failure.
    Snapshot(mpsc::Sender<SnapshotChunk>),
    /// Writes nothing more; answers when all is durable.
    Stop(oneshot::Sender<()>),
}

/// A job, and since when it waits.
pub type Queued = (Instant, Job);

/// What the writer says when an order is durable.
pub type Durable = Box<dyn Fn(PersistId, Vec<(ReplicaId, Bytes)>) + Send>;

/// Starts the threads. They end after [`Job::Stop`], or when the channel is dropped.
pub fn start(
    store: Store,
    reader: Arc<Reader>,
    durable: Durable,
) -> std::io::Result<(mpsc::Sender<Queued>, JoinHandle<()>)> {
    let (jobs, inbox) = mpsc::channel(JOBS_MAX);
    let lane = |name: &str| {
        let (reads, waiting) = sync_channel::<Read>(READS_MAX);
        let reader = reader.clone();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || read_all(&reader, &waiting))?;
        std::io::Result::Ok((reads, thread))
    };
    let (ends, ended) = sync_channel(0);
    let disk = store.disk().clone();
    Builder::new()
        .name("store-watch".to_owned())
        .spawn(move || watch(&disk, &ended))?;
    let writer = Writer {
        store,
        _ends: ends,
        desired: lane("store-desired")?,
        answers: lane("store-answers")?,
        durable,
    };
    let thread = Builder::new()
        .name("store-write".to_owned())
        .spawn(move || writer.run(inbox))?;
    Ok((jobs, thread))
}

/// A flush or compaction that fails, on a full disk say, is told to nobody: RocksDB tries it again, while what it cannot
/// flush gathers, until writes stand still. A failed write ends the process, whoever made it.
fn watch(disk: &Disk, ended: &Receiver<()>) {
    while ended.recv_timeout(WATCH_EVERY) == Err(RecvTimeoutError::Timeout) {
        if disk.failed_in_background() {
            panic!(
                "data_dir {}: RocksDB could not write its files, so this server stops; see LOG there, and whether the disk is full",
                disk.dir.display()
            );
        }
    }
}

fn read_all(reader: &Reader, waiting: &Receiver<Read>) {
    while let Ok(read) = waiting.recv() {
        read(Some(reader));
    }
}

type ReadThread = (SyncSender<Read>, JoinHandle<()>);

struct Writer {
    store: Store,
    /// Dropped at the end.
    _ends: SyncSender<()>,
    desired: ReadThread,
    answers: ReadThread,
    durable: Durable,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Queued>) {
        while let Some((since, job)) = jobs.blocking_recv() {
            telemetry::order_waited(since.elapsed());
            telemetry::store_queue(jobs.len());
            match job {
                Job::Persist(order, received) => self.persist(*order, received),
                Job::Read(lane, read) => {
                    let lane = match lane {
                        Lane::Desired => &self.desired.0,
                        Lane::Answers => &self.answers.0,
                    };
                    // A lane ends only with this thread, or by a panic, which ends the process. The writer waits for
                    // no reader.
                    if let Err(TrySendError::Full(read)) = lane.try_send(read) {
                        read(None);
                    }
                }
                Job::Snapshot(out) => send_snapshot(self.store.disk().clone(), out),
                Job::Stop(done) => {
                    if let Err(error) = self.store.flush() {
                        tracing::error!(%error, "the last writes could not be made durable");
                    }
                    self.end();
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.end();
    }

    /// Lets the reads end that were asked for.
    fn end(self) {
        for (reads, thread) in [self.desired, self.answers] {
            drop(reads);
            let _ = thread.join();
        }
    }

    fn persist(&mut self, mut order: Persist, received: Option<Aside>) {
        let sends = std::mem::take(&mut order.sends_after);
        let begun = Instant::now();
        self.store.write(&order, received);
        telemetry::store_wrote(begun.elapsed(), order.sync, order.entries.len());
        if order.id != PersistId(0) {
            (self.durable)(order.id, sends);
        }
    }
}

/// Pins the disk as it is now, then sends it from a thread of its own.
fn send_snapshot(disk: Arc<Disk>, out: mpsc::Sender<SnapshotChunk>) {
    let (pinned, wait) = sync_channel(1);
    let work = move || {
        let pin = || {
            let _ = pinned.send(());
        };
        match chunks(&disk, pin, |chunk| out.blocking_send(chunk).is_ok()) {
            Ok(_) => {}
            Err(error) => panic!(
                "data_dir {}: a read failed, so this server stops: {error}",
                disk.dir.display()
            ),
        }
    };
    match Builder::new().name("store-snapshot".to_owned()).spawn(work) {
        // What comes next in the queue must not be in the snapshot.
        Ok(_) => drop(wait.recv()),
        Err(error) => tracing::warn!(%error, "no thread for a snapshot; the follower will ask again"),
    }
}
