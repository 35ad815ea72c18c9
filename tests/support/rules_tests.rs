//! Each rule bites on a breach and lets the like of it pass.

use super::*;

#[test]
fn length_counts_lines() {
    assert!(length("a.rs", &"x\n".repeat(RUST_LINES)).is_empty());
    let breach = length("a.rs", &"x\n".repeat(RUST_LINES + 1));
    assert!(breach[0].starts_with("a.rs: 601 lines"), "{breach:?}");
}

#[test]
fn size_is_bounded() {
    assert!(size("a.bin", FILE_BYTES).is_empty());
    assert_eq!(size("a.bin", FILE_BYTES + 1).len(), 1);
}

#[test]
fn left_open_finds_macros_and_words_but_no_parts_of_words() {
    for needle in LEFT_OPEN.iter().chain(&LEFT_OPEN_WORDS) {
        let breach = left_open("a.rs", &format!("fn a() {{}}\n// {needle} \n"));
        assert!(
            breach.len() == 1 && breach[0].starts_with("a.rs:2: "),
            "{needle}: {breach:?}"
        );
    }
    let template = concat!("mktemp /tmp/a.XX", "XXXX");
    assert!(left_open("a.rs", template).is_empty());
}

#[test]
fn sleeps_are_found_in_tests_only() {
    let text = format!("fn a() {{ {SLEEP}b); }}\n#[cfg(test)]\nmod tests {{\n {SLEEP}c);\n}}\n");
    assert_eq!(sleeps("agent/src/a.rs", &text).len(), 1);
    assert_eq!(sleeps("agent/tests/a.rs", &text).len(), 2);
    assert_eq!(sleeps("tests/tests/a.rs", &text).len(), 2);
    assert!(sleeps("agent/src/a.rs", &format!("fn a() {{ {SLEEP}b); }}\n")).is_empty());
}

#[test]
fn floats_are_types_in_code() {
    assert_eq!(floats("a.rs", "pub price: f64,\npub share: Vec<f32>,").len(), 2);
    assert!(floats("a.rs", "pub buf64: u64, // not an f64").is_empty());
}

#[test]
fn a_lifted_ban_is_found() {
    let text = format!("#![allow({})]", LINT_OFF[0]);
    assert_eq!(bans_lifted("sim/src/lib.rs", &text).len(), 1);
    assert!(bans_lifted("sim/src/lib.rs", "#[allow(clippy::too_many_arguments)]").is_empty());
}

#[test]
fn foreign_words_are_found_where_they_are_whole_paths() {
    for needle in FOREIGN {
        assert_eq!(
            foreign_words("a.md", &format!("see `{needle}x`")).len(),
            1,
            "{needle}"
        );
    }
    let within = format!("/var/lib/rebound{}photos", FOREIGN[0]);
    assert!(foreign_words("a.md", &within).is_empty());
}

#[test]
fn links_are_files_outside_code() {
    let text = "[a](docs/A.md#part) and [b](https://b.example) `[c](no)` [d](#here)\n```\n[e](no)\n```\n[f](f.md \"F\")";
    assert_eq!(links(text), [(1, "docs/A.md".to_owned()), (5, "f.md".to_owned())]);
}

const LINTS: &str = "[lints]\nworkspace = true\n";

fn manifest(package: &str, dependencies: &str) -> Vec<String> {
    member(
        "Cargo.toml",
        &format!("[package]\nname = \"{package}\"\n{LINTS}{dependencies}"),
    )
    .expect("valid TOML")
}

#[test]
fn a_member_names_only_whom_it_may() {
    assert!(manifest("rebound-core", "[dependencies]\nrebound-proto.workspace = true").is_empty());
    for (package, section, name) in [
        ("rebound-core", "dev-dependencies", "rebound-sim"),
        ("rebound-agent", "dependencies", "rebound-core"),
        ("rebound-proto", "build-dependencies", "rebound-core"),
        (
            "rebound-sim",
            "target.'cfg(unix)'.dependencies",
            "rebound-scheduler",
        ),
        ("rebound-tests", "dependencies", "rebound"),
    ] {
        let breach = manifest(package, &format!("[{section}]\n{name}.workspace = true"));
        assert!(
            breach.len() == 1 && breach[0].contains("may not name"),
            "{package} -> {name}: {breach:?}"
        );
    }
    assert!(manifest("rebound-attic", "")[0].contains("no place in the house"));
}

#[test]
fn a_member_links_nothing_it_must_not() {
    for (package, name) in [
        ("rebound-core", "tokio-stream"),
        ("rebound-core", "rand"),
        ("rebound-agent", "rocksdb"),
    ] {
        let breach = manifest(package, &format!("[dependencies]\n{name}.workspace = true"));
        assert!(
            breach.len() == 1 && breach[0].contains("may not link"),
            "{package} -> {name}: {breach:?}"
        );
    }
    let renamed = manifest(
        "rebound-core",
        "[dependencies]\nclock = { workspace = true, package = \"tokio\" }",
    );
    assert_eq!(renamed.len(), 1, "{renamed:?}");
}

#[test]
fn a_member_takes_versions_and_lints_from_the_workspace() {
    let breach = manifest(
        "rebound-proto",
        "[dependencies]\nbytes = \"1\"\nprost = { version = \"0.14\" }",
    );
    assert!(
        breach.len() == 2 && breach[0].contains("`bytes` lacks"),
        "{breach:?}"
    );
    let breach = member("Cargo.toml", "[package]\nname = \"rebound-proto\"").expect("valid TOML");
    assert!(breach.len() == 1 && breach[0].contains("[lints]"), "{breach:?}");
}

#[test]
fn a_manifest_that_cannot_be_read_says_where() {
    assert!(member("x/Cargo.toml", "[package").is_err_and(|error| error.starts_with("x/Cargo.toml: ")));
    assert!(member("x/Cargo.toml", "[package]").is_err_and(|error| error.contains("package.name")));
}

#[test]
fn banned_reads_both_lists() {
    let text = "disallowed-methods = [{ path = \"a::b\" }]\ndisallowed-types = [{ path = \"c::D\" }]";
    assert_eq!(
        banned("clippy.toml", text),
        Ok(["a::b".to_owned(), "c::D".to_owned()].into())
    );
}
