//! The photos of a job: gathered from paths, URIs, directories, globs and lists, as URIs.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{Mistake, SpecError, read_file};
use crate::limits::{PHOTO_FOLDERS_DEEP_MAX, SUBMIT_PHOTOS_MAX, URI_BYTES_MAX};

/// Characters of a path that a URI shows as they are.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'+')
    .remove(b'=');
/// Endings of photos' names, in lower case.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// One source of photos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Photos {
    /// One photo: a path, a `file://` URI or an `http(s)://` URL.
    One(String),
    /// All photos in a directory and below it.
    Dir(PathBuf),
    /// All files that match a pattern.
    Glob(String),
    /// A file with a path or URI on each line.
    List(PathBuf),
}

/// Gathers photos, in the order of their sources; those of a directory or glob by name.
#[derive(Debug)]
pub struct Gather {
    /// What relative paths are relative to.
    base: PathBuf,
    uris: Vec<String>,
}

impl Gather {
    /// Relative paths are taken from `base`, which must be absolute.
    pub fn new(base: PathBuf) -> Self {
        Self {
            base,
            uris: Vec::new(),
        }
    }

    /// The URIs gathered so far.
    pub fn finish(self) -> Vec<String> {
        self.uris
    }

    /// Adds what a source names.
    pub fn add(&mut self, photos: &Photos) -> Result<(), SpecError> {
        let blame = |mistake: Mistake| SpecError::of_file("", mistake.0);
        match photos {
            Photos::One(text) => self.add_one(text).map_err(blame),
            Photos::Dir(path) => self.add_dir(path).map_err(blame),
            Photos::Glob(pattern) => self.add_glob(pattern).map_err(blame),
            Photos::List(path) => {
                let path = self.base.join(path);
                let text = read_file(&path)?;
                let base = path.parent().unwrap_or(&self.base).to_path_buf();
                self.add_lines(&path.display().to_string(), &text, base)
            }
        }
    }

    /// Adds a path or URI a line; empty lines and those that begin with `#` are left out.
    pub fn add_lines(&mut self, file: &str, text: &str, base: PathBuf) -> Result<(), SpecError> {
        let outer = std::mem::replace(&mut self.base, base);
        let added = text.lines().zip(1..).try_for_each(|(line, number)| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return Ok(());
            }
            self.add_one(line).map_err(|mistake| SpecError {
                file: file.into(),
                line: number,
                column: 1,
                field: String::new(),
                message: mistake.0,
            })
        });
        self.base = outer;
        added
    }

    fn add_one(&mut self, text: &str) -> Result<(), Mistake> {
        let uri = uri(&self.base, text)?;
        self.push(uri)
    }

    fn add_dir(&mut self, path: &Path) -> Result<(), Mistake> {
        let root = self.base.join(path);
        let mut found = Vec::new();
        walk(&root, PHOTO_FOLDERS_DEEP_MAX, &mut found)?;
        if found.is_empty() {
            return Err(format!("{} has no photos ({})", root.display(), ENDINGS.join(", ")).into());
        }
        found.sort();
        found.iter().try_for_each(|path| self.push(file_uri(path)))
    }

    fn add_glob(&mut self, pattern: &str) -> Result<(), Mistake> {
        // The base is a path as it is, whatever characters it has.
        let base = glob::Pattern::escape(&format!("{}/", self.base.display()));
        let whole = if pattern.starts_with('/') {
            pattern.to_string()
        } else {
            format!("{base}{pattern}")
        };
        let paths =
            glob::glob(&whole).map_err(|error| format!("{pattern} is not a pattern: {}", error.msg))?;
        let before = self.uris.len();
        for path in paths {
            let path = path.map_err(|error| format!("{}: {}", error.path().display(), error.error()))?;
            if path.is_file() {
                self.push(file_uri(&path))?;
            }
        }
        if self.uris.len() == before {
            return Err(format!("no file matches {pattern}").into());
        }
        Ok(())
    }

    fn push(&mut self, uri: String) -> Result<(), Mistake> {
        if uri.len() > URI_BYTES_MAX {
            return Err(format!(
                "a URI of {} bytes; at most {URI_BYTES_MAX} are allowed",
                uri.len()
            )
            .into());
        }
        if self.uris.len() >= SUBMIT_PHOTOS_MAX {
            return Err(format!("more than {SUBMIT_PHOTOS_MAX} photos; submit them in parts").into());
        }
        self.uris.push(uri);
        Ok(())
    }
}

/// Whether a file's name ends like a photo's.
pub fn is_photo(path: &Path) -> bool {
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Whether a text has characters that only a pattern has.
pub fn looks_like_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Photos in `dir` and below. Hidden entries and links to directories are passed over.
fn walk(dir: &Path, deep: usize, found: &mut Vec<PathBuf>) -> Result<(), Mistake> {
    let unreadable = |error: std::io::Error| Mistake(format!("{} cannot be read: {error}", dir.display()));
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if deep == 0 {
                return Err(format!(
                    "{} is more than {PHOTO_FOLDERS_DEEP_MAX} folders deep",
                    path.display()
                )
                .into());
            }
            walk(&path, deep - 1, found)?;
        } else if is_photo(&path) && path.is_file() {
            if found.len() >= SUBMIT_PHOTOS_MAX {
                return Err(format!("more than {SUBMIT_PHOTOS_MAX} photos; submit them in parts").into());
            }
            found.push(path);
        }
    }
    Ok(())
}

/// The URI of a photo named by a path or a URI.
fn uri(base: &Path, text: &str) -> Result<String, Mistake> {
    if text.is_empty() {
        return Err("is empty; write a path, a file:// URI or a URL".into());
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(file_uri(&base.join(text)));
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme {
        return Ok(file_uri(&base.join(text)));
    }
    let web = matches!(scheme, "http" | "https");
    if scheme != "file" && !web {
        return Err(format!("{scheme}:// is not supported; file://, http:// and https:// are").into());
    }
    if web && rest.split(['/', '?', '#']).next().is_none_or(str::is_empty) {
        return Err(format!("{scheme}:// needs a host: {scheme}://photos.example/1.jpg").into());
    }
    if !web && !rest.starts_with('/') {
        return Err("a file:// URI needs an absolute path: file:///folder/photo.jpg".into());
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err("a URI with a space or control character; write %20, or give the plain path".into());
    }
    Ok(text.to_string())
}

/// `file://` and the path, percent-encoded; `.` parts are taken out, links are not followed.
pub fn file_uri(path: &Path) -> String {
    let plain: PathBuf = path.components().collect();
    format!("file://{}", percent_encode(plain.as_os_str().as_bytes(), PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<String, Mistake> {
        uri(Path::new("/base"), text)
    }

    #[test]
    fn paths_become_uris() {
        let table = [
            ("/a/b.jpg", "file:///a/b.jpg"),
            ("b.jpg", "file:///base/b.jpg"),
            ("./x/./b c#1.jpg", "file:///base/x/b%20c%231.jpg"),
            ("100%.jpg", "file:///base/100%25.jpg"),
            ("é.jpg", "file:///base/%C3%A9.jpg"),
            ("file:///a/b%20c.jpg", "file:///a/b%20c.jpg"),
            ("a b://c", "file:///base/a%20b%3A/c"),
            ("https://h/a.jpg?sign=x", "https://h/a.jpg?sign=x"),
        ];
        for (text, wanted) in table {
            assert_eq!(one(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn other_uris_are_refused() {
        let table = [
            (
                "s3://bucket/key",
                "s3:// is not supported; file://, http:// and https:// are",
            ),
            (
                "https:///a.jpg",
                "https:// needs a host: https://photos.example/1.jpg",
            ),
            (
                "file://host/a.jpg",
                "a file:// URI needs an absolute path: file:///folder/photo.jpg",
            ),
            (
                "file:///a b.jpg",
                "a URI with a space or control character; write %20, or give the plain path",
            ),
            ("", "is empty; write a path, a file:// URI or a URL"),
        ];
        for (text, message) in table {
            assert_eq!(one(text), Err(Mistake(message.into())), "{text}");
        }
    }

    #[test]
    fn directories_globs_and_lists() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("sub/.hidden")).expect("folders");
        for name in [
            "b.JPG",
            "a [1].png",
            "note.txt",
            "sub/c.webp",
            ".d.jpg",
            "sub/.hidden/e.jpg",
        ] {
            fs::write(at(name), "x").expect("a file");
        }
        fs::write(at("list"), "# shelf 12\nb.JPG\n\n  file:///elsewhere/x.jpg\n").expect("a list");
        let base = file_uri(dir.path());
        let gather = |photos: &Photos| {
            let mut gather = Gather::new(dir.path().to_path_buf());
            gather.add(photos).map(|()| gather.finish())
        };
        let wanted = [
            format!("{base}/a%20%5B1%5D.png"),
            format!("{base}/b.JPG"),
            format!("{base}/sub/c.webp"),
        ];
        assert_eq!(gather(&Photos::Dir(".".into())).as_deref(), Ok(&wanted[..]));
        assert_eq!(
            gather(&Photos::Glob("*/*.webp".into())).as_deref(),
            Ok(&wanted[2..])
        );
        let listed = [format!("{base}/b.JPG"), "file:///elsewhere/x.jpg".to_string()];
        assert_eq!(gather(&Photos::List("list".into())).as_deref(), Ok(&listed[..]));

        let message = |photos: &Photos| gather(photos).expect_err("nothing to find").to_string();
        assert_eq!(message(&Photos::Glob("*.gif".into())), "no file matches *.gif");
        assert!(message(&Photos::Glob("a[".into())).starts_with("a[ is not a pattern: "));
        assert!(message(&Photos::Dir("sub/.hidden/none".into())).contains("cannot be read: No such file"));
        fs::write(at("list"), "a.jpg\ns3://b/c\n").expect("a list");
        let file = at("list").display().to_string();
        let wanted = format!("{file}:2:1: s3:// is not supported; file://, http:// and https:// are");
        assert_eq!(message(&Photos::List("list".into())), wanted);
    }

    #[test]
    fn the_length_of_a_uri_is_bounded() {
        let mut gather = Gather::new("/".into());
        let head = "file:///";
        let longest = format!("{head}{}", "x".repeat(URI_BYTES_MAX - head.len()));
        gather.add(&Photos::One(longest.clone())).expect("at the limit");
        let error = gather
            .add(&Photos::One(format!("{longest}x")))
            .expect_err("one over");
        assert_eq!(error.to_string(), "a URI of 1025 bytes; at most 1024 are allowed");
    }
}
