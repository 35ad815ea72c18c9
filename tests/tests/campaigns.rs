//! The campaigns in short form: each runs through on real processes, and all that must hold holds. What needs root or a
//! tool that is missing is skipped by the campaign itself, which then says why.

use rebound_tests::cluster::{PATIENCE_S, command};
use rebound_tests::{Deadline, alone, run};
use serde_json::Value;

/// Runs a campaign with these arguments; what it printed, unless it was skipped.
fn campaign(args: &[&str]) -> Option<Value> {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut campaign = command("rebound", dir.path());
    campaign.arg("campaign").args(args).args(["-o", "json"]);
    let done = run(&mut campaign, Deadline::seconds(6 * PATIENCE_S));
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
    if let Some(why) = report["skipped"].as_str() {
        println!("campaign {}: skipped: {why}", args[0]);
        return None;
    }
    assert_eq!(report["held"], true, "{done:?}");
    Some(report)
}

fn number(of: &Value) -> f64 {
    of.as_f64().unwrap_or_else(|| panic!("{of} is no number"))
}

/// That the campaign did something, and looked at it.
fn is_audited(report: &Value, cases: usize) {
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(cases), "{report}");
    let audit = &report["audit"];
    assert_eq!(
        (&audit["acknowledged_lost"], &audit["recorded_twice"]),
        (&0.into(), &0.into())
    );
    assert!(number(&report["jobs_acknowledged"]) > 0.0, "{report}");
    let compared = number(&report["results_compared"]);
    assert_eq!(
        number(&audit["acknowledged_compared"]),
        compared * 3.0,
        "on each of three disks"
    );
}

#[test]
fn servers_that_lose_power_keep_what_they_promised() {
    let args = ["power-cut", "--images", "2", "--all", "1", "--rate", "20"];
    let Some(report) = campaign(&args) else { return };
    is_audited(&report, 3);
    let last = &report["cases"][2];
    assert_eq!(last["images"].as_array().map(Vec::len), Some(3), "{last}");
    assert!(number(&last["acknowledged"]) > 0.0, "{last}");
}

#[test]
fn a_network_that_breaks_and_heals_loses_nothing() {
    let args = ["network", "--seconds", "4", "--rate", "10"];
    let Some(report) = campaign(&args) else { return };
    is_audited(&report, 7);
    let isolated = &report["cases"][0];
    assert_eq!(
        (&isolated["kind"], &isolated["lead_lost"]),
        (&"isolated".into(), &true.into()),
        "the rules bite: {isolated}"
    );
    for case in report["cases"].as_array().expect("a list") {
        let rules = case["rules"].as_array().expect("a list");
        assert!(!rules.is_empty(), "{case}");
        let dropped = rules.iter().filter(|rule| number(&rule["dropped"]) > 0.0);
        assert!(dropped.count() >= 2, "{case}");
    }
    let share = number(&report["cases"][5]["dropped_percent"]);
    assert!((20.0..=40.0).contains(&share), "{report}");
}

#[test]
fn servers_and_agents_that_stand_still_lose_nothing() {
    let args = [
        "pause",
        "--pauses",
        "3",
        "--longest",
        "5",
        "--agent-pauses",
        "2",
        "--rate",
        "20",
    ];
    let report = campaign(&args).expect("nothing is needed");
    is_audited(&report, 5);
    let agents = &report["cases"].as_array().expect("a list")[3..];
    assert!(agents.iter().all(|one| number(&one["running"]) > 0.0), "{report}");
    let late: f64 = agents.iter().map(|one| number(&one["refused"])).sum();
    assert!(late > 0.0, "{report}");
    assert!(number(&report["audit"]["workers_lost"]) >= 2.0, "{report}");
}

#[test]
fn a_full_disk_ends_its_server_alone() {
    let args = ["disk-full", "--times", "2", "--mib", "128", "--rate", "100"];
    let Some(report) = campaign(&args) else { return };
    is_audited(&report, 2);
}

#[test]
fn the_clusters_clock_does_not_follow_a_clock_that_jumps() {
    let args = ["clock", "--seconds", "3", "--rate", "20"];
    let Some(report) = campaign(&args) else { return };
    is_audited(&report, 4);
}

/// Whether a busy machine reaches the figures is for the full campaign to say: here that it measures them, and that the
/// cluster refuses, goes on, and does all that it took.
#[test]
fn ten_times_the_peak_is_refused_and_the_rest_is_done() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut campaign = command("rebound", dir.path());
    campaign.args([
        "campaign",
        "overload",
        "--seconds",
        "8",
        "--before",
        "3",
        "--step",
        "2",
    ]);
    campaign.args(["--after", "6", "--deadline", "4", "-o", "json"]);
    let done = run(&mut campaign, Deadline::seconds(6 * PATIENCE_S));
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    if let Some(why) = report["skipped"].as_str() {
        println!("campaign overload: skipped: {why}");
        return;
    }
    let overload = &report["overload"];
    let refused = overload["refused"].as_object().expect("by their words");
    let refused: f64 = refused.values().map(number).sum();
    assert!(refused > number(&overload["taken"]), "{report}");
    assert!(number(&report["goodput_per_s"]) > 0.0, "{report}");
    assert_eq!(report["drained"], true, "{report}");
    assert_eq!(report["processes"].as_array().map(Vec::len), Some(5), "{report}");
    assert_eq!(
        done.code,
        Some(if report["held"] == true { 0 } else { 1 }),
        "{done:?}"
    );
}

#[test]
fn a_soak_looks_at_memory_files_disks_and_digests() {
    let report = campaign(&["soak", "--rounds", "3", "--round", "3", "--rate", "20"]);
    let report = report.expect("nothing is needed");
    let samples = report["samples"].as_array().expect("a list");
    assert_eq!(samples.len(), 3, "{report}");
    for sample in samples {
        assert_eq!(sample["digests_equal"], true);
        assert_eq!(sample["processes"].as_array().map(Vec::len), Some(5), "{sample}");
    }
}
