//! Commands: what was seen of machines. They run, are to be taken back, have ended; spot prices have changed.

use serde::{Deserialize, Serialize};

use super::buying::Started;
use super::launches::{Outcome, Wanted};
use super::machines::{EndWhy, Gone, Spare};
use super::ready::Ready;
use super::{Context, State};
use crate::bill::cost;
use crate::event::Fact;
use crate::limits::{BILLED_MIN, CLOUD_AHEAD_MAX, SIGHTINGS_PER_ENTRY_MAX};
use crate::plant::Plant;
use crate::reply::{Rejected, Reply};
use crate::types::{EnvId, InstanceId, LaunchId, Pool, Time, WorkerId};

/// One thing seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sighting {
    /// A machine with our tag that the state does not know; the launch is what its tag says, its place what the cloud says.
    Unknown {
        launch: LaunchId,
        pool: Pool,
        started: Started,
    },
    /// It runs, since then.
    Running { machine: InstanceId, since: Time },
    /// It has ended, or is no longer there; the cloud took it back, or not.
    Gone {
        machine: InstanceId,
        at: Time,
        reclaimed: bool,
    },
    /// The cloud said that it takes the machine back then.
    Noticed { machine: InstanceId, at: Time },
    /// It stands still since then, as the cloud says.
    Stopped { machine: InstanceId, at: Time },
    /// It was to start again, and the cloud had nothing for it, or stands still long after that.
    StartLacked { machine: InstanceId },
    /// A launch of which no answer came and no list shows more machines.
    Nothing { launch: LaunchId },
}

/// The latest instant that the cloud may tell when the cluster's clock says `at`: that clock stands still while nobody
/// leads, and is drawn back slowly.
pub(crate) fn by_cloud(at: Time) -> Time {
    Time(at.0.saturating_add(CLOUD_AHEAD_MAX))
}

impl State {
    pub(super) fn seen(&mut self, context: &mut Context, sightings: &[Sighting]) -> Result<Reply, Rejected> {
        for sighting in sightings.iter().take(SIGHTINGS_PER_ENTRY_MAX) {
            match sighting {
                Sighting::Unknown {
                    launch,
                    pool,
                    started,
                } => self.unknown(context, *launch, pool, started),
                Sighting::Running { machine, since } => self.running(context, machine, *since),
                Sighting::Gone {
                    machine,
                    at,
                    reclaimed,
                } => self.gone(context, machine, *at, *reclaimed),
                Sighting::Noticed { machine, at } => self.noticed(context, machine, *at),
                Sighting::Stopped { machine, at } => self.stopped(context, machine, *at),
                Sighting::StartLacked { machine } => self.start_lacked(context, machine),
                Sighting::Nothing { launch } => self.nothing(context, *launch),
            }
        }
        Ok(Reply::Done)
    }

    fn unknown(&mut self, context: &mut Context, launch: LaunchId, pool: &Pool, started: &Started) {
        let wanted = self.launches.get(launch).map(|launch| launch.wanted.clone());
        // Of a launch that is forgotten, or that never was: an orphan wherever it is.
        let wanted = wanted.unwrap_or_else(|| Wanted {
            region: pool.region.clone(),
            market: pool.market,
            choices: Vec::new(),
            count: 0,
            template: 0,
        });
        self.machine_known(context, launch, &wanted, started);
    }

    fn running(&mut self, context: &mut Context, id: &InstanceId, since: Time) {
        let at = context.at;
        self.pay_volume(id, since);
        let Some(machine) = self
            .machines
            .get_mut(id)
            .filter(|one| one.is_live() && one.running.is_none())
        else {
            return;
        };
        // What a list says of a time before it stopped is old.
        match machine.spare {
            // One that stood still may have been started by somebody else.
            Some(Spare::Starting(_, stopped) | Spare::Stopped(stopped, _)) if since > stopped => {
                machine.spare = None;
                machine.restarted = machine.restarted.or(Some(at));
            }
            Some(_) => return,
            None => {}
        }
        // The books are kept by the cloud's clock, which may be ahead of the cluster's, or behind its launch.
        let since = since.max(machine.wanted).min(by_cloud(at));
        machine.running = Some(since);
        machine.paid_to = since.max(machine.paid_to);
        context.tell(
            EnvId::default(),
            None,
            Fact::MachineRunning {
                machine: id.clone(),
                since,
            },
        );
    }

    fn gone(&mut self, context: &mut Context, id: &InstanceId, ended: Time, reclaimed: bool) {
        let Some(machine) = self.machines.get(id).filter(|one| one.is_live()).cloned() else {
            return;
        };
        let ended = ended
            .max(machine.running.unwrap_or(machine.known))
            .min(by_cloud(context.at));
        self.pay_volume(id, ended);
        if let Some(from) = machine.running {
            let least = Time(from.0.saturating_add(BILLED_MIN));
            self.pay(id, ended.max(least));
        }
        let how = match (machine.ending, reclaimed) {
            (_, true) => Gone::Reclaimed,
            (Some(_), false) => Gone::Ended,
            (None, false) => Gone::ByItself,
        };
        // One that was told of it counted then, whoever ended it.
        if how == Gone::Reclaimed && machine.notice.is_none() {
            self.taken(context, &machine.pool);
        }
        self.machines.end(id, how, ended);
        let paid = self.machines.get(id).map_or(0, |machine| machine.paid);
        context.tell(
            EnvId::default(),
            None,
            Fact::MachineGone {
                machine: id.clone(),
                how,
                paid,
            },
        );
    }

    /// What a machine has cost up to an instant is counted.
    pub(super) fn pay(&mut self, id: &InstanceId, to: Time) {
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        if machine.running.is_none() || to <= machine.paid_to {
            return;
        }
        let (from, ran) = (machine.paid_to, to.0 - machine.paid_to.0);
        let (money, at_most) = (cost(machine.price, ran), cost(machine.bound, ran));
        let pool = machine.pool.clone();
        machine.paid = machine.paid.saturating_add(money);
        machine.paid_to = to;
        self.spend.note(from, to, money, at_most);
        let record = self.pools.of(&pool, to);
        record.ran = record.ran.saturating_add(ran);
        record.paid = record.paid.saturating_add(money);
        record.at_most = record.at_most.saturating_add(at_most);
        if self.plant.is(Plant::SpendUnnoted) {
            self.spend.table.forget_change(&super::spend::hour_of(to));
        }
    }

    fn noticed(&mut self, context: &mut Context, id: &InstanceId, ends: Time) {
        let Some(machine) = self.machines.get_mut(id).filter(|one| one.is_live()) else {
            return;
        };
        let earlier = machine.notice.is_none_or(|before| ends < before);
        if !earlier {
            return;
        }
        let first = machine.notice.replace(ends).is_none();
        let worker = machine.joined.map(|(worker, _)| worker);
        let pool = machine.pool.clone();
        if first {
            self.taken(context, &pool);
        }
        context.tell(
            EnvId::default(),
            None,
            Fact::MachineNoticed {
                machine: id.clone(),
                ends,
            },
        );
        if let Some(worker) = worker.filter(|worker| self.workers.live(*worker).is_some()) {
            let _ = self.worker_drain(context, worker);
        }
    }

    fn nothing(&mut self, context: &mut Context, id: LaunchId) {
        let launch = self.launches.get(id).filter(|launch| launch.settled.is_none());
        let Some((got, of)) = launch.map(|launch| (launch.machines, launch.wanted.count)) else {
            return;
        };
        if self
            .launches
            .get(id)
            .is_some_and(|launch| context.at < launch.not_after)
        {
            return;
        }
        self.launches.settle(id, context.at, Outcome::Expired);
        let fact = Fact::LaunchSettled {
            launch: id,
            got,
            of,
            outcome: Outcome::Expired,
        };
        context.tell(EnvId::default(), None, fact);
    }

    /// A machine's agent has joined: the time that this took is its pool's experience.
    pub(super) fn machine_joined(&mut self, context: &mut Context, id: &InstanceId, worker: WorkerId) {
        let at = context.at;
        let Some(machine) = self.machines.get(id).filter(|one| one.is_live()).cloned() else {
            return;
        };
        self.machines.join(id, worker, at);
        if matches!(machine.spare, Some(Spare::Stopped(..) | Spare::Starting(..)))
            && let Some(machine) = self.machines.get_mut(id)
        {
            // Whoever started it: it runs.
            machine.spare = None;
            machine.restarted = machine.restarted.or(Some(at));
        }
        if machine.joined.is_none() {
            self.note_joined(&machine, at);
            let template = self
                .launches
                .get(machine.launch)
                .map_or(0, |launch| launch.wanted.template);
            let control = self.control.get_mut();
            control.proven = control.proven.max(template);
            control.never_joined = 0;
        }
        let stops = matches!(machine.spare, Some(Spare::Stopping(_)));
        if machine.ending.is_some() || machine.notice.is_some() || stops {
            let _ = self.worker_drain(context, worker);
        }
    }

    /// How long it took is its pool's experience.
    fn note_joined(&mut self, machine: &super::machines::Machine, at: Time) {
        if let Some(since) = machine.restarted {
            let took = at.0.saturating_sub(since.0);
            return self.pools.note_restart(&machine.pool, took, at);
        }
        let latest = at.max(machine.known);
        let runs = machine.running.unwrap_or(at).clamp(machine.known, latest);
        let ready = Ready {
            call: machine.known.0.saturating_sub(machine.wanted.0),
            pending: runs.0 - machine.known.0,
            boot: at.0.saturating_sub(runs.0),
        };
        self.pools.note_ready(&machine.pool, ready, at);
    }

    /// Running machines that never joined shall end.
    pub(super) fn never_joined(
        &mut self,
        context: &mut Context,
        ids: &[InstanceId],
    ) -> Result<Reply, Rejected> {
        let at = context.at;
        for id in ids {
            let is = |one: &&super::machines::Machine| {
                one.is_live() && one.joined.is_none() && one.ending.is_none()
            };
            let Some(machine) = self.machines.get(id).filter(is) else {
                continue;
            };
            let template = self
                .launches
                .get(machine.launch)
                .map_or(0, |launch| launch.wanted.template);
            self.end_machine(context, id, EndWhy::NeverJoined, at);
            self.count_never_joined(context, template);
        }
        Ok(Reply::Done)
    }

    fn count_never_joined(&mut self, context: &mut Context, template: u32) {
        use super::control::Brake;
        let at = context.at;
        let control = self.control.get_mut();
        if template != control.scaling.template {
            return;
        }
        control.never_joined += 1;
        let machines = control.never_joined;
        if machines >= control.scaling.brakes.never_joined && control.brake.is_none() {
            let brake = Brake::NeverJoined { template, machines };
            control.brake = Some((brake, at));
            context.tell(EnvId::default(), None, Fact::Braked { brake });
        }
    }
}
