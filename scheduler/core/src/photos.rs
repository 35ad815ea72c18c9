//! The URIs of consecutive photos, packed into one run of bytes: made once from what a client sent, then copied as it
//! is into log, disk and desired sets. First the bytes of each URI, an unsigned integer of 4 bytes (little-endian), then
//! the URIs one behind the other: so that any of them is found without reading those before it, and those of a run are
//! one piece. Lengths and not where each ends, though those need no adding up: lengths repeat, so that a disk's tables
//! compress them to almost nothing.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes in which it is said how many a URI has.
const LENGTH: usize = size_of::<u32>();

/// The URIs of consecutive photos, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Photos {
    count: u32,
    packed: Bytes,
}

impl Photos {
    /// Packs them, with one allocation; the URIs are gone through twice. One of more than 4 GiB is not sound.
    pub fn pack<'a>(uris: impl Iterator<Item = &'a str> + Clone) -> Photos {
        let (mut count, mut bytes) = (0, 0);
        for uri in uris.clone() {
            (count, bytes) = (count + 1, bytes + uri.len());
        }
        let mut packed = Vec::with_capacity(count * LENGTH + bytes);
        for uri in uris.clone() {
            packed.extend_from_slice(&(uri.len() as u32).to_le_bytes());
        }
        uris.for_each(|uri| packed.extend_from_slice(uri.as_bytes()));
        Photos {
            count: count as u32,
            packed: packed.into(),
        }
    }

    /// How many photos there are.
    pub fn len(&self) -> u64 {
        u64::from(self.count)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all URIs together.
    pub fn bytes(&self) -> usize {
        self.packed.len().saturating_sub(self.count as usize * LENGTH)
    }

    /// The bytes as they are, of which equal photos have the same.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// All URIs, in order; ends early where the bytes are none of ours.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.slice(0, self.len()).iter()
    }

    /// The URI of one photo; none where there is none, or the bytes are none of ours.
    pub fn get(&self, at: u64) -> Option<&str> {
        self.slice(at, 1).iter().next()
    }

    /// `count` photos from `from` on, or as many as there are.
    pub fn slice(&self, from: u64, count: u64) -> Slice<'_> {
        let from = from.min(self.len());
        let to = from.saturating_add(count).min(self.len());
        let table = self.count as usize * LENGTH;
        let (lengths, uris) = self.packed.split_at_checked(table).unwrap_or_default();
        let (before, lengths) = lengths
            .split_at_checked(from as usize * LENGTH)
            .unwrap_or_default();
        let lengths = lengths.get(..(to - from) as usize * LENGTH).unwrap_or_default();
        // None of ours says more than there is.
        let begin = total(before).min(uris.len());
        Slice {
            lengths,
            uris: &uris[begin..],
        }
    }

    /// True when the bytes are exactly so many URIs, each of them UTF-8.
    pub fn is_sound(&self) -> bool {
        let all = self.slice(0, self.len());
        let whole = all.iter().count() == self.count as usize;
        whole && total(all.lengths) == self.bytes()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Photos {
    fn from_iter<I: IntoIterator<Item = S>>(uris: I) -> Photos {
        let uris: Vec<S> = uris.into_iter().collect();
        Photos::pack(uris.iter().map(AsRef::as_ref))
    }
}

fn each(lengths: &[u8]) -> impl Iterator<Item = usize> {
    let lengths = lengths.as_chunks::<LENGTH>().0;
    lengths.iter().map(|length| u32::from_le_bytes(*length) as usize)
}

/// So many lengths are added up in a microsecond or two for the longest append.
fn total(lengths: &[u8]) -> usize {
    each(lengths).sum()
}

/// Consecutive photos of a list, which has the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    lengths: &'a [u8],
    /// Those of the list from the first of them on.
    uris: &'a [u8],
}

impl<'a> Slice<'a> {
    /// How many photos there are.
    pub fn len(&self) -> u64 {
        (self.lengths.len() / LENGTH) as u64
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes of their URIs together.
    fn bytes(&self) -> usize {
        total(self.lengths).min(self.uris.len())
    }

    /// The URIs, in order; ends early where the bytes are none of ours.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        let mut rest = self.uris;
        each(self.lengths).map_while(move |length| {
            let (uri, after) = rest.split_at_checked(length)?;
            rest = after;
            str::from_utf8(uri).ok()
        })
    }
}

/// URIs of consecutive photos, perhaps of several lists, as agents are told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// One behind the other.
    pub uris: String,
    /// Bytes of each.
    pub lengths: Vec<u32>,
}

impl Joined {
    /// Adds more, with at most two allocations, and says how many: fewer where the bytes are none of ours.
    pub fn add(&mut self, more: Slice) -> u64 {
        self.uris.reserve(more.bytes());
        self.lengths.reserve(more.len() as usize);
        let before = self.lengths.len();
        for uri in more.iter() {
            self.uris.push_str(uri);
            self.lengths.push(uri.len() as u32);
        }
        (self.lengths.len() - before) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(uris: &[String]) -> Joined {
        Joined {
            uris: uris.concat(),
            lengths: uris.iter().map(|uri| uri.len() as u32).collect(),
        }
    }

    proptest! {
        /// What goes in comes out, whole, one by one, and in any slice.
        #[test]
        fn photos_come_back(
            uris in prop::collection::vec(".{0,40}", 0..20),
            from in prop_oneof![0u64..25, Just(u64::MAX)],
            count in prop_oneof![0u64..25, Just(u64::MAX)],
        ) {
            let photos: Photos = uris.iter().collect();
            prop_assert!(photos.is_sound());
            prop_assert_eq!((photos.len(), photos.bytes()), (uris.len() as u64, uris.concat().len()));
            prop_assert!(photos.iter().eq(&uris));
            prop_assert!((0..25).map(|at| photos.get(at)).eq((0..25).map(|at| uris.get(at).map(String::as_str))));
            let part: Vec<String> = uris.iter().zip(0..).filter(|(_, at)| *at >= from).map(|(uri, _)| uri.clone())
                .take(usize::try_from(count).unwrap()).collect();
            let slice = photos.slice(from, count);
            prop_assert_eq!((slice.len(), slice.is_empty()), (part.len() as u64, part.is_empty()));
            prop_assert!(slice.iter().eq(&part));
            let mut twice = Joined::default();
            prop_assert_eq!([twice.add(slice), twice.add(slice)], [slice.len(); 2]);
            prop_assert_eq!(twice, joined(&[part.clone(), part].concat()));
        }

        /// Bytes of somebody else end the photos early and never more. What is taken for sound has one form only.
        #[test]
        fn other_bytes_are_no_photos(
            lengths in prop::collection::vec(0u32..8, 0..6),
            rest in prop::collection::vec(prop_oneof![Just(b'u'), any::<u8>()], 0..20),
            count in prop_oneof![0u32..10, Just(u32::MAX)],
            exact in any::<bool>(),
        ) {
            let count = if exact { lengths.len() as u32 } else { count };
            let lengths = lengths.iter().flat_map(|length| length.to_le_bytes());
            let photos = Photos { count, packed: lengths.chain(rest).collect() };
            let read = photos.iter().count() as u64;
            prop_assert!(read <= photos.len());
            let again: Photos = photos.iter().collect();
            prop_assert_eq!(photos.is_sound(), again == photos);
            let mut joined = Joined::default();
            let slice = photos.slice(1, 3);
            prop_assert_eq!(joined.add(slice), slice.iter().count() as u64);
            prop_assert_eq!(joined.lengths.iter().sum::<u32>() as usize, joined.uris.len());
            prop_assert!(joined.uris.len() <= photos.bytes());
            prop_assert_eq!(slice.iter().next(), photos.get(1));
        }
    }
}
