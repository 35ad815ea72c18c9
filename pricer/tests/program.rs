//! The program as its users meet it: files in, answers and errors out.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const PRICES: &str = "instance_type,zone,epoch_s,usd_per_hour\n\
    c5.large,use1-az1,1704067200,0.03\nc5.large,use1-az1,1704070800,0.09\nc5.large,use1-az1,1704074400,0.031\n\
    c5.xlarge,use1-az2,1704067200,0.07\nc5.large,euw1-az1,1704067200,0.04\nm5.large,use1-az1,1704067200,0.02\n";
const ON_DEMAND: &str = "instance_type,region,usd_per_hour,operating_system\n\
    c5.large,us-east-1,0.085,Linux\nc5.xlarge,us-east-1,0.17,Linux\nc5.large,eu-west-1,0.096,Linux\n\
    m5.large,us-east-1,0.188,Windows\n";

/// A folder with a few small files.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("prices.csv", PRICES);
        desk.put("on-demand-2024-01-01.csv", ON_DEMAND);
        desk.put(
            "speed.csv",
            "instance_type,recogniser,photos_per_hour\nc5.large,shelf-text,3600\n",
        );
        desk
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rebound-pricer"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("REBOUND_OUTPUT")
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

const BOTH: [&str; 4] = ["-f", "prices.csv", "-f", "on-demand-2024-01-01.csv"];

#[test]
fn rank_has_every_column() {
    let desk = Desk::new();
    let args = [
        &[
            "rank",
            "--throughput",
            "speed.csv",
            "--photos-in",
            "us-east-1",
            "-o",
            "json",
        ],
        &BOTH[..],
    ]
    .concat();
    let output = desk.run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = json(&output);
    let first = &rows[0];
    assert_eq!(first["pool"], "c5.large@use1-az1/spot");
    // A photo a second at .031 USD an hour.
    assert_eq!(first["machine_k"], 8_611);
    assert_eq!(first["cap"], Value::Null, "it was measured");
    let far = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["pool"] == "c5.large@euw1-az1/spot")
        .unwrap();
    assert_eq!(
        (&far["transfer_k"], &far["nat_k"]),
        (&60_000.into(), &144_000.into())
    );
    let never = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["pool"] == "c5.xlarge@use1-az2/spot")
        .unwrap();
    assert_eq!(never["cap"], 1, "it was never measured");
    // Listed for Windows alone: neither its spot price nor anything else makes it a candidate.
    assert!(!text(&output.stdout).contains("m5.large"));
    let barred = desk.run(&[&["rank", "--barred", "-o", "jsonl"], &BOTH[..]].concat());
    let lines = text(&barred.stdout);
    assert!(lines.contains("on-demand price is for Windows"), "{lines}");
    let table = desk.run(&[&["rank", "--photos-in", "us-east-1"], &BOTH[..]].concat());
    assert!(
        text(&table.stdout).starts_with("POOL "),
        "{}",
        text(&table.stdout)
    );
    assert!(
        text(&table.stderr).contains("On-demand prices are of 2024-01-01"),
        "{}",
        text(&table.stderr)
    );
}

#[test]
fn regions_are_a_hard_limit() {
    let desk = Desk::new();
    let args = [
        &[
            "rank",
            "--regions",
            "eu-west-1",
            "--photos-in",
            "us-east-1",
            "-o",
            "json",
        ],
        &BOTH[..],
    ]
    .concat();
    let rows = json(&desk.run(&args));
    let pools: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["pool"].as_str().unwrap())
        .collect();
    assert_eq!(pools, ["c5.large@euw1-az1/spot", "c5.large@euw1-az1/on-demand"]);
    let none = desk.run(&[&["rank", "--regions", "sa-east-1"], &BOTH[..]].concat());
    assert_eq!(none.status.code(), Some(4));
}

#[test]
fn watch_tells_crossings() {
    let desk = Desk::new();
    let output = desk.run(&[&["watch", "--threshold", "80", "-o", "jsonl"], &BOTH[..]].concat());
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["what"].as_str().unwrap(), line["at"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [("over", "2024-01-01T01:00:00Z"), ("back", "2024-01-01T02:00:00Z")]
    );
}

#[test]
fn a_followed_feed_that_is_absurd_is_told() {
    let desk = Desk::new();
    let bad = PRICES.replace(",0.03\n", ",0\n").replace(",0.07\n", ",700\n");
    desk.put("prices.csv", &bad);
    let output = desk.run(
        &[
            &["watch", "--follow", "1", "--rounds", "1", "-o", "jsonl"],
            &BOTH[..],
        ]
        .concat(),
    );
    let lines = text(&output.stdout);
    assert!(lines.contains("feed  absurd"), "{lines}{}", text(&output.stderr));
}

#[test]
fn import_writes_what_it_read() {
    let desk = Desk::new();
    let output = desk.run(&["import", "-f", "prices.csv", "--out", "all.csv.gz", "-o", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        (&json(&output)[0]["rows"], &json(&output)[0]["pools"]),
        (&6.into(), &4.into())
    );
    let again = desk.run(&["import", "-f", "all.csv.gz", "-o", "json"]);
    assert_eq!(json(&again)[0]["rows"], 6);
    assert_eq!(json(&again)[0]["until"], "2024-01-01T02:00:00Z");
}

#[test]
fn fit_makes_a_series_that_can_be_read() {
    let desk = Desk::new();
    let mut text_of = String::from("instance_type,zone,epoch_s,usd_per_hour\n");
    for hour in 0..400u64 {
        let price = ["0.03", "0.05", "0.031", "0.2"][(hour % 4) as usize];
        text_of += &format!("c5.large,use1-az1,{},{price}\n", 1_704_067_200 + hour * 3_600);
    }
    desk.put("prices.csv", &text_of);
    let args = [
        &[
            "fit",
            "--seed",
            "5",
            "--series",
            "made.csv",
            "--out",
            "profile.json",
            "-o",
            "json",
        ],
        &BOTH[..],
    ]
    .concat();
    let output = desk.run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = json(&output);
    assert_eq!(rows[0]["of"], "price");
    let mean = |which: &str| rows[0][which]["mean_permille"].as_u64().unwrap();
    assert!(mean("recorded").abs_diff(mean("generated")) < 30, "{rows}");
    let made = std::fs::read(desk.0.path().join("made.csv")).unwrap();
    desk.run(&args);
    assert!(
        made == std::fs::read(desk.0.path().join("made.csv")).unwrap(),
        "one seed, one series"
    );
    assert!(desk.run(&["import", "-f", "made.csv"]).status.success());
    let profile = std::fs::read_to_string(desk.0.path().join("profile.json")).unwrap();
    rebound_pricer::generate::Profile::parse("profile.json", &profile).unwrap();
}

#[test]
fn bad_input_is_told_with_its_place_and_the_fix() {
    let desk = Desk::new();
    let head = "instance_type,zone,epoch_s,usd_per_hour\n";
    let future = u64::from(u32::MAX);
    let row = |price: &str| format!("{head}c5.large,use1-az1,1704067200,{price}\n");
    let table = [
        ("zero.csv", row("0"), "zero.csv:2: usd_per_hour: the price is 0"),
        (
            "negative.csv",
            row("-0.1"),
            "negative.csv:2: usd_per_hour: the price is negative",
        ),
        (
            "times.csv",
            row("31.2"),
            "times.csv:2: usd_per_hour: the price is more than 20 times on-demand",
        ),
        (
            "word.csv",
            row("cheap"),
            "word.csv:2: usd_per_hour: `cheap` is not a number of dollars: write USD an hour",
        ),
        (
            "future.csv",
            format!("{head}c5.large,use1-az1,{future},0.03\n"),
            "future.csv:2: usd_per_hour: the price is stamped in the future",
        ),
        (
            "head.csv",
            "a,b\n".into(),
            "head.csv:1: is in no format that is known",
        ),
    ];
    for (name, content, wanted) in table {
        desk.put(name, &content);
        let output = desk.run(&[
            "import",
            "-f",
            name,
            "-f",
            "on-demand-2024-01-01.csv",
            "-o",
            "json",
        ]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            text(&output.stderr).starts_with(&format!("rebound-pricer: {wanted}")),
            "{}",
            text(&output.stderr)
        );
        let error = &json(&output)["error"];
        assert_eq!(error["code"], 2);
        // Nothing that cannot be true is bought, wherever the file is used.
        let rank = desk.run(&["rank", "-f", name, "-f", "on-demand-2024-01-01.csv", "-o", "json"]);
        assert!(!rank.status.success(), "{name}");
    }
    let skipped = desk.run(&["import", "-f", "zero.csv", "--skip-bad", "-o", "json"]);
    assert_eq!(json(&skipped)[0]["refused"], 1);
}

#[test]
fn bad_options_are_told() {
    let desk = Desk::new();
    let limits = desk.put("limits.toml", "burstable = true\nregion = \"eu-west-1\"\n");
    let file = limits.display().to_string();
    let table: [(&[&str], &str); 9] = [
        (
            &["watch", "--threshold", "101"],
            "--threshold: 101 is no percentage",
        ),
        (
            &["watch", "--threshold", "50", "--back", "60"],
            "--back: 60 is over --threshold",
        ),
        (
            &["watch", "--from", "yesterday"],
            "--from: `yesterday` is no time",
        ),
        (&["rank", "--mb=-3"], "--mb"),
        (
            &["rank", "--regions", "mars-1"],
            "--regions: `mars-1` is no region",
        ),
        (&["rank", "--arch", "sparc"], "--arch: write x86_64"),
        (
            &["rank", "--limits", &file],
            "limits.toml:2: unknown field `region`",
        ),
        (
            &["rank", "--on-demand", "c5.large"],
            "--on-demand c5.large: has no `=`",
        ),
        (&["rank", "-f", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ];
    for (args, wanted) in table {
        let output = desk.run(&[args, &BOTH[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).contains(wanted),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let output = desk.run(&["rank", "-o", "json"]);
    assert_eq!(
        (output.status.code(), &json(&output)["error"]["kind"]),
        (Some(2), &"usage".into())
    );
    let gone = desk.run(&[&["watch", "--pools", "x1*"], &BOTH[..]].concat());
    assert_eq!(gone.status.code(), Some(4));
}
