//! `rebound`, the operators' binary.

mod args;
mod bench;
mod campaign;
mod client;
mod cloud;
mod cmd;
mod dev;
mod exit;
mod limits;
mod local;
mod output;
mod photos;
mod policy;
mod settings;
mod spec;
mod submit;
mod view;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use cmd::Context;
use exit::{Exit, Failure};
use output::Format;

/// For all but RocksDB, which takes the system's. What it brought stands in docs/BENCHMARKS.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if let Some(result) = cmd::agent::run_at_once(std::env::args_os()) {
        return end(result, Format::Table);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return bad_command_line(&error),
    };
    let settings = match settings::settle(&cli.global, &|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(failure) => return end(Err(failure), asked_format()),
    };
    let format = settings.output.value;
    let mut ctx = Context::new(settings);
    let result = run(&mut ctx, cli.command);
    let flushed = ctx.out.flush().map_err(Failure::from);
    end(result.and_then(|exit| flushed.map(|()| exit)), format)
}

fn run(ctx: &mut Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Submit(args) => ctx.block_on(cmd::submit::run, args),
        Command::Job(command) => ctx.block_on(cmd::job::run, command),
        Command::Task(command) => ctx.block_on(cmd::task::run, command),
        Command::Worker(command) => ctx.block_on(cmd::worker::run, command),
        Command::Scale(command) => ctx.block_on(cmd::scale::run, command),
        Command::Pool(command) => ctx.block_on(cmd::pool::run, command),
        Command::Market(command) => ctx.block_on(cmd::market::run, command),
        Command::Cost(command) => ctx.block_on(cmd::cost::run, command),
        Command::Policy(args) => ctx.block_on(cmd::policy::run, args),
        Command::Operator(command) => ctx.block_on(cmd::operator::run, command),
        Command::Server(args) => cmd::server::run(&args),
        Command::Sim(command) => cmd::sim::run(ctx, &command),
        Command::Dev(args) => ctx.block_on(dev::run, args),
        Command::Bench(command) => ctx.block_on(cmd::bench::run, command),
        Command::Campaign(command) => ctx.block_on(cmd::campaign::run, command),
        Command::Agent(args) => cmd::agent::run(&args),
        Command::Photos(command) => cmd::photos::run(ctx, &command),
        Command::Config(command) => cmd::config::run(ctx, &command),
        Command::Completion(args) => cmd::completion::run(&args),
        Command::Version => cmd::version::run(ctx),
    }
}

fn end(result: Result<Exit, Failure>, format: Format) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report(format);
            failure.exit.into()
        }
    }
}

/// Help and version are answers; anything else is a usage error, in JSON too if that was asked for.
fn bad_command_line(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever asked and does not read the answer is not told so.
        let _ = error.print();
        return Exit::Ok.into();
    }
    if asked_format() == Format::Table {
        let _ = error.print();
        return Exit::Usage.into();
    }
    let text = error.render().to_string();
    end(
        Err(Failure::usage(text.trim().trim_start_matches("error: "))),
        asked_format(),
    )
}

/// The output format, where the command line as a whole could not be read.
fn asked_format() -> Format {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let env = std::env::var("REBOUND_OUTPUT").unwrap_or_default();
    output::asked(&args, &env)
}
