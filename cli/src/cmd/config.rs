//! `rebound config`: this program's settings and where each came from, and the check of a server's configuration.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use rebound_scheduler::Config;
use rebound_scheduler::offline::OfflineStore;
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, clean};

/// Settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show each setting of this program in force, and where it came from
    Show,
    /// Check a server's configuration file
    Check {
        /// The file, as `rebound server` takes it
        file: PathBuf,
    },
}

/// Runs one of them.
pub fn run(ctx: &mut Context, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Show => show(ctx),
        ConfigCommand::Check { file } => check(ctx, file),
    }
}

#[derive(Serialize)]
struct SettingView {
    setting: &'static str,
    value: Value,
    origin: String,
}

fn show(ctx: &mut Context) -> Result<Exit, Failure> {
    let settings = &ctx.settings;
    let view = |setting, value, origin: &dyn ToString| SettingView {
        setting,
        value,
        origin: origin.to_string(),
    };
    let views = [
        view("servers", json!(settings.servers.value), &settings.servers.origin),
        view(
            "output",
            json!(settings.output.value.name()),
            &settings.output.origin,
        ),
        view(
            "timeout",
            json!(format!("{:?}", settings.timeout.value)),
            &settings.timeout.origin,
        ),
        view("color", json!(settings.color.value), &settings.color.origin),
        view("quiet", json!(settings.quiet.value), &settings.quiet.origin),
        view("verbose", json!(settings.verbose.value), &settings.verbose.origin),
    ];
    ctx.out.many(&views, |out, views| {
        let mut table = Table::new(&[
            ("SETTING", Align::Left),
            ("VALUE", Align::Left),
            ("FROM", Align::Left),
        ]);
        for view in views {
            table.row([view.setting, &plain(&view.value), &view.origin]);
        }
        out.table(&mut table)
    })?;
    Ok(Exit::Ok)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[derive(Serialize)]
struct CheckedView {
    file: String,
    good: bool,
    cluster: String,
    server: u64,
    members: usize,
    /// How its list of members differs from the data directory's.
    warning: Option<String>,
}

fn check(ctx: &mut Context, file: &Path) -> Result<Exit, Failure> {
    let config = Config::load(file).map_err(|error| {
        let failure = Failure::usage(error.to_string()).at(&error.field);
        Failure {
            kind: "configuration",
            ..failure
        }
    })?;
    // A directory that is not there yet, or that cannot be read now, says nothing.
    let state = OfflineStore::open(&config.data_dir).and_then(|store| store.state());
    let warning = state.ok().and_then(|state| config.differs_from(&state));
    let view = CheckedView {
        file: file.display().to_string(),
        good: true,
        // That of one server gets its number when the server makes its directory.
        cluster: match config.members.len() {
            0 | 1 => config.cluster.clone(),
            _ => config.cluster_id().0,
        },
        server: config.server,
        members: config.members.len(),
        warning,
    };
    ctx.out.one(&view, |out, view| {
        let who = format!(
            "server {} of {} in cluster {}",
            view.server, view.members, view.cluster
        );
        out.line(&format!("{}: good, for {who}.", clean(&view.file)))?;
        match &view.warning {
            Some(warning) => out.line(&format!(
                "Warning: members: {}. The list is for --init alone; the cluster's own counts.",
                clean(warning)
            )),
            None => Ok(()),
        }
    })?;
    Ok(Exit::Ok)
}
