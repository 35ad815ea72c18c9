//! Machines that the cluster has bought, from the moment it knows of them until long after they have ended. What they
//! cost is counted here, second by second.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bill::cost;
use crate::limits::{BILLED_MIN, MACHINES_GONE_KEPT};
use crate::table::Table;
use crate::types::{InstanceId, LaunchId, Market, MicroUsd, Pool, Time, WorkerId};

/// Why a machine shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EndWhy {
    /// Nothing to do for so long that keeping it costs more than it is likely to save.
    Idle,
    /// Another one takes its place for less money.
    TooDear,
    /// The spending cap.
    Cap,
    /// It never joined.
    NeverJoined,
    /// Its agent got nothing new, and what it had is done.
    Drained,
    /// Its agent said good-bye.
    Left,
    /// Its agent was lost and has not come back.
    Silent,
    /// No launch of this cluster accounts for it.
    Orphan,
    /// A person said so.
    Asked,
    /// It was kept for a burst, and is so no longer.
    Spare,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Gone {
    /// The cluster ended it.
    Ended,
    /// EC2 took it back.
    Reclaimed,
    /// It ended by itself, or somebody else ended it.
    ByItself,
}

/// Where a machine is that is kept for a burst without running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Spare {
    /// It shall stop, since then.
    Stopping(Time),
    /// It has stopped then, as the cloud says, and costs so many millionths of USD an hour.
    Stopped(Time, MicroUsd),
    /// It shall start again, since then; it had stopped then, as the cloud says.
    Starting(Time, Time),
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it came of; of an orphan the launch that its tag names.
    pub launch: LaunchId,
    /// Where it is and how it was bought.
    pub pool: Pool,
    /// vCPUs, as quotas count them.
    pub vcpus: u32,
    /// The most that it can come to cost an hour.
    pub bound: MicroUsd,
    /// USD an hour in millionths, as it is now.
    pub price: MicroUsd,
    /// Since when: from the market's clock, so that what is noted late is paid for from when it was in force.
    pub priced: Time,
    /// When its launch was committed.
    pub wanted: Time,
    /// When the cluster first knew of it.
    pub known: Time,
    /// Since when it runs, as the cloud says: from here on it is billed.
    pub running: Option<Time>,
    /// Its agent's session, and when that joined.
    pub joined: Option<(WorkerId, Time)>,
    /// When it was first given photos since it runs.
    pub first_given: Option<Time>,
    /// When the first results of these were recorded.
    pub first_result: Option<Time>,
    /// EC2 said that it takes the machine back at this time.
    pub notice: Option<Time>,
    /// It shall end: why, and since when.
    pub ending: Option<(EndWhy, Time)>,
    /// It does not run, by the cluster's own will; none: it does, or will.
    pub spare: Option<Spare>,
    /// When it last stopped, as the cloud says.
    pub stopped: Option<Time>,
    /// When its last start from standstill was committed, if there was one.
    pub restarted: Option<Time>,
    /// It has ended: how, and when.
    pub gone: Option<(Gone, Time)>,
    /// Millionths of USD up to `paid_to`.
    pub paid: u64,
    /// See `paid`.
    pub paid_to: Time,
}

impl Machine {
    /// True until it has ended.
    pub fn is_live(&self) -> bool {
        self.gone.is_none()
    }

    /// True when no launch accounts for it.
    pub fn is_orphan(&self) -> bool {
        matches!(self.ending, Some((EndWhy::Orphan, _)))
    }

    /// True while it may work, or come to.
    pub fn is_useful(&self) -> bool {
        self.gone.is_none() && self.ending.is_none() && self.notice.is_none() && !self.rests()
    }

    /// True while it does not run, or is about to stop: it counts for no vCPUs and no work.
    pub fn rests(&self) -> bool {
        matches!(self.spare, Some(Spare::Stopping(_) | Spare::Stopped(..)))
    }

    /// True when it has stopped and may be started again.
    pub fn is_stopped(&self) -> bool {
        matches!(self.spare, Some(Spare::Stopped(..))) && self.ending.is_none() && self.is_live()
    }

    /// Millionths of USD that it costs from `paid_to` to an instant.
    pub fn unpaid(&self, at: Time) -> u64 {
        let ran = at.0.saturating_sub(self.paid_to.0);
        match (self.gone, self.running, self.spare) {
            (None, Some(_), _) => cost(self.price, ran),
            (None, None, Some(Spare::Stopped(_, volume))) => cost(volume, ran),
            _ => 0,
        }
    }

    /// The end of the shortest time that is billed.
    pub fn paid_for_until(&self) -> Time {
        Time(self.running.unwrap_or(self.known).0.saturating_add(BILLED_MIN))
    }
}

/// All machines.
pub struct Machines {
    pub(crate) table: Table<InstanceId, Machine>,
    live: BTreeSet<InstanceId>,
    /// Those that have ended, by when.
    ended: BTreeSet<(Time, InstanceId)>,
    workers: BTreeMap<WorkerId, InstanceId>,
}

impl Machines {
    pub(crate) fn new(number: u8) -> Self {
        Machines {
            table: Table::new(number),
            live: BTreeSet::new(),
            ended: BTreeSet::new(),
            workers: BTreeMap::new(),
        }
    }

    /// One machine, if it is remembered.
    pub fn get(&self, id: &InstanceId) -> Option<&Machine> {
        self.table.get(id)
    }

    /// The machine of a session.
    pub fn of_worker(&self, worker: WorkerId) -> Option<(&InstanceId, &Machine)> {
        let id = self.workers.get(&worker)?;
        Some((id, self.table.get(id)?))
    }

    /// All that are remembered, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceId, &Machine)> {
        self.table.iter()
    }

    /// Those that have not ended, by id.
    pub fn live(&self) -> impl Iterator<Item = (&InstanceId, &Machine)> {
        self.live
            .iter()
            .map(|id| (id, self.table.get(id).expect("indexed")))
    }

    /// Those remembered that have ended since then, the earliest first.
    pub fn ended_since(&self, from: Time) -> impl Iterator<Item = (&InstanceId, &Machine)> {
        let since = self.ended.range((from, InstanceId(String::new()))..);
        since.map(|(_, id)| (id, self.table.get(id).expect("indexed")))
    }

    /// How many have not ended.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn insert(&mut self, id: InstanceId, machine: Machine) {
        self.live.insert(id.clone());
        self.table.insert(id, machine);
    }

    /// A machine to change; not its end, nor its session.
    pub(crate) fn get_mut(&mut self, id: &InstanceId) -> Option<&mut Machine> {
        self.table.get_mut(id)
    }

    /// Its agent joined.
    pub(crate) fn join(&mut self, id: &InstanceId, worker: WorkerId, at: Time) {
        let machine = self.table.get_mut(id).expect("just found");
        if let Some((before, _)) = machine.joined.replace((worker, at)) {
            self.workers.remove(&before);
        }
        self.workers.insert(worker, id.clone());
    }

    /// It has stopped: its agent's session is none of it any more.
    pub(crate) fn unjoin(&mut self, id: &InstanceId) {
        let machine = self.table.get_mut(id).expect("just found");
        if let Some((worker, _)) = machine.joined.take() {
            self.workers.remove(&worker);
        }
        (machine.first_given, machine.first_result) = (None, None);
    }

    /// It has ended. The oldest that have are forgotten, beyond what is kept.
    pub(crate) fn end(&mut self, id: &InstanceId, how: Gone, at: Time) {
        let machine = self.table.get_mut(id).expect("just found");
        machine.gone = Some((how, at));
        self.live.remove(id);
        self.ended.insert((at, id.clone()));
        if self.ended.len() > MACHINES_GONE_KEPT
            && let Some((_, oldest)) = self.ended.pop_first()
        {
            let gone = self.table.remove(&oldest).expect("indexed");
            gone.joined.map(|(worker, _)| self.workers.remove(&worker));
        }
    }

    pub(crate) fn reindex(&mut self) {
        (self.live, self.ended, self.workers) = self.indexes();
    }

    #[allow(clippy::type_complexity)]
    fn indexes(
        &self,
    ) -> (
        BTreeSet<InstanceId>,
        BTreeSet<(Time, InstanceId)>,
        BTreeMap<WorkerId, InstanceId>,
    ) {
        let live = self.table.iter().filter(|(_, machine)| machine.is_live());
        let ended = self
            .table
            .iter()
            .filter_map(|(id, machine)| Some((machine.gone?.1, id.clone())));
        let workers = self
            .table
            .iter()
            .filter_map(|(id, machine)| Some((machine.joined?.0, id.clone())));
        (
            live.map(|(id, _)| id.clone()).collect(),
            ended.collect(),
            workers.collect(),
        )
    }

    pub(crate) fn check(&self) {
        self.table.check();
        let (live, ended, workers) = self.indexes();
        assert!(
            live == self.live && ended == self.ended && workers == self.workers,
            "indexes of machines"
        );
        for (id, machine) in self.table.iter() {
            assert!(id.is_sound() && machine.price <= machine.bound, "machine {id}");
            assert!(machine.wanted <= machine.known, "machine {id}");
            assert!(
                machine.running.is_some()
                    || machine.paid == 0
                    || machine.restarted.is_some()
                    || machine.spare.is_some(),
                "machine {id} is paid for and never ran"
            );
            assert!(
                machine.spare.is_none() || machine.pool.market == Market::OnDemand,
                "machine {id} rests and is not on demand"
            );
            assert!(
                !machine.is_stopped() || machine.joined.is_none() && machine.running.is_none(),
                "machine {id} has stopped and works"
            );
            assert!(
                machine.running.is_none_or(|from| machine.paid_to >= from),
                "machine {id}"
            );
        }
    }
}
