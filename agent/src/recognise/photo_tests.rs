use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::*;
use crate::recognise::frame::FailureCause;

const LIMITS: PhotoLimits = PhotoLimits {
    max_bytes: 100_000,
    max_pixels: 1_000_000,
};

/// A picture whose every pixel tells where it is.
fn sample() -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y / 12) as u8])
    })
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&sample())
        .unwrap();
    bytes
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    sample().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG with an EXIF segment that says how it was held.
fn turned(orientation: u8) -> Vec<u8> {
    let tiff = [
        b'I',
        b'I',
        42,
        0,
        8,
        0,
        0,
        0,
        1,
        0,
        0x12,
        0x01,
        3,
        0,
        1,
        0,
        0,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8 + tiff.len() as u8];
    bytes.extend_from_slice(b"Exif\0\0");
    bytes.extend_from_slice(&tiff);
    bytes.extend_from_slice(&jpeg()[2..]);
    bytes
}

/// A PNG of a few bytes whose header claims a size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&crc32(&header).to_be_bytes());
    bytes.extend_from_slice(b"\0\0\0\0IDAT");
    bytes.extend_from_slice(&crc32(b"IDAT").to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    };
    !bytes.iter().fold(!0, step)
}

fn input_error(bytes: &[u8]) -> String {
    let failure = decode(bytes, LIMITS).expect_err("it should be refused");
    assert_eq!(failure.cause, FailureCause::Input, "{failure}");
    failure.message
}

#[test]
fn the_three_formats_are_decoded() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(decode(&encoded(format), LIMITS).unwrap(), sample(), "{format:?}");
    }
    let photo = decode(&jpeg(), LIMITS).unwrap();
    let worst = photo
        .iter()
        .zip(sample().iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst <= Some(40), "{worst:?}");
}

#[test]
fn the_cameras_orientation_is_applied() {
    let upright = decode(&jpeg(), LIMITS).unwrap();
    assert_eq!(decode(&turned(1), LIMITS).unwrap(), upright);
    assert_eq!(
        decode(&turned(3), LIMITS).unwrap(),
        image::imageops::rotate180(&upright)
    );
    assert_eq!(
        decode(&turned(6), LIMITS).unwrap(),
        image::imageops::rotate90(&upright)
    );
    // A figure that means nothing is ignored.
    assert_eq!(decode(&turned(77), LIMITS).unwrap(), upright);
}

#[test]
fn what_is_not_an_image_is_told_by_its_first_bytes() {
    for bytes in [
        &b"hello"[..],
        b"GIF89a.....",
        b"%PDF-1.7",
        &[0xff, 0xd8],
        b"<svg/>",
    ] {
        assert!(input_error(bytes).contains("JPEG, PNG or WebP"), "{bytes:?}");
    }
    assert!(input_error(b"").contains("0 bytes"));
}

#[test]
fn a_jpeg_cut_anywhere_is_refused() {
    let whole = jpeg();
    for len in 3..whole.len() {
        let message = input_error(&whole[..len]);
        assert!(
            message.contains("cut short"),
            "{len} of {} bytes: {message}",
            whole.len()
        );
    }
}

#[test]
fn a_jpeg_with_something_after_its_end_is_taken() {
    let mut bytes = jpeg();
    bytes.extend_from_slice(b"a phone's own appendix \xff\x00");
    assert!(decode(&bytes, LIMITS).is_ok());
}

#[test]
fn a_png_or_webp_cut_in_its_data_is_refused() {
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let whole = encoded(format);
        for len in [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4] {
            assert!(
                input_error(&whole[..len]).contains("damaged or cut short"),
                "{format:?} {len}"
            );
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    assert!(input_error(&png_claiming(60_000, 60_000)).contains("at most 8192 a side"));
    assert!(input_error(&png_claiming(8_000, 8_000)).contains("at most 1000000 are allowed"));
    assert!(input_error(&png_claiming(u32::MAX, u32::MAX)).contains("PNG"));
    // The same for a JPEG: its frame header is changed to claim 65 500 a side.
    let mut bytes = jpeg();
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(input_error(&bytes).contains("65500 × 65500"));
}

#[test]
fn limits_hold_at_the_limit_and_one_over() {
    let bytes = encoded(ImageFormat::Png);
    let pixels = 64 * 48;
    let limits = |max_pixels| PhotoLimits { max_pixels, ..LIMITS };
    assert!(decode(&bytes, limits(pixels)).is_ok());
    assert!(decode(&bytes, limits(pixels - 1)).is_err());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photo.png");
    std::fs::write(&path, &bytes).unwrap();
    let len = bytes.len() as u64;
    assert!(
        open(
            &path,
            PhotoLimits {
                max_bytes: len,
                ..LIMITS
            }
        )
        .is_ok()
    );
    let failure = open(
        &path,
        PhotoLimits {
            max_bytes: len - 1,
            ..LIMITS
        },
    )
    .unwrap_err();
    assert_eq!(failure.cause, FailureCause::Input);
}

#[test]
fn what_cannot_be_fetched_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let name = std::ffi::CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let cases: [(PathBuf, &str); 3] = [
        (dir.path().join("absent.jpg"), "is gone"),
        (dir.path().into(), "not a regular file"),
        (fifo, "not a regular file"),
    ];
    for (path, part) in cases {
        let failure = open(&path, LIMITS).unwrap_err();
        assert_eq!(failure.cause, FailureCause::Fetch);
        assert!(failure.message.contains(part), "{failure}");
    }
}

#[test]
fn sixteen_bits_grey_and_transparency_become_rgb() {
    let mut bytes = Vec::new();
    let grey: Vec<u8> = (0..8 * 8_u16)
        .flat_map(|value| (value << 10).to_be_bytes())
        .collect();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&grey, 8, 8, ExtendedColorType::L16)
        .unwrap();
    assert_eq!(decode(&bytes, LIMITS).unwrap().dimensions(), (8, 8));
    let mut bytes = Vec::new();
    let clear = [10, 20, 30, 0].repeat(64);
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&clear, 8, 8, ExtendedColorType::Rgba8)
        .unwrap();
    assert_eq!(decode(&bytes, LIMITS).unwrap().get_pixel(3, 3).0, [10, 20, 30]);
}
