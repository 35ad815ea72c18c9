//! `rebound agent`: becomes the `rebound-agent` beside this program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::exit::{Exit, Failure};

/// The agent's own program, in the folder of this one.
const AGENT: &str = "rebound-agent";

/// Everything after `agent` is the agent's.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct AgentArgs {
    /// Options of the agent; `rebound agent --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    args: Vec<OsString>,
}

/// Runs the agent if `agent` is the first word of the command line: all that follows is the agent's, even where
/// this program has an option of the same name.
pub fn run_at_once(args: impl Iterator<Item = OsString>) -> Option<Result<Exit, Failure>> {
    let mut args = args.skip(1);
    (args.next()? == "agent").then(|| run(&AgentArgs { args: args.collect() }))
}

/// Replaces this process. Returns only if that fails.
pub fn run(args: &AgentArgs) -> Result<Exit, Failure> {
    let here = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let path = here.parent().unwrap_or(Path::new(".")).join(AGENT);
    let error = Command::new(&path).args(&args.args).exec();
    Err(Failure::failed(format!(
        "cannot run {}: {error}; the agent's program has to be beside this one",
        path.display()
    )))
}
