//! Where the built binaries are.

use std::env;
use std::path::PathBuf;

/// The path of the built binary `name` (`"rebound"`, `"rebound-agent"`).
///
/// Cargo names binaries only to tests of their own package, so it is looked for where cargo leaves it: in the
/// folder above the running test's own (`release/deps/`), which holds whatever the target directory is.
///
/// # Panics
///
/// When it is not there, with the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("a test lies in <target>/release/deps");
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --release --locked --workspace --bins` first (`make test` does)",
        path.display()
    );
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "run `cargo build --release --locked --workspace --bins` first")]
    fn a_missing_binary_says_how_to_build_it() {
        binary("rebound-of-nowhere");
    }
}
