//! The load of a seed: how long, how many servers and agents, which work.

use std::fmt;

use rebound_core::types::{MILLISECOND, SECOND};

use super::seconds;
use super::tenants::Tenant;
use crate::rng::Rng;

/// What is there besides faults. Times in µs.
#[derive(Clone, Debug)]
pub struct Load {
    /// How long things may break.
    pub storm: u64,
    /// Servers.
    pub servers: u64,
    /// Agents.
    pub agents: u64,
    /// Slots of each.
    pub slots: u32,
    /// Jobs submitted, spread over the storm.
    pub jobs: u64,
    /// A reader asks about a job so often on average.
    pub read_every: u64,
    /// Somebody else cancels a job so often on average.
    pub cancel_every: u64,
    /// Somebody asks so often whether the cluster takes writes; 0: never.
    pub probe_every: u64,
    /// Inputs of a server gather for so long at most before they are handed in together; 0: each alone.
    pub gather_max: u64,
    /// A sync takes at most so long.
    pub sync_max: u64,
    /// The policy takes at most so long.
    pub plan_max: u64,
    /// Entries kept behind the applied one.
    pub log_keep: u64,
    /// Results an agent's spool takes.
    pub spool: u64,
    /// Where servers end or rot the log is short, so that snapshots are sent.
    pub short_log: bool,
    /// Whose jobs they are.
    pub tenants: Vec<Tenant>,
}

impl Load {
    /// Draws it.
    pub fn draw(rng: &mut Rng) -> Load {
        let some = |rng: &mut Rng, from, to| {
            if rng.chance(500_000) {
                rng.scaled(from, to)
            } else {
                0
            }
        };
        Load {
            storm: rng.within(150, 500) * SECOND,
            servers: *rng.pick(&[1, 3, 3, 3, 3, 3, 3, 3, 5, 5]).expect("not empty"),
            agents: rng.within(1, 5),
            slots: rng.within(1, 4) as u32,
            jobs: rng.within(20, 80),
            read_every: rng.scaled(SECOND / 5, 4 * SECOND),
            cancel_every: rng.scaled(5 * SECOND, 60 * SECOND),
            probe_every: some(rng, 50 * MILLISECOND, 2 * SECOND),
            gather_max: some(rng, MILLISECOND / 10, 20 * MILLISECOND),
            sync_max: rng.scaled(MILLISECOND, 200 * MILLISECOND),
            plan_max: rng.scaled(MILLISECOND, 3 * SECOND),
            log_keep: *rng.pick(&[50, 200, 1_000, 100_000]).expect("not empty"),
            spool: *rng.pick(&[4, 16, 256]).expect("not empty"),
            short_log: rng.chance(600_000),
            tenants: Tenant::draw_all(&mut rng.branch("tenants")),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of storm, {} servers, {} agents × {} slots, {} jobs; read each {}, cancel each {}, probe each {}; gather \
             to {}, sync to {}, plan to {}; log keeps {}, spool takes {}",
            seconds(self.storm),
            self.servers,
            self.agents,
            self.slots,
            self.jobs,
            seconds(self.read_every),
            seconds(self.cancel_every),
            seconds(self.probe_every),
            seconds(self.gather_max),
            seconds(self.sync_max),
            seconds(self.plan_max),
            self.log_keep,
            self.spool,
        )?;
        self.tenants.iter().try_for_each(|tenant| write!(f, "; {tenant}"))
    }
}
