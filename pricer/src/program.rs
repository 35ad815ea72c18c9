//! The program round the library: files in, tables or JSON out.

mod failure;
mod fit;
mod import;
mod load;
mod output;
mod rank;
mod watch;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use rebound_core::types::Time;

use failure::Failure;
use output::{Format, Out};

/// Prices, risk and rank of EC2's capacity pools
///
/// Files are recorded prices and lists, told by their content: CSV with a header, JSON of
/// `aws ec2 describe-spot-price-history`, SkyPilot spot traces, Bamboo; each may be gzipped.
#[derive(Debug, Parser)]
#[command(name = "rebound-pricer", version, propagate_version = true)]
struct Cli {
    /// How answers are written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, env = "REBOUND_OUTPUT")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pools by dollars for a thousand photos, with every part of the figure
    Rank(rank::RankArgs),
    /// Prices as they go over a threshold and back, and feeds as they fail
    Watch(watch::WatchArgs),
    /// How well generated markets resemble recorded ones; writes profiles and series
    Fit(fit::FitArgs),
    /// Reads files, says what is in them and what cannot be true, writes prices in one format
    Import(import::ImportArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return bad_command_line(&error),
    };
    let mut out = Out::new(cli.output);
    let result = match &cli.command {
        Command::Rank(args) => rank::run(args, &mut out),
        Command::Watch(args) => watch::run(args, &mut out),
        Command::Fit(args) => fit::run(args, &mut out),
        Command::Import(args) => import::run(args, &mut out),
    };
    let flushed = out.flush().map_err(Failure::from);
    match result.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(cli.output),
    }
}

/// Help and version are answers; anything else is a usage error, in JSON too if that was asked for.
fn bad_command_line(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever asked and does not read the answer is not told so.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let format = output::asked(std::env::args().skip(1));
    if format == Format::Table {
        let _ = error.print();
        return ExitCode::from(failure::USAGE);
    }
    let text = error.render().to_string();
    Failure::usage(text.trim().trim_start_matches("error: ")).end(format)
}

/// The wall clock: the only one in this package, for what is told to be from the future and for feeds that are
/// followed.
#[expect(
    clippy::disallowed_methods,
    reason = "the program, not the library, knows what time it is"
)]
fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time(since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}
