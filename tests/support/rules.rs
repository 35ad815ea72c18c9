//! The house rules that a reader of text can check. Each gives one line for each breach: where, what and why.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// The longest Rust file, in lines.
pub const RUST_LINES: usize = 600;
/// The largest file in git, in bytes.
pub const FILE_BYTES: u64 = 20 << 20;

/// What is left to do, or was left behind. In two pieces each, so that this file does not break its own rule.
const LEFT_OPEN: [&str; 3] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];
const LEFT_OPEN_WORDS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];
const SLEEP: &str = concat!("sleep", "(");
const LINT_OFF: [&str; 2] = [
    concat!("clippy::", "disallowed_methods"),
    concat!("clippy::", "disallowed_types"),
];

/// Places and names that belong to one machine, one person or one service, and not to the project.
const FOREIGN: [&str; 11] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/", "brief"),
    concat!("/tmp/", "warm"),
    concat!("Cla", "ude"),
    concat!("Anthro", "pic"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.npm", "js"),
    concat!("proxy.gol", "ang"),
];

/// Who may name whom in Cargo.toml: the design's house. A package that is not here has no place in it yet.
const MAY_NAME: [(&str, &[&str]); 8] = [
    ("rebound-proto", &[]),
    ("rebound-core", &["rebound-proto"]),
    ("rebound-pricer", &["rebound-core"]),
    ("rebound-agent", &["rebound-proto"]),
    (
        "rebound-scheduler",
        &["rebound-core", "rebound-pricer", "rebound-proto"],
    ),
    (
        "rebound-sim",
        &["rebound-core", "rebound-pricer", "rebound-agent", "rebound-proto"],
    ),
    (
        "rebound",
        &[
            "rebound-core",
            "rebound-pricer",
            "rebound-proto",
            "rebound-scheduler",
            "rebound-agent",
            "rebound-sim",
        ],
    ),
    (
        "rebound-tests",
        &[
            "rebound-core",
            "rebound-pricer",
            "rebound-proto",
            "rebound-scheduler",
            "rebound-agent",
            "rebound-sim",
        ],
    ),
];

/// What a package must never link, by the beginning of the crate's name, and why.
const MUST_NOT_LINK: [(&str, &[&str], &str); 3] = [
    (
        "rebound-core",
        &[
            "tokio",
            "tonic",
            "rocksdb",
            "aws-",
            "rand",
            "hyper",
            "reqwest",
            "fastrand",
            "getrandom",
            // Of calendars only jiff: its rules of time zones come with the program, and its clock is forbidden by the
            // core's clippy.toml.
            "chrono",
        ],
        "the core is a total function over data: no runtime, no I/O, no clock, no randomness",
    ),
    (
        "rebound-agent",
        &["rocksdb", "librocksdb", "aws-sdk-ec2"],
        "the agent is one small binary on each worker's machine image",
    ),
    (
        "rebound-sim",
        &["tokio", "tonic", "rocksdb", "aws-"],
        "one seed, one trace: the world runs on virtual time alone",
    ),
];

/// One noun a file: a long file has a second one inside.
pub fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= RUST_LINES {
        return Vec::new();
    }
    vec![format!(
        "{path}: {lines} lines, at most {RUST_LINES}: one noun a file, so move the second one out"
    )]
}

/// A clone must stay quick, and git keeps every version of a large file for ever.
pub fn size(path: &str, bytes: u64) -> Vec<String> {
    if bytes <= FILE_BYTES {
        return Vec::new();
    }
    vec![format!(
        "{path}: {bytes} bytes, at most {FILE_BYTES}: git keeps it for ever; fetch it in deploy/setup.sh"
    )]
}

/// Nothing half done and no debugging aid gets in.
pub fn left_open(path: &str, text: &str) -> Vec<String> {
    lines_where(path, text, "finish it or take it out", |line| {
        LEFT_OPEN.iter().any(|needle| line.contains(needle))
            || LEFT_OPEN_WORDS.iter().any(|needle| has_word(line, needle))
    })
}

/// A sleep in a test is either too short on a busy machine or too long on a free one. Looks at files in a `tests`
/// folder as a whole, and at what follows the first `#[cfg(test)]` in others.
pub fn sleeps(path: &str, text: &str) -> Vec<String> {
    let whole = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    let from = if whole {
        Some(0)
    } else {
        text.lines().position(|line| line.trim() == "#[cfg(test)]")
    };
    let Some(from) = from else { return Vec::new() };
    let why =
        "wait on a condition with a deadline (rebound_tests::wait_until), on a channel or on virtual time";
    lines_after(path, text, from, why, |line| line.contains(SLEEP))
}

/// Replicas on two machines must hold the same bytes; what a float rounds to is a matter of order and platform.
pub fn floats(path: &str, text: &str) -> Vec<String> {
    lines_where(
        path,
        text,
        "replicated state holds integers only (micro-dollars, microseconds, permille)",
        |line| {
            let code = line.split("//").next().unwrap_or_default();
            has_word(code, "f32") || has_word(code, "f64")
        },
    )
}

/// The bans of a `clippy.toml` hold only while nobody switches them off.
pub fn bans_lifted(path: &str, text: &str) -> Vec<String> {
    let why = "the core and the simulator read no clock and no randomness; take it as input instead";
    lines_where(path, text, why, |line| {
        LINT_OFF.iter().any(|lint| line.contains(lint))
    })
}

/// What is written here must be true on any machine.
pub fn foreign_words(path: &str, text: &str) -> Vec<String> {
    lines_where(
        path,
        text,
        "the project names no machine's own paths, no assistant and no package registry",
        |line| {
            FOREIGN.iter().any(|needle| {
                line.match_indices(needle).any(|(at, _)| {
                    // A path that only begins with these is foreign; one that has them further in is not.
                    let before = line.get(..at).and_then(|head| head.chars().next_back());
                    !needle.starts_with('/')
                        || !before.is_some_and(|c| c.is_alphanumeric() || "_.-}".contains(c))
                })
            })
        },
    )
}

/// The targets of markdown links that should be files of the project, with their line numbers (from 1). Links in
/// code blocks and code spans are text.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (at, opening) in prose.match_indices("](") {
            let rest = prose.get(at + opening.len()..).unwrap_or_default();
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:") {
                found.push((number + 1, path.to_owned()));
            }
        }
    }
    found
}

/// All that the workspace asks of a member's Cargo.toml.
///
/// # Errors
///
/// Where it is not TOML or has no package name.
pub fn member(path: &str, text: &str) -> Result<Vec<String>, String> {
    let manifest: Table = text.parse().map_err(|error| format!("{path}: {error}"))?;
    let package = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str);
    let package = package.ok_or_else(|| format!("{path}: package.name is missing"))?;
    let dependencies = dependencies(&manifest);
    let mut breaches = named_packages(path, package, &dependencies);
    for (name, entry) in &dependencies {
        if entry.get("workspace").and_then(Value::as_bool) != Some(true) {
            breaches.push(format!(
                "{path}: `{name}` lacks `workspace = true`: versions and features stand once, in the root's Cargo.toml, \
                 else crates are compiled twice"
            ));
        }
    }
    if manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool)
        != Some(true)
    {
        breaches.push(format!(
            "{path}: `[lints] workspace = true` is missing: clippy.toml's bans would not bite"
        ));
    }
    Ok(breaches)
}

fn named_packages(path: &str, package: &str, dependencies: &[(String, &Value)]) -> Vec<String> {
    let Some((_, may)) = MAY_NAME.iter().find(|(name, _)| *name == package) else {
        return vec![format!(
            "{path}: `{package}` has no place in the house: say in tests/support/rules.rs whom it may name"
        )];
    };
    let mut breaches = Vec::new();
    for (name, _) in dependencies {
        if is_ours(name) && !may.contains(&name.as_str()) {
            breaches.push(format!(
                "{path}: {package} may not name {name}, only {may:?}: knowledge flows one way"
            ));
        }
        for (_, banned, why) in MUST_NOT_LINK.iter().filter(|(of, ..)| *of == package) {
            if banned.iter().any(|start| name.starts_with(start)) {
                breaches.push(format!("{path}: {package} may not link {name}: {why}"));
            }
        }
    }
    breaches
}

fn is_ours(name: &str) -> bool {
    name == "rebound" || name.starts_with("rebound-")
}

/// Every dependency of a manifest: of the package, its build and its tests, on every target; under the name of the
/// package, not the one it is renamed to.
fn dependencies(manifest: &Table) -> Vec<(String, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets
        .into_iter()
        .flatten()
        .filter_map(|(_, target)| target.as_table())
        .chain([manifest]);
    let mut found = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, entry) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let package = entry.get("package").and_then(Value::as_str).unwrap_or(name);
                found.push((package.to_owned(), entry));
            }
        }
    }
    found
}

/// The paths that a `clippy.toml` bans.
///
/// # Errors
///
/// Where it is not TOML.
pub fn banned(path: &str, text: &str) -> Result<BTreeSet<String>, String> {
    let table: Table = text.parse().map_err(|error| format!("{path}: {error}"))?;
    let lists = ["disallowed-methods", "disallowed-types"]
        .into_iter()
        .filter_map(|key| table.get(key)?.as_array());
    Ok(lists
        .flatten()
        .filter_map(|entry| entry.get("path")?.as_str().map(str::to_owned))
        .collect())
}

fn lines_where(path: &str, text: &str, why: &str, broken: impl Fn(&str) -> bool) -> Vec<String> {
    lines_after(path, text, 0, why, broken)
}

fn lines_after(path: &str, text: &str, from: usize, why: &str, broken: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text
        .lines()
        .enumerate()
        .skip(from)
        .filter(|(_, line)| broken(line));
    lines
        .map(|(number, line)| format!("{path}:{}: `{}`: {why}", number + 1, line.trim()))
        .collect()
}

/// Whether `word` stands in `text` with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_one = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|tail| tail.chars().next());
        !before.is_some_and(part_of_one) && !after.is_some_and(part_of_one)
    })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
