//! `rebound photos score`: the results of a job over rendered photos against the truth beside the photos.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::score::{ReadWord, Score, score};
use super::truth::{TRUTH_FORMAT, Truth};

/// Most bytes of one line of results; a result is far below it.
pub const MAX_LINE_BYTES: u64 = 1 << 20;
/// Most bytes of one truth; the largest photo's is far below it.
pub const MAX_TRUTH_BYTES: u64 = 16 << 20;

/// Score what was read off rendered photos against the truth beside them.
#[derive(Debug, Clone, clap::Args)]
pub struct ScoreArgs {
    /// What `rebound job results JOB -o jsonl` printed; - reads it from stdin
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,
    /// The folder that the photos were rendered into
    #[arg(long, value_name = "DIR")]
    pub truth: PathBuf,
}

/// The score over all results. Shares are 0 to 1, `None` when nothing of the kind was printed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScoreSummary {
    /// Results scored; a photo that was recognised twice counts twice.
    pub photos: u64,
    /// Those among them without words to score (failed, or another kind of answer): nothing found.
    pub unread: u64,
    #[serde(flatten)]
    pub score: Score,
    pub brands_exact: Option<f64>,
    /// At most one letter off.
    pub brands_near: Option<f64>,
    pub variants_exact: Option<f64>,
    pub prices_exact: Option<f64>,
}

/// Why there is no score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error("{path} cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} line {line} is longer than {MAX_LINE_BYTES} bytes; give what `job results -o jsonl` printed"
    )]
    LineTooLong { path: PathBuf, line: u64 },
    #[error("{path} line {line} is no result: {source}; give what `job results -o jsonl` printed")]
    NoResult {
        path: PathBuf,
        line: u64,
        source: serde_json::Error,
    },
    #[error("{path} holds no result; give what `job results -o jsonl` printed")]
    Empty { path: PathBuf },
    #[error("no truth for {uri}: {path}: {source}; give the folder that it was rendered into as --truth")]
    NoTruth {
        uri: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} is no truth: {source}; render the photos anew")]
    BadTruth {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{path} has format {format}, this program knows {TRUTH_FORMAT}; render the photos anew")]
    Format { path: PathBuf, format: u32 },
}

/// A line of results, as far as it matters here.
#[derive(Deserialize)]
struct ResultLine {
    uri: String,
    #[serde(default)]
    output: Option<serde_json::Value>,
}

/// What `shelf-text` answers.
#[derive(Deserialize)]
struct Words {
    words: Vec<ReadWord>,
}

/// `rebound photos score`.
pub fn run(args: &ScoreArgs) -> Result<ScoreSummary, ScoreError> {
    if args.results == Path::new("-") {
        return score_lines(io::stdin().lock(), &args.results, &args.truth);
    }
    let file = File::open(&args.results).map_err(|source| ScoreError::Read {
        path: args.results.clone(),
        source,
    })?;
    score_lines(BufReader::new(file), &args.results, &args.truth)
}

fn score_lines(mut lines: impl BufRead, path: &Path, truths: &Path) -> Result<ScoreSummary, ScoreError> {
    let path = || path.to_owned();
    let mut summary = ScoreSummary::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = lines
            .by_ref()
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut text);
        let read = read.map_err(|source| ScoreError::Read { path: path(), source })?;
        if read == 0 {
            break;
        }
        if read as u64 > MAX_LINE_BYTES {
            return Err(ScoreError::LineTooLong { path: path(), line });
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let result: ResultLine = serde_json::from_slice(&text).map_err(|source| ScoreError::NoResult {
            path: path(),
            line,
            source,
        })?;
        summary.add(&truth_of(truths, &result.uri)?, result.output);
    }
    if summary.photos == 0 {
        return Err(ScoreError::Empty { path: path() });
    }
    Ok(summary.with_shares())
}

impl ScoreSummary {
    fn add(&mut self, truth: &Truth, output: Option<serde_json::Value>) {
        let words = output.and_then(|output| serde_json::from_value::<Words>(output).ok());
        self.photos += 1;
        self.unread += u64::from(words.is_none());
        self.score
            .add(&score(truth, &words.map_or_else(Vec::new, |words| words.words)));
    }

    fn with_shares(mut self) -> ScoreSummary {
        self.brands_exact = self.score.brands.exact_share();
        self.brands_near = self.score.brands.near_share();
        self.variants_exact = self.score.variants.exact_share();
        self.prices_exact = self.score.prices.exact_share();
        self
    }
}

fn truth_of(folder: &Path, uri: &str) -> Result<Truth, ScoreError> {
    let name = Path::new(uri.rsplit('/').next().unwrap_or(uri)).with_extension("json");
    let path = folder.join(name);
    let mut json = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_TRUTH_BYTES).read_to_end(&mut json));
    if let Err(source) = read {
        return Err(ScoreError::NoTruth {
            uri: uri.to_owned(),
            path,
            source,
        });
    }
    match serde_json::from_slice::<Truth>(&json) {
        Ok(truth) if truth.format == TRUTH_FORMAT => Ok(truth),
        Ok(truth) => Err(ScoreError::Format {
            path,
            format: truth.format,
        }),
        Err(source) => Err(ScoreError::BadTruth { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{RenderOptions, render::render};
    use super::*;

    /// Renders two photos; a perfect reader's line for each.
    fn rendered(folder: &Path) -> Vec<String> {
        let out = folder.to_owned();
        render(&RenderOptions {
            out,
            count: 2,
            seed: 3,
            width: 480,
            height: 480,
            quality: 50,
        })
        .expect("renders");
        let line = |name: &str| {
            let uri = format!("file:///somewhere/else/{name}.jpg");
            let truth = truth_of(folder, &uri).expect("has a truth");
            let words = truth.words.iter();
            let words: Vec<_> = words
                .map(|w| json!({"text": w.text, "confidence": 0.9, "box": w.corners}))
                .collect();
            let output = json!({"kind": "words", "dropped": 0, "words": words});
            json!({"job": 1, "uri": uri, "outcome": "succeeded", "output": output}).to_string()
        };
        vec![line("shelf-0001"), line("shelf-0002")]
    }

    fn scored(text: &str, folder: &Path) -> Result<ScoreSummary, String> {
        score_lines(text.as_bytes(), Path::new("results.jsonl"), folder).map_err(|error| error.to_string())
    }

    #[test]
    fn a_perfect_reader_finds_everything_and_a_failed_photo_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = rendered(folder.path());
        let all = scored(&lines.join("\n"), folder.path()).expect("scores");
        assert_eq!((all.photos, all.unread, all.score.strangers), (2, 0, 0));
        assert_eq!((all.brands_exact, all.prices_exact), (Some(1.0), Some(1.0)));
        assert!(all.score.brands.printed >= 6);

        let failed =
            json!({"uri": "file:///x/shelf-0002.jpg", "outcome": "failed", "output": null}).to_string();
        let half = scored(&format!("{}\n\n{failed}\n", lines[0]), folder.path()).expect("scores");
        assert_eq!((half.photos, half.unread), (2, 1));
        assert_eq!(half.score.brands.printed, all.score.brands.printed);
        assert!(half.brands_exact < Some(1.0) && half.brands_exact > Some(0.0));
        assert_eq!(half.brands_exact, half.brands_near);
    }

    #[test]
    fn what_cannot_be_scored_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = rendered(folder.path()).remove(0);
        let refused = |text: &str, part: &str| {
            let said = scored(text, folder.path()).expect_err("is refused");
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        };
        refused("", "holds no result");
        refused(&format!("{line}\n{{"), "line 2 is no result");
        refused(r#"{"uri":"file:///x/shelf-0009.jpg"}"#, "shelf-0009.json");
        refused(r#"{"uri":".."}"#, "--truth");
        refused(&" ".repeat(MAX_LINE_BYTES as usize + 1), "line 1 is longer");
        std::fs::write(folder.path().join("shelf-0003.json"), "{}").expect("writes");
        refused(r#"{"uri":"shelf-0003.jpg"}"#, "is no truth");
        let truth = std::fs::read_to_string(folder.path().join("shelf-0001.json")).expect("reads");
        let newer = truth.replacen("\"format\":1", "\"format\":2", 1);
        std::fs::write(folder.path().join("shelf-0004.json"), newer).expect("writes");
        refused(r#"{"uri":"shelf-0004.jpg"}"#, "has format 2");
        let gone = run(&ScoreArgs {
            results: folder.path().join("gone"),
            truth: folder.path().to_owned(),
        });
        assert!(
            gone.expect_err("is refused")
                .to_string()
                .contains("gone cannot be read")
        );
    }
}
