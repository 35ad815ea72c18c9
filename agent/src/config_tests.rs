use super::*;

fn options() -> Options {
    let server = vec!["127.0.0.1:7101".to_string(), "localhost:7102".to_string()];
    Options {
        server,
        data_dir: Some("/tmp/x".into()),
        name: Some("m".to_string()),
        ..Options::default()
    }
}

fn refused(change: impl FnOnce(&mut Options)) -> String {
    let mut options = options();
    change(&mut options);
    options.check().unwrap_err().to_string()
}

#[test]
fn what_is_not_said_comes_from_the_machine() {
    let config = options().check().unwrap();
    assert_eq!(config.servers.len(), 2);
    assert!(config.slots >= 1 && config.resources.milli_cpu >= 1000 && config.resources.memory_mib > 0);
    assert_eq!(config.child_memory_mib, Some(config.resources.memory_mib.into()));
}

#[test]
fn each_wrong_value_names_its_flag_and_the_fix() {
    assert!(refused(|o| o.server.clear()).starts_with("--server: give"));
    assert!(refused(|o| o.server.push("10.1.1.1:1".to_string())).contains("loopback"));
    assert!(refused(|o| o.slots = Some(0)).starts_with("--slots: 0 is out of range; give 1 to"));
    assert!(refused(|o| o.slots = Some(MAX_SLOTS + 1)).starts_with("--slots:"));
    assert!(refused(|o| o.threads_per_slot = Some(0)).starts_with("--threads-per-slot:"));
    assert!(refused(|o| o.name = Some("x".repeat(65))).starts_with("--name:"));
    assert!(refused(|o| o.name = Some("a\nb".to_string())).starts_with("--name:"));
    assert!(refused(|o| o.data_dir = None).starts_with("--data-dir:"));
    assert!(refused(|o| o.recogniser = vec!["shelf".to_string()]).starts_with("--recognisers:"));
    assert!(refused(|o| o.pool = Some("eu/az".to_string())).starts_with("--pool:"));
    assert!(
        refused(|o| o.allow_url = vec!["https://a".into(), "ftp://b/".into()])
            .starts_with("--allow-url: \"ftp://b/\"")
    );
    assert!(refused(|o| o.allow_url = vec!["http://a/".into(); MAX_ALLOWED + 1]).contains("at most 64"));
    assert!(refused(|o| o.max_loaded_mib = Some(0)).starts_with("--max-loaded-mib:"));
}

#[test]
fn a_file_fills_in_what_flags_leave_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(
        &path,
        "slots = 3\nname = \"from-file\"\nlog_format = \"json\"\npool = \"eu-1/az1/c7/spot\"\n",
    )
    .unwrap();
    let merged = options().over_file(&path).unwrap();
    assert_eq!((merged.slots, merged.name.as_deref()), (Some(3), Some("m")));
    assert_eq!(merged.log_format, Some(LogFormat::Json));
    assert_eq!(merged.check().unwrap().pool.unwrap().market(), v1::Market::Spot);
    std::fs::write(&path, "slots = 3\nslotz = 4\n").unwrap();
    let error = options().over_file(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("slotz"), "{error}");
}
