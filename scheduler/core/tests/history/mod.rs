//! Histories of a cluster, drawn at random: good commands and bad ones.

use proptest::prelude::*;
use rebound_core::command::*;
use rebound_core::event::Cause;
use rebound_core::observe::{Known, Look, observe};
use rebound_core::photos::Photos;
use rebound_core::plan::{Assign, Because, Plan, Policy, Regive, plan};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row, Rows};
use rebound_core::state::members::Founder;
use rebound_core::state::settings::{Setting, Settings};
use rebound_core::state::{Applied, State};
use rebound_core::types::*;

/// One step of a history. Jobs and workers are named by their place among those there ever were; a place beyond the
/// last is one that never was.
#[derive(Clone, Debug)]
pub enum Step {
    Open {
        env: u8,
        key: u8,
        photos: u8,
        close: bool,
        priority: u8,
        deadline: u8,
        attempts: u32,
        shelf: bool,
    },
    Append {
        env: u8,
        job: usize,
        back: u64,
        photos: u8,
        other: bool,
    },
    Close {
        job: usize,
        off: u64,
    },
    CloseExpired {
        job: usize,
    },
    Cancel {
        env: u8,
        job: usize,
    },
    Join {
        name: u8,
        nonce: u64,
        slots: u32,
        shelf: bool,
    },
    Lost {
        worker: usize,
    },
    Drain {
        worker: usize,
    },
    Left {
        worker: usize,
    },
    /// What the policy says.
    Plan,
    /// What no policy would say.
    Give {
        worker: usize,
        job: usize,
        first: u64,
        count: u64,
    },
    /// Takes tasks of some run back.
    Regive {
        at: (usize, u64),
        to: usize,
        count: u64,
        /// Its fence is another, as after a change in between.
        stray: bool,
    },
    Ended {
        worker: usize,
        job: usize,
        tasks: Vec<(u64, u8)>,
        /// The fence is that of another attempt.
        late: bool,
        /// Another worker than the one that holds it says so.
        stray: bool,
    },
    Count {
        env: u8,
    },
    Settings {
        attempts: u64,
        losses: u64,
        tasks: u64,
        keys: u64,
        keep: u64,
    },
    /// What an environment may have.
    Allot {
        env: u8,
        most: u64,
    },
    /// What the leader finds to be over.
    Expire,
    /// What the leader finds to be late.
    Overdue,
    /// What no leader would say is late.
    Late {
        job: usize,
        first: u64,
    },
    /// What no leader would say is over.
    Delete {
        job: usize,
    },
    AcceptClock {
        ahead: u64,
    },
    Begin,
    /// Servers: a command of five kinds about one server, and perhaps another.
    Member {
        kind: u8,
        id: u64,
        other: u64,
    },
    /// raft's own entry.
    Empty,
    /// Time passes before the next entry.
    Wait(u64),
}

pub fn step() -> impl Strategy<Value = Step> {
    let (job, worker, env) = (0usize..10, 0usize..8, 0u8..2);
    prop_oneof![
        4 => (env.clone(), 0u8..4, 0u8..6, any::<bool>(), 0u8..3, 0u8..3, 0u32..3, any::<bool>()).prop_map(
            |(env, key, photos, close, priority, deadline, attempts, shelf)| Step::Open {
                env, key, photos, close, priority, deadline, attempts, shelf,
            }
        ),
        2 => (env.clone(), job.clone(), 0u64..4, 0u8..4, any::<bool>())
            .prop_map(|(env, job, back, photos, other)| Step::Append { env, job, back, photos, other }),
        1 => (job.clone(), 0u64..2).prop_map(|(job, off)| Step::Close { job, off }),
        1 => job.clone().prop_map(|job| Step::CloseExpired { job }),
        1 => (env.clone(), job.clone()).prop_map(|(env, job)| Step::Cancel { env, job }),
        3 => (0u8..4, 0u64..2, 1u32..4, any::<bool>())
            .prop_map(|(name, nonce, slots, shelf)| Step::Join { name, nonce, slots, shelf }),
        1 => worker.clone().prop_map(|worker| Step::Lost { worker }),
        1 => worker.clone().prop_map(|worker| Step::Drain { worker }),
        1 => worker.clone().prop_map(|worker| Step::Left { worker }),
        6 => Just(Step::Plan),
        2 => (worker.clone(), job.clone(), 0u64..8, prop_oneof![0u64..4, Just(u64::MAX)])
            .prop_map(|(worker, job, first, count)| Step::Give { worker, job, first, count }),
        4 => ((job.clone(), 0u64..8), worker.clone(), prop_oneof![4 => 1u64..3, 1 => Just(0), 1 => Just(u64::MAX)],
            prop::bool::weighted(0.1))
            .prop_map(|(at, to, count, stray)| Step::Regive { at, to, count, stray }),
        8 => (
            worker,
            job.clone(),
            prop::collection::vec((0u64..8, 0u8..9), 1..4),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.2),
        )
            .prop_map(|(worker, job, tasks, late, stray)| Step::Ended { worker, job, tasks, late, stray }),
        2 => Just(Step::Overdue),
        1 => (job.clone(), 0u64..4).prop_map(|(job, first)| Step::Late { job, first }),
        1 => env.clone().prop_map(|env| Step::Count { env }),
        1 => (0u64..4, 0u64..3, 3u64..10, 1u64..4, 0u64..60)
            .prop_map(|(attempts, losses, tasks, keys, keep)| Step::Settings { attempts, losses, tasks, keys, keep }),
        1 => (env, 0u64..6).prop_map(|(env, most)| Step::Allot { env, most }),
        3 => Just(Step::Expire),
        1 => job.prop_map(|job| Step::Delete { job }),
        1 => (0u64..100).prop_map(|s| Step::AcceptClock { ahead: s * SECOND }),
        1 => Just(Step::Begin),
        4 => (0u8..6, 1u64..14, 0u64..14).prop_map(|(kind, id, other)| Step::Member { kind, id, other }),
        1 => Just(Step::Empty),
        3 => (0u64..40).prop_map(|s| Step::Wait(s * SECOND)),
    ]
}

/// A history as it is written: what came of it so far decides what the next step means.
pub struct History {
    /// µs: the stamp of the next entry.
    pub now: u64,
    /// Jobs there ever were.
    pub jobs: Vec<JobId>,
    workers: Vec<WorkerId>,
}

impl History {
    /// Nothing has happened yet.
    pub fn new() -> History {
        History {
            now: 1_000_000 * SECOND,
            jobs: Vec::new(),
            workers: Vec::new(),
        }
    }

    fn job(&self, at: usize) -> JobId {
        self.jobs.get(at).copied().unwrap_or(JobId(u64::MAX))
    }

    fn worker(&self, at: usize) -> WorkerId {
        self.workers.get(at).copied().unwrap_or(WorkerId(u64::MAX))
    }

    /// The entry of a step; `None` when it has none.
    pub fn entry(&mut self, step: &Step, state: &State) -> Option<Option<Entry>> {
        let mut env = 0;
        let command = match step {
            Step::Wait(us) => {
                self.now += us;
                return None;
            }
            Step::Empty => return Some(None),
            Step::Open { env: of, .. } | Step::Cancel { env: of, .. } | Step::Count { env: of } => {
                env = *of;
                self.command(step, state)
            }
            Step::Append { env: of, .. } => {
                env = *of;
                self.command(step, state)
            }
            _ => self.command(step, state),
        };
        self.now += 1_000;
        Some(Some(Entry {
            version: ENTRY_VERSION,
            at: Time(self.now),
            by: Caller {
                environment: format!("env {env}"),
                actor: "tester".into(),
            },
            trace: TraceId(u128::from(self.now).to_be_bytes()),
            command,
        }))
    }

    fn command(&self, step: &Step, state: &State) -> Command {
        match step {
            Step::Open {
                key,
                photos: count,
                close,
                priority,
                deadline,
                attempts,
                shelf,
                ..
            } => Command::Open(Box::new(Open {
                key: if *key == 0 { Vec::new() } else { vec![*key] },
                name: "a job".into(),
                labels: vec![("kind".into(), key.to_string())],
                priority: *priority,
                deadline: match deadline {
                    0 => Deadline::None,
                    1 => Deadline::In(SECOND),
                    _ => Deadline::At(Time(self.now)),
                },
                spec: Spec {
                    recogniser: if *shelf { "shelf" } else { "noop" }.into(),
                    resources: Resources::default(),
                    photo_timeout: 0,
                    max_attempts: *attempts,
                    drop_late: *priority % 2 == 1,
                    region: String::new(),
                },
                photos: photos(u64::from(*count), false),
                close: *close,
            })),
            Step::Append {
                job,
                back,
                photos: count,
                other,
                ..
            } => {
                let job = self.job(*job);
                let tasks = state.jobs.get(job).map_or(0, |(_, job)| job.tasks);
                // Two places back, one back, at the end, or beyond it.
                let offset = (tasks + 1).saturating_sub(*back);
                let photos = photos(u64::from(*count), *other);
                Command::Append { job, offset, photos }
            }
            Step::Close { job, off } => {
                let job = self.job(*job);
                let total = state.jobs.get(job).map_or(0, |(_, job)| job.tasks) + off;
                Command::Close { job, total }
            }
            Step::Overdue => state.overdue_at(Time(self.now)).unwrap_or(Command::Count),
            Step::Late { job, first } => Command::Overdue {
                appends: vec![(self.job(*job), *first)],
            },
            Step::CloseExpired { job } => Command::CloseExpired { job: self.job(*job) },
            Step::Cancel { job, .. } => Command::Cancel { job: self.job(*job) },
            Step::Join {
                name,
                nonce,
                slots,
                shelf,
            } => Command::WorkerJoined(Box::new(join(*name, *nonce, *slots, *shelf))),
            Step::Lost { worker } => Command::WorkerLost {
                worker: self.worker(*worker),
            },
            Step::Drain { worker } => Command::WorkerDrain {
                worker: self.worker(*worker),
            },
            Step::Left { worker } => Command::WorkerLeft {
                worker: self.worker(*worker),
            },
            Step::Plan => {
                let seen = observe(state, state.now(), &Policy::default(), Look::Ahead, &[], |_| {
                    Some(Known::default())
                });
                Command::Adopt(plan(&Policy::default(), &seen))
            }
            Step::Give {
                worker,
                job,
                first,
                count,
            } => Command::Adopt(Plan {
                at: state.applied(),
                assign: vec![Assign {
                    worker: self.worker(*worker),
                    job: self.job(*job),
                    first: *first,
                    count: *count,
                    because: Because::FreeSlot {
                        rank: 0,
                        candidates: 1,
                    },
                }],
                ..Plan::default()
            }),
            Step::Regive { at, to, count, stray } => self.regive(state, *at, *to, *count, *stray),
            Step::Ended {
                worker,
                job,
                tasks,
                late,
                stray,
            } => self.ended(state, (*worker, *job), tasks, *late, *stray),
            Step::Settings {
                attempts,
                losses,
                tasks,
                keys,
                keep,
            } => Command::Settings(vec![
                (Setting::KeysMax, *keys),
                (Setting::PhotosWaitingMax, 5 + *tasks),
                (Setting::KeyFor, *keep * SECOND),
                (Setting::Retention, *keep * SECOND),
                (Setting::MaxAttempts, *attempts),
                (Setting::MaxLosses, *losses),
                (Setting::TasksPerJobMax, *tasks),
            ]),
            Step::Allot { env, most } => Command::Environment(Box::new(Allot {
                name: format!("env {env}"),
                weight: Some(*most as u32),
                max_waiting: Some(*most * 4),
                max_jobs: Some(*most),
                max_given: Some(*most),
            })),
            Step::Expire => state.over(Time(self.now)).unwrap_or(Command::Count),
            Step::Delete { job } => Command::Expire {
                keys: vec![self.job(*job)],
                jobs: vec![self.job(*job)],
            },
            Step::AcceptClock { ahead } => Command::AcceptClock {
                wall: Time(self.now + ahead),
            },
            Step::Begin => Command::Begin {
                cluster: ClusterId("test".into()),
                cluster_version: 1,
                settings: Box::new(Settings::default()),
                founders: [1, 2, 3].map(ReplicaId).map(Founder::named).into(),
            },
            Step::Member { kind, id, other } => {
                let (server, other) = (ReplicaId(*id), ReplicaId(*other));
                match kind {
                    0 => Command::MemberAdd {
                        new: Founder::named(server),
                        replaces: Some(other).filter(|other| other.0 != 0),
                    },
                    1 => Command::MemberMet {
                        server,
                        incarnation: other.0 % 2 + 1,
                    },
                    2 => Command::MemberPromote { server },
                    3 => Command::MemberRemove { server },
                    _ => Command::MembersSettle,
                }
            }
            Step::Count { .. } | Step::Empty | Step::Wait(_) => Command::Count,
        }
    }

    /// Reports on tasks: of those held, with their fence and by their holder unless they are late or stray.
    fn regive(
        &self,
        state: &State,
        (job, task): (usize, u64),
        to: usize,
        count: u64,
        stray: bool,
    ) -> Command {
        let job = self.job(job);
        let env = state.jobs.get(job).map(|(env, _)| env).unwrap_or_default();
        let held = state.runs.of_task(env, job, task).map(|(_, run)| run);
        let (from, given) = held.map_or((WorkerId(1), Given(1)), |run| (run.worker, run.given));
        Command::Adopt(Plan {
            at: state.applied(),
            regive: vec![Regive {
                from,
                to: self.worker(to),
                job,
                first: task,
                count,
                given: Given(given.0 - u64::from(stray)),
                because: Because::Slow { here: 2, there: 1 },
            }],
            ..Plan::default()
        })
    }

    fn ended(
        &self,
        state: &State,
        (worker, job): (usize, usize),
        tasks: &[(u64, u8)],
        late: bool,
        stray: bool,
    ) -> Command {
        let (job, mut by) = (self.job(job), self.worker(worker));
        let mut reports = Vec::new();
        for (task, fate) in tasks {
            let held = state
                .jobs
                .get(job)
                .and_then(|(env, _)| state.runs.of_task(env, job, *task));
            let mut given = held.map_or(Given(1), |(_, run)| run.given);
            if let (Some((_, run)), false) = (held, stray) {
                by = run.worker;
            }
            if late {
                given.0 -= 1;
            }
            reports.push(Report {
                job,
                first: *task,
                given,
                cause: cause(*fate),
                rows: self.rows(*fate, u64::from(*fate % 4)),
            });
        }
        Command::Ended { worker: by, reports }
    }

    /// What a report says of its first task and of `more` behind it.
    fn rows(&self, fate: u8, more: u64) -> Rows {
        let mut packing = Packing::default();
        for _ in 0..=more {
            packing.push(Row {
                started: Time(self.now - 1),
                ended: Time(self.now),
                output: &[fate; 3],
            });
        }
        packing.done()
    }

    pub fn learn(&mut self, applied: &Applied) {
        match &applied.reply {
            Ok(Reply::Opened { job, .. }) if !self.jobs.contains(job) => self.jobs.push(*job),
            Ok(Reply::Joined { worker }) if !self.workers.contains(worker) => self.workers.push(*worker),
            _ => {}
        }
    }
}

fn photos(count: u64, other: bool) -> Photos {
    let shelf = if other { "other" } else { "one" };
    let uri = |n| format!("file:///{shelf}/{n}.jpg");
    (0..count).map(uri).collect()
}

fn join(name: u8, nonce: u64, slots: u32, shelf: bool) -> Join {
    let recogniser = |name: &str| Recogniser {
        name: name.into(),
        digest: Vec::new(),
    };
    let mut recognisers = vec![recogniser("noop")];
    recognisers.extend(shelf.then(|| recogniser("shelf")));
    Join {
        name: format!("w{name}"),
        nonce,
        slots,
        resources: Resources::default(),
        pool: Pool::default(),
        recognisers,
        version: String::new(),
    }
}

fn cause(fate: u8) -> Option<Cause> {
    match fate {
        0..=2 => None,
        3 => Some(Cause::Input),
        4 => Some(Cause::Fetch),
        5 => Some(Cause::Crashed),
        6 => Some(Cause::Released),
        7 => Some(Cause::ResultTooLarge),
        _ => Some(Cause::Timeout),
    }
}
