//! The invented brands: no trade mark is meant, and no two are so alike that a reader one letter off could take
//! one for the other.

use super::canvas::{Colour, colour};
use super::fonts::Face;

/// The shape a product comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Box,
    Bottle,
    Can,
    Gable,
    Jar,
    Pouch,
}

/// One brand and how its packs look.
#[derive(Debug)]
pub struct Brand {
    pub name: &'static str,
    pub shape: Shape,
    pub face: Face,
    /// The pack itself (the liquid in a bottle, the food in a jar).
    pub body: Colour,
    /// What the brand is printed on.
    pub label: Colour,
    /// What it is printed with.
    pub ink: Colour,
}

/// One kind of a brand's product.
#[derive(Debug)]
pub struct Variant {
    pub word: &'static str,
    pub accent: Colour,
}

const fn brand(name: &'static str, shape: Shape, face: Face, body: u32, label: u32, ink: u32) -> Brand {
    Brand {
        name,
        shape,
        face,
        body: colour(body),
        label: colour(label),
        ink: colour(ink),
    }
}

const fn variant(word: &'static str, accent: u32) -> Variant {
    Variant {
        word,
        accent: colour(accent),
    }
}

/// All brands.
#[rustfmt::skip]
pub static BRANDS: [Brand; 42] = [
    brand("HOLMARA",  Shape::Box,    Face::Sans,      0xE8B21C, 0xF6C93A, 0x7A1210),
    brand("GRENIVA",  Shape::Box,    Face::Slab,      0x2F7D3B, 0x2F7D3B, 0xFFFFFF),
    brand("FRUMENTA", Shape::Box,    Face::Serif,     0xF3E6C8, 0xF8EFDA, 0x5A3210),
    brand("BOLVERDE", Shape::Box,    Face::Condensed, 0x1F8A70, 0xEAF7F1, 0x0B4A3B),
    brand("CREMUVA",  Shape::Box,    Face::Wide,      0xF2EFE9, 0xF2EFE9, 0xB0122B),
    brand("YARROMI",  Shape::Box,    Face::Slab,      0xD6451F, 0xD6451F, 0xFFF4D8),
    brand("DELFANO",  Shape::Box,    Face::Sans,      0x1E4FA3, 0x1E4FA3, 0xFFFFFF),
    brand("HARVENA",  Shape::Box,    Face::Serif,     0xC89A54, 0xFFF6E2, 0x38210B),
    brand("QUARDEN",  Shape::Box,    Face::Wide,      0x5B2A86, 0x5B2A86, 0xFFE45C),
    brand("PELDUN",    Shape::Box,    Face::Condensed, 0xF7F7F7, 0xF7F7F7, 0x0E5AA7),
    brand("SUNDEL",   Shape::Bottle, Face::Condensed, 0xF28C18, 0xFFF7E0, 0xC23A00),
    brand("KORVIN",   Shape::Bottle, Face::Condensed, 0x3A1A10, 0xB5121B, 0xFFFFFF),
    brand("VELDRA",   Shape::Bottle, Face::Sans,      0x7FC4E8, 0xFFFFFF, 0x0B4F8A),
    brand("DRUMEL",   Shape::Bottle, Face::Slab,      0x5C7F1E, 0xF4F1DC, 0x2E4308),
    brand("FILUNA",   Shape::Bottle, Face::Serif,     0xD8C23A, 0x2D5A27, 0xFFFFFF),
    brand("ZUMERA",   Shape::Bottle, Face::Condensed, 0xC2185B, 0xFFE9F1, 0x8A0F3F),
    brand("MILDOR",   Shape::Bottle, Face::Sans,      0xF4F4F4, 0x00897B, 0xFFFFFF),
    brand("NEPTA",    Shape::Bottle, Face::Wide,      0x2A6FC9, 0xF5FAFF, 0x12386B),
    brand("JOVRA",    Shape::Can,    Face::Wide,      0xC4161C, 0xC4161C, 0xFFFFFF),
    brand("TREVOK",   Shape::Can,    Face::Condensed, 0x11151C, 0x11151C, 0xF5C518),
    brand("ORBINE",   Shape::Can,    Face::Condensed, 0x0F7A5C, 0x0F7A5C, 0xFFFFFF),
    brand("LOMBU",    Shape::Can,    Face::Slab,      0xF0F0EE, 0xF0F0EE, 0xA01F2D),
    brand("KELMUR",   Shape::Can,    Face::Sans,      0x1C3F94, 0x1C3F94, 0xFFFFFF),
    brand("ESKADO",   Shape::Can,    Face::Condensed, 0xF47B20, 0xF47B20, 0x2A0E00),
    brand("RUVELO",   Shape::Can,    Face::Serif,     0xE9E2CF, 0xE9E2CF, 0x24431B),
    brand("NORVELA",  Shape::Gable,  Face::Condensed, 0xF7F9FC, 0xF7F9FC, 0x134A8E),
    brand("PEVARO",   Shape::Gable,  Face::Slab,      0xF9F4E3, 0xF9F4E3, 0xB5501B),
    brand("SOLDARIN", Shape::Gable,  Face::Sans,      0xFFD23F, 0xFFD23F, 0x1B3A1D),
    brand("VASTUR",   Shape::Gable,  Face::Wide,      0x3E8E41, 0x3E8E41, 0xFFFFFF),
    brand("HESPIRA",  Shape::Gable,  Face::Condensed, 0x6CB4D9, 0xEFF8FD, 0x0A3350),
    brand("CALTRI",   Shape::Gable,  Face::Serif,     0xFBFBFB, 0xFBFBFB, 0x7B1E3A),
    brand("TANUVA",   Shape::Jar,    Face::Slab,      0xC97B16, 0xFFF3D0, 0x5A2C00),
    brand("GARVET",   Shape::Jar,    Face::Serif,     0x8C2A1B, 0xFFFFFF, 0x6B130B),
    brand("ULMAVO",   Shape::Jar,    Face::Condensed, 0x9A6A32, 0xFBF6EA, 0x3A2410),
    brand("FARODI",   Shape::Jar,    Face::Sans,      0x4C6B22, 0xF7F5DE, 0x28400D),
    brand("WENDARO",  Shape::Jar,    Face::Condensed, 0x7B1840, 0xFFEFF4, 0x6A0F35),
    brand("BRUNEKA",  Shape::Pouch,  Face::Slab,      0x4A2C17, 0x4A2C17, 0xF3D9A2),
    brand("ARDENOK",  Shape::Pouch,  Face::Sans,      0xB8141E, 0xB8141E, 0xFFFFFF),
    brand("ZEFIRAL",  Shape::Pouch,  Face::Serif,     0xDDE9F0, 0xDDE9F0, 0x123A5C),
    brand("PULMERO",  Shape::Pouch,  Face::Wide,      0xF2C230, 0xF2C230, 0x243D82),
    brand("GOSTAVEL", Shape::Pouch,  Face::Condensed, 0x0E6B3A, 0x0E6B3A, 0xFFF3C4),
    brand("MAVOLIN",  Shape::Pouch,  Face::Sans,      0x27306B, 0x27306B, 0xFFFFFF),
];

/// The kinds that products of one shape come in.
pub fn variants(shape: Shape) -> &'static [Variant] {
    match shape {
        Shape::Box => &BOX,
        Shape::Bottle => &BOTTLE,
        Shape::Can => &CAN,
        Shape::Gable => &GABLE,
        Shape::Jar => &JAR,
        Shape::Pouch => &POUCH,
    }
}

static BOX: [Variant; 5] = [
    variant("CLASSIC", 0x9C1C1C),
    variant("CRUNCHY", 0xB25A12),
    variant("FAMILY", 0x1D5C9B),
    variant("COCOA", 0x4A2A18),
    variant("HONEY", 0x8F5A00),
];
static BOTTLE: [Variant; 5] = [
    variant("LEMON", 0x7A7A00),
    variant("ORANGE", 0xB34700),
    variant("GRAPE", 0x8E1038),
    variant("LIGHT", 0x2B6EA8),
    variant("FRESH", 0x13704A),
];
static CAN: [Variant; 5] = [
    variant("BERRY", 0x6A1B6E),
    variant("GINGER", 0x8A5A00),
    variant("MANGO", 0xB34F00),
    variant("ZERO", 0x22262B),
    variant("LIME", 0x2E7021),
];
static GABLE: [Variant; 5] = [
    variant("WHOLE", 0x114B8B),
    variant("ALMOND", 0x8A5424),
    variant("VANILLA", 0x8C6A00),
    variant("OAT", 0x6B5423),
    variant("BARISTA", 0x2B2B2B),
];
static JAR: [Variant; 4] = [
    variant("APRICOT", 0xA65300),
    variant("SMOOTH", 0x6B4420),
    variant("PESTO", 0x35601C),
    variant("SPICY", 0xA11616),
];
static POUCH: [Variant; 5] = [
    variant("SALTED", 0x1C4D8C),
    variant("PAPRIKA", 0xA32413),
    variant("CHEESE", 0x8F6500),
    variant("GARLIC", 0x3F6B2A),
    variant("GROUND", 0x3B2414),
];

#[cfg(test)]
mod tests {
    use super::super::canvas::brightness;
    use super::super::score::edit_distance;
    use super::*;

    #[test]
    fn no_two_words_can_be_taken_for_each_other() {
        let mut words: Vec<&str> = BRANDS.iter().map(|b| b.name).collect();
        let shapes = [
            Shape::Box,
            Shape::Bottle,
            Shape::Can,
            Shape::Gable,
            Shape::Jar,
            Shape::Pouch,
        ];
        words.extend(shapes.iter().flat_map(|s| variants(*s)).map(|v| v.word));
        for (at, one) in words.iter().enumerate() {
            for other in &words[at + 1..] {
                assert!(edit_distance(one, other) >= 3, "{one} and {other} are too alike");
            }
        }
    }

    #[test]
    fn every_brand_stands_out_from_what_it_is_printed_on() {
        for brand in &BRANDS {
            let apart = brightness(brand.label).abs_diff(brightness(brand.ink));
            assert!(apart >= 90, "{}: {apart}", brand.name);
        }
        for shape in [
            Shape::Box,
            Shape::Bottle,
            Shape::Can,
            Shape::Gable,
            Shape::Jar,
            Shape::Pouch,
        ] {
            assert!(BRANDS.iter().any(|b| b.shape == shape));
            assert!(
                variants(shape).iter().all(|v| brightness(v.accent) <= 120),
                "variants are printed in white"
            );
        }
    }
}
