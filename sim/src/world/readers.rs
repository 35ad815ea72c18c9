//! Calls of a job's history: its client's, and those of others who read about it, ask twice or cancel it.

use rebound_core::io::{Answer, Read, Request};
use rebound_core::reply::{Refused, Rejected, Reply};
use rebound_core::types::*;

use super::tenants::STRANGERS_PPM;
use super::{Asker, Calls, Happening, World};
use crate::history::job::{self, Ask};
use crate::history::{Call, Verdict, check};

/// Others ask about the last so many jobs.
const ABOUT: u64 = 12;
/// Most calls about one job: the search for an order grows with them.
const CALLS_MAX: usize = 120;

impl World {
    pub(super) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn begin_call(&mut self, client: usize, ask: Ask) -> usize {
        let from = self.moment();
        self.calls[client].push(Call { from, end: None, ask });
        self.calls[client].len() - 1
    }

    /// The client's question begins. Asked again, all earlier tries are one call that nobody knows of: each question
    /// has its effect once, however often it is asked.
    pub(super) fn client_calls(&mut self, client: usize) {
        let Some(ask) = self.clients[client].ask() else {
            return;
        };
        let one = &self.clients[client];
        match (one.call, one.tried) {
            (Some(call), true) => self.calls[client][call].from = self.moment(),
            (earlier, _) => {
                self.clients[client].tried = earlier.is_some();
                self.clients[client].call = Some(self.begin_call(client, ask));
            }
        }
    }

    pub(super) fn client_returns(&mut self, client: usize, answer: Option<job::Answer>) {
        let until = self.moment();
        self.clients[client].tried = false;
        self.clients[client].asks_since = None;
        if let Some(call) = self.clients[client].call.take() {
            self.calls[client][call].end = answer.map(|answer| (until, answer));
        }
    }

    /// The client's try had no effect. An earlier one that nobody answered stays a call of its own.
    pub(super) fn client_call_was_nothing(&mut self, client: usize) {
        if self.clients[client].tried {
            return;
        }
        if let Some(call) = self.clients[client].call.take() {
            self.nothing_happened(client, call);
            self.count("tries that promised to have no effect");
        }
    }

    /// The same question at another server, asked once.
    pub(super) fn asks_twice(&mut self, client: usize) {
        let one = &self.clients[client];
        let (Some(request), Some(ask)) = (one.request(), one.ask()) else {
            return;
        };
        self.count("questions asked twice at once");
        self.call(client, ask, request, 600 * MILLISECOND);
    }

    fn call(&mut self, client: usize, ask: Ask, request: Request, timeout: u64) {
        let present = self.present();
        let server = self.people_rng.pick(&present).copied().unwrap_or(1);
        let call = self.begin_call(client, ask);
        let asker = Asker::Call { client, call };
        if !self.question(server, asker, client, timeout, request) {
            self.calls[client].pop();
        }
    }

    /// A job that somebody has heard of, mostly a young one.
    fn some_job(&mut self) -> Option<(usize, JobId)> {
        let known =
            |client: &usize| self.clients[*client].job.is_some() && self.calls[*client].len() < CALLS_MAX;
        let mut known: Vec<usize> = (0..self.clients.len()).filter(known).collect();
        known.sort_by_key(|client| std::cmp::Reverse(self.clients[*client].job));
        let last = (known.len() as u64).checked_sub(1)?;
        let client = known[self.people_rng.within(0, last.min(ABOUT)) as usize];
        Some((client, self.clients[client].job?))
    }

    /// Somebody reads about a job at any server, sometimes to wait until it changes.
    pub(super) fn read(&mut self) {
        if let Some((client, job)) = self.some_job() {
            if self.people_rng.chance(STRANGERS_PPM) {
                self.stranger_asks(client, job);
            }
            self.looks(client, job);
            let watch = self.people_rng.chance(200_000);
            let seen = if watch { Index::MAX } else { 0 };
            let request = Request::Read(Read::Job { job, seen });
            let timeout = self.people_rng.within(200, 3_000) * MILLISECOND;
            self.call(client, Ask::Get, request, timeout);
        }
        if !self.calm {
            let every = self.faults.load.read_every;
            let wait = self.people_rng.within(every / 2, every * 3 / 2);
            self.after(wait, Happening::Read);
        }
    }

    /// Somebody else cancels a job, and does not ask again.
    pub(super) fn meddle(&mut self) {
        if self.calm {
            return;
        }
        if let Some((client, job)) = self.some_job() {
            self.clients[client].cancels = true;
            self.call(client, Ask::Cancel, Request::Cancel { job }, 600 * MILLISECOND);
        }
        let every = self.faults.load.cancel_every;
        let wait = self.people_rng.within(every / 2, every * 3 / 2);
        self.after(wait, Happening::Meddle);
    }

    pub(super) fn call_answered(&mut self, client: usize, call: usize, answer: Result<Answer, Refused>) {
        let until = self.moment();
        let answer = match answer {
            Ok(Answer::Applied { reply, .. }) => of_reply(&reply),
            Ok(Answer::Job(view)) => Some(job::Answer::View {
                tasks: view.job.tasks,
                ended: view.job.succeeded + view.job.failed,
                phase: view.job.phase,
                changed: view.job.changed,
            }),
            Err(Refused::Rejected(why)) => of_rejection(&why),
            // It may happen at any time from now on.
            Err(Refused::Unknown) => None,
            // Nothing came of it and nothing will.
            _ => return self.nothing_happened(client, call),
        };
        self.calls[client][call].end = answer.map(|answer| (until, answer));
    }

    /// Takes the call out of the history: for a read without an answer, and for what was certainly not done.
    fn nothing_happened(&mut self, client: usize, call: usize) {
        self.calls[client][call].ask = Ask::Get;
        self.calls[client][call].end = None;
    }

    /// C5: each job's history is linearizable.
    pub(super) fn check_histories(&mut self) {
        let settings = self.faults.settings();
        let model = job::Job {
            closes_itself: settings.open_for < self.now,
            forgets: settings.retention < self.now,
        };
        for (client, calls) in self.calls.iter().enumerate() {
            // A read that nobody answered says nothing.
            let calls: Vec<_> = calls
                .iter()
                .filter(|call| call.end.is_some() || call.ask != Ask::Get)
                .cloned()
                .collect();
            let Some(violation) = broken(client, check(&model, &calls), &calls) else {
                continue;
            };
            self.checks.violated(violation);
        }
    }
}

/// What a verdict on a client's history breaks. One too long to check was not checked, and that it holds is not known.
fn broken(client: usize, verdict: Verdict, calls: &Calls) -> Option<String> {
    match verdict {
        Verdict::Linearizable => None,
        Verdict::TooLong => Some(format!(
            "C5: the history of client {client}'s job was not checked: the search for an order of its {} calls takes too many steps",
            calls.len()
        )),
        Verdict::Not { explained } => Some(format!(
            "C5: the history of client {client}'s job is not linearizable: {explained} of {} calls fit: {calls:?}",
            calls.len()
        )),
    }
}

/// A reply as the history has it.
pub(super) fn of_reply(reply: &Reply) -> Option<job::Answer> {
    match reply {
        Reply::Opened {
            repeated,
            next_offset,
            phase,
            ..
        } => Some(job::Answer::Opened {
            repeated: *repeated,
            next: *next_offset,
            phase: *phase,
        }),
        Reply::Appended { next_offset } => Some(job::Answer::Appended { next: *next_offset }),
        Reply::Job { .. } => Some(job::Answer::Done),
        _ => None,
    }
}

/// A rejection as the history has it.
pub(super) fn of_rejection(why: &Rejected) -> Option<job::Answer> {
    match why {
        Rejected::NotFound { .. } => Some(job::Answer::NotFound),
        Rejected::NotOpen { phase, .. } => Some(job::Answer::NotOpen { phase: *phase }),
        Rejected::WrongTotal { have, .. } => Some(job::Answer::WrongTotal { have: *have }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_was_not_checked_fails_its_seed() {
        let broken = |verdict| broken(3, verdict, &Calls::new());
        assert_eq!(broken(Verdict::Linearizable), None);
        for verdict in [Verdict::TooLong, Verdict::Not { explained: 7 }] {
            let violation = broken(verdict).expect("it breaks");
            assert_eq!(crate::shrink::id(&violation), "C5", "{violation}");
        }
    }
}
