//! Results that wait for their answers: which are spooled, which are under way on the present stream.

use std::collections::BTreeMap;

use rebound_proto::v1;

use super::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_RESULTS, MAX_BATCHES_IN_FLIGHT, MAX_RESULT_BYTES, RESEND_AFTER_US,
    RESULT_OVERHEAD_BYTES,
};
use super::{Spooled, TaskKey};

struct Entry {
    spooled: Spooled,
    /// The message of this stream that carries it.
    batch: Option<u64>,
}

pub(super) struct Outbox {
    max_results: usize,
    max_bytes: usize,
    /// How many the disk had at the start: the bound may have been lowered since.
    loaded: usize,
    /// In order of arrival.
    entries: BTreeMap<u64, Entry>,
    order_of: BTreeMap<TaskKey, u64>,
    bytes: usize,
    next_order: u64,
    /// First entry that is not sent on this stream.
    unsent_from: u64,
    /// Messages under way on this stream, with how many of their results are unanswered.
    batches: BTreeMap<u64, usize>,
    next_batch: u64,
    /// When a message went out while none was under way, or an answer came.
    progress_us: u64,
}

fn size_of(spooled: &Spooled) -> usize {
    spooled.result.output.len() + RESULT_OVERHEAD_BYTES
}

impl Outbox {
    pub fn new(max_results: usize, max_bytes: usize, spooled: Vec<Spooled>) -> Outbox {
        let mut outbox = Outbox {
            max_results,
            max_bytes,
            loaded: spooled.len(),
            entries: BTreeMap::new(),
            order_of: BTreeMap::new(),
            bytes: 0,
            next_order: 0,
            unsent_from: 0,
            batches: BTreeMap::new(),
            next_batch: 0,
            progress_us: 0,
        };
        for one in spooled {
            outbox.remove(TaskKey::of(&one.result));
            outbox.push(one);
        }
        outbox
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, key: TaskKey) -> bool {
        self.order_of.contains_key(&key)
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
        let order = self.next_order;
        self.next_order += 1;
        self.bytes += size_of(&spooled);
        let before = self.order_of.insert(TaskKey::of(&spooled.result), order);
        assert!(before.is_none(), "a second result of one attempt");
        self.entries.insert(order, Entry { spooled, batch: None });
    }

    /// The server answered; whether the result was here.
    pub fn answered(&mut self, key: TaskKey, now_us: u64) -> bool {
        let was_here = self.remove(key);
        if was_here {
            self.progress_us = now_us;
        }
        was_here
    }

    fn remove(&mut self, key: TaskKey) -> bool {
        let Some(order) = self.order_of.remove(&key) else {
            return false;
        };
        let Some(entry) = self.entries.remove(&order) else {
            return false;
        };
        self.bytes -= size_of(&entry.spooled);
        if let Some(batch) = entry.batch
            && let Some(left) = self.batches.get_mut(&batch)
        {
            *left -= 1;
            if *left == 0 {
                self.batches.remove(&batch);
            }
        }
        true
    }

    /// Removes what other clusters gave.
    pub fn keep_only(&mut self, cluster: &str) -> Vec<TaskKey> {
        let foreign = self
            .entries
            .values()
            .filter(|entry| entry.spooled.cluster != cluster);
        let keys: Vec<TaskKey> = foreign.map(|entry| TaskKey::of(&entry.spooled.result)).collect();
        for key in &keys {
            self.remove(*key);
        }
        keys
    }

    /// Nothing is under way any more: all of it is to be sent.
    pub fn send_again(&mut self) {
        self.unsent_from = 0;
        self.batches.clear();
        for entry in self.entries.values_mut() {
            entry.batch = None;
        }
    }

    /// When the wait for answers has been too long.
    pub fn resend_at(&self) -> u64 {
        if self.batches.is_empty() {
            u64::MAX
        } else {
            self.progress_us.saturating_add(RESEND_AFTER_US)
        }
    }

    /// The next message of results, if one is to be sent now.
    pub fn next_batch(&mut self, now_us: u64) -> Option<Vec<v1::AttemptResult>> {
        if self.batches.len() >= MAX_BATCHES_IN_FLIGHT {
            return None;
        }
        let mut results = Vec::new();
        let mut bytes = 0;
        for (order, entry) in self.entries.range_mut(self.unsent_from..) {
            let size = size_of(&entry.spooled);
            if !results.is_empty() && (results.len() == MAX_BATCH_RESULTS || bytes + size > MAX_BATCH_BYTES) {
                break;
            }
            bytes += size;
            entry.batch = Some(self.next_batch);
            self.unsent_from = order + 1;
            results.push(entry.spooled.result.clone());
        }
        if results.is_empty() {
            return None;
        }
        if self.batches.is_empty() {
            self.progress_us = now_us;
        }
        self.batches.insert(self.next_batch, results.len());
        self.next_batch += 1;
        Some(results)
    }

    pub fn check(&self) {
        assert_eq!(self.entries.len(), self.order_of.len());
        for (key, order) in &self.order_of {
            let entry = self.entries.get(order).expect("an order without its entry");
            assert_eq!(TaskKey::of(&entry.spooled.result), *key);
        }
        let bytes: usize = self.entries.values().map(|entry| size_of(&entry.spooled)).sum();
        assert_eq!(self.bytes, bytes);
        assert!(self.batches.len() <= MAX_BATCHES_IN_FLIGHT);
        for (batch, unanswered) in &self.batches {
            let here = self
                .entries
                .values()
                .filter(|entry| entry.batch == Some(*batch))
                .count();
            assert_eq!(here, *unanswered);
        }
        for (order, entry) in &self.entries {
            assert_eq!(
                entry.batch.is_some(),
                *order < self.unsent_from,
                "sent is what lies before the cursor"
            );
        }
        assert!(
            self.len() <= self.max_results.max(self.loaded).max(1),
            "more results than the spool may hold"
        );
    }
}
