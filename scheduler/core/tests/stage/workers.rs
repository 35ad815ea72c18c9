//! Workers as the stage plays them: a machine's name, a process, perhaps a session and a stream.

use std::collections::{BTreeMap, BTreeSet};

use rebound_core::command::{Join, Report};
use rebound_core::effects::Desired;
use rebound_core::event::Cause;
use rebound_core::io::*;
use rebound_core::limits::WORKER_HEARTBEAT;
use rebound_core::observe::tails::Cursors;
use rebound_core::pace::Pace;
use rebound_core::reply::Refused;
use rebound_core::rows::{Packing, Row, Rows};
use rebound_core::types::*;

use super::{Asker, Stage};

/// One machine.
pub struct Seat {
    /// As its process joins.
    pub join: Join,
    /// It says nothing of itself, though its stream stands.
    pub silent: bool,
    /// When its next heartbeat is due.
    pub next_word: u64,
    session: Option<(ClusterId, WorkerId)>,
    /// The server its stream goes to.
    stream: Option<u64>,
    /// The fence of each task it was last told to do.
    fences: BTreeMap<(JobId, u64), Given>,
    /// What it measured: an answer's time, a fetch's, and a photo's in its slot, for all specs it was told of.
    pub measured: (u64, u64, u64),
    specs: BTreeSet<SpecId>,
    /// Behind the last task of each run that it has started.
    pub started: BTreeMap<(JobId, Given), u64>,
}

impl Seat {
    /// A machine whose process has not spoken yet.
    pub fn new(join: Join) -> Seat {
        Seat {
            join,
            silent: false,
            next_word: 0,
            session: None,
            stream: None,
            fences: BTreeMap::new(),
            measured: (0, 0, 0),
            specs: BTreeSet::new(),
            started: BTreeMap::new(),
        }
    }

    /// Its agent was started again: what the earlier process was told is in the spool, its session is forgotten.
    pub fn begin_again(&mut self, join: Join) {
        (self.join, self.session, self.stream) = (join, None, None);
    }

    /// How fast it is, as it says.
    pub fn pace(&self) -> Pace {
        let (answer, fetch, service) = self.measured;
        Pace {
            answer,
            fetch,
            service: self.specs.iter().map(|spec| (*spec, service)).collect(),
            running: BTreeMap::new(),
        }
    }

    /// How far it is, as it says.
    pub fn cursors(&self) -> Cursors {
        let mut cursors = Cursors::default();
        for ((job, given), next) in &self.started {
            cursors.note(*job, *given, *next);
        }
        cursors
    }

    /// The fence of a task, as it was last told.
    pub fn fence(&self, job: JobId, task: u64) -> Option<Given> {
        self.fences.get(&(job, task)).copied()
    }
}

impl Stage {
    /// A worker's first word on a new stream, with the session it had.
    pub fn hello(&mut self, name: &str, server: u64) {
        let seat = self.workers.get_mut(name).expect("a worker of this stage");
        seat.stream = None;
        let (join, session) = (Box::new(seat.join.clone()), seat.session.clone());
        let request = Request::Hello { join, session };
        self.question(server, Asker::Worker(name.to_owned()), "default", 0, request);
    }

    /// A worker says something on its stream. False when it has none.
    pub fn speak(&mut self, name: &str, report: WorkerReport) -> bool {
        let seat = self.workers.get_mut(name).expect("a worker of this stage");
        let (Some(server), Some((_, worker))) = (seat.stream, seat.session.clone()) else {
            return false;
        };
        seat.next_word = self.now + WORKER_HEARTBEAT;
        self.inbox(server).push(Input::Worker { worker, report });
        true
    }

    /// Heartbeats that are due.
    pub(super) fn workers_speak(&mut self) {
        let due: Vec<String> = self
            .workers
            .iter()
            .filter(|(_, seat)| !seat.silent && seat.next_word <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let heartbeat = WorkerReport::Heartbeat {
                running: 0,
                spooled: 0,
                spool_full: false,
                pace: self.workers[&name].pace(),
                cursors: self.workers[&name].cursors(),
            };
            self.speak(&name, heartbeat);
        }
    }

    pub(super) fn welcomed(&mut self, name: &str, server: u64, answer: Result<Answer, Refused>) {
        let now = self.now;
        let seat = self.workers.get_mut(name).expect("a worker of this stage");
        if let Ok(Answer::Welcome { worker, cluster, .. }) = answer {
            seat.session = Some((cluster, worker));
            seat.stream = Some(server);
            seat.next_word = now + WORKER_HEARTBEAT;
        }
    }

    pub(super) fn told(&mut self, server: u64, worker: WorkerId, desired: &Desired) {
        let Some(name) = self.seat_of(server, worker) else {
            return;
        };
        let seat = self.workers.get_mut(&name).expect("just found");
        seat.specs.extend(desired.specs.keys());
        for run in &desired.runs {
            let tasks = run.first..=run.last;
            seat.fences.extend(tasks.map(|task| ((run.job, task), run.given)));
        }
    }

    pub(super) fn hang_up(&mut self, server: u64, worker: WorkerId) {
        if let Some(name) = self.seat_of(server, worker) {
            self.workers.get_mut(&name).expect("just found").stream = None;
            let line = format!("server {server} hangs up on {}", self.names.worker(worker));
            self.say(line);
        }
    }

    /// A server is gone or no longer leads: its streams end.
    pub(super) fn streams_end(&mut self, server: u64) {
        for seat in self.workers.values_mut() {
            if seat.stream == Some(server) {
                seat.stream = None;
            }
        }
    }

    /// The machine whose stream to this server is that session's.
    pub(super) fn seat_of(&self, server: u64, worker: WorkerId) -> Option<String> {
        let of = |seat: &Seat| {
            seat.stream == Some(server) && seat.session.as_ref().is_some_and(|(_, id)| *id == worker)
        };
        let found = self.workers.iter().find(|(_, seat)| of(seat));
        found.map(|(name, _)| name.clone())
    }
}

/// The same report with one task more.
pub fn longer(report: &Report, bytes: usize) -> Report {
    let mut packing = Packing::default();
    report.rows.iter().for_each(|row| packing.push(row));
    packing.push(Row {
        started: Time(0),
        ended: Time(0),
        output: &vec![b'x'; bytes],
    });
    let rows = packing.done();
    Report {
        rows,
        ..report.clone()
    }
}

/// A report of one attempt.
pub fn report(job: JobId, task: u64, given: Given, cause: Option<Cause>, bytes: usize) -> Report {
    Report {
        job,
        first: task,
        given,
        cause,
        rows: Rows::one(Row {
            started: Time(0),
            ended: Time(0),
            output: &vec![b'x'; bytes],
        }),
    }
}
