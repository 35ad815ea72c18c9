//! How much of what is printed on a rendered photo a recogniser has read.
//!
//! One read word is held against one printed word, by where they are: pairs are made from the largest overlap of
//! their boxes downwards, and each word is used once. What was read then counts or does not; a right word in a
//! wrong place counts for nothing. A reader that joins several words in one line is not punished for it: a line
//! with spaces is cut at them, and its box in proportion to the letters.

use serde::{Deserialize, Serialize};

use super::truth::{Corners, Truth, WordKind};

/// A read and a printed word can be the same only if their overlap is at least this part of the smaller box.
pub const LEAST_OVERLAP: f64 = 0.5;

/// One word, or line of words, that a recogniser read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadWord {
    pub text: String,
    /// 0 to 1; not used to score.
    pub confidence: f32,
    #[serde(rename = "box")]
    pub corners: Corners,
}

impl From<(String, f32, Corners)> for ReadWord {
    fn from((text, confidence, corners): (String, f32, Corners)) -> ReadWord {
        ReadWord {
            text,
            confidence,
            corners,
        }
    }
}

/// How many words of one kind were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub printed: u64,
    /// Read letter for letter; capitals do not matter.
    pub exact: u64,
    /// Read with at most one letter wrong, missing or too many; the exact ones included.
    pub near: u64,
}

impl Found {
    /// The part that was found exactly, 0 to 1; `None` when nothing was printed.
    pub fn exact_share(&self) -> Option<f64> {
        (self.printed > 0).then(|| self.exact as f64 / self.printed as f64)
    }

    /// The part that was found with at most one letter off, 0 to 1; `None` when nothing was printed.
    pub fn near_share(&self) -> Option<f64> {
        (self.printed > 0).then(|| self.near as f64 / self.printed as f64)
    }

    fn add(&mut self, other: Found) {
        self.printed += other.printed;
        self.exact += other.exact;
        self.near += other.near;
    }
}

/// The score of one photo, or the sum over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    pub brands: Found,
    pub variants: Found,
    /// `exact` is as printed, comma and point told apart.
    pub prices: Found,
    /// Read words that lie on no printed word.
    pub strangers: u64,
}

impl Score {
    /// Adds another photo's score.
    pub fn add(&mut self, other: &Score) {
        self.brands.add(other.brands);
        self.variants.add(other.variants);
        self.prices.add(other.prices);
        self.strangers += other.strangers;
    }

    fn of(&mut self, kind: WordKind) -> &mut Found {
        match kind {
            WordKind::Brand => &mut self.brands,
            WordKind::Variant => &mut self.variants,
            WordKind::Price => &mut self.prices,
        }
    }
}

/// Holds what was read against what is printed. Read boxes that are no area (or not finite) lie nowhere.
pub fn score(truth: &Truth, read: &[ReadWord]) -> Score {
    let read: Vec<ReadWord> = read.iter().flat_map(cut_at_spaces).collect();
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (printed_at, printed) in truth.words.iter().enumerate() {
        for (read_at, word) in read.iter().enumerate() {
            if let Some(overlap) = overlap(&printed.corners, &word.corners) {
                pairs.push((overlap, printed_at, read_at));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut reading_of: Vec<Option<&str>> = vec![None; truth.words.len()];
    let mut used = vec![false; read.len()];
    for (_, printed_at, read_at) in pairs {
        if reading_of[printed_at].is_none() && !used[read_at] {
            reading_of[printed_at] = Some(&read[read_at].text);
            used[read_at] = true;
        }
    }
    let mut score = Score {
        strangers: used.iter().filter(|used| !**used).count() as u64,
        ..Score::default()
    };
    for (printed, reading) in truth.words.iter().zip(reading_of) {
        let found = score.of(printed.kind);
        found.printed += 1;
        if let Some(reading) = reading {
            let off = edit_distance(&plain(&printed.text), &plain(reading));
            found.exact += u64::from(off == 0);
            found.near += u64::from(off <= 1);
        }
    }
    score
}

fn plain(text: &str) -> String {
    text.trim().to_uppercase()
}

/// The words of a line, each with its part of the line's box.
fn cut_at_spaces(line: &ReadWord) -> Vec<ReadWord> {
    let letters: Vec<char> = line.text.trim().chars().collect();
    let all = letters.len().max(1) as f32;
    let [a, b, c, d] = line.corners;
    let along = |from: [f32; 2], to: [f32; 2], part: f32| {
        [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * part)
    };
    let mut at = 0;
    let mut words = Vec::new();
    for word in letters.split(|letter| letter.is_whitespace()) {
        let (start, end) = (at as f32 / all, (at + word.len()) as f32 / all);
        at += word.len() + 1;
        if !word.is_empty() {
            let corners = [
                along(a, b, start),
                along(a, b, end),
                along(d, c, end),
                along(d, c, start),
            ];
            words.push(ReadWord {
                text: word.iter().collect(),
                confidence: line.confidence,
                corners,
            });
        }
    }
    words
}

/// Overlap of two boxes as a part of both together, if it is at least [`LEAST_OVERLAP`] of the smaller one.
fn overlap(one: &Corners, other: &Corners) -> Option<f64> {
    let one = polygon(one)?;
    let other = polygon(other)?;
    let common = area(&clip(&one, &other)).abs();
    let (size_one, size_other) = (area(&one), area(&other));
    (common >= LEAST_OVERLAP * size_one.min(size_other)).then(|| common / (size_one + size_other - common))
}

/// The corners in the order in which the area counts as positive; `None` when there is no area.
fn polygon(corners: &Corners) -> Option<Vec<[f64; 2]>> {
    let mut points: Vec<[f64; 2]> = corners.iter().map(|c| c.map(f64::from)).collect();
    let size = area(&points);
    if size < 0.0 {
        points.reverse();
    }
    (size.is_finite() && size.abs() >= 1.0).then_some(points)
}

/// The area of a polygon, positive when it runs clockwise on the screen.
fn area(points: &[[f64; 2]]) -> f64 {
    let next = points.iter().cycle().skip(1);
    points
        .iter()
        .zip(next)
        .map(|(p, q)| p[0] * q[1] - q[0] * p[1])
        .sum::<f64>()
        / 2.0
}

/// The part of `shape` within the convex polygon `window` (Sutherland and Hodgman).
fn clip(shape: &[[f64; 2]], window: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut left = shape.to_vec();
    for (from, to) in window.iter().zip(window.iter().cycle().skip(1)) {
        let side = |p: &[f64; 2]| (to[0] - from[0]) * (p[1] - from[1]) - (to[1] - from[1]) * (p[0] - from[0]);
        let before = std::mem::take(&mut left);
        for (p, q) in before.iter().zip(before.iter().cycle().skip(1)) {
            let (at_p, at_q) = (side(p), side(q));
            if at_p >= 0.0 {
                left.push(*p);
            }
            if (at_p >= 0.0) != (at_q >= 0.0) {
                let part = at_p / (at_p - at_q);
                left.push([p[0] + (q[0] - p[0]) * part, p[1] + (q[1] - p[1]) * part]);
            }
        }
    }
    left
}

/// How many letters must be changed, added or left out to turn one word into the other (Levenshtein).
pub fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, against) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(letter != *against);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
