//! The log in memory, as raft reads it. Writing to disk is the driver's; this is what is known here.

use std::collections::VecDeque;

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::storage::GetEntriesContext;
use raft::util::limit_size;
use raft::{RaftState, Storage, StorageError};

use crate::types::{Index, Term};

/// Entries after the compacted one, with what raft asks for besides.
pub struct LogCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last entry that was cut off.
    compacted: (Index, Term),
    /// What a snapshot made now would hold.
    pub applied: (Index, Term),
    /// raft's own.
    pub hard_state: HardState,
    /// Who votes, by the state at the applied index.
    pub conf_state: ConfState,
}

impl LogCache {
    /// A log that begins after `compacted`.
    pub fn new(
        compacted: (Index, Term),
        entries: Vec<Entry>,
        hard_state: HardState,
        conf_state: ConfState,
    ) -> LogCache {
        let mut log = LogCache {
            entries: VecDeque::new(),
            bytes: 0,
            compacted,
            applied: compacted,
            hard_state,
            conf_state,
        };
        log.append(&entries);
        log
    }

    /// First index that is here, or would be.
    pub fn first(&self) -> Index {
        self.compacted.0 + 1
    }

    /// Last index.
    pub fn last(&self) -> Index {
        self.compacted.0 + self.entries.len() as u64
    }

    /// Bytes of the entries' data.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Voters.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Adds entries; what is at and after the first of them goes.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index >= self.first(),
            "entry {} is before the log's first {}",
            first.index,
            self.first()
        );
        assert!(
            first.index <= self.last() + 1,
            "entry {} leaves a gap after {}",
            first.index,
            self.last()
        );
        while self.last() >= first.index {
            let cut = self.entries.pop_back().expect("not empty");
            self.bytes -= cut.data.len();
        }
        for entry in entries {
            assert_eq!(entry.index, self.last() + 1);
            self.bytes += entry.data.len();
            self.entries.push_back(entry.clone());
        }
    }

    /// Cuts off everything up to `index`. Returns the last entry cut, if any was.
    pub fn compact(&mut self, index: Index) -> Option<(Index, Term)> {
        let before = self.compacted;
        while self.first() <= index {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.data.len();
            self.compacted = (entry.index, entry.term);
        }
        (self.compacted != before).then_some(self.compacted)
    }

    /// A snapshot takes the place of everything.
    pub fn reset(&mut self, index: Index, term: Term) {
        self.entries.clear();
        self.bytes = 0;
        self.compacted = (index, term);
        self.applied = (index, term);
    }

    fn at(&self, index: Index) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.first())? as usize)
    }
}

impl Storage for LogCache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "raft asks up to {high} of a log that ends at {}",
            self.last()
        );
        let max_size: Option<u64> = max_size.into();
        let (mut found, mut size) = (Vec::new(), 0);
        for index in low..high {
            let entry = self.at(index).expect("within the log");
            size += u64::from(entry.compute_size());
            if max_size.is_some_and(|max| size > max) && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        limit_size(&mut found, max_size);
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.compacted.0 {
            return Ok(self.compacted.1);
        }
        if index < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.at(index)
            .map(|entry| entry.term)
            .ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Only the description: the driver adds the pairs.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.applied.0 == 0 || self.applied.0 < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.applied.0;
        meta.term = self.applied.1;
        *meta.mut_conf_state() = self.conf_state.clone();
        Ok(snapshot)
    }
}
