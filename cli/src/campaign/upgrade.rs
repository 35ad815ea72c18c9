//! `rebound campaign upgrade`: servers and agents of this build are replaced, one by one and under load, by those of a
//! newer one, back, and up again; then the upgrade is finalized, and this build must be refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rebound_proto::v1::MembersReply;
use rebound_scheduler::api::operator::VERSION;
use serde::Serialize;
use tokio::time::Instant;

use super::{Common, LOOK, REST, SERVERS, Stage, WITHIN, campaign, in_ms, lead};
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::{House, asked};

/// How long a server that is too old may take to say so and end.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// The program `rebound` of the newer build, with its `rebound-agent` beside it
    #[arg(long, value_name = "FILE")]
    pub next: PathBuf,
    /// How often to go there and back before the upgrade is finalized
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub rollbacks: u64,
    #[command(flatten)]
    pub common: Common,
}

/// One step.
#[derive(Debug, Serialize)]
struct Step {
    what: &'static str,
    /// Which process.
    who: String,
    /// The build it runs since.
    build: String,
    /// Until a server had caught up, an agent had joined, or an answer was there.
    took_ms: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: UpgradeArgs) -> Result<Exit, Failure> {
    args.common.check()?;
    super::check_count(args.rollbacks, 1, "--rollbacks")?;
    let beside = args.next.with_file_name("rebound-agent");
    for file in [&args.next, &beside] {
        if !file.is_file() {
            return Err(Failure::usage(format!("{} is no program", file.display())).at("--next"));
        }
    }
    let work = async |stage: Stage<'_, '_, Step, ()>| upgrade(stage, &args).await;
    campaign(ctx, "upgrade", &args.common, |_, _| Ok(()), work).await
}

async fn upgrade(mut stage: Stage<'_, '_, Step, ()>, args: &UpgradeArgs) -> Result<(), Failure> {
    let next = Some(args.next.as_path());
    tokio::time::sleep(REST).await;
    let before = members(stage.drill.house).await?.version;
    for _ in 0..args.rollbacks {
        roll(&mut stage, next).await?;
        roll(&mut stage, None).await?;
    }
    roll(&mut stage, next).await?;
    let begun = Instant::now();
    stage
        .drill
        .house
        .client()
        .finalize(0)
        .await
        .map_err(asked("finalize"))?;
    let after = members(stage.drill.house).await?;
    stage.record.must(after.version > before, || {
        format!("the cluster ran at {before} and runs at {}", after.version)
    });
    stage.note(
        "finalized",
        "cluster".to_owned(),
        &format!("version {}", after.version),
        begun,
    );
    refused(&mut stage, next).await?;
    let built = recorded(stage.drill.house).await?;
    let complete = built.len() as u64 == SERVERS && built.iter().all(|build| build.contains("+next"));
    stage
        .record
        .must(complete, || format!("the members' builds are shown as {built:?}"));
    tokio::time::sleep(REST).await;
    Ok(())
}

impl Stage<'_, '_, Step, ()> {
    fn note(&mut self, what: &'static str, who: String, build: &str, begun: Instant) {
        let step = Step {
            what,
            who,
            build: build.to_owned(),
            took_ms: in_ms(begun.elapsed()),
        };
        self.ctx.out.note(&format!(
            "{}: {} is {} after {:.2} s",
            step.what,
            step.who,
            step.build,
            step.took_ms / 1e3
        ));
        self.record.cases.push(step);
    }
}

/// All servers one by one, the leader last, after it has handed over; then all agents. Whether the upgrade can be
/// finalized half way is asked too: it must not be.
async fn roll(stage: &mut Stage<'_, '_, Step, ()>, build: Option<&Path>) -> Result<(), Failure> {
    let what = if build.is_some() {
        "upgraded"
    } else {
        "rolled back"
    };
    let (leader, _) = stage.drill.house.leader(WITHIN).await?;
    let mut order: Vec<usize> = (0..SERVERS as usize).filter(|at| *at != leader).collect();
    order.push(leader);
    for (number, at) in order.into_iter().enumerate() {
        if at == leader {
            lead(stage.drill.house, at, false).await?;
        }
        let begun = Instant::now();
        let house = &mut *stage.drill.house;
        house.swap_server(at, build).await?;
        house.caught_up(at, WITHIN).await?;
        let (_, status) = said_by(house, at).await?;
        let is_next = status != VERSION;
        let right = is_next == build.is_some();
        stage.record.must(right, || {
            format!("server {} runs {status} after it was {what}", at + 1)
        });
        stage.note(what, format!("server {}", at + 1), &status, begun);
        if number == 0 {
            too_early(stage).await?;
        }
    }
    for at in 0..stage.drill.house.count_agents() {
        let begun = Instant::now();
        stage.drill.house.swap_agent(at, build).await?;
        joined(stage.drill.house).await?;
        let name = build.map_or("this build", |_| "the newer build");
        stage.note(what, format!("worker {}", at + 1), name, begun);
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

async fn said_by(house: &mut House, at: usize) -> Result<(usize, String), Failure> {
    let statuses = house.statuses().await;
    let own = statuses.into_iter().find(|(one, _)| *one == at);
    own.map(|(at, status)| (at, status.version))
        .ok_or_else(|| Failure::failed(format!("server {} says nothing", at + 1)))
}

/// While two builds are mixed the upgrade cannot be finalized, and the answer says because of whom.
async fn too_early(stage: &mut Stage<'_, '_, Step, ()>) -> Result<(), Failure> {
    let begun = Instant::now();
    let answer = stage.drill.house.client().finalize(0).await;
    let why = answer.err().map(|error| error.to_string()).unwrap_or_default();
    stage.record.must(
        why.contains("upgrade it first") || why.contains("is silent"),
        || format!("with two builds mixed, finalize was answered with {why:?}"),
    );
    stage.note("refused", "finalize".to_owned(), "too early", begun);
    Ok(())
}

/// All agents are there.
async fn joined(house: &mut House) -> Result<(), Failure> {
    let (agents, until) = (house.count_agents(), Instant::now() + WITHIN);
    loop {
        let workers = house.client().workers().await.map_err(asked("workers"))?;
        if workers.iter().filter(|worker| worker.state == "active").count() == agents {
            return Ok(());
        }
        house.check_alive()?;
        if Instant::now() > until {
            return Err(Failure::timeout("an agent that was replaced did not join"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn members(house: &House) -> Result<MembersReply, Failure> {
    house.client().members().await.map_err(asked("members"))
}

/// The builds of all servers as the leader shows them.
async fn recorded(house: &mut House) -> Result<Vec<String>, Failure> {
    let members = members(house).await?.members;
    Ok(members.into_iter().map(|member| member.build).collect())
}

/// This build is started on the data of a cluster that has outgrown it: it must say so, and end with its own code.
async fn refused(stage: &mut Stage<'_, '_, Step, ()>, next: Option<&Path>) -> Result<(), Failure> {
    let (leader, _) = stage.drill.house.leader(WITHIN).await?;
    let at = (leader + 1) % SERVERS as usize;
    // Once it has applied the end of the upgrade, its own data says so.
    stage.drill.house.caught_up(at, WITHIN).await?;
    let begun = Instant::now();
    let house = &mut *stage.drill.house;
    house.swap_server(at, None).await?;
    let ended = house.ends(at, REFUSED_WITHIN).await;
    let (code, words) = ended.map_or((None, String::new()), |(status, words)| (status.code(), words));
    stage.record.must(code == Some(Exit::OtherVersion as i32), || {
        format!(
            "an older build ended with {code:?} and not with {}",
            Exit::OtherVersion as u8
        )
    });
    stage
        .record
        .must(words.contains("it is too old. Start a build that knows"), || {
            format!("an older build did not say why it ended: {words}")
        });
    stage.note(
        "refused",
        format!("server {}", at + 1),
        "this build, which ended with code 11",
        begun,
    );
    let house = &mut *stage.drill.house;
    house.swap_server(at, next).await?;
    house.caught_up(at, WITHIN).await
}
