//! Recognisers: what turns a photo into an answer.
//!
//! They run in a process of their own, `rebound-agent recognise --recogniser DIR --threads N`, which speaks
//! in frames ([`frame`]) on its stdin and stdout: a photo or a model that hangs, aborts or eats all memory
//! ends that process and not the agent. [`child_main`] is that process; the agent itself uses only [`frame`]
//! and [`manifest`].
//!
//! - [`manifest`]: a recogniser's folder and what its manifest says
//! - [`photo`]: opens a photo that anybody may have sent
//! - [`resize`]: prepares a picture as models were trained on
//! - [`classifier`], [`shelf_text`], [`command`]: the kinds of recognisers
//! - [`runtime`], [`session`]: ONNX Runtime

mod check;
pub mod child;
pub mod classifier;
pub mod command;
pub mod frame;
mod launch;
pub mod manifest;
pub mod photo;
pub mod resize;
pub mod runtime;
pub mod session;
pub mod settings;
pub mod shelf_text;

pub use child::{ChildArgs, child_main};

use frame::Failure;
use image::RgbImage;

/// A recogniser that works on decoded photos.
pub trait Recogniser {
    /// The result for one photo. The caller checks its size.
    fn recognise(&mut self, photo: &RgbImage) -> Result<serde_json::Value, Failure>;
}
