//! `rebound-pricer`: prices, risk and rank of EC2's capacity pools, from recorded files.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
