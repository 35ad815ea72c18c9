//! One deterministic world: the real replicas, agent machines and policy on virtual time, from one seed.
//!
//! Every run is a seed; the same seed gives the same run, event for event. First anything may break, then the
//! faults stop and everything must converge.

pub mod agents;
pub mod check;
pub mod clients;
pub mod cloud;
pub mod disk;
pub mod faults;
pub mod fuzz;
pub mod history;
pub mod hosts;
pub mod model;
pub mod net;
pub mod plant;
pub mod play;
pub mod points;
pub mod rng;
pub mod shrink;
pub mod tally;
pub mod trace;
pub mod world;
