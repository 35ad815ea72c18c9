//! `rebound completion`: scripts for shells.

use std::io::{self, Write};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::exit::{Exit, Failure};

/// For which shell.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell; for bash: `source <(rebound completion bash)`
    #[arg(value_enum)]
    shell: KnownShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(args: &CompletionArgs) -> Result<Exit, Failure> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "rebound", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
