//! A worker of a played market: it does what it is told, slot by slot, and reports what it did.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rebound_core::command::Report;
use rebound_core::effects::{Desired, DesiredRun};
use rebound_core::io::WorkerReport;
use rebound_core::limits::WORKER_HEARTBEAT;
use rebound_core::observe::tails::Cursors;
use rebound_core::pace::Pace;
use rebound_core::rows::{Packing, Row};
use rebound_core::types::*;

use crate::rng::Rng;

/// Results gather for so long before they are reported, in µs.
const GATHER: u64 = 100 * MILLISECOND;
/// An answer's time and a fetch's, as it measures them, in µs.
const ANSWER: u64 = 20 * MILLISECOND;
const FETCH: u64 = 50 * MILLISECOND;
/// A machine that has its notice hands back what runs so long before its end, as agents do.
const HANDS_BACK: u64 = rebound_agent::machine::limits::NOTICE_MARGIN_US;

/// An attempt in a slot: when it ends, of which job, which photo, under which fence, and when it began.
type Slot = Reverse<(u64, JobId, u64, Given, u64)>;

/// See the module.
pub struct Hand {
    /// Its machine.
    pub machine: InstanceId,
    /// Its session.
    pub session: Option<WorkerId>,
    /// When it next has something to do.
    pub wake: u64,
    /// It has nothing more to say.
    pub over: bool,
    slots: u32,
    photo: u64,
    rng: Rng,
    runs: Vec<DesiredRun>,
    next: BTreeMap<(JobId, Given), u64>,
    running: BinaryHeap<Slot>,
    done: Vec<(JobId, Given, u64, u64, u64)>,
    done_since: u64,
    heartbeat: u64,
    service: BTreeMap<SpecId, u64>,
    taken_at: Option<u64>,
}

impl Hand {
    /// One that has joined nothing yet. `photo`: the median µs of a photo in a slot.
    pub fn new(machine: InstanceId, slots: u32, photo: u64, rng: Rng) -> Hand {
        Hand {
            machine,
            session: None,
            wake: u64::MAX,
            over: false,
            slots,
            photo,
            rng,
            runs: Vec::new(),
            next: BTreeMap::new(),
            running: BinaryHeap::new(),
            done: Vec::new(),
            done_since: 0,
            heartbeat: 0,
            service: BTreeMap::new(),
            taken_at: None,
        }
    }

    /// Its session has begun.
    pub fn welcome(&mut self, worker: WorkerId, now: u64) {
        self.session = Some(worker);
        self.heartbeat = now;
    }

    /// All that it shall do.
    pub fn told(&mut self, desired: Desired) {
        let runs = &desired.runs;
        self.next
            .retain(|(job, given), _| runs.iter().any(|run| run.job == *job && run.given == *given));
        for run in runs {
            self.service.entry(run.spec).or_insert(0);
        }
        self.runs = desired.runs;
    }

    /// Its machine will be taken.
    pub fn noticed(&mut self, at: u64, now: u64) -> WorkerReport {
        self.taken_at = Some(at);
        WorkerReport::Noticed {
            within: at.saturating_sub(now),
        }
    }

    /// Does what is due, and says what there is to say.
    pub fn work(&mut self, now: u64) -> Vec<WorkerReport> {
        let mut says = Vec::new();
        if self.over || self.session.is_none() {
            self.wake = u64::MAX;
            return says;
        }
        self.end_attempts(now);
        if self.taken_at.is_some_and(|at| now + HANDS_BACK >= at) {
            self.over = true;
            self.running.clear();
            says.extend(self.report());
            says.push(WorkerReport::Leaving { empty: true });
            self.wake = u64::MAX;
            return says;
        }
        self.fill(now);
        if !self.done.is_empty() && (now >= self.done_since + GATHER || self.running.is_empty()) {
            says.extend(self.report());
        }
        if now >= self.heartbeat {
            self.heartbeat = now + WORKER_HEARTBEAT;
            says.push(self.heartbeats());
        }
        let ends = self.running.peek().map_or(u64::MAX, |Reverse(one)| one.0);
        let gathered = if self.done.is_empty() {
            u64::MAX
        } else {
            self.done_since + GATHER
        };
        let leaves = self.taken_at.map_or(u64::MAX, |at| at - HANDS_BACK);
        self.wake = ends.min(gathered).min(self.heartbeat).min(leaves).max(now + 1);
        says
    }

    fn end_attempts(&mut self, now: u64) {
        while self.running.peek().is_some_and(|Reverse(one)| one.0 <= now) {
            let Some(Reverse((ended, job, task, given, began))) = self.running.pop() else {
                return;
            };
            if self.done.is_empty() {
                self.done_since = ended;
            }
            self.done.push((job, given, task, began, ended));
        }
    }

    fn fill(&mut self, now: u64) {
        while self.running.len() < self.slots as usize {
            let due = self.runs.iter().find_map(|run| {
                let next = self.next.get(&(run.job, run.given)).copied().unwrap_or(0);
                let task = next.max(run.first);
                (task <= run.last).then_some((run.job, run.given, run.spec, task))
            });
            let Some((job, given, spec, task)) = due else {
                return;
            };
            let took = self.takes();
            // What cannot be done before its machine is taken is not begun.
            if self.taken_at.is_some_and(|at| now + took + HANDS_BACK > at) {
                return;
            }
            self.next.insert((job, given), task + 1);
            self.service.insert(spec, self.photo);
            self.running.push(Reverse((now + took, job, task, given, now)));
        }
    }

    /// How long one photo takes, as agents draw it.
    fn takes(&mut self) -> u64 {
        let took = rebound_agent::runner::noop_takes(self.photo, self.rng.draws());
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn report(&mut self) -> Option<WorkerReport> {
        self.done.sort_unstable();
        let mut reports: Vec<(Report, Packing)> = Vec::new();
        for (job, given, task, began, ended) in self.done.drain(..) {
            let row = Row {
                started: Time(began),
                ended: Time(ended),
                output: b"1",
            };
            let next = |(report, packing): &&mut (Report, Packing)| {
                report.job == job && report.given == given && report.first + packing.len() == task
            };
            if let Some((_, packing)) = reports.last_mut().as_mut().filter(|last| next(last)) {
                packing.push(row);
                continue;
            }
            let mut packing = Packing::default();
            packing.push(row);
            let report = Report {
                job,
                first: task,
                given,
                cause: None,
                rows: Packing::default().done(),
            };
            reports.push((report, packing));
        }
        let whole = |(report, packing): (Report, Packing)| Report {
            rows: packing.done(),
            ..report
        };
        let reports: Vec<Report> = reports.into_iter().map(whole).collect();
        (!reports.is_empty()).then(|| WorkerReport::Results {
            reports,
            running: self.running.len() as u32,
            spooled: 0,
        })
    }

    fn heartbeats(&self) -> WorkerReport {
        let mut cursors = Cursors::default();
        for ((job, given), next) in &self.next {
            cursors.note(*job, *given, *next);
        }
        WorkerReport::Heartbeat {
            running: self.running.len() as u32,
            spooled: 0,
            spool_full: false,
            pace: Pace {
                answer: ANSWER,
                fetch: FETCH,
                service: self.service.clone(),
                running: BTreeMap::new(),
            },
            cursors,
        }
    }
}
