//! Planted bugs of servers and agents, and the hunt for them: how many seeds it takes until a check finds one.

use std::sync::atomic::{AtomicBool, Ordering};

use rebound_agent::machine::plant::Plant as AgentPlant;
use rebound_core::state::Plant as ServerPlant;

use crate::faults::Choice;
use crate::fuzz::{Run, run};
use crate::world::Outcome;

/// At most one bug, of the servers or of the agents. None in a build without the feature `planted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plant {
    /// Of all servers.
    pub server: ServerPlant,
    /// Of all agents.
    pub agent: AgentPlant,
}

impl Plant {
    /// All there are, each with its name and what the mistake is.
    pub fn all() -> impl Iterator<Item = (Plant, &'static str, &'static str)> {
        let (server, agent) = (ServerPlant::None, AgentPlant::None);
        let of_servers = ServerPlant::ALL.iter().map(move |(server, name, what)| {
            (
                Plant {
                    server: *server,
                    agent,
                },
                *name,
                *what,
            )
        });
        let of_agents = AgentPlant::ALL.iter().map(move |(agent, name, what)| {
            (
                Plant {
                    server,
                    agent: *agent,
                },
                *name,
                *what,
            )
        });
        of_servers.chain(of_agents)
    }

    /// The plant of a name, none for no name; `None` when this build has none of that name.
    pub fn named(name: &str) -> Option<Plant> {
        if name.is_empty() {
            return Some(Plant::default());
        }
        Plant::all()
            .find(|(_, of, _)| *of == name)
            .map(|(plant, ..)| plant)
    }
}

/// Runs seeds from 1 on until one finds the bug; none when `seeds` of them do not.
pub fn hunt(plant: Plant, seeds: u64, threads: usize) -> Option<Outcome> {
    let found = AtomicBool::new(false);
    let seeds = Run {
        first: 1,
        count: seeds,
        twice: 0,
        threads,
        plant,
        choice: Choice::default(),
    };
    // What was begun is ended, and seeds are begun in order: the first of those that failed is the smallest.
    let go_on = || !found.load(Ordering::Relaxed);
    let note = |outcome: &Outcome| found.store(!outcome.violations.is_empty() || !go_on(), Ordering::Relaxed);
    run(&seeds, go_on, |_| {}, note).failed.into_iter().next()
}
