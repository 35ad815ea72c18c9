//! Tasks of the desired set, and the slots they run in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rebound_proto::v1;

use super::limits::{MAX_DESIRED_TASKS, MAX_SPECS};
use super::{Action, TaskKey};

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

pub(super) struct Task {
    pub uri: String,
    pub spec: u64,
    pub state: State,
}

/// A run of the desired set; its tasks are `first .. first + count`.
pub(super) struct Run {
    pub job: u64,
    pub first: u64,
    pub given: u64,
    pub count: u64,
    pub trace_id: Bytes,
}

/// What a slot does.
pub(super) struct Held {
    pub task: TaskKey,
    pub resources: v1::Resources,
    pub started_wall_us: u64,
    /// It was stopped: whatever comes out of it counts for nothing.
    pub stopping: bool,
}

pub(super) struct Work {
    pub tasks: BTreeMap<TaskKey, Task>,
    /// Keys of `tasks` as the desired set orders them.
    pub order: Vec<TaskKey>,
    pub runs: Vec<Run>,
    /// Specs said on this stream, and those still in use from earlier ones.
    pub specs: BTreeMap<u64, v1::Spec>,
    pub slots: Vec<Option<Held>>,
}

impl Work {
    pub fn new(slots: u32) -> Work {
        Work {
            tasks: BTreeMap::new(),
            order: Vec::new(),
            runs: Vec::new(),
            specs: BTreeMap::new(),
            slots: (0..slots).map(|_| None).collect(),
        }
    }

    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.slots.iter().flatten()
    }

    pub fn running(&self) -> usize {
        self.held().count()
    }

    pub fn is_held(&self, key: TaskKey) -> bool {
        self.held().any(|held| held.task == key)
    }

    pub fn has_waiting(&self) -> bool {
        self.tasks
            .values()
            .any(|task| matches!(task.state, State::Waiting | State::Fetching | State::Ready))
    }

    pub fn count(&self, states: &[State]) -> usize {
        self.tasks
            .values()
            .filter(|task| states.contains(&task.state))
            .count()
    }

    /// Results that work in progress may still bring.
    pub fn claims(&self) -> usize {
        self.count(&[State::Fetching, State::Ready, State::Running])
    }

    pub fn forget_unused_specs(&mut self) {
        let used: BTreeSet<u64> = self.tasks.values().map(|task| task.spec).collect();
        self.specs.retain(|id, _| used.contains(id));
    }

    /// First task of a run that is neither started nor over.
    pub fn cursor(&self, run: &Run) -> u64 {
        let begun = (run.first..run.first + run.count).take_while(|task| {
            let key = TaskKey {
                job: run.job,
                task: *task,
                given: run.given,
            };
            self.tasks
                .get(&key)
                .is_some_and(|task| matches!(task.state, State::Running | State::Over))
        });
        run.first + begun.count() as u64
    }

    pub fn slot_of(&self, key: TaskKey) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|held| held.task == key))
    }

    pub fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(Option::is_none)
    }

    /// Whether a task of these resources fits beside what runs. Alone anything fits.
    pub fn fits(&self, need: &v1::Resources, have: &v1::Resources) -> bool {
        if self.running() == 0 {
            return true;
        }
        let fits = |of: fn(&v1::Resources) -> u32| {
            let used: u64 = self.held().map(|held| u64::from(of(&held.resources))).sum();
            used + u64::from(of(need)) <= u64::from(of(have))
        };
        fits(|r| r.milli_cpu) && fits(|r| r.memory_mib) && fits(|r| r.gpus)
    }

    /// Drops a task that is no longer wanted.
    fn drop_task(&mut self, key: TaskKey, state: State, out: &mut Vec<Action>) {
        match state {
            State::Waiting | State::Over => {}
            State::Fetching | State::Ready => out.push(Action::Forget { task: key }),
            State::Running => {
                if let Some(slot) = self.slot_of(key)
                    && let Some(held) = self.slots[slot].as_mut()
                {
                    held.stopping = true;
                    out.push(Action::Stop {
                        slot: slot as u32,
                        task: key,
                    });
                }
            }
        }
    }

    /// The session ended: nothing of its work is wanted.
    pub fn clear(&mut self, out: &mut Vec<Action>) {
        for (key, task) in std::mem::take(&mut self.tasks) {
            self.drop_task(key, task.state, out);
        }
        self.order.clear();
        self.runs.clear();
        self.specs.clear();
    }

    /// What is wrong with a desired set, if anything.
    fn fault(&self, desired: &v1::Desired) -> Option<String> {
        let tasks: usize = desired.runs.iter().map(|run| run.uris.len()).sum();
        if tasks > MAX_DESIRED_TASKS {
            return Some(format!(
                "a desired set of {tasks} tasks; at most {MAX_DESIRED_TASKS} are taken"
            ));
        }
        let new = desired
            .specs
            .iter()
            .filter(|spec| !self.specs.contains_key(&spec.id))
            .count();
        if self.specs.len() + new > MAX_SPECS {
            return Some(format!("more than {MAX_SPECS} specs on one stream"));
        }
        desired.runs.iter().find_map(|run| {
            let known =
                self.specs.contains_key(&run.spec) || desired.specs.iter().any(|spec| spec.id == run.spec);
            if !known {
                return Some(format!(
                    "a run of job {} names spec {}, which was not said on this stream",
                    run.job, run.spec
                ));
            }
            let end = run.first.checked_add(run.uris.len() as u64);
            end.is_none()
                .then(|| format!("a run of job {} goes past the last task number", run.job))
        })
    }

    /// Takes a desired set in place of the one before. `is_spooled` tells results that wait for their answer.
    pub fn take(
        &mut self,
        desired: v1::Desired,
        is_spooled: impl Fn(TaskKey) -> bool,
        out: &mut Vec<Action>,
    ) -> Result<(), String> {
        if let Some(fault) = self.fault(&desired) {
            return Err(fault);
        }
        for spec in desired.specs {
            self.specs.insert(spec.id, spec);
        }
        let mut before = std::mem::take(&mut self.tasks);
        self.order.clear();
        self.runs.clear();
        for run in desired.runs {
            let count = run.uris.len() as u64;
            self.runs.push(Run {
                job: run.job,
                first: run.first,
                given: run.given,
                count,
                trace_id: run.trace_id,
            });
            for (offset, uri) in run.uris.into_iter().enumerate() {
                let key = TaskKey {
                    job: run.job,
                    task: run.first + offset as u64,
                    given: run.given,
                };
                if self.tasks.contains_key(&key) {
                    continue;
                }
                let state = match before.remove(&key) {
                    Some(task) => task.state,
                    None if is_spooled(key) => State::Over,
                    None => State::Waiting,
                };
                self.tasks.insert(
                    key,
                    Task {
                        uri,
                        spec: run.spec,
                        state,
                    },
                );
                self.order.push(key);
            }
        }
        for (key, task) in before {
            self.drop_task(key, task.state, out);
        }
        Ok(())
    }
}
