//! The pure heart of Rebound: replicated state, the log's commands, the policy, and the replica that ties them to
//! raft. No clock, no randomness, no I/O, no floating point in state; it cannot fail on input.

pub mod arrivals;
pub mod bill;
pub mod brake;
pub mod cloud;
pub mod codec;
pub mod command;
pub mod effects;
pub mod env_rule;
pub mod event;
pub mod io;
pub mod kept;
pub mod key;
mod leader;
pub mod limits;
pub mod market;
pub mod observe;
pub mod pace;
pub mod photos;
pub mod plan;
pub mod plant;
pub mod reconcile;
pub mod replica;
pub mod reply;
pub mod rows;
pub mod scaling;
pub mod schedule;
pub mod speed;
pub mod state;
pub mod table;
pub mod trial;
pub mod types;
pub mod validate;
pub mod version;
pub mod view;
