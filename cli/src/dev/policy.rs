//! Puts the policy of a run in force.

use rebound_core::codec::policy::policy_out;
use rebound_core::scaling::Mode;

use crate::client::Client;
use crate::exit::Failure;
use crate::local::asked;
use crate::policy::load;

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
