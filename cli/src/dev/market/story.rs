//! Why the cluster did what it did, from its log alone: each launch with its numbers, each rebound, each machine let go.

use std::collections::BTreeMap;
use std::path::Path;

use rebound_core::command::Command;
use rebound_core::plan::capacity::{Buy, Flip, LetGo};
use rebound_core::replica::{decode_entry, parse_log_entry};
use rebound_core::state::State;
use rebound_core::state::machines::Machine;
use rebound_core::state::sightings::Sighting;
use rebound_core::types::{InstanceId, Pool, SECOND, Time, WorkerId};
use rebound_pricer::pool::text;
use rebound_scheduler::offline::OfflineStore;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{duration, time};

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// By the cluster's clock, in µs since 1970.
    pub at_us: u64,
    /// `launch`, `rebound`, `back_to_spot` or `let_go`.
    pub what: &'static str,
    /// The pool, or the machine.
    pub of: String,
    /// With its numbers.
    pub because: String,
}

/// What the log and the state say.
pub struct Story {
    /// In order.
    pub decisions: Vec<Decision>,
    /// When each pool was found too dear, or no longer.
    pub flips: Vec<(Time, Pool, bool)>,
    /// Machines that the state knows.
    pub machines: BTreeMap<InstanceId, Machine>,
    /// From a launch's commit until its machines were known, in µs of the cluster's clock.
    pub settled_in: Vec<u64>,
    /// Launches.
    pub launches: u64,
    /// Machines that were told that they would be taken back.
    pub notices: Vec<Notice>,
}

/// What became of a machine's work after it was told that it would be taken back.
#[derive(Clone, Debug)]
pub struct Notice {
    machine: InstanceId,
    worker: Option<WorkerId>,
    /// When the cluster noted it.
    pub at: Time,
    /// When its agent left, with nothing in hand; none: it did not, or had none.
    pub left: Option<Time>,
    /// Its agent was lost, with what it had in hand.
    pub lost: bool,
}

/// Reads a stopped server's directory.
pub fn read(dir: &Path) -> Result<Story, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", dir.display()));
    let store = OfflineStore::open(dir).map_err(|error| failed(&error))?;
    let state: State = store.state().map_err(|error| failed(&error))?;
    let mut story = Story {
        decisions: Vec::new(),
        flips: Vec::new(),
        machines: state
            .machines
            .iter()
            .map(|(id, one)| (id.clone(), one.clone()))
            .collect(),
        settled_in: Vec::new(),
        launches: 0,
        notices: Vec::new(),
    };
    for entry in store.log_entries() {
        let (_, bytes) = entry.map_err(|error| failed(&error))?;
        let (_, _, data) = parse_log_entry(&bytes).map_err(|error| failed(&error))?;
        let Some(entry) = decode_entry(&data).map_err(|error| failed(&error))? else {
            continue;
        };
        match entry.command {
            Command::Scale(scale) => story.scaled(entry.at, &scale.buy, &scale.let_go, &scale.dear),
            Command::Seen(seen) => seen.iter().for_each(|one| story.seen(entry.at, one)),
            Command::WorkerLeft { worker } => story.of_worker(worker, |one| one.left = Some(entry.at)),
            Command::WorkerLost { worker } => story.of_worker(worker, |one| one.lost = one.left.is_none()),
            _ => {}
        }
    }
    for (_, launch) in state.launches.iter() {
        if let Some((at, _)) = &launch.settled {
            story.settled_in.push(at.0.saturating_sub(launch.at.0));
        }
    }
    Ok(story)
}

impl Story {
    fn seen(&mut self, at: Time, seen: &Sighting) {
        let Sighting::Noticed { machine, .. } = seen else {
            return;
        };
        if self.notices.iter().any(|one| one.machine == *machine) {
            return;
        }
        let known = self.machines.get(machine).and_then(|one| one.joined);
        self.notices.push(Notice {
            machine: machine.clone(),
            worker: known.map(|(worker, _)| worker),
            at,
            left: None,
            lost: false,
        });
    }

    fn of_worker(&mut self, worker: WorkerId, change: impl Fn(&mut Notice)) {
        let of_it = self.notices.iter_mut().find(|one| one.worker == Some(worker));
        of_it.into_iter().for_each(change);
    }

    fn scaled(&mut self, at: Time, buys: &[Buy], let_go: &[LetGo], dear: &[Flip]) {
        self.launches += buys.len() as u64;
        self.decisions.extend(buys.iter().map(|buy| launched(at, buy)));
        self.decisions.extend(let_go.iter().map(|one| went(at, one)));
        for flip in dear {
            self.flips.push((at, flip.pool.clone(), flip.dear));
            let (what, because) = match flip.dear {
                true => (
                    "rebound",
                    "spot is at or above the threshold: on-demand from now on",
                ),
                false => ("back_to_spot", "spot is below the threshold again"),
            };
            self.decisions.push(Decision {
                at_us: at.0,
                what,
                of: text(&flip.pool),
                because: format!(
                    "{because}: ${} an hour, on demand ${}",
                    dollars(flip.price.0),
                    dollars(flip.on_demand.0)
                ),
            });
        }
    }
}

fn launched(at: Time, buy: &Buy) -> Decision {
    let because = &buy.because;
    let instead = because
        .instead_of
        .as_ref()
        .map_or_else(String::new, |(pool, total, why)| {
            format!(
                "; not {} at ${} a thousand: {why:?}",
                text(pool),
                dollars(total.0)
            )
        });
    let capped = because
        .capped
        .map_or_else(String::new, |cap| format!("; capped by {cap:?}"));
    let first = buy.wanted.choices.first();
    Decision {
        at_us: at.0,
        what: "launch",
        of: first.map_or_else(String::new, |choice| text(&buy.wanted.pool(choice))),
        because: format!(
            "{} of {} machines, {} are there or come: {} of {} photos would miss {}; a machine is ready in {}; ${} a thousand{instead}{capped}",
            buy.wanted.count,
            because.machines,
            because.have,
            because.missing,
            because.photos,
            time(because.due.0 / SECOND * SECOND),
            duration(because.ready_in),
            dollars(because.chosen.0),
        ),
    }
}

fn went(at: Time, one: &LetGo) -> Decision {
    Decision {
        at_us: at.0,
        what: "let_go",
        of: one.machine.0.clone(),
        because: format!(
            "{:?}: idle for {}; worth keeping for {}",
            one.why,
            duration(one.idle),
            duration(one.keep)
        ),
    }
}

/// Millionths of USD as dollars.
pub fn dollars(micro: u64) -> String {
    format!("{}.{:04}", micro / 1_000_000, micro % 1_000_000 / 100)
}
