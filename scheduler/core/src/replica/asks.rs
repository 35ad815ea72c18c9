//! Questions: each ends within its time limit with an answer, or with a typed refusal.

use std::collections::{BTreeMap, BTreeSet};

use super::shed::Shed;
use super::{Origin, Outlook, Proposal, Replica, overload};
use crate::command::Command;
use crate::event::Event;
use crate::io::*;
use crate::limits::*;
use crate::plant::Plant;
use crate::reply::{Refused, Rejected, Reply};
use crate::types::*;
use crate::validate;

/// A read on its way.
struct Reading {
    ask: AskId,
    environment: String,
    read: Read,
    /// Confirmed when raft answers this context or a later one; 0: not asked yet.
    context: u64,
    /// May be answered when state is here.
    at: Option<Index>,
}

/// All open questions.
#[derive(Default)]
pub(super) struct Asks {
    open: BTreeMap<AskId, Mono>,
    by_time: BTreeSet<(Mono, AskId)>,
    /// Those of them whose entry is in raft's log: it may still be applied.
    proposed: BTreeSet<AskId>,
    reads: Vec<Reading>,
    next_context: u64,
    asked_again: bool,
    watches: BTreeMap<JobId, BTreeMap<AskId, String>>,
    /// Workers whose session was just welcomed: they get their desired set.
    pub(super) welcomed: BTreeSet<WorkerId>,
}

impl Asks {
    /// raft says that this replica led when the context was asked, and what was committed then.
    pub(super) fn confirmed(&mut self, context: u64, index: Index) {
        for read in self
            .reads
            .iter_mut()
            .filter(|read| read.context != 0 && read.context <= context)
        {
            read.at = Some(read.at.map_or(index, |at| at.min(index)));
        }
    }

    /// Reads and watches that a leader that steps down leaves unanswered.
    pub(super) fn stop_reads(&mut self) -> Vec<AskId> {
        let mut asks: Vec<AskId> = std::mem::take(&mut self.reads)
            .into_iter()
            .map(|read| read.ask)
            .collect();
        asks.extend(
            std::mem::take(&mut self.watches)
                .into_values()
                .flat_map(BTreeMap::into_keys),
        );
        asks
    }

    /// Takes the watches of these questions away, with the job and the environment of each.
    fn stop_watching(&mut self, due: &BTreeSet<AskId>) -> BTreeMap<AskId, (JobId, String)> {
        let mut watched = BTreeMap::new();
        self.watches.retain(|job, asks| {
            let over: Vec<AskId> = asks.keys().filter(|ask| due.contains(ask)).copied().collect();
            let taken = over
                .into_iter()
                .filter_map(|ask| Some((ask, (*job, asks.remove(&ask)?))));
            watched.extend(taken);
            !asks.is_empty()
        });
        watched
    }

    /// How long somebody waits for this yet, in µs, if so.
    pub(super) fn remaining(&self, ask: AskId, now: Mono) -> Option<u64> {
        let deadline = self.open.get(&ask)?;
        deadline.0.checked_sub(now.0).filter(|waits| *waits > 0)
    }

    /// Its entry is in raft's log.
    pub(super) fn proposed(&mut self, origin: Origin) {
        self.proposed.extend(origin.ask());
    }

    /// A context that was never asked before.
    pub(super) fn new_context(&mut self) -> u64 {
        self.next_context += 1;
        self.next_context
    }

    /// Asks raft again at the next call.
    pub(super) fn tick(&mut self) {
        self.asked_again = true;
    }
}

impl Replica {
    /// A question comes in.
    pub(super) fn question(&mut self, question: Box<Question>, out: &mut Output) {
        let timeout = match question.timeout {
            0 => ASK_TIMEOUT,
            asked => asked.min(ASK_TIMEOUT_MAX),
        };
        let deadline = Mono(self.now.mono.0.saturating_add(timeout));
        self.asks.open.insert(question.ask, deadline);
        self.asks.by_time.insert((deadline, question.ask));
        if self.asks.open.len() > self.config.limits.asks {
            let refused = overload("too many requests at once", question.ask, question.trace);
            self.note_refusal(Shed::Proposals);
            return self.answer(question.ask, Err(refused), out);
        }
        if matches!(question.request, Request::Stale(_)) {
            return self.ask(*question, out);
        }
        match &self.leader {
            None => {
                let leader = self.leader_id().filter(|id| *id != self.config.id);
                self.answer(question.ask, Err(Refused::NotLeader { leader }), out);
            }
            Some(leader) if !leader.ready => self.hold(question, out),
            Some(_) => self.ask(*question, out),
        }
    }

    /// It waits for this leader to be ready, while not too many bytes do.
    fn hold(&mut self, question: Box<Question>, out: &mut Output) {
        if self.held.bytes() <= self.config.limits.propose_bytes_waiting {
            return self.held.push(question);
        }
        let refused = overload(
            "too many requests wait for a new leader",
            question.ask,
            question.trace,
        );
        self.note_refusal(Shed::Proposals);
        self.answer(question.ask, Err(refused), out);
    }

    /// Questions that waited for this leader to be ready, or for one that never was.
    pub(super) fn take_held(&mut self, out: &mut Output) {
        if self.leader.is_some() && !self.is_ready() {
            return;
        }
        for question in self.held.take() {
            match self.is_ready() {
                true => self.ask(*question, out),
                false => {
                    let leader = self.leader_id().filter(|id| *id != self.config.id);
                    self.answer(question.ask, Err(Refused::NotLeader { leader }), out);
                }
            }
        }
    }

    fn ask(&mut self, question: Question, out: &mut Output) {
        let Question {
            ask,
            by,
            trace,
            request,
            ..
        } = question;
        if let Err(rejected) = validate::caller(&by) {
            return self.answer(ask, Err(rejected.into()), out);
        }
        let command = match request {
            Request::Read(read) => {
                let reading = Reading {
                    ask,
                    environment: by.environment,
                    read,
                    context: 0,
                    at: self
                        .config
                        .plant
                        .is(Plant::StaleRead)
                        .then(|| self.state.applied()),
                };
                return self.asks.reads.push(reading);
            }
            Request::Stale(read) => return self.answer_stale(ask, &by, &read, out),
            Request::Hello { join, session } => return self.hello(ask, by, join, session, out),
            Request::Open(open) => return self.ask_open(ask, by, trace, open, out),
            Request::Append { job, offset, photos } => match validate::photos(&photos) {
                Ok(()) => Command::Append { job, offset, photos },
                Err(rejected) => return self.answer(ask, Err(rejected.into()), out),
            },
            Request::Close { job, total } => Command::Close { job, total },
            Request::Cancel { job } => Command::Cancel { job },
            Request::Drain { worker, name } => match self.drain_target(worker, &name) {
                Ok(worker) => Command::WorkerDrain { worker },
                Err(rejected) => return self.answer(ask, Err(rejected.into()), out),
            },
            Request::Settings(changes) => match self.state.meta().settings.with(&changes) {
                Ok(_) => Command::Settings(changes),
                Err(rejected) => return self.answer(ask, Err(rejected.into()), out),
            },
            Request::Steer(command) => *command,
            Request::Environment(change) => match validate::allot(&change) {
                Ok(()) => Command::Environment(change),
                Err(rejected) => return self.answer(ask, Err(rejected.into()), out),
            },
            Request::Count => Command::Count,
            Request::AcceptClock => Command::AcceptClock { wall: self.now.wall },
            Request::AddMember { new, replaces } => {
                let asked = self.ask_add(&new, replaces).map_err(Refused::Rejected);
                return self.propose_or_done(ask, by, trace, asked, out);
            }
            Request::RemoveMember(server) => {
                let asked = self.ask_remove(server);
                return self.propose_or_done(ask, by, trace, asked, out);
            }
            Request::Join { new, build } => {
                let asked = self.ask_join(&new, &build).map_err(Refused::Rejected);
                return self.propose_or_done(ask, by, trace, asked, out);
            }
            Request::Transfer(to) => return self.ask_transfer(ask, to, out),
            Request::Upgrade(to) => {
                let asked = self.ask_upgrade(to).map_err(Refused::Rejected);
                return self.propose_or_done(ask, by, trace, asked, out);
            }
        };
        self.propose_for(Origin::Ask(ask), by, trace, command, out);
    }

    fn drain_target(&self, worker: WorkerId, name: &str) -> Result<WorkerId, Rejected> {
        let found = if worker.0 == 0 {
            self.state.workers.named(name)
        } else {
            Some(worker)
        };
        let unknown = Rejected::NotFound {
            what: "worker",
            id: worker.0,
        };
        found
            .filter(|id| self.state.workers.live(*id).is_some())
            .ok_or(unknown)
    }

    /// A session that lives is taken up again; any other begins with an entry.
    fn hello(
        &mut self,
        ask: AskId,
        by: Caller,
        join: Box<crate::command::Join>,
        session: Option<(ClusterId, WorkerId)>,
        out: &mut Output,
    ) {
        if let Err(rejected) = validate::join(&join) {
            return self.answer(ask, Err(rejected.into()), out);
        }
        let alive = session
            .filter(|(cluster, _)| *cluster == self.config.cluster)
            .and_then(|(_, worker)| {
                let live = self.state.workers.live(worker)?;
                (live.join.name == join.name && live.join.nonce == join.nonce).then_some(worker)
            });
        match alive {
            Some(worker) => self.welcome(ask, worker, out),
            None if self.is_twin(&join) => {
                let what = "name";
                self.answer(ask, Err(Rejected::Conflict { what }.into()), out);
            }
            None => {
                let command = Command::WorkerJoined(join);
                self.propose_for(Origin::Hello(ask), by, TraceId::default(), command, out);
            }
        }
    }

    /// True when another process of this name has just spoken: two with one name would end each other's sessions in
    /// turn. One that was started again gets in when the earlier has been quiet for a moment.
    fn is_twin(&self, join: &crate::command::Join) -> bool {
        let Some(named) = self.state.workers.named(&join.name) else {
            return false;
        };
        let other = self
            .state
            .workers
            .get(named)
            .is_some_and(|worker| worker.join.nonce != join.nonce);
        other
            && self
                .leader
                .as_ref()
                .is_some_and(|leader| leader.spoke_lately(named, self.elapsed))
    }

    fn welcome(&mut self, ask: AskId, worker: WorkerId, out: &mut Output) {
        let (elapsed, now) = (self.elapsed, self.state.now());
        let Some(leader) = &mut self.leader else { return };
        leader.hear(worker, elapsed, None);
        // How far it is, it says again on this stream.
        leader.cursors.remove(&worker);
        let heard = leader.heard.get_mut(&worker).expect("just heard");
        // Until it says what its spool holds, it is taken to hold something.
        (heard.full, heard.leaving, heard.spooled) = (false, false, heard.spooled.max(1));
        leader.plan_wanted = true;
        let (cluster, term) = (self.config.cluster.clone(), leader.term);
        let orphan_for = self.state.meta().settings.orphan_for();
        if !self.config.plant.is(Plant::WelcomeWithoutWork) {
            self.asks.welcomed.insert(worker);
        }
        self.answer(
            ask,
            Ok(Answer::Welcome {
                worker,
                cluster,
                term,
                now,
                orphan_for,
            }),
            out,
        );
    }

    /// Queues a command for somebody who waits; refused when too much is waiting.
    pub(super) fn propose_for(
        &mut self,
        origin: Origin,
        by: Caller,
        trace: TraceId,
        command: Command,
        out: &mut Output,
    ) {
        let most = self.config.limits.propose_bytes_waiting;
        self.propose_within(most, origin, by, trace, command, out);
    }

    /// The same, while no more than so many bytes wait. True when it is queued.
    pub(super) fn propose_within(
        &mut self,
        most: usize,
        origin: Origin,
        by: Caller,
        trace: TraceId,
        command: Command,
        out: &mut Output,
    ) -> bool {
        let age = self.config.limits.overload_age;
        let overloaded = self.waiting.is_overloaded(origin, self.elapsed, most, age);
        if let (Some(what), Some(ask)) = (overloaded, origin.ask()) {
            self.note_refusal(Shed::Proposals);
            self.answer_origin(origin, Err(overload(what, ask, trace)), out);
            return false;
        }
        let bytes = crate::replica::command_bytes(&command);
        let proposal = Proposal {
            origin,
            by,
            trace,
            command,
            bytes,
        };
        self.waiting.push(self.elapsed, proposal);
        true
    }

    /// An answer for whoever waits for an entry, if anybody does.
    pub(super) fn answer_origin(&mut self, origin: Origin, reply: Result<Reply, Refused>, out: &mut Output) {
        match (origin, reply) {
            (Origin::Hello(ask), Ok(Reply::Joined { worker })) => self.welcome(ask, worker, out),
            (Origin::Ask(ask) | Origin::Hello(ask), reply) => {
                let reply = self.let_in_ended(ask, reply);
                self.look_ahead_of(&reply);
                let answer = reply.map(|reply| Answer::Applied {
                    placeable: self.placeable(&reply),
                    outlook: self.outlook_of(&reply),
                    reply,
                });
                self.answer(ask, answer, out);
            }
            (Origin::Report | Origin::Plan | Origin::Scale | Origin::Duty, _) => {}
        }
    }

    fn look_ahead_of(&mut self, reply: &Result<Reply, Refused>) {
        if let Ok(Reply::Opened { job, .. }) = reply
            && let Some((env, job)) = self.state.jobs.get(*job)
        {
            self.look_ahead(env, job.spec);
        }
    }

    /// The outlook of a job that was just opened.
    fn outlook_of(&self, reply: &Reply) -> Option<Outlook> {
        let Reply::Opened { job, .. } = reply else {
            return None;
        };
        let (env, _) = self.state.jobs.get(*job)?;
        self.outlook(env, *job)
    }

    /// Could any worker that is here run this new job?
    fn placeable(&self, reply: &Reply) -> bool {
        let Reply::Opened { job, .. } = reply else {
            return true;
        };
        let mut workers = self.state.workers.iter_live();
        let job = self.state.jobs.get(*job);
        job.is_some_and(|(_, job)| workers.any(|(_, worker)| self.state.may_run(&worker.join, job.spec)))
    }

    /// Answers a question that is still open.
    pub(super) fn answer(&mut self, ask: AskId, answer: Result<Answer, Refused>, out: &mut Output) {
        if let Some(deadline) = self.asks.open.remove(&ask) {
            self.asks.by_time.remove(&(deadline, ask));
            self.asks.proposed.remove(&ask);
            out.replies.push((ask, answer));
        }
    }

    /// Asks raft once for all reads that wait; again at each tick, since the question may be lost.
    pub(super) fn ask_reads(&mut self, _out: &mut Output) {
        let again = std::mem::take(&mut self.asks.asked_again);
        let ready = self.leader.as_ref().is_some_and(|leader| leader.ready);
        let wanted = self
            .asks
            .reads
            .iter()
            .any(|read| read.at.is_none() && (again || read.context == 0));
        if !ready || !wanted {
            return;
        }
        self.asks.next_context += 1;
        let context = self.asks.next_context;
        for read in self.asks.reads.iter_mut().filter(|read| read.context == 0) {
            read.context = context;
        }
        self.raft.read_index(context.to_be_bytes().to_vec());
    }

    /// Answers reads that raft confirmed and state has caught up with.
    pub(super) fn answer_reads(&mut self, out: &mut Output) {
        let applied = self.state.applied();
        let (due, rest) = std::mem::take(&mut self.asks.reads)
            .into_iter()
            .partition(|read| read.at.is_some_and(|index| index <= applied));
        self.asks.reads = rest;
        for reading in due {
            self.answer_read(reading, out);
        }
    }

    fn answer_read(&mut self, reading: Reading, out: &mut Output) {
        let Reading {
            ask,
            environment,
            read,
            ..
        } = reading;
        if let Read::Job { job, seen } = read
            && let Some(view) = self.job_view(&environment, job)
            && view.job.changed <= seen
            && view.job.phase.is_live()
        {
            self.asks.watches.entry(job).or_default().insert(ask, environment);
            return;
        }
        if let Read::Job { job, seen: 0 } = read
            && let Some((env, job)) = self.state.jobs.get(job)
        {
            self.look_ahead(env, job.spec);
        }
        let answer = self.look(&environment, &read).map_err(Refused::Rejected);
        self.answer(ask, answer, out);
    }

    /// Questions whose job changed.
    pub(super) fn watchers_of(&mut self, events: &[Event], out: &mut Output) {
        if self.asks.watches.is_empty() {
            return;
        }
        let jobs: BTreeSet<JobId> = events.iter().filter_map(|event| event.job).collect();
        for job in jobs {
            for (ask, environment) in self.asks.watches.remove(&job).into_iter().flatten() {
                let answer = self
                    .look(&environment, &Read::Job { job, seen: 1 })
                    .map_err(Refused::Rejected);
                self.answer(ask, answer, out);
            }
        }
    }

    /// Questions whose time is up. A watch is answered with what there is; what may still happen is unknown.
    pub(super) fn expire_asks(&mut self, out: &mut Output) {
        let now = self.now.mono;
        let due = self
            .asks
            .by_time
            .iter()
            .take_while(|(deadline, _)| *deadline <= now);
        let due: BTreeSet<AskId> = due.map(|(_, ask)| *ask).collect();
        if due.is_empty() {
            return;
        }
        // Once for all of them: thousands that watch one visit end at the same moment.
        let mut watched = self.asks.stop_watching(&due);
        self.asks.reads.retain(|read| !due.contains(&read.ask));
        self.held.forget(&due);
        for ask in due {
            let answer = match watched.remove(&ask) {
                Some((job, environment)) => self
                    .look(&environment, &Read::Job { job, seen: 1 })
                    .map_err(Refused::Rejected),
                None if self.asks.proposed.contains(&ask) || self.transfers_for(ask) => Err(Refused::Unknown),
                None => Err(Refused::Timeout),
            };
            self.answer(ask, answer, out);
        }
    }
}
