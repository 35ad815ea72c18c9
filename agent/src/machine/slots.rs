//! Slots: what is in recognisers now, and what that takes of the machine.

use std::collections::{BTreeMap, BTreeSet};

use rebound_proto::v1;

use super::TaskKey;

/// What a slot does.
pub(super) struct Held {
    pub task: TaskKey,
    pub resources: v1::Resources,
    pub spec: u64,
    pub started_wall_us: u64,
    /// The same on the clock that never goes back.
    pub started_us: u64,
    /// It was stopped: whatever comes out of it counts for nothing.
    pub stopping: bool,
}

pub(super) struct Slots {
    slots: Vec<Option<Held>>,
    free: BTreeSet<usize>,
    busy: BTreeMap<TaskKey, usize>,
    /// Sums over what is held: thousandths of a CPU, MiB, GPUs.
    used: [u64; 3],
}

fn amounts(resources: &v1::Resources) -> [u64; 3] {
    [resources.milli_cpu, resources.memory_mib, resources.gpus].map(u64::from)
}

impl Slots {
    pub fn new(count: u32) -> Slots {
        Slots {
            slots: (0..count).map(|_| None).collect(),
            free: (0..count as usize).collect(),
            busy: BTreeMap::new(),
            used: [0; 3],
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.slots.iter().flatten()
    }

    pub fn running(&self) -> usize {
        self.busy.len()
    }

    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub fn is_held(&self, task: TaskKey) -> bool {
        self.busy.contains_key(&task)
    }

    /// Puts something into the first free slot; `None` if all are taken.
    pub fn hold(&mut self, held: Held) -> Option<usize> {
        let slot = self.free.pop_first()?;
        self.busy.insert(held.task, slot);
        for (sum, one) in self.used.iter_mut().zip(amounts(&held.resources)) {
            *sum += one;
        }
        self.slots[slot] = Some(held);
        Some(slot)
    }

    /// What the slot of a task did; it is free from now on.
    pub fn release(&mut self, task: TaskKey) -> Option<Held> {
        let slot = self.busy.remove(&task)?;
        self.free.insert(slot);
        let held = self.slots[slot].take()?;
        for (sum, one) in self.used.iter_mut().zip(amounts(&held.resources)) {
            *sum -= one;
        }
        Some(held)
    }

    /// Marks what runs in a task's slot as stopped; which slot that is.
    pub fn stop(&mut self, task: TaskKey) -> Option<usize> {
        let slot = *self.busy.get(&task)?;
        self.slots[slot].as_mut()?.stopping = true;
        Some(slot)
    }

    /// Whether a task of these resources fits beside what runs. Alone anything fits.
    pub fn fits(&self, need: &v1::Resources, have: &v1::Resources) -> bool {
        let fits = |((used, need), have): ((&u64, u64), u64)| used + need <= have;
        let sums = self.used.iter().zip(amounts(need)).zip(amounts(have));
        self.busy.is_empty() || sums.into_iter().all(fits)
    }

    pub fn check(&self) {
        assert_eq!(self.free.len() + self.busy.len(), self.slots.len());
        let mut used = [0; 3];
        for (task, slot) in &self.busy {
            let held = self.slots[*slot].as_ref().expect("a busy slot holds something");
            assert_eq!(held.task, *task);
            for (sum, one) in used.iter_mut().zip(amounts(&held.resources)) {
                *sum += one;
            }
        }
        assert_eq!(used, self.used);
        assert!(self.free.iter().all(|slot| self.slots[*slot].is_none()));
    }
}
