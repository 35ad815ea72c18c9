//! What starts, and what is fetched ahead.

use rebound_proto::v1;

use super::limits::PREFETCH_PER_SLOT;
use super::work::{Held, State};
use super::{Action, Failure, Machine, NOOP, Now, TaskKey};

/// The recogniser's name without the digest that may pin it.
fn plain_name(recogniser: &str) -> &str {
    recogniser.split_once('@').map_or(recogniser, |(name, _)| name)
}

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

    fn start_ready(&mut self, now: Now, out: &mut Vec<Action>) {
        // Within a run photos start in order, so that the cursor says all.
        let mut behind_fetch: Option<(u64, u64)> = None;
        let mut claims = self.work.claims();
        for at in 0..self.work.order.len() {
            let Some(slot) = self.work.free_slot() else { break };
            let key = self.work.order[at];
            let Some(task) = self.work.tasks.get(&key) else {
                continue;
            };
            let run = (key.job, key.given);
            match task.state {
                State::Running | State::Over => continue,
                State::Fetching => {
                    behind_fetch = Some(run);
                    continue;
                }
                State::Waiting if !self.needs_no_photo(task.spec) => continue,
                State::Waiting if !self.outbox.has_room_for(claims + 1) => continue,
                State::Waiting | State::Ready => {}
            }
            if behind_fetch == Some(run) || self.work.is_held(key) {
                continue;
            }
            let Some(spec) = self.work.specs.get(&task.spec).cloned() else {
                continue;
            };
            let resources = spec.resources.unwrap_or_default();
            // Nothing overtakes a photo that waits for resources, or small ones could keep it out for ever.
            if !self.work.fits(&resources, &self.config.resources) {
                break;
            }
            let uri = task.uri.clone();
            claims += usize::from(task.state == State::Waiting);
            self.work.slots[slot] = Some(Held {
                task: key,
                resources,
                started_wall_us: now.wall_us,
                stopping: false,
            });
            self.set_state(key, State::Running);
            out.push(Action::Start {
                slot: slot as u32,
                task: key,
                spec,
                uri,
            });
        }
    }

    fn fetch_ahead(&mut self, now: Now, out: &mut Vec<Action>) {
        let most = self.work.slots.len() * PREFETCH_PER_SLOT;
        let mut ahead = self.work.count(&[State::Fetching, State::Ready]);
        let mut claims = self.work.claims();
        for at in 0..self.work.order.len() {
            let key = self.work.order[at];
            let Some(task) = self.work.tasks.get(&key) else {
                continue;
            };
            if task.state != State::Waiting || self.needs_no_photo(task.spec) {
                continue;
            }
            if ahead >= most || !self.outbox.has_room_for(claims + 1) {
                break;
            }
            if let Some(failure) = self.cannot_run(task.spec) {
                self.settle(now, key, now.wall_us, Err(failure), out);
                continue;
            }
            out.push(Action::Fetch {
                task: key,
                uri: task.uri.clone(),
            });
            self.set_state(key, State::Fetching);
            ahead += 1;
            claims += 1;
        }
    }

    fn needs_no_photo(&self, spec: u64) -> bool {
        self.work
            .specs
            .get(&spec)
            .is_some_and(|spec| plain_name(&spec.recogniser) == NOOP)
    }

    fn cannot_run(&self, spec: u64) -> Option<Failure> {
        let spec = self.work.specs.get(&spec)?;
        let (name, pin) = spec.recogniser.split_once('@').unwrap_or((&spec.recogniser, ""));
        let message = match self.config.recognisers.iter().find(|here| here.name == name) {
            Some(here) if is_pinned_by(&here.digest, pin) => return None,
            Some(_) => format!("this worker's {name} is another than {}", spec.recogniser),
            None => format!("this worker has no recogniser {name:?}"),
        };
        Some(Failure::new(v1::Cause::Recogniser, message))
    }

    pub(super) fn set_state(&mut self, key: TaskKey, state: State) {
        if let Some(task) = self.work.tasks.get_mut(&key) {
            task.state = state;
        }
    }
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
