//! A perfect disk in memory: what was ordered is written whole and in order, at once or when it is told to.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::replica::Recovered;
use rebound_core::state::{Plant, State};
use rebound_core::types::{Index, PersistId, ReplicaId, Term};

/// What is written.
#[derive(Clone, Default)]
pub struct Image {
    hard_state: Option<Bytes>,
    compacted: (Index, Term),
    log: BTreeMap<Index, Bytes>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Image {
    /// The state, built from its records.
    pub fn load_state(&self) -> State {
        let pairs = self
            .state
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()));
        State::load(pairs, Plant::None).expect("records of our own are readable")
    }

    fn write(&mut self, order: &mut Persist, received: Option<Image>) {
        if let Some(at) = order.install {
            self.state = received.expect("an install follows a received snapshot").state;
            self.log.clear();
            self.compacted = at;
        }
        if let Some((first, _)) = order.entries.first() {
            self.log.split_off(first);
            self.log.extend(order.entries.drain(..));
        }
        if order.hard_state.is_some() {
            self.hard_state = order.hard_state.take();
        }
        for (key, value) in order.state.drain(..) {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        if let Some((index, term)) = order.compacted {
            self.log = self.log.split_off(&(index + 1));
            self.compacted = (index, term);
        }
    }
}

/// One server's disk.
#[derive(Default)]
pub struct Disk {
    /// Orders wait until they are told to be written.
    pub slow: bool,
    /// What a reader finds.
    pub image: Image,
    /// A snapshot that came and is not yet installed.
    pub received: Option<Image>,
    orders: VecDeque<Persist>,
}

/// An order that was written: its id, if somebody waits for it, and the messages that may go now.
pub type Written = (Option<PersistId>, Vec<(ReplicaId, Bytes)>);

impl Disk {
    /// Takes an order.
    pub fn order(&mut self, order: Persist) {
        self.orders.push_back(order);
    }

    /// Writes the oldest order.
    pub fn write(&mut self) -> Option<Written> {
        let mut order = self.orders.pop_front()?;
        let received = order.install.and_then(|_| self.received.take());
        self.image.write(&mut order, received);
        Some((Some(order.id).filter(|id| id.0 != 0), order.sends_after))
    }

    /// Power is cut: what was not written is gone.
    pub fn crash(&mut self) {
        self.orders.clear();
        self.received = None;
    }

    /// What a server finds when it starts.
    pub fn recover(&self) -> Recovered {
        Recovered {
            hard_state: self.image.hard_state.clone(),
            compacted: self.image.compacted,
            entries: self.image.log.values().cloned().collect(),
            state: self.image.load_state(),
        }
    }
}
