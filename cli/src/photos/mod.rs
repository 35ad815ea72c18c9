//! Photos of shelves that never were, with the exact truth of what is on them: for the demo and for scoring a
//! recogniser, since real shelf photos may not ship.

mod camera;
mod canvas;
mod catalogue;
pub mod compare;
mod dice;
pub mod fonts;
mod plan;
mod product;
pub mod render;
pub mod score;
mod shelf;
pub mod truth;

use std::path::PathBuf;

pub use render::{RenderError, RenderOptions, RenderSummary};

/// Photos rendered when no number is given.
pub const DEFAULT_COUNT: u32 = 50;
/// The seed when none is given.
pub const DEFAULT_SEED: u64 = 1;
/// Width in pixels when none is given.
pub const DEFAULT_WIDTH: u32 = 1600;
/// Height in pixels when none is given.
pub const DEFAULT_HEIGHT: u32 = 1200;
/// JPEG quality when none is given.
pub const DEFAULT_QUALITY: u8 = 88;

/// Render sample photos of shop shelves, with the truth of each in a JSON file beside it.
#[derive(Debug, Clone, clap::Args)]
pub struct RenderArgs {
    /// Folder for the photos; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many photos, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = DEFAULT_COUNT)]
    pub count: u32,
    /// The same seed and size give the same files, byte for byte
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SEED)]
    pub seed: u64,
    /// Width of a photo in pixels, 480 to 6000; brands are best read from 1600 up
    #[arg(long, value_name = "PX", default_value_t = DEFAULT_WIDTH)]
    pub width: u32,
    /// Height of a photo in pixels, 480 to 6000
    #[arg(long, value_name = "PX", default_value_t = DEFAULT_HEIGHT)]
    pub height: u32,
    /// JPEG quality, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = DEFAULT_QUALITY)]
    pub quality: u8,
}

impl From<&RenderArgs> for RenderOptions {
    fn from(args: &RenderArgs) -> RenderOptions {
        RenderOptions {
            out: args.out.clone(),
            count: args.count,
            seed: args.seed,
            width: args.width,
            height: args.height,
            quality: args.quality,
        }
    }
}

/// `rebound photos render`.
pub fn run(args: &RenderArgs) -> Result<RenderSummary, RenderError> {
    render::render(&args.into())
}
