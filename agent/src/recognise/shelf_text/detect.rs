//! Finds lines of text on a photo.
//!
//! The model gives a map of probabilities. Pixels over a threshold form regions; each becomes its smallest
//! rectangle, is kept if the map is high enough inside, and is grown, since the model was trained on shrunken
//! regions.

use image::{GrayImage, Luma, RgbImage};
use imageproc::contours::{BorderType, find_contours};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

use super::geometry::Rectangle;
use crate::recognise::frame::Failure;
use crate::recognise::manifest::DetectorSettings;
use crate::recognise::resize::resize;
use crate::recognise::session;
use crate::recognise::settings::Resize;

/// The model's sides are multiples of this, in pixels.
const STEP: u32 = 32;

/// Regions with a shorter side below this are noise, in pixels of the map.
const MIN_REGION_SIDE: f32 = 3.0;

/// Grown regions with a shorter side below this are noise, in pixels of the map.
const MIN_GROWN_SIDE: f32 = 5.0;

/// Most regions looked at in one map.
const MAX_REGIONS: usize = 20_000;

/// A loaded detector.
pub struct Detector {
    settings: DetectorSettings,
    session: Session,
    input_name: String,
}

impl Detector {
    /// Loads the model. The error is for the operator.
    pub fn load(
        settings: &DetectorSettings,
        environment: &Environment,
        model: &[u8],
        threads: usize,
    ) -> Result<Self, String> {
        let session = session::load(environment, model, threads)
            .map_err(|error| format!("the detector cannot be loaded: {error}"))?;
        let input_name = session
            .inputs()
            .first()
            .ok_or("the detector has no input")?
            .name()
            .to_string();
        Ok(Self {
            settings: settings.clone(),
            session,
            input_name,
        })
    }

    /// The lines of text on the photo in its own pixels, from top to bottom and left to right.
    pub fn find(&mut self, photo: &RgbImage) -> Result<Vec<Rectangle>, Failure> {
        let (width, height) = model_size(photo.dimensions(), &self.settings);
        let input = bgr_planes(&resize(photo, width, height, Resize::Bilinear));
        let failed = |error: ort::Error| Failure::recogniser(format!("the detector failed: {error}"));
        let shape = [1, 3, height as usize, width as usize];
        let input = TensorRef::from_array_view((shape, input.as_slice())).map_err(failed)?;
        let outputs = self
            .session
            .run(ort::inputs![self.input_name.as_str() => input])
            .map_err(failed)?;
        let (_, map) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        if map.len() != width as usize * height as usize {
            let message = format!(
                "the detector gave {} values for {width} × {height} pixels",
                map.len()
            );
            return Err(Failure::recogniser(message));
        }
        let (x, y) = (
            photo.width() as f32 / width as f32,
            photo.height() as f32 / height as f32,
        );
        let found = boxes(map, width, &self.settings)
            .iter()
            .map(|found| found.scaled(x, y))
            .collect();
        Ok(in_reading_order(found))
    }
}

/// The size at which the model sees a photo.
fn model_size((width, height): (u32, u32), settings: &DetectorSettings) -> (u32, u32) {
    let (longer, shorter) = (width.max(height) as f32, width.min(height) as f32);
    let enlarge = (settings.shorter_side as f32 / shorter).max(1.0);
    let scale = enlarge.min(settings.longer_side as f32 / longer);
    let fitted = |side: u32| {
        let steps = (side as f32 * scale / STEP as f32).round();
        (steps as u32).clamp(1, settings.longer_side.div_ceil(STEP)) * STEP
    };
    (fitted(width), fitted(height))
}

/// The picture as the models want it: blue, green, red, each −1 to 1.
pub(super) fn bgr_planes(picture: &RgbImage) -> Vec<f32> {
    let mut planes = Vec::with_capacity(picture.len());
    for channel in [2, 1, 0] {
        planes.extend(
            picture
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|value| f32::from(*value) / 127.5 - 1.0),
        );
    }
    planes
}

/// The boxes of text in a map of probabilities, in its pixels, the surest first.
fn boxes(map: &[f32], width: u32, settings: &DetectorSettings) -> Vec<Rectangle> {
    let height = map.len() as u32 / width;
    let over = |x: u32, y: u32| map[(y * width + x) as usize] > settings.threshold;
    // Grown by a pixel to the right and down, which joins what a hair's breadth parts.
    let mask = GrayImage::from_fn(width, height, |x, y| {
        let (left, up) = (x.saturating_sub(1), y.saturating_sub(1));
        Luma([if over(x, y) || over(left, y) || over(x, up) || over(left, up) {
            255
        } else {
            0
        }])
    });
    let regions = find_contours::<i32>(&mask)
        .into_iter()
        .filter(|region| region.border_type == BorderType::Outer);
    let mut found: Vec<(f32, Rectangle)> = Vec::new();
    for region in regions.take(MAX_REGIONS) {
        let points: Vec<(i32, i32)> = region.points.iter().map(|point| (point.x, point.y)).collect();
        let Some(rectangle) = Rectangle::round(&points) else {
            continue;
        };
        if rectangle.shorter_side() < MIN_REGION_SIDE {
            continue;
        }
        let score = rectangle.mean(map, width as usize);
        let grown = rectangle.grown(settings.unclip);
        if score >= settings.box_threshold && grown.shorter_side() >= MIN_GROWN_SIDE {
            found.push((score, grown));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(settings.max_boxes);
    found.into_iter().map(|(_, rectangle)| rectangle).collect()
}

/// From top to bottom, and from left to right where boxes overlap by half of their height.
fn in_reading_order(mut boxes: Vec<Rectangle>) -> Vec<Rectangle> {
    boxes.sort_by(|a, b| a.centre().1.total_cmp(&b.centre().1));
    let mut ordered: Vec<Rectangle> = Vec::with_capacity(boxes.len());
    let mut row_start = 0;
    for next in boxes {
        let same_row = ordered.get(row_start).is_some_and(|first| {
            next.centre().1 - first.centre().1 < first.height().min(next.height()) / 2.0
        });
        if !same_row {
            row_start = ordered.len();
        }
        let place = ordered[row_start..]
            .iter()
            .position(|other| other.centre().0 > next.centre().0);
        ordered.insert(place.map_or(ordered.len(), |place| row_start + place), next);
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: DetectorSettings = DetectorSettings {
        longer_side: 960,
        shorter_side: 480,
        threshold: 0.3,
        box_threshold: 0.5,
        unclip: 1.5,
        max_boxes: 10,
    };

    fn map_with(regions: &[(std::ops::Range<usize>, std::ops::Range<usize>, f32)]) -> Vec<f32> {
        let mut map = vec![0.01; 100 * 60];
        for (columns, rows, value) in regions {
            for row in rows.clone() {
                map[row * 100 + columns.start..row * 100 + columns.end].fill(*value);
            }
        }
        map
    }

    #[test]
    fn sizes_are_bounded_multiples_of_the_step() {
        assert_eq!(model_size((2000, 1500), &SETTINGS), (960, 736));
        assert_eq!(model_size((700, 500), &SETTINGS), (704, 512));
        assert_eq!(model_size((348, 348), &SETTINGS), (480, 480));
        assert_eq!(model_size((8192, 1), &SETTINGS), (960, 32));
        assert_eq!(model_size((1, 1), &SETTINGS), (480, 480));
        let odd = DetectorSettings {
            longer_side: 1000,
            ..SETTINGS
        };
        assert_eq!(model_size((4000, 10), &odd), (992, 32));
    }

    #[test]
    fn planes_are_blue_first_and_centred() {
        let picture = RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 127]));
        let planes = bgr_planes(&picture);
        assert!((planes[0] + 0.004).abs() < 0.001, "{planes:?}");
        assert_eq!(planes[1..], [-1.0, 1.0]);
    }

    #[test]
    fn a_region_becomes_a_grown_box_the_surest_first() {
        let map = map_with(&[(10..41, 10..19, 0.6), (60..91, 30..39, 0.9)]);
        let found = boxes(&map, 100, &SETTINGS);
        assert_eq!(found.len(), 2);
        // 31 × 9 pixels, one more by joining: corners run through the pixels' centres, 31 × 9 again; grown by
        // 5.2.
        let corners = found[0].corners();
        let by = 31.0 * 9.0 * 1.5 / 80.0;
        assert!(
            (corners[0].0 - (60.0 - by)).abs() < 0.01 && (corners[0].1 - (30.0 - by)).abs() < 0.01,
            "{corners:?}"
        );
        assert!(
            (corners[2].0 - (91.0 + by)).abs() < 0.01 && (corners[2].1 - (39.0 + by)).abs() < 0.01,
            "{corners:?}"
        );
    }

    #[test]
    fn faint_and_tiny_regions_are_dropped_and_holes_are_not_boxes() {
        let faint = (10..41, 10..19, 0.4);
        let tiny = (60..62, 30..32, 0.9);
        assert!(boxes(&map_with(&[faint, tiny]), 100, &SETTINGS).is_empty());
        let ring = [(10..61, 10..41, 0.9), (15..56, 15..36, 0.29)];
        let loose = DetectorSettings {
            box_threshold: 0.3,
            ..SETTINGS
        };
        assert_eq!(boxes(&map_with(&ring), 100, &loose).len(), 1);
    }

    #[test]
    fn at_most_so_many_boxes_come_back() {
        let regions: Vec<_> = (0..8).map(|i| (i * 12..i * 12 + 9, 10..19, 0.9)).collect();
        let few = DetectorSettings {
            max_boxes: 3,
            ..SETTINGS
        };
        assert_eq!(boxes(&map_with(&regions), 100, &few).len(), 3);
    }

    #[test]
    fn boxes_come_in_reading_order() {
        let at =
            |x: i32, y: i32| Rectangle::round(&[(x, y), (x + 20, y), (x + 20, y + 10), (x, y + 10)]).unwrap();
        let ordered = in_reading_order(vec![at(50, 40), at(60, 3), at(0, 4), at(0, 42), at(30, 0)]);
        let centres: Vec<_> = ordered.iter().map(|found| found.centre().0 as i32 - 10).collect();
        assert_eq!(centres, [0, 30, 60, 0, 50]);
    }
}
