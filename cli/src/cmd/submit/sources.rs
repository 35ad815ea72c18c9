//! What the words on the command line of `rebound submit` name.

use std::path::{Path, PathBuf};

use super::SubmitArgs;
use crate::exit::Failure;
use crate::limits::{NAME_BYTES_MAX, SUBMIT_PHOTOS_MAX, TASKS_PER_JOB_MAX};
use crate::spec::{self, Gather, JobFile, Photos, SpecError};

/// What stdin is called on the command line.
const STDIN: &str = "-";

/// Reads what is to be submitted.
pub fn read(args: &SubmitArgs) -> Result<JobFile, Failure> {
    let here =
        std::env::current_dir().map_err(|error| Failure::failed(format!("no current directory: {error}")))?;
    let photos_max = if args.batch.is_some() {
        SUBMIT_PHOTOS_MAX
    } else {
        photos_per_job()
    };
    if let Some(spec) = args.sources.iter().find(|source| is_spec(source, args)) {
        if args.sources.len() > 1 {
            return Err(Failure::usage(format!(
                "{spec} is a job specification, which has to be the only argument"
            )));
        }
        return Ok(read_spec(spec, &here, photos_max)?);
    }
    let mut gather = Gather::new(here.clone());
    for source in &args.sources {
        if source == STDIN {
            let text = spec::read_stdin()?;
            gather.add_lines(spec::STDIN, &text, here.clone())?;
        } else {
            let named = |error: SpecError| {
                if error.file.is_empty() {
                    SpecError {
                        file: source.clone(),
                        ..error
                    }
                } else {
                    error
                }
            };
            gather.add(&kind_of(source)?).map_err(named)?;
        }
    }
    let photos = gather.finish();
    match photos.len() {
        0 => Err(Failure::usage(format!(
            "{} names no photo",
            args.sources.join(" ")
        ))),
        n if n > photos_max => Err(Failure::usage(format!(
            "{n} photos; a job has at most {photos_max}: make several jobs of them with --batch N"
        ))
        .at("photos")),
        _ => Ok(JobFile {
            name: name_from(&args.sources),
            photos,
            ..JobFile::default()
        }),
    }
}

fn photos_per_job() -> usize {
    usize::try_from(TASKS_PER_JOB_MAX).unwrap_or(usize::MAX)
}

fn is_spec(source: &str, args: &SubmitArgs) -> bool {
    if source == STDIN {
        return args.recogniser.is_none();
    }
    let path = Path::new(source);
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(ending, "yaml" | "yml" | "json") && !path.is_dir() && !spec::looks_like_glob(source)
}

fn read_spec(source: &str, here: &Path, photos_max: usize) -> Result<JobFile, SpecError> {
    if source == STDIN {
        let text = spec::read_stdin()?;
        let json = text.trim_start().starts_with('{');
        return spec::parse(spec::STDIN, &text, json, here.to_path_buf(), photos_max);
    }
    let path = Path::new(source);
    let text = spec::read_file(path)?;
    let base = here
        .join(path)
        .parent()
        .map_or(here.to_path_buf(), Path::to_path_buf);
    let json = path.extension().is_some_and(|ending| ending == "json");
    let mut job = spec::parse(source, &text, json, base, photos_max)?;
    job.name = job.name.or_else(|| name_from(&[source.to_string()]));
    Ok(job)
}

/// What a source on the command line is.
fn kind_of(source: &str) -> Result<Photos, Failure> {
    let path = PathBuf::from(source);
    if path.is_dir() {
        Ok(Photos::Dir(path))
    } else if source.contains("://") || (path.exists() && spec::is_photo(&path)) {
        Ok(Photos::One(source.to_string()))
    } else if path.exists() {
        Ok(Photos::List(path))
    } else if spec::looks_like_glob(source) {
        Ok(Photos::Glob(source.to_string()))
    } else {
        Err(Failure::usage(format!("{source}: no such file or directory")).at("source"))
    }
}

/// The name of the one file or directory, without its ending.
fn name_from(sources: &[String]) -> Option<String> {
    let [source] = sources else { return None };
    let full = std::path::absolute(source).ok()?;
    let stem: String = full
        .file_stem()?
        .to_str()?
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let mut end = stem.len().min(NAME_BYTES_MAX);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    stem.get(..end).filter(|name| !name.is_empty()).map(String::from)
}
