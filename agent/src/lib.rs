//! The worker.
//!
//! - [`machine`]: what it does and when, pure: the simulator runs the same
//! - [`agent`]: the loop that feeds the machine and does what it says
//! - [`link`]: the stream to the leader · [`spool`]: results on disk · [`fetch`]: photos · [`runner`]: child processes
//! - [`recognise`]: recognisers, and the child process that holds one
//! - [`config`]: flags and the TOML file

pub mod agent;
pub mod config;
pub mod fetch;
pub mod imds;
pub mod link;
pub mod machine;
pub mod recognise;
pub mod runner;
pub mod spool;
