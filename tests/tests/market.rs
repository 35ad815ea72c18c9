//! Clusters that buy their workers, as operators and planners see them.

use std::fmt::Write as _;

use rebound_tests::cluster::command;
use rebound_tests::{Cluster, Deadline, run};
use serde_json::Value;

/// The first price of the market that is played: a day of 2016.
const BEGINS: u64 = 1_456_400_000;
/// Spot is dear from then on, and cheap again from the second: seconds after the beginning.
const DEAR: u64 = 3_600 + 300;
const CHEAP: u64 = 3_600 + 900;
const HOURS: &str = "0.5";

#[test]
fn a_policy_and_a_freeze_are_in_the_log_and_survive_a_failover() {
    let mut cluster = Cluster::start();
    let before = cluster.json(0, &["policy", "show"]);
    assert_eq!((&before["mode"], &before["since"]), (&"off".into(), &0.into()));
    let applied = cluster.json(0, &["policy", "apply", "threshold", "--check-index", "0"]);
    assert_eq!(applied["mode"], "act");
    assert_eq!(applied["threshold.high"], 800);
    let since = applied["since"].as_u64().expect("an index");
    // Whoever planned against the policy before must look again.
    let stale = cluster.rebound(&["policy", "apply", "default", "--check-index", "0"]);
    assert_eq!(stale.code, Some(6), "{stale:?}");
    let plan = cluster.json(0, &["policy", "plan", "default"]);
    let changed: Vec<&str> = plan
        .as_array()
        .expect("changes")
        .iter()
        .filter_map(|change| change["field"].as_str())
        .collect();
    assert!(
        changed.contains(&"threshold.high") && !changed.contains(&"mode"),
        "{changed:?}"
    );

    assert_eq!(cluster.rebound(&["scale", "freeze", "--why", ""]).code, Some(2));
    assert_eq!(
        cluster
            .rebound(&["scale", "freeze", "--why", "prices look odd"])
            .code,
        Some(0)
    );
    let leader = cluster.leader();
    cluster.kill_server(leader);
    let frozen = cluster.json(0, &["scale", "status"]);
    assert_eq!(frozen["frozen"]["why"], "prices look odd");
    assert_eq!(
        (&frozen["mode"], &frozen["policy_since"]),
        (&"act".into(), &since.into())
    );
    cluster.restart_server(leader);
    assert_eq!(cluster.rebound(&["scale", "thaw"]).code, Some(0));
    assert_eq!(cluster.json(0, &["scale", "status"])["frozen"], Value::Null);
    cluster.start_agent("a", 1, None, &[]);
    cluster.finish();
}

#[test]
fn policies_are_changed_tried_and_gone_back_to_and_all_of_it_is_on_record() {
    let mut cluster = Cluster::start();
    let nothing = cluster.rebound(&["policy", "shadow", "report"]);
    assert_eq!(nothing.code, Some(4), "{nothing:?}");
    let first = cluster.json(0, &["policy", "apply", "default"])["since"].clone();
    assert_eq!(
        cluster.rebound(&["scale", "set"]).code,
        Some(2),
        "nothing is named"
    );
    let too_much = cluster.rebound(&["scale", "set", "--hour-usd", "30", "--day-usd", "20"]);
    assert_eq!(too_much.code, Some(2), "{too_much:?}");
    let set = cluster.json(0, &["scale", "set", "--instances", "7", "--mode", "observe"]);
    assert_eq!(set["before"], first);
    let now = cluster.json(0, &["policy", "show"]);
    assert_eq!(
        (&now["caps.instances"], &now["mode"]),
        (&7.into(), &"observe".into())
    );

    assert_eq!(
        cluster.rebound(&["policy", "shadow", "start", "threshold"]).code,
        Some(0)
    );
    let trial = cluster.json(0, &["policy", "shadow", "report"]);
    assert_eq!(trial["trial"]["machines"], 0);
    assert_eq!(cluster.rebound(&["policy", "shadow", "stop"]).code, Some(0));

    let back = cluster.json(0, &["policy", "rollback", &first.to_string()]);
    assert_eq!(back["as_of"], first);
    assert_eq!(cluster.json(0, &["policy", "show"])["caps.instances"], 100);
    let gone = cluster.rebound(&["policy", "rollback", "999999"]);
    assert_eq!(gone.code, Some(4), "{gone:?}");
    let history = cluster.json(0, &["policy", "history"]);
    let indexes: Vec<&Value> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["index"])
        .collect();
    assert_eq!(indexes, [&back["since"], &set["since"], &first]);

    // It outlives the leader.
    let leader = cluster.leader();
    cluster.kill_server(leader);
    let events = cluster.json(0, &["scale", "events"]);
    let whats: Vec<&str> = events
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["what"].as_str())
        .collect();
    assert_eq!(
        whats,
        ["policy", "shadow", "shadow", "policy", "policy"],
        "the newest first"
    );
    cluster.restart_server(leader);
    let none = cluster.json(0, &["scale", "events", "--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(none, Value::Array(Vec::new()));
    assert_eq!(
        cluster.rebound(&["scale", "events", "--until", "noon"]).code,
        Some(2)
    );
    let costs = cluster.json(0, &["cost", "report"]);
    assert_eq!((&costs["usd"], &costs["photos"]), (&0.0.into(), &0.into()));
    cluster.start_agent("a", 1, None, &[]);
    let worker = cluster.json(0, &["worker", "explain", "a"]);
    assert!(
        worker["because"][1]
            .as_str()
            .is_some_and(|why| why.contains("No machine")),
        "{worker}"
    );
    let job = cluster.submit(0, &["--recogniser", "noop", "--wait", "file:///visit/1.jpg"]);
    let why = cluster.json(0, &["job", "explain", &job.to_string()]);
    assert!(
        why["because"][0]
            .as_str()
            .is_some_and(|why| why.contains("1 of 1 photos")),
        "{why}"
    );
    cluster.finish();
}

#[test]
fn a_bad_policy_is_refused_with_its_line_and_changes_nothing() {
    let mut cluster = Cluster::start();
    let file = cluster.dir().join("policy.toml");
    let bad = [
        (
            "mode = \"act\"\nspeed = 3\n",
            "policy.toml:2: unknown field `speed`",
        ),
        (
            "[threshold]\nhigh_percent = 101\nhigh_for = \"1m\"\nlow_percent = 70\nlow_for = \"1m\"\nhold = \"1m\"\n",
            "policy.toml:2: ",
        ),
        ("[caps]\nhour_usd = 20\nday_usd = 10\n", "policy.toml:2: "),
    ];
    for (text, words) in bad {
        std::fs::write(&file, text).expect("written");
        for verb in ["validate", "apply"] {
            let refused = cluster.rebound(&["policy", verb, &file.display().to_string()]);
            assert_eq!(refused.code, Some(2), "{refused:?}");
            assert!(refused.stderr.contains(words), "{refused:?}");
        }
    }
    assert_eq!(cluster.json(0, &["policy", "show"])["since"], 0);
    cluster.start_agent("a", 1, None, &[]);
    cluster.finish();
}

/// A market of one pool that is cheap, dear for ten minutes, and cheap again.
fn market() -> String {
    let mut csv = "instance_type,zone,epoch_s,usd_per_hour\n".to_owned();
    for (after, price) in [(0, 0.5), (DEAR, 3.0), (CHEAP, 0.4), (30_000, 0.5)] {
        writeln!(csv, "m4.10xlarge,us-east-1a,{},{price}", BEGINS + after).expect("a string takes it");
    }
    csv
}

#[test]
fn a_cluster_buys_on_a_market_that_is_played_and_accounts_for_every_machine() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("spot.csv");
    std::fs::write(&file, market()).expect("written");
    let mut dev = command("rebound", dir.path());
    let from = (BEGINS + 3_600).to_string();
    dev.args([
        "dev",
        "--market",
        &file.display().to_string(),
        "--speedup",
        "60",
        "--hours",
        HOURS,
    ]);
    dev.args(["--from", &from, "--policy", "threshold", "--loose", "-o", "json"]);
    let done = run(&mut dev, Deadline::seconds(400));
    assert_eq!(done.code, Some(0), "{done:?}");
    let figures: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
    let count = |name: &str| {
        figures[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} is a count"))
    };
    assert_eq!(
        (
            count("orphans"),
            count("recorded_twice"),
            count("acknowledged_lost")
        ),
        (0, 0, 0)
    );
    assert_eq!(
        count("not_handed_back"),
        0,
        "who is told goes with nothing in hand"
    );
    assert!(count("machines") > 0 && count("launches") > 0 && count("photos") > 0);
    assert!(
        count("launch_calls") >= count("launches"),
        "no launch without a call"
    );
    // The threshold is crossed and recrossed; the rule follows the first, and never comes back before its hold is over.
    let what = |kind: &str| {
        let all = figures["decisions"].as_array().expect("a list");
        all.iter().filter(|one| one["what"] == kind).count()
    };
    assert_eq!((what("launch") as u64, what("rebound")), (count("launches"), 1));
    let crossings = figures["crossings"].as_array().expect("a list");
    assert_eq!(crossings.len(), 2);
    assert!(crossings[0]["followed"].is_string(), "{crossings:?}");
    // Two books of the same machines: the cloud's by the price in force, the cluster's by the price it had heard.
    let usd = |name: &str| {
        figures[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} is an amount"))
    };
    let apart = (usd("cost_usd") - usd("ledger_usd")).abs();
    assert!(
        apart <= usd("cost_usd") / 20.0,
        "{} and {}",
        usd("cost_usd"),
        usd("ledger_usd")
    );
    assert!(usd("cost_usd") > 0.0 && usd("cost_usd") <= usd("on_demand_cost_usd"));
}

#[test]
fn a_market_that_cannot_be_played_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("spot.csv");
    std::fs::write(&file, market()).expect("written");
    let refused = |more: &[&str], words: &str| {
        let mut dev = command("rebound", dir.path());
        dev.args(["dev", "--market", &file.display().to_string()])
            .args(more);
        let done = run(&mut dev, Deadline::seconds(60));
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    };
    refused(&["--pools", "c5.large*"], "--pools c5.large*");
    refused(&["--speedup", "0"], "--speedup");
    refused(&["--hours", "0"], "--hours");
    refused(&["--from", "2031-01-01"], "--from");
    refused(&["--deadline", "0s"], "--deadline");
    std::fs::write(&file, market().replace("0.5", "-0.5")).expect("written");
    refused(&[], ":2: usd_per_hour");
}
