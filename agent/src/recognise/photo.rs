//! Opens a photo that anybody may have sent: checks first, decodes after.
//!
//! In order: a regular file within the byte limit; JPEG, PNG or WebP by its first bytes; a JPEG that reaches
//! its end; width, height and pixels from the header; only then is it decoded, under a memory limit. The
//! camera's orientation is applied, and transparency is dropped.

use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use jpeg_decoder::PixelFormat;

use super::frame::Failure;

/// Largest width or height of a photo, in pixels.
pub const MAX_SIDE: u32 = 8192;

/// Memory a decoder may take for each pixel that the photo may have, in bytes: 16-bit RGBA, twice.
const DECODER_BYTES_PER_PIXEL: u64 = 16;

/// Memory that any decoder may take besides, in bytes.
const DECODER_SPARE_BYTES: u64 = 16 * 1024 * 1024;

/// What a photo may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhotoLimits {
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// Most pixels.
    pub max_pixels: u64,
}

/// Opens, checks and decodes the photo. A [`Failure`] of cause `fetch` if the file is gone or unreadable, of
/// cause `input` if the photo itself is at fault.
pub fn open(path: &Path, limits: PhotoLimits) -> Result<RgbImage, Failure> {
    decode(&read(path, limits.max_bytes)?, limits)
}

/// Checks that the photo is a readable regular file within the byte limit, without looking inside.
pub fn check_file(path: &Path, max_bytes: u64) -> Result<(), Failure> {
    open_file(path, max_bytes).map(drop)
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let (file, len) = open_file(path, max_bytes)?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1);
    // It may grow while it is read.
    let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64, max_bytes));
    }
    Ok(bytes)
}

fn open_file(path: &Path, max_bytes: u64) -> Result<(File, u64), Failure> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let file = file.map_err(|error| unreadable(path, &error))?;
    let meta = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !meta.is_file() {
        return Err(Failure::fetch(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    if meta.len() > max_bytes {
        return Err(too_large(meta.len(), max_bytes));
    }
    Ok((file, meta.len()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::fetch(format!("the photo {} is gone", path.display())),
        _ => Failure::fetch(format!("the photo {} cannot be read: {error}", path.display())),
    }
}

fn too_large(len: u64, max_bytes: u64) -> Failure {
    Failure::input(format!(
        "the photo has {len} bytes; at most {max_bytes} are allowed"
    ))
}

fn decode(bytes: &[u8], limits: PhotoLimits) -> Result<RgbImage, Failure> {
    match format_of(bytes)? {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits),
        format => decode_other(bytes, format, limits),
    }
}

/// The JPEG decoder used here comes closest to libjpeg's pixels, with which models are trained: the one
/// inside `image` enlarges the colour planes with a bias that turns close calls of a model. Rare kinds (four
/// colours, 16 bits) go to that one.
fn decode_jpeg(bytes: &[u8], limits: PhotoLimits) -> Result<RgbImage, Failure> {
    if !jpeg_is_whole(bytes) {
        return Err(Failure::input("the photo is cut short: the JPEG has no end"));
    }
    let damaged =
        |error: jpeg_decoder::Error| Failure::input(format!("the photo is a damaged JPEG: {error}"));
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().map_err(damaged)?;
    let info = decoder
        .info()
        .ok_or_else(|| Failure::input("the photo is a JPEG without a picture"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_dimensions((width, height), 0, limits)?;
    let grey = match info.pixel_format {
        PixelFormat::RGB24 => false,
        PixelFormat::L8 => true,
        PixelFormat::L16 | PixelFormat::CMYK32 => return decode_other(bytes, ImageFormat::Jpeg, limits),
    };
    decoder.set_max_decoding_buffer_size(usize::try_from(max_memory(limits)).unwrap_or(usize::MAX));
    let mut pixels = decoder.decode().map_err(damaged)?;
    if grey {
        pixels = pixels.iter().flat_map(|value| [*value; 3]).collect();
    }
    // Photos with damaged EXIF data are as good as those without.
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    let photo = RgbImage::from_raw(width, height, pixels);
    let mut photo =
        DynamicImage::from(photo.ok_or_else(|| Failure::input("the photo is a JPEG with rows missing"))?);
    photo.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(photo.into_rgb8())
}

fn decode_other(bytes: &[u8], format: ImageFormat, limits: PhotoLimits) -> Result<RgbImage, Failure> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = Limits::default();
    // A side over MAX_SIDE is told from the header below, with figures. A PNG's decoder asks only for what is not
    // pixels: a profile or a text of a few KB that unpacks to more than that is left packed or refused.
    allowed.max_alloc = Some(match format {
        ImageFormat::Png => DECODER_SPARE_BYTES,
        _ => max_memory(limits),
    });
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(|error| refused(format, &error))?;
    check_dimensions(decoder.dimensions(), decoder.total_bytes(), limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut photo = DynamicImage::from_decoder(decoder).map_err(|error| refused(format, &error))?;
    photo.apply_orientation(orientation);
    Ok(photo.into_rgb8())
}

/// What a decoder may allocate, in bytes.
fn max_memory(limits: PhotoLimits) -> u64 {
    limits
        .max_pixels
        .saturating_mul(DECODER_BYTES_PER_PIXEL)
        .saturating_add(DECODER_SPARE_BYTES)
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, Failure> {
    if bytes.is_empty() {
        return Err(Failure::input("the photo is empty: it has 0 bytes"));
    }
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Ok(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Ok(ImageFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(ImageFormat::WebP),
        _ => Err(Failure::input(
            "not an image that is taken here: JPEG, PNG or WebP, by its first bytes",
        )),
    }
}

fn check_dimensions(
    (width, height): (u32, u32),
    total_bytes: u64,
    limits: PhotoLimits,
) -> Result<(), Failure> {
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 {
        return Err(Failure::input(format!("the photo is {width} × {height} pixels")));
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        let message =
            format!("the photo is {width} × {height} pixels; at most {MAX_SIDE} a side are allowed");
        return Err(Failure::input(message));
    }
    if pixels > limits.max_pixels {
        let message = format!(
            "the photo has {pixels} pixels ({width} × {height}); at most {} are allowed",
            limits.max_pixels
        );
        return Err(Failure::input(message));
    }
    if total_bytes > pixels.saturating_mul(DECODER_BYTES_PER_PIXEL) {
        return Err(Failure::input(format!(
            "the photo would take {total_bytes} bytes in memory"
        )));
    }
    Ok(())
}

fn refused(format: ImageFormat, error: &ImageError) -> Failure {
    let name = format
        .extensions_str()
        .first()
        .copied()
        .unwrap_or("image")
        .to_uppercase();
    let what = match error {
        ImageError::Limits(_) => "would take too much memory",
        ImageError::Unsupported(_) => "uses a feature that is not taken here",
        _ => "is damaged or cut short",
    };
    Failure::input(format!("the photo is a {name} that {what}: {error}"))
}

/// Whether a JPEG's data reaches its end marker. Some decoders fill what is missing with grey.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: 0xff and a code that is neither 0 (an escaped 0xff) nor 0xff (filling).
        match bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|byte| *byte == 0xff))
        {
            Some(skipped) => at += skipped + 1,
            None => return false,
        }
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            // Filling: this 0xff may itself begin the marker.
            Some(0xff) => {}
            // Escaped, restart marks, start, and the one mark without a length.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            // A segment with a length, which counts itself. After SOS come the data, in which the search goes
            // on.
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2),
                None => return false,
            },
        }
    }
}

#[cfg(test)]
#[path = "photo_tests.rs"]
mod tests;
