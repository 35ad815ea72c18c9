//! `rebound version`.

use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};

/// The version, with a warning where bugs are planted on purpose.
pub const VERSION: &str = if cfg!(feature = "planted") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " PLANTED: has bugs on purpose, for testing the tests"
    )
} else {
    PLAIN
};

const PLAIN: &str = if cfg!(feature = "next") {
    concat!(env!("CARGO_PKG_VERSION"), "+next")
} else {
    env!("CARGO_PKG_VERSION")
};

#[derive(Serialize)]
struct VersionView {
    name: &'static str,
    version: &'static str,
    planted: bool,
}

/// Prints name and version.
pub fn run(ctx: &mut Context) -> Result<Exit, Failure> {
    let view = VersionView {
        name: "rebound",
        version: PLAIN,
        planted: cfg!(feature = "planted"),
    };
    ctx.out
        .one(&view, |out, _| out.line(&format!("rebound {VERSION}")))?;
    Ok(Exit::Ok)
}
