//! Recognisers for tests: those that ship, and shell scripts.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree;

/// Where the recognisers that ship are.
pub fn shipped() -> PathBuf {
    tree::root().join("agent/recognisers")
}

/// Makes a recogniser of kind `command` in the folder `all` that runs a shell script with the photo's path as `$0`.
/// `manifest` is added to its manifest's head, `command` to its section `[command]`.
pub fn script(all: &Path, name: &str, script: &str, manifest: &str, command: &str) -> PathBuf {
    let folder = all.join(name);
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::write(folder.join("script.sh"), script).expect("a file can be written");
    let text = format!(
        "format = 1\nname = \"{name}\"\nkind = \"command\"\n{manifest}\n\
         [command]\nprogram = [\"/bin/sh\", \"-c\", '. ./script.sh']\n{command}\n"
    );
    fs::write(folder.join("manifest.toml"), text).expect("a file can be written");
    folder
}

/// Copies a recogniser that ships into the folder `all`.
pub fn copy_shipped(name: &str, all: &Path) -> PathBuf {
    let (from, to) = (shipped().join(name), all.join(name));
    fs::create_dir_all(&to).expect("a folder can be made");
    for entry in fs::read_dir(&from).expect("a recogniser that ships can be listed") {
        let entry = entry.expect("a recogniser that ships can be listed");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
    to
}

/// Whether ONNX Runtime's library is where the agent looks for it. If not, says so in one line: what needs it is
/// skipped.
pub fn runtime_is_here() -> bool {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let named = env::var_os("ORT_DYLIB_PATH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let file = named.or_else(|| Some(cache?.join("rebound/onnxruntime/libonnxruntime.so")));
    let here = file.is_some_and(|file| file.is_file());
    if !here {
        eprintln!("skipped: ONNX Runtime is not here; `make runtime` brings it");
    }
    here
}
