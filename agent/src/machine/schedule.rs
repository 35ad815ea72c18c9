//! What starts, and what is fetched ahead.

use rebound_proto::v1;

use super::limits::{MAX_PREFETCH_PER_SLOT, PREFETCH_PER_SLOT};
use super::slots::Held;
use super::work::State;
use super::{Action, Failure, Machine, Now};

impl Machine {
    fn has_room(&self) -> bool {
        self.outbox.has_room_for(self.work.claims() + 1)
    }

    /// The spool takes nothing more until an answer comes.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() > 0 && !self.has_room()
    }

    fn may_begin(&self) -> bool {
        !self.orphaned && self.leave.is_none()
    }

    /// Starts what can start, then fetches ahead.
    pub(super) fn schedule(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.may_begin() {
            return;
        }
        self.start_ready(now, out);
        self.fetch_ahead(now, out);
    }

    /// Within a run photos start in order, so that the cursor says all: only the one at the cursor may be next.
    fn start_ready(&mut self, now: Now, out: &mut Vec<Action>) {
        for run in self.work.open_from..self.work.runs.len() {
            loop {
                if !self.work.slots.has_free() {
                    return;
                }
                match self.start_next_of(run, now, out) {
                    Next::Started => {}
                    Next::Blocked => break,
                    // Nothing overtakes a photo that waits for resources, or small ones could keep it out for ever.
                    Next::NoResources => return,
                }
            }
        }
    }

    fn start_next_of(&mut self, run: usize, now: Now, out: &mut Vec<Action>) -> Next {
        let (index, run) = (run, &self.work.runs[run]);
        let (at, task) = (run.begun, run.key(run.begun));
        let Some(known) = self.work.specs.get(&run.spec) else {
            return Next::Blocked;
        };
        let can = match run.states.get(at) {
            Some(State::Ready) => true,
            Some(State::Waiting) => known.is_noop && self.has_room(),
            _ => false,
        };
        // What was stopped and is wanted again waits until its slot is free.
        let cut_off = run.alone && self.now_us >= self.suspects_until();
        if !can || cut_off || self.work.slots.is_held(task) {
            return Next::Blocked;
        }
        let resources = known.spec.resources.unwrap_or_default();
        if !self.work.slots.fits(&resources, &self.config.resources) {
            return Next::NoResources;
        }
        let (spec, uri, alone) = (known.spec.clone(), run.uri(at), run.alone);
        let held = Held {
            task,
            resources,
            spec: run.spec,
            started_wall_us: now.wall_us,
            started_us: now.mono_us,
            stopping: false,
        };
        let Some(slot) = self.work.slots.hold(held) else {
            return Next::Blocked;
        };
        self.work.set_at(index, at, State::Running);
        out.push(Action::Start {
            slot: slot as u32,
            task,
            spec,
            uri,
            alone,
        });
        Next::Started
    }

    fn fetch_ahead(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.work.count(&[State::Waiting]) == 0 {
            return;
        }
        for run in self.work.open_from..self.work.runs.len() {
            let spec = self.work.runs[run].spec;
            if self.work.specs.get(&spec).is_none_or(|known| known.is_noop) {
                continue;
            }
            let failure = self.cannot_run(spec);
            let most = self.work.slots.len() * self.prefetch_per_slot(spec);
            while self.work.runs[run].fetched < self.work.runs[run].states.len() {
                let ahead = self.work.count(&[State::Fetching, State::Ready]);
                if ahead >= most || !self.has_room() {
                    return;
                }
                let at = self.work.runs[run].fetched;
                let task = self.work.runs[run].key(at);
                if let Some(failure) = &failure {
                    self.settle(now, task, now.wall_us, Err(failure.clone()), out);
                    continue;
                }
                let uri = self.work.runs[run].uri(at);
                self.work.set_at(run, at, State::Fetching);
                self.paces.fetch_begins(task, now.mono_us);
                out.push(Action::Fetch { task, uri });
            }
        }
    }

    /// So many that the next photo is here when a slot falls free.
    fn prefetch_per_slot(&self, spec: u64) -> usize {
        let longer = self.paces.fetch_us().saturating_sub(1);
        let times = longer.checked_div(self.paces.service_us(spec)).unwrap_or(0);
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        PREFETCH_PER_SLOT.saturating_add(times).min(MAX_PREFETCH_PER_SLOT)
    }

    fn cannot_run(&self, spec: u64) -> Option<Failure> {
        let spec = &self.work.specs.get(&spec)?.spec;
        let (name, pin) = spec.recogniser.split_once('@').unwrap_or((&spec.recogniser, ""));
        let message = match self.config.recognisers.iter().find(|here| here.name == name) {
            Some(here) if is_pinned_by(&here.digest, pin) => return None,
            Some(_) => format!("this worker's {name} is another than {}", spec.recogniser),
            None => format!("this worker has no recogniser {name:?}"),
        };
        Some(Failure::new(v1::Cause::Recogniser, message))
    }
}

/// What became of the next photo of a run.
enum Next {
    Started,
    /// It is not ready, or there is none.
    Blocked,
    /// The machine has no resources for it now.
    NoResources,
}

/// Whether hex digits are the beginning of a digest. None pins nothing.
fn is_pinned_by(digest: &[u8], pin: &str) -> bool {
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pin.len() <= 2 * digest.len()
        && pin
            .chars()
            .zip(nibbles)
            .all(|(digit, nibble)| digit.to_digit(16) == Some(nibble.into()))
}
