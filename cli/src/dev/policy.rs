//! Puts the policy of a run in force.

use rebound_core::codec::policy::policy_out;
use rebound_core::scaling::Mode;
use rebound_core::types::MicroUsd;

use crate::client::Client;
use crate::exit::Failure;
use crate::local::asked;
use crate::policy::load;

/// What a machine that stands still costs an hour under the policy of a file or a name.
pub fn volume(name: &str) -> Result<MicroUsd, Failure> {
    let policy = load(name).map_err(|failure| failure.at("--policy"))?;
    Ok(MicroUsd(policy.spares.map_or(0, |spares| spares.volume)))
}

/// The policy of a file or a name, acting.
pub async fn apply(client: &Client, name: &str) -> Result<(), Failure> {
    let mut policy = load(name).map_err(|failure| failure.at("--policy"))?;
    policy.mode = Mode::Act;
    client
        .apply_policy(policy_out(&policy), None)
        .await
        .map_err(asked("the policy"))?;
    Ok(())
}

/// The same, but nothing is kept for a burst any more: the run is over. A policy that keeps nothing stays.
pub async fn keep_nothing(client: &Client, name: &str) -> Result<(), Failure> {
    let mut policy = load(name).map_err(|failure| failure.at("--policy"))?;
    if policy.spares.take().is_none() {
        return Ok(());
    }
    policy.mode = Mode::Act;
    client
        .apply_policy(policy_out(&policy), None)
        .await
        .map_err(asked("the policy"))?;
    Ok(())
}
