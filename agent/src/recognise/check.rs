//! Whether what a manifest says can be: each field within its bounds, each section with the kind it belongs
//! to.

use std::path::Path;

use super::manifest::{
    Document, FileEntry, Kind, MANIFEST_FORMAT, MAX_FILES, MAX_NAME_BYTES, MAX_PHOTO_BYTES,
    MAX_PHOTO_TIMEOUT_MS, MAX_PIXELS, ManifestError, Settings,
};

pub(super) fn check(file: &Path, dir: &Path, document: &Document) -> Result<Settings, ManifestError> {
    let wrong =
        |field: &str, problem: String, fix: String| Err(ManifestError::new(file, field, problem, fix));
    if document.format != MANIFEST_FORMAT {
        let problem = format!("{} is not known", document.format);
        return wrong(
            "format",
            problem,
            format!("this version reads format {MANIFEST_FORMAT}"),
        );
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if document.name.is_empty() || document.name.len() > MAX_NAME_BYTES || !document.name.chars().all(plain) {
        let fix = format!("use 1 to {MAX_NAME_BYTES} of a-z, 0-9 and '-'");
        return wrong("name", format!("{:?} is not a name", document.name), fix);
    }
    let folder = dir
        .canonicalize()
        .ok()
        .and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    if folder.as_ref().is_some_and(|folder| *folder != document.name) {
        let problem = format!(
            "{:?} is not the folder's name {:?}",
            document.name,
            folder.unwrap_or_default()
        );
        return wrong("name", problem, "give both the same name".into());
    }
    check_limits(file, document)?;
    check_files(file, &document.files)?;
    check_settings(file, document)
}

fn check_limits(file: &Path, document: &Document) -> Result<(), ManifestError> {
    let limits = &document.limits;
    let resources = &document.resources;
    let ranges = [
        ("limits.max_photo_bytes", limits.max_photo_bytes, MAX_PHOTO_BYTES),
        ("limits.max_pixels", limits.max_pixels, MAX_PIXELS),
        (
            "limits.photo_timeout_ms",
            limits.photo_timeout_ms,
            MAX_PHOTO_TIMEOUT_MS,
        ),
        ("resources.milli_cpu", resources.milli_cpu.into(), u32::MAX.into()),
        (
            "resources.memory_mib",
            resources.memory_mib.into(),
            u32::MAX.into(),
        ),
    ];
    for (field, value, most) in ranges {
        in_range(file, field, value, 1, most)?;
    }
    Ok(())
}

fn check_files(file: &Path, files: &[FileEntry]) -> Result<(), ManifestError> {
    let wrong =
        |field: String, problem: String, fix: &str| Err(ManifestError::new(file, &field, problem, fix));
    if files.len() > MAX_FILES {
        return wrong(
            "files".into(),
            format!("{} files", files.len()),
            "at most 16 are allowed",
        );
    }
    for (i, entry) in files.iter().enumerate() {
        let name = Path::new(&entry.name);
        if name.file_name() != Some(name.as_os_str()) {
            let fix = "name a file in the recogniser's own folder, without a path";
            return wrong(
                format!("files[{i}].name"),
                format!("{:?} is not a plain file name", entry.name),
                fix,
            );
        }
        if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            let fix = "give the 64 hex digits that `sha256sum` prints";
            return wrong(
                format!("files[{i}].sha256"),
                format!("{:?} is not a sha256", entry.sha256),
                fix,
            );
        }
        if files[..i].iter().any(|other| other.role == entry.role) {
            let fix = "give each file a role of its own";
            return wrong(
                format!("files[{i}].role"),
                format!("{:?} is there twice", entry.role),
                fix,
            );
        }
    }
    Ok(())
}

fn check_settings(file: &Path, document: &Document) -> Result<Settings, ManifestError> {
    let Document {
        classifier,
        detector,
        reader,
        command,
        ..
    } = document.clone();
    let absent = |section: &str| {
        let problem = format!("a recogniser of kind {:?} needs this section", document.kind);
        ManifestError::new(file, &format!("[{section}]"), problem, "add it")
    };
    let mut sections = vec![
        (
            "classifier",
            classifier.is_some(),
            document.kind == Kind::Classifier,
        ),
        ("detector", detector.is_some(), document.kind == Kind::ShelfText),
        ("reader", reader.is_some(), document.kind == Kind::ShelfText),
        ("command", command.is_some(), document.kind == Kind::Command),
    ];
    sections.retain(|(_, there, wanted)| *there && !*wanted);
    if let Some((section, ..)) = sections.first() {
        let problem = format!("does not belong to the kind {:?}", document.kind);
        return Err(ManifestError::new(
            file,
            &format!("[{section}]"),
            problem,
            "remove it, or change `kind`",
        ));
    }
    match document.kind {
        Kind::Classifier => {
            let settings = classifier.ok_or_else(|| absent("classifier"))?;
            settings.check(file)?;
            Ok(Settings::Classifier(settings))
        }
        Kind::ShelfText => {
            let detector = detector.ok_or_else(|| absent("detector"))?;
            let reader = reader.ok_or_else(|| absent("reader"))?;
            detector.check(file)?;
            reader.check(file)?;
            Ok(Settings::ShelfText(detector, reader))
        }
        Kind::Command => {
            let settings = command.ok_or_else(|| absent("command"))?;
            settings.check(file)?;
            Ok(Settings::Command(settings))
        }
        Kind::Noop => Ok(Settings::Noop),
    }
}

pub(super) fn in_range(
    file: &Path,
    field: &str,
    value: u64,
    least: u64,
    most: u64,
) -> Result<(), ManifestError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ManifestError::new(
        file,
        field,
        format!("{value} is out of range"),
        format!("give {least} to {most}"),
    ))
}
