//! Photos of `file://`: looked at where they are and read ahead, not copied.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rebound_proto::v1::Cause;

use super::FETCH_TIMEOUT;
use crate::machine::Failure;

/// Longest path taken, in bytes: Linux's own limit.
pub const MAX_PATH_BYTES: usize = 4096;

/// The path a `file://` URI names. What is wrong with the URI is the photo's fault ([`Cause::Input`]).
pub fn path_of(uri: &str) -> Result<PathBuf, Failure> {
    let wrong = |why: &str| {
        Failure::new(
            Cause::Input,
            format!("{uri:?} {why}; give file:///path/of/the/photo"),
        )
    };
    let rest = uri
        .strip_prefix("file://")
        .ok_or_else(|| wrong("is not a file:// URI"))?;
    let path = rest
        .strip_prefix("localhost")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(wrong("names another host or a relative path"));
    }
    let bytes = percent_decoded(path).ok_or_else(|| wrong("has a % without two hex digits behind it"))?;
    if bytes.contains(&0) {
        return Err(wrong("has a zero byte in its path"));
    }
    if bytes.len() > MAX_PATH_BYTES {
        return Err(wrong("has a path longer than 4096 bytes"));
    }
    let path = String::from_utf8(bytes).map_err(|_| wrong("has a path that is not UTF-8"))?;
    Ok(PathBuf::from(path))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push((high * 16 + low) as u8);
    }
    Some(decoded)
}

/// Looks at the photo of a URI and says where it is.
pub async fn look(uri: &str, max_photo_bytes: u64) -> Result<PathBuf, Failure> {
    let path = path_of(uri)?;
    let looked = tokio::task::spawn_blocking(move || look_at(&path, max_photo_bytes).map(|()| path));
    match tokio::time::timeout(FETCH_TIMEOUT, looked).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(Failure::new(
            Cause::Fetch,
            format!("the fetch was cut off: {error}"),
        )),
        Err(_) => Err(Failure::new(
            Cause::Fetch,
            format!("{uri} did not open within {FETCH_TIMEOUT:?}"),
        )),
    }
}

fn look_at(path: &Path, max_photo_bytes: u64) -> Result<(), Failure> {
    let name = path.display();
    let gone = |error: io::Error| Failure::new(Cause::Fetch, format!("{name} cannot be read: {error}"));
    let input = |message: String| Err(Failure::new(Cause::Input, message));
    // Not to wait for a writer, should it be a pipe.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(gone)?;
    let meta = file.metadata().map_err(gone)?;
    if !meta.is_file() {
        return input(format!("{name} is not a regular file"));
    }
    if meta.len() == 0 {
        return input(format!("{name} is empty"));
    }
    if meta.len() > max_photo_bytes {
        return input(format!(
            "{name} has {} bytes; at most {max_photo_bytes} are taken",
            meta.len()
        ));
    }
    // SAFETY: advice on an open descriptor; no memory of ours is touched.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(uri: &str) -> Cause {
        path_of(uri).unwrap_err().cause
    }

    #[test]
    fn file_uris_name_paths() {
        let path = |uri: &str| path_of(uri).unwrap().display().to_string();
        assert_eq!(path("file:///photos/a.jpg"), "/photos/a.jpg");
        assert_eq!(path("file://localhost/photos/a.jpg"), "/photos/a.jpg");
        assert_eq!(path("file:///shelf%201/caf%C3%A9+%25.jpg"), "/shelf 1/café+%.jpg");
    }

    #[test]
    fn other_uris_are_the_photos_fault() {
        let bad = [
            "",
            "/a.jpg",
            "s3://bucket/a.jpg",
            "file://",
            "file://a.jpg",
            "file://elsewhere/a.jpg",
            "file://localhost",
        ];
        let worse = [
            "file:///a%",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%00b",
            "file:///%ff.jpg",
            "file:///a%+1",
        ];
        for uri in bad.into_iter().chain(worse) {
            assert_eq!(cause(uri), Cause::Input, "{uri}");
        }
        assert_eq!(
            cause(&format!("file:///{}", "x".repeat(MAX_PATH_BYTES))),
            Cause::Input
        );
    }

    #[test]
    fn a_photo_is_a_regular_file_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let photo = dir.path().join("a.jpg");
        std::fs::write(&photo, [7; 100]).unwrap();
        assert!(look_at(&photo, 100).is_ok());
        let cause = |path: &Path, most| look_at(path, most).unwrap_err().cause;
        assert_eq!(cause(&photo, 99), Cause::Input);
        assert_eq!(cause(dir.path(), 100), Cause::Input);
        assert_eq!(cause(&dir.path().join("gone.jpg"), 100), Cause::Fetch);
        let empty = dir.path().join("empty.jpg");
        std::fs::write(&empty, []).unwrap();
        assert_eq!(cause(&empty, 100), Cause::Input);
        assert_eq!(cause(Path::new("/dev/null"), 100), Cause::Input);
    }
}
