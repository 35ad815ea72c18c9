//! Photos that cannot be recognised and recognisers that misbehave: each costs its own photo and nothing else, and
//! the photo's result says why.

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use rebound_tests::{Cluster, photo, recogniser};
use serde_json::Value;

/// JPEGs with some bytes changed.
const SCRIBBLED: u64 = 150;

/// A result's cause and message, or that it succeeded.
fn told(result: &Value) -> (&str, &str) {
    let field = |name: &str| result[name].as_str().unwrap_or_default();
    match field("outcome") {
        "succeeded" => ("succeeded", ""),
        _ => (field("cause"), field("message")),
    }
}

/// One photo, what shall become of it, and a part of what is said.
struct Case {
    name: &'static str,
    bytes: Option<Vec<u8>>,
    cause: &'static str,
    says: &'static str,
}

fn case(name: &'static str, bytes: Vec<u8>, cause: &'static str, says: &'static str) -> Case {
    Case {
        name,
        bytes: Some(bytes),
        cause,
        says,
    }
}

fn cases() -> Vec<Case> {
    let jpeg = || photo::good(ImageFormat::Jpeg);
    // Its first table of codes is nonsense; all its parts are there.
    let mut damaged = jpeg();
    let table = damaged.windows(2).position(|two| two == [0xff, 0xc4]);
    let counts = table.expect("a JPEG has a table of codes") + 5;
    damaged[counts..counts + 16].fill(0xff);
    vec![
        case("good.jpg", jpeg(), "succeeded", ""),
        case("good.png", photo::good(ImageFormat::Png), "succeeded", ""),
        case(
            "no-image.jpg",
            b"Dear Sir or Madam".to_vec(),
            "input",
            "not an image",
        ),
        case("empty.jpg", Vec::new(), "input", "is empty"),
        case(
            "cut.jpg",
            photo::cut_short(ImageFormat::Jpeg),
            "input",
            "cut short",
        ),
        case(
            "cut.png",
            photo::cut_short(ImageFormat::Png),
            "input",
            "cut short",
        ),
        case("head.jpg", jpeg()[..4].to_vec(), "input", "cut short"),
        case("damaged.jpg", damaged, "input", "damaged"),
        case(
            "claims.png",
            photo::claims(60_000, 50_000),
            "input",
            "60000 × 50000",
        ),
        case(
            "claims-all.png",
            photo::claims(u32::MAX >> 1, u32::MAX >> 1),
            "input",
            "PNG",
        ),
        case(
            "bomb.png",
            photo::black_png(8_000, 8_000),
            "input",
            "64000000 pixels",
        ),
        // Its profile is left packed: unpacked, it is more than the recogniser's process may have.
        case("profile.png", photo::profile_bomb(640 << 20), "succeeded", ""),
        Case {
            name: "gone.jpg",
            bytes: None,
            cause: "fetch",
            says: "No such file",
        },
        case("large.jpg", Vec::new(), "input", "bytes; at most"),
        case("folder.jpg", Vec::new(), "input", "not a regular file"),
        case("pipe.jpg", Vec::new(), "input", "not a regular file"),
        case("last-good.webp", photo::good(ImageFormat::WebP), "succeeded", ""),
    ]
}

/// Writes the cases' photos; a list of them.
fn write(cases: &[Case], dir: &Path) -> PathBuf {
    let mut list = String::new();
    for case in cases {
        let path = dir.join(case.name);
        match case.name {
            "folder.jpg" => fs::create_dir(&path).expect("a folder can be made"),
            "pipe.jpg" => {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(
                    made.is_ok_and(|status| status.success()),
                    "mkfifo {}",
                    path.display()
                );
            }
            "large.jpg" => {
                let file = fs::File::create(&path).expect("a file can be made");
                // A hole: it takes no disk.
                file.set_len(1 << 30).expect("a file can have a hole");
            }
            _ => {
                if let Some(bytes) = &case.bytes {
                    fs::write(&path, bytes).expect("a file can be written");
                }
            }
        }
        list += &format!("{}\n", case.name);
    }
    let file = dir.join("photos.txt");
    fs::write(&file, list).expect("a file can be written");
    file
}

#[test]
fn bad_photos_fail_alone_and_say_why() {
    if !recogniser::runtime_is_here() {
        return;
    }
    let mut cluster = Cluster::start();
    // Little memory: what a photo unpacks to must be refused, not tried.
    let memory = ["--child-memory-mib", "512", "--recogniser", "grocery81"];
    cluster.start_agent("a", 2, Some(&recogniser::shipped()), &memory);
    let cases = cases();
    let list = write(&cases, cluster.dir());
    let list = list.to_str().expect("a path of ours is UTF-8");
    let started = [
        list,
        "--recogniser",
        "grocery81",
        "--wait",
        "--wait-timeout",
        "100s",
    ];
    let job = cluster.submit(9, &started);
    let results = cluster.results(job);
    assert_eq!(
        results.len(),
        cases.len(),
        "every photo has its result: {results:#?}"
    );
    for (case, result) in cases.iter().zip(&results) {
        let (cause, message) = told(result);
        let right = cause == case.cause && message.contains(case.says);
        assert!(
            right,
            "{}: wanted {} {:?}, got {result:#}",
            case.name, case.cause, case.says
        );
    }
    let good = cases.iter().filter(|case| case.cause == "succeeded").count();
    let job = job.to_string();
    let shown = cluster.json(0, &["job", "show", &job]);
    assert_eq!(
        (&shown["succeeded"], &shown["state"]),
        (&good.into(), &"done".into()),
        "{shown}"
    );
    // A photo that is gone may come back: it is tried again, the others are not.
    let tries = |name: &str| {
        let at = cases
            .iter()
            .position(|case| case.name == name)
            .expect("one of the cases");
        cluster.json(0, &["task", "show", &job, &at.to_string()])["attempts"].clone()
    };
    assert_eq!((tries("gone.jpg"), tries("no-image.jpg")), (3.into(), 1.into()));
    let table = cluster.rebound(&["job", "results", &job, "--failed"]);
    assert!(
        table.stdout.contains("input: not an image") && !table.stdout.contains("good.jpg"),
        "{}",
        table.stdout
    );
    damaged_in_many_ways(&cluster);
    let again = [
        &cluster.dir().join("good.jpg").display().to_string(),
        "--recogniser",
        "grocery81",
        "--wait",
    ];
    cluster.submit(0, &again);
    cluster.finish();
}

/// Whatever a JPEG's bytes are, it is recognised or refused, and ends no recogniser.
fn damaged_in_many_ways(cluster: &Cluster) {
    let folder = cluster.dir().join("scribbled");
    fs::create_dir(&folder).expect("a folder can be made");
    for seed in 0..SCRIBBLED {
        let file = folder.join(format!("{seed}.jpg"));
        fs::write(file, photo::scribbled(seed)).expect("a file can be written");
    }
    let args = [&folder.display().to_string(), "--recogniser", "grocery81"];
    let job = cluster.submit(0, &args);
    cluster.wait_job(9, job);
    let results = cluster.results(job);
    assert_eq!(results.len() as u64, SCRIBBLED);
    for result in &results {
        assert!(matches!(told(result).0, "succeeded" | "input"), "{result:#}");
    }
    let log = cluster.agent_log("a");
    assert!(
        !log.contains("the recogniser's process"),
        "no photo ended a recogniser:\n{log}"
    );
}

/// A good photo, and one that a script may treat otherwise by its name.
fn good_and_poison(cluster: &Cluster) -> [String; 2] {
    ["good.jpg", "poison.jpg"].map(|name| {
        let path = cluster.dir().join(name);
        fs::write(&path, photo::good(ImageFormat::Jpeg)).expect("a file can be written");
        path.display().to_string()
    })
}

const HANGS: &str = "case $0 in *poison*) exec sleep 600;; esac; echo '{\"kind\":\"labels\",\"top\":[]}'";
/// The script's parent is the recogniser's process, which holds the photo.
const KILLS_ITS_RECOGNISER: &str = "case $0 in *poison*) kill -9 $PPID; exec sleep 600;; esac; echo '{}'";
const KILLS_ITSELF: &str = "case $0 in *poison*) kill -9 $$;; esac; echo '{}'";
const EATS_MEMORY: &str = "case $0 in *poison*) head -c 400000000 /dev/zero | tail -c 300000000 >/dev/null || exit 7;; esac; echo '{}'";
const BABBLES: &str = "case $0 in *poison*) echo hello;; *) echo '{}';; esac";
const FAILS: &str = "case $0 in *poison*) echo 'the shelf is on fire' >&2; exit 3;; esac; echo '{}'";
const TALKS_TOO_MUCH: &str = "case $0 in *poison*) printf '\"'; head -c 17408 /dev/zero | tr '\\0' x; printf '\"';; *) echo '{}';; esac";

/// Name, script, lines of the manifest's head and of its command, cause, attempts, what is said.
type Bad = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u64,
    &'static str,
);

const BAD: [Bad; 7] = [
    (
        "hangs",
        HANGS,
        "[limits]\nphoto_timeout_ms = 400",
        "",
        "quarantined",
        3,
        "3 recognisers' processes ended with this photo; the last: /bin/sh did not end within 400 ms",
    ),
    (
        "kills",
        KILLS_ITS_RECOGNISER,
        "",
        "",
        "quarantined",
        3,
        "was killed by signal 9 (SIGKILL) while it held this photo",
    ),
    (
        "dies",
        KILLS_ITSELF,
        "",
        "",
        "recogniser",
        3,
        "was killed by signal 9",
    ),
    (
        "eats",
        EATS_MEMORY,
        "",
        "max_memory_mib = 64",
        "recogniser",
        3,
        "memory exhausted",
    ),
    ("babbles", BABBLES, "", "", "recogniser", 3, "not one JSON value"),
    (
        "fails",
        FAILS,
        "",
        "",
        "recogniser",
        3,
        "ended with status 3: the shelf is on fire",
    ),
    (
        "talks",
        TALKS_TOO_MUCH,
        "",
        "",
        "result_too_large",
        1,
        "more than 16384 bytes",
    ),
];

#[test]
fn recognisers_that_misbehave_cost_their_own_photo_alone() {
    let mut cluster = Cluster::start();
    let folder = cluster.dir().join("recognisers");
    for (name, script, manifest, command, ..) in BAD {
        recogniser::script(&folder, name, script, manifest, command);
    }
    cluster.start_agent("a", 2, Some(&folder), &[]);
    let before = cluster.worker("a").expect("it is there");
    let [good, poison] = good_and_poison(&cluster);
    let submitted: Vec<u64> = BAD
        .iter()
        .map(|bad| cluster.submit(0, &[&good, &poison, &good, "--recogniser", bad.0]))
        .collect();
    for ((name, .., cause, attempts, says), job) in BAD.iter().zip(submitted) {
        let shown = cluster.wait_job(9, job);
        assert_eq!(
            (&shown["succeeded"], &shown["failed"]),
            (&2.into(), &1.into()),
            "{name}: {shown}"
        );
        let results = cluster.results(job);
        let (found, message) = told(&results[1]);
        let right = found == *cause && message.contains(says);
        assert!(right, "{name}: wanted {cause} {says:?}, got {:#}", results[1]);
        assert!(
            [0, 2].iter().all(|at| results[*at]["outcome"] == "succeeded"),
            "{name}: its neighbours succeed: {results:#?}"
        );
        let task = cluster.json(0, &["task", "show", &job.to_string(), "1"]);
        assert_eq!(task["attempts"], *attempts, "{name}: {task:#}");
        // The last attempt is the result; those before are told beside it.
        let others = task["attempts_made"].as_array().map_or(0, Vec::len);
        assert_eq!(others as u64, attempts - 1, "{name}: {task:#}");
    }
    let after = cluster.worker("a").expect("it is still there");
    assert_eq!(
        (&after["worker"], &after["state"]),
        (&before["worker"], &"active".into()),
        "one session all along"
    );
    cluster.finish();
}
