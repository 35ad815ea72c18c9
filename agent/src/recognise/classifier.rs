//! Recognisers of kind `classifier`: one label for the whole photo, with its runners-up.

use image::RgbImage;
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;
use serde_json::{Value, json};

use super::Recogniser;
use super::frame::Failure;
use super::manifest::{ClassifierSettings, Manifest};
use super::resize::{Part, resize_part};
use super::session;
use super::settings::{Channels, Layout};

/// A loaded classifier.
pub struct Classifier {
    settings: ClassifierSettings,
    labels: Vec<String>,
    session: Session,
    /// The model's input, used again for each photo.
    input: Vec<f32>,
}

impl Classifier {
    /// Checks and loads the recogniser's files. `threads` work on one photo. The error is for the operator.
    pub fn load(
        manifest: &Manifest,
        settings: &ClassifierSettings,
        environment: &Environment,
        threads: usize,
    ) -> Result<Self, String> {
        let labels = manifest.read_file("labels").map_err(|error| error.to_string())?;
        let labels =
            String::from_utf8(labels).map_err(|error| format!("the labels are not UTF-8: {error}"))?;
        let labels: Vec<String> = labels.lines().map(|label| label.trim().to_string()).collect();
        let model = manifest.read_file("model").map_err(|error| error.to_string())?;
        let session = session::load(environment, &model, threads)
            .map_err(|error| format!("the model of {} cannot be loaded: {error}", manifest.name))?;
        let has =
            |outlets: &[ort::value::Outlet], name: &str| outlets.iter().any(|outlet| outlet.name() == name);
        if !has(session.inputs(), &settings.input) || !has(session.outputs(), &settings.output) {
            let (input, output) = (&settings.input, &settings.output);
            return Err(format!(
                "the model of {} has no input {input:?} or no output {output:?}",
                manifest.name
            ));
        }
        let input = vec![0.0; 3 * settings.width as usize * settings.height as usize];
        Ok(Self {
            settings: settings.clone(),
            labels,
            session,
            input,
        })
    }
}

impl Recogniser for Classifier {
    fn recognise(&mut self, photo: &RgbImage) -> Result<Value, Failure> {
        let cut = centre_cut(photo, &self.settings);
        fill_input(&cut, &self.settings, &mut self.input);
        let (width, height) = (self.settings.width as usize, self.settings.height as usize);
        let shape = match self.settings.layout {
            Layout::Nchw => [1, 3, height, width],
            Layout::Nhwc => [1, height, width, 3],
        };
        let failed = |error: ort::Error| Failure::recogniser(format!("the model failed: {error}"));
        let input = TensorRef::from_array_view((shape, self.input.as_slice())).map_err(failed)?;
        let outputs = self
            .session
            .run(ort::inputs![self.settings.input.as_str() => input])
            .map_err(failed)?;
        let output = outputs.get(&self.settings.output);
        let output = output.ok_or_else(|| Failure::recogniser("the model gave no probabilities"))?;
        let (_, probabilities) = output.try_extract_tensor::<f32>().map_err(failed)?;
        if probabilities.len() != self.labels.len() {
            let (gave, labels) = (probabilities.len(), self.labels.len());
            return Err(Failure::recogniser(format!(
                "the model gave {gave} probabilities for {labels} labels"
            )));
        }
        Ok(result(probabilities, &self.labels, self.settings.top))
    }
}

/// The photo with its shorter side resized, and the centre cut out. Cuts and halves as Pillow's users do: the
/// longer side is cut to whole pixels, the margin before the centre is rounded down.
fn centre_cut(photo: &RgbImage, settings: &ClassifierSettings) -> RgbImage {
    let (old_width, old_height) = photo.dimensions();
    let side = settings.shorter_side;
    let longer = |long: u32, short: u32| {
        let exact = u64::from(side) * u64::from(long) / u64::from(short.max(1));
        u32::try_from(exact).unwrap_or(u32::MAX)
    };
    let size = if old_width <= old_height {
        (side, longer(old_height, old_width))
    } else {
        (longer(old_width, old_height), side)
    };
    let part = Part {
        x: (size.0 - settings.width) / 2,
        y: (size.1 - settings.height) / 2,
        width: settings.width,
        height: settings.height,
    };
    resize_part(photo, size, part, settings.resize)
}

fn fill_input(cut: &RgbImage, settings: &ClassifierSettings, input: &mut [f32]) {
    let source = |channel: usize| {
        if settings.channels == Channels::Rgb {
            channel
        } else {
            2 - channel
        }
    };
    let scaled =
        |channel: usize, value: u8| (f32::from(value) - settings.mean[channel]) / settings.scale[channel];
    match settings.layout {
        Layout::Nchw => {
            let plane = cut.len() / 3;
            for (channel, plane) in input.chunks_exact_mut(plane).enumerate() {
                let values = cut.iter().skip(source(channel)).step_by(3);
                plane
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, value)| *to = scaled(channel, *value));
            }
        }
        Layout::Nhwc => {
            for (pixel, to) in cut.pixels().zip(input.chunks_exact_mut(3)) {
                to.iter_mut()
                    .enumerate()
                    .for_each(|(channel, to)| *to = scaled(channel, pixel.0[source(channel)]));
            }
        }
    }
}

fn result(probabilities: &[f32], labels: &[String], top: usize) -> Value {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    // The sort is stable: of equal ones the first label wins, as with argmax.
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let top: Vec<Value> = order
        .iter()
        .take(top)
        .map(|i| json!({"label": labels[*i], "p": rounded(probabilities[*i])}))
        .collect();
    json!({"kind": "labels", "top": top})
}

/// Four digits after the point: what a probability is worth, and short in the log.
pub(super) fn rounded(p: f32) -> f64 {
    (f64::from(p) * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognise::settings::Resize;

    fn settings() -> ClassifierSettings {
        ClassifierSettings {
            input: "image".into(),
            output: "prob".into(),
            shorter_side: 4,
            width: 2,
            height: 2,
            resize: Resize::Bicubic,
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            mean: [10.0, 20.0, 30.0],
            scale: [2.0, 4.0, 8.0],
            top: 2,
        }
    }

    #[test]
    fn the_centre_is_cut_from_wide_and_tall_photos() {
        // Rows and columns are told apart by red and green; nothing is resized at this size.
        let wide = RgbImage::from_fn(9, 4, |x, y| image::Rgb([x as u8, y as u8, 0]));
        assert_eq!(centre_cut(&wide, &settings()).get_pixel(0, 0).0, [3, 1, 0]);
        let tall = RgbImage::from_fn(4, 9, |x, y| image::Rgb([x as u8, y as u8, 0]));
        assert_eq!(centre_cut(&tall, &settings()).get_pixel(1, 1).0, [2, 4, 0]);
    }

    #[test]
    fn the_input_is_laid_out_and_normalised() {
        let cut = RgbImage::from_fn(2, 1, |x, _| image::Rgb([10 + x as u8 * 2, 20, 30 + x as u8 * 8]));
        let filled = |layout, channels| {
            let mut input = [9.0; 6];
            fill_input(
                &cut,
                &ClassifierSettings {
                    layout,
                    channels,
                    ..settings()
                },
                &mut input,
            );
            input
        };
        assert_eq!(
            filled(Layout::Nchw, Channels::Rgb),
            [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        );
        assert_eq!(
            filled(Layout::Nhwc, Channels::Rgb),
            [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
        );
        assert_eq!(filled(Layout::Nchw, Channels::Bgr)[..2], [10.0, 14.0]);
    }

    #[test]
    fn the_surest_labels_come_first() {
        let labels = ["a", "b", "c"].map(String::from);
        let found = result(&[0.25, 0.5, 0.25], &labels, 2);
        let expected =
            json!({"kind": "labels", "top": [{"label": "b", "p": 0.5}, {"label": "a", "p": 0.25}]});
        assert_eq!(found, expected);
    }
}
