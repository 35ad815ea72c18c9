use std::collections::BTreeSet;

use super::super::truth::{Corners, WordKind};
use super::*;

fn options(out: &Path) -> RenderOptions {
    RenderOptions {
        out: out.to_owned(),
        count: 2,
        seed: 5,
        width: 800,
        height: 600,
        quality: 88,
    }
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry"))
        .map(|e| {
            (
                e.file_name().to_string_lossy().into_owned(),
                std::fs::read(e.path()).expect("a file"),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, seed, count| {
        let out = folder.path().join(name);
        let summary = render(&RenderOptions {
            seed,
            count,
            ..options(&out)
        })
        .expect("renders");
        (files(&out), summary)
    };
    let (one, summary) = at("one", 5, 5);
    let (two, again) = at("two", 5, 5);
    assert_eq!(one, two);
    assert_eq!(summary, again);
    assert_eq!(one.len(), 10);
    assert_eq!(one[0].0, "shelf-0001.jpg");
    assert_eq!(one[1].0, "shelf-0001.json");
    let jpegs: u64 = one
        .iter()
        .filter(|(name, _)| name.ends_with(".jpg"))
        .map(|(_, b)| b.len() as u64)
        .sum();
    assert_eq!((summary.photos, summary.bytes), (5, jpegs));
    assert_eq!(
        at("fewer", 5, 2).0,
        one[..4],
        "a photo does not depend on how many there are"
    );
    let other = at("other", 6, 5).0;
    assert!(one.iter().zip(&other).all(|(a, b)| a.0 == b.0 && a.1 != b.1));
    assert!(one[0].1 != one[2].1, "photos of one set differ");
}

/// What the renderer draws is part of its promise: a change here changes every set that was ever scored, and
/// a difference between two machines would show here.
#[test]
fn the_bytes_are_the_promised_ones() {
    let fonts = Fonts::load().expect("fonts");
    let (jpeg, truth) = render_one(&options(Path::new("")), &fonts, 1).expect("renders");
    let mut digest = sha2::Sha256::default();
    sha2::Digest::update(&mut digest, &jpeg);
    sha2::Digest::update(&mut digest, serde_json::to_vec(&truth).expect("plain data"));
    let hex: String = sha2::Digest::finalize(digest)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(
        hex, "40df32b4fb1020607f641523c53d8dff2b9b30cb4f3635d95decb8b3957abf75",
        "meant to change? then say so in the CHANGELOG and put the new digest here"
    );
}

#[test]
fn the_truth_is_whole_and_inside_the_picture() {
    let fonts = Fonts::load().expect("fonts");
    let mut faces = BTreeSet::new();
    let (mut gaps, mut commas, mut points) = (0, 0, 0);
    for photo in 1..=12 {
        let asked = RenderOptions {
            width: 1600,
            height: 1200,
            ..options(Path::new(""))
        };
        let (jpeg, truth) = render_one(&asked, &fonts, photo).expect("renders");
        let read = image::load_from_memory(&jpeg).expect("a picture");
        assert_eq!((read.width(), read.height()), (1600, 1200));
        let json = serde_json::to_string(&truth).expect("plain data");
        assert!(
            serde_json::from_str::<Truth>(&json).expect("reads back") == truth,
            "photo {photo}"
        );

        let of = |kind| truth.words.iter().filter(move |w| w.kind == kind);
        assert_eq!(of(WordKind::Brand).count(), truth.facings.len());
        assert_eq!(of(WordKind::Price).count(), truth.prices.len());
        assert!(truth.facings.len() >= 20, "{} facings", truth.facings.len());
        assert!((truth.share.values().sum::<f64>() - 1.0).abs() < 1e-4);
        let boxes = truth
            .facings
            .iter()
            .map(|f| f.corners)
            .chain(truth.prices.iter().map(|p| p.corners));
        let boxes = boxes
            .chain(truth.gaps.iter().map(|g| g.corners))
            .chain(truth.words.iter().map(|w| w.corners));
        boxes.for_each(assert_inside);
        for word in of(WordKind::Brand) {
            let high = word.corners[3][1] - word.corners[0][1];
            assert!(
                (23.0..=60.0).contains(&high),
                "{} is {high} pixels high",
                word.text
            );
        }
        faces.extend(truth.words.iter().map(|w| w.font));
        gaps += truth.gaps.len();
        commas += truth.prices.iter().filter(|p| p.text.contains(',')).count();
        points += truth.prices.iter().filter(|p| p.text.contains('.')).count();
    }
    assert_eq!(faces.len(), 5, "{faces:?}");
    assert!(gaps > 5 && commas > 20 && points > 20, "{gaps} {commas} {points}");
}

fn assert_inside(corners: Corners) {
    let [a, b, c, d] = corners;
    for [x, y] in corners {
        assert!(x > 0.0 && x < 1600.0 && y > 0.0 && y < 1200.0, "{corners:?}");
    }
    assert!(
        a[0] < b[0] && d[0] < c[0] && a[1] < d[1] && b[1] < c[1],
        "{corners:?}"
    );
}

#[test]
fn every_size_within_the_limits_renders() {
    let fonts = Fonts::load().expect("fonts");
    for (width, height) in [(480, 480), (480, 1440), (1440, 480), (481, 777)] {
        let asked = RenderOptions {
            width,
            height,
            ..options(Path::new(""))
        };
        asked.check().expect("within the limits");
        for photo in 1..=4 {
            let (_, truth) = render_one(&asked, &fonts, photo).expect("renders");
            assert!(
                truth.facings.len() >= 3,
                "{width}x{height}: {}",
                truth.facings.len()
            );
        }
    }
}

#[test]
fn bad_options_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("writes");
    let good = options(&folder.path().join("out"));
    let refused = |bad: RenderOptions, part: &str| {
        let said = render(&bad).expect_err("is refused").to_string();
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    };
    refused(
        RenderOptions {
            count: 0,
            ..good.clone()
        },
        "--count is 0",
    );
    refused(
        RenderOptions {
            count: MAX_COUNT + 1,
            ..good.clone()
        },
        "--count is 100001",
    );
    refused(
        RenderOptions {
            width: MAX_SIDE + 1,
            ..good.clone()
        },
        "--width is 6001",
    );
    refused(
        RenderOptions {
            height: MIN_SIDE - 1,
            ..good.clone()
        },
        "--height is 479",
    );
    refused(
        RenderOptions {
            width: 5000,
            height: 5000,
            ..good.clone()
        },
        "25000000 pixels",
    );
    refused(
        RenderOptions {
            width: 1600,
            height: 500,
            ..good.clone()
        },
        "at most 3 times",
    );
    refused(
        RenderOptions {
            quality: 0,
            ..good.clone()
        },
        "--quality is 0",
    );
    refused(
        RenderOptions {
            quality: 101,
            ..good.clone()
        },
        "--quality is 101",
    );
    refused(
        RenderOptions {
            out: file.clone(),
            ..good.clone()
        },
        "is a file; give a folder",
    );
    refused(
        RenderOptions {
            out: file.join("below"),
            ..good.clone()
        },
        "cannot be made",
    );
    assert!(!good.out.exists(), "nothing is written when an option is bad");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("shelf-0002.jpg")).expect("makes it");
    let said = render(&options(folder.path()))
        .expect_err("cannot write a folder")
        .to_string();
    assert!(
        said.contains("shelf-0002.jpg cannot be written") && said.contains("--out"),
        "{said}"
    );
}
