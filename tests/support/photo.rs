//! Photos for tests, good and bad, made in memory.

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, GrayImage, ImageEncoder, ImageFormat, Rgb, RgbImage};

/// A small picture in a file format.
pub fn good(format: ImageFormat) -> Vec<u8> {
    let photo = RgbImage::from_fn(320, 240, |x, y| Rgb([x as u8, y as u8, (x ^ y) as u8]));
    written(&DynamicImage::from(photo), format)
}

/// The same, cut short.
pub fn cut_short(format: ImageFormat) -> Vec<u8> {
    let mut bytes = good(format);
    bytes.truncate(bytes.len() / 2);
    bytes
}

/// A PNG of black pixels, which takes next to nothing until it is decoded.
pub fn black_png(width: u32, height: u32) -> Vec<u8> {
    let pixels = GrayImage::new(width, height);
    let mut bytes = Vec::new();
    smallest(&mut bytes)
        .write_image(&pixels, width, height, ExtendedColorType::L8)
        .expect("a picture in memory can be written");
    bytes
}

/// A PNG of a few bytes whose header claims so many pixels.
pub fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = black_png(1, 1);
    // After the signature (8), the chunk's length (4) and its name (4).
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A PNG of one small picture whose colour profile grows a thousandfold when it is unpacked.
pub fn profile_bomb(unpacked_bytes: usize) -> Vec<u8> {
    let photo = RgbImage::from_pixel(64, 64, Rgb([200, 30, 30]));
    let mut bytes = Vec::new();
    let mut encoder = smallest(&mut bytes);
    encoder
        .set_icc_profile(vec![0; unpacked_bytes])
        .expect("a PNG may have a profile");
    encoder
        .write_image(&photo, 64, 64, ExtendedColorType::Rgb8)
        .expect("a picture in memory can be written");
    bytes
}

/// A whole JPEG with some bytes changed, others for each `seed`.
pub fn scribbled(seed: u64) -> Vec<u8> {
    let mut bytes = good(ImageFormat::Jpeg);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        // xorshift: any spread will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    // The first three bytes stay, so that it is still taken for a JPEG.
    for _ in 0..=draw(8) {
        let at = 3 + draw(bytes.len() - 3);
        bytes[at] = draw(256) as u8;
    }
    bytes
}

fn smallest(bytes: &mut Vec<u8>) -> PngEncoder<&mut Vec<u8>> {
    PngEncoder::new_with_quality(bytes, CompressionType::Best, FilterType::NoFilter)
}

fn written(photo: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    photo
        .write_to(&mut bytes, format)
        .expect("a picture in memory can be written");
    bytes.into_inner()
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 * (sum & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_a_whole_header() {
        let bytes = claims(60_000, 50_000);
        let reader = image::ImageReader::with_format(Cursor::new(&bytes), ImageFormat::Png);
        assert_eq!(
            reader.into_dimensions().expect("its checksum is right"),
            (60_000, 50_000)
        );
        assert!(bytes.len() < 100);
    }

    #[test]
    fn bombs_are_small() {
        assert!(black_png(8_000, 8_000).len() < 200_000);
        assert!(profile_bomb(16 << 20).len() < 100_000);
    }
}
