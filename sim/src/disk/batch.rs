//! One batch of writes: all of it is there after a crash, or nothing.

use bytes::Bytes;
use rebound_core::io::Persist;
use rebound_core::table::Change;
use rebound_core::types::{Index, Term};
use xxhash_rust::xxh3::xxh3_64;

use super::Image;

/// See the module.
#[derive(Clone, Default)]
pub struct Batch {
    pub(super) entries: Vec<(Index, Bytes)>,
    pub(super) hard_state: Option<Bytes>,
    pub(super) install: Option<Box<Image>>,
    pub(super) state: Vec<Change>,
    pub(super) kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Ranges of kept records that go.
    pub(super) kept_gone: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) compacted: Option<(Index, Term)>,
}

/// Length and checksum before each record.
const HEAD: usize = 12;

impl Batch {
    /// What must be synced: entries, hard state, a received snapshot.
    pub(super) fn first(order: &mut Persist, received: Option<Image>) -> Batch {
        let install = order.install.map(|at| {
            let mut image = received.expect("an install follows a received snapshot");
            image.log.clear();
            image.hard_state = None;
            image.compacted = at;
            Box::new(image)
        });
        Batch {
            entries: std::mem::take(&mut order.entries),
            hard_state: order.hard_state.take(),
            install,
            ..Batch::default()
        }
    }

    /// The rest.
    pub(super) fn second(order: &mut Persist) -> Batch {
        Batch {
            state: std::mem::take(&mut order.state),
            kept: std::mem::take(&mut order.kept),
            kept_gone: std::mem::take(&mut order.kept_gone),
            compacted: order.compacted.take(),
            ..Batch::default()
        }
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.hard_state.is_none()
            && self.install.is_none()
            && self.state.is_empty()
            && self.kept.is_empty()
            && self.kept_gone.is_empty()
            && self.compacted.is_none()
    }

    /// Appends it to a log of records, as length, checksum and content.
    pub(super) fn frame(&self, log: &mut Vec<u8>) {
        let mut content = Vec::new();
        for (index, bytes) in &self.entries {
            content.extend_from_slice(&index.to_be_bytes());
            content.extend_from_slice(bytes);
        }
        content.extend(self.hard_state.iter().flatten());
        if let Some(image) = &self.install {
            content.extend(image.compacted.0.to_be_bytes());
            image
                .state
                .values()
                .chain(image.kept.values())
                .for_each(|value| content.extend_from_slice(value));
        }
        for (key, value) in &self.state {
            content.extend_from_slice(key);
            content.extend(value.iter().flatten());
        }
        for (key, value) in self.kept.iter().chain(&self.kept_gone) {
            content.extend_from_slice(key);
            content.extend_from_slice(value);
        }
        content.extend(self.compacted.iter().flat_map(|(index, _)| index.to_be_bytes()));
        log.extend_from_slice(&(content.len() as u32).to_be_bytes());
        log.extend_from_slice(&xxh3_64(&content).to_be_bytes());
        log.extend_from_slice(&content);
    }
}

/// How many records from the beginning are whole, and how many bytes follow that are none.
pub(super) fn whole_frames(log: &[u8]) -> (usize, usize) {
    let (mut whole, mut rest) = (0, log);
    while let Some((head, after)) = rest.split_at_checked(HEAD) {
        let length = head.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) as usize;
        let sum = head.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        match after.split_at_checked(length) {
            Some((content, next)) if xxh3_64(content) == sum => {
                whole += 1;
                rest = next;
            }
            _ => break,
        }
    }
    (whole, rest.len())
}
