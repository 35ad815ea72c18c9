//! Records that are no longer what was written. Each record has a checksum; it is written down here only for those
//! that no longer match theirs.

use std::fmt;

use bytes::Bytes;
use rebound_core::types::Index;
use xxhash_rust::xxh3::xxh3_64;

use super::Image;
use crate::rng::Rng;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    HardState,
    Log(Index),
    State(Vec<u8>),
    Kept(Vec<u8>),
}

/// What was written: its checksum, beside each record, and its bytes, in the good copy.
#[derive(Clone)]
pub(super) struct Original {
    sum: u64,
    bytes: Vec<u8>,
}

/// A record whose checksum does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(pub Place);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::HardState => write!(f, "the hard state"),
            Place::Log(index) => write!(f, "entry {index}"),
            Place::State(_) => write!(f, "a record of the state"),
            Place::Kept(_) => write!(f, "a kept record"),
        }?;
        write!(f, " does not match its checksum")
    }
}

impl Image {
    /// Some record; each kind is as likely as the others.
    pub(super) fn any_place(&self, rng: &mut Rng) -> Option<Place> {
        fn key(of: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>, rng: &mut Rng) -> Option<Vec<u8>> {
            of.keys()
                .nth(rng.within(0, (of.len() as u64).checked_sub(1)?) as usize)
                .cloned()
        }
        let place = match rng.within(0, 3) {
            0 => self.hard_state.as_ref().map(|_| Place::HardState),
            1 => key(&self.state, rng).map(Place::State),
            2 => key(&self.kept, rng).map(Place::Kept),
            _ => None,
        };
        let last = self.log.len() as u64;
        let in_log = |rng: &mut Rng| {
            let at = rng.within(0, last.checked_sub(1)?) as usize;
            self.log.keys().nth(at).map(|index| Place::Log(*index))
        };
        place.or_else(|| in_log(rng))
    }

    /// The bytes of a record.
    pub(super) fn record(&self, place: &Place) -> Option<&[u8]> {
        match place {
            Place::HardState => self.hard_state.as_deref(),
            Place::Log(index) => self.log.get(index).map(|bytes| &bytes[..]),
            Place::State(key) => self.state.get(key).map(Vec::as_slice),
            Place::Kept(key) => self.kept.get(key).map(Vec::as_slice),
        }
    }

    fn set(&mut self, place: &Place, bytes: Vec<u8>) {
        match place {
            Place::HardState => self.hard_state = Some(Bytes::from(bytes)),
            Place::Log(index) => drop(self.log.insert(*index, Bytes::from(bytes))),
            Place::State(key) => drop(self.state.insert(key.clone(), bytes)),
            Place::Kept(key) => drop(self.kept.insert(key.clone(), bytes)),
        }
    }

    /// Flips a bit of a record.
    pub(super) fn damage(&mut self, place: &Place, bit: u64) {
        let Some(bytes) = self
            .record(place)
            .map(<[u8]>::to_vec)
            .filter(|bytes| !bytes.is_empty())
        else {
            return;
        };
        let original = Original {
            sum: xxh3_64(&bytes),
            bytes: bytes.clone(),
        };
        let mut rotten = bytes;
        let at = (bit / 8) as usize % rotten.len();
        rotten[at] ^= 1 << (bit % 8);
        self.set(place, rotten);
        self.damaged.entry(place.clone()).or_insert(original);
    }

    /// Puts the good bytes back.
    pub(super) fn restore(&mut self) {
        for (place, original) in std::mem::take(&mut self.damaged) {
            self.set(&place, original.bytes);
        }
    }

    /// Reads the records that are `wanted`: each must match its checksum.
    pub fn verify(&self, wanted: impl Fn(&Place) -> bool) -> Result<(), Damage> {
        let bad = self.damaged.iter().find(|(place, original)| {
            wanted(place)
                && self
                    .record(place)
                    .is_none_or(|bytes| xxh3_64(bytes) != original.sum)
        });
        bad.map_or(Ok(()), |(place, _)| Err(Damage(place.clone())))
    }

    /// An entry of the log as it was written, whatever became of it. For checkers.
    pub fn as_written(&self, index: Index) -> Option<Bytes> {
        match self.damaged.get(&Place::Log(index)) {
            Some(original) => Some(Bytes::from(original.bytes.clone())),
            None => self.log.get(&index).cloned(),
        }
    }

    /// True when something is not what was written.
    pub fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// True when a server that starts would read something that is not what was written. For checkers: it looks at
    /// no checksum.
    pub fn is_unfit(&self) -> bool {
        self.damaged.keys().any(|place| !matches!(place, Place::Kept(_)))
    }
}
