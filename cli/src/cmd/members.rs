//! `rebound operator members|add|remove|transfer-leader`.

use std::time::Duration;

use clap::Args;
use rebound_proto::v1;
use serde::Serialize;
use tokio::time::Instant;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Align, Table, duration};

/// Pause between two looks at a change that is under way.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A server to add.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its id: greater than every id so far
    #[arg(value_name = "SERVER")]
    pub id: u64,
    /// host:port where other servers reach it
    #[arg(long, value_name = "ADDRESS")]
    pub peer: String,
    /// host:port where clients and agents reach it
    #[arg(long, value_name = "ADDRESS")]
    pub client: String,
    /// Remove this voter in the same step, when the new one has caught up
    #[arg(long, value_name = "SERVER")]
    pub replace: Option<u64>,
    /// Do not wait until it votes
    #[arg(long)]
    pub no_wait: bool,
}

/// A server to remove.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Its id
    #[arg(value_name = "SERVER")]
    pub id: u64,
    /// Do not wait until it does not count any more
    #[arg(long)]
    pub no_wait: bool,
}

/// A server as the leader sees it.
#[derive(Clone, Debug, Serialize)]
struct MemberView {
    server: u64,
    role: String,
    leader: bool,
    alive: bool,
    heard_ms_ago: Option<u64>,
    /// Entries of the leader's log that it is not known to have.
    behind: u64,
    peer_address: String,
    client_address: String,
    incarnation: Option<String>,
    replaces: Option<u64>,
    /// Another data directory that came under this id.
    other_disk: Option<String>,
    other_disk_ms_ago: Option<u64>,
}

fn view(member: v1::MemberState, last: u64) -> MemberView {
    let disk = |id: u64| (id != 0).then(|| format!("{id:016x}"));
    MemberView {
        server: member.server,
        role: member.role,
        leader: member.leader,
        alive: member.alive,
        heard_ms_ago: (member.heard_us_ago != 0).then_some(member.heard_us_ago / 1_000),
        behind: last.saturating_sub(member.matched),
        peer_address: member.peer_address,
        client_address: member.client_address,
        incarnation: disk(member.incarnation),
        replaces: (member.replaces != 0).then_some(member.replaces),
        other_disk: disk(member.stranger),
        other_disk_ms_ago: (member.stranger != 0).then_some(member.stranger_us_ago / 1_000),
    }
}

async fn ask(ctx: &Context) -> Result<Vec<MemberView>, Failure> {
    let v1::MembersReply {
        members, last_index, ..
    } = ctx.client().members().await?;
    Ok(members
        .into_iter()
        .map(|member| view(member, last_index))
        .collect())
}

/// `members`.
pub async fn list(ctx: &mut Context) -> Result<Exit, Failure> {
    let views = ask(ctx).await?;
    ctx.out.many(&views, |out, views| out.table(&mut table(views)))?;
    Ok(Exit::Ok)
}

fn table(views: &[MemberView]) -> Table {
    let mut table = Table::new(&[
        ("SERVER", Align::Right),
        ("ROLE", Align::Left),
        ("HEARD", Align::Right),
        ("BEHIND", Align::Right),
        ("PEER", Align::Left),
        ("CLIENT", Align::Left),
        ("NOTE", Align::Left),
    ]);
    for view in views {
        let heard = match (view.leader, view.heard_ms_ago) {
            (true, _) => "leads".to_owned(),
            (false, Some(ms)) => format!("{} ago", duration(ms * 1_000)),
            (false, None) => "-".to_owned(),
        };
        table.row([
            &view.server.to_string(),
            &view.role,
            &heard,
            &view.behind.to_string(),
            &view.peer_address,
            &view.client_address,
            &note(view),
        ]);
    }
    table
}

fn note(view: &MemberView) -> String {
    let mut notes = Vec::new();
    if let Some(ms) = view.other_disk_ms_ago {
        let ago = duration(ms * 1_000);
        notes.push(format!(
            "lost its disk: another one came {ago} ago; replace it by a new id"
        ));
    }
    match (view.role.as_str(), view.replaces) {
        ("learner", _) if view.incarnation.is_none() => notes.push("has not started yet".to_owned()),
        ("learner", Some(old)) => notes.push(format!("takes the place of {old}")),
        ("entering", _) => notes.push("becomes a voter".to_owned()),
        ("leaving", _) => notes.push("is being removed".to_owned()),
        _ => {}
    }
    if !view.alive && view.other_disk.is_none() {
        notes.push("silent".to_owned());
    }
    notes.join("; ")
}

/// `add`.
pub async fn add(ctx: &mut Context, args: AddArgs) -> Result<Exit, Failure> {
    let AddArgs {
        id: server,
        peer,
        client,
        replace,
        no_wait,
    } = args;
    let request = v1::AddMemberRequest {
        timeout_us: 0,
        server,
        peer_address: peer,
        client_address: client,
        replaces: replace.unwrap_or_default(),
    };
    ctx.client().add_member(request).await?;
    let next = format!(
        "Next: start it with `rebound server --config FILE --join {}`",
        ctx.settings.servers.value[0]
    );
    if no_wait {
        ctx.out.note(&next);
        return told(
            ctx,
            server,
            "learner",
            &format!("Server {server} is added as learner."),
        );
    }
    ctx.out.note(&next);
    let votes = |views: &[MemberView]| {
        let own = views.iter().find(|view| view.server == server);
        own.is_some_and(|view| view.role == "voter") && views.iter().all(|view| view.role != "leaving")
    };
    let why = format!(
        "server {server} is added and is not a voter yet; it becomes one by itself when it has started and caught up \
         (`rebound operator members`)"
    );
    wait(ctx, votes, &why).await?;
    told(ctx, server, "voter", &format!("Server {server} is a voter."))
}

/// `remove`.
pub async fn remove(ctx: &mut Context, args: RemoveArgs) -> Result<Exit, Failure> {
    let RemoveArgs { id: server, no_wait } = args;
    ctx.client().remove_member(server).await?;
    if !no_wait {
        let gone = |views: &[MemberView]| views.iter().all(|view| view.server != server);
        let why = format!(
            "server {server} is being removed, and still counts; `rebound operator members` shows it"
        );
        wait(ctx, gone, &why).await?;
    }
    told(
        ctx,
        server,
        "removed",
        &format!("Server {server} is no member any more."),
    )
}

/// `transfer-leader`.
pub async fn transfer(ctx: &mut Context, to: Option<u64>) -> Result<Exit, Failure> {
    let leader = ctx.client().transfer_leader(to.unwrap_or_default()).await?.leader;
    let answer = serde_json::json!({ "leader": leader });
    ctx.out
        .one(&answer, |out, _| out.line(&format!("Server {leader} leads.")))?;
    Ok(Exit::Ok)
}

fn told(ctx: &mut Context, server: u64, role: &str, text: &str) -> Result<Exit, Failure> {
    let answer = serde_json::json!({ "server": server, "role": role });
    ctx.out.one(&answer, |out, _| out.line(text))?;
    Ok(Exit::Ok)
}

/// Looks until the members are as wanted, or the call's time limit passes; `why` completes the failure then.
async fn wait(ctx: &Context, wanted: impl Fn(&[MemberView]) -> bool, why: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + ctx.settings.timeout.value;
    loop {
        // A leader that goes on the way is no end.
        if let Ok(views) = ask(ctx).await
            && wanted(&views)
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::timeout(why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
