//! The campaign of upgrades in short form, without a second build: all that the feature `next` changes in a server is which
//! versions it knows and what it is called, and here both are given to it as it starts. `make upgrade` does it with two
//! builds.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rebound_core::version::{Build, FIRST, NEXT, Versions};
use rebound_scheduler::{Config, End, Start, server};
use rebound_tests::cluster::{PATIENCE_S, command};
use rebound_tests::{Deadline, alone, binary, run};
use serde_json::Value;

/// Names the configuration to the server.
const CONFIG: &str = "REBOUND_TEST_CONFIG";

/// Not a test of its own: what the other one starts as servers of the next version.
#[test]
#[ignore = "started as a process by the other test"]
fn serves_as_the_next_version() {
    let path = std::env::var(CONFIG).expect("the configuration's path");
    let config = Config::load(Path::new(&path)).expect("a configuration");
    let knows = Versions {
        oldest: FIRST,
        newest: NEXT,
    };
    let build = Build::new(concat!(env!("CARGO_PKG_VERSION"), "+next"), knows);
    assert_eq!(server::main_as(config, &Start::Again, build), End::Stopped);
}

/// A program that is called as `rebound server --config FILE` is, with the agent's beside it.
fn next_build(dir: &Path) -> PathBuf {
    let own = std::env::current_exe().expect("a running test has a path");
    // Not where the settings of `rebound` are looked for.
    let dir = dir.join("next");
    fs::create_dir(&dir).expect("a folder can be made");
    let program = dir.join("rebound");
    let script = format!(
        "#!/bin/sh\n{CONFIG}=\"$3\" exec '{}' --ignored --exact serves_as_the_next_version --nocapture\n",
        own.display()
    );
    fs::write(&program, script).expect("a file can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be made a program");
    symlink(binary("rebound-agent"), dir.join("rebound-agent")).expect("a link can be made");
    program
}

#[test]
fn servers_go_to_the_next_version_and_back_until_it_is_finalized() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let next = next_build(dir.path());
    let mut campaign = command("rebound", dir.path());
    campaign.args(["campaign", "upgrade", "--rate", "20", "-o", "json", "--next"]);
    let done = run(campaign.arg(next), Deadline::seconds(6 * PATIENCE_S));
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
    assert_eq!(report["held"], true, "{report}");
    let steps = |what: &str, who: &str| {
        let steps = report["cases"].as_array().expect("a list").iter();
        let one = |step: &&Value| {
            step["what"] == what && step["who"].as_str().is_some_and(|name| name.starts_with(who))
        };
        steps.filter(one).count()
    };
    assert_eq!(steps("upgraded", "server"), 6, "{report}");
    assert_eq!(steps("rolled back", "server"), 3, "{report}");
    assert_eq!(steps("refused", "finalize"), 3, "{report}");
    assert_eq!(steps("refused", "server"), 1, "{report}");
    assert_eq!(report["audit"]["acknowledged_lost"], 0, "{report}");
    assert_eq!(report["audit"]["recorded_twice"], 0, "{report}");
}
