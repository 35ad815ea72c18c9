//! When a job will be done, as far as its leader can tell: what is ahead of it in its environment's order, what workers
//! measured, how much of their slots' time comes out, and the environment's part of them. An estimate: it decides
//! nothing but who is let in under overload.
//!
//! What waits of an environment is looked at once for many questions. A look costs with the jobs that wait, so what was
//! seen counts for longer the more there were, and the more environments have work; what is let in meanwhile is counted
//! on top.

use std::collections::BTreeMap;

use super::Replica;
use crate::limits::{LINE_FRESH, LINE_JOBS_MAX, LINE_JOBS_MIN, LINE_STAYS, LINE_STAYS_SAME, LINES_MAX};
use crate::state::jobs::{Job, QueueKey};
use crate::types::{EnvId, Index, JobId, Mono, SpecId, Time};

/// What is known of a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Photos of its environment that go before it: those with workers, and those in front of it in the queue.
    pub ahead: u64,
    /// When its photos so far will have ended; none while no worker that could run it has measured such photos.
    pub expected_done: Option<Time>,
    /// By this estimate it ends after its deadline.
    pub too_late: bool,
}

/// A job's place among those that wait, with what there is up to it and with it.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: QueueKey,
    photos: u64,
    work: u128,
}

/// What waits of an environment, in order, as it was when it was looked at. Work is µs of slots.
#[derive(Debug, Default)]
pub(crate) struct Line {
    seen: Mono,
    at: Index,
    places: Vec<Place>,
    /// Photos that wait behind those looked at, if not all were.
    photos_behind: u64,
    work_behind: u128,
    /// Photos with workers.
    held: u64,
    /// The environment's weight, and that of all that have something to do.
    part: (u64, u64),
    /// How many have something to do, this one included.
    busy: usize,
    /// Let in since, by how many priorities are above it.
    since: BTreeMap<u8, u128>,
    /// Let in and not applied yet.
    coming: BTreeMap<u8, u128>,
}

/// Jobs to look at of one environment, where so many have something to do.
fn jobs_of(busy: usize) -> usize {
    (LINE_JOBS_MAX / busy.max(1)).max(LINE_JOBS_MIN)
}

impl Line {
    /// How long it counts though more is applied, in µs.
    fn stays(&self) -> u64 {
        let jobs = self.places.len().saturating_sub(LINE_FRESH);
        LINE_STAYS * (jobs * self.busy) as u64
    }

    /// Photos and work in front of a place.
    fn before(&self, key: &QueueKey) -> (u64, u128) {
        let at = self.places.partition_point(|place| place.key < *key);
        let (photos, work) = match at.checked_sub(1) {
            Some(last) => (self.places[last].photos, self.places[last].work),
            None => (0, 0),
        };
        match at == self.places.len() {
            true => (photos + self.photos_behind, work + self.work_behind),
            false => (photos, work),
        }
    }

    fn all(&self) -> u128 {
        self.before(&(u8::MAX, true, Time(u64::MAX), JobId(u64::MAX))).1
    }

    /// What was let in with at least this priority and was not there to be seen.
    fn let_in(&self, class: u8) -> u128 {
        let sum = |of: &BTreeMap<u8, u128>| of.range(..=class).map(|(_, work)| work).sum::<u128>();
        sum(&self.since) + sum(&self.coming)
    }

    /// More is let in.
    pub fn comes(&mut self, class: u8, work: u128) {
        *self.coming.entry(class).or_default() += work;
    }

    /// It was applied, or never will be.
    pub fn came(&mut self, class: u8, work: u128, is_there: bool) {
        if let Some(coming) = self.coming.get_mut(&class) {
            *coming = coming.saturating_sub(work);
        }
        if is_there {
            *self.since.entry(class).or_default() += work;
        }
    }
}

/// How long work takes on the workers that could run a spec, in an environment's part of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    /// µs until work that would come at a place is done.
    pub done_in: u64,
    /// µs for all that waits of the environment.
    pub all_in: u64,
    /// µs for the work itself, alone.
    pub own: u64,
    /// The work, in µs of slots.
    pub work: u128,
}

impl Replica {
    /// Looks at what waits of an environment, and at who could run a spec of it, unless that was just done.
    pub(super) fn look_ahead(&mut self, env: EnvId, spec: SpecId) {
        let (now, state) = (self.now.mono, &self.state);
        let Some(leader) = &mut self.leader else { return };
        leader.speed.look(now, state, &leader.paces, spec);
        let line = leader.lines.get(&env);
        let stays = |line: &Line| match line.at == state.applied() {
            true => now.0 < line.seen.0 + LINE_STAYS_SAME,
            false => now.0 < line.seen.0 + line.stays(),
        };
        if line.is_some_and(stays) {
            return;
        }
        let (part, busy) = self.part_of(env);
        let Some(leader) = &mut self.leader else { return };
        let specs = state.jobs.queued_specs();
        let specs: Vec<SpecId> = specs
            .filter(|spec| state.specs.home(*spec) == Some(env))
            .collect();
        for spec in &specs {
            leader.speed.look(now, state, &leader.paces, *spec);
        }
        // What nobody could run keeps nobody from anything.
        let runs = specs.into_iter().filter(|spec| leader.speed.of(*spec).is_some());
        let specs: Vec<SpecId> = runs.collect();
        let service = |spec: &SpecId| leader.speed.of(*spec).and_then(|one| one.service);
        // Of what nobody has measured: as long as the longest.
        let unknown = specs.iter().chain([&spec]).filter_map(service).max().unwrap_or(0);
        let mut places = Vec::new();
        let most = jobs_of(busy) / specs.len().max(1) + 1;
        let mut is_cut = false;
        for spec in &specs {
            let each = service(spec).unwrap_or(unknown);
            let mut queued = state.jobs.queued(*spec);
            for key in queued.by_ref().take(most) {
                let photos = state.jobs.get_in(env, key.3).map_or(0, Job::waiting);
                let work = u128::from(photos) * u128::from(each);
                places.push(Place { key, photos, work });
            }
            is_cut |= queued.next().is_some();
        }
        places.sort_unstable_by_key(|place| place.key);
        let (mut photos, mut work) = (0, 0);
        for place in &mut places {
            (photos, work) = (photos + place.photos, work + place.work);
            (place.photos, place.work) = (photos, work);
        }
        let counts = state
            .environments
            .get(env)
            .map(|one| one.counts)
            .unwrap_or_default();
        let behind = if is_cut {
            counts.waiting.saturating_sub(photos)
        } else {
            0
        };
        let each = work
            .checked_div(u128::from(photos))
            .unwrap_or(u128::from(unknown));
        if leader.lines.len() >= LINES_MAX && !leader.lines.contains_key(&env) {
            leader.lines.clear();
        }
        let line = leader.lines.entry(env).or_default();
        let coming = std::mem::take(&mut line.coming);
        *line = Line {
            seen: now,
            at: self.state.applied(),
            places,
            photos_behind: behind,
            work_behind: u128::from(behind) * each,
            held: counts.given,
            part,
            busy,
            since: BTreeMap::new(),
            coming,
        };
    }

    /// How long so many photos of a spec would take that come at a place in the queue; none when nobody measured them.
    /// [`Self::look_ahead`] must have been called.
    pub(super) fn estimate(&self, env: EnvId, spec: SpecId, key: &QueueKey, photos: u64) -> Option<Estimate> {
        let leader = self.leader.as_ref()?;
        let line = leader.lines.get(&env)?;
        let measured = leader.speed.of(spec)?;
        let service = u128::from(measured.service?);
        // What is in slots is half done, on the whole.
        let in_slots = u128::from(line.held.min(measured.slots)) * service / 2;
        let held = u128::from(line.held) * service - in_slots;
        let (weight, all) = line.part;
        let takes = |work: u128| {
            let part = work * u128::from(all) / u128::from(weight.max(1));
            let running = leader.speed.takes(part, measured.slots);
            running.saturating_mul(self.config.clock_rate)
        };
        let work = u128::from(photos) * service;
        let before = line.before(key).1 + line.let_in(key.0) + held;
        let own = u64::try_from(service)
            .unwrap_or(u64::MAX)
            .saturating_mul(self.config.clock_rate);
        Some(Estimate {
            done_in: takes(before + work).saturating_add(own),
            all_in: takes(line.all() + line.let_in(u8::MAX)),
            own: takes(work),
            work,
        })
    }

    /// The outlook of a job that has not ended, at a leader. [`Self::look_ahead`] must have been called.
    pub(super) fn outlook(&self, env: EnvId, id: JobId) -> Option<Outlook> {
        let leader = self.leader.as_ref()?;
        let job = self.state.jobs.get_in(env, id);
        let job = job.filter(|job| job.phase.is_live())?;
        let line = leader.lines.get(&env)?;
        leader.speed.of(job.spec)?;
        let next = || self.state.jobs.place(env, id, job, job.late_to.max(job.fresh));
        let key = self.state.jobs.queue_place(id).unwrap_or_else(next);
        let now = leader.clock.peek(self.now);
        // One that was let in since does not go before itself.
        let unseen = if line.at < id.0 { job.waiting() } else { 0 };
        let estimate = self.estimate(env, job.spec, &key, job.waiting() - unseen);
        let expected_done = estimate.map(|one| Time(now.0.saturating_add(one.done_in)));
        let deadline = job.deadline.unwrap_or(Time(u64::MAX));
        Some(Outlook {
            ahead: line.before(&key).0 + line.held.saturating_sub(job.given),
            expected_done,
            too_late: expected_done.is_some_and(|at| at > deadline),
        })
    }

    /// An environment's weight and that of all that have something to do, and how many those are.
    fn part_of(&self, env: EnvId) -> ((u64, u64), usize) {
        let weight = |id| u64::from(self.state.allotment(id).weight.max(1));
        let busy = self.state.environments.iter().filter(|(id, one)| {
            let counts = one.counts;
            *id == env || counts.waiting + counts.given > 0
        });
        let (all, count) = busy.fold((0, 0), |(all, count), (id, _)| (all + weight(id), count + 1));
        ((weight(env), all), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(class: u8, due: u64, job: u64) -> QueueKey {
        (class, false, Time(due), JobId(job))
    }

    fn line() -> Line {
        let place = |key, photos, work| Place { key, photos, work };
        Line {
            places: vec![
                place(key(200, 10, 1), 3, 30),
                place(key(200, 20, 2), 5, 50),
                place(key(255, 5, 3), 9, 90),
            ],
            photos_behind: 4,
            work_behind: 40,
            ..Line::default()
        }
    }

    #[test]
    fn what_is_before_a_place_is_found_and_what_was_not_seen_is_behind_all() {
        let line = line();
        assert_eq!(line.before(&key(0, 0, 0)), (0, 0));
        assert_eq!(
            line.before(&key(200, 10, 1)),
            (0, 0),
            "nothing is before the first"
        );
        assert_eq!(line.before(&key(200, 15, 9)), (3, 30));
        assert_eq!(line.before(&key(255, 4, 9)), (5, 50));
        assert_eq!(line.before(&key(255, 6, 9)), (13, 130));
        assert_eq!(line.all(), 130);
    }

    #[test]
    fn looks_take_no_more_of_a_processor_where_many_environments_have_work() {
        let of = |busy: usize| Line {
            places: vec![line().places[0]; jobs_of(busy)],
            busy,
            ..Line::default()
        };
        // A µs a job: of what environments' looks take together, in the time that one counts.
        for busy in [1, 7, 50, 900] {
            let (jobs, stays) = (jobs_of(busy), of(busy).stays());
            assert!((busy * jobs) as u64 * 17 <= stays, "{busy} environments");
        }
        assert!(50 * jobs_of(50) <= LINE_JOBS_MAX && jobs_of(900) == LINE_JOBS_MIN);
        assert_eq!(line().stays(), 0, "few are looked at whenever they are asked for");
    }

    #[test]
    fn what_is_let_in_counts_until_it_is_seen() {
        let mut line = line();
        line.comes(200, 7);
        line.comes(255, 8);
        assert_eq!((line.let_in(100), line.let_in(200), line.let_in(255)), (0, 7, 15));
        line.came(200, 7, true);
        line.came(255, 8, false);
        assert_eq!(
            (line.let_in(200), line.let_in(255)),
            (7, 7),
            "one never will be there"
        );
    }
}
