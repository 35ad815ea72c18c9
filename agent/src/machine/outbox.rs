//! Results that wait for their answers: which are spooled, which are under way on the present stream.

use std::collections::{BTreeMap, VecDeque};

use rebound_proto::v1;

use super::columns;
use super::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_RESULTS, MAX_BATCHES_IN_FLIGHT, MAX_RESULT_BYTES, RESEND_AFTER_US,
    RESULT_OVERHEAD_BYTES, SMALL_BATCHES_IN_FLIGHT,
};
use super::pace::Ewma;
use super::{Attempt, Spooled, TaskKey, TaskRange};

struct Entry {
    spooled: Spooled,
    /// Rises with each arrival.
    order: u64,
    /// The message of this stream that carries it.
    batch: Option<u64>,
}

/// A message of results under way.
struct Batch {
    unanswered: usize,
    sent_us: u64,
}

pub(super) struct Outbox {
    max_results: usize,
    max_bytes: usize,
    /// How many the disk had at the start: the bound may have been lowered since.
    loaded: usize,
    entries: BTreeMap<TaskKey, Entry>,
    bytes: usize,
    next_order: u64,
    /// Not sent on this stream, by order of arrival. Some may have been answered all the same, and others may have come
    /// under their keys since.
    unsent: VecDeque<(u64, TaskKey)>,
    /// What is under way on this stream, as [`size_of`] counts it.
    sent_bytes: usize,
    /// Messages under way on this stream.
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
    /// From sending a message to the answer of its last result.
    answer: Ewma,
    /// When a message went out while none was under way, or an answer came.
    progress_us: u64,
}

/// A result that is gone.
struct Removed {
    /// It was the last unanswered one of its message, which was sent then.
    done: Option<u64>,
}

fn size_of(attempt: &Attempt) -> usize {
    attempt.output.len() + RESULT_OVERHEAD_BYTES
}

impl Outbox {
    pub fn new(max_results: usize, max_bytes: usize, spooled: Vec<Spooled>) -> Outbox {
        let mut outbox = Outbox {
            max_results,
            max_bytes,
            loaded: spooled.len(),
            entries: BTreeMap::new(),
            bytes: 0,
            next_order: 0,
            unsent: VecDeque::new(),
            sent_bytes: 0,
            batches: BTreeMap::new(),
            next_batch: 0,
            answer: Ewma::default(),
            progress_us: 0,
        };
        for one in spooled {
            outbox.remove(one.attempt.task);
            outbox.push(one);
        }
        outbox
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn contains(&self, task: TaskKey) -> bool {
        self.entries.contains_key(&task)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Spooled> {
        self.entries.values().map(|entry| &entry.spooled)
    }

    /// Whether `results` more fit, each as large as results may be. One always fits into an empty spool.
    pub fn has_room_for(&self, results: usize) -> bool {
        if self.entries.is_empty() && results <= 1 {
            return true;
        }
        let bytes = results.saturating_mul(MAX_RESULT_BYTES + RESULT_OVERHEAD_BYTES);
        self.entries.len().saturating_add(results) <= self.max_results
            && self.bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// Takes a result whose key it does not hold.
    pub fn push(&mut self, spooled: Spooled) {
        let task = spooled.attempt.task;
        self.bytes += size_of(&spooled.attempt);
        self.unsent.push_back((self.next_order, task));
        let entry = Entry {
            spooled,
            order: self.next_order,
            batch: None,
        };
        self.next_order += 1;
        let before = self.entries.insert(task, entry);
        assert!(before.is_none(), "a second result of one attempt");
    }

    /// The server answered for consecutive tasks; how many results of them were here.
    pub fn answered(&mut self, range: &TaskRange, now_us: u64) -> usize {
        let here = self.entries.range(range.first_key()..=range.last_key());
        let here: Vec<TaskKey> = here.map(|(task, _)| *task).collect();
        for task in &here {
            if let Some(sent_us) = self.remove(*task).and_then(|removed| removed.done) {
                self.answer.note(now_us.saturating_sub(sent_us));
            }
        }
        if !here.is_empty() {
            self.progress_us = now_us;
        }
        here.len()
    }

    /// µs from sending results to their answer; 0: none was answered yet.
    pub fn answer_us(&self) -> u64 {
        self.answer.us()
    }

    fn remove(&mut self, task: TaskKey) -> Option<Removed> {
        let entry = self.entries.remove(&task)?;
        let mut done = None;
        self.bytes -= size_of(&entry.spooled.attempt);
        if let Some(batch) = entry.batch
            && let Some(left) = self.batches.get_mut(&batch)
        {
            self.sent_bytes -= size_of(&entry.spooled.attempt);
            left.unanswered -= 1;
            if left.unanswered == 0 {
                done = Some(left.sent_us);
                self.batches.remove(&batch);
            }
        }
        Some(Removed { done })
    }

    /// Removes what other clusters gave.
    pub fn keep_only(&mut self, cluster: &str) -> Vec<TaskRange> {
        let foreign = |entry: &&Entry| *entry.spooled.cluster != *cluster;
        let keys = self.entries.values().filter(foreign);
        let keys: Vec<TaskKey> = keys.map(|entry| entry.spooled.attempt.task).collect();
        for task in &keys {
            self.remove(*task);
        }
        TaskRange::together(&keys)
    }

    /// Nothing is under way any more: all of it is to be sent.
    pub fn send_again(&mut self) {
        self.batches.clear();
        self.sent_bytes = 0;
        let mut all: Vec<(u64, TaskKey)> = Vec::with_capacity(self.entries.len());
        for (task, entry) in &mut self.entries {
            entry.batch = None;
            all.push((entry.order, *task));
        }
        all.sort_unstable();
        self.unsent = all.into();
    }

    /// When the wait for answers has been too long.
    pub fn resend_at(&self) -> u64 {
        if self.batches.is_empty() {
            u64::MAX
        } else {
            self.progress_us.saturating_add(RESEND_AFTER_US)
        }
    }

    /// Whether a message may go. One that is not full waits for the answers to those before: each message is an entry of
    /// the log, and what a busy cluster does for a small one it does for a large one too. An idle one answers at once.
    fn may_send(&self) -> bool {
        let sent: usize = self.batches.values().map(|batch| batch.unanswered).sum();
        let fills =
            self.entries.len() - sent >= MAX_BATCH_RESULTS || self.bytes - self.sent_bytes >= MAX_BATCH_BYTES;
        match fills {
            true => self.batches.len() < MAX_BATCHES_IN_FLIGHT,
            false => self.batches.len() < SMALL_BATCHES_IN_FLIGHT,
        }
    }

    /// The next message of results, if one is to be sent now.
    pub fn next_batch(&mut self, now_us: u64) -> Option<Vec<v1::ResultRun>> {
        if !self.may_send() {
            return None;
        }
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        while let Some((order, task)) = self.unsent.front() {
            let entry = self.entries.get_mut(task);
            let Some(entry) = entry.filter(|entry| entry.order == *order) else {
                self.unsent.pop_front();
                continue;
            };
            let size = size_of(&entry.spooled.attempt);
            if !tasks.is_empty() && (tasks.len() == MAX_BATCH_RESULTS || bytes + size > MAX_BATCH_BYTES) {
                break;
            }
            bytes += size;
            self.sent_bytes += size;
            entry.batch = Some(self.next_batch);
            tasks.push(*task);
            self.unsent.pop_front();
        }
        if tasks.is_empty() {
            return None;
        }
        if self.batches.is_empty() {
            self.progress_us = now_us;
        }
        let batch = Batch {
            unanswered: tasks.len(),
            sent_us: now_us,
        };
        self.batches.insert(self.next_batch, batch);
        self.next_batch += 1;
        let entries = tasks.iter().filter_map(|task| self.entries.get(task));
        Some(columns::together(
            entries.map(|entry| &entry.spooled.attempt).collect(),
        ))
    }

    pub fn check(&self) {
        let bytes: usize = self.iter().map(|spooled| size_of(&spooled.attempt)).sum();
        assert_eq!(self.bytes, bytes);
        let sent = self.entries.values().filter(|entry| entry.batch.is_some());
        let sent: usize = sent.map(|entry| size_of(&entry.spooled.attempt)).sum();
        assert_eq!(self.sent_bytes, sent);
        assert!(self.batches.len() <= MAX_BATCHES_IN_FLIGHT);
        for (batch, Batch { unanswered, .. }) in &self.batches {
            let of_batch = |entry: &&Entry| entry.batch == Some(*batch);
            assert_eq!(self.entries.values().filter(of_batch).count(), *unanswered);
        }
        let unsent = self.entries.iter().filter(|(_, entry)| entry.batch.is_none());
        let mut unsent: Vec<(u64, TaskKey)> = unsent.map(|(task, entry)| (entry.order, *task)).collect();
        unsent.sort_unstable();
        let mut queued: Vec<(u64, TaskKey)> = self.unsent.iter().copied().collect();
        queued.retain(|(order, task)| self.entries.get(task).is_some_and(|entry| entry.order == *order));
        assert_eq!(queued, unsent, "what is not under way waits to be sent, once");
        for (task, entry) in &self.entries {
            assert_eq!(*task, entry.spooled.attempt.task);
        }
        assert!(
            self.len() <= self.max_results.max(self.loaded).max(1),
            "more results than the spool may hold"
        );
    }
}
