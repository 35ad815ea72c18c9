//! Specifications, good and bad, with the exact words of each complaint.

use super::*;

fn yaml(text: &str) -> Result<JobFile, String> {
    parse("job.yaml", text, false, "/base".into(), 100_000).map_err(|error| error.to_string())
}

fn json(text: &str) -> Result<JobFile, String> {
    parse("job.json", text, true, "/base".into(), 100_000).map_err(|error| error.to_string())
}

const FULL_YAML: &str = r#"
# A visit to one store.
version: 1
name: shelf
recogniser: grocery81@0123abcd
resources: {cpu: 0.5, memory: 512MiB, gpus: 0}
priority: 70
deadline: 3m
drop_late: true
region: eu-central-1
photo_timeout: 30s
max_attempts: 2
labels: {customer: acme, wave: "2026-11-21"}
idempotency_key: wave-88121
photos:
  - a.jpg
  - file:///b%20c.jpg
"#;

const FULL_JSON: &str = "{\r\n\t\"version\": 1, \"name\": \"sh\\u0065lf\",\n\t\"recogniser\": \"grocery81@0123abcd\",
\t\"resources\": {\"cpu\": \"500m\", \"memory\": \"512MiB\", \"gpus\": 0}, \"priority\": 70, \"deadline\": \"3m\", \"drop_late\": true, \"region\": \"eu-central-1\",
 \"photo_timeout\": \"30s\", \"max_attempts\": 2, \"labels\": {\"customer\": \"acme\", \"wave\": \"2026-11-21\"},
 \"idempotency_key\": \"wave-88121\", \"photos\": [\"a.jpg\", \"file:\\/\\/\\/b%20c.jpg\"]}";

fn full() -> JobFile {
    let label = |key: &str, value: &str| Label {
        key: key.into(),
        value: value.into(),
    };
    JobFile {
        name: Some("shelf".into()),
        recogniser: Some("grocery81@0123abcd".into()),
        region: Some("eu-central-1".into()),
        resources: Some(Resources {
            milli_cpu: 500,
            memory_mib: 512,
            gpus: 0,
        }),
        priority: Some(70),
        deadline: Some(Deadline::DeadlineInUs(180_000_000)),
        drop_late: true,
        photo_timeout_us: Some(30_000_000),
        max_attempts: Some(2),
        labels: vec![label("customer", "acme"), label("wave", "2026-11-21")],
        idempotency_key: Some("wave-88121".into()),
        photos: vec!["file:///base/a.jpg".into(), "file:///b%20c.jpg".into()],
    }
}

#[test]
fn every_field_is_read_from_yaml_and_json() {
    assert_eq!(yaml(FULL_YAML), Ok(full()));
    assert_eq!(json(FULL_JSON), Ok(full()));
}

#[test]
fn the_least_specification() {
    let photos = vec!["file:///x.jpg".to_string()];
    let least = JobFile {
        photos,
        ..JobFile::default()
    };
    assert_eq!(yaml("version: 1\nphotos: /x.jpg\n"), Ok(least.clone()));
    assert_eq!(json(r#"{"version":1,"photos":["/x.jpg"]}"#), Ok(least));
}

#[test]
fn a_deadline_may_be_an_instant() {
    let job =
        yaml("version: 1\nphotos: [/x.jpg]\ndeadline: 2026-11-22T00:00:00Z\n").expect("an unquoted instant");
    assert_eq!(job.deadline, Some(Deadline::DeadlineAtUs(1_795_305_600_000_000)));
}

#[test]
fn complaints_name_the_place_the_field_and_the_fix() {
    let head = "version: 1\nphotos: [a.jpg]\n";
    let table = [
        (
            "nmae: x",
            "3:1: nmae: no such field; there are: version, name, recogniser, region, resources, priority, deadline, drop_late, photo_timeout, max_attempts, labels, idempotency_key, photos",
        ),
        (
            "name: 12",
            "3:7: name: wants a text, not the number 12; put it in quotes",
        ),
        (
            "name: true",
            "3:7: name: wants a text, not the truth value true; put it in quotes",
        ),
        ("name:", "3:5: name: wants a text, not nothing"),
        ("name: ''", "3:7: name: is empty; give it at least one character"),
        ("name: [a]", "3:7: name: wants a text, not a list"),
        (
            "recogniser: 'a b'",
            "3:13: recogniser: wants a recogniser's name: 1 to 64 letters, digits, `-`, `_` or `.`, as `rebound worker list` shows it",
        ),
        (
            "region: EU central",
            "3:9: region: is no region; write one as eu-central-1",
        ),
        (
            "recogniser: a@123",
            "3:13: recogniser: after `@` wants 8 to 64 hex digits of the manifest's sha256",
        ),
        (
            "priority: 101",
            "3:11: priority: wants a whole number from 0 to 100, not 101",
        ),
        (
            "priority: -1",
            "3:11: priority: wants a whole number from 0 to 100, not -1",
        ),
        (
            "priority: high",
            "3:11: priority: wants a whole number from 0 to 100, not a text",
        ),
        (
            "priority: 1.5",
            "3:11: priority: wants a whole number from 0 to 100, not the number 1.5",
        ),
        (
            "deadline: -3m",
            "3:11: deadline: a deadline cannot be negative; write a duration such as 3m, or an instant such as 2026-11-22T08:00:00Z",
        ),
        (
            "deadline: 180",
            "3:11: deadline: not a deadline; write a duration such as 3m, or an instant such as 2026-11-22T08:00:00Z",
        ),
        (
            "photo_timeout: -1s",
            "3:16: photo_timeout: is negative; write a number with a unit, such as 90s, 3m or 1h30m",
        ),
        (
            "max_attempts: 0",
            "3:15: max_attempts: wants a whole number from 1 to 10, not 0",
        ),
        (
            "resources: 4",
            "3:12: resources: wants a mapping of cpu, memory, gpus, not the number 4",
        ),
        (
            "resources:\n  cpus: 4",
            "4:3: resources.cpus: no such field; there are: cpu, memory, gpus",
        ),
        (
            "resources:\n  memory: 512",
            "4:11: resources.memory: wants a whole number with a unit, such as 512MiB or 2GiB",
        ),
        (
            "resources:\n  cpu: -1",
            "4:8: resources.cpu: is negative; wants cores such as 0.5, or thousandths of a core such as 500m",
        ),
        (
            "resources:\n  gpus: one",
            "4:9: resources.gpus: wants a whole number from 0 to 64, not a text",
        ),
        (
            "labels: [a]",
            "3:9: labels: wants a mapping of names to texts, not a list",
        ),
        (
            "labels:\n  wave: 12",
            "4:9: labels.wave: wants a text, not the number 12; put it in quotes",
        ),
        (
            "idempotency_key: ''",
            "3:18: idempotency_key: is empty; leave it out to have one drawn",
        ),
    ];
    for (line, complaint) in table {
        assert_eq!(
            yaml(&format!("{head}{line}\n")),
            Err(format!("job.yaml:{complaint}")),
            "{line}"
        );
    }
}

#[test]
fn complaints_about_photos() {
    let table = [
        (
            "photos: []",
            "2:9: photos: names no photo; a job has at least one",
        ),
        (
            "photos: [a.jpg, 7]",
            "2:17: photos[1]: wants a text, not the number 7; put it in quotes",
        ),
        (
            "photos: ['s3://b/k']",
            "2:10: photos[0]: s3:// is not supported; file://, http:// and https:// are",
        ),
        (
            "photos: [{dir: a, glob: b}]",
            "2:10: photos[0]: wants exactly one of dir, glob, list",
        ),
        (
            "photos: [{folder: a}]",
            "2:11: photos[0].folder: no such field; there are: dir, glob, list",
        ),
        (
            "photos:\n  - glob: '/nowhere/*.jpg'",
            "3:11: photos[0].glob: no file matches /nowhere/*.jpg",
        ),
        (
            "photos: {glob: '/nowhere/*.jpg'}",
            "2:16: photos.glob: no file matches /nowhere/*.jpg",
        ),
        (
            "photos:\n  - dir: 5",
            "3:10: photos[0].dir: wants a text, not the number 5; put it in quotes",
        ),
    ];
    for (line, complaint) in table {
        assert_eq!(
            yaml(&format!("version: 1\n{line}\n")),
            Err(format!("job.yaml:{complaint}")),
            "{line}"
        );
    }
    let missing = "/base/none.txt: cannot be read: No such file or directory (os error 2)";
    assert_eq!(
        yaml("version: 1\nphotos: {list: none.txt}\n"),
        Err(missing.into())
    );
}

#[test]
fn complaints_about_the_whole() {
    let table = [
        ("photos: [a.jpg]", "1:1: version: is missing; write `version: 1`"),
        (
            "version: 2\nphotos: [a.jpg]",
            "1:10: version: wants 1, the one version there is, not the number 2",
        ),
        (
            "version: 1",
            "1:1: photos: is missing; name the photos by path, {dir: …}, {glob: …} or {list: …}",
        ),
        (
            "- a.jpg",
            "1:1: a job specification is a mapping that begins with `version: 1`, not a list",
        ),
    ];
    for (text, complaint) in table {
        assert_eq!(yaml(text), Err(format!("job.yaml:{complaint}")), "{text}");
    }
}

#[test]
fn broken_yaml_and_json_are_pointed_at() {
    let error = yaml("version: 1\nname: a\nname: b\nphotos: [a]\n").expect_err("a field twice");
    assert!(
        error.starts_with("job.yaml:3:1: ") && error.contains("duplicate"),
        "{error}"
    );
    let error = yaml("version: 1\nphotos: [a, b\nname: x\n").expect_err("an open bracket");
    assert!(error.starts_with("job.yaml:"), "{error}");
    let error = json("{\"version\": 1,\n \"photos\": [\"a\"],\n}").expect_err("a comma too many");
    assert_eq!(error, "job.json:3:1: not JSON: key must be a string");
    let error = json("version: 1\nphotos: [a]").expect_err("YAML is not JSON");
    assert_eq!(error, "job.json:1:1: not JSON: expected value");
    let error = json(r#"{"version": 1, "photos": ["a"], "photos": ["b"]}"#).expect_err("a field twice");
    assert!(error.starts_with("job.json:1:33: "), "{error}");
    let error =
        json(r#"{"version": 1, "deadline": "-3m", "photos": ["a"]}"#).expect_err("a negative deadline");
    assert!(
        error.starts_with("job.json:1:28: deadline: a deadline cannot be negative; "),
        "{error}"
    );
}

#[test]
fn nothing_said_by_aliases_grows_without_bound() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let row = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{row}]\n"));
    }
    yaml(&text).expect_err("ten to the twelfth values");
    let deep = format!("version: 1\nphotos: {}{}", "[".repeat(40), "]".repeat(40));
    yaml(&deep).expect_err("forty deep");
}

#[test]
fn a_job_has_at_most_so_many_photos() {
    let list = |n: usize| format!("version: 1\nphotos:\n{}", "- a.jpg\n".repeat(n));
    assert_eq!(yaml(&list(100_000)).map(|job| job.photos.len()), Ok(100_000));
    let complaint = "job.yaml:3:3: photos: 100001 photos; a job has at most 100000: make several jobs of them with --batch N";
    assert_eq!(yaml(&list(100_001)), Err(complaint.into()));
}

#[test]
fn limits_hold_at_the_limit_and_one_over() {
    let labels = |n: usize| {
        let rows: String = (0..n).map(|i| format!("  l{i}: x\n")).collect();
        yaml(&format!("version: 1\nphotos: [a]\nlabels:\n{rows}"))
    };
    assert_eq!(labels(16).map(|job| job.labels.len()), Ok(16));
    assert_eq!(
        labels(17),
        Err("job.yaml:4:3: labels: 17 labels; at most 16 are allowed".into())
    );
    let key = |n: usize| {
        yaml(&format!(
            "version: 1\nphotos: [a]\nidempotency_key: {}",
            "k".repeat(n)
        ))
    };
    assert!(key(256).is_ok());
    let complaint = "job.yaml:3:18: idempotency_key: has 257 bytes; at most 256 are allowed";
    assert_eq!(key(257), Err(complaint.into()));
}

/// The published schema names the same fields and the same bounds.
#[test]
fn the_schema_agrees() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/job-spec.schema.json");
    let text = std::fs::read_to_string(path).expect("the schema is there");
    let schema: serde_json::Value = serde_json::from_str(&text).expect("the schema is JSON");
    let names = |pointer: &str| {
        let object = schema
            .pointer(pointer)
            .and_then(|v| v.as_object())
            .expect(pointer);
        let mut names: Vec<String> = object.keys().cloned().collect();
        names.sort();
        names
    };
    let sorted = |fields: &[&str]| {
        let mut names: Vec<String> = fields.iter().map(|f| f.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names("/properties"), sorted(&FIELDS));
    assert_eq!(names("/properties/resources/properties"), sorted(&RESOURCES));
    let sources: Vec<String> = (0..SOURCES.len())
        .flat_map(|i| names(&format!("/$defs/source/oneOf/{i}/properties")))
        .collect();
    assert_eq!(sources, SOURCES);
    for strict in ["", "/properties/resources", "/$defs/source/oneOf/0"] {
        let pointer = format!("{strict}/additionalProperties");
        assert_eq!(
            schema.pointer(&pointer),
            Some(&serde_json::Value::Bool(false)),
            "{pointer}"
        );
    }
    let bounds = [
        ("/properties/version/const", u64::from(VERSION)),
        ("/properties/name/maxLength", NAME_BYTES_MAX as u64),
        ("/properties/priority/maximum", u64::from(PRIORITY_MAX)),
        ("/properties/max_attempts/minimum", 1),
        ("/properties/max_attempts/maximum", u64::from(ATTEMPTS_MAX)),
        ("/properties/labels/maxProperties", LABELS_MAX as u64),
        (
            "/properties/labels/additionalProperties/maxLength",
            NAME_BYTES_MAX as u64,
        ),
        ("/properties/idempotency_key/maxLength", KEY_BYTES_MAX as u64),
        (
            "/properties/resources/properties/gpus/maximum",
            u64::from(GPUS_MAX),
        ),
        (
            "/properties/photos/oneOf/2/maxItems",
            crate::limits::TASKS_PER_JOB_MAX,
        ),
    ];
    for (pointer, bound) in bounds {
        assert_eq!(
            schema.pointer(pointer).and_then(|v| v.as_u64()),
            Some(bound),
            "{pointer}"
        );
    }
    let required = schema
        .pointer("/required")
        .and_then(|v| v.as_array())
        .map(|names| names.len());
    assert_eq!(
        required,
        Some(2),
        "version and photos; a recogniser may come from the command line"
    );
}
