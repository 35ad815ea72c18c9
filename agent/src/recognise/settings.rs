//! The sections of a manifest that depend on the kind of recogniser.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::check::in_range;
use super::manifest::ManifestError;

/// Largest side of a model's input or of a detector's picture, in pixels.
pub const MAX_INPUT_SIDE: u32 = 4096;

/// Most labels in one result.
pub const MAX_TOP: usize = 100;

/// Most boxes that a detector may hand to the reader for one photo.
pub const MAX_BOXES: usize = 5000;

/// How a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Cubic with a = −0.5, over as many pixels as one new pixel covers.
    Bicubic,
    /// Linear, over as many pixels as one new pixel covers.
    Bilinear,
}

/// The order of a model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Picture, channel, row, column.
    Nchw,
    /// Picture, row, column, channel.
    Nhwc,
}

/// The order of a model's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// `[classifier]`: a model that gives a probability for each of its labels. Its files are `model` and
/// `labels` (a label a line).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSettings {
    /// Name of the model's input.
    pub input: String,
    /// Name of the model's output with the probabilities.
    pub output: String,
    /// The photo's shorter side is resized to this, in pixels.
    pub shorter_side: u32,
    /// Width cut out of the centre, in pixels.
    pub width: u32,
    /// Height cut out of the centre, in pixels.
    pub height: u32,
    /// How the photo is resized.
    pub resize: Resize,
    /// The order of the model's input.
    pub layout: Layout,
    /// The order of the channels.
    pub channels: Channels,
    /// Taken from each value (0 to 255), a channel each.
    pub mean: [f32; 3],
    /// Then each value is divided by this, a channel each.
    pub scale: [f32; 3],
    /// How many labels a result names.
    pub top: usize,
}

impl ClassifierSettings {
    pub(super) fn check(&self, file: &Path) -> Result<(), ManifestError> {
        let most = MAX_INPUT_SIDE.into();
        in_range(file, "classifier.shorter_side", self.shorter_side.into(), 1, most)?;
        in_range(
            file,
            "classifier.width",
            self.width.into(),
            1,
            self.shorter_side.into(),
        )?;
        in_range(
            file,
            "classifier.height",
            self.height.into(),
            1,
            self.shorter_side.into(),
        )?;
        in_range(file, "classifier.top", self.top as u64, 1, MAX_TOP as u64)?;
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err(ManifestError::new(
                file,
                "classifier.mean",
                "is not three numbers",
                "give three numbers",
            ));
        }
        if !self.scale.iter().all(|scale| scale.is_finite() && *scale != 0.0) {
            let fix = "give three numbers other than 0";
            return Err(ManifestError::new(
                file,
                "classifier.scale",
                "cannot be divided by",
                fix,
            ));
        }
        Ok(())
    }
}

/// `[detector]`: finds lines of text by a map of probabilities (differentiable binarisation). Its file is
/// `detector`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorSettings {
    /// The photo's longer side is at most this for the model, in pixels.
    pub longer_side: u32,
    /// A photo whose shorter side is less is enlarged, as far as `longer_side` allows, in pixels.
    pub shorter_side: u32,
    /// A pixel above this probability belongs to text.
    pub threshold: f32,
    /// A region is kept if its mean probability is at least this.
    pub box_threshold: f32,
    /// How far a region is grown: area × this ÷ circumference.
    pub unclip: f32,
    /// Most regions read in one photo, the surest first.
    pub max_boxes: usize,
}

impl DetectorSettings {
    pub(super) fn check(&self, file: &Path) -> Result<(), ManifestError> {
        in_range(
            file,
            "detector.longer_side",
            self.longer_side.into(),
            32,
            MAX_INPUT_SIDE.into(),
        )?;
        in_range(
            file,
            "detector.shorter_side",
            self.shorter_side.into(),
            1,
            self.longer_side.into(),
        )?;
        in_range(
            file,
            "detector.max_boxes",
            self.max_boxes as u64,
            1,
            MAX_BOXES as u64,
        )?;
        fraction(file, "detector.threshold", self.threshold, 1.0)?;
        fraction(file, "detector.box_threshold", self.box_threshold, 1.0)?;
        fraction(file, "detector.unclip", self.unclip, 10.0)
    }
}

/// `[reader]`: reads a line of text. Its file is `reader`, a model with its alphabet in the metadata key
/// `character`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderSettings {
    /// Height of a line for the model, in pixels.
    pub height: u32,
    /// Longest line for the model, in pixels; a longer one is squeezed.
    pub max_width: u32,
    /// Words less sure than this are left out.
    pub min_confidence: f32,
}

impl ReaderSettings {
    pub(super) fn check(&self, file: &Path) -> Result<(), ManifestError> {
        in_range(file, "reader.height", self.height.into(), 8, 256)?;
        in_range(
            file,
            "reader.max_width",
            self.max_width.into(),
            self.height.into(),
            MAX_INPUT_SIDE.into(),
        )?;
        fraction(file, "reader.min_confidence", self.min_confidence, 1.0)
    }
}

/// `[command]`: any program. The photo's path is its last argument; it prints one JSON value, unless it is silent, and
/// ends with status 0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program's absolute path and its first arguments. It runs in the recogniser's folder.
    pub program: Vec<PathBuf>,
    /// Address space it may take, in MiB; absent: not limited.
    pub max_memory_mib: Option<u64>,
    /// That it ended well is the whole answer, `null`; what it prints is not looked at.
    #[serde(default)]
    pub silent: bool,
}

impl CommandSettings {
    pub(super) fn check(&self, file: &Path) -> Result<(), ManifestError> {
        let program = self.program.first();
        if !program.is_some_and(|program| program.is_absolute()) {
            let fix = "give the program's absolute path, then its arguments";
            return Err(ManifestError::new(
                file,
                "command.program",
                "names no program",
                fix,
            ));
        }
        in_range(
            file,
            "command.max_memory_mib",
            self.max_memory_mib.unwrap_or(1),
            1,
            1 << 20,
        )
    }
}

fn fraction(file: &Path, field: &str, value: f32, most: f32) -> Result<(), ManifestError> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(ManifestError::new(
        file,
        field,
        format!("{value} is out of range"),
        format!("give 0 to {most}"),
    ))
}
