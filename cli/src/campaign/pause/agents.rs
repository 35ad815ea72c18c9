//! An agent stands still while it works on photos. Its lease runs out, another agent does them, and what it reports when it
//! goes on is too late: it is refused.

use std::time::Duration;

use rebound_core::limits::{FAILOVER_GRACE, PRIORITY_MAX, WORKER_HEARTBEAT, WORKER_LEASE};
use rebound_proto::v1::{JobSpec, JobState, TaskResult, Worker};
use serde::Serialize;
use tokio::time::Instant;

use super::{Case, PauseArgs};
use crate::bench::collect::Expected;
use crate::bench::fill::{Taken, submit_small};
use crate::bench::load::{Answers, JobPart, Photos};
use crate::bench::scrape::Scrape;
use crate::campaign::{LOOK, REST, Stage, WITHIN, in_ms};
use crate::exit::Failure;
use crate::limits::RESULTS_PAGE_MAX;
use crate::local::{House, asked};

/// The recogniser that agents have in their hands.
pub const SLOW: &str = "slow";
/// What it does: long enough for an agent to be met at it.
pub const LINE: &str = "sleep 2";
/// Photos for each slot of all agents.
const PHOTOS_A_SLOT: u64 = 2;
/// A lease may be seen to end so much earlier after the stop than it lasts: by the heartbeat that was due, on a machine
/// that is busy.
const EARLIER: Duration = Duration::from_micros(3 * WORKER_HEARTBEAT);
/// How soon it must have ended: a leader that was elected meanwhile has not heard the worker, and adds the grace.
const LOST_WITHIN: Duration = Duration::from_micros(WORKER_LEASE + FAILOVER_GRACE).saturating_add(WITHIN);
/// Results that did not count, as servers tell.
const STALE: &str = "rebound_results_refused_total{verdict=\"stale\"}";
/// How soon a late result is reported.
const REPORTED_WITHIN: Duration = Duration::from_secs(5);

/// One pause.
#[derive(Debug, Serialize)]
pub struct AgentPause {
    worker: String,
    /// Photos in its recognisers when it last said so.
    running: u32,
    /// From the stop until its lease had run out.
    lost_ms: f64,
    /// From the stop until all photos of the job that it had worked on were done.
    done_ms: f64,
    /// From its going on until it had joined anew.
    back_ms: f64,
    /// Results that came too late.
    refused: u64,
}

/// All of them. At least one result of all must have come too late: else nothing was shown.
pub async fn pauses(stage: &mut Stage<'_, '_, Case, Photos>, args: &PauseArgs) -> Result<(), Failure> {
    let mut late = 0;
    for number in 1..=args.agent_pauses {
        tokio::time::sleep(REST).await;
        let at = stage.rng.within(0, args.common.workers - 1) as usize;
        let pause = pause(stage, args, at).await?;
        let lost = Duration::from_secs_f64(pause.lost_ms / 1e3);
        let lease = Duration::from_micros(WORKER_LEASE);
        stage.record.must(lost + EARLIER >= lease, || {
            format!(
                "{}: lost after {lost:.1?}, before its lease had run out",
                pause.worker
            )
        });
        late += pause.refused;
        stage.ctx.out.note(&format!(
            "pause {number} of {}: {} with {} photos; lost after {:.1} s, they were done after {:.1} s; it has joined again \
             after {:.2} s, {} results too late",
            args.agent_pauses,
            pause.worker,
            pause.running,
            pause.lost_ms / 1e3,
            pause.done_ms / 1e3,
            pause.back_ms / 1e3,
            pause.refused
        ));
        stage.record.cases.push(Case::Agent(pause));
    }
    stage.record.must(args.agent_pauses == 0 || late > 0, || {
        "no agent that had stood still reported a result: nothing was refused".to_owned()
    });
    tokio::time::sleep(REST).await;
    Ok(())
}

async fn pause(
    stage: &mut Stage<'_, '_, Case, Photos>,
    args: &PauseArgs,
    at: usize,
) -> Result<AgentPause, Failure> {
    let house = &mut *stage.drill.house;
    let name = house.agent_name(at).to_owned();
    let before = stale(house).await?;
    let job = submit(house, stage.with, args).await?;
    let working = until(house, "the agents do not work on slow photos", async |house| {
        let own = active(house, &name).await?;
        Ok(own.filter(|own| own.running >= args.common.slots.div_ceil(2)))
    });
    let working = working.await?;
    let begun = Instant::now();
    house.pause_agent(at).await?;
    until(house, "a stopped agent's lease does not end", async |house| {
        let own = active(house, &name).await?;
        Ok(own.is_none_or(|own| own.id != working.id).then_some(()))
    })
    .await?;
    let lost = begun.elapsed();
    until(house, "a stopped agent's photos are not done", async |house| {
        let job = house.client().get(job.id).await.map_err(asked("get"))?;
        Ok((job.state() == JobState::Done).then_some(()))
    })
    .await?;
    let done = begun.elapsed();
    let kept = results(house, job).await?;
    house.agent_goes_on(at);
    let woken = Instant::now();
    until(house, "an agent that goes on does not join", async |house| {
        let own = active(house, &name).await?;
        Ok(own.filter(|own| own.id != working.id))
    })
    .await?;
    let back = woken.elapsed();
    // There may be none: it may have joined anew before its recognisers were heard.
    let mut refused = 0;
    while refused == 0 && woken.elapsed() < REPORTED_WITHIN {
        refused = stale(house).await?.saturating_sub(before);
        tokio::time::sleep(LOOK).await;
    }
    let expected = Expected {
        photos: stage.with.clone(),
        answers: Answers::Null,
    };
    expected.compare(job, 0, &kept)?;
    let whole = kept.len() as u64 == job.part.count.min(u64::from(RESULTS_PAGE_MAX));
    let same = results(house, job).await? == kept;
    stage.record.must(whole && same, || {
        format!(
            "{name}: what was recorded of job {} is not what it was before it went on",
            job.id
        )
    });
    Ok(AgentPause {
        worker: name,
        running: working.running,
        lost_ms: in_ms(lost),
        done_ms: in_ms(done),
        back_ms: in_ms(back),
        refused,
    })
}

/// A job for all slots, ahead of all others.
async fn submit(house: &House, photos: &Photos, args: &PauseArgs) -> Result<Taken, Failure> {
    let spec = JobSpec {
        recogniser: SLOW.into(),
        priority: PRIORITY_MAX,
        ..JobSpec::default()
    };
    let part = JobPart {
        first: 0,
        count: PHOTOS_A_SLOT * args.common.workers * u64::from(args.common.slots),
    };
    let id = submit_small(&house.client(), photos, part, &spec).await;
    let id = id.map_err(asked("submit"))?;
    Ok(Taken { id, part })
}

/// A page of its results.
async fn results(house: &House, job: Taken) -> Result<Vec<TaskResult>, Failure> {
    let page = house.client().results(job.id, 0, RESULTS_PAGE_MAX).await;
    Ok(page.map_err(asked("results"))?.results)
}

/// The agent's session, if it has one.
async fn active(house: &House, name: &str) -> Result<Option<Worker>, Failure> {
    let workers = house.client().workers().await.map_err(asked("workers"))?;
    let own = |worker: &Worker| worker.name == name && worker.state == "active";
    Ok(workers.into_iter().find(own))
}

/// Late results so far: each server counts all.
async fn stale(house: &House) -> Result<u64, Failure> {
    let mut most = 0;
    for at in 0..house.addresses().len() {
        most = most.max(Scrape::of(house.http(at)).await?.count(STALE));
    }
    Ok(most)
}

/// Looks until there is an answer.
async fn until<T>(
    house: &mut House,
    otherwise: &str,
    look: impl AsyncFn(&House) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + LOST_WITHIN;
    loop {
        if let Some(found) = look(house).await? {
            return Ok(found);
        }
        house.check_alive()?;
        if Instant::now() > end {
            return Err(Failure::timeout(otherwise));
        }
        tokio::time::sleep(LOOK).await;
    }
}
