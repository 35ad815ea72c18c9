//! What is on a rendered photo: the JSON beside it, for whoever scores a recogniser.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fonts::Face;

/// The version of the truth's layout.
pub const TRUTH_FORMAT: u32 = 1;

/// Four corners in pixels of the photo, (0, 0) at its top left: top left, top right, bottom right, bottom left as
/// the thing itself stands, so that a tilted thing has a tilted box.
pub type Corners = [[f32; 2]; 4];

/// All that is on one photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// [`TRUTH_FORMAT`].
    pub format: u32,
    /// The photo's file name, in the same folder.
    pub photo: String,
    /// The seed of the whole set.
    pub seed: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Every product that stands in front, row by row from the left.
    pub facings: Vec<Facing>,
    /// Every price tag's price.
    pub prices: Vec<Price>,
    /// Every place where a product is missing.
    pub gaps: Vec<Gap>,
    /// Every readable word that is printed, prices included.
    pub words: Vec<Word>,
    /// Brand → its part of the facings, 0 to 1, to six decimals.
    pub share: BTreeMap<String, f64>,
}

/// One product in the front of the shelf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facing {
    pub brand: String,
    /// The kind of the brand's product that is printed below the brand, where there is one.
    pub variant: Option<String>,
    /// The shelf row, 0 is the uppermost.
    pub row: u32,
    #[serde(rename = "box")]
    pub corners: Corners,
}

/// One price on a tag at the shelf's edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// As printed: `12,90` or `4.25`.
    pub text: String,
    /// The row whose products it prices.
    pub row: u32,
    /// The whole tag; the digits' own box is in [`Truth::words`].
    #[serde(rename = "box")]
    pub corners: Corners,
}

/// A place without a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    pub row: u32,
    #[serde(rename = "box")]
    pub corners: Corners,
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WordKind {
    Brand,
    Variant,
    Price,
}

/// One printed word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    pub text: String,
    pub font: Face,
    pub kind: WordKind,
    /// Round its ink.
    #[serde(rename = "box")]
    pub corners: Corners,
}

impl Truth {
    /// Brand → its part of `facings`.
    pub fn share_of(facings: &[Facing]) -> BTreeMap<String, f64> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for facing in facings {
            *counts.entry(facing.brand.clone()).or_default() += 1;
        }
        let all = facings.len().max(1) as f64;
        // Six decimals read back from JSON as they were written, whatever the reader's care with floats.
        let share = |count: u32| (f64::from(count) / all * 1e6).round() / 1e6;
        counts
            .into_iter()
            .map(|(brand, count)| (brand, share(count)))
            .collect()
    }
}
