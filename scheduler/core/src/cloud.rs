//! Calls of a cloud, as data: what the leader orders, and what comes back. Drivers make them; a simulated cloud answers
//! them like EC2 does.

use serde::{Deserialize, Serialize};

use crate::state::buying::Started;
use crate::state::launches::{Lack, Wanted};
use crate::types::{ClusterId, InstanceId, LaunchId, Pool, Time};

/// A call. The same one may be made again: whatever changes something is idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloudCall {
    /// Starts machines. All that is in it follows from the committed launch.
    Launch {
        launch: LaunchId,
        /// The same for the same launch, for ever.
        token: String,
        wanted: Wanted,
        /// No call begins after this, by the cluster's clock.
        not_after: Time,
    },
    /// Ends machines of a region.
    Terminate {
        region: String,
        machines: Vec<InstanceId>,
    },
    /// Stops machines of a region, which stay with their volumes.
    Stop {
        region: String,
        machines: Vec<InstanceId>,
    },
    /// Starts a machine that stands still: at once, or not at all.
    Start { region: String, machine: InstanceId },
    /// Lists all machines of a region that have this cluster's tag.
    List { region: String },
}

impl CloudCall {
    /// True when it changes something.
    pub fn changes(&self) -> bool {
        !matches!(self, CloudCall::List { .. })
    }
}

/// The token of a launch: at most 64 ASCII letters, digits and `-`, whatever the cluster is called.
pub fn token(cluster: &ClusterId, launch: LaunchId) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(cluster.0.as_bytes());
    format!("{hash:032x}-{}", launch.0)
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloudOutcome {
    /// The launch was answered: machines, and what lacked. Both may be empty.
    Launched {
        started: Vec<Started>,
        /// Zone id, type, why.
        lacked: Vec<(String, String, Lack)>,
    },
    /// The machines are ending, or have ended.
    Terminating,
    /// The machines are stopping or starting, or have stopped or started.
    Accepted,
    /// There is no machine of its kind for one that shall start.
    Lacked,
    /// All that was found.
    Listed(Vec<Found>),
    /// It did not happen, and may be tried again after so many µs.
    Retry { after: u64 },
    /// It will never happen: what the cloud says.
    Refused { why: String },
    /// Nobody knows whether it happened.
    Unknown,
}

/// A machine in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What and where it is.
    pub started: Started,
    /// How it was bought, with its region.
    pub pool: Pool,
    /// The launch that its tag names.
    pub launch: LaunchId,
    /// Since when it runs; none: not yet, or it stands still.
    pub running: Option<Time>,
    /// Since when it stands still.
    pub stopped: Option<Time>,
    /// When it ended, and whether the cloud took it back; none: it has not.
    pub ended: Option<(Time, bool)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_short_and_plain_and_of_one_launch_in_one_cluster() {
        let of = |cluster: &str, launch| token(&ClusterId(cluster.into()), LaunchId(launch));
        let longest = of(&"ä".repeat(1_000), u64::MAX);
        assert!(longest.len() <= 64 && longest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        assert_eq!(of("a", 1), of("a", 1));
        assert!(of("a", 1) != of("a", 2) && of("a", 1) != of("b", 1));
    }
}
