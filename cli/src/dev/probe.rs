//! The probe: commits a counter in an environment of its own, open loop every 10 ms, at all servers, each time with
//! 200 ms to answer. The gap between two answers is how long the cluster took no writes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Client;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(10);
/// For one answer.
const WITHIN: Duration = Duration::from_millis(200);

/// When commits were answered.
#[derive(Default)]
pub struct Answers {
    /// In order.
    pub at: Vec<Instant>,
    /// Questions asked.
    pub asked: u64,
}

impl Answers {
    /// From the last answer before a moment to the first after it, in milliseconds.
    pub fn gap_ms(&self, moment: Instant) -> Option<f64> {
        let before = self.at.iter().rev().find(|at| **at <= moment)?;
        let after = self.at.iter().find(|at| **at > moment)?;
        Some((*after - *before).as_secs_f64() * 1e3)
    }
}

/// Asks from so many recorded results on until told to stop: only the time round the leader's death matters, and the
/// questions cost a good part of a small machine.
pub async fn run(
    client: Client,
    mut recorded: watch::Receiver<u64>,
    from: u64,
    mut stop: watch::Receiver<bool>,
) -> Answers {
    let mut answers = Answers::default();
    if recorded.wait_for(|recorded| *recorded >= from).await.is_err() {
        return answers;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {
                answers.asked += 1;
                for address in client.servers().to_vec() {
                    let client = client.clone();
                    open.spawn(async move { client.ping_at(&address, WITHIN).await.ok().map(|_| Instant::now()) });
                }
            }
            Some(answer) = open.join_next() => answers.at.extend(answer.ok().flatten()),
        }
    }
    while let Some(answer) = open.join_next().await {
        answers.at.extend(answer.ok().flatten());
    }
    answers.at.sort();
    answers
}
