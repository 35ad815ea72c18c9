//! The benchmarks in short form: they run through, check what they read, and their figures hold together. How fast
//! anything was is not looked at.

use rebound_tests::cluster::{PATIENCE_S, command};
use rebound_tests::{Deadline, alone, run};
use serde_json::Value;

/// Runs `rebound bench` with these arguments; what it printed.
fn bench(args: &[&str]) -> Value {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut bench = command("rebound", dir.path());
    bench.arg("bench").args(args).args(["-o", "json"]);
    let done = run(&mut bench, Deadline::seconds(4 * PATIENCE_S));
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).expect("JSON was asked for")
}

/// A small cluster for kills.
const FAILOVER: [&str; 7] = ["failover", "--rate", "20", "--workers", "2", "--slots", "8"];

fn number(figures: &Value, pointer: &str) -> f64 {
    let found = figures.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {pointer}: {figures}"))
}

/// The measure that the figures are held against, of the same run.
fn says_what_the_disk_can_do(figures: &Value) {
    for when in 0..2 {
        assert!(
            number(figures, &format!("/raw_syncs/{when}/per_s")) > 0.0,
            "{figures}"
        );
    }
}

#[test]
fn throughput_reads_every_result_back() {
    let figures = bench(&["throughput", "--tasks", "700", "--workers", "2", "--slots", "8"]);
    assert_eq!(
        (&figures["results_compared"], &figures["tasks"]),
        (&700.into(), &700.into())
    );
    assert_eq!(figures["jobs"], 31, "half in jobs of 12, half in one");
    says_what_the_disk_can_do(&figures);
    let processes = figures["processes"].as_array().expect("a list");
    let roles = |role: &str| processes.iter().filter(|one| one["role"] == role).count();
    assert_eq!(
        ["leader", "follower", "agent", "client"].map(roles),
        [1, 2, 2, 1],
        "{figures}"
    );
    assert!(processes.iter().all(|one| number(one, "/peak_rss_mib") > 0.0));
    let servers = processes
        .iter()
        .filter(|one| one["role"] != "agent" && one["role"] != "client");
    for server in servers {
        assert!(
            number(server, "/syncs") > 0.0,
            "a server that never synced: {server}"
        );
    }
}

#[test]
fn throughput_with_long_results_given_one_by_one_by_one_server() {
    let args = [
        "throughput",
        "--tasks",
        "300",
        "--servers",
        "1",
        "--workers",
        "1",
        "--slots",
        "8",
    ];
    let figures = bench(&[&args[..], &["--no-ranges", "--result-bytes", "2048"]].concat());
    assert_eq!(figures["results_compared"], 300);
    assert_eq!(
        (&figures["ranges"], &figures["result_bytes"]),
        (&false.into(), &2_048.into())
    );
}

#[test]
fn throughput_of_a_program_is_held_against_the_machines_own() {
    let figures = bench(&["throughput", "--command", "--servers", "1", "--tasks", "60"]);
    let rounds = figures["rounds"].as_array().expect("a list");
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert!(
            number(round, "/spawns_per_s/0") > 0.0 && number(round, "/ratio") > 0.0,
            "{round}"
        );
    }
}

#[test]
fn latency_traces_a_job() {
    let figures = bench(&["latency", "--jobs", "5", "--workers", "1", "--slots", "12"]);
    let [commit, started, readable] =
        ["/commit_ms/p50", "/started_ms/p50", "/readable_ms/p50"].map(|at| number(&figures, at));
    assert!(commit > 0.0 && started > 0.0 && readable > started, "{figures}");
    let trace = figures["trace"].as_array().expect("a list");
    let place = |what: &str| {
        let at = trace
            .iter()
            .position(|moment| moment["what"].as_str().is_some_and(|text| text.contains(what)));
        at.unwrap_or_else(|| panic!("{what} is not in the trace: {figures}"))
    };
    let way = [
        "JobOpened",
        "RunGiven",
        "the last task ends",
        "JobDone",
        "has all results",
    ]
    .map(place);
    assert!(way.is_sorted(), "{figures}");
}

#[test]
fn queue_measures_rates_memory_and_restarts() {
    let figures = bench(&[
        "queue",
        "--tasks",
        "2000",
        "--servers",
        "1",
        "--environments",
        "3",
    ]);
    assert!(number(&figures, "/memory/rss_mib") > 0.0 && number(&figures, "/memory/memtables_mib") > 0.0);
    assert!(number(&figures, "/levels/1/longest_handle_ms") > 0.0);
    for rate in ["submitted_tasks", "listed_pages", "given_tasks"] {
        assert!(number(&figures, &format!("/ratio/{rate}")) > 0.0, "{figures}");
    }
    assert!(number(&figures, "/restart_all_s") > 0.0);
    says_what_the_disk_can_do(&figures);
    assert!(
        figures["snapshot_s"].is_null(),
        "one server has nobody to send it to"
    );
}

#[test]
fn killed_leaders_lose_nothing() {
    let figures = failover(&["--kills", "3"]);
    assert_eq!((&figures["kills"], &figures["leaders"]), (&3.into(), &3.into()));
    assert!(number(&figures, "/audit/leader_changes") >= 3.0, "{figures}");
}

#[test]
fn servers_killed_by_lot_lose_nothing() {
    let figures = failover(&["--kills", "3", "--victim", "any", "--seed", "2"]);
    assert_eq!(figures["kills"], 3);
    assert!(
        number(&figures, "/leaders") < 3.0,
        "a follower was among them: {figures}"
    );
}

fn failover(args: &[&str]) -> Value {
    let figures = bench(&[&FAILOVER[..], args].concat());
    assert!(number(&figures, "/gap_ms/p50") > 0.0 && number(&figures, "/jobs_acknowledged") > 0.0);
    let audit = &figures["audit"];
    assert_eq!(
        (&audit["acknowledged_lost"], &audit["recorded_twice"]),
        (&0.into(), &0.into())
    );
    let compared = number(audit, "/acknowledged_compared");
    assert_eq!(
        compared,
        number(&figures, "/results_compared") * 3.0,
        "on each of three disks"
    );
    figures
}

#[test]
fn what_cannot_be_run_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    for (args, flag) in [
        (&["throughput", "--servers", "2"][..], "--servers"),
        (&["throughput", "--tasks", "0"], "--tasks"),
        (&["throughput", "--result-bytes", "16385"], "--result-bytes"),
        (&["latency", "--jobs", "0"], "--jobs"),
        (&["queue", "--tasks", "999"], "--tasks"),
        (&["failover", "--servers", "1"], "--servers"),
        (&["failover", "--kills", "0"], "--kills"),
    ] {
        let mut bench = command("rebound", dir.path());
        bench.arg("bench").args(args).args(["-o", "json"]);
        let done = run(&mut bench, Deadline::seconds(PATIENCE_S));
        assert_eq!(done.code, Some(2), "{done:?}");
        let refused: Value = serde_json::from_str(&done.stdout).expect("JSON was asked for");
        assert_eq!(refused["error"]["field"], flag, "{done:?}");
    }
}
