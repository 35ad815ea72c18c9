use super::super::fonts::Face;
use super::super::truth::Word;
use super::*;

fn square(x: f32, y: f32, width: f32, height: f32) -> Corners {
    [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
}

fn truth(words: &[(&str, WordKind, Corners)]) -> Truth {
    let word = |(text, kind, corners): &(&str, WordKind, Corners)| Word {
        text: (*text).to_owned(),
        font: Face::Sans,
        kind: *kind,
        corners: *corners,
    };
    Truth {
        format: 1,
        photo: "shelf-0001.jpg".to_owned(),
        seed: 1,
        width: 1600,
        height: 1200,
        facings: Vec::new(),
        prices: Vec::new(),
        gaps: Vec::new(),
        words: words.iter().map(word).collect(),
        share: Truth::share_of(&[]),
    }
}

fn read(text: &str, corners: Corners) -> ReadWord {
    (text.to_owned(), 0.9, corners).into()
}

#[test]
fn exact_near_and_wrong_are_told_apart() {
    let truth = truth(&[
        ("KORVIN", WordKind::Brand, square(0.0, 0.0, 100.0, 30.0)),
        ("KORVIN", WordKind::Brand, square(200.0, 0.0, 100.0, 30.0)),
        ("KORVIN", WordKind::Brand, square(400.0, 0.0, 100.0, 30.0)),
        ("KORVIN", WordKind::Brand, square(600.0, 0.0, 100.0, 30.0)),
        ("12,90", WordKind::Price, square(0.0, 100.0, 60.0, 20.0)),
        ("4.25", WordKind::Price, square(200.0, 100.0, 60.0, 20.0)),
    ]);
    let found = score(
        &truth,
        &[
            read("korvin", square(-3.0, -4.0, 108.0, 38.0)),
            read("K0RVIN", square(202.0, 1.0, 95.0, 28.0)),
            read("K0RVlN", square(402.0, 1.0, 95.0, 28.0)),
            read("12.90", square(0.0, 100.0, 60.0, 20.0)),
            read("4.25", square(200.0, 100.0, 60.0, 20.0)),
        ],
    );
    assert_eq!(
        found.brands,
        Found {
            printed: 4,
            exact: 1,
            near: 2
        }
    );
    assert_eq!(
        found.prices,
        Found {
            printed: 2,
            exact: 1,
            near: 2
        }
    );
    assert_eq!(found.strangers, 0);
    assert_eq!(found.brands.exact_share(), Some(0.25));
    assert_eq!(found.variants.exact_share(), None);
}

#[test]
fn a_right_word_in_a_wrong_place_and_a_second_reading_count_for_nothing() {
    let at = square(0.0, 0.0, 100.0, 30.0);
    let truth = truth(&[
        ("KORVIN", WordKind::Brand, at),
        ("KORVIN", WordKind::Brand, square(300.0, 0.0, 100.0, 30.0)),
    ]);
    let words = [
        read("KORVIN", at),
        read("KORVIN", at),
        read("KORVIN", square(0.0, 500.0, 100.0, 30.0)),
    ];
    let found = score(&truth, &words);
    assert_eq!(
        found.brands,
        Found {
            printed: 2,
            exact: 1,
            near: 1
        }
    );
    assert_eq!(found.strangers, 2);
}

#[test]
fn the_best_overlap_wins_whatever_was_read_there() {
    let at = square(0.0, 0.0, 100.0, 30.0);
    let truth = truth(&[("KORVIN", WordKind::Brand, at)]);
    let found = score(
        &truth,
        &[read("KORVIN", square(40.0, 0.0, 100.0, 30.0)), read("OTHER", at)],
    );
    assert_eq!(
        found.brands,
        Found {
            printed: 1,
            exact: 0,
            near: 0
        }
    );
}

#[test]
fn a_line_of_several_words_is_cut() {
    let truth = truth(&[
        ("KORVIN", WordKind::Brand, square(0.0, 0.0, 100.0, 30.0)),
        ("KORVIN", WordKind::Brand, square(120.0, 0.0, 100.0, 30.0)),
    ]);
    let found = score(&truth, &[read(" KORVIN  KORVIN ", square(0.0, 0.0, 220.0, 30.0))]);
    assert_eq!(
        found.brands,
        Found {
            printed: 2,
            exact: 2,
            near: 2
        }
    );
}

#[test]
fn boxes_that_are_none_lie_nowhere() {
    let at = square(0.0, 0.0, 100.0, 30.0);
    let truth = truth(&[("KORVIN", WordKind::Brand, at)]);
    for none in [[[5.0, 5.0]; 4], [[f32::NAN; 2]; 4], [[f32::INFINITY, 0.0]; 4]] {
        assert_eq!(score(&truth, &[read("KORVIN", none)]).brands.exact, 0);
    }
    let mut turned = at;
    turned.reverse();
    assert_eq!(
        score(&truth, &[read("KORVIN", turned)]).brands.exact,
        1,
        "either way round"
    );
    assert_eq!(score(&truth, &[read("", at), read("   ", at)]).strangers, 0);
}

#[test]
fn overlap_of_tilted_boxes() {
    let diamond = [[50.0, 0.0], [100.0, 50.0], [50.0, 100.0], [0.0, 50.0]];
    let common = overlap(&diamond, &square(0.0, 0.0, 100.0, 100.0)).expect("they overlap");
    assert!((common - 0.5).abs() < 1e-9);
    assert_eq!(overlap(&diamond, &square(90.0, 90.0, 50.0, 50.0)), None);
}

#[test]
fn scores_of_photos_add_up() {
    let one = Found {
        printed: 2,
        exact: 1,
        near: 2,
    };
    let mut sum = Score {
        brands: one,
        strangers: 3,
        ..Score::default()
    };
    sum.add(&Score {
        brands: one,
        prices: one,
        strangers: 1,
        ..Score::default()
    });
    assert_eq!(
        sum.brands,
        Found {
            printed: 4,
            exact: 2,
            near: 4
        }
    );
    assert_eq!((sum.prices, sum.strangers), (one, 4));
}

#[test]
fn edit_distances() {
    for (one, other, off) in [
        ("", "", 0),
        ("A", "", 1),
        ("", "ABC", 3),
        ("KITTEN", "SITTING", 3),
        ("ÅB", "AB", 1),
    ] {
        assert_eq!(edit_distance(one, other), off, "{one} {other}");
        assert_eq!(edit_distance(other, one), off, "{other} {one}");
    }
}
