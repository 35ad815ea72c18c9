//! Rendering a set of photos into a folder, `shelf-0001.jpg` with `shelf-0001.json` and so on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;

use super::camera::Camera;
use super::dice::Dice;
use super::fonts::Fonts;
use super::plan::{UNIT_WIDTH, plan};
use super::shelf::{Drawn, draw};
use super::truth::{Facing, Gap, Price, TRUTH_FORMAT, Truth, Word};

/// Most photos of one set.
pub const MAX_COUNT: u32 = 100_000;
/// Least width and height of a photo, in pixels.
pub const MIN_SIDE: u32 = 480;
/// Most width and height of a photo, in pixels.
pub const MAX_SIDE: u32 = 6000;
/// Most pixels of a photo: its scene and itself are in memory once for each thread, at 3 bytes a pixel.
pub const MAX_PIXELS: u64 = 24_000_000;
/// A side may be at most this many times the other, or a shelf has no room for products.
pub const MAX_RATIO: u32 = 3;
/// Most threads that render at once.
pub const MAX_THREADS: usize = 16;

/// What to render.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// The folder for the files; it is made when it is not there. Files of the same names are written over.
    pub out: PathBuf,
    /// How many photos, 1 to [`MAX_COUNT`].
    pub count: u32,
    /// The same seed and size give the same files, byte for byte; a photo does not depend on `count`.
    pub seed: u64,
    /// Pixels, [`MIN_SIDE`] to [`MAX_SIDE`]. At 1600 a brand's capitals are 26 to 44 pixels high.
    pub width: u32,
    /// Pixels, [`MIN_SIDE`] to [`MAX_SIDE`].
    pub height: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
}

/// What was rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RenderSummary {
    pub photos: u32,
    /// Size of all JPEG files together.
    pub bytes: u64,
    pub facings: u64,
    pub gaps: u64,
    pub prices: u64,
    /// Printed words: brands, variants and prices.
    pub words: u64,
}

/// Why nothing, or not all, was rendered. Each names the option at fault.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("--count is {0}; give a number from 1 to {MAX_COUNT}")]
    Count(u32),
    #[error("{option} is {given}; give {MIN_SIDE} to {MAX_SIDE} pixels")]
    Side { option: &'static str, given: u32 },
    #[error("--width times --height is {0} pixels; give at most {MAX_PIXELS}")]
    Pixels(u64),
    #[error("--width {width} and --height {height}: one side may be at most {MAX_RATIO} times the other")]
    Ratio { width: u32, height: u32 },
    #[error("--quality is {0}; give a number from 1 to 100")]
    Quality(u8),
    #[error("--out {0} is a file; give a folder")]
    OutIsFile(PathBuf),
    #[error("--out {path}: the folder cannot be made: {source}")]
    MakeOut { path: PathBuf, source: io::Error },
    #[error("{path} cannot be written: {source}; give an --out with room that you may write to")]
    Write { path: PathBuf, source: io::Error },
    #[error("photo {photo} cannot be packed as JPEG: {source}")]
    Pack { photo: u32, source: image::ImageError },
    #[error("a built-in font is broken: {0}")]
    Font(#[from] ab_glyph::InvalidFont),
}

impl RenderOptions {
    /// Refuses what cannot be rendered, before anything is written.
    pub fn check(&self) -> Result<(), RenderError> {
        if self.count == 0 || self.count > MAX_COUNT {
            return Err(RenderError::Count(self.count));
        }
        for (option, given) in [("--width", self.width), ("--height", self.height)] {
            if !(MIN_SIDE..=MAX_SIDE).contains(&given) {
                return Err(RenderError::Side { option, given });
            }
        }
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels > MAX_PIXELS {
            return Err(RenderError::Pixels(pixels));
        }
        if self.width > self.height * MAX_RATIO || self.height > self.width * MAX_RATIO {
            return Err(RenderError::Ratio {
                width: self.width,
                height: self.height,
            });
        }
        if !(1..=100).contains(&self.quality) {
            return Err(RenderError::Quality(self.quality));
        }
        Ok(())
    }
}

/// Renders the photos and writes them with their truths, on as many threads as the machine has cores. After an
/// error the files written so far are left where they are.
pub fn render(options: &RenderOptions) -> Result<RenderSummary, RenderError> {
    options.check()?;
    make_out(&options.out)?;
    let fonts = Fonts::load()?;
    let next = AtomicU32::new(1);
    let stop = AtomicBool::new(false);
    let done: Mutex<Result<RenderSummary, RenderError>> = Mutex::new(Ok(RenderSummary::default()));
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let threads = cores.min(MAX_THREADS).min(options.count as usize);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let photo = next.fetch_add(1, Ordering::Relaxed);
                    if photo > options.count {
                        break;
                    }
                    let written = render_and_write(options, &fonts, photo);
                    stop.fetch_or(written.is_err(), Ordering::Relaxed);
                    note(&done, written);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn note(done: &Mutex<Result<RenderSummary, RenderError>>, written: Result<RenderSummary, RenderError>) {
    let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match (&mut *done, written) {
        (Ok(sum), Ok(one)) => sum.add(&one),
        (Ok(_), Err(error)) => *done = Err(error),
        (Err(_), _) => {}
    }
}

impl RenderSummary {
    fn of(truth: &Truth, bytes: usize) -> RenderSummary {
        RenderSummary {
            photos: 1,
            bytes: bytes as u64,
            facings: truth.facings.len() as u64,
            gaps: truth.gaps.len() as u64,
            prices: truth.prices.len() as u64,
            words: truth.words.len() as u64,
        }
    }

    fn add(&mut self, other: &RenderSummary) {
        self.photos += other.photos;
        self.bytes += other.bytes;
        self.facings += other.facings;
        self.gaps += other.gaps;
        self.prices += other.prices;
        self.words += other.words;
    }
}

fn make_out(out: &Path) -> Result<(), RenderError> {
    if out.is_file() {
        return Err(RenderError::OutIsFile(out.to_owned()));
    }
    std::fs::create_dir_all(out).map_err(|source| RenderError::MakeOut {
        path: out.to_owned(),
        source,
    })
}

/// The name of a photo without its ending.
pub fn photo_name(photo: u32) -> String {
    format!("shelf-{photo:04}")
}

fn render_and_write(
    options: &RenderOptions,
    fonts: &Fonts,
    photo: u32,
) -> Result<RenderSummary, RenderError> {
    let (jpeg, truth) = render_one(options, fonts, photo)?;
    let base = options.out.join(photo_name(photo));
    let json = serde_json::to_vec(&truth).map_err(io::Error::from);
    // The truth first: whoever waits for photos in this folder finds its truth beside it.
    write(base.with_extension("json"), json)?;
    write(base.with_extension("jpg"), Ok(&jpeg))?;
    Ok(RenderSummary::of(&truth, jpeg.len()))
}

fn write(path: PathBuf, bytes: io::Result<impl AsRef<[u8]>>) -> Result<(), RenderError> {
    bytes
        .and_then(|bytes| std::fs::write(&path, bytes))
        .map_err(|source| RenderError::Write { path, source })
}

/// One photo as JPEG bytes, and what is on it. `photo` counts from 1. `options` must have passed
/// [`RenderOptions::check`]; `out` and `count` do not matter here.
pub fn render_one(
    options: &RenderOptions,
    fonts: &Fonts,
    photo: u32,
) -> Result<(Vec<u8>, Truth), RenderError> {
    let (width, height) = (options.width, options.height);
    let mut dice = Dice::of_photo(options.seed, photo);
    let camera = Camera::new(&mut dice, width, height);
    let plan = plan(
        &mut dice,
        fonts,
        Camera::always_seen(width, height),
        width as f32 / UNIT_WIDTH,
    );
    let (scene_width, scene_height) = Camera::scene_size(width, height);
    let (scene, drawn) = draw(&mut dice, fonts, &plan, scene_width, scene_height);
    let pixels = camera.take(&mut dice, &scene);
    let mut jpeg = Vec::with_capacity(pixels.len() / 4);
    JpegEncoder::new_with_quality(&mut jpeg, options.quality)
        .encode(&pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|source| RenderError::Pack { photo, source })?;
    Ok((jpeg, truth_of(options, photo, &camera, drawn)))
}

fn truth_of(options: &RenderOptions, photo: u32, camera: &Camera, drawn: Drawn) -> Truth {
    let facings: Vec<Facing> = drawn
        .facings
        .into_iter()
        .map(|f| Facing {
            brand: f.brand.to_owned(),
            variant: f.variant.map(str::to_owned),
            row: f.row,
            corners: camera.corners(f.area),
        })
        .collect();
    let prices = drawn.prices.into_iter();
    let words = drawn.words.into_iter();
    Truth {
        format: TRUTH_FORMAT,
        photo: format!("{}.jpg", photo_name(photo)),
        seed: options.seed,
        width: options.width,
        height: options.height,
        share: Truth::share_of(&facings),
        facings,
        prices: prices
            .map(|p| Price {
                text: p.text,
                row: p.row,
                corners: camera.corners(p.area),
            })
            .collect(),
        gaps: drawn
            .gaps
            .into_iter()
            .map(|(row, area)| Gap {
                row,
                corners: camera.corners(area),
            })
            .collect(),
        words: words
            .map(|w| Word {
                text: w.text,
                font: w.face,
                kind: w.kind,
                corners: camera.corners(w.ink),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
