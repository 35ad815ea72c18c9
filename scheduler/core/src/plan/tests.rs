//! What every plan keeps, whatever the world looks like.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::command::{Allot, Command, Deadline, ENTRY_VERSION, Entry, Join, Open, Report, Spec};
use crate::event::Cause;
use crate::limits::{REGIVE_MARGIN, REGIVES_MAX};
use crate::observe::tails::Cursors;
use crate::observe::{Known, Look, Observation, WorkerView, observe};
use crate::pace::Pace;
use crate::reply::Reply;
use crate::rows::{Row, Rows};
use crate::state::{Plant, State};
use crate::types::*;

mod fair;
mod regions;

/// A job of a drawn world.
#[derive(Clone, Debug)]
struct Wish {
    env: usize,
    photos: u64,
    priority: u8,
    deadline: Option<u64>,
    recogniser: usize,
    memory: u32,
}

/// A machine of a drawn world.
#[derive(Clone, Debug)]
struct Machine {
    slots: u32,
    recognisers: Vec<usize>,
    memory: u32,
    listens: bool,
}

/// A world: what is there, and how far it went before the plan that is looked at.
#[derive(Clone, Debug)]
struct World {
    wishes: Vec<Wish>,
    machines: Vec<Machine>,
    credit: u32,
    /// What each machine measured: an answer's time, and a photo's of each recogniser; 0: nothing.
    paces: Vec<(u64, [u64; 3])>,
    /// Most tasks of a run that are started.
    started: u64,
    runs_max: usize,
    run_tasks_max: u64,
    /// Weight and most tasks held of each environment; 0: no limit of its own.
    shares: [(u32, u64); 3],
    /// Plans of the past; after each, of the tasks held, every so manieth ended, well or not.
    past: Vec<(usize, u8)>,
}

fn world() -> impl Strategy<Value = World> {
    let deadline = prop::option::of(1u64..4);
    let wish = (
        0usize..3,
        1u64..30,
        0u8..3,
        deadline,
        0usize..3,
        prop::sample::select(vec![0u32, 300, 1000]),
    )
        .prop_map(|(env, photos, priority, deadline, recogniser, memory)| Wish {
            env,
            photos,
            priority,
            deadline,
            recogniser,
            memory,
        });
    let recognisers = prop::collection::vec(0usize..3, 1..3);
    let machine = (1u32..6, recognisers, 0u32..3000, prop::bool::weighted(0.9)).prop_map(
        |(slots, recognisers, memory, listens)| Machine {
            slots,
            recognisers,
            memory,
            listens,
        },
    );
    // Some photos take so long that what waits behind them is worth taking back.
    let service = prop_oneof![2 => 0u64..20_000, 1 => 0u64..4_000_000];
    (
        prop::collection::vec(wish, 0..12),
        prop::collection::vec(machine, 0..6),
        1u32..4,
        (
            prop::collection::vec((0u64..5_000, prop::array::uniform3(service)), 6),
            0u64..4,
        ),
        prop_oneof![4 => Just(1024usize), 1 => 0usize..6],
        prop_oneof![3 => Just(100_000u64), 1 => 1u64..4],
        prop::array::uniform3((1u32..4, prop_oneof![3 => Just(0u64), 1 => 1u64..6])),
        prop::collection::vec((1usize..4, any::<u8>()), 0..4),
    )
        .prop_map(
            |(wishes, machines, credit, (paces, started), runs_max, run_tasks_max, shares, past)| World {
                wishes,
                machines,
                credit,
                paces,
                started,
                runs_max,
                run_tasks_max,
                shares,
                past,
            },
        )
}

const NAMES: [&str; 3] = ["noop", "shelf", "prices"];

/// Most photos a slot, whatever was measured.
const CREDIT_MOST: u32 = 6;

/// A state and the index of its next entry.
struct Log {
    state: State,
    at: Time,
}

impl Log {
    fn apply(&mut self, command: Command) -> Reply {
        self.apply_as(0, command)
    }

    fn apply_as(&mut self, env: usize, command: Command) -> Reply {
        let reply = self.take(env, command);
        self.state.check();
        reply
    }

    /// Applies without a look at the whole state.
    fn take(&mut self, env: usize, command: Command) -> Reply {
        self.at.0 += 1_000;
        let entry = Entry {
            version: ENTRY_VERSION,
            at: self.at,
            by: Caller {
                environment: format!("env {env}"),
                actor: "tester".into(),
            },
            trace: TraceId::default(),
            command,
        };
        let applied = self.state.apply(self.state.applied() + 1, 1, Some(&entry));
        self.state.settle();
        applied.reply.expect("a good command")
    }

    fn see(&self, world: &World) -> Observation {
        let number = |id| -> usize {
            let name = &self.state.workers.get(id).expect("live").join.name;
            name.parse().expect("a number")
        };
        let specs = self.specs();
        let paces: Vec<Pace> = world.paces.iter().map(|said| pace(said, &specs)).collect();
        let cursors: Vec<Cursors> = (0..paces.len()).map(|n| self.cursors(world, n)).collect();
        let known = |id| {
            let n = number(id);
            let (pace, cursors) = (Some(&paces[n]), Some(&cursors[n]));
            world.machines[n].listens.then_some(Known {
                pace,
                cursors,
                ..Known::default()
            })
        };
        observe(
            &self.state,
            self.state.now(),
            &policy(world),
            Look::Back,
            &[],
            known,
        )
    }

    /// Of each run that it holds a machine has started some.
    fn cursors(&self, world: &World, machine: usize) -> Cursors {
        let mut cursors = Cursors::default();
        for (id, worker) in self.state.workers.iter_live() {
            if worker.join.name == machine.to_string() {
                for (key, run) in self.state.runs.of_worker(id) {
                    let started = (key.job.0 + run.given.0) % (world.started + 1);
                    cursors.note(key.job, run.given, run.first + started);
                }
            }
        }
        cursors
    }

    /// Specs of the jobs there are, and which recogniser each names.
    fn specs(&self) -> Vec<(SpecId, usize)> {
        let ids = (1..=self.state.applied()).map(JobId);
        let jobs = ids.filter_map(|id| self.state.jobs.get(id));
        let named = jobs.filter_map(|(_, job)| {
            let spec = self.state.specs.get(job.spec)?;
            Some((job.spec, NAMES.iter().position(|name| *name == spec.recogniser)?))
        });
        named.collect()
    }
}

/// What a machine says that it measured.
fn pace((answer, services): &(u64, [u64; 3]), specs: &[(SpecId, usize)]) -> Pace {
    Pace {
        answer: *answer,
        fetch: 0,
        running: BTreeMap::new(),
        service: specs
            .iter()
            .map(|(spec, name)| (*spec, services[*name]))
            .collect(),
    }
}

/// Builds the world by commands alone, so that every state seen is one that can be.
fn build(world: &World) -> Log {
    let mut log = Log {
        state: State::new(Plant::None),
        at: Time(1_000_000 * SECOND),
    };
    for (n, machine) in world.machines.iter().enumerate() {
        let recogniser = |n: &usize| Recogniser {
            name: NAMES[*n].into(),
            digest: Vec::new(),
        };
        log.apply(Command::WorkerJoined(Box::new(Join {
            name: n.to_string(),
            nonce: 1,
            slots: machine.slots,
            resources: Resources {
                memory_mib: machine.memory,
                ..Resources::default()
            },
            pool: Pool::default(),
            recognisers: machine.recognisers.iter().map(recogniser).collect(),
            version: String::new(),
        })));
    }
    for (env, (weight, most)) in world.shares.iter().enumerate() {
        log.apply(Command::Environment(Box::new(Allot {
            name: format!("env {env}"),
            weight: Some(*weight),
            max_given: Some(*most),
            ..Allot::default()
        })));
    }
    for wish in &world.wishes {
        let photo = |n| format!("file:///{n}");
        log.apply_as(
            wish.env,
            Command::Open(Box::new(Open {
                key: Vec::new(),
                name: String::new(),
                labels: Vec::new(),
                priority: wish.priority,
                deadline: wish.deadline.map_or(Deadline::None, |hours| {
                    Deadline::At(Time(log.at.0 + hours * 3_600 * SECOND))
                }),
                spec: Spec {
                    recogniser: NAMES[wish.recogniser].into(),
                    resources: Resources {
                        memory_mib: wish.memory,
                        ..Resources::default()
                    },
                    photo_timeout: 0,
                    max_attempts: 0,
                    drop_late: false,
                    region: String::new(),
                },
                photos: (0..wish.photos).map(photo).collect(),
                close: true,
            })),
        );
    }
    for (every, fate) in &world.past {
        let plan = plan(&policy(world), &log.see(world));
        log.apply(Command::Adopt(plan));
        end_some(&mut log, *every, *fate);
        log.at.0 += SECOND;
    }
    log
}

/// Of the tasks that are held, every so manieth ends: well, badly, or handed back.
fn end_some(log: &mut Log, every: usize, fate: u8) {
    let mut ended: BTreeMap<WorkerId, Vec<Report>> = BTreeMap::new();
    let workers: Vec<WorkerId> = log.state.workers.iter_live().map(|(id, _)| id).collect();
    for worker in workers {
        for (key, run) in log.state.runs.of_worker(worker) {
            for task in (run.first..=key.last).step_by(every) {
                let cause = match (u64::from(fate) + task) % 3 {
                    0 => None,
                    1 => Some(Cause::Released),
                    _ => Some(Cause::Fetch),
                };
                ended.entry(worker).or_default().push(Report {
                    job: key.job,
                    first: task,
                    given: run.given,
                    cause,
                    rows: Rows::one(Row {
                        started: Time(0),
                        ended: Time(0),
                        output: &[],
                    }),
                });
            }
        }
    }
    for (worker, reports) in ended {
        log.apply(Command::Ended { worker, reports });
    }
}

fn policy(world: &World) -> Policy {
    Policy {
        credit_per_slot: world.credit,
        credit_max: CREDIT_MOST,
        runs_max: world.runs_max,
        run_tasks_max: world.run_tasks_max,
        ..Policy::default()
    }
}

/// A worker while a plan is replayed.
struct Left<'a> {
    view: &'a WorkerView,
    held: u32,
    memory: u32,
    most: u32,
}

impl Left<'_> {
    /// Whether one more photo fits: into a slot, or ahead, when the machine counts as often as it is filled.
    fn takes(&self, spec: SpecId, memory: u32, ahead: bool) -> bool {
        let Some(credit) = self.view.can.get(&spec) else {
            return false;
        };
        let most = if ahead {
            self.most.min(*credit)
        } else {
            self.view.slots
        };
        let machines = most.div_ceil(self.view.slots);
        let fits = memory == 0 || self.memory + memory <= self.view.resources.memory_mib * machines;
        self.held < most && fits
    }
}

/// What an environment holds once the plan has happened.
fn held_after(seen: &Observation, plan: &Plan, env: EnvId) -> u64 {
    let of_env = |job: JobId| seen.demand.iter().any(|d| d.job == job && d.env == env);
    let given = plan.assign.iter().filter(|a| of_env(a.job)).map(|a| a.count);
    seen.shares[&env].held + given.sum::<u64>()
}

/// Nobody was given a task that somebody else had wanted, who has less for its weight, and could have had.
fn check_shares(seen: &Observation, plan: &Plan) -> Result<(), TestCaseError> {
    for (env, share) in &seen.shares {
        prop_assert!(share.held >= share.most || held_after(seen, plan, *env) <= share.most);
    }
    for poor in &seen.demand {
        let given = plan
            .assign
            .iter()
            .filter(|a| a.job == poor.job && a.first >= poor.first && a.first < poor.first + poor.count);
        let own = held_after(seen, plan, poor.env);
        let share = seen.shares[&poor.env];
        if given.map(|a| a.count).sum::<u64>() == poor.count || own >= share.most {
            continue;
        }
        for (rich, theirs) in &seen.shares {
            // Wherever the other's tasks went, this one could have gone instead.
            let mut went = plan.assign.iter().filter_map(|a| {
                let of = seen.demand.iter().find(|d| d.job == a.job && d.env == *rich)?;
                let view = seen.workers.iter().find(|view| view.id == a.worker)?;
                let fits = seen.specs[&poor.spec].memory_mib <= seen.specs[&of.spec].memory_mib;
                let as_far = view.can.get(&poor.spec) >= view.can.get(&of.spec);
                Some(fits && as_far && view.can.contains_key(&poor.spec))
            });
            let held = held_after(seen, plan, *rich);
            if *rich == poor.env || held == theirs.held || !went.all(|could| could) {
                continue;
            }
            prop_assert!(
                (held - 1) * u64::from(share.weight) <= own * u64::from(theirs.weight),
                "environment {rich} holds {held} with weight {}, {} holds {own} with {} and wants more",
                theirs.weight,
                poor.env,
                share.weight
            );
        }
    }
    Ok(())
}

fn check_rooms(seen: &Observation, plan: &Plan) -> Result<(), TestCaseError> {
    let left_over = |(n, demand): (usize, &crate::observe::Demand)| {
        let given: u64 = plan
            .assign
            .iter()
            .filter(|a| {
                a.job == demand.job && a.first >= demand.first && a.first < demand.first + demand.count
            })
            .map(|a| a.count)
            .sum();
        (given < demand.count).then_some(n)
    };
    let left_over: Vec<usize> = seen.demand.iter().enumerate().filter_map(left_over).collect();
    let mut rooms: BTreeMap<WorkerId, Left> = seen
        .workers
        .iter()
        .map(|view| {
            let (held, memory, most) = (view.held, view.in_use.memory_mib, view.most);
            let left = Left {
                view,
                held,
                memory,
                most,
            };
            (view.id, left)
        })
        .collect();
    for piece in &plan.assign {
        let at = seen.demand.iter().position(|d| {
            d.job == piece.job && d.first <= piece.first && piece.first + piece.count <= d.first + d.count
        });
        prop_assert!(at.is_some(), "{piece:?} was not in demand");
        let (at, spec) = (at.unwrap_or(0), seen.demand[at.unwrap_or(0)].spec);
        let room = rooms.get_mut(&piece.worker);
        prop_assert!(room.is_some(), "{piece:?} is for a worker that takes nothing");
        let Some(room) = room else { continue };
        let ahead = matches!(piece.because, Because::Ahead { .. });
        // Whoever comes earlier in the queue and gets less than it wants could not have had this place.
        let env = seen.demand[at].env;
        let capped = held_after(seen, plan, env) >= seen.shares[&env].most;
        for earlier in left_over.iter().filter(|n| **n < at && !capped) {
            let demand = &seen.demand[*earlier];
            if demand.env != env {
                continue;
            }
            let memory = seen.specs[&demand.spec].memory_mib;
            prop_assert!(
                !room.takes(demand.spec, memory, ahead),
                "{piece:?} overtakes {demand:?}"
            );
        }
        let memory = seen.specs[&spec].memory_mib;
        for _ in 0..piece.count {
            prop_assert!(
                room.takes(spec, memory, ahead),
                "{piece:?} is too much for its worker"
            );
            room.held += 1;
            room.memory += memory;
            room.most = room.most.min(room.view.can[&spec]);
        }
    }
    Ok(())
}

/// What is taken back was not started and would end sooner by the margin, goes to a free slot, and nothing that waits
/// could have had that.
fn check_regives(state: &State, seen: &Observation, plan: &Plan) -> Result<(), TestCaseError> {
    prop_assert!(plan.regive.is_empty() || plan.assign.is_empty());
    let mut got: BTreeMap<WorkerId, u32> = BTreeMap::new();
    for piece in &plan.regive {
        let tail = seen.tails.iter().find(|tail| {
            (tail.worker, tail.job, tail.given) == (piece.from, piece.job, piece.given)
                && (tail.first..=tail.last).contains(&piece.first)
                && piece.first + piece.count - 1 <= tail.last
        });
        prop_assert!(tail.is_some(), "{piece:?} is no tail");
        let Some(tail) = tail else { continue };
        let place = tail.before + (piece.first - tail.first);
        prop_assert!(place >= u64::from(tail.slots), "{piece:?} is about to start");
        let Because::Slow { here, there } = piece.because else {
            return Err(TestCaseError::fail("another reason"));
        };
        prop_assert!(here > there + REGIVE_MARGIN, "{piece:?}");
        let to = seen.workers.iter().find(|view| view.id == piece.to);
        prop_assert!(to.is_some_and(|to| to.can.contains_key(&tail.spec)), "{piece:?}");
        *got.entry(piece.to).or_default() += piece.count as u32;
        for task in piece.first..piece.first + piece.count {
            let retry = state.retries.get(tail.env, piece.job, task).unwrap_or_default();
            prop_assert!(retry.deaths == 0 && retry.regiven < REGIVES_MAX);
        }
    }
    for (id, count) in got {
        let view = seen.workers.iter().find(|view| view.id == id);
        prop_assert!(view.is_some_and(|view| view.held + count <= view.slots));
    }
    Ok(())
}

/// No more of a spec is shown than those who run it have room for, and no tail has more before it than its worker holds.
fn check_seen(state: &State, seen: &Observation) -> Result<(), TestCaseError> {
    for spec in seen.specs.keys() {
        let shown = seen.demand.iter().filter(|demand| demand.spec == *spec);
        let free = seen.workers.iter().filter_map(|view| {
            let most = view.most.min(*view.can.get(spec)?);
            Some(u64::from(most.saturating_sub(view.held)))
        });
        let shown: u64 = shown.map(|demand| demand.count).sum();
        prop_assert!(shown <= free.sum(), "{shown} of {spec}");
    }
    prop_assert!(seen.demand.iter().all(|demand| demand.count > 0));
    let has_room = |view: &crate::observe::WorkerView| {
        let most = view.can.values().max().copied().unwrap_or(0);
        view.held < view.most.min(most)
    };
    prop_assert!(seen.workers.iter().all(has_room));
    for tail in &seen.tails {
        let held = state.runs.held_by(tail.worker);
        prop_assert!(tail.before + (tail.last - tail.first + 1) <= held, "{tail:?}");
    }
    Ok(())
}

/// Worlds or histories drawn for each property, unless `PROPTEST_CASES` says how many: proptest reads that.
fn cases() -> u32 {
    /// Its own default.
    const UNSAID: u32 = 256;
    match ProptestConfig::default().cases {
        UNSAID => 10_000,
        said => said,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Nobody gets more than its slots, credit and memory hold, or what it cannot run; nothing is given that was not
    /// asked for, or twice; nobody overtakes.
    #[test]
    fn plans_keep_within_their_world(world in world()) {
        let log = build(&world);
        let seen = log.see(&world);
        let plan = plan(&policy(&world), &seen);
        prop_assert_eq!(plan.at, seen.at);
        prop_assert!(plan.assign.len() <= world.runs_max);
        prop_assert!(plan.assign.iter().all(|a| (1..=world.run_tasks_max).contains(&a.count)));
        prop_assert!(no_task_twice(&plan));
        check_rooms(&seen, &plan)?;
        check_regives(&log.state, &seen, &plan)?;
        check_seen(&log.state, &seen)?;
        if plan.assign.len() < world.runs_max {
            check_shares(&seen, &plan)?;
        }
    }

    /// The same world gives the same plan.
    #[test]
    fn plans_repeat(world in world()) {
        let seen = build(&world).see(&world);
        let again = build(&world).see(&world);
        prop_assert_eq!(&seen, &again);
        prop_assert_eq!(plan(&policy(&world), &seen), plan(&policy(&world), &again));
    }

    /// State takes every piece of a fresh plan, and then there is nothing more to plan, unless the plan said that it
    /// stopped at a bound. Such plans end, too.
    #[test]
    fn planning_reaches_a_fixed_point(world in world()) {
        let mut log = build(&world);
        // No wait between attempts is longer than this: none ends while the plans are made.
        log.at.0 += 60 * SECOND;
        log.apply(Command::Count);
        for _ in 0..1_000 {
            let plan = super::plan(&policy(&world), &log.see(&world));
            let (more, pieces) = (plan.more, plan.assign.len() + plan.regive.len());
            if pieces == 0 {
                break;
            }
            let reply = log.apply(Command::Adopt(plan));
            prop_assert_eq!(reply, Reply::Adopted { runs: pieces, dropped: 0 });
            let next = super::plan(&policy(&world), &log.see(&world));
            prop_assert!(more || next.is_empty(), "{:?}", next);
        }
        let rest = super::plan(&policy(&world), &log.see(&world));
        prop_assert!(rest.is_empty(), "{:?}", rest);
    }
}
