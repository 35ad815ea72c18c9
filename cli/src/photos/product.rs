//! Drawing one product: a silhouette, light on it, its label, its words.

use super::canvas::{Canvas, Colour, Rect, lit};
use super::catalogue::{Brand, Shape, Variant};
use super::fonts::{Face, Fonts};
use super::plan::label_part;
use super::truth::WordKind;

/// Capital height of a variant's word, in units.
const VARIANT_CAP_UNITS: f32 = 16.0;

const CAP_WHITE: Colour = [236, 236, 232];
const METAL: Colour = [196, 199, 203];
const VARIANT_INK: Colour = [255, 255, 255];

/// A word that was printed, in pixels of the scene.
pub struct Printed {
    pub kind: WordKind,
    pub text: String,
    pub face: Face,
    pub ink: Rect,
}

/// One product to draw.
pub struct Product<'a> {
    pub brand: &'a Brand,
    pub variant: Option<&'a Variant>,
    /// Capital height of the brand, pixels.
    pub cap: f32,
    pub area: Rect,
    pub unit: f32,
}

impl Product<'_> {
    /// Draws the pack without words, `gain` 1 in full light.
    pub fn paint_pack(&self, canvas: &mut Canvas, gain: f32) {
        let (area, shape) = (self.area, self.brand.shape);
        let (centre, half) = (area.centre_x(), area.width() / 2.0);
        canvas.rows(area, |canvas, y, part, down| {
            let reach = half * silhouette(shape, down);
            let skin = self.skin(down);
            canvas.span(y, centre - reach, centre + reach, part, |x| {
                lit(
                    skin,
                    (shade(shape, (x - centre) / reach.max(0.5)) * gain).clamp(0.0, 1.25),
                )
            });
        });
    }

    /// Draws picture, variant and brand on the pack; what was printed.
    pub fn paint_print(&self, canvas: &mut Canvas, fonts: &Fonts) -> Vec<Printed> {
        let print = print_of(self.brand.shape);
        if let Some((top, bottom)) = print.picture {
            self.paint_picture(canvas, top, bottom);
        }
        let brand = (self.brand.face, self.brand.name, self.cap);
        let at = (self.area.centre_x(), self.area.down(print.brand));
        let mut printed = Vec::new();
        if let Some(ink) = fonts.print(canvas, brand, at, self.brand.ink) {
            let text = self.brand.name.to_owned();
            printed.push(Printed {
                kind: WordKind::Brand,
                text,
                face: self.brand.face,
                ink,
            });
        }
        if let Some(variant) = self.variant {
            printed.extend(self.paint_variant(canvas, fonts, variant, print.variant));
        }
        printed
    }

    fn paint_variant(
        &self,
        canvas: &mut Canvas,
        fonts: &Fonts,
        variant: &Variant,
        down: f32,
    ) -> Option<Printed> {
        let face = if self.brand.face == Face::Wide {
            Face::Sans
        } else {
            self.brand.face
        };
        let room = self.area.width() * label_part(self.brand.shape);
        let cap = fonts.fit(
            face,
            variant.word,
            VARIANT_CAP_UNITS * self.unit,
            room - 14.0 * self.unit,
        );
        let half = fonts.width(face, variant.word, cap) / 2.0 + 7.0 * self.unit;
        let (x, y) = (self.area.centre_x(), self.area.down(down));
        let bar = Rect::new(x - half, y - cap * 0.95, x + half, y + cap * 0.95);
        canvas.fill_flat(bar, variant.accent);
        let ink = fonts.print(canvas, (face, variant.word, cap), (x, y), VARIANT_INK)?;
        Some(Printed {
            kind: WordKind::Variant,
            text: variant.word.to_owned(),
            face,
            ink,
        })
    }

    /// What the pack shows instead of its content: a plate with round things on it, and lines too small to read.
    fn paint_picture(&self, canvas: &mut Canvas, top: f32, bottom: f32) {
        let (x, width) = (self.area.centre_x(), self.area.width());
        let accent = self.variant.map_or(self.brand.ink, |v| v.accent);
        let plate = Rect::new(
            x - width * 0.34,
            self.area.down(top),
            x + width * 0.34,
            self.area.down(bottom),
        );
        canvas.ellipse(plate, lit(self.brand.label, 0.72), 0.9);
        for (index, side) in [-0.16_f32, 0.13, -0.02].into_iter().enumerate() {
            let size = width * 0.11;
            let y = plate.down(0.38 + 0.16 * index as f32);
            let blob = Rect::new(
                x + width * side - size,
                y - size,
                x + width * side + size,
                y + size,
            );
            canvas.ellipse(blob, lit(accent, 1.1 + 0.25 * index as f32), 0.95);
            let shine = size * 0.4;
            let glint = Rect::new(
                blob.x0 + shine,
                blob.y0 + shine,
                blob.x0 + shine * 2.2,
                blob.y0 + shine * 2.2,
            );
            canvas.ellipse(glint, [255, 255, 255], 0.35);
        }
        for line in 0..3 {
            let y = self.area.down((bottom + 0.03 + 0.02 * line as f32).min(0.97));
            let fine = Rect::new(
                x - width * 0.3,
                y,
                x + width * (0.3 - 0.12 * line as f32),
                y + 1.4 * self.unit,
            );
            canvas.fill(fine, 0.4, |_| self.brand.ink);
        }
    }

    /// The colour at `down` (0 top, 1 bottom), before light.
    fn skin(&self, down: f32) -> Colour {
        let brand = self.brand;
        let accent = self.variant.map_or(brand.ink, |v| v.accent);
        let within = |least: f32, end: f32| down >= least && down < end;
        match brand.shape {
            Shape::Box if down < 0.045 => lit(brand.body, 0.8),
            Shape::Box if within(0.07, 0.44) => brand.label,
            Shape::Box => brand.body,
            Shape::Bottle if down < 0.1 => lit(accent, 1.15),
            Shape::Bottle if down < 0.12 => lit(accent, 0.8),
            Shape::Bottle if within(0.42, 0.435) || within(0.865, 0.88) => lit(accent, 1.3),
            Shape::Bottle if within(0.435, 0.865) => brand.label,
            Shape::Bottle => brand.body,
            Shape::Can if !within(0.07, 0.95) => METAL,
            Shape::Can if within(0.14, 0.17) || within(0.86, 0.89) => lit(accent, 1.4),
            Shape::Can => brand.label,
            Shape::Gable if down < 0.05 => lit(brand.body, 0.93),
            Shape::Gable if down < 0.18 => lit(brand.body, 0.82),
            Shape::Gable if within(0.86, 1.0) => lit(accent, 1.2),
            Shape::Gable => brand.label,
            Shape::Jar if down < 0.17 => lit(accent, 1.25),
            Shape::Jar if down < 0.19 => CAP_WHITE,
            Shape::Jar if within(0.34, 0.9) => brand.label,
            Shape::Jar => brand.body,
            Shape::Pouch if !within(0.07, 0.94) => lit(brand.body, 0.86),
            Shape::Pouch if within(0.8, 0.94) => lit(accent, 1.25),
            Shape::Pouch => brand.label,
        }
    }
}

/// Where a shape's words and picture are, as parts of its height.
struct Print {
    brand: f32,
    variant: f32,
    picture: Option<(f32, f32)>,
}

fn print_of(shape: Shape) -> Print {
    match shape {
        Shape::Box => Print {
            brand: 0.23,
            variant: 0.44,
            picture: Some((0.54, 0.88)),
        },
        Shape::Bottle => Print {
            brand: 0.57,
            variant: 0.75,
            picture: None,
        },
        Shape::Can => Print {
            brand: 0.42,
            variant: 0.68,
            picture: None,
        },
        Shape::Gable => Print {
            brand: 0.3,
            variant: 0.46,
            picture: Some((0.55, 0.8)),
        },
        Shape::Jar => Print {
            brand: 0.53,
            variant: 0.77,
            picture: None,
        },
        Shape::Pouch => Print {
            brand: 0.24,
            variant: 0.41,
            picture: Some((0.5, 0.78)),
        },
    }
}

/// Half the width at `down`, as part of half the product's width.
fn silhouette(shape: Shape, down: f32) -> f32 {
    match shape {
        Shape::Box => 1.0,
        Shape::Bottle if down < 0.12 => 0.33,
        Shape::Bottle if down < 0.16 => 0.28,
        Shape::Bottle => mix(0.28, 1.0, smooth((down - 0.16) / 0.2)) * foot(down),
        Shape::Can => mix(0.84, 1.0, smooth(down / 0.09)) * mix(1.0, 0.86, smooth((down - 0.94) / 0.06)),
        Shape::Gable => mix(0.9, 1.0, smooth((down - 0.05) / 0.13)),
        Shape::Jar if down < 0.17 => 0.93,
        Shape::Jar if down < 0.2 => 0.86,
        Shape::Jar => mix(0.86, 1.0, smooth((down - 0.2) / 0.1)) * foot(down),
        Shape::Pouch => {
            let away = down * 2.0 - 1.0;
            0.95 + 0.05 * away * away
        }
    }
}

/// How much light falls on a shape at `side` (−1 left edge, 1 right edge).
fn shade(shape: Shape, side: f32) -> f32 {
    let glint = |at: f32, wide: f32| (1.0 - ((side - at) / wide) * ((side - at) / wide)).max(0.0);
    match shape {
        Shape::Box | Shape::Gable if side.abs() > 0.975 => 0.74,
        Shape::Box | Shape::Gable => 1.02 - 0.05 * side,
        Shape::Pouch => {
            1.04 - 0.24 * side * side * side * side + 0.06 * glint(-0.72, 0.1) + 0.05 * glint(0.66, 0.12)
        }
        Shape::Can | Shape::Bottle | Shape::Jar => 1.04 - 0.42 * side * side + 0.22 * glint(-0.62, 0.16),
    }
}

/// The rounding at the bottom of glass and plastic.
fn foot(down: f32) -> f32 {
    mix(1.0, 0.93, smooth((down - 0.96) / 0.04))
}

fn mix(one: f32, other: f32, part: f32) -> f32 {
    one + (other - one) * part
}

fn smooth(part: f32) -> f32 {
    let part = part.clamp(0.0, 1.0);
    part * part * (3.0 - 2.0 * part)
}
