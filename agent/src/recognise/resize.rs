//! Resizes a picture and cuts a part out, to the bit as Pillow does.
//!
//! A model gives its trained accuracy only on pictures prepared as in its training, and the models here were
//! trained on pictures that Pillow resized: each new pixel is a weighted mean of all that it covers, rows
//! first, then columns, each pass rounded to 8 bits with weights of 22 bits. General resizing crates round
//! otherwise. Only the part that is asked for is computed.

use image::RgbImage;

use super::settings::Resize;

/// Bits of a weight after the point: 32 less 8 for a value and 2 for the filter's overshoot.
const WEIGHT_BITS: u32 = 22;

const CHANNELS: usize = 3;

/// A pixel in the first pass, filled up so that it is one vector.
const LANES: usize = 4;

/// The part of the resized picture that is wanted, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// `photo` resized to `width` × `height` pixels.
pub fn resize(photo: &RgbImage, width: u32, height: u32, how: Resize) -> RgbImage {
    resize_part(
        photo,
        (width, height),
        Part {
            x: 0,
            y: 0,
            width,
            height,
        },
        how,
    )
}

/// The part of `photo` resized to `size` (width, height). The part must lie within `size`, and no side may be
/// 0.
pub fn resize_part(photo: &RgbImage, size: (u32, u32), part: Part, how: Resize) -> RgbImage {
    let columns = weights(photo.width(), size.0, part.x, part.width, how);
    let rows = weights(photo.height(), size.1, part.y, part.height, how);
    let mut resized = RgbImage::new(part.width, part.height);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: this machine has AVX2.
        unsafe { both_passes_avx2(photo, &mut resized, &columns, &rows) };
        return resized;
    }
    both_passes(photo, &mut resized, &columns, &rows);
    resized
}

/// The same code compiled for AVX2, which is four times as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn both_passes_avx2(photo: &RgbImage, resized: &mut RgbImage, columns: &Weights, rows: &Weights) {
    both_passes(photo, resized, columns, rows);
}

#[inline(always)]
fn both_passes(photo: &RgbImage, resized: &mut RgbImage, columns: &Weights, rows: &Weights) {
    // Only the rows that the second pass will look at go through the first.
    let first_row = rows.taps.iter().map(|tap| tap.first).min().unwrap_or(0);
    let end_row = rows.taps.iter().map(|tap| tap.first + tap.len).max().unwrap_or(0);
    let wide = photo.width() as usize;
    let narrow = resized.width() as usize * CHANNELS;
    let mut between = vec![0; narrow * (end_row - first_row)];
    let needed = photo.as_raw().chunks_exact(wide * CHANNELS).skip(first_row);
    let mut padded = vec![[0; LANES]; wide];
    for (from, to) in needed.zip(between.chunks_exact_mut(narrow)) {
        for (pixel, lanes) in from.chunks_exact(CHANNELS).zip(padded.iter_mut()) {
            *lanes = [pixel[0], pixel[1], pixel[2], 0];
        }
        squeeze_row(&padded, to, columns);
    }
    let mut sums = vec![0; narrow];
    for (tap, to) in rows.taps.iter().zip(resized.chunks_exact_mut(narrow)) {
        let from = &between[(tap.first - first_row) * narrow..(tap.first - first_row + tap.len) * narrow];
        blend_rows(from, to, &mut sums, rows.of(tap));
    }
}

/// Which old pixels make up one new one.
#[derive(Clone, Copy, Debug)]
struct Tap {
    first: usize,
    len: usize,
    /// Where its weights begin.
    weights: usize,
}

struct Weights {
    taps: Vec<Tap>,
    all: Vec<i32>,
}

impl Weights {
    fn of(&self, tap: &Tap) -> &[i32] {
        &self.all[tap.weights..tap.weights + tap.len]
    }
}

fn filter(how: Resize, x: f64) -> f64 {
    let x = x.abs();
    match how {
        Resize::Bilinear => (1.0 - x).max(0.0),
        Resize::Bicubic => {
            const A: f64 = -0.5;
            if x < 1.0 {
                ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * A
            } else {
                0.0
            }
        }
    }
}

/// The weights of `len` new pixels from `start`, where `old` pixels become `new`.
fn weights(old: u32, new: u32, start: u32, len: u32, how: Resize) -> Weights {
    let scale = f64::from(old) / f64::from(new);
    let stretch = scale.max(1.0);
    let reach = stretch * if how == Resize::Bicubic { 2.0 } else { 1.0 };
    let mut found = Weights {
        taps: Vec::with_capacity(len as usize),
        all: Vec::new(),
    };
    for at in start..start + len {
        let centre = (f64::from(at) + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(old as usize);
        let raw: Vec<f64> = (first..end)
            .map(|x| filter(how, (x as f64 - centre + 0.5) * stretch.recip()))
            .collect();
        let sum: f64 = raw.iter().sum();
        let unit = f64::from(1 << WEIGHT_BITS);
        found.taps.push(Tap {
            first,
            len: raw.len(),
            weights: found.all.len(),
        });
        found.all.extend(raw.iter().map(|weight| {
            let weight = if sum == 0.0 { 0.0 } else { weight / sum } * unit;
            // Half away from zero, by cutting.
            (weight + 0.5_f64.copysign(weight)) as i32
        }));
    }
    found
}

#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Half of the unit, so that cutting rounds.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

#[inline(always)]
fn squeeze_row(from: &[[u8; LANES]], to: &mut [u8], columns: &Weights) {
    for (tap, pixel) in columns.taps.iter().zip(to.chunks_exact_mut(CHANNELS)) {
        let mut sums = [HALF; LANES];
        for (old, weight) in from[tap.first..tap.first + tap.len].iter().zip(columns.of(tap)) {
            for (sum, value) in sums.iter_mut().zip(old) {
                // Cannot overflow: the weights sum to the unit and overshoot it by less than two bits.
                *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*value)));
            }
        }
        for (value, sum) in pixel.iter_mut().zip(sums) {
            *value = to_u8(sum);
        }
    }
}

#[inline(always)]
fn blend_rows(from: &[u8], to: &mut [u8], sums: &mut [i32], weights: &[i32]) {
    sums.fill(HALF);
    for (row, weight) in from.chunks_exact(to.len()).zip(weights) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(*value)));
        }
    }
    for (value, sum) in to.iter_mut().zip(sums.iter()) {
        *value = to_u8(*sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x * 37 + y * 11, x * x + 3 * y, x * y * 7 + 5].map(|value| (value % 256) as u8))
        })
    }

    // What Pillow 12 gives for these pictures.
    const SMALLER_BICUBIC: [u8; 60] = [
        39, 3, 9, 140, 13, 21, 153, 38, 33, 62, 77, 51, 163, 126, 67, 63, 9, 22, 164, 19, 71, 152, 44, 133,
        86, 83, 151, 188, 132, 128, 89, 17, 36, 189, 27, 131, 98, 52, 163, 112, 91, 97, 211, 140, 137, 117,
        23, 51, 180, 33, 170, 66, 58, 102, 147, 97, 164, 165, 146, 133,
    ];
    const SMALLER_BILINEAR: [u8; 60] = [
        48, 4, 11, 133, 14, 25, 151, 39, 40, 73, 78, 55, 158, 122, 69, 70, 11, 26, 155, 21, 72, 150, 46, 124,
        95, 85, 141, 180, 129, 129, 96, 17, 43, 178, 27, 126, 101, 52, 152, 121, 91, 107, 200, 135, 134, 118,
        24, 59, 172, 34, 160, 78, 59, 109, 143, 98, 159, 166, 142, 132,
    ];
    const LARGER_BICUBIC: [u8; 189] = [
        0, 0, 5, 8, 0, 5, 32, 1, 5, 52, 2, 4, 73, 4, 4, 94, 7, 4, 114, 10, 3, 138, 14, 3, 150, 17, 3, 2, 1,
        5, 12, 1, 6, 36, 2, 7, 56, 3, 8, 77, 5, 9, 98, 8, 10, 118, 11, 11, 142, 15, 12, 154, 18, 13, 7, 3, 4,
        19, 3, 7, 43, 4, 11, 63, 5, 14, 84, 7, 18, 105, 10, 22, 125, 13, 25, 149, 17, 29, 161, 20, 32, 13, 5,
        4, 26, 5, 8, 50, 6, 14, 70, 7, 20, 91, 9, 26, 112, 12, 32, 132, 15, 38, 156, 19, 45, 168, 22, 48, 20,
        6, 4, 32, 6, 8, 56, 7, 17, 76, 8, 26, 97, 10, 34, 118, 13, 42, 138, 16, 51, 162, 20, 60, 174, 23, 64,
        27, 8, 3, 39, 8, 9, 63, 9, 21, 83, 10, 32, 104, 12, 43, 125, 15, 54, 145, 18, 65, 169, 22, 77, 181,
        25, 83, 31, 9, 3, 43, 9, 10, 67, 10, 23, 87, 11, 36, 108, 13, 48, 129, 16, 60, 149, 19, 73, 173, 23,
        86, 185, 26, 93,
    ];
    const LARGE_BICUBIC_HASH: u32 = 1_770_192_293;

    #[test]
    fn every_value_is_pillows() {
        assert_eq!(
            resize(&picture(13, 9), 5, 4, Resize::Bicubic).as_raw()[..],
            SMALLER_BICUBIC
        );
        assert_eq!(
            resize(&picture(13, 9), 5, 4, Resize::Bilinear).as_raw()[..],
            SMALLER_BILINEAR
        );
        assert_eq!(
            resize(&picture(5, 4), 9, 7, Resize::Bicubic).as_raw()[..],
            LARGER_BICUBIC
        );
    }

    #[test]
    fn a_larger_picture_is_pillows_too() {
        let resized = resize(&picture(700, 500), 358, 256, Resize::Bicubic);
        let hash = resized.iter().fold(0_u32, |hash, value| {
            hash.wrapping_mul(31).wrapping_add((*value).into())
        });
        assert_eq!(hash, LARGE_BICUBIC_HASH);
    }

    #[test]
    fn a_part_is_the_same_as_the_whole_cut() {
        let photo = picture(61, 83);
        let whole = resize(&photo, 30, 41, Resize::Bicubic);
        let part = Part {
            x: 7,
            y: 11,
            width: 20,
            height: 25,
        };
        let cut = image::imageops::crop_imm(&whole, part.x, part.y, part.width, part.height).to_image();
        assert_eq!(resize_part(&photo, (30, 41), part, Resize::Bicubic), cut);
    }

    #[test]
    fn extreme_shapes_do_not_fail() {
        for (old, new) in [
            ((1, 1), (300, 200)),
            ((1, 8192), (256, 1)),
            ((8192, 1), (1, 256)),
            ((3, 3), (3, 3)),
        ] {
            let resized = resize(
                &RgbImage::from_pixel(old.0, old.1, image::Rgb([9, 99, 255])),
                new.0,
                new.1,
                Resize::Bicubic,
            );
            assert!(
                resized.pixels().all(|pixel| pixel.0 == [9, 99, 255]),
                "{old:?} to {new:?}"
            );
        }
    }
}
