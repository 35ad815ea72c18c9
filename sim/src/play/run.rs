//! Plays a scenario: one queue of happenings, one replica that hears of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::command::{Command, Deadline, Join, Open, Spec};
use rebound_core::event::{Event, Fact};
use rebound_core::io::{Answer, Input, Output, Question, Request};
use rebound_core::plan::plan;
use rebound_core::plant::Plant;
use rebound_core::replica::{Config, Election, Recovered, Replica};
use rebound_core::reply::{Refused, Reply};
use rebound_core::scaling::Scaling;
use rebound_core::state::State;
use rebound_core::state::members::Founder;
use rebound_core::types::*;
use rebound_pricer::catalogue::Catalogue;
use rebound_pricer::experience::Experience;
use rebound_pricer::health::Told;
use rebound_pricer::teller::Teller;

mod machines;
mod notices;

use super::bill::cost;
use super::hand::Hand;
use super::{Aged, Outcome, PlayedError, RECOGNISER, Scenario, beforehand, slots};
use crate::cloud::SimCloud;
use crate::rng::Rng;

/// The cluster comes up so long before the first photo may come, in µs.
const START: u64 = 5 * SECOND;
/// Prices are told again so often, in µs, though they did not change.
const TOLD_EVERY: u64 = 60 * SECOND;
/// After the last photo all may take so long to be done and gone, in µs.
const DONE_WITHIN: u64 = 4 * 3_600 * SECOND;
/// While nothing is there the replica is woken only so often, in µs: nights are long.
const IDLE_STEP: u64 = 250 * MILLISECOND;
/// Most events of one moment: beyond, something goes in circles.
const ROUNDS_MAX: usize = 100_000;

/// What can happen.
enum Happening {
    /// The wave, the first photo of it, and when it was first asked.
    Submit(usize, u64, Option<u64>),
    Prices,
    Room(Pool, u32),
    Called(CallId, Box<CloudCall>),
    Answered(CallId, Box<CloudOutcome>),
    Boots(InstanceId),
    Hand(usize),
    Noticed(InstanceId, u64),
    Taken(InstanceId),
}

struct Job {
    wave: usize,
    at: u64,
    due: u64,
    left: u64,
    late: u64,
}

enum Asker {
    Steer,
    Submit(usize, u64, u64),
    Hand(usize),
}

/// See the module.
pub struct Play<'a> {
    scenario: &'a Scenario,
    begun: u64,
    now: u64,
    replica: Replica,
    teller: Teller,
    cloud: SimCloud,
    catalogue: Catalogue,
    queue: BTreeMap<(u64, u64), Happening>,
    number: u64,
    inputs: Vec<Input>,
    asks: BTreeMap<AskId, Asker>,
    hands: Vec<Hand>,
    of_machine: BTreeMap<InstanceId, usize>,
    of_worker: BTreeMap<WorkerId, usize>,
    jobs: BTreeMap<JobId, Job>,
    open: u64,
    ages: BTreeMap<u64, u64>,
    /// What was told of each pool's prices.
    told: BTreeMap<Pool, usize>,
    steered: bool,
    /// Nothing is kept for a burst any more.
    released: bool,
    rng: Rng,
    outcome: Outcome,
    first_submit: Option<u64>,
    interrupted: BTreeSet<InstanceId>,
    /// When each machine that was started again runs.
    starting: BTreeMap<InstanceId, u64>,
    notices: notices::Notices,
}

/// Ages are counted by steps of so many µs.
const AGE_STEP: u64 = 10 * MILLISECOND;

impl<'a> Play<'a> {
    pub fn new(scenario: &'a Scenario) -> Result<Play<'a>, PlayedError> {
        let begun = scenario.from.0.saturating_sub(START);
        let broken = |error: rebound_pricer::error::FileError| PlayedError(error.to_string());
        let mut teller = Teller::new(beforehand(&scenario.market, scenario.photo)?).map_err(broken)?;
        teller.wants(RECOGNISER, &Resources::default());
        let rng = Rng::new(scenario.seed);
        let mut play = Play {
            scenario,
            begun,
            now: begun,
            replica: replica(begun, scenario.seed),
            teller,
            cloud: SimCloud::new(scenario.nature.clone(), rng.branch("cloud")),
            catalogue: Catalogue::built_in().map_err(broken)?,
            queue: BTreeMap::new(),
            number: 0,
            inputs: Vec::new(),
            asks: BTreeMap::new(),
            hands: Vec::new(),
            of_machine: BTreeMap::new(),
            of_worker: BTreeMap::new(),
            jobs: BTreeMap::new(),
            open: 0,
            ages: BTreeMap::new(),
            told: BTreeMap::new(),
            steered: false,
            released: false,
            rng: rng.branch("machines"),
            outcome: Outcome::default(),
            first_submit: None,
            interrupted: BTreeSet::new(),
            starting: BTreeMap::new(),
            notices: notices::Notices::default(),
        };
        let spares = scenario.policy.spares.as_ref();
        play.cloud.volume = MicroUsd(spares.map_or(0, |spares| spares.volume));
        play.begin();
        Ok(play)
    }

    fn begin(&mut self) {
        self.outcome.late_by_wave = vec![0; self.scenario.waves.len()];
        for (wave, one) in self.scenario.waves.iter().enumerate() {
            let jobs = one.photos.div_ceil(self.scenario.photos_per_job.max(1));
            for job in 0..jobs {
                let first = job * self.scenario.photos_per_job;
                self.open += 1;
                self.at(
                    one.at.0 + one.over * first / one.photos,
                    Happening::Submit(wave, first, None),
                );
            }
        }
        let (from, until) = (self.begun, self.scenario.until.0 + DONE_WITHIN);
        let mut changes: BTreeSet<u64> = (from..until).step_by(TOLD_EVERY as usize).collect();
        for steps in self.scenario.market.spot.values() {
            let within = steps
                .iter()
                .map(|step| step.at.0)
                .filter(|at| (from..until).contains(at));
            changes.extend(within);
        }
        for at in changes {
            self.at(at, Happening::Prices);
        }
        let rooms = self.scenario.market.rooms.clone();
        for (pool, steps) in rooms {
            for (at, room) in steps {
                self.at(at.0.max(from), Happening::Room(pool.clone(), room));
            }
        }
    }

    fn at(&mut self, at: u64, what: Happening) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), what);
    }

    /// Until all is done and nothing is left, or it takes too long.
    pub fn run(mut self) -> Result<Outcome, PlayedError> {
        let latest = self.scenario.until.0 + DONE_WITHIN;
        while self.now < latest && !self.is_over() {
            let mut wake = self.begun + self.replica.wake_at().0;
            if self.is_idle() {
                wake = wake.max(self.now + IDLE_STEP);
            }
            let next = self.queue.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            self.now = wake.min(next).max(self.now);
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let what = entry.remove();
                self.happens(what);
            }
            self.handle();
            self.times_notices();
            self.keeps_nothing();
        }
        Ok(self.sum_up())
    }

    /// When all is done nobody waits for another burst.
    fn keeps_nothing(&mut self) {
        let over = self.now > self.scenario.until.0 && self.open == 0;
        if !over || self.released || self.scenario.policy.spares.is_none() {
            return;
        }
        self.released = true;
        self.steer(Scaling {
            spares: None,
            ..self.scenario.policy.clone()
        });
    }

    fn steer(&mut self, scaling: Scaling) {
        let command = Command::Steer {
            scaling: Box::new(scaling),
            check: None,
        };
        self.ask(Asker::Steer, Request::Steer(Box::new(command)));
    }

    /// Nothing is there and nothing is on its way.
    fn is_idle(&self) -> bool {
        let state = self.replica.state();
        self.steered
            && self.inputs.is_empty()
            && self.jobs.is_empty()
            && self.asks.is_empty()
            && state.machines.live_count() == 0
            && state.launches.live_count() == 0
    }

    fn is_over(&self) -> bool {
        self.now > self.scenario.until.0
            && self.open == 0
            && self.cloud.live().next().is_none()
            && self.replica.state().launches.live_count() == 0
    }

    fn handle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mono = Mono(self.now - self.begun);
            if self.inputs.is_empty() && self.replica.wake_at() > mono {
                return;
            }
            let now = Now {
                mono,
                wall: Time(self.now),
            };
            let inputs = std::mem::take(&mut self.inputs);
            let out = self.replica.handle(now, &mut inputs.into_iter());
            self.take(out);
        }
        panic!("the replica does not come to rest");
    }

    fn take(&mut self, out: Output) {
        if let Some(persist) = out.persist.filter(|persist| persist.id != PersistId(0)) {
            self.inputs.push(Input::Persisted(persist.id));
        }
        if let Some(seen) = out.plan {
            let plan = plan(&rebound_core::plan::Policy::default(), &seen);
            self.inputs.push(Input::Planned(plan));
        }
        for (ask, answer) in out.replies {
            self.answered(ask, answer);
        }
        for (worker, desired) in out.desired {
            if let Some(at) = self.of_worker.get(&worker).copied() {
                self.hands[at].told(desired);
                self.hand_works(at);
            }
        }
        for worker in out.hang_up {
            // Its session has ended: it joins again.
            if let Some(at) = self.of_worker.remove(&worker) {
                self.hands[at].session = None;
                self.joins(at);
            }
        }
        for (id, call) in out.calls {
            let way = self.cloud.way();
            self.at(self.now + way, Happening::Called(id, Box::new(call)));
        }
        for event in out.events {
            self.note(event);
        }
        if !self.steered && self.replica.status().ready {
            self.steered = true;
            self.steer(self.scenario.policy.clone());
            self.tell_prices();
        }
    }

    fn ask(&mut self, asker: Asker, request: Request) {
        self.number += 1;
        let ask = AskId(self.number);
        self.asks.insert(ask, asker);
        let question = Question {
            ask,
            by: Caller {
                environment: "default".into(),
                actor: "planner".into(),
            },
            trace: TraceId::default(),
            timeout: 0,
            request,
        };
        self.inputs.push(Input::Client(Box::new(question)));
    }

    fn answered(&mut self, ask: AskId, answer: Result<Answer, Refused>) {
        match (self.asks.remove(&ask), answer) {
            (
                Some(Asker::Submit(wave, first, at)),
                Ok(Answer::Applied {
                    reply: Reply::Opened { job, .. },
                    ..
                }),
            ) => {
                let one = Job {
                    wave,
                    at,
                    due: at + self.scenario.deadline,
                    left: self.photos_of(wave, first),
                    late: 0,
                };
                self.jobs.insert(job, one);
            }
            (Some(Asker::Hand(at)), Ok(Answer::Welcome { worker, .. })) => {
                self.hands[at].welcome(worker, self.now);
                self.of_worker.insert(worker, at);
                self.repeats_notice(at, worker);
                self.hand_works(at);
            }
            (Some(Asker::Hand(at)), _) => self.joins(at),
            (Some(Asker::Submit(wave, first, at)), Err(refused)) => {
                // As clients do: again, a little later.
                let after = match &refused {
                    Refused::Overloaded { retry_after, .. } => *retry_after,
                    Refused::Rejected(rejected) => panic!("a submit was rejected: {rejected}"),
                    _ => SECOND,
                };
                self.outcome.submits_refused += 1;
                self.at(self.now + after.max(1), Happening::Submit(wave, first, Some(at)));
            }
            _ => {}
        }
    }

    fn joins(&mut self, at: usize) {
        let hand = &self.hands[at];
        let Some(instance) = self
            .cloud
            .instances
            .get(&hand.machine)
            .filter(|one| one.is_live() && !hand.over)
        else {
            return;
        };
        let Some((facts, slots)) = slots(&self.catalogue, &instance.pool.instance_type) else {
            return;
        };
        let join = Join {
            name: hand.machine.0.clone(),
            nonce: at as u64 + 1,
            slots,
            resources: Resources {
                milli_cpu: facts.vcpu.saturating_mul(1_000),
                memory_mib: facts.memory_mib,
                gpus: facts.gpus,
            },
            pool: instance.pool.clone(),
            recognisers: vec![Recogniser {
                name: RECOGNISER.into(),
                digest: Vec::new(),
            }],
            version: "play".into(),
        };
        let join = Box::new(join);
        self.ask(Asker::Hand(at), Request::Hello { join, session: None });
    }

    fn hand_works(&mut self, at: usize) {
        let now = self.now;
        let hand = &mut self.hands[at];
        let says = hand.work(now);
        let (wake, session) = (hand.wake, hand.session);
        if let Some(worker) = session {
            let spoken = says.into_iter().map(|report| Input::Worker { worker, report });
            self.inputs.extend(spoken);
        }
        if wake < u64::MAX {
            self.at(wake, Happening::Hand(at));
        }
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Submit(wave, first, asked) => self.submits(wave, first, asked),
            Happening::Prices => self.tell_prices(),
            Happening::Room(pool, room) => self.has_room(pool, room),
            Happening::Called(id, call) => self.called(id, &call),
            Happening::Answered(call, outcome) => {
                let outcome = *outcome;
                self.inputs.push(Input::CloudDone { call, outcome });
            }
            Happening::Boots(machine) => self.boots(machine),
            // One that was put off is in the queue twice.
            Happening::Hand(at) if self.hands[at].wake <= self.now => self.hand_works(at),
            Happening::Hand(_) => {}
            Happening::Noticed(machine, at) => self.notices(&machine, at),
            Happening::Taken(machine) => self.taken(&machine),
        }
    }

    fn photos_of(&self, wave: usize, first: u64) -> u64 {
        let all = self.scenario.waves[wave].photos;
        self.scenario.photos_per_job.min(all - first)
    }

    fn submits(&mut self, wave: usize, first: u64, asked: Option<u64>) {
        self.first_submit.get_or_insert(self.now);
        let count = self.photos_of(wave, first);
        let asked_at = asked.unwrap_or(self.now);
        let photos = (0..count).map(|at| format!("p:{at}")).collect();
        let open = Open {
            key: Vec::new(),
            name: String::new(),
            labels: Vec::new(),
            priority: 50,
            deadline: Deadline::At(Time(asked_at + self.scenario.deadline)),
            spec: Spec {
                recogniser: RECOGNISER.into(),
                resources: Resources::default(),
                photo_timeout: 0,
                max_attempts: 0,
                drop_late: false,
                region: String::new(),
            },
            photos,
            close: true,
        };
        if asked.is_none() {
            self.outcome.photos += count;
            self.outcome.jobs += 1;
        }
        self.ask(
            Asker::Submit(wave, first, asked_at),
            Request::Open(Box::new(open)),
        );
    }

    fn tell_prices(&mut self) {
        let now = Time(self.now);
        let mut told = Vec::new();
        for (pool, steps) in &self.scenario.market.spot {
            let behind = steps.partition_point(|step| step.at <= now);
            let from = self.told.entry(pool.clone()).or_insert(behind.saturating_sub(64));
            for step in &steps[(*from).min(behind)..behind] {
                told.push(Told {
                    pool: pool.clone(),
                    at: step.at,
                    micros: step.price.0 as i64,
                    line: 0,
                });
            }
            *from = behind;
            if let Some(step) = behind.checked_sub(1).and_then(|at| steps.get(at)) {
                self.cloud.prices.insert(pool.clone(), step.price);
            }
        }
        self.teller.hear(&told, now);
        let learnt = Experience::of(self.replica.state(), Vec::new());
        self.teller.learn(&learnt, now);
        let market = Arc::new(self.teller.market(now));
        self.inputs.push(Input::Market(market));
    }

    fn note(&mut self, event: Event) {
        match &event.fact {
            Fact::Recorded { count, .. } => {
                if let Some(job) = event.job {
                    self.recorded(job, *count);
                }
                return;
            }
            Fact::Launched { .. } => self.outcome.launches += 1,
            Fact::PoolDear { .. } => self.outcome.rebounds += 1,
            Fact::Braked { .. } => self.outcome.brakes += 1,
            Fact::SpareStarting { .. }
            | Fact::SpareStopping { .. }
            | Fact::MachineStopped { .. }
            | Fact::MachineGone { .. }
            | Fact::MachineKnown { .. }
            | Fact::MachineRunning { .. }
            | Fact::MachineEnding { .. }
            | Fact::PoolClosed { .. }
            | Fact::MachineNoticed { .. }
            | Fact::LaunchSettled { .. }
            | Fact::LaunchDropped { .. }
            | Fact::Short { .. } => {}
            _ => return,
        }
        self.outcome.story.push((event.at, event.fact));
    }

    fn recorded(&mut self, job: JobId, count: u64) {
        let Some(one) = self.jobs.get_mut(&job) else {
            return;
        };
        let age = self.now - one.at;
        *self.ages.entry(age.div_ceil(AGE_STEP)).or_default() += count;
        if self.now > one.due {
            one.late += count;
            self.outcome.late_by_wave[one.wave] += count;
        }
        one.left -= count;
        if one.left == 0 {
            self.outcome.late_photos += one.late;
            self.outcome.late_jobs += u64::from(one.late > 0);
            self.open -= 1;
            self.jobs.remove(&job);
        }
    }

    fn sum_up(mut self) -> Outcome {
        for job in self.jobs.values() {
            self.outcome.unended += job.left;
            self.outcome.late_by_wave[job.wave] += job.left;
            self.outcome.late_photos += job.late + job.left;
            self.outcome.late_jobs += 1;
        }
        let bill = cost(&self.cloud, &self.scenario.market, Time(self.now));
        let ages = self.ages.iter().map(|(age, count)| (age * AGE_STEP, *count));
        let state = self.replica.state();
        let paid: u64 = state.spend.hours().map(|(_, hour)| hour.money).sum();
        let unpaid = state.machines.live().map(|(_, one)| one.unpaid(Time(self.now)));
        Outcome {
            ledger_micro_usd: paid + unpaid.sum::<u64>(),
            micro_usd: bill.micro_usd,
            on_demand_micro_usd: bill.on_demand_micro_usd,
            machines: bill.lines.len() as u64,
            interruptions: self.interrupted.len() as u64,
            age: Aged::of(ages.collect()),
            bill,
            ..self.outcome
        }
    }
}

fn replica(begun: u64, seed: u64) -> Replica {
    let id = ReplicaId(1);
    let mut config = Config::new(id, vec![Founder::named(id)], ClusterId("play".into()));
    config.election = Election::Seeded(seed);
    let state = State::load(std::iter::empty::<(&[u8], &[u8])>(), Plant::None).expect("nothing is readable");
    let recovered = Recovered {
        hard_state: None,
        compacted: (0, 0),
        entries: Vec::new(),
        state,
    };
    let now = Now {
        mono: Mono(0),
        wall: Time(begun),
    };
    Replica::recover(config, recovered, now).expect("an empty disk is good")
}
