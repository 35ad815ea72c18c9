//! The house rules, checked over every file that git knows or would add. Ratchets: they only ever get tighter.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use rebound_tests::rules;
use rebound_tests::tree::{self, Source};

/// Runs `check` on each file whose text it wants, and fails with every breach at once. Does nothing where git is
/// absent (`tree::files` says so).
fn each_text(wanted: impl Fn(&str) -> bool, check: impl Fn(&str, &str) -> Vec<String>) {
    let Some(files) = tree::files() else { return };
    let texts: Vec<_> = files
        .iter()
        .filter(|file| wanted(&file.path))
        .filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
        .collect();
    assert!(
        !texts.is_empty(),
        "no file to check: the rule looks in the wrong place"
    );
    no_breach(texts.iter().flat_map(|(path, text)| check(path, text)).collect());
}

#[track_caller]
fn no_breach(breaches: Vec<String>) {
    assert!(
        breaches.is_empty(),
        "{} against the house rules:\n  {}",
        breaches.len(),
        breaches.join("\n  ")
    );
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn is_member(path: &str) -> bool {
    path.ends_with("/Cargo.toml")
}

fn is_replicated_state(path: &str) -> bool {
    path.starts_with("scheduler/core/src/state") || path == "scheduler/core/src/table.rs"
}

fn is_pure(path: &str) -> bool {
    // The pricer's program reads files and the clock for its library.
    let pricer = path.starts_with("pricer/") && !path.starts_with("pricer/src/program");
    is_rust(path) && (path.starts_with("scheduler/core/") || path.starts_with("sim/") || pricer)
}

#[test]
fn rust_files_are_short() {
    each_text(is_rust, rules::length);
}

#[test]
fn nothing_is_left_open() {
    each_text(is_rust, rules::left_open);
}

#[test]
fn no_test_sleeps() {
    each_text(is_rust, rules::sleeps);
}

#[test]
fn members_keep_the_house() {
    each_text(is_member, |path, text| {
        rules::member(path, text).unwrap_or_else(|error| vec![error])
    });
}

#[test]
fn replicated_state_holds_no_floats() {
    each_text(is_replicated_state, rules::floats);
}

#[test]
fn nobody_lifts_the_bans_of_the_pure_packages() {
    each_text(is_pure, rules::bans_lifted);
}

/// Clippy reads the nearest clippy.toml; without these two the core could read a clock and nobody would see it.
#[test]
fn the_pure_packages_ban_clocks_and_hash_maps() {
    let must = [
        "std::time::Instant::now",
        "std::time::SystemTime::now",
        "std::collections::HashMap",
        "rand::random",
    ];
    for path in [
        "scheduler/core/clippy.toml",
        "sim/clippy.toml",
        "pricer/clippy.toml",
    ] {
        let text = std::fs::read_to_string(tree::root().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let banned = rules::banned(path, &text).unwrap_or_else(|error| panic!("{error}"));
        for name in must {
            assert!(
                banned.contains(name),
                "{path} must ban {name}: replicas agree only while inputs are all there is"
            );
        }
    }
}

#[test]
fn files_in_git_are_small() {
    let Some(files) = tree::files() else { return };
    no_breach(
        files
            .iter()
            .flat_map(|file| rules::size(&file.path, file.bytes))
            .collect(),
    );
}

#[test]
fn nothing_foreign_is_named() {
    // Cargo writes where each crate comes from into its lock.
    each_text(|path| path != "Cargo.lock", rules::foreign_words);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let Some(files) = tree::files() else { return };
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    no_breach(
        files
            .iter()
            .filter(|file| file.path.ends_with(".md"))
            .flat_map(|file| dead_links(file, &known))
            .collect(),
    );
}

/// A link may name a file or a folder of the project, in the spelling of git: an ignored file is on no other machine.
fn dead_links(file: &Source, known: &BTreeSet<&str>) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let links = rules::links(file.text.as_deref().unwrap_or_default());
    let dead = links.into_iter().filter(|(_, target)| {
        let Some(path) = plain(&folder.join(target)) else {
            return true;
        };
        let inside = format!("{path}/");
        !path.is_empty()
            && !known
                .iter()
                .any(|name| *name == path || name.starts_with(&inside))
    });
    dead.map(|(line, target)| format!("{}:{line}: `{target}` is not a file of the project", file.path))
        .collect()
}

/// `path` without `.` and `..`; nothing when it leaves the project.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[test]
fn a_dead_link_is_found() {
    let known = BTreeSet::from(["README.md", "docs/A.md", "docs/img/a.png"]);
    let text = "[a](A.md) [b](../README.md) [c](img) [d](../..) [e](B.md) [f](/docs/A.md)";
    let file = Source {
        path: "docs/C.md".to_owned(),
        bytes: 0,
        text: Some(text.to_owned()),
    };
    let dead = dead_links(&file, &known);
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert!(
        dead[0].contains("`../..`") && dead[1].contains("`B.md`") && dead[2].contains("`/docs/A.md`"),
        "{dead:?}"
    );
}
