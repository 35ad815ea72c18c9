//! How fast a queue of some length is: tasks submitted, jobs listed, tasks given.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::QUIET_WITHIN;
use super::load::{Load, Photos};
use super::queue::{WITHIN, submit, submit_load, waiting};
use super::scrape::Scrape;
use crate::client::Client;
use crate::exit::Failure;
use crate::local::{House, asked, round};

/// Each rate is measured so many times, of which the median counts: one is over in a third of a second, in which a
/// server may by chance do nothing else, or merge files all the time.
const ROUNDS: usize = 7;
/// Tasks submitted, and tasks given, to measure a rate once, at most.
const PROBE: u64 = 50_000;
/// Pages listed to measure a rate once, and at once.
const LISTS: (usize, usize) = (2_000, 8);
/// Jobs of a page: a short queue has so many in each environment, too.
const LIST_PAGE: u32 = 20;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What can be done a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    pub submitted_tasks: f64,
    /// Pages of 20 jobs.
    pub listed_pages: f64,
    pub given_tasks: f64,
}

/// One of them.
pub type OneRate = fn(&Rates) -> f64;

/// Rates at one length of the queue.
#[derive(Clone, Debug, Serialize)]
pub struct Level {
    /// Tasks waiting when each round began.
    pub queued: u64,
    /// The median of the rounds.
    pub per_s: Rates,
    pub rounds: Vec<Rates>,
    /// The leader's longest call of its replica since it started.
    pub longest_handle_ms: f64,
    /// The one that took most of its processor, without what others took from it.
    pub longest_handle_cpu_ms: f64,
}

/// Measures with what is queued now; a run of few `tasks` is measured with less. What a round submits goes before all
/// that is queued, and is what it gives; what it gave beyond that is queued again before the next.
pub async fn level(house: &mut House, clients: &[Client], tasks: u64) -> Result<Level, Failure> {
    let queued = waiting(house).await?;
    let tasks = PROBE.min(tasks / 4);
    // Every environment has as much of either kind of job, so that what is given first is the same mixture however long
    // the queue is: the tasks of small jobs cost several times what those of large ones do.
    let large = (tasks / 2).div_ceil(clients.len().max(1) as u64);
    let probe = Load::of(tasks, large, Photos::Numbered);
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let missing = queued.saturating_sub(waiting(house).await?);
        submit(clients, missing).await?;
        let begun = Instant::now();
        submit_load(clients, probe.clone(), 1).await?;
        rounds.push(Rates {
            submitted_tasks: round(tasks as f64 / begun.elapsed().as_secs_f64(), 0),
            listed_pages: round(lists(clients).await?, 0),
            given_tasks: round(given(house, tasks).await?, 0),
        });
    }
    let (leader, _) = house.leader(QUIET_WITHIN).await?;
    let scrape = Scrape::of(house.http(leader)).await?;
    let longest = |name: &str| round(scrape.value(name).unwrap_or(0.0) * 1e3, 2);
    Ok(Level {
        queued,
        per_s: Rates {
            submitted_tasks: median(&rounds, |rates| rates.submitted_tasks),
            listed_pages: median(&rounds, |rates| rates.listed_pages),
            given_tasks: median(&rounds, |rates| rates.given_tasks),
        },
        rounds,
        longest_handle_ms: longest("rebound_handle_seconds_max"),
        longest_handle_cpu_ms: longest("rebound_handle_cpu_seconds_max"),
    })
}

fn median(rounds: &[Rates], of: OneRate) -> f64 {
    let mut rates: Vec<f64> = rounds.iter().map(of).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

async fn lists(clients: &[Client]) -> Result<f64, Failure> {
    let (pages, lanes) = LISTS;
    let begun = Instant::now();
    let mut readers = JoinSet::new();
    for lane in 0..lanes {
        let clients = clients.to_vec();
        readers.spawn(async move {
            for client in clients
                .iter()
                .cycle()
                .skip(lane)
                .step_by(lanes)
                .take(pages / lanes)
            {
                client.list(0, LIST_PAGE).await?;
            }
            Ok(())
        });
    }
    while let Some(reader) = readers.join_next().await {
        let reader = reader.map_err(|error| Failure::failed(format!("a reader ended early: {error}")))?;
        reader.map_err(asked("list"))?;
    }
    Ok(pages as f64 / begun.elapsed().as_secs_f64())
}

/// How many tasks are given a second, from when all agents are there until so many more were given. Each of them is
/// done meanwhile, too. If the queue is empty before, from when the agents were started.
async fn given(house: &mut House, wanted: u64) -> Result<f64, Failure> {
    let (leader, _) = house.leader(QUIET_WITHIN).await?;
    let http = house.http(leader).to_owned();
    let count = async || Ok::<_, Failure>(Scrape::of(&http).await?.count("rebound_tasks_given_total"));
    let (zero, started) = (count().await?, Instant::now());
    house.start_workers().await?;
    let (first, begun) = (count().await?, Instant::now());
    let rate = loop {
        let now = count().await?;
        let more = now - first;
        if more >= wanted {
            break more as f64 / begun.elapsed().as_secs_f64();
        }
        if waiting(house).await? == 0 {
            break (now - zero) as f64 / started.elapsed().as_secs_f64();
        }
        if begun.elapsed() > WITHIN {
            return Err(Failure::timeout(format!("{more} tasks were given in {WITHIN:?}")));
        }
        house.check_alive()?;
        tokio::time::sleep(LOOK).await;
    };
    house.stop_agents().await;
    Ok(rate)
}
