//! What consecutive attempts gave, packed into one run of bytes: made once from a worker's report, then copied as it
//! is into log, disk and answers. A row is `started · took · length · output`: an unsigned, a zigzag and an unsigned
//! LEB128 integer (µs, µs, bytes), then the output.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Time;

/// What one attempt gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// By the worker's clock.
    pub started: Time,
    /// By the worker's clock.
    pub ended: Time,
    /// What the recogniser answered, or why it failed.
    pub output: &'a [u8],
}

/// What consecutive attempts gave, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    count: u32,
    packed: Bytes,
}

impl Rows {
    /// A single row.
    pub fn one(row: Row) -> Rows {
        let mut packing = Packing::default();
        packing.push(row);
        packing.done()
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        u64::from(self.count)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all rows together.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// All rows, in order; ends early where the bytes are none of ours.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let mut rest = &self.packed[..];
        (0..self.count).map_while(move |_| take_row(&mut rest))
    }

    /// The output of a row of these, with its own hold on the bytes.
    pub fn hold(&self, output: &[u8]) -> Bytes {
        self.packed.slice_ref(output)
    }

    /// `count` rows from `from` on, or as many as there are.
    pub fn slice(&self, from: u64, count: u64) -> Rows {
        if from == 0 && count >= self.len() {
            return self.clone();
        }
        let mut rest = &self.packed[..];
        let mut skip = |rows: u64| (0..rows).take_while(|_| take_row(&mut rest).is_some()).count();
        skip(from);
        let begin = self.packed.len() - rest.len();
        let mut rest = &self.packed[begin..];
        let taken = (0..count).take_while(|_| take_row(&mut rest).is_some()).count();
        let end = self.packed.len() - rest.len();
        Rows {
            count: taken as u32,
            packed: self.packed.slice(begin..end),
        }
    }

    /// True when the bytes are exactly so many rows.
    pub fn is_sound(&self) -> bool {
        let mut rest = &self.packed[..];
        (0..self.count).all(|_| take_row(&mut rest).is_some()) && rest.is_empty()
    }
}

/// Rows while they are put together.
#[derive(Default)]
pub struct Packing {
    count: u32,
    packed: Vec<u8>,
}

impl Packing {
    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        let took = row.ended.0.wrapping_sub(row.started.0) as i64;
        put(&mut self.packed, row.started.0);
        put(&mut self.packed, ((took << 1) ^ (took >> 63)) as u64);
        put(&mut self.packed, row.output.len() as u64);
        self.packed.extend_from_slice(row.output);
        self.count += 1;
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        u64::from(self.count)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// The rows.
    pub fn done(self) -> Rows {
        let Packing { count, packed } = self;
        let packed = packed.into();
        Rows { count, packed }
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return (shift < 63 || byte < 2).then_some(value);
        }
    }
    None
}

/// Takes a row off the front; leaves the bytes alone when there is none.
fn take_row<'a>(from: &mut &'a [u8]) -> Option<Row<'a>> {
    let mut rest = *from;
    let started = take(&mut rest)?;
    let took = take(&mut rest)?;
    let took = (took >> 1) as i64 ^ -((took & 1) as i64);
    let length = usize::try_from(take(&mut rest)?).ok()?;
    let (output, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(Row {
        started: Time(started),
        ended: Time(started.wrapping_add(took as u64)),
        output,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(rows: &[(u64, u64, Vec<u8>)]) -> Rows {
        let mut packing = Packing::default();
        for (started, ended, output) in rows {
            packing.push(Row {
                started: Time(*started),
                ended: Time(*ended),
                output,
            });
        }
        packing.done()
    }

    #[test]
    fn what_is_packed_counts_its_bytes() {
        let mut packing = Packing::default();
        assert_eq!(packing.bytes(), 0);
        packing.push(Row {
            started: Time(1),
            ended: Time(2),
            output: &[7; 100],
        });
        assert_eq!(packing.bytes(), 103);
    }

    /// An integer of ten bytes whose last has more than the one bit that is left of 64 is none of ours.
    #[test]
    fn integers_of_more_than_64_bits_are_refused() {
        let longest = |last: u8| [&[0xff; 9][..], &[last]].concat();
        assert_eq!(take(&mut &longest(1)[..]), Some(u64::MAX));
        assert_eq!(take(&mut &longest(2)[..]), None);
        assert_eq!(take(&mut &longest(0x81)[..]), None);
    }

    proptest! {
        /// What goes in comes out, whole, one by one, and in any slice.
        #[test]
        fn rows_come_back(
            rows in prop::collection::vec((any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
            from in 0u64..25,
            count in 0u64..25,
        ) {
            let packed = pack(&rows);
            prop_assert!(packed.is_sound());
            prop_assert_eq!(packed.len(), rows.len() as u64);
            let back: Vec<_> = packed.iter().map(|row| (row.started.0, row.ended.0, row.output.to_vec())).collect();
            prop_assert_eq!(&back, &rows);
            let expected: Vec<_> = rows.iter().skip(from as usize).take(count as usize).cloned().collect();
            prop_assert_eq!(packed.slice(from, count), pack(&expected));
            let held: Vec<_> = packed.iter().map(|row| packed.hold(row.output)).collect();
            prop_assert!(held.iter().zip(&rows).all(|(held, (.., output))| held == output));
        }

        /// Bytes of somebody else end the rows early and never more.
        #[test]
        fn other_bytes_are_no_rows(packed in prop::collection::vec(any::<u8>(), 0..200), count in 0u32..10) {
            let rows = Rows { count, packed: packed.into() };
            let read = rows.iter().count() as u64;
            prop_assert!(read <= rows.len());
            prop_assert!(!rows.is_sound() || read == rows.len());
            prop_assert!(rows.slice(1, 3).is_sound());
        }
    }
}
