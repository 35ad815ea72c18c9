//! What a reader of a disk sees: records of each kind.

use std::collections::BTreeMap;

use bytes::Bytes;
use rebound_core::state::{Plant, State};
use rebound_core::table::Corrupt;
use rebound_core::types::{Index, Term};

use super::batch::Batch;
use super::rot::{Original, Place};

/// See the module.
#[derive(Clone, Default)]
pub struct Image {
    pub(super) hard_state: Option<Bytes>,
    pub(super) compacted: (Index, Term),
    pub(super) log: BTreeMap<Index, Bytes>,
    pub(super) state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Kept records.
    pub kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Records that are not what was written, with their checksum. All others match theirs.
    pub(super) damaged: BTreeMap<Place, Original>,
}

impl Image {
    pub(super) fn write(&mut self, batch: &Batch) {
        if let Some(image) = &batch.install {
            let hard_state = self.hard_state.take();
            *self = (**image).clone();
            self.hard_state = hard_state;
            self.damaged.clear();
        }
        if let Some((first, _)) = batch.entries.first() {
            self.log.split_off(first);
            self.log.extend(batch.entries.iter().cloned());
            let first = *first;
            self.heal(|place| matches!(place, Place::Log(index) if *index >= first));
        }
        if batch.hard_state.is_some() {
            self.hard_state.clone_from(&batch.hard_state);
            self.heal(|place| *place == Place::HardState);
        }
        for (key, value) in &batch.state {
            match value {
                Some(value) => self.state.insert(key.clone(), value.clone()),
                None => self.state.remove(key),
            };
            self.heal(|place| matches!(place, Place::State(damaged) if damaged == key));
        }
        self.kept.extend(batch.kept.iter().cloned());
        for (from, to) in &batch.kept_gone {
            let mut rest = self.kept.split_off(from);
            self.kept.append(&mut rest.split_off(to));
            self.heal(|place| matches!(place, Place::Kept(key) if from <= key && key < to));
        }
        if let Some((index, term)) = batch.compacted {
            self.log = self.log.split_off(&(index + 1));
            self.compacted = (index, term);
            self.heal(|place| matches!(place, Place::Log(damaged) if *damaged <= index));
        }
    }

    /// What is written anew is whole again.
    fn heal(&mut self, written: impl Fn(&Place) -> bool) {
        if !self.damaged.is_empty() {
            self.damaged.retain(|place, _| !written(place));
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

    /// raft's hard state.
    pub fn hard_state(&self) -> Option<&Bytes> {
        self.hard_state.as_ref()
    }

    /// The last entry that is here or was cut.
    pub fn last_index(&self) -> Index {
        self.log
            .last_key_value()
            .map_or(self.compacted.0, |(index, _)| *index)
    }

    /// Records of the state.
    pub fn records(&self) -> u64 {
        self.state.len() as u64
    }

    /// An entry of the log.
    pub fn entry(&self, index: Index) -> Option<&Bytes> {
        self.log.get(&index)
    }

    /// Entries of the log behind an index.
    pub fn entries_after(&self, index: Index) -> Vec<Bytes> {
        self.log
            .range(index + 1..)
            .map(|(_, bytes)| bytes.clone())
            .collect()
    }

    /// A record of the state.
    pub fn state_record(&self, key: &[u8]) -> Option<&[u8]> {
        self.state.get(key).map(Vec::as_slice)
    }

    /// The list that holds a photo: its key is the last one not after the photo's.
    pub fn at_or_before(&self, key: &[u8]) -> Option<(&Vec<u8>, &Vec<u8>)> {
        self.kept.range(..=key.to_vec()).next_back()
    }

    /// An image without its log and hard state: what a snapshot carries.
    pub fn pairs(&self) -> Image {
        Image {
            state: self.state.clone(),
            kept: self.kept.clone(),
            ..Image::default()
        }
    }
}
