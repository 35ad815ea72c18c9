//! The fields of a job specification. `docs/job-spec.schema.json` says the same to editors.

use std::path::PathBuf;

use rebound_proto::v1::job_spec::Deadline;
use rebound_proto::v1::{Label, Resources};

use super::node::{self, Key, Node, Value};
use super::photos::{Gather, Photos};
use super::value;
use super::{Mistake, SpecError};
use crate::limits::{ATTEMPTS_MAX, KEY_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, PRIORITY_MAX};

/// The one version of the format there is.
const VERSION: u32 = 1;
/// Most GPUs a photo may ask for.
const GPUS_MAX: u32 = 64;

/// Fields of a specification.
const FIELDS: [&str; 13] = [
    "version",
    "name",
    "recogniser",
    "region",
    "resources",
    "priority",
    "deadline",
    "drop_late",
    "photo_timeout",
    "max_attempts",
    "labels",
    "idempotency_key",
    "photos",
];
/// Fields of `resources`.
const RESOURCES: [&str; 3] = ["cpu", "memory", "gpus"];
/// Fields of an entry of `photos` that names many.
const SOURCES: [&str; 3] = ["dir", "glob", "list"];

/// What a specification says; what it leaves out is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFile {
    /// The job's name.
    pub name: Option<String>,
    /// The recogniser's name, with `@` and its digest if it is pinned.
    pub recogniser: Option<String>,
    /// The region of the photos' bucket.
    pub region: Option<String>,
    /// What each photo needs.
    pub resources: Option<Resources>,
    /// 0..=100.
    pub priority: Option<u32>,
    /// When the whole job should be done.
    pub deadline: Option<Deadline>,
    /// Photos whose deadline has passed are not done.
    pub drop_late: bool,
    /// Longest time of a photo in the recogniser, in µs.
    pub photo_timeout_us: Option<u64>,
    /// Attempts that may fail through the photo or the recogniser.
    pub max_attempts: Option<u32>,
    /// In the order of the file.
    pub labels: Vec<Label>,
    /// The key that makes submitting repeatable.
    pub idempotency_key: Option<String>,
    /// Absolute URIs, in the order of the file.
    pub photos: Vec<String>,
}

/// Where a value stands, for complaints about it.
struct At<'a> {
    file: &'a str,
    field: String,
    line: u64,
    column: u64,
}

impl At<'_> {
    fn error(&self, mistake: impl Into<Mistake>) -> SpecError {
        let Mistake(message) = mistake.into();
        SpecError {
            file: self.file.into(),
            line: self.line,
            column: self.column,
            field: self.field.clone(),
            message,
        }
    }
}

/// Parses the specification `text` of `file`: JSON if `json`, else YAML. Relative paths are taken from `base`.
/// At most `photos_max` photos.
pub fn parse(
    file: &str,
    text: &str,
    json: bool,
    base: PathBuf,
    photos_max: usize,
) -> Result<JobFile, SpecError> {
    let root = node::parse(file, text, json)?;
    let Value::Map(fields) = &root.value else {
        let message = format!(
            "a job specification is a mapping that begins with `version: 1`, not {}",
            { root.value.describe() }
        );
        return Err(SpecError {
            line: root.line,
            column: root.column,
            ..SpecError::of_file(file, message)
        });
    };
    let mut job = JobFile::default();
    let mut seen = Vec::new();
    for (key, node) in fields {
        let at = At {
            file,
            field: key.name.clone(),
            line: node.line,
            column: node.column,
        };
        match key.name.as_str() {
            "version" => version(&node.value).map_err(|m| at.error(m))?,
            "name" => job.name = Some(text_of(node, value::job_name).map_err(|m| at.error(m))?),
            "recogniser" => job.recogniser = Some(text_of(node, recogniser).map_err(|m| at.error(m))?),
            "region" => job.region = Some(text_of(node, region).map_err(|m| at.error(m))?),
            "resources" => job.resources = Some(resources(file, node)?),
            "priority" => job.priority = Some(node.value.whole(0, PRIORITY_MAX).map_err(|m| at.error(m))?),
            "deadline" => job.deadline = Some(with_unit(node, value::deadline).map_err(|m| at.error(m))?),
            "drop_late" => job.drop_late = node.value.truth().map_err(|m| at.error(m))?,
            "photo_timeout" => {
                job.photo_timeout_us = Some(with_unit(node, value::photo_timeout).map_err(|m| at.error(m))?);
            }
            "max_attempts" => {
                job.max_attempts = Some(node.value.whole(1, ATTEMPTS_MAX).map_err(|m| at.error(m))?)
            }
            "labels" => job.labels = labels(file, node)?,
            "idempotency_key" => {
                job.idempotency_key = Some(text_of(node, key_text).map_err(|m| at.error(m))?)
            }
            "photos" => job.photos = photos(&at, node, base.clone(), photos_max)?,
            _ => return Err(unknown_field(file, "", key, &FIELDS)),
        }
        seen.push(key.name.as_str());
    }
    match ["version", "photos"]
        .into_iter()
        .find(|name| !seen.contains(name))
    {
        Some("version") => Err(missing(file, &root, "version", "is missing; write `version: 1`")),
        Some(name) => Err(missing(
            file,
            &root,
            name,
            "is missing; name the photos by path, {dir: …}, {glob: …} or {list: …}",
        )),
        None => Ok(job),
    }
}

fn missing(file: &str, root: &Node, field: &str, message: &str) -> SpecError {
    At {
        file,
        field: field.into(),
        line: root.line,
        column: root.column,
    }
    .error(message)
}

fn unknown_field(file: &str, parent: &str, key: &Key, known: &[&str]) -> SpecError {
    let field = if parent.is_empty() {
        key.name.clone()
    } else {
        format!("{parent}.{}", key.name)
    };
    let at = At {
        file,
        field,
        line: key.line,
        column: key.column,
    };
    at.error(format!("no such field; there are: {}", known.join(", ")))
}

fn version(value: &Value) -> Result<(), Mistake> {
    match value {
        Value::Whole(n) if *n == i128::from(VERSION) => Ok(()),
        other => Err(format!(
            "wants {VERSION}, the one version there is, not {}",
            other.describe()
        )
        .into()),
    }
}

fn text_of<T>(node: &Node, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T, Mistake> {
    read(node.value.text()?)
}

/// As [`text_of`], for values that need a unit: a bare number is told so by the reader itself.
fn with_unit<T>(node: &Node, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T, Mistake> {
    match &node.value {
        Value::Whole(number) => read(&number.to_string()),
        Value::Number(number) => read(&number.to_string()),
        other => read(other.text()?),
    }
}

/// A recogniser's name, alone or with `@` and at least 8 digits of its manifest's sha256.
pub fn recogniser(text: &str) -> Result<String, Mistake> {
    let (name, digest) = text
        .split_once('@')
        .map_or((text, None), |(name, digest)| (name, Some(digest)));
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        let rule = format!("1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`");
        return Err(format!("wants a recogniser's name: {rule}, as `rebound worker list` shows it").into());
    }
    if digest.is_some_and(|d| !(8..=64).contains(&d.len()) || !d.chars().all(|c| c.is_ascii_hexdigit())) {
        return Err("after `@` wants 8 to 64 hex digits of the manifest's sha256".into());
    }
    Ok(text.to_string())
}

/// A region's name.
pub fn region(text: &str) -> Result<String, Mistake> {
    match rebound_core::env_rule::is_region(text) {
        true => Ok(text.to_string()),
        false => Err("is no region; write one as eu-central-1".into()),
    }
}

/// An idempotency key.
pub fn key_text(text: &str) -> Result<String, Mistake> {
    match text.len() {
        0 => Err("is empty; leave it out to have one drawn".into()),
        n if n > KEY_BYTES_MAX => Err(format!("has {n} bytes; at most {KEY_BYTES_MAX} are allowed").into()),
        _ => Ok(text.to_string()),
    }
}

fn resources(file: &str, node: &Node) -> Result<Resources, SpecError> {
    let at = At {
        file,
        field: "resources".into(),
        line: node.line,
        column: node.column,
    };
    let Value::Map(fields) = &node.value else {
        return Err(at.error(format!(
            "wants a mapping of {}, not {}",
            RESOURCES.join(", "),
            node.value.describe()
        )));
    };
    let mut resources = Resources::default();
    for (key, node) in fields {
        let field = format!("resources.{}", key.name);
        let at = At {
            file,
            field,
            line: node.line,
            column: node.column,
        };
        match key.name.as_str() {
            "cpu" => resources.milli_cpu = with_unit(node, value::cpu).map_err(|m| at.error(m))?,
            "memory" => resources.memory_mib = with_unit(node, value::memory).map_err(|m| at.error(m))?,
            "gpus" => resources.gpus = node.value.whole(0, GPUS_MAX).map_err(|m| at.error(m))?,
            _ => return Err(unknown_field(file, "resources", key, &RESOURCES)),
        }
    }
    Ok(resources)
}

fn labels(file: &str, node: &Node) -> Result<Vec<Label>, SpecError> {
    let at = At {
        file,
        field: "labels".into(),
        line: node.line,
        column: node.column,
    };
    let Value::Map(fields) = &node.value else {
        return Err(at.error(format!(
            "wants a mapping of names to texts, not {}",
            node.value.describe()
        )));
    };
    if fields.len() > LABELS_MAX {
        return Err(at.error(format!(
            "{} labels; at most {LABELS_MAX} are allowed",
            fields.len()
        )));
    }
    let read = |(key, node): &(Key, Node)| {
        let value_at = At {
            file,
            field: format!("labels.{}", key.name),
            line: node.line,
            column: node.column,
        };
        let key_at = At {
            file,
            field: "labels".into(),
            line: key.line,
            column: key.column,
        };
        let key =
            value::job_name(&key.name).map_err(|Mistake(m)| key_at.error(format!("a label's name {m}")))?;
        let value = text_of(node, label_value).map_err(|m| value_at.error(m))?;
        Ok(Label { key, value })
    };
    fields.iter().map(read).collect()
}

fn label_value(text: &str) -> Result<String, Mistake> {
    match text.len() {
        n if n > NAME_BYTES_MAX => Err(format!("has {n} bytes; at most {NAME_BYTES_MAX} are allowed").into()),
        _ => Ok(text.to_string()),
    }
}

fn photos(at: &At<'_>, node: &Node, base: PathBuf, photos_max: usize) -> Result<Vec<String>, SpecError> {
    let mut gather = Gather::new(base);
    match &node.value {
        Value::List(entries) => {
            for (i, entry) in entries.iter().enumerate() {
                add(at.file, &format!("photos[{i}]"), entry, &mut gather)?;
            }
        }
        _ => add(at.file, "photos", node, &mut gather)?,
    }
    let uris = gather.finish();
    match uris.len() {
        0 => Err(at.error("names no photo; a job has at least one")),
        n if n > photos_max => Err(at.error(format!(
            "{n} photos; a job has at most {photos_max}: make several jobs of them with --batch N"
        ))),
        _ => Ok(uris),
    }
}

/// Adds what one entry of `photos` names.
fn add(file: &str, field: &str, node: &Node, gather: &mut Gather) -> Result<(), SpecError> {
    let at = |field: String, line, column| At {
        file,
        field,
        line,
        column,
    };
    let (photos, at) = match &node.value {
        Value::Map(fields) => {
            let [(key, value)] = fields.as_slice() else {
                let at = at(field.into(), node.line, node.column);
                return Err(at.error(format!("wants exactly one of {}", SOURCES.join(", "))));
            };
            let at = at(format!("{field}.{}", key.name), value.line, value.column);
            let text = value.value.text().map_err(|m| at.error(m))?;
            let photos = match key.name.as_str() {
                "dir" => Photos::Dir(text.into()),
                "glob" => Photos::Glob(text.into()),
                "list" => Photos::List(text.into()),
                _ => return Err(unknown_field(file, field, key, &SOURCES)),
            };
            (photos, at)
        }
        other => {
            let at = at(field.into(), node.line, node.column);
            (
                Photos::One(other.text().map_err(|m| at.error(m))?.to_string()),
                at,
            )
        }
    };
    // A complaint from inside a list of photos keeps its own place.
    gather.add(&photos).map_err(|error| {
        if error.file.is_empty() {
            at.error(error.message)
        } else {
            error
        }
    })
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
