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

/// One commit that was answered.
#[derive(Clone, Copy)]
pub struct Answer {
    /// When it was asked for.
    pub asked: Instant,
    /// When the answer arrived.
    pub at: Instant,
}

/// The commits that were answered.
#[derive(Default)]
pub struct Answers {
    /// In the order in which they were answered.
    pub answered: Vec<Answer>,
    /// Questions asked.
    pub asked: u64,
}

impl Answers {
    /// From the last answer before a moment to the first of a question asked after it, in milliseconds. What was asked
    /// before a leader's death may be answered after it, by the dead leader: its answer was on its way already.
    pub fn gap_ms(&self, moment: Instant) -> Option<f64> {
        let before = self.answered.iter().rev().find(|one| one.at <= moment)?;
        let after = self.answered.iter().find(|one| one.asked > moment)?;
        Some((after.at - before.at).as_secs_f64() * 1e3)
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
                    let asked = Instant::now();
                    open.spawn(async move {
                        client.ping_at(&address, WITHIN).await.ok().map(|_| Answer { asked, at: Instant::now() })
                    });
                }
            }
            Some(answer) = open.join_next() => answers.answered.extend(answer.ok().flatten()),
        }
    }
    while let Some(answer) = open.join_next().await {
        answers.answered.extend(answer.ok().flatten());
    }
    answers.answered.sort_by_key(|one| one.at);
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn an_answer_to_what_was_asked_before_the_death_ends_no_gap() {
        let start = Instant::now();
        let one = |asked, at| Answer {
            asked: start + ms(asked),
            at: start + ms(at),
        };
        let answers = Answers {
            answered: vec![one(0, 5), one(8, 14), one(11, 600), one(20, 610)],
            asked: 4,
        };
        assert_eq!(answers.gap_ms(start + ms(10)), Some(595.0));
        assert_eq!(
            answers.gap_ms(start + ms(30)),
            None,
            "nothing asked later was answered"
        );
    }
}
