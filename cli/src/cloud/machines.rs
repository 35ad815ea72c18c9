//! The lives of machines: pending, booted, told to go, gone.

use std::sync::Arc;

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::types::{InstanceId, Market, MicroUsd, Pool, SECOND, Time};
use rebound_pricer::catalogue::Catalogue;
use rebound_sim::play::played::NOTICE;
use rebound_sim::play::slots;
use tokio::sync::Notify;

use super::{Inside, LocalCloud, What, crossings};
use crate::local::{Place, Process};

/// What a machine has besides what the cloud's list says.
pub(crate) struct Host {
    /// Rings when it was ended by a call.
    pub ended: Arc<Notify>,
    /// It will be taken back: the real time, in µs since 1970.
    pub notice: Option<u64>,
    /// Its agent.
    pub agent: Option<Process>,
    /// When its agent's process was to start, and when it did, by the market's clock.
    pub started: Option<(Time, Time)>,
    /// It stood still and was started: when it runs, by the market's clock.
    pub starts: Option<Time>,
}

impl LocalCloud {
    /// What comes of a call.
    pub(crate) fn call(&self, call: &CloudCall) -> CloudOutcome {
        // Under the lock, so that calls come in the order of their times.
        let mut inside = self.lock();
        let now = self.clock.now();
        for (pool, steps) in &self.played.spot {
            let behind = steps.partition_point(|step| step.at <= now);
            if let Some(step) = behind.checked_sub(1).and_then(|at| steps.get(at)) {
                inside.sim.prices.insert(pool.clone(), step.price);
            }
        }
        let before: Vec<InstanceId> = inside.sim.instances.keys().cloned().collect();
        let outcome = inside.sim.call(now.0, call, Time);
        match call {
            CloudCall::Launch { wanted, launch, .. } => {
                inside.calls += 1;
                inside.wanted.insert(*launch, wanted.count);
                let live = inside.sim.on().fold((0, 0), |(machines, vcpus), (_, one)| {
                    (machines + 1, vcpus + u64::from(one.vcpus))
                });
                inside.most = (inside.most.0.max(live.0), inside.most.1.max(live.1));
                let got = match &outcome {
                    CloudOutcome::Launched { started, .. } => started.len(),
                    _ => 0,
                };
                let pool = wanted.choices.first().map(|choice| wanted.pool(choice));
                let note = format!("launch {launch}: {got} of {}", wanted.count);
                inside.tell(now, What::Launch, &InstanceId(String::new()), pool.as_ref(), note);
            }
            CloudCall::Terminate { machines, .. } => {
                for id in machines {
                    let ended = inside.sim.instances.get(id).and_then(|one| one.ended);
                    if let Some(host) = inside.hosts.get(id).filter(|_| ended.is_some()) {
                        host.ended.notify_one();
                    }
                }
            }
            CloudCall::Stop { machines, .. } => {
                for id in machines {
                    self.stops(&mut inside, id, now);
                }
            }
            CloudCall::Start { machine, .. } => self.starts(&mut inside, machine, now, &outcome),
            CloudCall::List { .. } => {}
        }
        let new: Vec<(InstanceId, Pool, u64)> = inside
            .sim
            .instances
            .iter()
            .filter(|(id, _)| !before.contains(id))
            .map(|(id, one)| (id.clone(), one.pool.clone(), one.runs))
            .collect();
        for (id, pool, runs) in new {
            let (from, to) = self.machines.boot;
            let boots = Time(runs + inside.rng.within(from, to));
            let ended = Arc::new(Notify::new());
            let host = Host {
                ended: ended.clone(),
                notice: None,
                agent: None,
                started: None,
                starts: None,
            };
            inside.hosts.insert(id.clone(), host);
            inside.tell(now, What::Pending, &id, Some(&pool), String::new());
            tokio::spawn(self.clone().life(id, pool, Time(runs), boots, ended));
        }
        outcome
    }

    /// It stands still from now on: its agent is told to end.
    fn stops(&self, inside: &mut Inside, id: &InstanceId, now: Time) {
        let Some(one) = inside
            .sim
            .instances
            .get(id)
            .filter(|one| one.stopped == Some(now.0))
        else {
            return;
        };
        let pool = one.pool.clone();
        inside.tell(now, What::Stopped, id, Some(&pool), String::new());
        if let Some(agent) = inside.hosts.get_mut(id).and_then(|host| host.agent.take()) {
            agent.ask_to_end();
            tokio::task::spawn_blocking(move || agent.wait());
        }
    }

    /// It starts again, if there is one of its kind: what it needs is on its volume, so that it boots in a third of the time.
    fn starts(&self, inside: &mut Inside, id: &InstanceId, now: Time, outcome: &CloudOutcome) {
        let Some(one) = inside.sim.instances.get(id) else {
            return;
        };
        let (pool, runs) = (one.pool.clone(), Time(one.runs));
        let note = match outcome {
            CloudOutcome::Accepted if one.is_on() && runs > now => "",
            CloudOutcome::Lacked => "no machine of its kind",
            _ => return,
        };
        let known = inside.hosts.get(id).and_then(|host| host.starts);
        if note.is_empty() && known == Some(runs) {
            return;
        }
        inside.tell(now, What::Started, id, Some(&pool), note.to_owned());
        if !note.is_empty() {
            return;
        }
        let (from, to) = self.machines.boot;
        let boots = Time(runs.0 + inside.rng.within(from / 3, to / 3));
        if let Some(host) = inside.hosts.get_mut(id) {
            host.starts = Some(runs);
        }
        let (cloud, id, mut stop) = (self.clone(), id.clone(), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cloud.clock.reach(boots) => cloud.boots(&id, &pool, boots),
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }

    /// One machine, from its launch to its end.
    async fn life(self, id: InstanceId, pool: Pool, runs: Time, boots: Time, ended: Arc<Notify>) {
        let mut stop = self.stop.clone();
        let bound = self
            .played
            .on_demand
            .get(&spot(&pool))
            .copied()
            .unwrap_or(MicroUsd(u64::MAX));
        // EC2 gives its notice when the price has passed the bound; the machine goes two minutes later.
        let outbid = self.played.outbid(&pool, bound, runs);
        let mut taken_at = outbid.map(|at| Time(at.0.saturating_add(NOTICE)));
        let (mut booted, mut noticed) = (false, false);
        loop {
            let next = [
                (!booted).then_some(boots),
                outbid.filter(|_| !noticed),
                taken_at.filter(|_| noticed),
            ];
            let next = next.into_iter().flatten().min();
            let wait = async {
                match next {
                    Some(at) => self.clock.reach(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = ended.notified() => return self.ends(&id, &pool, taken_at.filter(|_| noticed)),
                _ = stop.wait_for(|stop| *stop) => return,
                () = wait => {}
            }
            let now = self.clock.now();
            if noticed && taken_at.is_some_and(|at| at <= now) {
                return self.takes(&id, &pool);
            }
            if !noticed && outbid.is_some_and(|at| at <= now) {
                noticed = true;
                let at = Time(now.0.max(runs.0).saturating_add(NOTICE));
                taken_at = Some(at);
                self.notices(&id, &pool, at);
            }
            if !booted && boots <= now {
                booted = true;
                self.boots(&id, &pool, boots);
            }
        }
    }

    fn boots(&self, id: &InstanceId, pool: &Pool, planned: Time) {
        {
            // One that was stopped or ended meanwhile does not, nor one that has booted.
            let inside = self.lock();
            let on = inside.sim.instances.get(id).is_some_and(|one| one.is_on());
            let booted = inside.hosts.get(id).is_some_and(|host| host.agent.is_some());
            if !on || booted {
                return;
            }
        }
        let started = self.start_agent(id, pool);
        let now = self.clock.now();
        let mut inside = self.lock();
        match started {
            Ok(agent) => {
                inside.tell(now, What::Booted, id, Some(pool), String::new());
                if let Some(host) = inside.hosts.get_mut(id) {
                    host.agent = Some(agent);
                    host.started = Some((planned, now));
                }
            }
            // A machine whose agent does not come up is what a cluster must be able to live with.
            Err(error) => inside.tell(now, What::Booted, id, Some(pool), format!("no agent: {error}")),
        }
    }

    fn start_agent(&self, id: &InstanceId, pool: &Pool) -> Result<Process, String> {
        let catalogue = Catalogue::built_in().map_err(|error| error.to_string())?;
        let (facts, slots) = slots(&catalogue, &pool.instance_type)
            .ok_or_else(|| format!("{} is no type that is known", pool.instance_type))?;
        let machines = &self.machines;
        let data = machines.dir.join(&id.0);
        let market = rebound_pricer::pool::market_text(pool.market);
        let place = format!("{}/{}/{}/{market}", pool.region, pool.zone_id, pool.instance_type);
        let imds = format!("http://{}/machines/{}/", self.address, id.0);
        let flags = [
            ("--server", machines.servers.clone()),
            ("--name", id.0.clone()),
            ("--slots", slots.to_string()),
            ("--data-dir", data.display().to_string()),
            ("--pool", place),
            ("--imds", imds),
            ("--milli-cpu", facts.vcpu.saturating_mul(1_000).to_string()),
            ("--memory-mib", facts.memory_mib.to_string()),
            (
                "--noop-us",
                (machines.photo_us / self.clock.rate()).max(1).to_string(),
            ),
            ("--clock-rate", self.clock.rate().to_string()),
            ("--log", "warn".to_owned()),
        ];
        let mut args = vec!["run".to_owned()];
        args.extend(
            flags
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value]),
        );
        let log = data.with_extension("log");
        Process::start(&machines.program, &args, &log, &Place::default()).map_err(|error| error.to_string())
    }

    /// The machine's metadata service says from now on that it goes then.
    pub(crate) fn notices(&self, id: &InstanceId, pool: &Pool, at: Time) {
        let (now, real) = (self.clock.now(), self.clock.real_at(at));
        let mut inside = self.lock();
        if let Some(host) = inside.hosts.get_mut(id) {
            host.notice = Some(real);
        }
        let note = format!("in {} s", at.0.saturating_sub(now.0) / SECOND);
        inside.tell(now, What::Notice, id, Some(pool), note);
    }

    /// EC2 takes it: nothing on it ends in order.
    pub(crate) fn takes(&self, id: &InstanceId, pool: &Pool) {
        let now = self.clock.now();
        let mut inside = self.lock();
        inside.sim.reclaim(now.0, id);
        inside.tell(now, What::Taken, id, Some(pool), String::new());
        let agent = inside.hosts.get_mut(id).and_then(|host| host.agent.take());
        drop(inside);
        if let Some(agent) = agent {
            tokio::task::spawn_blocking(move || agent.kill());
        }
    }

    /// It was ended by a call; one that had its notice was given back a little early.
    fn ends(&self, id: &InstanceId, pool: &Pool, taken_at: Option<Time>) {
        let now = self.clock.now();
        let mut inside = self.lock();
        let note = taken_at.map_or_else(String::new, |_| "before it was taken back".to_owned());
        inside.tell(now, What::Ended, id, Some(pool), note);
        let agent = inside.hosts.get_mut(id).and_then(|host| host.agent.take());
        drop(inside);
        if let Some(agent) = agent {
            agent.ask_to_end();
            tokio::task::spawn_blocking(move || agent.wait());
        }
    }

    /// Plays what happens to pools: crossings are told, and lost capacity takes machines.
    pub(crate) async fn play(self) {
        let mut stop = self.stop.clone();
        let from = self.clock.now();
        let mut all: Vec<(Time, Step)> = Vec::new();
        for (at, pool, over) in crossings(&self.played, from, self.played.span.1) {
            all.push((at, Step::Crossing(pool, over)));
        }
        for (pool, rooms) in &self.played.rooms {
            all.extend(
                rooms
                    .iter()
                    .map(|(at, room)| (*at, Step::Room(pool.clone(), *room))),
            );
        }
        all.sort_by_key(|(at, _)| *at);
        for (at, step) in all {
            tokio::select! {
                () = self.clock.reach(at) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            match step {
                Step::Crossing(pool, over) => {
                    let note = if over { "over on-demand" } else { "below on-demand" };
                    let nobody = InstanceId(String::new());
                    self.lock()
                        .tell(at, What::Crossing, &nobody, Some(&pool), note.to_owned());
                }
                Step::Room(pool, room) => self.has_room(&pool, room),
            }
        }
    }

    /// A pool has so many machines from now on: those that it has more are told to go.
    fn has_room(&self, pool: &Pool, room: u32) {
        let mut inside = self.lock();
        inside.sim.rooms.insert(pool.clone(), room);
        let mut there: Vec<InstanceId> = inside
            .sim
            .live()
            .filter(|(id, one)| {
                one.pool == *pool && inside.hosts.get(id).is_some_and(|host| host.notice.is_none())
            })
            .map(|(id, _)| id.clone())
            .collect();
        let mut lost = Vec::new();
        while there.len() > room as usize {
            let at = inside.rng.within(0, there.len() as u64 - 1) as usize;
            lost.push(there.swap_remove(at));
        }
        drop(inside);
        let at = Time(self.clock.now().0.saturating_add(NOTICE));
        for id in lost {
            self.notices(&id, pool, at);
            let (cloud, pool) = (self.clone(), pool.clone());
            tokio::spawn(async move {
                cloud.clock.reach(at).await;
                cloud.takes(&id, &pool);
            });
        }
    }

    /// Ends all agents that are left.
    pub(crate) async fn end_all(&self) {
        let agents: Vec<Process> = {
            let mut inside = self.lock();
            inside
                .hosts
                .values_mut()
                .filter_map(|host| host.agent.take())
                .collect()
        };
        let ended = tokio::task::spawn_blocking(move || {
            agents.iter().for_each(Process::ask_to_end);
            agents.into_iter().for_each(|agent| {
                agent.wait();
            });
        });
        let _ = ended.await;
    }

    /// How late agents' processes started, in µs of the market.
    pub fn boot_errors(&self) -> Vec<u64> {
        let inside = self.lock();
        let late = |host: &Host| host.started.map(|(planned, at)| at.0.saturating_sub(planned.0));
        inside.hosts.values().filter_map(late).collect()
    }
}

enum Step {
    Crossing(Pool, bool),
    Room(Pool, u32),
}

fn spot(pool: &Pool) -> Pool {
    Pool {
        market: Market::Spot,
        ..pool.clone()
    }
}
