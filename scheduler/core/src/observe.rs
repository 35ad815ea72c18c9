//! All that the policy may see. Its size grows with workers and distinct specs, not with tasks.

use std::collections::{BTreeMap, BTreeSet};

use crate::brake::Trouble;
use crate::command::Spec;
use crate::pace::{Pace, credit};
use crate::plan::Policy;
use crate::state::State;
use crate::state::jobs::{Job, QueueKey};
use crate::state::workers::{Standing, Worker};
use crate::types::{EnvId, Index, JobId, Recogniser, Resources, SpecId, Time, WorkerId};

pub mod fleet;
pub mod tails;

use fleet::Fleet;
use tails::{Cursors, Loaded, Tail};

/// What is known of the world at one index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The state seen.
    pub at: Index,
    /// The cluster's clock.
    pub now: Time,
    /// What each spec named below needs.
    pub specs: BTreeMap<SpecId, Resources>,
    /// Tasks that may be given, in the order of each environment.
    pub demand: Vec<Demand>,
    /// The environments of the demand, and what each holds.
    pub shares: BTreeMap<EnvId, Share>,
    /// Workers that may get some.
    pub workers: Vec<WorkerView>,
    /// There is more demand than shown.
    pub more: bool,
    /// Some of that might fit where nothing of what is shown does.
    pub hides_some: bool,
    /// What might be taken back from one worker for another.
    pub tails: Vec<Tail>,
    /// There are more tails than shown.
    pub more_tails: bool,
    /// Machines and money, when they are to be looked at.
    pub fleet: Option<Box<Fleet>>,
    /// The same for the policy that is tried.
    pub trial: Option<Box<Fleet>>,
}

/// Consecutive tasks of one job that may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Whose it is.
    pub env: EnvId,
    /// The job.
    pub job: JobId,
    /// What runs it.
    pub spec: SpecId,
    /// First task.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// What an environment has of the workers, and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its part beside other environments.
    pub weight: u32,
    /// Tasks it holds.
    pub held: u64,
    /// Most tasks it may hold.
    pub most: u64,
}

/// A worker as the policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// The session.
    pub id: WorkerId,
    /// Photos it works on at once.
    pub slots: u32,
    /// What it has.
    pub resources: Resources,
    /// Tasks it holds in all.
    pub held: u32,
    /// What those tasks need together.
    pub in_use: Resources,
    /// Photos fail there: others come first.
    pub failing: bool,
    /// Index of the last entry that gave it work.
    pub last_given: Index,
    /// Specs it can run, and how many photos it may hold of each.
    pub can: BTreeMap<SpecId, u32>,
    /// No more photos than this in all: the least of what it may hold of the specs that it holds.
    pub most: u32,
    /// µs until what is given now is there; 0: not known.
    pub turn: u64,
    /// µs of one photo in its slot, of those specs above that it has measured.
    pub service: BTreeMap<SpecId, u64>,
    /// Specs above whose photos are in another region.
    pub away: BTreeSet<SpecId>,
}

/// What the leader knows of a worker that may take work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// How fast it is, if it said so.
    pub pace: Option<&'a Pace>,
    /// How far it is, if it said so on its present stream.
    pub cursors: Option<&'a Cursors>,
    /// What fails there, if anything does.
    pub trouble: Option<&'a Trouble>,
    /// The leader's running time.
    pub elapsed: u64,
}

impl Known<'_> {
    /// True while it gets no photos of a spec, since they fail there and not elsewhere.
    fn is_braked(&self, spec: SpecId) -> bool {
        self.trouble
            .is_some_and(|trouble| trouble.is_braked(spec, self.elapsed))
    }
}

/// True when a spec's recogniser is among a worker's.
pub fn has_recogniser(recognisers: &[Recogniser], wanted: &str) -> bool {
    let (name, digest) = wanted.split_once('@').unwrap_or((wanted, ""));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    recognisers
        .iter()
        .any(|one| one.name == name && (digest.is_empty() || hex(&one.digest).starts_with(digest)))
}

/// True when a worker like this could ever run a photo of the spec.
pub fn could_run(worker: &crate::command::Join, spec: &Spec) -> bool {
    has_recogniser(&worker.recognisers, &spec.recogniser) && worker.resources.holds(&spec.resources) > 0
}

/// What an observation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What can be given.
    Ahead,
    /// Also what might be taken back.
    Back,
}

/// Looks at the state for those workers that are `known` to take work now. At most `room` tasks of each spec are shown,
/// where `room` is what all these workers could take, and of each environment no more than it may have. `coming` are jobs
/// that will be there before what the plan says is applied; they stand behind all that is there.
pub fn observe<'a>(
    state: &State,
    now: Time,
    policy: &Policy,
    look: Look,
    coming: &[Demand],
    known: impl Fn(WorkerId) -> Option<Known<'a>>,
) -> Observation {
    let mut seen = Observation {
        at: state.applied(),
        now,
        ..Observation::default()
    };
    let active = |(_, worker): &(WorkerId, &Worker)| worker.standing == Standing::Active;
    let workers = state.workers.iter_live().filter(active);
    let workers: Vec<_> = workers
        .filter_map(|(id, worker)| Some((id, worker, known(id)?)))
        .collect();
    if look == Look::Back {
        look_back(state, policy, &workers, &mut seen);
    }
    let tailed = seen.tails.iter().map(|tail| tail.spec);
    let specs = state
        .jobs
        .queued_specs()
        .chain(tailed)
        .chain(coming.iter().map(|one| one.spec));
    let specs: BTreeSet<SpecId> = specs.collect();
    let mut room: BTreeMap<SpecId, u64> = BTreeMap::new();
    for (id, worker, known) in workers {
        let view = view(state, policy, id, worker, known, &specs);
        let mut takes_some = false;
        for (spec, credit) in &view.can {
            let free = view.most.min(*credit).saturating_sub(view.held);
            takes_some |= free > 0;
            *room.entry(*spec).or_default() += u64::from(free);
        }
        if takes_some {
            seen.workers.push(view);
        }
    }
    demand(state, policy.demand_max, &room, &mut seen);
    demand_coming(coming, &room, state, &mut seen);
    seen
}

/// As much as fits of what is not there yet. Nothing of it hides what is there.
fn demand_coming(coming: &[Demand], room: &BTreeMap<SpecId, u64>, state: &State, seen: &mut Observation) {
    for one in coming {
        let (Some(room), Some(record)) = (room.get(&one.spec), state.specs.get(one.spec)) else {
            continue;
        };
        let shown = seen.demand.iter().filter(|other| other.spec == one.spec);
        let shown: u64 = shown.map(|other| other.count).sum();
        let share = *seen
            .shares
            .entry(one.env)
            .or_insert_with(|| share(state, one.env));
        let left = (*room)
            .min(share.most.saturating_sub(share.held))
            .saturating_sub(shown);
        let count = one.count.min(left);
        if count > 0 {
            seen.specs.insert(one.spec, record.resources);
            seen.demand.push(Demand { count, ..one.clone() });
        }
    }
}

/// Tails are looked for only when there is a worker with a free slot.
fn look_back(state: &State, policy: &Policy, workers: &[(WorkerId, &Worker, Known)], seen: &mut Observation) {
    let over = |id: WorkerId, worker: &Worker| {
        let held = state.runs.held_by(id);
        held.cmp(&u64::from(worker.join.slots))
    };
    if !workers.iter().any(|(id, worker, _)| over(*id, worker).is_lt()) {
        return;
    }
    let loaded = workers.iter().filter(|(id, worker, _)| over(*id, worker).is_gt());
    let loaded: Vec<Loaded> = loaded
        .map(|(id, worker, known)| Loaded {
            id: *id,
            slots: worker.join.slots,
            known: *known,
        })
        .collect();
    tails::tails(state, policy.tails_max, &loaded, seen);
}

/// A worker, with those of the specs that it can run.
fn view(
    state: &State,
    policy: &Policy,
    id: WorkerId,
    worker: &Worker,
    known: Known,
    specs: &BTreeSet<SpecId>,
) -> WorkerView {
    let credit = |spec| credit(policy, worker.join.slots, known.pace, spec);
    let runs = |spec: &SpecId| state.may_run(&worker.join, *spec);
    let can: BTreeMap<SpecId, u32> = specs
        .iter()
        .copied()
        .filter(|spec| runs(spec) && !known.is_braked(*spec))
        .map(|spec| (spec, credit(spec)))
        .collect();
    let service = |spec: &SpecId| Some((*spec, known.pace?.at_least(*spec)?));
    let here = &worker.join.pool.region;
    let is_away = |spec: &SpecId| {
        let region = state.specs.get(*spec).map(|spec| &spec.region);
        region.is_some_and(|region| !region.is_empty() && region != here)
    };
    WorkerView {
        id,
        slots: worker.join.slots,
        resources: worker.join.resources,
        held: u32::try_from(state.runs.held_by(id)).unwrap_or(u32::MAX),
        in_use: in_use(state, id),
        failing: known.trouble.is_some(),
        last_given: worker.last_given,
        most: state.runs.specs_of(id).map(credit).min().unwrap_or(u32::MAX),
        turn: known.pace.map_or(0, Pace::turn),
        service: can.keys().filter_map(service).collect(),
        away: can.keys().copied().filter(is_away).collect(),
        can,
    }
}

/// What the tasks a worker holds need together.
fn in_use(state: &State, worker: WorkerId) -> Resources {
    let mut sum = Resources::default();
    for (key, run) in state.runs.of_worker(worker) {
        let Some(spec) = state.specs.get(run.spec) else {
            continue;
        };
        let count = u32::try_from(key.last - run.first + 1).unwrap_or(u32::MAX);
        sum = sum.plus(&spec.resources.times(count));
    }
    sum
}

fn demand(state: &State, most: usize, room: &BTreeMap<SpecId, u64>, seen: &mut Observation) {
    let mut found: Vec<(QueueKey, Demand)> = Vec::new();
    // Each spec has its part of what can be shown: the many pieces of one never hide the others.
    let most_pieces = (most / room.len().max(1)).max(1);
    let mut cuts: BTreeMap<EnvId, QueueKey> = BTreeMap::new();
    for (spec, room) in room {
        let (Some(env), Some(record)) = (state.specs.home(*spec), state.specs.get(*spec)) else {
            continue;
        };
        let share = *seen.shares.entry(env).or_insert_with(|| share(state, env));
        let mut left = (*room).min(share.most.saturating_sub(share.held));
        let start = found.len();
        let end = start + most_pieces;
        for key in state.jobs.queued(*spec) {
            if left == 0 || found.len() >= end {
                seen.more = true;
                if left > 0 {
                    seen.hides_some = true;
                    // What of this environment comes after what was cut off waits for it.
                    let cut = cuts.entry(env).or_insert(key);
                    *cut = key.min(*cut);
                }
                // Nor does a job's last part go before the next job's first.
                let of_spec = found.split_off(start);
                found.extend(of_spec.into_iter().filter(|(of, _)| *of < key));
                break;
            }
            left -= pieces(state, env, key.3, *spec, left, &mut found);
        }
        seen.specs.insert(*spec, record.resources);
    }
    found.retain(|(key, demand)| cuts.get(&demand.env).is_none_or(|cut| key < cut));
    found.sort_by_key(|(key, demand)| (*key, demand.first));
    seen.demand = found.into_iter().map(|(_, demand)| demand).collect();
}

fn share(state: &State, env: EnvId) -> Share {
    let allotment = state.allotment(env);
    Share {
        weight: allotment.weight,
        held: state.environments.get(env).map_or(0, |one| one.counts.given),
        most: allotment.given,
    }
}

/// Adds up to `room` tasks of a job: those that can be in time first, and of each kind those that wait again before
/// those never given. Returns how many.
fn pieces(
    state: &State,
    env: EnvId,
    id: JobId,
    spec: SpecId,
    room: u64,
    found: &mut Vec<(QueueKey, Demand)>,
) -> u64 {
    let Some(job) = state.jobs.get_in(env, id) else {
        return 0;
    };
    let mut left = room;
    let mut push = |first: u64, count: u64| {
        let (count, key) = (count.min(left), state.jobs.place(env, id, job, first));
        left -= count;
        match found.last_mut() {
            _ if count == 0 => {}
            Some((of, last)) if *of == key && last.job == id && last.first + last.count == first => {
                last.count += count;
            }
            _ => found.push((
                key,
                Demand {
                    env,
                    job: id,
                    spec,
                    first,
                    count,
                },
            )),
        }
        left > 0
    };
    for tasks in [job.late_to..u64::MAX, 0..job.late_to] {
        let late = tasks.start < job.late_to;
        let behind = job.behind.iter().filter(|_| late).copied();
        let fresh = job.fresh.max(tasks.start)..job.tasks.min(tasks.end);
        let again = state.retries.due(id, tasks).map(|task| (task, task + 1));
        let never = behind.chain((!fresh.is_empty()).then_some((fresh.start, fresh.end)));
        for (from, to) in again.chain(never) {
            for (from, to) in alike(state, env, id, job, from, to) {
                if !push(from, to - from) {
                    return room;
                }
            }
        }
    }
    room - left
}

/// Tasks from one up to another in parts that share a deadline.
fn alike(
    state: &State,
    env: EnvId,
    id: JobId,
    job: &Job,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, u64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let start = Some(at).filter(|at| *at < to)?;
        let note = job.deadline_in.and_then(|_| state.jobs.note_of(env, id, start));
        at = note.map_or(to, |(first, note)| to.min(first + note.count));
        Some((start, at))
    })
}
