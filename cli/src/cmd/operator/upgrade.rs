//! `rebound operator upgrade`: the version at which the cluster runs, and what the build of each server knows.

use clap::Subcommand;
use rebound_proto::v1;
use serde::Serialize;

use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table};

/// The version at which the cluster runs.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Show it, with the build of each server and the versions that it knows
    Show,
    /// Raise it to the newest that the servers know, once all of them know it. There is no way back: before this, older
    /// builds can take over again; after it, they are refused
    Finalize {
        /// To this version, and not to the newest
        #[arg(long, value_name = "VERSION")]
        to: Option<u32>,
    },
}

/// What each server runs.
#[derive(Debug, Serialize)]
struct UpgradeView {
    /// The version at which the cluster runs.
    version: u32,
    /// The newest that all servers know; none while one of them is not heard.
    all_know: Option<u32>,
    servers: Vec<BuildView>,
}

#[derive(Debug, Serialize)]
struct BuildView {
    server: u64,
    alive: bool,
    build: Option<String>,
    oldest: u32,
    newest: u32,
    /// As it was last recorded: the server has not said so to this leader.
    recorded: bool,
}

fn view(reply: v1::MembersReply) -> UpgradeView {
    let build = |member: v1::MemberState| BuildView {
        server: member.server,
        alive: member.alive,
        build: Some(member.build).filter(|build| !build.is_empty()),
        oldest: member.version_min,
        newest: member.version_max,
        recorded: member.build_recorded,
    };
    let servers: Vec<BuildView> = reply.members.into_iter().map(build).collect();
    let known = servers.iter().all(|one| one.build.is_some() && !one.recorded);
    let all_know = servers.iter().map(|one| one.newest).min().filter(|_| known);
    UpgradeView {
        version: reply.version,
        all_know,
        servers,
    }
}

/// Runs one of them.
pub async fn run(ctx: &mut Context, command: UpgradeCommand) -> Result<Exit, Failure> {
    if let UpgradeCommand::Finalize { to } = command {
        ctx.client().finalize(to.unwrap_or_default()).await?;
    }
    let view = view(ctx.client().members().await?);
    ctx.out.one(&view, |out, view| {
        out.table(&mut table(&view.servers))?;
        out.line(&format!("\n{}", verdict(view)))
    })?;
    Ok(Exit::Ok)
}

fn table(servers: &[BuildView]) -> Table {
    let mut table = Table::new(&[
        ("SERVER", Align::Right),
        ("BUILD", Align::Left),
        ("KNOWS VERSIONS", Align::Left),
        ("NOTE", Align::Left),
    ]);
    for one in servers {
        let note = match (one.alive, one.recorded) {
            (false, true) => "silent; as last recorded",
            (false, false) => "silent",
            (true, _) => "",
        };
        let knows = match (one.newest, one.oldest == one.newest) {
            (0, _) => "-".to_owned(),
            (newest, true) => newest.to_string(),
            (newest, false) => format!("{} to {newest}", one.oldest),
        };
        let build = one.build.as_deref().unwrap_or("-");
        table.row([&one.server.to_string(), build, &knows, note]);
    }
    table
}

fn verdict(view: &UpgradeView) -> String {
    let runs = view.version;
    match view.all_know {
        None => format!(
            "The cluster runs at version {runs}. Not all servers are heard, so it cannot be raised now."
        ),
        Some(all) if all > runs => format!(
            "The cluster runs at version {runs}, and all servers know {all}: `rebound operator upgrade finalize` \
             raises it, without a way back."
        ),
        Some(_) => format!("The cluster runs at version {runs}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(server: u64, newest: u32, recorded: bool) -> v1::MemberState {
        v1::MemberState {
            server,
            alive: !recorded,
            build: "0.1.0".into(),
            version_min: 1,
            version_max: newest,
            build_recorded: recorded,
            ..v1::MemberState::default()
        }
    }

    fn said(members: Vec<v1::MemberState>) -> String {
        let reply = v1::MembersReply {
            members,
            version: 1,
            ..v1::MembersReply::default()
        };
        verdict(&view(reply))
    }

    #[test]
    fn it_is_said_whether_the_version_can_be_raised() {
        let mixed = said(vec![member(1, 2, false), member(2, 1, false)]);
        assert_eq!(mixed, "The cluster runs at version 1.");
        let ready = said(vec![member(1, 2, false), member(2, 2, false)]);
        assert!(ready.contains("all servers know 2"), "{ready}");
        let silent = said(vec![member(1, 2, false), member(2, 2, true)]);
        assert!(silent.contains("Not all servers are heard"), "{silent}");
    }
}
