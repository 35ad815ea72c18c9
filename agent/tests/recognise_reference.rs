//! The classifier beside its reference in Python, on the same photos with the same ONNX Runtime.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rebound_agent::recognise::frame::Outcome;
use support::recogniser::{Child, recogniser, runtime_is_here, shared_data};

/// Of how many photos the top label must be the same, of [`PHOTOS`].
const SAME_LABELS: usize = 191;

/// Real photos there are.
const PHOTOS: usize = 193;

/// Least share of photos whose top label is the right one; the reference has .684.
const LEAST_ACCURACY: f64 = 0.67;

/// A Python that `deploy/setup.sh python` made.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let python = cache.join("rebound/python/bin/python");
    let works = Command::new(&python)
        .args(["-c", "import onnxruntime, PIL, numpy"])
        .output();
    works
        .is_ok_and(|output| output.status.success())
        .then_some(python)
}

/// The top label of each photo by the reference.
fn by_python(python: &Path, photos: &Path) -> BTreeMap<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/grocery81.py");
    let output = Command::new(python).arg(script).arg(photos).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let said: serde_json::Value = serde_json::from_str(line).unwrap();
        (
            said["photo"].as_str().unwrap().to_string(),
            said["label"].as_str().unwrap().to_string(),
        )
    };
    lines.lines().map(line).collect()
}

#[test]
fn the_top_label_is_the_references() {
    let Some(photos) = shared_data().map(|data| data.join("photos/grocery-store")) else {
        return eprintln!("skipped: there are no real photos here ($REBOUND_SHARED_DATA)");
    };
    let Some(python) = python().filter(|_| runtime_is_here()) else {
        return eprintln!(
            "skipped: ONNX Runtime or Python is not set up (`deploy/setup.sh runtime`, `deploy/setup.sh python`)"
        );
    };
    let expected = by_python(&python, &photos);
    assert_eq!(expected.len(), PHOTOS);
    let truth = std::fs::read_to_string(photos.join("labels.csv")).unwrap();
    let truth: BTreeMap<&str, &str> = truth
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split(',');
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let mut child = Child::ready(&recogniser("grocery81"), 1);
    let (mut same, mut right) = (0, 0);
    for (photo, label) in &expected {
        let Outcome::Ok(value) = child.ask(&photos.join(photo)) else {
            panic!("{photo} failed")
        };
        let found = value["top"][0]["label"].as_str().unwrap();
        same += usize::from(found == label);
        right += usize::from(truth.get(photo.as_str()) == Some(&found));
        if found != label {
            eprintln!("{photo}: {found} here, {label} by the reference");
        }
    }
    let accuracy = right as f64 / expected.len() as f64;
    eprintln!("same top label on {same} of {PHOTOS} photos; accuracy {accuracy:.3}");
    assert!(
        same >= SAME_LABELS,
        "same top label on only {same} of {PHOTOS} photos"
    );
    assert!(accuracy >= LEAST_ACCURACY, "accuracy {accuracy:.3}");
}
