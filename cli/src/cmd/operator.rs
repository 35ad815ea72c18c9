//! `rebound operator`: the cluster itself.

mod environment;
mod settings;
mod snapshot;
mod upgrade;

use std::collections::BTreeMap;

use clap::Subcommand;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::Context;
use super::members::{self, AddArgs, RemoveArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, time};
use crate::view::ServerView;

/// The cluster itself.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Ask every server how it is
    Status,
    /// Commit a counter: proof that the cluster takes writes
    Ping {
        /// Ask this server alone, once: fails unless it leads
        #[arg(long, value_name = "ADDRESS")]
        at: Option<String>,
    },
    /// Let the cluster's clock follow the leader's wall clock at once
    AcceptClock,
    /// The limits that change outcomes, the same for all servers: show, set
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Environments, their shares of the workers and their limits: list, set
    #[command(subcommand)]
    Environment(environment::EnvironmentCommand),
    /// Show the servers of the cluster, as the leader sees them
    Members,
    /// Add a server, and wait until it votes; it starts with `rebound server --join`
    Add(AddArgs),
    /// Remove a server, and wait until it does not count any more
    Remove(RemoveArgs),
    /// Backups: save, restore, inspect, verify
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// The version at which the cluster runs: show, finalize an upgrade
    #[command(subcommand)]
    Upgrade(upgrade::UpgradeCommand),
    /// Let another server lead
    TransferLeader {
        /// This one; without it the living one that has most of the log
        #[arg(long, value_name = "SERVER")]
        to: Option<u64>,
    },
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: OperatorCommand) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Status => status(ctx).await,
        OperatorCommand::Ping { at } => ping(ctx, at).await,
        OperatorCommand::AcceptClock => accept_clock(ctx).await,
        OperatorCommand::Settings(command) => settings::run(ctx, command).await,
        OperatorCommand::Environment(command) => environment::run(ctx, command).await,
        OperatorCommand::Members => members::list(ctx).await,
        OperatorCommand::Add(args) => members::add(ctx, args).await,
        OperatorCommand::Remove(args) => members::remove(ctx, args).await,
        OperatorCommand::Snapshot(command) => snapshot::run(ctx, command).await,
        OperatorCommand::Upgrade(command) => upgrade::run(ctx, command).await,
        OperatorCommand::TransferLeader { to } => members::transfer(ctx, to).await,
    }
}

#[derive(Serialize)]
struct ClusterView {
    leader: Option<u64>,
    servers: Vec<ServerView>,
}

async fn status(ctx: &mut Context) -> Result<Exit, Failure> {
    let servers = ask_all(&ctx.client()).await;
    let mut leaders: Vec<(u64, u64)> = servers
        .iter()
        .filter_map(|view| view.status.as_ref())
        .filter(|status| status.role == "leader")
        .map(|status| (status.term, status.server))
        .collect();
    // Of two, the one of the older term does not know yet that it is none.
    leaders.sort_unstable();
    let leader = leaders.last().map(|(_, server)| *server);
    let reached = servers.iter().any(|view| view.reached);
    let view = ClusterView { leader, servers };
    ctx.out.one(&view, |out, view| {
        out.table(&mut servers_table(&view.servers))?;
        for status in view.servers.iter().filter_map(|server| server.status.as_ref()) {
            for other in &status.differs_from {
                out.line(&format!(
                    "Server {} has another state than server {other} at the same entry: one of the two has a fault.",
                    status.server
                ))?;
            }
        }
        let leading = view.servers.iter().filter_map(|v| v.status.as_ref()).find(|s| Some(s.server) == view.leader);
        if let Some(status) = leading {
            out.line(&format!(
                "\nCluster {}: {} jobs open, {} photos wait (at most {}), {} given, {} in recognisers; {} workers, {} results in spools.",
                crate::output::clean(&status.cluster),
                status.jobs_open,
                status.tasks_waiting,
                status.tasks_waiting_max,
                status.tasks_given,
                status.photos_running,
                status.workers,
                status.results_spooled
            ))?;
            if let Some(sheds) = &status.sheds {
                let sheds = crate::output::clean(sheds);
                out.line(&format!("It is overloaded and refuses {sheds}."))?;
            }
        }
        Ok(())
    })?;
    if leader.is_none() {
        ctx.out.note(if reached {
            "No server leads the cluster now."
        } else {
            "No server could be reached."
        });
        return Ok(Exit::NoLeader);
    }
    Ok(Exit::Ok)
}

/// Asks the servers given, then those that they name.
async fn ask_all(client: &Client) -> Vec<ServerView> {
    let mut answers = BTreeMap::new();
    let mut wanted: Vec<String> = client.servers().to_vec();
    let mut known_servers = Vec::new();
    while !wanted.is_empty() {
        wanted.sort();
        wanted.dedup();
        let asked = join_all(wanted.iter().map(|address| ask(client, address))).await;
        for (address, view) in wanted.drain(..).zip(asked) {
            known_servers.extend(view.status.as_ref().map(|status| status.server));
            answers.insert(address, view);
        }
        let members = answers
            .values()
            .filter_map(|view| view.status.as_ref())
            .flat_map(|status| &status.members);
        // A server asked by another name of its address need not be asked again.
        let new = members
            .filter(|m| !known_servers.contains(&m.server) && !answers.contains_key(&m.client_address));
        wanted = new
            .map(|m| m.client_address.clone())
            .filter(|address| !address.is_empty())
            .collect();
    }
    let mut views: Vec<ServerView> = answers.into_values().collect();
    views.sort_by_key(|view| view.status.as_ref().map_or(u64::MAX, |status| status.server));
    views
}

async fn ask(client: &Client, address: &str) -> ServerView {
    let address = address.to_string();
    match client.status_of(&address).await {
        Ok(status) => ServerView {
            address,
            reached: true,
            error: None,
            status: Some(status.into()),
        },
        Err(error) => ServerView {
            address,
            reached: false,
            error: Some(error.to_string()),
            status: None,
        },
    }
}

fn servers_table(servers: &[ServerView]) -> Table {
    let columns = [
        ("SERVER", Align::Right),
        ("ADDRESS", Align::Left),
        ("ROLE", Align::Left),
        ("TERM", Align::Right),
        ("COMMITTED", Align::Right),
        ("APPLIED", Align::Right),
        ("DIGEST", Align::Left),
        ("VERSION", Align::Left),
        ("NOTE", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for view in servers {
        match &view.status {
            None => {
                let error = view.error.as_deref().unwrap_or_default();
                table.row(["-", &view.address, "-", "-", "-", "-", "-", "-", error]);
            }
            Some(status) => {
                let note = match (status.role.as_str(), status.leader) {
                    ("leader", _) if !status.ready => "not ready",
                    ("removed", _) => "stop it for good",
                    (_, None) => "knows no leader",
                    _ => "",
                };
                let digest = status.digest.as_deref().map_or("-", |d| d.get(..8).unwrap_or(d));
                table.row([
                    &status.server.to_string(),
                    &view.address,
                    &status.role,
                    &status.term.to_string(),
                    &status.committed.to_string(),
                    &status.applied.to_string(),
                    digest,
                    &status.version,
                    note,
                ]);
            }
        }
    }
    table
}

async fn ping(ctx: &mut Context, at: Option<String>) -> Result<Exit, Failure> {
    let client = ctx.client();
    let asked = Instant::now();
    let reply = match at {
        Some(address) => client.ping_at(&address, ctx.settings.timeout.value).await?,
        None => client.ping().await?,
    };
    let ms = asked.elapsed().as_micros() as f64 / 1000.0;
    let answer = serde_json::json!({ "count": reply.count, "index": reply.index, "ms": ms });
    ctx.out.one(&answer, |out, _| {
        out.line(&format!(
            "Committed count {} at index {} in {ms:.1} ms.",
            reply.count, reply.index
        ))
    })?;
    Ok(Exit::Ok)
}

async fn accept_clock(ctx: &mut Context) -> Result<Exit, Failure> {
    let reply = ctx.client().accept_clock().await?;
    let now = time(reply.now_us);
    let answer = serde_json::json!({ "now": now });
    ctx.out.one(&answer, |out, _| {
        out.line(&format!("The cluster's clock says {now}."))
    })?;
    Ok(Exit::Ok)
}
