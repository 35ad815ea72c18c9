//! RocksDB's log of writes, before RocksDB reads it.
//!
//! RocksDB 11.8 reads a record for ever whose type is damaged into one that only recycled logs have (`log_reader.cc`,
//! `ReadPhysicalRecord`: a bad record that is not left behind); one bit is enough. Logs are never recycled here, so
//! such a type is damage. It is set to that of a whole record: the checksum covers the type, so RocksDB ends there as
//! with all other damage, or reads the record as it was written, if that bit was all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of a block: records do not cross its end (`log_format.h`).
const BLOCK: usize = 32 * 1024;
/// Bytes of a record's header: checksum, length, type.
const HEADER: usize = 7;
/// The type of a record that is whole.
const WHOLE: u8 = 1;

/// Types that only recycled logs have.
fn is_recycled(kind: u8) -> bool {
    matches!(kind, 5..=8 | 11 | 131)
}

/// Sets right what RocksDB would never get over, in all logs of a data directory. How many records that were.
pub(super) fn make_readable(dir: &Path) -> io::Result<usize> {
    let mut found = 0;
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|end| end == "log") {
            found += in_file(&path)?;
        }
    }
    Ok(found)
}

fn in_file(path: &Path) -> io::Result<usize> {
    let mut file = File::open(path)?;
    let (mut block, mut begin, mut places) = (Vec::with_capacity(BLOCK), 0, Vec::new());
    loop {
        block.clear();
        file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            break;
        }
        places.extend(in_block(&block).map(|place| begin + place as u64));
        begin += block.len() as u64;
    }
    if !places.is_empty() {
        let file = OpenOptions::new().write(true).open(path)?;
        for place in &places {
            file.write_all_at(&[WHOLE], *place)?;
        }
        file.sync_data()?;
    }
    Ok(places.len())
}

/// Places of types that should not be there, along the records of a block.
fn in_block(block: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    let headers = std::iter::from_fn(move || {
        let header = block.get(at..at + HEADER)?;
        let (length, kind) = (u16::from_le_bytes([header[4], header[5]]), header[6]);
        let place = at + HEADER - 1;
        at += HEADER + usize::from(length);
        // The rest of the block was never written.
        (kind != 0 || length != 0).then_some((kind, place))
    });
    headers
        .filter(|(kind, _)| is_recycled(*kind))
        .map(|(_, place)| place)
}
