//! Files and stdin as text: bounded, and valid UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::SpecError;
use crate::limits::SPEC_BYTES_MAX;

/// The text of a file of at most [`SPEC_BYTES_MAX`] bytes, without a byte order mark.
pub fn read_file(path: &Path) -> Result<String, SpecError> {
    let name = path.display().to_string();
    let file =
        File::open(path).map_err(|error| SpecError::of_file(&name, format!("cannot be read: {error}")))?;
    read(&name, file)
}

/// As [`read_file`], of stdin.
pub fn read_stdin() -> Result<String, SpecError> {
    read(STDIN, io::stdin().lock())
}

/// What stdin is called in messages.
pub const STDIN: &str = "<stdin>";

fn read(name: &str, source: impl Read) -> Result<String, SpecError> {
    let mut bytes = Vec::new();
    let read = source.take(SPEC_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| SpecError::of_file(name, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > SPEC_BYTES_MAX {
        return Err(SpecError::of_file(
            name,
            format!(
                "is longer than {} MiB; name the photos by dir or glob instead",
                SPEC_BYTES_MAX >> 20
            ),
        ));
    }
    let text =
        String::from_utf8(bytes).map_err(|error| not_utf8(name, error.as_bytes(), error.utf8_error()))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    })
}

fn not_utf8(name: &str, bytes: &[u8], error: std::str::Utf8Error) -> SpecError {
    let (good, bad) = bytes.split_at(error.valid_up_to().min(bytes.len()));
    let line_start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let before = good.get(line_start..).unwrap_or_default();
    let byte = bad.first().copied().unwrap_or_default();
    SpecError {
        file: name.into(),
        line: good.iter().filter(|b| **b == b'\n').count() as u64 + 1,
        column: String::from_utf8_lossy(before).chars().count() as u64 + 1,
        field: String::new(),
        message: format!("byte 0x{byte:02x} is not valid UTF-8; save the file as UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_utf8_is_pointed_at() {
        let error = read("a.yaml", &b"version: 1\nname: caf\xe9\n"[..]).expect_err("Latin-1 is refused");
        assert_eq!(
            error.to_string(),
            "a.yaml:2:10: byte 0xe9 is not valid UTF-8; save the file as UTF-8"
        );
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_text() {
        assert_eq!(read("a", &b"\xef\xbb\xbfx"[..]).as_deref(), Ok("x"));
    }

    #[test]
    fn the_size_is_bounded() {
        let limit = usize::try_from(SPEC_BYTES_MAX).expect("fits");
        let text = read("a", io::repeat(b'x').take(SPEC_BYTES_MAX)).expect("at the limit");
        assert_eq!(text.len(), limit);
        let error = read("a", io::repeat(b'x')).expect_err("one over, and no end");
        assert_eq!(
            error.to_string(),
            "a: is longer than 32 MiB; name the photos by dir or glob instead"
        );
    }
}
