//! Random lives of the machine: whatever happens in whatever order, what must never happen does not.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Said;

use super::tests::{SECOND, answer, attempts, config, desired, run, spec, welcome};
use super::{Action, Config, Failure, Input, Machine, Now, Spooled, TaskKey, TaskRange};

/// What happens next; numbers choose among what is possible at that moment.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Connect,
    Lose,
    /// Of this cluster or another, of the session so far or a new one, of an older, the same or a newer term.
    Welcome {
        green: bool,
        new: bool,
        term: u64,
    },
    /// Newer than the one before, or older.
    Desired {
        older: bool,
        runs: Vec<(u64, u64, u64, u64, u64)>,
    },
    Answer {
        which: Vec<usize>,
        verdict: i32,
    },
    Fetched {
        which: usize,
        ok: bool,
    },
    Finished {
        which: usize,
        size: usize,
        ok: bool,
    },
    Leave,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let runs = prop::collection::vec((0..2u64, 0..4u64, 1..5u64, 0..2u64, 0..4u64), 0..5);
    prop_oneof![
        4 => prop_oneof![Just(1_000), Just(400_000), Just(SECOND), Just(4 * SECOND), Just(71 * SECOND)].prop_map(Step::Pass),
        2 => Just(Step::Connect),
        1 => Just(Step::Lose),
        2 => (prop::bool::weighted(0.03), prop::bool::weighted(0.05), 0..3u64).prop_map(|(green, new, term)| Step::Welcome { green, new, term }),
        8 => (prop::bool::weighted(0.1), runs).prop_map(|(older, runs)| Step::Desired { older, runs }),
        4 => (prop::collection::vec(any::<usize>(), 0..5), 0..5i32)
            .prop_map(|(which, verdict)| Step::Answer { which, verdict }),
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, ok)| Step::Fetched { which, ok }),
        8 => (any::<usize>(), prop_oneof![Just(0), Just(20), Just(16_384), Just(16_385)], prop::bool::weighted(0.8))
            .prop_map(|(which, size, ok)| Step::Finished { which, size, ok }),
        1 => prop::bool::weighted(0.2).prop_map(|leave| if leave { Step::Leave } else { Step::Restart }),
    ]
}

/// The drivers' side: what is under way, and what is on disk.
struct World {
    machine: Machine,
    config: Config,
    now_us: u64,
    fetching: BTreeSet<TaskKey>,
    slots: BTreeMap<u32, TaskKey>,
    disk: BTreeMap<TaskKey, Spooled>,
    /// Results the machine was told an answer for, or may drop because of another cluster.
    answered: BTreeSet<TaskKey>,
    sent_on_stream: BTreeSet<TaskKey>,
    exited: bool,
    worker: u64,
    term: u64,
    generation: u64,
}

impl World {
    fn new(config: Config) -> World {
        World {
            machine: Machine::new(config.clone(), Vec::new()),
            config,
            now_us: SECOND,
            fetching: BTreeSet::new(),
            slots: BTreeMap::new(),
            disk: BTreeMap::new(),
            answered: BTreeSet::new(),
            sent_on_stream: BTreeSet::new(),
            exited: false,
            worker: 1,
            term: 1,
            generation: 0,
        }
    }

    fn restart(&mut self) {
        self.machine = Machine::new(self.config.clone(), self.disk.values().cloned().collect());
        self.fetching.clear();
        self.slots.clear();
        self.sent_on_stream.clear();
        self.exited = false;
    }

    fn give(&mut self, input: Input) {
        let was_orphan = self.machine.is_orphaned();
        let was_leaving = self.machine.is_leaving();
        let connected = matches!(input, Input::Connected);
        if let Input::Server(v1::ServerMessage {
            body: Some(v1::server_message::Body::Answers(answers)),
        }) = &input
        {
            for one in answers.runs.iter().filter(|one| one.verdict != 0) {
                let range = TaskRange {
                    job: one.job,
                    given: one.given,
                    first: one.first,
                    last: one.first + u64::from(one.count) - 1,
                };
                self.answered.extend(range.keys());
            }
        }
        let welcomed = matches!(
            &input,
            Input::Server(v1::ServerMessage {
                body: Some(v1::server_message::Body::Welcome(_))
            })
        );
        if connected {
            self.sent_on_stream.clear();
        }
        let now = Now {
            mono_us: self.now_us,
            wall_us: self.now_us,
        };
        for action in self.machine.handle(now, input) {
            assert!(!self.exited, "it spoke after its end");
            let begins = matches!(action, Action::Start { .. } | Action::Fetch { .. });
            assert!(!begins || !was_leaving, "it began something while leaving");
            assert!(
                !begins || !was_orphan || welcomed,
                "it began something as an orphan"
            );
            self.act(action);
        }
        self.machine.check();
        assert_eq!(
            self.machine.spooled(),
            self.disk.len(),
            "the disk and the machine differ"
        );
        assert_eq!(self.machine.running(), self.slots.len());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Fetch { task, .. } => assert!(self.fetching.insert(task), "{task} is fetched twice"),
            Action::Forget { task } => {
                self.fetching.remove(&task);
            }
            Action::Start { slot, task, .. } => {
                assert!(slot < self.config.slots);
                assert!(
                    !self.slots.values().any(|held| *held == task),
                    "{task} runs twice at once"
                );
                assert!(
                    !self.disk.contains_key(&task),
                    "{task} has a result and is done again"
                );
                assert!(self.slots.insert(slot, task).is_none(), "slot {slot} was taken");
            }
            Action::Stop { slot, task } => assert_eq!(self.slots.get(&slot), Some(&task)),
            Action::Spool(spooled) => {
                let key = spooled.attempt.task;
                self.answered.remove(&key);
                assert!(spooled.attempt.output.len() <= 16 * 1024);
                assert!(self.disk.insert(key, spooled).is_none(), "{key} has two results");
            }
            Action::Unspool(ranges) => {
                for key in ranges.into_iter().flat_map(TaskRange::keys) {
                    let gone = self.disk.remove(&key).expect("it was on disk");
                    let (cluster, _) = self.machine.session().expect("answers need a session");
                    assert!(
                        self.answered.contains(&key) || *gone.cluster != *cluster,
                        "{key} was forgotten"
                    );
                }
            }
            Action::Send(message) => {
                if let Some(Said::Results(results)) = message.body {
                    assert!(results.encoded_len() <= 512 * 1024);
                    for key in attempts(&results).into_iter().map(|one| one.task) {
                        assert!(
                            self.disk.contains_key(&key),
                            "{key} was sent before it was spooled"
                        );
                        self.sent_on_stream.insert(key);
                    }
                }
            }
            Action::Disconnect { .. } => {}
            Action::Exit => self.exited = true,
        }
    }

    fn step(&mut self, step: Step) {
        if self.exited && !matches!(step, Step::Restart) {
            let now = Now {
                mono_us: self.now_us,
                wall_us: self.now_us,
            };
            assert!(
                self.machine.handle(now, Input::Connected).is_empty(),
                "it spoke after its end"
            );
            return;
        }
        match step {
            Step::Pass(us) => {
                self.now_us += us;
                self.give(Input::Tick);
            }
            Step::Connect => self.give(Input::Connected),
            Step::Lose => self.give(Input::Disconnected),
            Step::Welcome { green, new, term } => {
                self.worker += u64::from(new);
                self.term = (self.term + term).saturating_sub(1).max(1);
                let cluster = if green { "green" } else { "blue" };
                self.give(welcome(cluster, self.worker, self.term));
            }
            Step::Desired { older, runs } => {
                if !older && !self.machine.is_welcome() {
                    self.give(Input::Connected);
                    self.give(welcome("blue", self.worker, self.term));
                }
                self.generation += 1;
                let generation = if older {
                    self.generation / 2
                } else {
                    self.generation
                };
                let mut taken: BTreeSet<(u64, u64, u64)> = BTreeSet::new();
                let mut apart = |(job, first, count, given, _): &(u64, u64, u64, u64, u64)| {
                    let mut tasks = (*first..first + count).map(|task| (*job, *given, task));
                    tasks.all(|task| taken.insert(task))
                };
                let runs =
                    runs.into_iter()
                        .filter(|run| apart(run))
                        .map(|(job, first, count, given, spec)| v1::Run {
                            alone: count == 1,
                            ..run(job, first, count, given, spec)
                        });
                let specs = vec![
                    spec(0, "noop", 0),
                    spec(1, "shelf", 3000),
                    spec(2, "shelf", 9000),
                    spec(3, "missing", 0),
                ];
                self.give(desired(self.term, generation, runs.collect(), specs));
            }
            Step::Answer { which, verdict } => {
                let spooled: Vec<TaskKey> = self.disk.keys().copied().collect();
                let pick = |at: usize| spooled.get(at % spooled.len().max(1)).copied();
                let keys: Vec<TaskKey> = which.into_iter().filter_map(pick).collect();
                let verdict = v1::Verdict::try_from(verdict).unwrap_or(v1::Verdict::Unspecified);
                if self.machine.is_welcome() {
                    self.give(answer(verdict, &keys));
                }
            }
            Step::Fetched { which, ok } => {
                let Some(task) = self
                    .fetching
                    .iter()
                    .nth(which % self.fetching.len().max(1))
                    .copied()
                else {
                    return;
                };
                let outcome = if ok {
                    Ok(())
                } else {
                    Err(Failure::new(v1::Cause::Fetch, "gone"))
                };
                self.fetching.remove(&task);
                self.give(Input::Fetched { task, outcome });
            }
            Step::Finished { which, size, ok } => {
                let Some((slot, task)) = self.slots.iter().nth(which % self.slots.len().max(1)) else {
                    return;
                };
                let (slot, task) = (*slot, *task);
                self.slots.remove(&slot);
                let failure = Failure::new(v1::Cause::Crashed, "é".repeat(size));
                let outcome = if ok {
                    Ok(Bytes::from(vec![0; size]))
                } else {
                    Err(failure)
                };
                self.give(Input::Finished { task, outcome });
            }
            Step::Leave => self.give(Input::Leave {
                why: "test".to_string(),
            }),
            Step::Restart => self.restart(),
        }
    }

    /// All is well from now on: everything desired gets done, and the spool empties.
    fn settle(&mut self) {
        self.restart();
        self.give(Input::Connected);
        self.give(welcome("blue", 9, 9));
        let runs = vec![
            run(50, 0, 4, 50, 1),
            run(51, 0, 4, 51, 0),
            run(52, 3, 2, 52, 2),
            run(53, 0, 2, 53, 3),
        ];
        let specs = vec![
            spec(0, "noop", 0),
            spec(1, "shelf", 3000),
            spec(2, "shelf", 9000),
            spec(3, "missing", 0),
        ];
        self.give(desired(9, 1, runs, specs));
        let mut done: BTreeSet<TaskKey> = BTreeSet::new();
        for _ in 0..200 {
            let spooled: Vec<TaskKey> = self.disk.keys().copied().collect();
            let is_sent = |key: &TaskKey| self.sent_on_stream.contains(key);
            let sent: Vec<TaskKey> = spooled.iter().copied().filter(is_sent).collect();
            assert!(spooled.is_empty() || !sent.is_empty(), "nothing was sent again");
            done.extend(sent.iter().copied().filter(|key| key.job >= 50));
            self.give(answer(v1::Verdict::Recorded, &sent));
            self.step(Step::Fetched { which: 0, ok: true });
            self.step(Step::Finished {
                which: 0,
                size: 3,
                ok: true,
            });
        }
        assert_eq!(done.len(), 12, "not all that was desired was done");
        assert_eq!(self.machine.spooled(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_it(
        slots in 1..4u32,
        max_results in prop_oneof![Just(0usize), Just(1), Just(3), Just(1000)],
        max_bytes in prop_oneof![Just(0usize), Just(40_000), Just(1 << 24)],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let config = Config { spool_max_results: max_results, spool_max_bytes: max_bytes, ..config(slots) };
        let mut world = World::new(config);
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
