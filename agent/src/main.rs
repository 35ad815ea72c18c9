//! `rebound-agent`: the worker's one program. Its `recognise` subcommand is the child that holds a model.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rebound_agent::config::{LogFormat, Options};
use rebound_agent::recognise::{ChildArgs, child_main};
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Exit status for what was asked wrongly.
const USAGE: u8 = 2;

/// The worker of Rebound: takes photos from the cluster, runs recognisers on them, reports what they say.
#[derive(Parser)]
#[command(name = "rebound-agent", version = rebound_agent::agent::VERSION, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM or SIGINT (the default)
    Run(Box<RunArgs>),
    /// Hold one recogniser, and answer on stdout what is asked on stdin (the agent starts this by itself)
    #[command(hide = true)]
    Recognise {
        /// The recogniser's folder
        #[arg(long, value_name = "DIR")]
        recogniser: PathBuf,
        /// Threads for one photo
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
}

#[derive(Args)]
struct RunArgs {
    /// A TOML file with any of these settings, `-` written as `_`; flags win
    #[arg(long, env = "REBOUND_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    abort_on_panic();
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Recognise { recogniser, threads }) => child_main(&ChildArgs { recogniser, threads }),
        Some(Command::Run(args)) => run(*args),
        None => run(cli.run),
    }
}

/// A panic is a broken invariant of ours: the process ends, its spool stays, and the supervisor starts it anew.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

fn run(args: RunArgs) -> ExitCode {
    let options = match args.config {
        Some(path) => args.options.over_file(&path),
        None => Ok(args.options),
    };
    let checked = options.and_then(|options| {
        let log = (options.log.clone(), options.log_format.unwrap_or_default());
        Ok((log, options.check()?))
    });
    let ((filter, format), config) = match checked {
        Ok(checked) => checked,
        Err(error) => return usage(&error.to_string()),
    };
    if let Err(problem) = start_log(filter.as_deref().unwrap_or("info"), format) {
        return usage(&problem);
    }
    // One thread: recognisers end with the thread that started them, and there is little else to do.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(rebound_agent::agent::run(config));
    // A fetch that hangs in the kernel must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "the agent cannot run");
            ExitCode::FAILURE
        }
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("rebound-agent: {problem}");
    ExitCode::from(USAGE)
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
    Ok(())
}
