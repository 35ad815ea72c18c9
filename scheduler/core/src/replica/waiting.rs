//! Commands that wait to be proposed, in two classes: what the cluster needs to get on (results, plans, leases, workers
//! that come), and what clients ask. The first goes first, within a part of each call, so that a burst of submits delays no result,
//! and no flood of results keeps clients out.

use std::collections::VecDeque;

use super::{Origin, Proposal};
use crate::limits::{BUSY_AGE, OVERLOAD_RETRY, OWN_PART};
use crate::reply::Refused;
use crate::types::{AskId, TraceId};

/// The commands of one class, in order.
#[derive(Default)]
struct Class {
    queue: VecDeque<(u64, Proposal)>,
    bytes: usize,
}

impl Class {
    fn pop(&mut self) -> Option<(u64, Proposal)> {
        let first = self.queue.pop_front()?;
        self.bytes -= first.1.bytes;
        Some(first)
    }
}

/// All that waits.
#[derive(Default)]
pub(super) struct Waiting {
    own: Class,
    asked: Class,
}

impl Waiting {
    fn class(&mut self, proposal: &Proposal) -> &mut Class {
        match proposal.origin {
            Origin::Ask(_) => &mut self.asked,
            Origin::Hello(_) | Origin::Report | Origin::Plan | Origin::Scale | Origin::Duty => &mut self.own,
        }
    }

    /// Waits from now on, in µs of running time.
    pub fn push(&mut self, now: u64, proposal: Proposal) {
        let class = self.class(&proposal);
        class.bytes += proposal.bytes;
        class.queue.push_back((now, proposal));
    }

    /// Waits at its place again.
    pub fn put_back(&mut self, since: u64, proposal: Proposal) {
        let class = self.class(&proposal);
        class.bytes += proposal.bytes;
        class.queue.push_front((since, proposal));
    }

    /// The next one, when `spent` of the `most` bytes of this call are spent, and since when it waits.
    pub fn pop(&mut self, spent: usize, most: usize) -> Option<(u64, Proposal)> {
        let own_first = spent < most - most / OWN_PART || self.asked.queue.is_empty();
        let (first, then) = match own_first {
            true => (&mut self.own, &mut self.asked),
            false => (&mut self.asked, &mut self.own),
        };
        first.pop().or_else(|| then.pop())
    }

    /// Bytes of results, plans, leases and workers that come.
    pub fn own_bytes(&self) -> usize {
        self.own.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = &Proposal> {
        let both = self.own.queue.iter().chain(&self.asked.queue);
        both.map(|(_, proposal)| proposal)
    }

    /// True when requests wait for a while to be proposed.
    pub fn is_busy(&self, now: u64, most: usize) -> bool {
        let oldest = self.asked.queue.front().map_or(now, |(since, _)| *since);
        self.own.bytes + self.asked.bytes > most / 2 || now.saturating_sub(oldest) > BUSY_AGE
    }

    /// Why no more of this may be asked now, if so: too many bytes wait, of both classes together, or for longer than
    /// `age`. For a worker that comes only its own class counts: it is help.
    pub fn is_overloaded(&self, origin: Origin, now: u64, most: usize, age: u64) -> Option<&'static str> {
        let oldest = self.asked.queue.front().map_or(now, |(since, _)| *since);
        let asked = matches!(origin, Origin::Ask(_));
        if self.own.bytes + if asked { self.asked.bytes } else { 0 } > most {
            Some("too many entries wait to be written")
        } else if !asked {
            None
        } else if now.saturating_sub(oldest) > age {
            Some("requests wait too long to be written")
        } else {
            None
        }
    }
}

/// Too much at once. Those that are told so together do not come back together: who waits how long follows from the
/// question itself, since nothing is drawn in here.
pub(super) fn overload(what: &'static str, ask: AskId, trace: TraceId) -> Refused {
    Refused::Overloaded {
        what,
        retry_after: spread(OVERLOAD_RETRY, ask, trace),
    }
}

/// A time from half to one and a half of this one, by the question.
pub(super) fn spread(us: u64, ask: AskId, trace: TraceId) -> u64 {
    let seed = [&trace.0[..], &ask.0.to_be_bytes()].concat();
    us / 2 + xxhash_rust::xxh3::xxh3_64(&seed) % us.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::types::Caller;

    fn of(origin: Origin, bytes: usize) -> Proposal {
        Proposal {
            origin,
            by: Caller::default(),
            trace: TraceId::default(),
            command: Command::Count,
            bytes,
        }
    }

    fn order(waiting: &mut Waiting, most: usize) -> Vec<usize> {
        let (mut spent, mut order) = (0, Vec::new());
        while let Some((_, proposal)) = waiting.pop(spent, most) {
            spent += proposal.bytes;
            order.push(proposal.bytes);
        }
        order
    }

    #[test]
    fn results_go_before_submits_and_leave_them_a_part() {
        let mut waiting = Waiting::default();
        for n in 0..4 {
            waiting.push(0, of(Origin::Ask(AskId(n)), 10));
            waiting.push(0, of(Origin::Report, 31));
        }
        assert_eq!(waiting.own_bytes(), 124);
        // Three quarters of 80 bytes are spent with the second result.
        assert_eq!(order(&mut waiting, 80), [31, 31, 10, 10, 10, 10, 31, 31]);
        assert_eq!(waiting.own_bytes(), 0);
    }

    #[test]
    fn too_much_or_too_old_is_overload() {
        const AGE: u64 = 7;
        let (client, worker) = (Origin::Ask(AskId(1)), Origin::Hello(AskId(1)));
        let mut waiting = Waiting::default();
        assert_eq!(waiting.is_overloaded(client, u64::MAX, 0, AGE), None);
        waiting.push(5, of(client, 10));
        assert_eq!(waiting.is_overloaded(client, 5 + AGE, 10, AGE), None);
        assert!(waiting.is_overloaded(client, 6 + AGE, 10, AGE).is_some());
        assert!(waiting.is_overloaded(client, 5, 9, AGE).is_some());
        // Workers come in while clients wait.
        assert_eq!(waiting.is_overloaded(worker, 6 + AGE, 9, AGE), None);
        // Results that wait are no reason of age, but of bytes, for workers too.
        let mut waiting = Waiting::default();
        waiting.push(0, of(Origin::Report, 10));
        for who in [client, worker] {
            assert_eq!(waiting.is_overloaded(who, u64::MAX, 10, AGE), None);
            assert!(waiting.is_overloaded(who, 0, 9, AGE).is_some());
        }
    }

    #[test]
    fn half_of_what_may_wait_is_busy_and_so_is_what_waits_for_long() {
        let mut waiting = Waiting::default();
        waiting.push(5, of(Origin::Ask(AskId(1)), 30));
        waiting.push(5, of(Origin::Report, 20));
        assert!(!waiting.is_busy(5, 100) && waiting.is_busy(5, 99));
        assert!(!waiting.is_busy(5 + BUSY_AGE, 100) && waiting.is_busy(6 + BUSY_AGE, 100));
    }

    #[test]
    fn who_is_refused_comes_back_at_its_own_time() {
        let after = |ask| match overload("", AskId(ask), TraceId::default()) {
            Refused::Overloaded { retry_after, .. } => retry_after,
            _ => 0,
        };
        let times: std::collections::BTreeSet<u64> = (0..100).map(after).collect();
        assert!(times.len() > 90);
        assert_eq!(after(7), after(7));
        let within = OVERLOAD_RETRY / 2..OVERLOAD_RETRY / 2 + OVERLOAD_RETRY;
        assert!(times.iter().all(|us| within.contains(us)));
    }
}
