//! Tasks of the desired set: runs of them, in the order they shall be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rebound_proto::v1;

use super::limits::{MAX_DESIRED_TASKS, MAX_SPECS};
use super::photos::{Photos, Uri};
use super::slots::Slots;
use super::{Action, NOOP, TaskKey};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Fetching,
    /// Its photo is here.
    Ready,
    Running,
    /// It has a result, spooled or already answered. Kept until a desired set no longer has it.
    Over,
}

const STATES: usize = 5;

/// A spec, with what is looked at often.
pub(super) struct Known {
    pub spec: Arc<v1::Spec>,
    /// It is the built-in recogniser, which needs no photo.
    pub is_noop: bool,
}

/// A run of the desired set. Its tasks are started in order.
pub(super) struct Run {
    pub job: u64,
    pub given: u64,
    pub first: u64,
    pub spec: u64,
    /// Suspects, which may run only while a leader is heard.
    pub alone: bool,
    /// One for each task.
    pub states: Vec<State>,
    pub photos: Arc<Photos>,
    /// How many of the first tasks are started or over: the next one to start is behind them.
    pub begun: usize,
    /// How many of the first tasks wait for nothing: the next one to fetch is behind them.
    pub fetched: usize,
}

/// Where a run is in the order of all: job, fence, first task.
type Place = (u64, u64, u64);

impl Run {
    fn place(&self) -> Place {
        (self.job, self.given, self.first)
    }

    pub fn end(&self) -> u64 {
        self.first + self.states.len() as u64
    }

    pub fn key(&self, at: usize) -> TaskKey {
        TaskKey {
            job: self.job,
            given: self.given,
            task: self.first + at as u64,
        }
    }

    pub fn uri(&self, at: usize) -> Uri {
        Uri::of(&self.photos, self.first + at as u64)
    }

    /// First task that is neither started nor over.
    pub fn cursor(&self) -> u64 {
        self.first + self.begun as u64
    }

    /// Cuts off the tasks from `task` on.
    fn split_off(&mut self, task: u64) -> Run {
        let states = self.states.split_off((task - self.first) as usize);
        let mut rest = Run {
            first: task,
            states,
            photos: self.photos.clone(),
            ..*self
        };
        self.count_off();
        rest.count_off();
        rest
    }

    fn count_off(&mut self) {
        let first =
            |passes: fn(State) -> bool| self.states.iter().take_while(|state| passes(**state)).count();
        self.begun = first(|state| matches!(state, State::Running | State::Over));
        self.fetched = first(|state| state != State::Waiting);
    }
}

pub(super) struct Work {
    /// In the order of the desired set.
    pub runs: Vec<Run>,
    places: BTreeMap<Place, usize>,
    /// How many tasks are in each state.
    counts: [usize; STATES],
    /// Runs before this one have nothing to start.
    pub open_from: usize,
    /// Specs said on this stream, and those still in use from earlier ones.
    pub specs: BTreeMap<u64, Known>,
    pub slots: Slots,
}

impl Work {
    pub fn new(slots: u32) -> Work {
        Work {
            runs: Vec::new(),
            places: BTreeMap::new(),
            counts: [0; STATES],
            open_from: 0,
            specs: BTreeMap::new(),
            slots: Slots::new(slots),
        }
    }

    /// Tasks in one of these states.
    pub fn count(&self, states: &[State]) -> usize {
        states.iter().map(|state| self.counts[*state as usize]).sum()
    }

    pub fn tasks(&self) -> usize {
        self.counts.iter().sum()
    }

    pub fn has_waiting(&self) -> bool {
        self.count(&[State::Waiting, State::Fetching, State::Ready]) > 0
    }

    /// Results that work in progress may still bring.
    pub fn claims(&self) -> usize {
        self.count(&[State::Fetching, State::Ready, State::Running])
    }

    /// The run of a task and its place in it.
    pub fn find(&self, key: TaskKey) -> Option<(usize, usize)> {
        let (_, run) = self.places.range(..=(key.job, key.given, key.task)).next_back()?;
        let found = &self.runs[*run];
        let here = found.job == key.job && found.given == key.given && key.task < found.end();
        here.then(|| (*run, (key.task - found.first) as usize))
    }

    pub fn state(&self, key: TaskKey) -> Option<State> {
        self.find(key).map(|(run, at)| self.runs[run].states[at])
    }

    pub fn set(&mut self, key: TaskKey, state: State) {
        if let Some((run, at)) = self.find(key) {
            self.set_at(run, at, state);
        }
    }

    pub fn set_at(&mut self, run: usize, at: usize, state: State) {
        let run = &mut self.runs[run];
        let before = std::mem::replace(&mut run.states[at], state);
        self.counts[before as usize] -= 1;
        self.counts[state as usize] += 1;
        let states = &run.states;
        let begun = |at: &usize| matches!(states.get(*at), Some(State::Running | State::Over));
        let fetched = |at: &usize| states.get(*at).is_some_and(|state| *state != State::Waiting);
        run.begun += (run.begun..).take_while(begun).count();
        run.fetched += (run.fetched..).take_while(fetched).count();
        while self
            .runs
            .get(self.open_from)
            .is_some_and(|run| run.begun == run.states.len())
        {
            self.open_from += 1;
        }
    }

    /// Ends suspects that run; they wait again, should they still be wanted.
    pub fn stop_suspects(&mut self, out: &mut Vec<Action>) {
        self.stop_running(|run| run.alone, out);
    }

    /// Ends all that runs; it waits again.
    pub fn stop_all(&mut self, out: &mut Vec<Action>) {
        self.stop_running(|_| true, out);
    }

    fn stop_running(&mut self, which: impl Fn(&Run) -> bool, out: &mut Vec<Action>) {
        for run in self.runs.iter_mut().filter(|run| which(run)) {
            for at in 0..run.states.len() {
                let task = run.key(at);
                if run.states[at] == State::Running
                    && let Some(slot) = self.slots.stop(task)
                {
                    let slot = slot as u32;
                    out.push(Action::Stop { slot, task });
                    run.states[at] = State::Waiting;
                }
            }
            run.count_off();
        }
        self.index();
    }

    /// Some suspect is in a recogniser.
    pub fn runs_suspect(&self) -> bool {
        let runs = |run: &Run| run.alone && run.states.contains(&State::Running);
        self.runs.iter().any(runs)
    }

    pub fn forget_unused_specs(&mut self) {
        let used: BTreeSet<u64> = self.runs.iter().map(|run| run.spec).collect();
        self.specs.retain(|id, _| used.contains(id));
    }

    /// Drops the tasks of a run that is no longer wanted.
    fn drop_run(&mut self, run: &Run, out: &mut Vec<Action>) {
        for (at, state) in run.states.iter().enumerate() {
            let task = run.key(at);
            match state {
                State::Waiting | State::Over => {}
                State::Fetching | State::Ready => out.push(Action::Forget { task }),
                State::Running => {
                    if let Some(slot) = self.slots.stop(task) {
                        let slot = slot as u32;
                        out.push(Action::Stop { slot, task });
                    }
                }
            }
        }
    }

    /// The session ended: nothing of its work is wanted.
    pub fn clear(&mut self, out: &mut Vec<Action>) {
        let runs = std::mem::take(&mut self.runs);
        self.index();
        self.specs.clear();
        runs.iter().for_each(|run| self.drop_run(run, out));
    }

    /// What is wrong with a desired set, if anything.
    fn fault(&self, desired: &v1::Desired) -> Option<String> {
        let tasks: u64 = desired.runs.iter().map(|run| u64::from(run.count)).sum();
        if tasks > MAX_DESIRED_TASKS as u64 {
            return Some(format!(
                "a desired set of {tasks} tasks; at most {MAX_DESIRED_TASKS} are taken"
            ));
        }
        let new = |spec: &&v1::Spec| !self.specs.contains_key(&spec.id);
        if self.specs.len() + desired.specs.iter().filter(new).count() > MAX_SPECS {
            return Some(format!("more than {MAX_SPECS} specs on one stream"));
        }
        let fault = desired.runs.iter().find_map(|run| self.run_fault(run, desired));
        fault.or_else(|| overlap(&desired.runs))
    }

    fn run_fault(&self, run: &v1::Run, desired: &v1::Desired) -> Option<String> {
        let job = run.job;
        let known =
            self.specs.contains_key(&run.spec) || desired.specs.iter().any(|spec| spec.id == run.spec);
        if !known {
            let spec = run.spec;
            return Some(format!(
                "a run of job {job} names spec {spec}, which was not said on this stream"
            ));
        }
        let Some(end) = run.first.checked_add(run.count.into()).filter(|_| run.count > 0) else {
            return Some(format!(
                "a run of job {job} has no tasks, or goes past the last number"
            ));
        };
        let first = TaskKey {
            job,
            given: run.given,
            task: run.first,
        };
        let held = self.find(first).is_some_and(|(at, _)| end <= self.runs[at].end());
        (!held && run.photos.is_none())
            .then(|| format!("a run of job {job} has photos that were not said on this stream"))
    }

    /// Takes a desired set in place of the one before. `is_spooled` tells results that wait for their answer.
    pub fn take(
        &mut self,
        mut desired: v1::Desired,
        is_spooled: impl Fn(TaskKey) -> bool,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        if let Some(fault) = self.fault(&desired) {
            return Err(fault);
        }
        let mut said = Vec::with_capacity(desired.runs.len());
        for run in &mut desired.runs {
            let photos = run.photos.take();
            let photos = photos.map(|photos| Photos::read(run.first, run.count, photos).map(Arc::new));
            let fault = |why| format!("a run of job {} {why}", run.job);
            said.push(photos.transpose().map_err(fault)?);
        }
        for spec in desired.specs {
            self.specs.insert(spec.id, known(spec));
        }
        let before = std::mem::take(&mut self.runs);
        let mut before: BTreeMap<Place, Run> = before.into_iter().map(|run| (run.place(), run)).collect();
        for (run, photos) in desired.runs.iter().zip(said) {
            let run = assemble(run, photos, &mut before, &is_spooled, out);
            self.runs.push(run);
        }
        before.values().for_each(|run| self.drop_run(run, out));
        self.index();
        Ok(())
    }

    fn index(&mut self) {
        let places = self.runs.iter().enumerate();
        self.places = places.map(|(at, run)| (run.place(), at)).collect();
        self.counts = [0; STATES];
        for state in self.runs.iter().flat_map(|run| &run.states) {
            self.counts[*state as usize] += 1;
        }
        let open = |run: &Run| run.begun < run.states.len();
        self.open_from = self.runs.iter().position(open).unwrap_or(self.runs.len());
    }

    pub fn check(&self) {
        self.slots.check();
        assert_eq!(self.places.len(), self.runs.len());
        let mut counts = [0; STATES];
        for (at, run) in self.runs.iter().enumerate() {
            assert_eq!(self.places.get(&run.place()), Some(&at));
            let states = &run.states;
            states.iter().for_each(|state| counts[*state as usize] += 1);
            let begun = |state: &&State| matches!(state, State::Running | State::Over);
            assert_eq!(run.begun, states.iter().take_while(begun).count());
            let fetched = |state: &&State| **state != State::Waiting;
            assert_eq!(run.fetched, states.iter().take_while(fetched).count());
            assert!(at >= self.open_from || run.begun == states.len());
        }
        assert_eq!(counts, self.counts);
    }
}

fn known(spec: v1::Spec) -> Known {
    let name = spec.recogniser.split('@').next();
    Known {
        is_noop: name == Some(NOOP),
        spec: Arc::new(spec),
    }
}

/// Two runs that have a task in common.
fn overlap(runs: &[v1::Run]) -> Option<String> {
    let mut places: Vec<(Place, u32)> = runs
        .iter()
        .map(|run| ((run.job, run.given, run.first), run.count))
        .collect();
    places.sort_unstable();
    let meet = |pair: &&[(Place, u32)]| {
        let [((job, given, first), count), (next, _)] = pair else {
            return false;
        };
        (*job, *given) == (next.0, next.1) && next.2 - first < u64::from(*count)
    };
    let found = places.windows(2).find(meet)?;
    Some(format!("two runs of job {} overlap", found[0].0.0))
}

/// A run as it is wanted now, from what of it was there before. What is left in `before` is wanted no more.
fn assemble(
    wanted: &v1::Run,
    said: Option<Arc<Photos>>,
    before: &mut BTreeMap<Place, Run>,
    is_spooled: &impl Fn(TaskKey) -> bool,
    out: &mut Vec<Action>,
) -> Run {
    let end = wanted.first + u64::from(wanted.count);
    let mut run = match take_out(wanted, wanted.first, end, before) {
        Some(part) => part,
        None => Run {
            job: wanted.job,
            given: wanted.given,
            first: wanted.first,
            spec: wanted.spec,
            alone: wanted.alone,
            states: Vec::with_capacity(wanted.count as usize),
            photos: said.clone().expect("photos that nobody had were said"),
            begun: 0,
            fetched: 0,
        },
    };
    (run.spec, run.alone) = (wanted.spec, wanted.alone);
    run.photos = said.unwrap_or(run.photos);
    let of_one_part = run.end() == end;
    while run.end() < end {
        match take_out(wanted, run.end(), end, before) {
            Some(part) => run.states.extend(part.states),
            None => {
                let task = run.key(run.states.len());
                run.states.push(match is_spooled(task) {
                    true => State::Over,
                    false => State::Waiting,
                });
            }
        }
    }
    if !of_one_part {
        keep_in_order(&mut run, out);
    }
    run.count_off();
    run
}

/// Photos are fetched in order: one that is ahead of another that still waits has to wait too.
fn keep_in_order(run: &mut Run, out: &mut Vec<Action>) {
    let waits = |state: &State| *state == State::Waiting;
    let from = run.states.iter().position(waits).unwrap_or(run.states.len());
    for at in from..run.states.len() {
        if matches!(run.states[at], State::Fetching | State::Ready) {
            out.push(Action::Forget { task: run.key(at) });
            run.states[at] = State::Waiting;
        }
    }
}

/// Takes the part of a run before that has `task`, from there to `end` at most.
fn take_out(wanted: &v1::Run, task: u64, end: u64, before: &mut BTreeMap<Place, Run>) -> Option<Run> {
    let place = before
        .range((wanted.job, wanted.given, 0)..=(wanted.job, wanted.given, task))
        .next_back()
        .filter(|(_, run)| task < run.end())
        .map(|(place, _)| *place)?;
    let mut run = before.remove(&place)?;
    if run.first < task {
        let rest = run.split_off(task);
        before.insert(place, std::mem::replace(&mut run, rest));
    }
    if end < run.end() {
        let rest = run.split_off(end);
        before.insert(rest.place(), rest);
    }
    Some(run)
}
