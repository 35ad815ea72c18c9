//! The project's own files, as git sees them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's root.
pub fn root() -> PathBuf {
    // What cargo says now goes before what it said at compile time: two clones may share a target directory.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .parent()
        .expect("the tests lie in a folder of the project")
        .to_owned()
}

/// One file of the project.
#[derive(Debug)]
pub struct Source {
    /// From the root, with `/`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its text; nothing when it is not UTF-8 or is larger than [`TEXT_BYTES`].
    pub text: Option<String>,
}

/// A larger file is data, not text.
pub const TEXT_BYTES: u64 = 1 << 20;

/// All files that git knows or would add: tracked ones, and new ones that it does not ignore, so that a check bites
/// before the commit. Nothing, with a line that says so, where git or its directory is absent (a source archive).
pub fn files() -> Option<Vec<Source>> {
    let root = root();
    let listed = Command::new("git")
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output();
    let listed = match listed {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            eprintln!(
                "skipped: git cannot list the files: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Err(error) => {
            eprintln!("skipped: git cannot be run: {error}");
            return None;
        }
    };
    let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Some(
        paths
            .filter_map(|path| read(&root, &String::from_utf8_lossy(path)))
            .collect(),
    )
}

/// Nothing for a file that git still lists and the working tree has no more.
fn read(root: &Path, path: &str) -> Option<Source> {
    let bytes = fs::metadata(root.join(path))
        .ok()
        .filter(|meta| meta.is_file())?
        .len();
    let text = if bytes <= TEXT_BYTES {
        fs::read_to_string(root.join(path)).ok()
    } else {
        None
    };
    Some(Source {
        path: path.to_owned(),
        bytes,
        text,
    })
}
