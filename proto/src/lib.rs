//! What servers, agents and clients say to each other, generated from `rebound/v1/*.proto`.
//!
//! This crate knows no domain: conversions to domain types, with their checks, are in `rebound-core`'s `codec`.

/// Version 1 of the wire.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/rebound.v1.rs"));
}
