//! Reads a line of text.
//!
//! The model gives, for each step along the line, the probabilities of all characters and of "none"
//! (connectionist temporal classification): equal neighbours are one character, unless "none" parts them.

use image::RgbImage;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use super::detect::bgr_planes;
use crate::recognise::frame::Failure;
use crate::recognise::manifest::ReaderSettings;
use crate::recognise::resize::resize;
use crate::recognise::session;
use crate::recognise::settings::Resize;

/// Where the model keeps its characters, one a line.
const ALPHABET_KEY: &str = "character";

/// Index of "none" among the model's classes.
const NONE: usize = 0;

/// Lines are filled up to a multiple of this, in pixels: few shapes, so that memory is laid out for few.
const WIDTH_STEP: u32 = 16;

/// A loaded reader.
pub struct Reader {
    settings: ReaderSettings,
    session: Session,
    input_name: String,
    /// The characters by class: "none" first, the blank last.
    alphabet: Vec<String>,
}

impl Reader {
    /// Loads the model with its alphabet. The error is for the operator.
    pub fn load(
        settings: &ReaderSettings,
        environment: &Environment,
        model: &[u8],
        threads: usize,
    ) -> Result<Self, String> {
        let session = session::load(environment, model, threads)
            .map_err(|error| format!("the reader cannot be loaded: {error}"))?;
        let input_name = session
            .inputs()
            .first()
            .ok_or("the reader has no input")?
            .name()
            .to_string();
        let characters = session
            .metadata()
            .ok()
            .and_then(|metadata| metadata.custom(ALPHABET_KEY));
        let characters =
            characters.ok_or_else(|| format!("the reader's metadata have no {ALPHABET_KEY:?}"))?;
        Ok(Self {
            settings: settings.clone(),
            session,
            input_name,
            alphabet: alphabet(&characters),
        })
    }

    /// What the line says and how sure that is: the mean probability of its characters, 0 if there are none.
    pub fn read(&mut self, line: &RgbImage) -> Result<(String, f32), Failure> {
        let (input, width) = model_input(line, &self.settings);
        let failed = |error: ort::Error| Failure::recogniser(format!("the reader failed: {error}"));
        let shape = [1, 3, self.settings.height as usize, width as usize];
        let input = TensorRef::from_array_view((shape, input.as_slice())).map_err(failed)?;
        let outputs = self
            .session
            .run(ort::inputs![self.input_name.as_str() => input])
            .map_err(failed)?;
        let (shape, steps) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        let classes = shape.last().copied().unwrap_or(0);
        if classes != self.alphabet.len() as i64 {
            let message = format!(
                "the reader gave {classes} classes for {} characters",
                self.alphabet.len()
            );
            return Err(Failure::recogniser(message));
        }
        Ok(decode(steps, &self.alphabet))
    }
}

fn alphabet(characters: &str) -> Vec<String> {
    let own = characters
        .strip_suffix('\n')
        .unwrap_or(characters)
        .split('\n')
        .map(String::from);
    std::iter::once(String::new())
        .chain(own)
        .chain(std::iter::once(" ".into()))
        .collect()
}

/// The line at the model's height, filled with grey to the right, and the width so filled.
fn model_input(line: &RgbImage, settings: &ReaderSettings) -> (Vec<f32>, u32) {
    let height = settings.height;
    let exact = (u64::from(height) * u64::from(line.width())).div_ceil(line.height().max(1).into());
    let wide = u32::try_from(exact)
        .unwrap_or(u32::MAX)
        .clamp(1, settings.max_width);
    let filled = wide.next_multiple_of(WIDTH_STEP);
    let scaled = bgr_planes(&resize(line, wide, height, Resize::Bilinear));
    let mut input = vec![0.0; 3 * height as usize * filled as usize];
    for (from, to) in scaled
        .chunks_exact(wide as usize)
        .zip(input.chunks_exact_mut(filled as usize))
    {
        to[..wide as usize].copy_from_slice(from);
    }
    (input, filled)
}

fn decode(steps: &[f32], alphabet: &[String]) -> (String, f32) {
    let (mut text, mut sum, mut count) = (String::new(), 0.0_f32, 0_u16);
    let mut before = NONE;
    for step in steps.chunks_exact(alphabet.len().max(1)) {
        let surest = step
            .iter()
            .copied()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let (class, p) = surest.unwrap_or((NONE, 0.0));
        if class != NONE && class != before {
            text.push_str(&alphabet[class]);
            sum += p;
            count = count.saturating_add(1);
        }
        before = class;
    }
    (text, if count == 0 { 0.0 } else { sum / f32::from(count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step for each (class, probability) of four classes: none, a, b, blank.
    fn steps(of: &[(usize, f32)]) -> Vec<f32> {
        of.iter()
            .flat_map(|(class, p)| {
                (0..4)
                    .map(|i| if i == *class { *p } else { 0.01 })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn the_alphabet_has_none_first_and_the_blank_last() {
        assert_eq!(alphabet("a\nb\n"), ["", "a", "b", " "]);
        assert_eq!(alphabet("a\nb"), alphabet("a\nb\n"));
    }

    #[test]
    fn equal_neighbours_are_one_character_unless_parted() {
        let alphabet = alphabet("a\nb");
        let said = steps(&[
            (0, 0.9),
            (1, 0.8),
            (1, 0.6),
            (0, 0.9),
            (1, 0.6),
            (2, 0.7),
            (3, 0.5),
            (2, 0.9),
            (0, 0.9),
        ]);
        let (text, confidence) = decode(&said, &alphabet);
        assert_eq!(text, "aab b");
        // The first of equal neighbours counts: (.8 + .6 + .7 + .5 + .9) ÷ 5.
        assert!((confidence - 0.7).abs() < 1e-6, "{confidence}");
        assert_eq!(
            decode(&steps(&[(0, 0.9), (0, 0.9)]), &alphabet),
            (String::new(), 0.0)
        );
        assert_eq!(decode(&[], &alphabet), (String::new(), 0.0));
    }

    #[test]
    fn lines_keep_their_shape_and_are_filled_with_grey() {
        let settings = ReaderSettings {
            height: 48,
            max_width: 640,
            min_confidence: 0.5,
        };
        let line = RgbImage::from_pixel(50, 24, image::Rgb([255, 255, 255]));
        let (input, width) = model_input(&line, &settings);
        assert_eq!((width, input.len()), (112, 3 * 48 * 112));
        assert_eq!((input[99], input[100], input[111]), (1.0, 0.0, 0.0));
        assert_eq!(model_input(&RgbImage::new(9000, 10), &settings).1, 640);
        assert_eq!(model_input(&RgbImage::new(1, 500), &settings).1, 16);
    }
}
