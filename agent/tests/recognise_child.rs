//! The recogniser's process as the agent sees it: frames in, frames out, whatever the photo is.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rebound_agent::recognise::frame::{FailureCause, Outcome};
use support::recogniser::{
    Child, command_recogniser, encoded_photo, recogniser, runtime_is_here, shared_data,
};

#[test]
fn bad_photos_are_told_apart_and_the_process_lives_on() {
    if !runtime_is_here() {
        return eprintln!("skipped: ONNX Runtime is not on this machine (`make runtime` installs it)");
    }
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.jpg");
    let whole = encoded_photo(image::ImageFormat::Jpeg);
    std::fs::write(&good, &whole).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut wide = encoded_photo(image::ImageFormat::Png);
    // The header's width, and the checksum left wrong: whichever is looked at first must refuse it.
    wide[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    let cases = [
        (write("text.jpg", b"this is not an image"), FailureCause::Input),
        (write("cut.jpg", &whole[..whole.len() / 2]), FailureCause::Input),
        (write("wide.png", &wide), FailureCause::Input),
        (
            write("long.jpg", &[whole.as_slice(), &[0; 2_000_000]].concat()),
            FailureCause::Input,
        ),
        (dir.path().join("gone.jpg"), FailureCause::Fetch),
        (dir.path().into(), FailureCause::Fetch),
    ];
    let mut child = Child::ready(&recogniser("grocery81"), 1);
    for (path, cause) in cases {
        match child.ask_with_limit(&path, 1_000_000) {
            Outcome::Error(failure) => assert_eq!(failure.cause, cause, "{}: {failure}", path.display()),
            Outcome::Ok(value) => panic!("{} gave {value}", path.display()),
        }
        let Outcome::Ok(value) = child.ask(&good) else {
            panic!("the good photo failed after {}", path.display())
        };
        assert_eq!(value["top"].as_array().map(Vec::len), Some(5));
    }
    assert_eq!(child.close(), Some(0));
}

#[test]
fn a_model_with_a_wrong_digest_is_fatal_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("grocery81");
    std::fs::create_dir(&copy).unwrap();
    for file in ["manifest.toml", "labels.txt", "grocery81_lite0.onnx"] {
        std::fs::copy(recogniser("grocery81").join(file), copy.join(file)).unwrap();
    }
    std::fs::write(copy.join("labels.txt"), "Apple\n").unwrap();
    if runtime_is_here() {
        let (message, code) = Child::fatal(&copy, &[]);
        assert!(
            message.contains("labels.txt") && message.contains("its sha256 is"),
            "{message}"
        );
        assert_eq!(code, Some(1));
    } else {
        eprintln!("skipped: ONNX Runtime is not on this machine (`make runtime` installs it)");
    }
}

#[test]
fn a_machine_without_onnx_runtime_is_told_how_to_get_it() {
    let (message, code) = Child::fatal(
        &recogniser("grocery81"),
        &[("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so")],
    );
    assert!(
        message.contains("make runtime") && message.contains("/no/such/libonnxruntime.so: not there"),
        "{message}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn a_folder_without_a_manifest_is_named() {
    let (message, code) = Child::fatal(Path::new("/no/such/recogniser"), &[]);
    assert!(message.contains("/no/such/recogniser/manifest.toml"), "{message}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_command_answers_fails_and_is_stopped_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"case "$0" in *slow*) sleep 600;; *bad*) echo oops >&2; exit 4;; esac; printf '{"len": %s}' $(wc -c < "$0")"#;
    let folder = command_recogniser(dir.path(), script);
    let photo = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, b"12345").unwrap();
        path
    };
    let (fine, slow, bad) = (photo("fine.jpg"), photo("slow.jpg"), photo("bad.jpg"));
    let mut child = Child::ready(&folder, 1);
    assert_eq!(child.ask(&fine), Outcome::Ok(serde_json::json!({"len": 5})));
    let cause = |outcome| match outcome {
        Outcome::Error(failure) => failure.cause,
        Outcome::Ok(value) => panic!("it gave {value}"),
    };
    assert_eq!(cause(child.ask_within(&slow, 200)), FailureCause::Timeout);
    assert_eq!(cause(child.ask(&bad)), FailureCause::Recogniser);
    assert_eq!(
        cause(child.ask(&dir.path().join("gone.jpg"))),
        FailureCause::Fetch
    );
    assert_eq!(cause(child.ask_with_limit(&fine, 4)), FailureCause::Input);
    assert_eq!(child.close(), Some(0));
}

#[test]
fn a_frame_that_is_not_a_request_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Child::ready(&command_recogniser(dir.path(), "echo 1"), 1);
    child.send_raw(b"\xff\xff\xff\xff");
    assert_eq!(child.close(), Some(1));
}

#[test]
fn the_process_ends_with_the_one_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = command_recogniser(dir.path(), "echo 1");
    let fifo = dir.path().join("stdin");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Held open here, so that the end of stdin is not what ends it.
    let _held = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let script = r#""$0" recognise --recogniser "$1" --threads 1 < "$2" & echo $!; wait"#;
    let mut parent = std::process::Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_rebound-agent")])
        .args([&folder, &fifo])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pid, then the child's first frame, on the same pipe: once that is there, the child is at work.
    let mut output = std::io::BufReader::new(parent.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let mut header = [0];
    std::io::Read::read_exact(&mut output, &mut header).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", line.trim()));
    assert!(stat.exists(), "{}", stat.display());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // Once orphaned, it is for the machine's first process to reap: a zombie is an ended one.
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the process outlives its parent");
        std::thread::yield_now();
    }
}

#[test]
fn shelf_text_reads_real_photos() {
    let Some(photos) = shared_data().map(|data| data.join("photos/grocery-store")) else {
        return eprintln!("skipped: there are no real photos here ($REBOUND_SHARED_DATA)");
    };
    if !runtime_is_here() || !recogniser("shelf-text").join("rec.onnx").exists() {
        return eprintln!(
            "skipped: ONNX Runtime or the models are not here (`make runtime models` installs them)"
        );
    }
    let mut child = Child::ready(&recogniser("shelf-text"), 2);
    let mut read = |name: &str| match child.ask(&photos.join(name)) {
        Outcome::Ok(value) => value,
        Outcome::Error(failure) => panic!("{name}: {failure}"),
    };
    let carton = read("Alpro-Fresh-Soy-Milk_007.jpg");
    let words = carton["words"].as_array().unwrap();
    let word = words.iter().find(|word| {
        word["text"]
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("alpro"))
    });
    let word = word.unwrap_or_else(|| panic!("no ALPRO in {carton}"));
    assert!(word["confidence"].as_f64().unwrap() > 0.9);
    let corners: Vec<[i64; 2]> = serde_json::from_value(word["box"].clone()).unwrap();
    assert!(
        corners.len() == 4 && corners.iter().flatten().all(|at| (-20..484).contains(at)),
        "{corners:?}"
    );
    assert_eq!(read("Banana_007.jpg")["kind"], "words");
}
