//! A recogniser's folder and its `manifest.toml`.
//!
//! The manifest says what kind of recogniser it is, which files it has with their sha256, how a photo is
//! prepared, and its limits. Its own sha256 is the recogniser's identity: a job may pin it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::check::check;
pub use super::settings::{ClassifierSettings, CommandSettings, DetectorSettings, ReaderSettings};

/// The manifest's file name in a recogniser's folder.
pub const MANIFEST_FILE: &str = "manifest.toml";

/// The one format of manifests there is.
pub const MANIFEST_FORMAT: u32 = 1;

/// Largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// Largest file of a recogniser, in bytes. Models are loaded from memory.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;

/// Longest name of a recogniser, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Most files of a recogniser.
pub const MAX_FILES: usize = 16;

/// Largest photo that a manifest may allow, in bytes.
pub const MAX_PHOTO_BYTES: u64 = 1024 * 1024 * 1024;

/// Most pixels of a photo that a manifest may allow.
pub const MAX_PIXELS: u64 = 200_000_000;

/// Longest time in the recogniser that a manifest may allow for one photo, in milliseconds: one hour.
pub const MAX_PHOTO_TIMEOUT_MS: u64 = 3_600_000;

/// What is wrong with a recogniser's folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: {field}{problem}; {fix}", file.display(), field = field_prefix(field))]
pub struct ManifestError {
    /// The file at fault.
    pub file: PathBuf,
    /// The field at fault, empty if it is the file as a whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

impl ManifestError {
    pub(super) fn new(file: &Path, field: &str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

/// How a recogniser works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An ONNX model that gives a probability for each of its labels.
    Classifier,
    /// Two ONNX models: one finds lines of text, one reads them.
    ShelfText,
    /// A program: the photo's path is its last argument, it prints JSON.
    Command,
    /// Does nothing; the agent answers by itself, without a process.
    Noop,
}

/// One file of a recogniser.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// What it is for, e.g. `model` or `labels`.
    pub role: String,
    /// A file name in the recogniser's folder.
    pub name: String,
    /// 64 hex digits.
    pub sha256: String,
}

/// What a photo may be, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest file, in bytes.
    pub max_photo_bytes: u64,
    /// Most pixels.
    pub max_pixels: u64,
    /// Longest time of one photo in the recogniser unless the job says otherwise, in milliseconds.
    pub photo_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_photo_bytes: 20 * 1024 * 1024,
            max_pixels: 50_000_000,
            photo_timeout_ms: 30_000,
        }
    }
}

/// What one photo takes while it is in the recogniser, unless the job says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultResources {
    /// Thousandths of a core.
    pub milli_cpu: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
}

impl Default for DefaultResources {
    fn default() -> Self {
        Self {
            milli_cpu: 1000,
            memory_mib: 256,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) format: u32,
    pub(super) name: String,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) resources: DefaultResources,
    #[serde(default)]
    pub(super) files: Vec<FileEntry>,
    pub(super) classifier: Option<ClassifierSettings>,
    pub(super) detector: Option<DetectorSettings>,
    pub(super) reader: Option<ReaderSettings>,
    pub(super) command: Option<CommandSettings>,
}

/// What a recogniser of each kind needs to know.
#[derive(Clone, Debug)]
pub enum Settings {
    /// See [`Kind::Classifier`].
    Classifier(ClassifierSettings),
    /// See [`Kind::ShelfText`].
    ShelfText(DetectorSettings, ReaderSettings),
    /// See [`Kind::Command`].
    Command(CommandSettings),
    /// See [`Kind::Noop`].
    Noop,
}

/// A recogniser's folder with a manifest that was read and found right. Its files are not read yet.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The recogniser's name, which is its folder's name.
    pub name: String,
    /// How it works.
    pub kind: Kind,
    /// What a photo may be.
    pub limits: Limits,
    /// What a photo takes.
    pub resources: DefaultResources,
    /// The recogniser's files.
    pub files: Vec<FileEntry>,
    /// The part that depends on the kind.
    pub settings: Settings,
    dir: PathBuf,
    digest: [u8; 32],
}

impl Manifest {
    /// Reads and checks the manifest in `dir`. Does not look at the other files: see [`Self::verify_files`].
    pub fn load(dir: &Path) -> Result<Self, ManifestError> {
        let file = dir.join(MANIFEST_FILE);
        let bytes = read_bounded(&file, "", MAX_MANIFEST_BYTES)?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            ManifestError::new(&file, "", format!("is not UTF-8: {error}"), "save it as UTF-8")
        })?;
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            let problem = error.message().trim_end().replace('\n', " ");
            ManifestError::new(&file, &format!("line {line}"), problem, "correct that line")
        })?;
        let settings = check(&file, dir, &document)?;
        Ok(Self {
            name: document.name,
            kind: document.kind,
            limits: document.limits,
            resources: document.resources,
            files: document.files,
            settings,
            dir: dir.into(),
            digest: Sha256::digest(&bytes).into(),
        })
    }

    /// The sha256 of the manifest file: the recogniser's identity.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The recogniser's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks that every file is here with the sha256 that the manifest names. Reads all of them: tens of
    /// milliseconds for small models.
    pub fn verify_files(&self) -> Result<(), ManifestError> {
        self.files
            .iter()
            .try_for_each(|entry| self.read_entry(entry).map(drop))
    }

    /// The bytes of the file with this role, after their sha256 was checked.
    pub fn read_file(&self, role: &str) -> Result<Vec<u8>, ManifestError> {
        let entry = self.files.iter().find(|entry| entry.role == role);
        let entry = entry.ok_or_else(|| {
            let manifest = self.dir.join(MANIFEST_FILE);
            ManifestError::new(
                &manifest,
                "files",
                format!("no file has the role {role:?}"),
                "add one with its sha256",
            )
        })?;
        self.read_entry(entry)
    }

    fn read_entry(&self, entry: &FileEntry) -> Result<Vec<u8>, ManifestError> {
        let path = self.dir.join(&entry.name);
        let bytes = read_bounded(&path, &entry.role, MAX_FILE_BYTES)?;
        let found = hex(&Sha256::digest(&bytes));
        if !found.eq_ignore_ascii_case(&entry.sha256) {
            let problem = format!(
                "its sha256 is {found}, but {MANIFEST_FILE} names {}",
                entry.sha256
            );
            let fix = format!(
                "bring the right {} back, or name its sha256 in {MANIFEST_FILE} if it was meant to change",
                entry.name
            );
            return Err(ManifestError::new(&path, &entry.role, problem, fix));
        }
        Ok(bytes)
    }
}

/// The manifests in all sub-folders of `dir` that have one, in the order of their names. A folder that cannot
/// be read is one error.
pub fn discover(dir: &Path) -> Vec<Result<Manifest, ManifestError>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            let fix = "name the folder that holds the recognisers' folders";
            return vec![Err(ManifestError::new(
                dir,
                "",
                format!("cannot be listed: {error}"),
                fix,
            ))];
        }
    };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.join(MANIFEST_FILE).exists());
    folders.sort();
    folders.iter().map(|folder| Manifest::load(folder)).collect()
}

fn read_bounded(path: &Path, field: &str, most: u64) -> Result<Vec<u8>, ManifestError> {
    let gone = |error: std::io::Error| {
        let fix = if field.is_empty() {
            "name a recogniser's folder"
        } else {
            "bring the file, see deploy/setup.sh"
        };
        ManifestError::new(path, field, format!("cannot be read: {error}"), fix)
    };
    let meta = fs::metadata(path).map_err(gone)?;
    if !meta.is_file() {
        return Err(ManifestError::new(
            path,
            field,
            "is not a regular file",
            "put a file there",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(gone)?;
    if bytes.len() as u64 > most {
        return Err(ManifestError::new(
            path,
            field,
            format!("is larger than {most} bytes"),
            "use a smaller file",
        ));
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
