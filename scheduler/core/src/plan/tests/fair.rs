//! An environment that asks for ten times its share does not delay the others beyond what workers fetch ahead.

use std::collections::BTreeMap;

use super::*;
use crate::rows::{Row, Rows};
use crate::state::jobs::Phase;

/// Slots of the one worker.
const SLOTS: u64 = 8;
/// Ticks a photo takes.
const SERVICE: u64 = 40;
/// Environments; the last one is the greedy one.
const ENVIRONMENTS: u64 = 4;
/// Ticks in which photos come.
const TICKS: u64 = 4_000;

/// A photo that a worker holds.
struct Held {
    job: JobId,
    given: Given,
    started: Option<u64>,
}

struct Shop {
    log: Log,
    worker: WorkerId,
    held: Vec<Held>,
    /// When each job of one photo came, and whose it is.
    came: BTreeMap<JobId, (u64, u64)>,
    /// Ticks from coming to start, by environment.
    waits: BTreeMap<u64, Vec<u64>>,
}

impl Shop {
    fn open() -> Shop {
        let mut log = Log {
            state: State::new(Plant::None),
            at: Time(1_000_000 * SECOND),
        };
        let reply = log.take(
            0,
            Command::WorkerJoined(Box::new(Join {
                name: "w".into(),
                nonce: 1,
                slots: SLOTS as u32,
                resources: Resources::default(),
                pool: Pool::default(),
                recognisers: vec![Recogniser {
                    name: "noop".into(),
                    digest: Vec::new(),
                }],
                version: String::new(),
            })),
        );
        let Reply::Joined { worker } = reply else {
            panic!("{reply:?}")
        };
        Shop {
            log,
            worker,
            held: Vec::new(),
            came: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// A photo of `env` comes, which asks under the name `of`.
    fn submit(&mut self, env: u64, of: u64, tick: u64) {
        let open = Open {
            key: Vec::new(),
            name: String::new(),
            labels: Vec::new(),
            priority: 0,
            deadline: Deadline::None,
            spec: Spec {
                recogniser: "noop".into(),
                resources: Resources::default(),
                photo_timeout: 0,
                max_attempts: 0,
                drop_late: false,
                region: String::new(),
            },
            photos: ["file:///p"].into_iter().collect(),
            close: true,
        };
        let reply = self.log.take(of as usize, Command::Open(Box::new(open)));
        let Reply::Opened { job, .. } = reply else {
            panic!("{reply:?}")
        };
        self.came.insert(job, (tick, env));
    }

    /// Plans, starts what a slot is free for, and ends what has run its time.
    fn tick(&mut self, tick: u64) {
        let over = |held: &Held| held.started.is_some_and(|at| at + SERVICE <= tick);
        for ended in self.held.extract_if(.., |held| over(held)) {
            let report = Report {
                job: ended.job,
                first: 0,
                given: ended.given,
                cause: None,
                rows: Rows::one(Row {
                    started: Time(0),
                    ended: Time(0),
                    output: &[],
                }),
            };
            let (worker, reports) = (self.worker, vec![report]);
            self.log.take(0, Command::Ended { worker, reports });
            let (_, job) = self.log.state.jobs.get(ended.job).expect("it is kept");
            assert_eq!(job.phase, Phase::Done);
        }
        let seen = observe(
            &self.log.state,
            self.log.at,
            &Policy::default(),
            Look::Ahead,
            &[],
            |_| Some(Known::default()),
        );
        let plan = plan(&Policy::default(), &seen);
        let given = Given(self.log.state.applied() + 1);
        self.held.extend(plan.assign.iter().map(|a| Held {
            job: a.job,
            given,
            started: None,
        }));
        self.log.take(0, Command::Adopt(plan));
        for held in self.held.iter_mut().take(SLOTS as usize) {
            if held.started.is_none() {
                held.started = Some(tick);
                let (came, env) = self.came[&held.job];
                self.waits.entry(env).or_default().push(tick - came);
            }
        }
    }
}

/// The p99 wait of the modest environments, at nine tenths of their share, when the greedy one wants so many times
/// its own; with `apart` false all ask under one name.
fn p99_beside(greed: u64, apart: bool) -> u64 {
    let mut shop = Shop::open();
    // A share in photos: what the slots do in the time, by the environments.
    let share = TICKS * SLOTS / SERVICE / ENVIRONMENTS;
    for tick in 0..TICKS {
        for env in 0..ENVIRONMENTS {
            let wants = match env == ENVIRONMENTS - 1 {
                true => share * greed,
                false => share * 9 / 10,
            };
            // Evenly over the time, no two environments in step.
            let by = |tick: u64| (tick * wants + env * TICKS / ENVIRONMENTS) / TICKS;
            for _ in by(tick)..by(tick + 1) {
                shop.submit(env, if apart { env } else { 0 }, tick);
            }
        }
        shop.tick(tick);
    }
    shop.log.state.check();
    let modest = shop.waits.iter().filter(|(env, _)| **env < ENVIRONMENTS - 1);
    let mut waits: Vec<u64> = modest.flat_map(|(_, waits)| waits.iter().copied()).collect();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

#[test]
fn ten_times_a_share_delays_nobody_else() {
    let at_its_share = p99_beside(1, true);
    let (apart, together) = (p99_beside(10, true), p99_beside(10, false));
    // What one with a queue has fetched ahead, of which there is one photo a slot, is still in front of the others.
    assert!(
        apart <= at_its_share + 2 * SERVICE,
        "{apart} ticks, {at_its_share} before"
    );
    // Without shares the greedy one's queue is.
    assert!(together > 10 * SERVICE, "{together} ticks");
}
