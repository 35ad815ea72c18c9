//! A state with machines, entry by entry: what tests of money share.
#![allow(dead_code)]

use rebound_core::bill::HOUR;
use rebound_core::command::*;
use rebound_core::event::Cause;
use rebound_core::photos::Photos;
use rebound_core::plan::capacity::{Buy, Scale, Sizing};
use rebound_core::plan::{Assign, Because, Plan};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row};
use rebound_core::scaling::{Mode, Scaling};
use rebound_core::state::buying::{Settled, Started};
use rebound_core::state::control::Brake;
use rebound_core::state::decisions::What;
use rebound_core::state::launches::{Choice, Outcome, Wanted};
use rebound_core::state::sightings::Sighting;
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

/// USD an hour of one machine, in millionths.
pub const PRICE: u64 = 100_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const TYPE: &str = "c5.large";

pub struct Run {
    pub state: State,
    pub at: Time,
    pub market: Market,
    nonce: u64,
    next: u32,
}

pub fn pool() -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: "use1-az1".into(),
        instance_type: TYPE.into(),
        market: Market::Spot,
    }
}

impl Run {
    pub fn new(change: impl Fn(&mut Scaling)) -> Run {
        let mut run = Run {
            state: State::new(Plant::None),
            at: Time(400_000 * HOUR),
            market: Market::Spot,
            nonce: 0,
            next: 0,
        };
        let mut scaling = Scaling {
            mode: Mode::Act,
            ..Scaling::default()
        };
        scaling.caps.hour = 1_000_000;
        change(&mut scaling);
        run.steer(scaling);
        run
    }

    pub fn steer(&mut self, scaling: Scaling) {
        let scaling = Box::new(scaling);
        self.apply(Command::Steer { scaling, check: None });
    }

    pub fn apply(&mut self, command: Command) -> Option<Reply> {
        let by = Caller {
            environment: "shops".into(),
            actor: "ann".into(),
        };
        let entry = Entry {
            version: ENTRY_VERSION,
            at: self.at,
            by,
            trace: TraceId::default(),
            command,
        };
        let applied = self.state.apply(self.state.applied() + 1, 1, Some(&entry));
        self.state.settle();
        self.state.check();
        applied.reply.ok()
    }

    pub fn pass(&mut self, us: u64) {
        self.at.0 += us;
    }

    pub fn buy(&mut self, count: u32) -> bool {
        let choice = Choice {
            zone_id: pool().zone_id,
            instance_type: TYPE.into(),
            vcpus: 2,
            price: MicroUsd(PRICE),
            bound: MicroUsd(2 * PRICE),
        };
        let wanted = Wanted {
            region: pool().region,
            market: self.market,
            choices: vec![choice],
            count,
            template: 1,
        };
        let because = Sizing::default();
        let plan = Scale {
            buy: vec![Buy { wanted, because }],
            ..Scale::default()
        };
        let reply = self.apply(Command::Scale(Box::new(plan)));
        matches!(reply, Some(Reply::Adopted { runs: 1, .. }))
    }

    /// Machines that run from now on, each with a worker of two slots.
    pub fn machines(&mut self, count: u32) -> Vec<InstanceId> {
        assert!(self.buy(count));
        let launch = self.state.launches.iter().next_back().unwrap().0;
        let started: Vec<Started> = (0..count)
            .map(|_| {
                self.next += 1;
                Started {
                    id: InstanceId(format!("i-{:04}", self.next)),
                    zone_id: pool().zone_id,
                    instance_type: TYPE.into(),
                }
            })
            .collect();
        let ids: Vec<InstanceId> = started.iter().map(|one| one.id.clone()).collect();
        self.apply(Command::LaunchSettled(Box::new(Settled {
            launch,
            outcome: Outcome::Answered { got: count },
            started,
            lacked: Vec::new(),
        })));
        for id in &ids {
            let (machine, since) = (id.clone(), self.at);
            self.apply(Command::Seen(vec![Sighting::Running { machine, since }]));
            self.join(id);
        }
        ids
    }

    pub fn join(&mut self, id: &InstanceId) {
        let recogniser = Recogniser {
            name: "noop".into(),
            digest: Vec::new(),
        };
        self.apply(Command::WorkerJoined(Box::new(Join {
            name: id.0.clone(),
            nonce: self.nonce + 1,
            slots: 2,
            resources: Resources {
                milli_cpu: 2_000,
                memory_mib: 4_000,
                gpus: 0,
            },
            pool: Pool::default(),
            recognisers: vec![recogniser],
            version: "1".into(),
        })));
    }

    /// Its agent joins anew.
    pub fn join_again(&mut self, id: &InstanceId) {
        self.nonce += 1;
        self.join(id);
    }

    /// So many photos are given to a machine's worker.
    pub fn give(&mut self, machine: &InstanceId, photos: u64) -> (JobId, WorkerId, Given) {
        let urls: Vec<String> = (0..photos).map(|at| format!("file:///{at}.jpg")).collect();
        let spec = Spec {
            recogniser: "noop".into(),
            resources: Resources::default(),
            photo_timeout: 0,
            max_attempts: 0,
            drop_late: false,
            region: String::new(),
        };
        let reply = self.apply(Command::Open(Box::new(Open {
            key: Vec::new(),
            name: String::new(),
            labels: Vec::new(),
            priority: 50,
            deadline: Deadline::None,
            spec,
            photos: urls.into_iter().collect::<Photos>(),
            close: true,
        })));
        let Some(Reply::Opened { job, .. }) = reply else {
            panic!("{reply:?}")
        };
        let worker = self.state.machines.get(machine).unwrap().joined.unwrap().0;
        let assign = Assign {
            worker,
            job,
            first: 0,
            count: photos,
            because: Because::FreeSlot {
                rank: 0,
                candidates: 1,
            },
        };
        self.apply(Command::Adopt(Plan {
            at: self.state.applied(),
            assign: vec![assign],
            ..Plan::default()
        }));
        (job, worker, Given(self.state.applied()))
    }

    /// So many photos are done well by a machine's worker.
    pub fn done(&mut self, machine: &InstanceId, photos: u64) -> JobId {
        let (job, worker, given) = self.give(machine, photos);
        let row = Row {
            started: self.at,
            ended: self.at,
            output: &[],
        };
        let mut rows = Packing::default();
        (0..photos).for_each(|_| rows.push(row));
        let rows = rows.done();
        let report = Report {
            job,
            first: 0,
            given,
            cause: None::<Cause>,
            rows,
        };
        self.apply(Command::Ended {
            worker,
            reports: vec![report],
        });
        job
    }

    pub fn brake(&self) -> Option<Brake> {
        self.state.control.get().brake.map(|(brake, _)| brake)
    }

    pub fn notice(&mut self, id: &InstanceId) {
        let at = Time(self.at.0 + 120 * SECOND);
        let machine = id.clone();
        self.apply(Command::Seen(vec![Sighting::Noticed { machine, at }]));
    }

    pub fn whats(&self) -> Vec<What> {
        self.state
            .decisions
            .iter()
            .map(|(_, one)| one.what.clone())
            .collect()
    }
}
