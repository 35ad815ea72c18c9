//! A server of Rebound: the drivers round the core. The replica is owned by one task, the disk by its own thread;
//! peers, clients and agents come in over gRPC.

pub mod api;
pub mod backup;
pub mod cloud;
pub mod config;
pub mod entrance;
pub mod http;
mod join;
pub mod market;
pub mod node;
pub mod offline;
pub mod peers;
pub mod relay;
pub mod restore;
pub mod roster;
pub mod server;
pub mod store;
pub mod telemetry;

pub use config::{Config, ConfigError};
pub use server::{End, RunningServer, Server, Start, StartError};
