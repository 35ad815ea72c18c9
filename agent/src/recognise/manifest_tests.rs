use super::*;

const CLASSIFIER: &str = r#"
format = 1
name = "fruit"
kind = "classifier"

[[files]]
role = "model"
name = "model.onnx"
sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

[classifier]
input = "image"
output = "prob"
shorter_side = 256
width = 224
height = 224
resize = "bicubic"
layout = "nchw"
channels = "rgb"
mean = [127.0, 127.0, 127.0]
scale = [128.0, 128.0, 128.0]
top = 5
"#;

fn folder(manifest: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("fruit");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(MANIFEST_FILE), manifest).unwrap();
    fs::write(dir.join("model.onnx"), b"foo").unwrap();
    (home, dir)
}

fn refused(manifest: &str) -> ManifestError {
    let (_home, dir) = folder(manifest);
    Manifest::load(&dir).expect_err("it should be refused")
}

#[test]
fn a_right_manifest_is_read_and_its_digest_is_the_files() {
    let (_home, dir) = folder(CLASSIFIER);
    let manifest = Manifest::load(&dir).unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.kind),
        ("fruit", Kind::Classifier)
    );
    assert_eq!(manifest.limits, Limits::default());
    assert_eq!(manifest.digest(), <[u8; 32]>::from(Sha256::digest(CLASSIFIER)));
    manifest.verify_files().unwrap();
    assert_eq!(manifest.read_file("model").unwrap(), b"foo");
    let absent = manifest.read_file("labels").unwrap_err().to_string();
    assert!(absent.contains("no file has the role \"labels\""), "{absent}");
}

#[test]
fn every_error_names_the_file_the_field_and_what_to_do() {
    let cases = [
        ("format = 1", "format = 2", "format", "reads format 1"),
        ("name = \"fruit\"", "name = \"Fruit salad\"", "name", "a-z, 0-9"),
        ("name = \"fruit\"", "name = \"apples\"", "name", "the same name"),
        (
            "kind = \"classifier\"",
            "kind = \"magic\"",
            "line 4",
            "correct that line",
        ),
        (
            "kind = \"classifier\"",
            "kind = \"noop\"",
            "[classifier]",
            "change `kind`",
        ),
        (
            "kind = \"classifier\"",
            "kind = \"command\"",
            "[classifier]",
            "change `kind`",
        ),
        ("top = 5", "top = 5\ntpo = 6", "line 23", "correct that line"),
        ("top = 5", "top = 0", "classifier.top", "give 1 to 100"),
        ("top = 5", "top = -1", "line 22", "correct that line"),
        ("width = 224", "width = 300", "classifier.width", "give 1 to 256"),
        (
            "scale = [128.0,",
            "scale = [0.0,",
            "classifier.scale",
            "other than 0",
        ),
        (
            "mean = [127.0,",
            "mean = [nan,",
            "classifier.mean",
            "three numbers",
        ),
        (
            "name = \"model.onnx\"",
            "name = \"../model.onnx\"",
            "files[0].name",
            "own folder",
        ),
        ("sha256 = \"2c", "sha256 = \"", "files[0].sha256", "64 hex digits"),
        (
            "[classifier]",
            "[limits]\nmax_pixels = 0\n[classifier]",
            "limits.max_pixels",
            "give 1 to",
        ),
    ];
    for (from, to, field, fix) in cases {
        assert!(CLASSIFIER.contains(from), "{from}");
        let error = refused(&CLASSIFIER.replacen(from, to, 1));
        assert_eq!(error.field, field, "{to}: {error}");
        assert!(error.fix.contains(fix), "{to}: {error}");
        assert!(error.to_string().contains("fruit/manifest.toml"), "{error}");
    }
}

#[test]
fn an_unknown_field_is_named() {
    let error = refused(&format!("colour = \"red\"\n{CLASSIFIER}")).to_string();
    assert!(error.contains("unknown field `colour`"), "{error}");
}

#[test]
fn a_missing_section_and_a_doubled_role_are_named() {
    let without = CLASSIFIER.split("[classifier]").next().unwrap();
    assert_eq!(refused(without).field, "[classifier]");
    let file = &without[without.find("[[files]]").unwrap()..];
    let doubled = CLASSIFIER.replacen("[classifier]", &format!("{file}\n[classifier]"), 1);
    assert_eq!(refused(&doubled).field, "files[1].role");
}

#[test]
fn a_command_needs_an_absolute_program() {
    let text = "format = 1\nname = \"fruit\"\nkind = \"command\"\n[command]\nprogram = [\"count\"]\n";
    assert_eq!(refused(text).field, "command.program");
}

#[test]
fn a_file_with_a_wrong_digest_is_named_with_both_digests() {
    let (_home, dir) = folder(CLASSIFIER);
    fs::write(dir.join("model.onnx"), b"bar").unwrap();
    let error = Manifest::load(&dir)
        .unwrap()
        .verify_files()
        .unwrap_err()
        .to_string();
    for part in [
        "fruit/model.onnx",
        "fcde2b2edba56bf408601fb721fe9b5c",
        "2c26b46b68ffc68ff99b453c1d304134",
    ] {
        assert!(error.contains(part), "{error}");
    }
    fs::remove_file(dir.join("model.onnx")).unwrap();
    let error = Manifest::load(&dir)
        .unwrap()
        .verify_files()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("model.onnx") && error.contains("cannot be read"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_utf8_and_files_too_large_are_refused() {
    let (_home, dir) = folder(CLASSIFIER);
    fs::write(dir.join(MANIFEST_FILE), b"name = \"\xff\"").unwrap();
    assert!(
        Manifest::load(&dir)
            .unwrap_err()
            .to_string()
            .contains("not UTF-8")
    );
    fs::write(dir.join(MANIFEST_FILE), vec![b'#'; 64 * 1024 + 1]).unwrap();
    assert!(
        Manifest::load(&dir)
            .unwrap_err()
            .to_string()
            .contains("larger than 65536 bytes")
    );
}

#[test]
fn discover_finds_every_folder_in_order_and_keeps_the_errors() {
    let (home, _) = folder(CLASSIFIER);
    fs::create_dir(home.path().join("empty")).unwrap();
    fs::create_dir(home.path().join("bad")).unwrap();
    fs::write(home.path().join("bad").join(MANIFEST_FILE), "nonsense").unwrap();
    let found = discover(home.path());
    assert_eq!(found.len(), 2);
    assert!(found[0].as_ref().unwrap_err().file.ends_with("bad/manifest.toml"));
    assert_eq!(found[1].as_ref().unwrap().name, "fruit");
    assert!(discover(&home.path().join("absent"))[0].is_err());
}
