//! The five fonts that come with the project (`cli/assets/fonts`, licences beside them), and setting a word in one.

use ab_glyph::{Font, FontRef, GlyphId, InvalidFont, OutlinedGlyph, PxScale, ScaleFont, point};
use serde::{Deserialize, Serialize};

use super::canvas::{Canvas, Colour, Rect};

/// A font's name in the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    Sans,
    Serif,
    Condensed,
    Slab,
    Wide,
}

/// The size at which a font's capital height is measured.
const PROBE_PX: f32 = 200.0;

struct Loaded {
    font: FontRef<'static>,
    /// Pixels of [`PxScale`] for one pixel of capital height.
    scale_of_cap: f32,
}

/// The fonts, ready for use.
pub struct Fonts {
    sans: Loaded,
    serif: Loaded,
    condensed: Loaded,
    slab: Loaded,
    wide: Loaded,
}

impl Loaded {
    fn new(bytes: &'static [u8]) -> Result<Loaded, InvalidFont> {
        let font = FontRef::try_from_slice(bytes)?;
        let capital = font.glyph_id('H').with_scale(PROBE_PX);
        let outline = font.outline_glyph(capital).ok_or(InvalidFont)?;
        let scale_of_cap = PROBE_PX / outline.px_bounds().height().max(1.0);
        Ok(Loaded { font, scale_of_cap })
    }
}

impl Fonts {
    /// Reads the built-in fonts. Fails only if the program was built with a broken font file.
    pub fn load() -> Result<Fonts, InvalidFont> {
        Ok(Fonts {
            sans: Loaded::new(include_bytes!("../../assets/fonts/sans.ttf"))?,
            serif: Loaded::new(include_bytes!("../../assets/fonts/serif.ttf"))?,
            condensed: Loaded::new(include_bytes!("../../assets/fonts/condensed.ttf"))?,
            slab: Loaded::new(include_bytes!("../../assets/fonts/slab.otf"))?,
            wide: Loaded::new(include_bytes!("../../assets/fonts/wide.ttf"))?,
        })
    }

    fn face(&self, face: Face) -> &Loaded {
        match face {
            Face::Sans => &self.sans,
            Face::Serif => &self.serif,
            Face::Condensed => &self.condensed,
            Face::Slab => &self.slab,
            Face::Wide => &self.wide,
        }
    }

    /// How wide `text` gets when its capitals are `cap` pixels high.
    pub fn width(&self, face: Face, text: &str, cap: f32) -> f32 {
        ink(&self.set(face, text, cap, 0.0, 0.0)).map_or(0.0, |ink| ink.width())
    }

    /// The capital height, at most `cap`, at which `text` is no wider than `width`.
    pub fn fit(&self, face: Face, text: &str, cap: f32, width: f32) -> f32 {
        let wide = self.width(face, text, cap);
        if wide > width { cap * width / wide } else { cap }
    }

    /// Prints `text` with its ink centred at (`x`, `y`), capitals `cap` pixels high; the rectangle of its ink.
    /// `None`, and nothing printed, when the text has no ink.
    pub fn print(
        &self,
        canvas: &mut Canvas,
        (face, text, cap): (Face, &str, f32),
        (x, y): (f32, f32),
        colour: Colour,
    ) -> Option<Rect> {
        let at_origin = ink(&self.set(face, text, cap, 0.0, 0.0))?;
        let dx = x - at_origin.centre_x();
        let dy = y - (at_origin.y0 + at_origin.y1) / 2.0;
        let glyphs = self.set(face, text, cap, dx, dy);
        for glyph in &glyphs {
            let bounds = glyph.px_bounds();
            let (left, top) = (bounds.min.x as i32, bounds.min.y as i32);
            glyph.draw(|gx, gy, cover| {
                if cover > 0.0 {
                    canvas.mix(left + gx as i32, top + gy as i32, colour, cover);
                }
            });
        }
        ink(&glyphs)
    }

    fn set(&self, face: Face, text: &str, cap: f32, x: f32, baseline: f32) -> Vec<OutlinedGlyph> {
        let loaded = self.face(face);
        let scale = PxScale::from(cap * loaded.scale_of_cap);
        let font = loaded.font.as_scaled(scale);
        let mut pen = x;
        let mut before: Option<GlyphId> = None;
        let mut outlines = Vec::with_capacity(text.len());
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            pen += before.map_or(0.0, |before| font.kern(before, id));
            outlines.extend(font.outline_glyph(id.with_scale_and_position(scale, point(pen, baseline))));
            pen += font.h_advance(id);
            before = Some(id);
        }
        outlines
    }
}

fn ink(glyphs: &[OutlinedGlyph]) -> Option<Rect> {
    glyphs
        .iter()
        .map(|glyph| {
            let bounds = glyph.px_bounds();
            Rect::new(bounds.min.x, bounds.min.y, bounds.max.x, bounds.max.y)
        })
        .reduce(Rect::union)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Face; 5] = [Face::Sans, Face::Serif, Face::Condensed, Face::Slab, Face::Wide];

    #[test]
    fn every_font_has_every_printable_letter() {
        let fonts = Fonts::load().expect("the built-in fonts are fonts");
        for face in ALL {
            for letter in '!'..='~' {
                assert!(
                    fonts.width(face, &letter.to_string(), 40.0) > 1.0,
                    "{face:?} lacks {letter:?}"
                );
            }
        }
    }

    #[test]
    fn a_word_is_as_high_as_asked_and_where_asked() {
        let fonts = Fonts::load().expect("the built-in fonts are fonts");
        for face in ALL {
            let mut canvas = Canvas::new(400, 100, [255, 255, 255]);
            let box_ = fonts
                .print(&mut canvas, (face, "HELMET", 30.0), (200.0, 50.0), [0, 0, 0])
                .expect("has ink");
            assert!((29.0..=33.0).contains(&box_.height()), "{face:?}: {box_:?}");
            assert!((box_.centre_x() - 200.0).abs() < 1.5, "{face:?}: {box_:?}");
            let dark = |x: usize, y: usize| canvas.pixels()[(y * 400 + x) * 3] < 128;
            let inked = (0..100)
                .flat_map(|y| (0..400).map(move |x| (x, y)))
                .filter(|(x, y)| dark(*x, *y));
            for (x, y) in inked {
                let (x, y) = (x as f32, y as f32);
                assert!(
                    x >= box_.x0 && x < box_.x1 && y >= box_.y0 && y < box_.y1,
                    "{face:?}: ink outside its box"
                );
            }
            let narrow = fonts.fit(face, "HELMET", 30.0, 60.0);
            assert!(fonts.width(face, "HELMET", narrow) <= 63.0, "{face:?}");
        }
    }
}
