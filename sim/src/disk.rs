//! A disk as RocksDB uses one: a log of batches, some of them synced. A crash keeps everything up to the last sync
//! and any prefix of what follows.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::replica::{Recovered, parse_log_entry};
use rebound_core::state::{Plant, State};
use rebound_core::table::{Change, Corrupt};
use rebound_core::types::{Index, Term};

use crate::rng::Rng;

/// What a reader of the disk sees.
#[derive(Clone, Default)]
pub struct Image {
    hard_state: Option<Bytes>,
    compacted: (Index, Term),
    log: BTreeMap<Index, Bytes>,
    /// Entries that were cut from the log, kept for the checkers.
    pub archive: BTreeMap<Index, Bytes>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Kept records.
    pub kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One batch: all of it is there after a crash, or nothing.
#[derive(Clone, Default)]
struct Batch {
    entries: Vec<(Index, Bytes)>,
    hard_state: Option<Bytes>,
    install: Option<Box<Image>>,
    state: Vec<Change>,
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
    compacted: Option<(Index, Term)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.hard_state.is_none()
            && self.install.is_none()
            && self.state.is_empty()
            && self.kept.is_empty()
            && self.kept_gone.is_empty()
            && self.compacted.is_none()
    }
}

impl Image {
    fn write(&mut self, batch: &Batch) {
        if let Some(image) = &batch.install {
            let archive = std::mem::take(&mut self.archive);
            let hard_state = self.hard_state.take();
            *self = (**image).clone();
            self.archive = archive;
            self.hard_state = hard_state;
        }
        if let Some((first, _)) = batch.entries.first() {
            self.log.split_off(first);
            self.log.extend(batch.entries.iter().cloned());
        }
        if batch.hard_state.is_some() {
            self.hard_state.clone_from(&batch.hard_state);
        }
        for (key, value) in &batch.state {
            match value {
                Some(value) => self.state.insert(key.clone(), value.clone()),
                None => self.state.remove(key),
            };
        }
        self.kept.extend(batch.kept.iter().cloned());
        for (from, to) in &batch.kept_gone {
            let mut rest = self.kept.split_off(from);
            self.kept.append(&mut rest.split_off(to));
        }
        if let Some((index, term)) = batch.compacted {
            let rest = self.log.split_off(&(index + 1));
            self.archive.append(&mut self.log);
            self.log = rest;
            self.compacted = (index, term);
        }
    }

    /// The state alone, built from its records.
    pub fn load_state(&self, plant: Plant) -> Result<State, Corrupt> {
        State::load(
            self.state
                .iter()
                .map(|(key, value)| (key.as_slice(), value.as_slice())),
            plant,
        )
    }

    /// Entries of archive and log, in order.
    pub fn all_entries(&self) -> impl Iterator<Item = (Index, &Bytes)> {
        self.archive
            .iter()
            .chain(&self.log)
            .map(|(index, bytes)| (*index, bytes))
    }

    /// The list that holds a photo: its key is the last one not after the photo's.
    pub fn at_or_before(&self, key: &[u8]) -> Option<(&Vec<u8>, &Vec<u8>)> {
        self.kept.range(..=key.to_vec()).next_back()
    }
}

/// One server's disk.
#[derive(Default)]
pub struct Disk {
    durable: Image,
    /// Written, not yet durable.
    tail: VecDeque<(u64, Batch)>,
    current: Image,
    orders: u64,
}

impl Disk {
    /// What a reader sees now, durable or not.
    pub fn image(&self) -> &Image {
        &self.current
    }

    /// Writes an order, what must be synced first and then the rest; returns its number. `received` is the snapshot an install means.
    pub fn write(&mut self, order: &mut Persist, received: Option<Image>) -> u64 {
        let first = Batch {
            entries: std::mem::take(&mut order.entries),
            hard_state: order.hard_state.take(),
            install: order.install.map(|at| {
                let mut image = received.expect("an install follows a received snapshot");
                image.log.clear();
                image.archive.clear();
                image.hard_state = None;
                image.compacted = at;
                Box::new(image)
            }),
            ..Batch::default()
        };
        let second = Batch {
            state: std::mem::take(&mut order.state),
            kept: std::mem::take(&mut order.kept),
            kept_gone: std::mem::take(&mut order.kept_gone),
            compacted: order.compacted.take(),
            ..Batch::default()
        };
        self.orders += 1;
        for (half, batch) in [first, second].into_iter().enumerate() {
            self.current.write(&batch);
            self.tail.push_back((2 * self.orders + half as u64, batch));
        }
        self.orders
    }

    /// The order's first batch is durable, and all that was written before it.
    pub fn synced(&mut self, order: u64) {
        while self.tail.front().is_some_and(|(number, _)| *number <= 2 * order) {
            let (_, batch) = self.tail.pop_front().expect("just seen");
            self.durable.write(&batch);
        }
    }

    /// Power is cut: a prefix of what was not durable survives. True when something was lost.
    pub fn crash(&mut self, rng: &mut Rng) -> bool {
        let survive = rng.within(0, self.tail.len() as u64) as usize;
        let lost = self.tail.iter().skip(survive).any(|(_, batch)| !batch.is_empty());
        for (_, batch) in self.tail.drain(..).take(survive) {
            self.durable.write(&batch);
        }
        self.current = self.durable.clone();
        lost
    }

    /// What a server finds when it starts.
    pub fn recover(&self, plant: Plant) -> Recovered {
        let image = &self.current;
        let mut entries = Vec::new();
        for (at, (index, bytes)) in image.log.iter().enumerate() {
            assert_eq!(
                *index,
                image.compacted.0 + 1 + at as u64,
                "the log on disk has no gap"
            );
            assert_eq!(parse_log_entry(bytes).expect("readable").0, *index);
            entries.push(bytes.clone());
        }
        let state = image.load_state(plant).expect("records of our own are readable");
        Recovered {
            hard_state: image.hard_state.clone(),
            compacted: image.compacted,
            entries,
            state,
        }
    }
}
