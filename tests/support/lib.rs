//! What the tests in `tests/tests` share: the built binaries, child processes that never outlive a test, waiting
//! with a deadline, free ports, the project's own files and the rules that they keep.

pub mod binary;
pub mod cluster;
pub mod gate;
pub mod load;
pub mod photo;
pub mod port;
pub mod process;
pub mod recogniser;
pub mod rules;
pub mod tree;
pub mod wait;

pub use binary::binary;
pub use cluster::Cluster;
pub use port::{free_port, free_ports};
pub use process::{Finished, Process, alone, run};
pub use wait::{Deadline, wait_for, wait_until};
