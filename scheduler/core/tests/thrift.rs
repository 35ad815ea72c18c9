//! What stops launches for money's sake, what closes a pool, what is learnt, kept and gone back to: entry by entry.

use rebound_core::bill::HOUR;
use rebound_core::command::*;
use rebound_core::event::Cause;
use rebound_core::photos::Photos;
use rebound_core::plan::capacity::{Buy, LetGo, Scale, Sizing};
use rebound_core::plan::{Assign, Because, Plan};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row};
use rebound_core::scaling::{Mode, Scaling};
use rebound_core::state::buying::{Settled, Started};
use rebound_core::state::control::Brake;
use rebound_core::state::decisions::What;
use rebound_core::state::launches::{Choice, Lack, Outcome, Wanted};
use rebound_core::state::machines::EndWhy;
use rebound_core::state::sightings::Sighting;
use rebound_core::state::{Plant, State};
use rebound_core::types::*;

/// USD an hour of one machine, in millionths.
const PRICE: u64 = 100_000;
const TYPE: &str = "c5.large";

struct Run {
    state: State,
    at: Time,
    next: u32,
}

fn pool() -> Pool {
    Pool {
        region: "us-east-1".into(),
        zone_id: "use1-az1".into(),
        instance_type: TYPE.into(),
        market: Market::Spot,
    }
}

impl Run {
    fn new(change: impl Fn(&mut Scaling)) -> Run {
        let mut run = Run {
            state: State::new(Plant::None),
            at: Time(400_000 * HOUR),
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

    fn steer(&mut self, scaling: Scaling) {
        let scaling = Box::new(scaling);
        self.apply(Command::Steer { scaling, check: None });
    }

    fn apply(&mut self, command: Command) -> Option<Reply> {
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

    fn pass(&mut self, us: u64) {
        self.at.0 += us;
    }

    fn buy(&mut self, count: u32) -> bool {
        let choice = Choice {
            zone_id: pool().zone_id,
            instance_type: TYPE.into(),
            vcpus: 2,
            price: MicroUsd(PRICE),
            bound: MicroUsd(2 * PRICE),
        };
        let wanted = Wanted {
            region: pool().region,
            market: Market::Spot,
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
    fn machines(&mut self, count: u32) -> Vec<InstanceId> {
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

    fn join(&mut self, id: &InstanceId) {
        let recogniser = Recogniser {
            name: "noop".into(),
            digest: Vec::new(),
        };
        self.apply(Command::WorkerJoined(Box::new(Join {
            name: id.0.clone(),
            nonce: 1,
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

    /// So many photos are done well by a machine's worker.
    fn done(&mut self, machine: &InstanceId, photos: u64) -> JobId {
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
        let given = Given(self.state.applied());
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

    fn brake(&self) -> Option<Brake> {
        self.state.control.get().brake.map(|(brake, _)| brake)
    }

    fn notice(&mut self, id: &InstanceId) {
        let at = Time(self.at.0 + 120 * SECOND);
        let machine = id.clone();
        self.apply(Command::Seen(vec![Sighting::Noticed { machine, at }]));
    }

    fn whats(&self) -> Vec<What> {
        self.state
            .decisions
            .iter()
            .map(|(_, one)| one.what.clone())
            .collect()
    }
}

#[test]
fn photos_that_cost_many_times_what_they_did_stop_launches_until_a_person_says_otherwise() {
    let mut run = Run::new(|scaling| scaling.brakes.photo_cost = 5);
    let ids = run.machines(4);
    for _ in 0..20 {
        run.done(&ids[0], 600);
        run.pass(HOUR);
        run.apply(Command::Billed(Vec::new()));
    }
    assert!(run.buy(1), "600 photos an hour as ever");
    run.pass(HOUR);
    assert!(run.buy(1), "one hour of little work beside one of much");
    run.pass(2 * HOUR);
    run.apply(Command::Billed(Vec::new()));
    assert!(!run.buy(1), "two hours for which there is nothing to show");
    let Some(Brake::PhotoCost { lately, before }) = run.brake() else {
        panic!("{:?}", run.brake())
    };
    assert!(lately > 5 * before && before > 0, "{lately} {before}");
    run.apply(Command::Thaw);
    assert!(run.buy(1), "a person knows of it");
    assert_eq!(run.brake(), None);
    let mut run = Run::new(|scaling| scaling.brakes.photo_cost = 0);
    run.machines(4);
    run.pass(100 * HOUR);
    run.apply(Command::Billed(Vec::new()));
    assert!(run.buy(1), "nobody asked for that brake");
}

#[test]
fn a_bill_that_is_another_one_stops_launches() {
    let table: [(i64, u32, bool); 5] = [
        (0, 50, false),
        (4, 50, false),
        (6, 50, true),
        (-6, 50, true),
        (60, 0, false),
    ];
    for (percent, apart, braked) in table {
        let mut run = Run::new(|scaling| scaling.brakes.bill_apart = apart);
        run.machines(10);
        run.pass(3 * HOUR);
        // Ten machines for an hour.
        let own = 10 * PRICE as i64;
        let hour = run.at.0 / HOUR;
        let billed = (own + own * percent / 100) as u64;
        run.apply(Command::Billed(vec![(hour - 2, billed), (hour, 7 * billed)]));
        assert_eq!(run.brake().is_some(), braked, "{percent} % {:?}", run.brake());
        assert_eq!(run.buy(1), !braked, "{percent} %");
        run.apply(Command::Thaw);
        run.apply(Command::Billed(vec![(hour - 2, 9 * billed)]));
        assert_eq!(run.brake(), None, "a person knows of what was before");
    }
}

#[test]
fn an_hour_that_is_just_over_is_not_held_against_the_books_yet() {
    let mut run = Run::new(|scaling| scaling.brakes.bill_apart = 50);
    run.machines(10);
    run.pass(3 * HOUR);
    let over = run.at.0 / HOUR - 1;
    let twice = 20 * PRICE;
    run.apply(Command::Billed(vec![(over, twice)]));
    assert_eq!(run.brake(), None, "machines of its end may not be known yet");
    run.pass(HOUR);
    run.apply(Command::Billed(vec![(over, twice)]));
    assert!(run.brake().is_some());
}

#[test]
fn prices_that_are_noted_late_are_paid_from_when_they_were_in_force() {
    let mut run = Run::new(|_| {});
    let id = run.machines(1).remove(0);
    let from = run.at.0;
    run.pass(HOUR);
    // Nobody led for a quarter of an hour: half as much from its beginning, twice as much from its middle, which is the
    // most that the machine may come to.
    let quarter = HOUR / 4;
    let at = |part: u64| Time(from + HOUR - quarter + part);
    let told = vec![
        (pool(), MicroUsd(PRICE / 2), at(0)),
        (pool(), MicroUsd(3 * PRICE), at(quarter / 2)),
    ];
    run.apply(Command::Prices(told));
    run.apply(Command::Prices(vec![(pool(), MicroUsd(PRICE), run.at)]));
    let machine = run.state.machines.get(&id).unwrap();
    let expected = PRICE * 3 / 4 + PRICE / 2 / 8 + 2 * PRICE / 8;
    assert!(
        machine.paid.abs_diff(expected) <= 3,
        "{} {expected}",
        machine.paid
    );
    assert_eq!(
        (machine.price, machine.priced, machine.paid_to),
        (MicroUsd(PRICE), run.at, run.at)
    );
}

#[test]
fn a_pool_that_takes_many_back_rests_and_is_then_asked_for_one() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(4);
    run.notice(&ids[0]);
    run.notice(&ids[1]);
    let closed = |run: &Run| run.state.pools.get(&pool()).unwrap().is_closed(run.at);
    assert!(!closed(&run), "two of four are not three");
    run.notice(&ids[1]);
    assert!(!closed(&run), "the same again");
    run.notice(&ids[2]);
    assert!(closed(&run));
    let rest = Scaling::default().breaker.rest;
    assert!(run.whats().contains(&What::Closed {
        pool: pool(),
        lack: Lack::TakenBack,
        refusals: 1,
        until: Time(run.at.0 + rest),
    }));
    run.pass(rest);
    assert!(!closed(&run));
    assert_eq!(
        run.state.pools.get(&pool()).unwrap().refusals,
        1,
        "a probe of one is next"
    );

    // Three of twenty are not a quarter; three over an hour are not within half of it.
    let mut run = Run::new(|scaling| scaling.caps.hour = scaling.caps.day);
    let ids = run.machines(20);
    ids.iter().take(3).for_each(|id| run.notice(id));
    assert!(!closed(&run));
    let mut run = Run::new(|_| {});
    let ids = run.machines(3);
    for id in &ids {
        run.notice(id);
        run.pass(20 * 60 * SECOND);
    }
    assert!(!closed(&run));
    let mut run = Run::new(|scaling| scaling.breaker.taken = 0);
    let ids = run.machines(3);
    ids.iter().for_each(|id| run.notice(id));
    assert!(!closed(&run), "nobody asked for it");
}

#[test]
fn machine_time_at_measured_speed_is_its_jobs() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(1);
    let before = run.done(&ids[0], 10);
    // A photo takes 360 ms of the machine: ten thousand of them an hour.
    let us = 360_000;
    run.apply(Command::Measured(vec![
        ("noop".into(), TYPE.into(), us),
        (String::new(), TYPE.into(), us),
        ("noop".into(), "c5.xlarge".into(), 0),
    ]));
    assert_eq!(
        run.state.measures.iter().count(),
        1,
        "what is no speed is not kept"
    );
    let after = run.done(&ids[0], 100);
    let env = EnvId(run.state.environments.iter().next().unwrap().0.0);
    let cost = |job| run.state.jobs.get_in(env, job).unwrap().cost;
    assert_eq!((cost(before), cost(after)), (0, PRICE / 100));
    let environment = run.state.environments.iter().next().unwrap().1;
    assert_eq!(environment.cost, PRICE / 100);
    let hour = run.at.0 / HOUR;
    assert_eq!(run.state.spend.sum(hour..=hour).photos, 110);
}

#[test]
fn policies_of_before_are_kept_and_one_is_tried_beside_the_live_one() {
    let mut run = Run::new(|scaling| scaling.caps.instances = 7);
    let first = run.state.control.get().since;
    let mut second = run.state.control.get().scaling;
    second.caps.instances = 9;
    run.steer(second.clone());
    let kept: Vec<(Index, u32)> = run
        .state
        .policies
        .iter()
        .map(|(index, one)| (index, one.scaling.caps.instances))
        .collect();
    assert_eq!(kept, [(first, 7), (run.state.control.get().since, 9)]);
    let scaling = Some(Box::new(second.clone()));
    assert!(run.apply(Command::Shadow { scaling }).is_some());
    assert_eq!(run.state.control.get().shadow.unwrap().scaling, second);
    second.share = 0;
    let scaling = Some(Box::new(second));
    assert!(
        run.apply(Command::Shadow { scaling }).is_none(),
        "it contradicts itself"
    );
    assert!(run.state.control.get().shadow.is_some(), "the other one stays");
    run.apply(Command::Shadow { scaling: None });
    assert_eq!(run.state.control.get().shadow, None);
    let whats = run.whats();
    assert!(whats.contains(&What::Shadow { on: true }) && whats.contains(&What::Shadow { on: false }));
}

#[test]
fn decisions_are_kept_with_their_numbers() {
    let mut run = Run::new(|_| {});
    let ids = run.machines(2);
    let let_go = LetGo {
        machine: ids[0].clone(),
        why: EndWhy::Idle,
        idle: 90 * SECOND,
        keep: 60 * SECOND,
    };
    run.apply(Command::Scale(Box::new(Scale {
        let_go: vec![let_go],
        ..Scale::default()
    })));
    run.apply(Command::Freeze {
        why: Some("stocktaking".into()),
    });
    assert!(!run.buy(1));
    let whats = run.whats();
    let launched = |what: &What| matches!(what, What::Launched { count: 2, pools, .. } if pools[0] == pool());
    assert!(whats.iter().any(launched), "{whats:?}");
    assert!(whats.contains(&What::LetGo {
        machine: ids[0].clone(),
        why: EndWhy::Idle,
        idle: 90 * SECOND,
        keep: 60 * SECOND,
    }));
    assert!(whats.contains(&What::Frozen {
        why: Some("stocktaking".into())
    }));
    let dropped = |what: &What| matches!(what, What::Dropped { count: 1, why } if why.contains("frozen"));
    assert!(whats.iter().any(dropped), "{whats:?}");
    let loaded = {
        let mut records = Vec::new();
        run.state.dump(|key, value| records.push((key, value)));
        State::load(records.into_iter(), Plant::None).unwrap()
    };
    assert_eq!(
        loaded.decisions.iter().count(),
        run.state.decisions.iter().count()
    );
}
