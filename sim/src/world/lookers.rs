//! Others who look: at any server without asking the leader, page by page at results; and one who uses a key that was
//! used before for something else.

use std::collections::BTreeMap;

use rebound_core::io::{Answer, Fetch, Read, Request};
use rebound_core::kept::{ResultRecord, result_of};
use rebound_core::key::result_key;
use rebound_core::reply::{Refused, Rejected};
use rebound_core::types::*;

use super::{Asker, World};
use crate::agents::answer as recognised;
use crate::check::fresh::Seen;

/// Of times that somebody reads, so many bring such a look as well, in a million.
const LOOKS_PPM: u64 = 400_000;
/// Keys are only used for something else where they are remembered for longer than a world lasts, in µs.
const REMEMBERED: u64 = 3_600 * SECOND;
/// Photos on a page at most.
const PAGE_MAX: u64 = 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// About a job as a server has it.
    Stale { job: JobId },
    /// Its results. They must show at least those that were known when it was asked.
    Results { job: JobId, asked: u64 },
    /// Its key, with something else.
    Reuse,
}

/// What is known of results: when each was first read, and by which fence with which output.
#[derive(Default)]
pub(super) struct Known {
    results: BTreeMap<(JobId, u64), (u64, ResultRecord)>,
}

impl World {
    /// Somebody looks at a job.
    pub(super) fn looks(&mut self, client: usize, job: JobId) {
        if !self.people_rng.chance(LOOKS_PPM) {
            return;
        }
        let remembers = self.faults.settings().key_for >= REMEMBERED;
        let (look, request) = match self.people_rng.within(0, 4) {
            0 | 1 => (Look::Stale { job }, Request::Stale(Read::Job { job, seen: 0 })),
            2 | 3 => {
                let asked = self.moment();
                (Look::Results { job, asked }, self.page(client, job))
            }
            _ if remembers => (Look::Reuse, self.uses_key_again(client)),
            _ => return,
        };
        let present = self.present();
        let any = self.people_rng.pick(&present).copied().unwrap_or(1);
        let server = match look {
            Look::Stale { .. } => any,
            _ => self.leader().unwrap_or(any),
        };
        self.question(server, Asker::Looker { client, look }, client, SECOND, request);
    }

    fn page(&mut self, client: usize, job: JobId) -> Request {
        let photos = self.clients[client].photos;
        let first = self.people_rng.within(0, photos - 1);
        let limit = self.people_rng.within(1, PAGE_MAX) as u32;
        Request::Read(Read::Results { job, first, limit })
    }

    /// The client's first question with another name, priority or list of photos.
    fn uses_key_again(&mut self, client: usize) -> Request {
        let mut open = self.clients[client].open();
        match self.people_rng.within(0, 2) {
            0 => open.name += " again",
            1 => open.priority += 1,
            _ => open.spec.max_attempts += 1,
        }
        Request::Open(Box::new(open))
    }

    pub(super) fn looker_told(
        &mut self,
        server: u64,
        client: usize,
        look: Look,
        answer: &Result<Answer, Refused>,
    ) {
        match (look, answer) {
            (Look::Reuse, Err(Refused::Rejected(Rejected::Conflict { .. }))) => {
                self.count("keys with other content refused");
            }
            // A full cluster says so before it looks at the key.
            (Look::Reuse, Err(Refused::Rejected(Rejected::Full { .. }))) => {}
            (Look::Reuse, Ok(_) | Err(Refused::Rejected(_))) => {
                let violation =
                    format!("J1: client {client}'s key with other content was answered with {answer:?}");
                self.checks.violated(violation);
            }
            (Look::Stale { job }, Ok(Answer::Stale { answer, index, age })) => {
                if let Answer::Job(view) = &**answer {
                    let seen = Seen {
                        tasks: view.job.tasks,
                        ended: view.job.succeeded + view.job.failed,
                        phase: view.job.phase,
                    };
                    self.checks.fresh.told(*index, job, seen);
                }
                self.check_age(server, *index, *age);
            }
            (Look::Results { job, asked }, Ok(Answer::Fetch(fetch))) => {
                self.reads_page(server, client, (job, asked), fetch);
            }
            _ => {}
        }
    }

    /// C5: what a server says of the age of its state. After that moment a leader said that no more was committed, however
    /// long what it said was on its way, or waited for a server that stood still.
    fn check_age(&mut self, server: u64, index: Index, age: Option<u64>) {
        let applied = self
            .host(server)
            .replica
            .as_ref()
            .map(|replica| replica.state().applied());
        if applied.is_some_and(|applied| applied < index) {
            self.checks.violated(format!(
                "C5: server {server} answered of index {index} before it applied it"
            ));
        }
        let Some(age) = age else {
            return self.count("stale reads of unknown age");
        };
        self.count("stale reads");
        let clocks = self.host(server).clocks;
        let mono = clocks.now(self.now).mono.0.saturating_sub(age);
        let heard = clocks.when(Mono(mono)).min(self.now);
        let least = self
            .checks
            .fresh
            .least_said(heard.saturating_sub(MILLISECOND), self.now);
        if age > SECOND {
            self.count("stale reads older than a second");
        }
        if least.is_some_and(|least| index < least) {
            let violation = format!(
                "C5: server {server} answered of index {index} as {} ms old; {least:?} was committed by then",
                age / MILLISECOND
            );
            self.checks.violated(violation);
        }
    }

    /// C5 and J2: a result that was read is read again by whoever asks later, and is what was recorded.
    fn reads_page(&mut self, server: u64, client: usize, (job, asked): (JobId, u64), fetch: &Fetch) {
        let Fetch::Results {
            env,
            first,
            limit,
            tasks,
            ..
        } = *fetch
        else {
            return;
        };
        if self.host(server).disk.image().is_damaged() {
            // Whoever reads a rotten record ends.
            return;
        }
        self.count("pages of results read");
        let now = self.moment();
        let image = self.host(server).disk.image();
        let mut wrong = Vec::new();
        let mut found = Vec::new();
        for task in first..tasks.min(first + u64::from(limit)) {
            let stored = image.at_or_before(&result_key(env, job, task));
            let read = stored.and_then(|(key, value)| result_of(key, value, env, job, task).ok()?);
            let before = self.lookers.results.get(&(job, task));
            match (&read, before) {
                (None, Some((since, _))) if *since < asked => {
                    wrong.push(format!("C5: the result of {job}/{task} was read, and then not"));
                }
                (Some(read), Some((_, before))) if read != before => {
                    wrong.push(format!(
                        "J2: the result of {job}/{task} was {before:?}, and then {read:?}"
                    ));
                }
                (Some(read), _) => {
                    let by = self.checks.recorded_by(job, task);
                    if by != Some(read.given) {
                        wrong.push(format!(
                            "J2: the result of {job}/{task} by {} was read; {by:?} was recorded",
                            read.given
                        ));
                    }
                    if read.cause.is_none() && read.output != recognised(&self.clients[client].uri(task)) {
                        wrong.push(format!("J2: the result of {job}/{task} is not of its photo"));
                    }
                    found.push((task, read.clone()));
                }
                _ => {}
            }
        }
        let again = |(task, _): &(u64, ResultRecord)| self.lookers.results.contains_key(&(job, *task));
        if found.iter().any(again) {
            self.count("results read again");
        }
        for (task, read) in found {
            self.lookers.results.entry((job, task)).or_insert((now, read));
        }
        wrong.into_iter().for_each(|what| self.checks.violated(what));
    }
}
