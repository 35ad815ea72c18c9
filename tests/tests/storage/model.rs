//! What was written, batch by batch, and what any beginning of it comes to.

use std::collections::BTreeMap;

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::replica::{Recovered, decode_entry, encode_entry, parse_log_entry};
use rebound_core::state::{Plant, State};
use rebound_core::table::{Change, Digest};
use rebound_core::types::{Index, JobId, PersistId, Term};
use rebound_sim::disk::{Disk, Image};

use super::history::{History, Step};

/// Bytes of a cut that surely are one batch in the archive.
const CUT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One batch.
#[derive(Clone, Default)]
pub struct Piece {
    pub sync: bool,
    entries: Vec<(Index, Bytes)>,
    hard_state: Option<Bytes>,
    install: Option<((Index, Term), Image)>,
    state: Vec<Change>,
    kept: Vec<(Vec<u8>, Vec<u8>)>,
    kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
    digests: Vec<(Index, Digest)>,
    compacted: Option<(Index, Term)>,
}

impl Piece {
    /// As an order.
    pub fn persist(&self) -> Persist {
        Persist {
            id: PersistId(1),
            sync: self.sync,
            entries: self.entries.clone(),
            hard_state: self.hard_state.clone(),
            sends_after: Vec::new(),
            install: self.install.as_ref().map(|(at, _)| *at),
            state: self.state.clone(),
            kept: self.kept.clone(),
            kept_gone: self.kept_gone.clone(),
            compacted: self.compacted,
            digests: self.digests.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.persist().is_empty() && !self.sync
    }

    fn is_first(&self) -> bool {
        self.sync || self.hard_state.is_some() || !self.entries.is_empty()
    }

    fn write(&self, disk: &mut Disk) {
        let mut order = self.persist();
        if self.is_first() {
            let number = disk.write_first(&mut order, self.install.as_ref().map(|(_, image)| image.clone()));
            if self.sync {
                disk.synced(number);
            }
        } else {
            disk.write_second(&mut order);
        }
    }
}

/// All that a disk holds, to be compared.
#[derive(PartialEq, Eq)]
pub struct Found {
    hard_state: Option<Bytes>,
    compacted: (Index, Term),
    entries: Vec<Bytes>,
    applied: Index,
    /// Of a state that is not new.
    digest: Option<Digest>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Found {
    pub fn new(disk: &Recovered, kept: BTreeMap<Vec<u8>, Vec<u8>>) -> Found {
        let applied = disk.state.applied();
        let last = disk.compacted.0 + disk.entries.len() as u64;
        assert!(
            (disk.compacted.0..=last).contains(&applied),
            "applied {applied}, the log is from {} to {last}",
            disk.compacted.0
        );
        Found {
            hard_state: disk.hard_state.clone(),
            compacted: disk.compacted,
            entries: disk.entries.clone(),
            applied,
            digest: (applied > 0).then(|| disk.state.digest()),
            kept,
        }
    }

    /// What a simulated disk holds.
    pub fn of(disk: &Disk) -> Found {
        let recovered = disk.recover(Plant::None).expect("nothing is damaged");
        Found::new(&recovered, disk.image().kept.clone())
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "hard state {:?}, cut at {:?}, {} entries, applied {}, digest {:?}, {} kept records",
            self.hard_state.as_deref(),
            self.compacted,
            self.entries.len(),
            self.applied,
            self.digest,
            self.kept.len()
        )
    }
}

/// See the module.
pub struct Model {
    pub pieces: Vec<Piece>,
    /// Of these, so many are synced.
    pub durable: usize,
    /// A simulated disk that has them.
    pub live: Disk,
    pub state: State,
    /// Term, content and length on disk of each entry.
    log: BTreeMap<Index, (Term, Bytes, usize)>,
    compacted: (Index, Term),
    term: Term,
    history: History,
}

impl Model {
    pub fn new() -> Model {
        Model {
            pieces: Vec::new(),
            durable: 0,
            live: Disk::default(),
            state: new_state(),
            log: BTreeMap::new(),
            compacted: (0, 0),
            term: 1,
            history: History::new(),
        }
    }

    pub fn jobs(&self) -> Vec<JobId> {
        self.history.jobs.clone()
    }

    pub fn write(&mut self, piece: Piece) {
        piece.write(&mut self.live);
        let sync = piece.sync;
        self.pieces.push(piece);
        if sync {
            self.durable = self.pieces.len();
        }
    }

    fn replay(&self, pieces: usize) -> Disk {
        let mut disk = Disk::default();
        self.pieces
            .iter()
            .take(pieces)
            .for_each(|piece| piece.write(&mut disk));
        disk
    }

    /// What so many pieces come to.
    pub fn found(&self, pieces: usize) -> Found {
        Found::of(&self.replay(pieces))
    }

    /// Goes on from so many pieces, all of them durable.
    pub fn go_back(&mut self, pieces: usize) {
        self.pieces.truncate(pieces);
        self.durable = pieces;
        self.live = self.replay(pieces);
        self.live.synced(u64::MAX / 2);
        let disk = self.live.recover(Plant::None).expect("nothing is damaged");
        self.compacted = disk.compacted;
        let entry = |bytes: &Bytes| {
            let (index, term, data) = parse_log_entry(bytes).expect("an entry of our own");
            (index, (term, data, bytes.len()))
        };
        self.log = disk.entries.iter().map(entry).collect();
        self.state = match disk.state.applied() {
            0 => new_state(),
            _ => disk.state,
        };
        self.term += 1;
    }

    fn last(&self) -> Index {
        self.log.keys().next_back().copied().unwrap_or(self.compacted.0)
    }

    fn hard_state(&self, commit: Index) -> Bytes {
        fields(&[(0x08, self.term), (0x10, 1), (0x18, commit)], &[])
    }

    /// Entries over the last `back` ones, but never over what is applied.
    pub fn append(&mut self, back: u64, steps: &[Step], pad: usize) -> Piece {
        let first = self.last().saturating_sub(back).max(self.state.applied()) + 1;
        if first <= self.last() {
            self.term += 1;
            self.log.split_off(&first);
        }
        let mut piece = Piece {
            sync: true,
            hard_state: Some(self.hard_state(self.state.applied())),
            ..Piece::default()
        };
        for step in steps {
            let Some(entry) = self.history.entry(step, &self.state) else {
                continue;
            };
            let data = Bytes::from(entry.map(|entry| encode_entry(&entry)).unwrap_or_default());
            let index = self.last() + 1;
            let bytes = raft_entry(self.term, index, &data, pad);
            self.log.insert(index, (self.term, data, bytes.len()));
            piece.entries.push((index, bytes));
        }
        piece
    }

    /// Applies up to `count` entries: the commit index, not synced, then what came of it.
    pub fn apply(&mut self, count: u64) -> (Piece, Piece) {
        let to = self.last().min(self.state.applied() + count);
        if to == self.state.applied() {
            return (Piece::default(), Piece::default());
        }
        let commit = Piece {
            hard_state: Some(self.hard_state(to)),
            ..Piece::default()
        };
        let mut piece = Piece::default();
        for index in self.state.applied() + 1..=to {
            let (term, data, _) = self.log[&index].clone();
            self.apply_one(index, term, &data, &mut piece);
        }
        piece.state = self.state.settle();
        piece.digests.push((to, self.state.digest()));
        (commit, piece)
    }

    fn apply_one(&mut self, index: Index, term: Term, data: &[u8], piece: &mut Piece) {
        let entry = decode_entry(data).expect("an entry of our own");
        let applied = self.state.apply(index, term, entry.as_ref());
        self.history.learn(&applied);
        piece.kept.extend(applied.kept);
        piece.kept_gone.extend(applied.kept_gone);
    }

    /// Cuts the log so far behind what is applied; less where that is more than goes into the archive in one batch.
    pub fn compact(&mut self, behind: u64) -> Option<Piece> {
        let (mut bytes, mut to) = (0, self.compacted.0);
        for (index, (_, _, length)) in self.log.range(..=self.state.applied().saturating_sub(behind)) {
            bytes += length;
            if bytes < CUT_BYTES_MAX {
                to = *index;
            }
        }
        if to <= self.compacted.0 {
            return None;
        }
        self.compacted = (to, self.log[&to].0);
        self.log = self.log.split_off(&(to + 1));
        Some(Piece {
            compacted: Some(self.compacted),
            ..Piece::default()
        })
    }

    /// The order that installs a snapshot further by these steps, and all that is in the snapshot as one batch.
    pub fn further(&mut self, steps: &[Step]) -> (Piece, Piece) {
        // At least one entry, so that it is further.
        let behind = self.append(0, &[steps, &[Step::Empty]].concat(), 0);
        let mut kept = self.live.image().kept.clone();
        for (index, bytes) in &behind.entries {
            let (_, term, data) = parse_log_entry(bytes).expect("an entry of our own");
            assert!(self.state.applied() < *index);
            self.catch_up(*index - 1, &mut kept);
            self.apply_kept(*index, term, &data, &mut kept);
        }
        let mut whole = Piece::default();
        self.state.settle();
        self.state.dump(|key, value| whole.state.push((key, Some(value))));
        whole.kept = kept.into_iter().collect();
        let mut other = Disk::default();
        whole.write(&mut other);
        let at = (self.state.applied(), self.term);
        let piece = Piece {
            sync: true,
            hard_state: Some(self.hard_state(at.0)),
            install: Some((at, other.image().pairs())),
            ..Piece::default()
        };
        (piece, whole)
    }

    fn catch_up(&mut self, to: Index, kept: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        for index in self.state.applied() + 1..=to {
            let (term, data, _) = self.log[&index].clone();
            self.apply_kept(index, term, &data, kept);
        }
    }

    fn apply_kept(&mut self, index: Index, term: Term, data: &[u8], kept: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        let mut piece = Piece::default();
        self.apply_one(index, term, data, &mut piece);
        for (from, to) in piece.kept_gone {
            kept.retain(|key, _| *key < from || *key >= to);
        }
        kept.extend(piece.kept);
    }

    /// The snapshot is in place.
    pub fn installed(&mut self) {
        self.log.clear();
        self.compacted = (self.state.applied(), self.term);
    }
}

fn new_state() -> State {
    let mut state = State::new(Plant::None);
    state.settle();
    state
}

/// raft's entry as it is on the wire: term, index, data, and a context that only makes it long.
fn raft_entry(term: Term, index: Index, data: &[u8], pad: usize) -> Bytes {
    fields(
        &[(0x10, term), (0x18, index)],
        &[(0x22, data), (0x32, &vec![index as u8; pad])],
    )
}

/// Numbers and bytes as protobuf has them, under their tags.
fn fields(numbers: &[(u8, u64)], texts: &[(u8, &[u8])]) -> Bytes {
    let mut bytes = Vec::new();
    let varint = |bytes: &mut Vec<u8>, mut value: u64| {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    };
    for (tag, value) in numbers {
        bytes.push(*tag);
        varint(&mut bytes, *value);
    }
    for (tag, text) in texts {
        bytes.push(*tag);
        varint(&mut bytes, text.len() as u64);
        bytes.extend_from_slice(text);
    }
    bytes.into()
}
