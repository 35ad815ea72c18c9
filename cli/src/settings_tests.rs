//! Settings from options, environment and files.

use super::*;

fn settle_with(flags: &Global, vars: &[(&str, &str)]) -> Result<Settings, String> {
    let env = |name: &str| {
        vars.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.to_string())
    };
    settle(flags, &env).map_err(|failure| failure.message)
}

#[test]
fn options_win_over_the_environment_and_that_over_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    std::fs::write(
        &path,
        "servers = [\"a:1\", \"b:2\"]\ntimeout = \"3s\"\noutput = \"jsonl\"\n",
    )
    .expect("a file");
    let file = path.display().to_string();
    let vars = [
        ("REBOUND_CONFIG", file.as_str()),
        ("REBOUND_TIMEOUT", "5s"),
        ("REBOUND_OUTPUT", "json"),
    ];
    let flags = Global {
        output: Some(Format::Table),
        ..Global::default()
    };
    let settings = settle_with(&flags, &vars).expect("good settings");
    assert_eq!(
        settings.output,
        Setting {
            value: Format::Table,
            origin: Origin::Flag("--output")
        }
    );
    let timeout = Setting {
        value: Duration::from_secs(5),
        origin: Origin::Env("REBOUND_TIMEOUT"),
    };
    assert_eq!(settings.timeout, timeout);
    let servers = Setting {
        value: vec!["a:1".into(), "b:2".into()],
        origin: Origin::File(path),
    };
    assert_eq!(settings.servers, servers);
    assert_eq!(
        settings.color,
        Setting {
            value: true,
            origin: Origin::Default
        }
    );
}

#[test]
fn bad_settings_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "sever = 1\n").expect("a file");
    let file = path.display().to_string();
    let error = settle_with(&Global::default(), &[("REBOUND_CONFIG", &file)]).expect_err("an unknown field");
    assert!(
        error.starts_with(&format!("{file}:1: unknown field `sever`, expected one of ")),
        "{error}"
    );
    let none = "/nowhere/config.toml";
    let error = settle_with(&Global::default(), &[("REBOUND_CONFIG", none)]).expect_err("no file");
    assert_eq!(error, "$REBOUND_CONFIG: /nowhere/config.toml is not there");

    std::fs::write(&path, "").expect("a file");
    let table = [
        (
            "REBOUND_SERVERS",
            ",",
            "servers (from $REBOUND_SERVERS): names no server; write host:port, such as 127.0.0.1:7401",
        ),
        (
            "REBOUND_SERVERS",
            "a:1,b",
            "servers (from $REBOUND_SERVERS): \"b\" is not host:port; write it like 127.0.0.1:7401",
        ),
        (
            "REBOUND_SERVERS",
            "http://a:1",
            "servers (from $REBOUND_SERVERS): \"http://a:1\" is not host:port; write it like 127.0.0.1:7401",
        ),
        (
            "REBOUND_TIMEOUT",
            "10",
            "timeout (from $REBOUND_TIMEOUT): not a duration; write a number with a unit, such as 90s, 3m or 1h30m",
        ),
        (
            "REBOUND_TIMEOUT",
            "121s",
            "timeout (from $REBOUND_TIMEOUT): wants more than nothing and at most 120s, not 121s",
        ),
        (
            "REBOUND_OUTPUT",
            "yaml",
            "output (from $REBOUND_OUTPUT): wants table, json or jsonl, not \"yaml\"",
        ),
        (
            "REBOUND_TERSE",
            "maybe",
            "$REBOUND_TERSE: wants 1 or 0, not \"maybe\"",
        ),
    ];
    for (name, value, message) in table {
        let vars = [("REBOUND_CONFIG", file.as_str()), (name, value)];
        assert_eq!(
            settle_with(&Global::default(), &vars).err().as_deref(),
            Some(message)
        );
    }
}

#[test]
fn addresses_have_a_host_and_a_port() {
    for good in ["127.0.0.1:7401", "localhost:1", "[::1]:65535", "a-b.c_d:80"] {
        assert!(is_address(good), "{good}");
    }
    for bad in [
        "127.0.0.1",
        ":7401",
        "a:0",
        "a:65536",
        "::1:80",
        "a b:1",
        "a/b:1",
        "[]:1",
    ] {
        assert!(!is_address(bad), "{bad}");
    }
}
