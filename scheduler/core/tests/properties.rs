//! What the state keeps whatever the log says, good commands and bad ones, and what the log's encoding keeps
//! whatever bytes come.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rebound_core::command::*;
use rebound_core::event::Cause;
use rebound_core::observe::observe;
use rebound_core::plan::{Assign, Because, Plan, Policy, plan};
use rebound_core::replica::{decode_entry, encode_entry};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row, Rows};
use rebound_core::state::settings::{Setting, Settings};
use rebound_core::state::{Applied, Plant, State};
use rebound_core::table::{Digest, record_hash};
use rebound_core::types::*;

/// One step of a history. Jobs and workers are named by their place among those there ever were; a place beyond the
/// last is one that never was.
#[derive(Clone, Debug)]
enum Step {
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
    /// What the leader finds to be over.
    Expire,
    /// What no leader would say is over.
    Delete {
        job: usize,
    },
    AcceptClock {
        ahead: u64,
    },
    Begin,
    /// raft's own entry.
    Empty,
    /// Time passes before the next entry.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
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
        8 => (
            worker,
            job.clone(),
            prop::collection::vec((0u64..8, 0u8..9), 1..4),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.2),
        )
            .prop_map(|(worker, job, tasks, late, stray)| Step::Ended { worker, job, tasks, late, stray }),
        1 => env.prop_map(|env| Step::Count { env }),
        1 => (0u64..4, 0u64..3, 3u64..10, 1u64..4, 0u64..60)
            .prop_map(|(attempts, losses, tasks, keys, keep)| Step::Settings { attempts, losses, tasks, keys, keep }),
        3 => Just(Step::Expire),
        1 => job.prop_map(|job| Step::Delete { job }),
        1 => (0u64..100).prop_map(|s| Step::AcceptClock { ahead: s * SECOND }),
        1 => Just(Step::Begin),
        1 => Just(Step::Empty),
        3 => (0u64..40).prop_map(|s| Step::Wait(s * SECOND)),
    ]
}

/// A history as it is written: what came of it so far decides what the next step means.
struct History {
    now: u64,
    jobs: Vec<JobId>,
    workers: Vec<WorkerId>,
}

impl History {
    fn job(&self, at: usize) -> JobId {
        self.jobs.get(at).copied().unwrap_or(JobId(u64::MAX))
    }

    fn worker(&self, at: usize) -> WorkerId {
        self.workers.get(at).copied().unwrap_or(WorkerId(u64::MAX))
    }

    /// The entry of a step; `None` when it has none.
    fn entry(&mut self, step: &Step, state: &State) -> Option<Option<Entry>> {
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
                let seen = observe(state, state.now(), 2, |_| true);
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
                more: false,
            }),
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
                (Setting::KeyFor, *keep * SECOND),
                (Setting::Retention, *keep * SECOND),
                (Setting::MaxAttempts, *attempts),
                (Setting::MaxLosses, *losses),
                (Setting::TasksPerJobMax, *tasks),
            ]),
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
            },
            Step::Count { .. } | Step::Empty | Step::Wait(_) => Command::Count,
        }
    }

    /// Reports on tasks: of those held, with their fence and by their holder unless they are late or stray.
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

    fn learn(&mut self, applied: &Applied) {
        match &applied.reply {
            Ok(Reply::Opened { job, .. }) if !self.jobs.contains(job) => self.jobs.push(*job),
            Ok(Reply::Joined { worker }) if !self.workers.contains(worker) => self.workers.push(*worker),
            _ => {}
        }
    }
}

fn photos(count: u64, other: bool) -> Vec<Photo> {
    let shelf = if other { "other" } else { "one" };
    let uri = |n| format!("file:///{shelf}/{n}.jpg");
    (0..count).map(|n| Photo { uri: uri(n) }).collect()
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

/// The same state, from its records.
fn reload(state: &State) -> State {
    let mut pairs = Vec::new();
    state.dump(|key, value| pairs.push((key, value)));
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()));
    State::load(pairs, Plant::None).expect("records of our own are readable")
}

/// Worlds or histories drawn for each property.
const CASES: u32 = 2_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two replicas apply the same history. One of them is restarted from its records at any time, and its indexes
    /// are brought up to date at other moments, as a leader's are. They answer the same, write the same and have the
    /// same digest throughout, and every cross-reference holds.
    #[test]
    fn replicas_agree(history in prop::collection::vec((step(), 0u8..12), 1..120)) {
        let (mut steady, mut moved) = (State::new(Plant::None), State::new(Plant::None));
        prop_assert_eq!(steady.settle(), moved.settle());
        let mut writer = History { now: 1_000_000 * SECOND, jobs: Vec::new(), workers: Vec::new() };
        for (step, chance) in &history {
            let Some(entry) = writer.entry(step, &steady) else { continue };
            match chance {
                0 => {
                    let again = reload(&moved);
                    prop_assert_eq!(again.digest(), moved.digest());
                    again.check();
                    moved = again;
                }
                1 => { moved.mature(Time(writer.now + 10 * SECOND)); }
                _ => {}
            }
            let index = steady.applied() + 1;
            let one = steady.apply(index, 1, entry.as_ref());
            let other = moved.apply(index, 1, entry.as_ref());
            prop_assert_eq!(&one.reply, &other.reply, "{:?}", entry);
            prop_assert_eq!(&one.events, &other.events);
            prop_assert_eq!(&one.kept, &other.kept);
            prop_assert_eq!(&one.kept_gone, &other.kept_gone);
            prop_assert_eq!(steady.settle(), moved.settle());
            prop_assert_eq!(steady.digest(), moved.digest());
            steady.check();
            moved.check();
            writer.learn(&one);
        }
    }

    /// The changes handed out at each step, written one after the other, are the state: what a restart finds.
    #[test]
    fn changes_are_the_state(history in prop::collection::vec(step(), 1..80)) {
        let mut state = State::new(Plant::None);
        let mut disk = std::collections::BTreeMap::new();
        let mut writer = History { now: 1_000_000 * SECOND, jobs: Vec::new(), workers: Vec::new() };
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else { continue };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            for (key, value) in state.settle() {
                match value {
                    Some(value) => { disk.insert(key, value); }
                    None => { disk.remove(&key); }
                }
            }
        }
        state.settle();
        let mut dumped = std::collections::BTreeMap::new();
        state.dump(|key, value| { dumped.insert(key, value); });
        if state.applied() > 0 {
            prop_assert_eq!(&disk, &dumped);
        }
        prop_assert_eq!(reload(&state).digest(), state.digest());
    }

    /// The kept records that a disk holds after each step are those of the jobs there are, and their hashes are summed
    /// in the jobs' records: nothing of a deleted job is left, and nothing of another is lost with it.
    #[test]
    fn kept_records_are_those_of_the_jobs(history in prop::collection::vec(step(), 1..120)) {
        let mut state = State::new(Plant::None);
        let mut kept = std::collections::BTreeMap::new();
        let mut writer = History { now: 1_000_000 * SECOND, jobs: Vec::new(), workers: Vec::new() };
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else { continue };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            kept.extend(applied.kept);
            for (from, to) in applied.kept_gone {
                kept.retain(|key, _| *key < from || *key >= to);
            }
        }
        let mut sums = std::collections::BTreeMap::<JobId, Digest>::new();
        for (key, value) in &kept {
            let job = JobId(u64::from_be_bytes(*key[5..].first_chunk().expect("table, environment, job")));
            sums.entry(job).or_default().add(record_hash(key, value));
        }
        for job in &writer.jobs {
            let there = state.jobs.get(*job).map_or(0, |(_, job)| job.kept);
            prop_assert_eq!(sums.remove(job).unwrap_or_default().0, there, "job {}", job);
        }
        prop_assert!(sums.is_empty());
    }

    /// An entry comes out of the log as it went in. Cut short, or with something behind it, it is refused.
    #[test]
    fn entries_come_back(history in prop::collection::vec(step(), 1..30), cut in any::<prop::sample::Index>()) {
        let mut state = State::new(Plant::None);
        let mut writer = History { now: 1_000_000 * SECOND, jobs: Vec::new(), workers: Vec::new() };
        for step in &history {
            let Some(Some(entry)) = writer.entry(step, &state) else { continue };
            let bytes = encode_entry(&entry);
            prop_assert_eq!(decode_entry(&bytes), Ok(Some(entry.clone())));
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert!(short.is_empty() || decode_entry(short).is_err());
            let long = [bytes.as_slice(), b"x"].concat();
            prop_assert!(decode_entry(&long).is_err());
            let applied = state.apply(state.applied() + 1, 1, Some(&entry));
            writer.learn(&applied);
        }
    }

    /// Bytes that nobody wrote are read or refused; they never end the process, and never ask for memory that is not
    /// there. The first byte is often the right one, so that the second is reached.
    #[test]
    fn garbage_is_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), known in any::<bool>()) {
        if let (true, Some(first)) = (known, bytes.first_mut()) {
            *first = rebound_core::table::RECORD_FORMAT;
        }
        let read = decode_entry(&bytes);
        prop_assert!(bytes.is_empty() == (read == Ok(None)));
    }

    /// The same for an entry in which some bytes were changed.
    #[test]
    fn damage_is_survived(step in step(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut writer = History { now: 1_000_000 * SECOND, jobs: Vec::new(), workers: Vec::new() };
        if let Some(Some(entry)) = writer.entry(&step, &State::new(Plant::None)) {
            let mut bytes = encode_entry(&entry);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(Some(read)) = decode_entry(&bytes) {
                prop_assert_eq!(read.version, ENTRY_VERSION);
            }
        }
    }
}

/// Histories that never get anywhere prove nothing: together a few hundred of them reach every fact, every verdict
/// and every rejection that a log can bring.
#[test]
fn histories_reach_everything() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let histories = prop::collection::vec(step(), 120);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let history = histories.new_tree(&mut runner).expect("a history").current();
        let mut state = State::new(Plant::None);
        let mut writer = History {
            now: 1_000_000 * SECOND,
            jobs: Vec::new(),
            workers: Vec::new(),
        };
        for step in &history {
            let Some(entry) = writer.entry(step, &state) else {
                continue;
            };
            let applied = state.apply(state.applied() + 1, 1, entry.as_ref());
            writer.learn(&applied);
            seen.extend(applied.events.iter().map(|event| kind(&event.fact)));
            match &applied.reply {
                Ok(Reply::Ended { verdicts, .. }) => {
                    seen.extend(verdicts.iter().map(|judged| kind(&judged.verdict)))
                }
                Ok(_) => {}
                Err(rejected) => {
                    seen.insert(kind(rejected));
                }
            }
        }
    }
    let facts = "Began JobOpened TasksQueued JobClosed JobDone JobCancelled RunGiven PieceDropped Recorded Refused \
                 Requeued WorkerJoined WorkerLost WorkerLeft WorkerDraining ClockAccepted SettingChanged KeysForgotten JobDeleted";
    let verdicts = "Recorded AlreadyRecorded Stale";
    let rejections = "NotFound Conflict Gap NotOpen WrongTotal TooMany Invalid AlreadyBegun Quota";
    for wanted in [facts, verdicts, rejections]
        .iter()
        .flat_map(|list| list.split_whitespace())
    {
        assert!(seen.contains(wanted), "no history brought {wanted}: {seen:?}");
    }
}

/// The name of an enum's variant.
fn kind(of: &impl std::fmt::Debug) -> String {
    let text = format!("{of:?}");
    text.split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default()
        .to_owned()
}
