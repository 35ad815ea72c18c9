//! Recognisers of kind `shelf-text`: the words on a shelf, with their places.
//!
//! Two models of PP-OCRv4: one gives each pixel's probability of being text, one reads a line. The work
//! between them is done here: regions become boxes ([`detect`], [`geometry`]), boxes become upright lines,
//! and the reader's rows of probabilities become words ([`read`]). That is some 500 lines on `imageproc`,
//! taken instead of the crate `oar-ocr`, which does the same for many more models but costs ten CPU-minutes
//! of build, pins a version of `ort` of its own and downloads models at run time; and of `paddle-ocr-rs`,
//! which needs a C++ library to grow polygons, while the boxes here are rectangles, for which growing is an
//! addition. Photos come upright by their orientation tag, so the model that tells lines standing on their
//! head is left out: it would cost a third of the reader's time.

pub mod detect;
pub mod geometry;
pub mod read;

use image::RgbImage;
use ort::environment::Environment;
use serde::Serialize;
use serde_json::{Value, json};

use super::Recogniser;
use super::classifier::rounded;
use super::frame::{Failure, MAX_RESULT_BYTES};
use super::manifest::{DetectorSettings, Manifest, ReaderSettings};
use detect::Detector;
use read::Reader;

/// Part of a result that is not words, in bytes.
const RESULT_FRAME_BYTES: usize = 64;

/// A loaded reader of shelves.
pub struct ShelfText {
    detector: Detector,
    reader: Reader,
    min_confidence: f32,
}

/// One line of text on a photo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Word {
    /// What it says.
    pub text: String,
    /// How sure the reader is, 0 to 1.
    pub confidence: f64,
    /// Its corners in the photo's pixels, clockwise from the one before the first letter.
    #[serde(rename = "box")]
    pub corners: [[i32; 2]; 4],
}

impl ShelfText {
    /// Checks and loads both models. `threads` work on one photo. The error is for the operator.
    pub fn load(
        manifest: &Manifest,
        detector: &DetectorSettings,
        reader: &ReaderSettings,
        environment: &Environment,
        threads: usize,
    ) -> Result<Self, String> {
        let model = |role| manifest.read_file(role).map_err(|error| error.to_string());
        Ok(Self {
            detector: Detector::load(detector, environment, &model("detector")?, threads)?,
            reader: Reader::load(reader, environment, &model("reader")?, threads)?,
            min_confidence: reader.min_confidence,
        })
    }
}

impl Recogniser for ShelfText {
    fn recognise(&mut self, photo: &RgbImage) -> Result<Value, Failure> {
        let mut words = Vec::new();
        for found in self.detector.find(photo)? {
            let line = found.cut_out(photo);
            let (text, confidence) = self.reader.read(&line)?;
            if confidence >= self.min_confidence && !text.trim().is_empty() {
                let corners = found.corners().map(|(x, y)| [x.round() as i32, y.round() as i32]);
                words.push(Word {
                    text: text.trim().into(),
                    confidence: rounded(confidence),
                    corners,
                });
            }
        }
        Ok(result(words, MAX_RESULT_BYTES))
    }
}

/// The words as JSON of at most `max_bytes`: the least sure ones are dropped first, and counted.
fn result(mut words: Vec<Word>, max_bytes: usize) -> Value {
    let len = |word: &Word| serde_json::to_vec(word).map_or(0, |json| json.len() + 1);
    let mut total = RESULT_FRAME_BYTES + words.iter().map(len).sum::<usize>();
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by(|a, b| words[*a].confidence.total_cmp(&words[*b].confidence));
    let mut keep = vec![true; words.len()];
    let mut dropped = 0;
    for least_sure in order {
        if total <= max_bytes {
            break;
        }
        total -= len(&words[least_sure]);
        keep[least_sure] = false;
        dropped += 1;
    }
    let mut keep = keep.into_iter();
    words.retain(|_| keep.next().unwrap_or(true));
    json!({"kind": "words", "words": words, "dropped": dropped})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, confidence: f64) -> Word {
        Word {
            text: text.into(),
            confidence,
            corners: [[8191, 8191]; 4],
        }
    }

    #[test]
    fn a_result_has_the_documented_form() {
        let corners = [[1, 2], [3, 2], [3, 4], [1, 4]];
        let found = result(
            vec![Word {
                text: "MILK".into(),
                confidence: 0.9,
                corners,
            }],
            1000,
        );
        let expected = r#"{"dropped":0,"kind":"words","words":[{"box":[[1,2],[3,2],[3,4],[1,4]],"confidence":0.9,"text":"MILK"}]}"#;
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn too_many_words_lose_the_least_sure_and_keep_their_order() {
        let words: Vec<Word> = (0..400)
            .map(|i| word(&format!("w{i}"), f64::from(i % 100) / 100.0))
            .collect();
        let found = result(words, MAX_RESULT_BYTES);
        let len = found.to_string().len();
        assert!(len <= MAX_RESULT_BYTES && len > MAX_RESULT_BYTES - 200, "{len}");
        let kept = found["words"].as_array().unwrap();
        assert_eq!(kept.len() as u64 + found["dropped"].as_u64().unwrap(), 400);
        assert!(kept.iter().all(|word| word["confidence"].as_f64().unwrap() > 0.4));
        let numbers: Vec<u32> = kept
            .iter()
            .map(|word| word["text"].as_str().unwrap()[1..].parse().unwrap())
            .collect();
        assert!(numbers.is_sorted());
    }
}
