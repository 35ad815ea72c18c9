//! Where ONNX Runtime's shared library is.
//!
//! The `ort` crate panics or hangs when the library is missing or too old, so the library is looked for,
//! opened and asked for its version here, before anything of `ort` is called.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Names the library's file, and nothing else is tried.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library's file name.
pub const LIBRARY_NAME: &str = "libonnxruntime.so";

/// Oldest version of ONNX Runtime that will do (major, minor), which is that of the C interface asked for.
pub const LEAST_VERSION: (u32, u32) = (1, 24);

/// Version of the C interface asked for.
const API_VERSION: u32 = 24;

/// A library that was opened and is recent enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its file.
    pub path: PathBuf,
    /// What it says its version is, e.g. `1.31.1`.
    pub version: String,
}

/// No usable library. Says what was tried and how to get one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("ONNX Runtime {}.{} or newer was not found; `make runtime` installs it, or set {LIBRARY_VARIABLE} to its file. Tried:{}",
    LEAST_VERSION.0, LEAST_VERSION.1, listed(.tried))]
pub struct RuntimeError {
    /// Each path with the reason why it would not do.
    pub tried: Vec<(PathBuf, String)>,
}

fn listed(tried: &[(PathBuf, String)]) -> String {
    tried.iter().fold(String::new(), |mut list, (path, why)| {
        let _ = write!(list, "\n  {}: {why}", path.display());
        list
    })
}

/// The first library that will do. If [`LIBRARY_VARIABLE`] is set, only that file is tried.
pub fn find() -> Result<Library, RuntimeError> {
    first_usable(&candidates(
        &|name| std::env::var_os(name).map(PathBuf::from),
        std::env::current_exe().ok().as_deref(),
    ))
}

/// The files to try, in order.
fn candidates(variable: &dyn Fn(&str) -> Option<PathBuf>, executable: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = variable(LIBRARY_VARIABLE).filter(|path| !path.as_os_str().is_empty()) {
        return vec![path];
    }
    let cache = variable("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    let cache = cache.or_else(|| Some(variable("HOME")?.join(".cache")));
    let beside = executable.and_then(Path::parent).map(PathBuf::from);
    let cached = cache.map(|dir| dir.join("rebound/onnxruntime"));
    let system = [
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ]
    .map(PathBuf::from);
    beside
        .into_iter()
        .chain(cached)
        .chain(system)
        .map(|dir| dir.join(LIBRARY_NAME))
        .collect()
}

fn first_usable(candidates: &[PathBuf]) -> Result<Library, RuntimeError> {
    let mut tried = Vec::new();
    for path in candidates {
        match probe(path) {
            Ok(version) => {
                return Ok(Library {
                    path: path.clone(),
                    version,
                });
            }
            Err(why) => tried.push((path.clone(), why)),
        }
    }
    Err(RuntimeError { tried })
}

/// The head of the C interface: `OrtApiBase` of onnxruntime_c_api.h, the same in all versions.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// Opens the file and asks its version. It stays open: `ort` opens it again.
fn probe(path: &Path) -> Result<String, String> {
    // A FIFO or a device would hang in dlopen.
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err("not a regular file".into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("not there".into()),
        Err(error) => return Err(error.to_string()),
    }
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| "its path has a NUL byte".to_string())?;
    // SAFETY: the name is a C string. What the file's initialisers do is as trusted as the file itself.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(format!("cannot be loaded: {}", last_error()));
    }
    // SAFETY: the handle is open and the name is a C string.
    let symbol = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return Err("is not ONNX Runtime: it has no OrtGetApiBase".into());
    }
    // SAFETY: this symbol has had this signature in every version, and the structure it gives lives as long
    // as the library, which is never closed.
    let (version, has_api) = unsafe {
        let get_base: unsafe extern "C" fn() -> *const ApiBase = std::mem::transmute(symbol);
        let base = get_base();
        if base.is_null() {
            return Err("gives no interface".into());
        }
        let version = ((*base).get_version)();
        if version.is_null() {
            return Err("does not say its version".into());
        }
        let version = CStr::from_ptr(version).to_string_lossy().into_owned();
        // Asked only of a version that has it: an older one prints a line of its own on stderr.
        (
            version.clone(),
            recent_enough(&version) && !((*base).get_api)(API_VERSION).is_null(),
        )
    };
    if has_api {
        Ok(version)
    } else {
        Err(format!("is version {version}, which is too old"))
    }
}

fn recent_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= LEAST_VERSION,
        _ => false,
    }
}

fn last_error() -> String {
    // SAFETY: dlerror gives null or a C string that is valid until the next dl* call of this thread.
    unsafe {
        let message = libc::dlerror();
        if message.is_null() {
            "no reason given".into()
        } else {
            CStr::from_ptr(message).to_string_lossy().into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_follow_the_documented_order() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/rep"));
        let found = candidates(&home, Some(Path::new("/opt/rebound/rebound-agent")));
        let expected = [
            "/opt/rebound/libonnxruntime.so",
            "/home/rep/.cache/rebound/onnxruntime/libonnxruntime.so",
            "/usr/local/lib/libonnxruntime.so",
            "/usr/lib/x86_64-linux-gnu/libonnxruntime.so",
            "/usr/lib/aarch64-linux-gnu/libonnxruntime.so",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        let named = |name: &str| (name == LIBRARY_VARIABLE).then(|| PathBuf::from("/x/y.so"));
        assert_eq!(candidates(&named, None), [PathBuf::from("/x/y.so")]);
        let cache = |name: &str| (name == "XDG_CACHE_HOME").then(|| PathBuf::from("/cache"));
        assert_eq!(
            candidates(&cache, None)[0],
            Path::new("/cache/rebound/onnxruntime/libonnxruntime.so")
        );
    }

    #[test]
    fn a_missing_or_foreign_library_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent.so");
        let text = dir.path().join("text.so");
        std::fs::write(&text, "not a library").unwrap();
        let error = first_usable(&[absent, dir.path().into(), text])
            .unwrap_err()
            .to_string();
        for part in [
            "make runtime",
            "absent.so: not there",
            ": not a regular file",
            "text.so: cannot be loaded",
        ] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn a_library_that_is_not_onnx_runtime_is_refused() {
        // Every Linux machine that runs this test has one of these.
        let libraries = [
            "/lib/x86_64-linux-gnu/libm.so.6",
            "/lib/aarch64-linux-gnu/libm.so.6",
            "/lib64/libm.so.6",
        ];
        let Some(library) = libraries.iter().map(Path::new).find(|path| path.exists()) else {
            return;
        };
        assert!(probe(library).unwrap_err().contains("OrtGetApiBase"));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(recent_enough("1.24.0") && recent_enough("1.31.1") && recent_enough("2.0"));
        assert!(
            !recent_enough("1.9.0")
                && !recent_enough("1.23.9")
                && !recent_enough("")
                && !recent_enough("x.y")
        );
    }
}
