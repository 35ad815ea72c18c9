//! The stream to the leader: greeting, sessions, desired sets, answers, heartbeats, silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use rebound_proto::v1;
use rebound_proto::v1::agent_message::Body as Say;
use rebound_proto::v1::server_message::Body as Heard;

use super::limits::{
    HEARTBEAT_RANGE_US, MAX_CLUSTER_BYTES, MIN_SILENCE_US, ORPHAN_FOR_RANGE_US, PROTOCOL, SILENT_HEARTBEATS,
    SUSPECT_SILENCE_US,
};
use super::pace::Paces;
use super::plant::Plant;
use super::{Action, Machine, Now, TaskRange};

/// The stream as the machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    /// Hello is said, Welcome is awaited.
    Greeting,
    Up,
}

/// A life with a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub cluster: Arc<str>,
    pub worker: u64,
}

pub(super) fn say(body: Say) -> Action {
    Action::Send(v1::AgentMessage { body: Some(body) })
}

impl Machine {
    pub(super) fn connected(&mut self, now: Now, out: &mut Vec<Action>) {
        self.link = Link::Greeting;
        self.stream_us = now.mono_us;
        self.work.forget_unused_specs();
        self.outbox.send_again();
        let session = self.session.clone();
        out.push(say(Say::Hello(v1::Hello {
            protocol: PROTOCOL,
            protocol_min: PROTOCOL,
            name: self.config.name.clone(),
            boot_nonce: self.config.boot_nonce,
            worker: session.as_ref().map_or(0, |session| session.worker),
            cluster: session.map_or_else(String::new, |session| session.cluster.to_string()),
            slots: self.config.slots,
            resources: Some(self.config.resources),
            pool: self.config.pool.clone(),
            recognisers: self.config.recognisers.clone(),
            version: self.config.version.clone(),
        })));
    }

    pub(super) fn server(&mut self, now: Now, message: v1::ServerMessage, out: &mut Vec<Action>) {
        if self.link == Link::Down {
            return;
        }
        self.stream_us = now.mono_us;
        self.heard_us = now.mono_us;
        match (self.link, message.body) {
            (Link::Greeting, Some(Heard::Welcome(welcome))) => self.welcome(now, welcome, out),
            (Link::Greeting, _) => self.give_up("the server spoke before its Welcome", out),
            (_, Some(Heard::Welcome(_))) => self.give_up("a second Welcome on one stream", out),
            (_, Some(Heard::Desired(desired))) => self.desired(now, desired, out),
            (_, Some(Heard::Answers(answers))) => self.answers(now, answers, out),
            (_, None) => {}
        }
    }

    fn give_up(&mut self, why: impl Into<String>, out: &mut Vec<Action>) {
        self.link = Link::Down;
        out.push(Action::Disconnect { why: why.into() });
    }

    fn welcome(&mut self, now: Now, welcome: v1::Welcome, out: &mut Vec<Action>) {
        if welcome.cluster.is_empty() || welcome.cluster.len() > MAX_CLUSTER_BYTES {
            return self.give_up("a Welcome whose cluster id is empty or too long", out);
        }
        let same_cluster = self
            .session
            .as_ref()
            .is_some_and(|session| *session.cluster == *welcome.cluster);
        if same_cluster && welcome.term < self.term {
            let why = format!("its term {} is over: {} was seen", welcome.term, self.term);
            return self.give_up(why, out);
        }
        self.term = welcome.term;
        let session = Session {
            cluster: welcome.cluster.into(),
            worker: welcome.worker,
        };
        if self.session.as_ref() != Some(&session) {
            self.begin_session(session, out);
        }
        self.link = Link::Up;
        self.orphaned = false;
        let (shortest, longest) = HEARTBEAT_RANGE_US;
        self.heartbeat_us = welcome.heartbeat_us.clamp(shortest, longest);
        let (shortest, longest) = ORPHAN_FOR_RANGE_US;
        self.orphan_for_us = welcome.orphan_for_us.clamp(shortest, longest);
        // At once: where the runs stand.
        self.next_heartbeat_us = now.mono_us;
        self.say_leaving(now, out);
    }

    /// Another worker id or another cluster: the work of the old session is nobody's any more.
    fn begin_session(&mut self, session: Session, out: &mut Vec<Action>) {
        self.work.clear(out);
        // Numbers of specs are the cluster's.
        self.paces = Paces::default();
        self.taken = None;
        // `given` is a log index: in another cluster the same number names other work.
        let foreign = self.outbox.keep_only(&session.cluster);
        if !foreign.is_empty() {
            let results: u64 = foreign.iter().map(|range| range.last - range.first + 1).sum();
            self.counts.dropped_results += results;
            out.push(Action::Unspool(foreign));
        }
        self.counts.sessions += 1;
        self.session = Some(session);
    }

    fn desired(&mut self, now: Now, desired: v1::Desired, out: &mut Vec<Action>) {
        if self
            .session
            .as_ref()
            .is_none_or(|session| *session.cluster != *desired.cluster)
        {
            return self.give_up("a desired set of another cluster", out);
        }
        let age = (desired.term, desired.generation);
        if self.taken.is_some_and(|taken| age < taken) {
            self.counts.desired_refused += 1;
            return;
        }
        let (outbox, drain) = (&self.outbox, desired.drain);
        let told = out.len();
        let taken = self.work.take(desired, |key| outbox.contains(key), out);
        self.forget_fetches(&out[told..]);
        match taken {
            Ok(()) => {
                self.taken = Some(age);
                self.term = self.term.max(age.0);
                if drain && self.leave.is_none() {
                    self.leave(now, "it was drained".into(), false, out);
                }
            }
            Err(fault) => self.give_up(fault, out),
        }
    }

    /// Fetches that are not wanted any more are not measured.
    fn forget_fetches(&mut self, said: &[Action]) {
        for action in said {
            if let Action::Forget { task } = action {
                self.paces.forget(*task);
            }
        }
    }

    fn answers(&mut self, now: Now, answers: v1::Answers, out: &mut Vec<Action>) {
        let mut gone = Vec::new();
        for run in answers.runs {
            let last = run.first.checked_add(u64::from(run.count).saturating_sub(1));
            let Some(last) = last.filter(|_| run.count > 0) else {
                continue;
            };
            let range = TaskRange {
                job: run.job,
                given: run.given,
                first: run.first,
                last,
            };
            // Any verdict is an answer, also one this version does not know; none is not.
            let answers = run.verdict != i32::from(v1::Verdict::Unspecified);
            if answers && self.outbox.answered(&range, now.mono_us) > 0 {
                gone.push(range);
            }
        }
        if !gone.is_empty() {
            out.push(Action::Unspool(gone));
        }
    }

    /// Gives up a silent stream; notes that no leader is heard; sends again what is not answered.
    pub(super) fn watch(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.link != Link::Down && now.mono_us >= self.silent_at() {
            self.give_up("the server has been silent for too long", out);
        }
        if self.session.is_some() && now.mono_us >= self.orphan_at() {
            self.orphaned = true;
        }
        if now.mono_us >= self.suspects_until() && self.work.runs_suspect() {
            self.work.stop_suspects(out);
        }
        if self.link == Link::Up && now.mono_us >= self.outbox.resend_at() {
            self.counts.resends += 1;
            self.outbox.send_again();
        }
    }

    fn silent_at(&self) -> u64 {
        let silence = self
            .heartbeat_us
            .saturating_mul(SILENT_HEARTBEATS)
            .max(MIN_SILENCE_US);
        self.stream_us.saturating_add(silence)
    }

    fn orphan_at(&self) -> u64 {
        self.heard_us.saturating_add(self.orphan_for_us)
    }

    /// Until when suspects may run: a lost worker's are given to another one after a while.
    pub(super) fn suspects_until(&self) -> u64 {
        self.heard_us.saturating_add(SUSPECT_SILENCE_US)
    }

    pub(super) fn session_wake_at(&self) -> u64 {
        let mut at = u64::MAX;
        if self.link != Link::Down {
            at = at.min(self.silent_at());
        }
        if self.link == Link::Up {
            at = at.min(self.next_heartbeat_us).min(self.outbox.resend_at());
        }
        if self.session.is_some() && !self.orphaned {
            at = at.min(self.orphan_at());
        }
        if self.work.runs_suspect() {
            at = at.min(self.suspects_until());
        }
        at
    }

    /// Reports what waits, as far as messages may be under way.
    pub(super) fn send_results(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.link != Link::Up {
            return;
        }
        while let Some(runs) = self.outbox.next_batch(now.mono_us) {
            let running = self.running() as u32;
            let spooled = self.outbox.len() as u32;
            if self.plant.is(Plant::ForgetsSent) {
                self.forget(now, &runs, out);
            }
            out.push(say(Say::Results(v1::Results {
                runs,
                running,
                spooled,
            })));
        }
    }

    /// What a planted bug does: results leave the spool unanswered.
    fn forget(&mut self, now: Now, runs: &[v1::ResultRun], out: &mut Vec<Action>) {
        let range = |run: &v1::ResultRun| TaskRange {
            job: run.job,
            given: run.given,
            first: run.first,
            last: run.first + u64::from(run.count) - 1,
        };
        let sent: Vec<TaskRange> = runs.iter().map(range).collect();
        for range in &sent {
            self.outbox.answered(range, now.mono_us);
        }
        out.push(Action::Unspool(sent));
    }

    /// Speaks when it is time, or at once when the spool became full or has room again.
    pub(super) fn beat(&mut self, now: Now, out: &mut Vec<Action>) {
        let full = self.is_full();
        if self.link != Link::Up || (now.mono_us < self.next_heartbeat_us && full == self.said_full) {
            return;
        }
        self.next_heartbeat_us = now.mono_us.saturating_add(self.heartbeat_us);
        self.said_full = full;
        let (fetch_us, answer_us) = (self.paces.fetch_us(), self.outbox.answer_us());
        let paces = self.paces.said(&self.in_slots(now));
        let work = &self.work;
        let cursors = work.runs.iter().map(|run| (run, run.cursor()));
        let started = cursors
            .filter(|(run, next)| *next > run.first)
            .map(|(run, next)| v1::Started {
                job: run.job,
                first: run.first,
                given: run.given,
                next,
            });
        out.push(say(Say::Heartbeat(v1::Heartbeat {
            running: work.slots.running() as u32,
            spooled: self.outbox.len() as u32,
            spool_full: full,
            generation: self.taken.map_or(0, |(_, generation)| generation),
            started: started.collect(),
            answer_us,
            fetch_us,
            paces,
        })));
    }

    /// Specs in slots, and for how long the oldest photo of each is.
    fn in_slots(&self, now: Now) -> BTreeMap<u64, u64> {
        let mut oldest = BTreeMap::new();
        for held in self.work.slots.held().filter(|held| !held.stopping) {
            let age = now.mono_us.saturating_sub(held.started_us);
            let of_spec: &mut u64 = oldest.entry(held.spec).or_default();
            *of_spec = (*of_spec).max(age);
        }
        oldest
    }
}
