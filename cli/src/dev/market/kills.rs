//! Kills leaders while a launch is on its way: after it was committed and before it is called, and after it was called and
//! before it is settled.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::cloud::{Held, Moment};
use crate::exit::Failure;
use crate::local::House;

/// A leader is elected within so long.
const ELECTED: Duration = Duration::from_secs(20);

/// Kills the leader each time a call is held, and starts it again when there is another.
pub async fn kill(
    house: &mut House,
    held: &mut UnboundedReceiver<Held>,
    done: &mut BTreeMap<Moment, u64>,
) -> Result<(), Failure> {
    while let Some(Held { moment, release }) = held.recv().await {
        let (victim, _) = house.leader(ELECTED).await?;
        house.kill_server(victim);
        drop(release);
        house.leader(ELECTED).await?;
        house.start_server(victim, false)?;
        house.caught_up(victim, ELECTED).await?;
        *done.entry(moment).or_default() += 1;
    }
    // Nobody holds anything any more.
    std::future::pending().await
}
