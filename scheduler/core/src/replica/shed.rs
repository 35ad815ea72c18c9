//! Who is let in under overload. The limits of the cluster are checked again when an entry is applied; what is decided
//! here is the leader's advice, before anything is proposed, from what it sees and measured: it costs microseconds.
//!
//! An environment is overloaded while what waits of it takes longer to work off than the setting `shed_after`, or while
//! requests wait to be proposed. Then a submit whose deadline cannot be made is refused, with a time at which there will
//! be room; else it is taken, and the answer says that it will be late. A submit without a deadline is refused by the
//! limits alone, and one whose key is known never: its answer is there already.

use super::outlook::Estimate;
use super::{Origin, Replica, spread};
use crate::command::{Command, Open};
use crate::event::{Event, Fact};
use crate::io::Output;
use crate::limits::{FULL_RETRY, OVERLOAD_RETRY, SHED_CAUTION, SHED_RETRY_MAX, SHED_SHOWN};
use crate::reply::{Refused, Rejected, Reply};
use crate::state::jobs::{bytes_of, bytes_of_job};
use crate::types::*;
use crate::validate;

/// Why a request is refused under overload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shed {
    /// Its photos cannot be done in time.
    Deadline,
    /// The cluster has as much as it takes.
    Full,
    /// Too much waits to be written.
    Proposals,
}

/// How often that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Submits that could not make their deadline.
    pub deadline: u64,
    /// Submits and appends beyond what the cluster takes.
    pub full: u64,
    /// Requests while too much waited to be written.
    pub proposals: u64,
    last: Option<(Mono, &'static str)>,
}

/// What is asked of the cluster's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    photos: u64,
    bytes: u64,
}

/// A submit that was let in and is not applied yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetIn {
    env: Option<EnvId>,
    asked: Asked,
    /// How many priorities are above its own.
    class: u8,
    /// µs of slots, if it was measured, and how long that takes.
    work: u128,
    takes: u64,
    trace: TraceId,
}

/// The work of those who were refused and will come back, in the time that it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurnedAway {
    takes: u64,
    at: Mono,
}

impl TurnedAway {
    /// Work of theirs could have been done meanwhile.
    fn pass(&mut self, now: Mono) {
        self.takes = self.takes.saturating_sub(now.0.saturating_sub(self.at.0));
        self.at = now;
    }
}

impl Replica {
    /// Somebody submits a job.
    pub(super) fn ask_open(
        &mut self,
        ask: AskId,
        by: Caller,
        trace: TraceId,
        open: Box<Open>,
        out: &mut Output,
    ) {
        let env = self.state.environments.find(&by.environment);
        // Whatever it says now, apply compares it with what the key stands for.
        let is_known = |env| self.state.keys.get(env, &open.key).is_some();
        let known = !open.key.is_empty() && env.is_some_and(is_known);
        let mut most = self.config.limits.propose_bytes_waiting;
        let mut let_in = None;
        // All else is looked at all the same: a key whose time is over opens a job like any other.
        if let Err(rejected) = validate::open(&open, self.state.now(), known) {
            return self.answer(ask, Err(rejected.into()), out);
        }
        if known {
            most *= 2;
        } else {
            match self.admit(ask, trace, env, &open) {
                Ok(one) => let_in = Some(one),
                Err(refused) => return self.answer(ask, Err(refused), out),
            }
        }
        let queued = self.propose_within(most, Origin::Ask(ask), by, trace, Command::Open(open), out);
        if let (true, Some(one), Some(leader)) = (queued, let_in, &mut self.leader) {
            leader.let_in_sum.photos += one.asked.photos;
            leader.let_in_sum.bytes += one.asked.bytes;
            if let Some(line) = one.env.and_then(|env| leader.lines.get_mut(&env)) {
                line.comes(one.class, one.work);
            }
            leader.let_in.insert(ask, one);
        }
    }

    /// Whether a submit with a new key is let in, as far as can be told.
    fn admit(
        &mut self,
        ask: AskId,
        trace: TraceId,
        env: Option<EnvId>,
        open: &Open,
    ) -> Result<LetIn, Refused> {
        let photos = open.photos.len();
        let asked = Asked {
            photos,
            bytes: bytes_of_job(open) + bytes_of(&open.photos),
        };
        let now = match &self.leader {
            Some(leader) => leader.clock.peek(self.now),
            None => self.state.now(),
        };
        let due = open.deadline.instant(now);
        let spec = env.and_then(|env| self.state.specs.find(env, &open.spec));
        let class = u8::MAX - open.priority;
        let key = (class, false, due.unwrap_or(Time(u64::MAX)), JobId(u64::MAX));
        let estimate = env.zip(spec).and_then(|(env, spec)| {
            self.look_ahead(env, spec);
            self.estimate(env, spec, &key, photos)
        });
        let takes = estimate.map_or(0, |one| one.own);
        let sum = self
            .leader
            .as_ref()
            .map_or(Asked::default(), |leader| leader.let_in_sum);
        let (with, bytes) = (asked.photos + sum.photos, asked.bytes + sum.bytes);
        let with = if photos == 0 { 0 } else { with };
        if let Err(full) = self.state.room_in_cluster(with, bytes) {
            self.note_refusal(Shed::Full);
            return Err(self.full(full, env, takes, ask, trace).into());
        }
        if let (Some(due), Some(estimate)) = (due, estimate.filter(|_| photos > 0))
            && let Some(excess) = self.cannot_make(&estimate, now, due)
        {
            self.note_refusal(Shed::Deadline);
            let wait = self.comes_back(env, excess, takes);
            return Err(Refused::Overloaded {
                what: "too much waits for its photos to be done by their deadline",
                retry_after: spread(wait, ask, trace),
            });
        }
        Ok(LetIn {
            env,
            asked,
            class,
            work: estimate.map_or(0, |one| one.work),
            takes,
            trace,
        })
    }

    /// By how much a submit would be late while its environment is overloaded; none when it is let in. Where machines are
    /// bought, what there is now says nothing of what there will be: what caps make late is late, and says so.
    fn cannot_make(&self, estimate: &Estimate, now: Time, due: Time) -> Option<u64> {
        if self.state.control.buys() {
            return None;
        }
        let most = self.config.limits.propose_bytes_waiting;
        let overloaded = estimate.all_in > self.state.meta().settings.shed_after
            || self.waiting.is_busy(self.elapsed, most);
        let cautious = estimate.done_in.saturating_mul(SHED_CAUTION) / 4;
        let left = due.0.saturating_sub(now.0);
        (overloaded && cautious > left).then(|| estimate.done_in.saturating_sub(left * 4 / SHED_CAUTION))
    }

    /// After how long there will be room for who is refused now: when what is too much has been done, and what was
    /// refused before, which comes back as well.
    fn comes_back(&mut self, env: Option<EnvId>, excess: u64, takes: u64) -> u64 {
        let now = self.now.mono;
        let (Some(leader), Some(env)) = (&mut self.leader, env) else {
            return FULL_RETRY;
        };
        let away = leader.turned_away.entry(env).or_default();
        away.pass(now);
        let wait = excess.saturating_add(away.takes);
        away.takes = away.takes.saturating_add(takes).min(SHED_RETRY_MAX);
        wait.clamp(OVERLOAD_RETRY, SHED_RETRY_MAX)
    }

    /// The same refusal with a time at which to come back.
    fn full(
        &mut self,
        mut full: Rejected,
        env: Option<EnvId>,
        takes: u64,
        ask: AskId,
        trace: TraceId,
    ) -> Rejected {
        if let Rejected::Full { retry_after, .. } = &mut full {
            let wait = match takes {
                0 => FULL_RETRY,
                takes => self.comes_back(env, takes, takes),
            };
            *retry_after = spread(wait, ask, trace);
        }
        full
    }

    /// What was let in is applied, or never will be. What the cluster's limits refused gets a time to come back.
    pub(super) fn let_in_ended(
        &mut self,
        ask: AskId,
        reply: Result<Reply, Refused>,
    ) -> Result<Reply, Refused> {
        let mut one = None;
        if let Some(leader) = &mut self.leader {
            one = leader.let_in.remove(&ask);
        }
        if let (Some(one), Some(leader)) = (one, &mut self.leader) {
            leader.let_in_sum.photos -= one.asked.photos;
            leader.let_in_sum.bytes -= one.asked.bytes;
            if let Some(line) = one.env.and_then(|env| leader.lines.get_mut(&env)) {
                line.came(one.class, one.work, reply.is_ok());
            }
        }
        match reply {
            Err(Refused::Rejected(full @ Rejected::Full { .. })) => {
                self.note_refusal(Shed::Full);
                let (env, takes) = one.map_or((None, 0), |one| (one.env, one.takes));
                let trace = one.map_or(TraceId::default(), |one| one.trace);
                Err(self.full(full, env, takes, ask, trace).into())
            }
            reply => reply,
        }
    }

    pub(super) fn note_refusal(&mut self, why: Shed) {
        let (count, words) = match why {
            Shed::Deadline => (
                &mut self.refusals.deadline,
                "submits that cannot make their deadline",
            ),
            Shed::Full => (&mut self.refusals.full, "photos beyond the cluster's limits"),
            Shed::Proposals => (
                &mut self.refusals.proposals,
                "requests: too many wait to be written",
            ),
        };
        *count += 1;
        self.refusals.last = Some((self.now.mono, words));
    }

    /// What is refused these days, if anything.
    pub(super) fn sheds(&self) -> &'static str {
        let last = self.refusals.last;
        let lately = last.filter(|(at, _)| self.now.mono.0.saturating_sub(at.0) <= SHED_SHOWN);
        lately.map_or("", |(_, words)| words)
    }

    /// Photos that ended tell how fast the cluster is.
    pub(super) fn note_speed(&mut self, events: &[Event]) {
        let Some(leader) = &mut self.leader else { return };
        for event in events {
            let (Fact::Recorded { worker, count, .. }, Some(job)) = (&event.fact, event.job) else {
                continue;
            };
            if let Some(job) = self.state.jobs.get_in(event.env, job) {
                leader.speed.ended(*worker, job.spec, *count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_turned_away_is_forgotten_as_fast_as_it_could_be_served() {
        let mut away = TurnedAway {
            takes: 3 * SECOND,
            at: Mono(SECOND),
        };
        away.pass(Mono(2 * SECOND));
        assert_eq!(away.takes, 2 * SECOND);
        away.pass(Mono(9 * SECOND));
        assert_eq!((away.takes, away.at), (0, Mono(9 * SECOND)));
        away.pass(Mono(SECOND));
        assert_eq!(away.takes, 0);
    }
}
