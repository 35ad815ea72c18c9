//! `rebound campaign pause`: servers and agents stand still for a while (SIGSTOP), as on a machine that swaps or is
//! moved. A server is away for up to half a minute; an agent for longer than its lease.

mod agents;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use rebound_core::limits::{ELECTION_TICKS_MAX, TICK};
use serde::Serialize;
use tokio::time::Instant;

use self::agents::AgentPause;
use super::recogniser::shell;
use super::{Common, REST, SERVERS, Stage, WITHIN, campaign, check_count, in_ms};
use crate::bench::load::Photos;
use crate::cmd::Context;
use crate::exit::{Exit, Failure};
use crate::local::Layout;

/// The shortest pause, in milliseconds.
const SHORTEST_MS: u64 = 100;
/// The longest that can be asked for, in seconds.
const LONGEST_S_MAX: u64 = 600;

/// What to run.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// How often a server stands still: the leader every other time, else any
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub pauses: u64,
    /// Longest pause in seconds; short ones are as likely as long ones
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub longest: u64,
    /// How often an agent stands still after that, with photos in its hands, until its lease has run out and others have
    /// done them
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub agent_pauses: u64,
    #[command(flatten)]
    pub common: Common,
}

/// One pause.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Case {
    Server(Pause),
    Agent(AgentPause),
}

/// Of a server.
#[derive(Debug, Serialize)]
struct Pause {
    server: u64,
    led: bool,
    paused_ms: f64,
    /// From its end until the server had caught up.
    back_ms: f64,
}

/// Runs it.
pub async fn run(ctx: &mut Context, args: PauseArgs) -> Result<Exit, Failure> {
    args.common.check()?;
    check_count(args.pauses, 0, "--pauses")?;
    if args.longest == 0 || args.longest > LONGEST_S_MAX {
        return Err(Failure::usage(format!("must be 1 to {LONGEST_S_MAX}")).at("--longest"));
    }
    check_count(args.agent_pauses, 0, "--agent-pauses")?;
    if args.agent_pauses > 0 && args.common.workers < 2 {
        return Err(Failure::usage("must be at least 2, so that one can be missed").at("--workers"));
    }
    let place = |dir: &Path, layout: &mut Layout| shell(layout, dir, agents::SLOW, agents::LINE);
    let work = async |mut stage: Stage<'_, '_, Case, Photos>| {
        servers(&mut stage, &args).await?;
        agents::pauses(&mut stage, &args).await
    };
    campaign(ctx, "pause", &args.common, place, work).await
}

async fn servers(stage: &mut Stage<'_, '_, Case, Photos>, args: &PauseArgs) -> Result<(), Failure> {
    for number in 1..=args.pauses {
        tokio::time::sleep(REST).await;
        let house = &mut *stage.drill.house;
        let (leader, _) = house.leader(WITHIN).await?;
        let victim = match number % 2 {
            1 => leader,
            _ => stage.rng.within(0, SERVERS - 1) as usize,
        };
        let length = Duration::from_millis(stage.rng.scaled(SHORTEST_MS, args.longest * 1_000));
        let begun = Instant::now();
        house.pause(victim).await?;
        tokio::time::sleep(length.saturating_sub(begun.elapsed())).await;
        let paused = begun.elapsed();
        if paused > election_timeouts(4) {
            // Longer than any election: somebody else leads by now.
            let led = house.leader(WITHIN).await?.0;
            stage
                .record
                .must(led != victim, || format!("pause {number}: nobody else leads"));
        }
        let house = &mut *stage.drill.house;
        house.go_on(victim);
        let woken = Instant::now();
        house.caught_up(victim, WITHIN).await?;
        let pause = Pause {
            server: victim as u64 + 1,
            led: victim == leader,
            paused_ms: in_ms(paused),
            back_ms: in_ms(woken.elapsed()),
        };
        stage.ctx.out.note(&format!(
            "pause {number} of {}: server {} for {:.1} s; it has caught up after {:.2} s",
            args.pauses,
            pause.server,
            pause.paused_ms / 1e3,
            pause.back_ms / 1e3
        ));
        stage.record.cases.push(Case::Server(pause));
    }
    Ok(())
}

/// So many times the upper bound of the election timeout.
pub fn election_timeouts(count: u32) -> Duration {
    Duration::from_micros(TICK * ELECTION_TICKS_MAX as u64) * count
}
