//! Histories of clients, and whether they are linearizable: whether some order of all calls, each between its
//! beginning and its end, is one that a sequential model allows. The search is Wing and Gong's with Lowe's memory of
//! what was tried. A call without an end may have happened at any time after its beginning, or never: it is left out
//! where it would change nothing, and of several that asked the same the first stands for the next, since otherwise a
//! client that asks on and on without an answer makes as many orders as there are sets of its calls.

use std::collections::BTreeSet;

pub mod job;

/// A model that does one thing at a time.
pub trait Sequential {
    /// Where it stands.
    type State: Clone + Ord;
    /// What is asked.
    type Ask: PartialEq;
    /// What is answered.
    type Answer;

    /// The beginning.
    fn begin(&self) -> Self::State;

    /// Where it stands after `ask` was answered with `answer`; none when it would not have answered so. Without an
    /// answer: where it stands after the ask had its effect.
    fn step(
        &self,
        state: &Self::State,
        ask: &Self::Ask,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// One call. Moments are numbers of a count that all calls share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<Ask, Answer> {
    /// When it began.
    pub from: u64,
    /// When it was answered, and how; none: nobody knows.
    pub end: Option<(u64, Answer)>,
    /// What was asked.
    pub ask: Ask,
}

impl<Ask, Answer> Call<Ask, Answer> {
    fn until(&self) -> u64 {
        self.end.as_ref().map_or(u64::MAX, |(until, _)| *until)
    }
}

/// Most steps of one search: a history that needs more is told apart from a bad one.
const STEPS_MAX: u64 = 2_000_000;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains everything.
    Linearizable,
    /// None does; at most so many calls could be explained together.
    Not { explained: usize },
    /// Too many orders.
    TooLong,
}

/// Looks for an order that explains all calls.
pub fn check<M: Sequential>(model: &M, calls: &[Call<M::Ask, M::Answer>]) -> Verdict {
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|at| calls[*at].from);
    let mut search = Search {
        model,
        calls,
        same: same(calls, &order),
        taken: vec![0; calls.len().div_ceil(64)],
        seen: BTreeSet::new(),
        answered_left: calls.iter().filter(|call| call.end.is_some()).count(),
        steps: 0,
    };
    search.run(&order)
}

/// For each call without an answer, the one before it that asked the same, in vain too.
fn same<Ask: PartialEq, Answer>(calls: &[Call<Ask, Answer>], order: &[usize]) -> Vec<Option<usize>> {
    let mut same = vec![None; calls.len()];
    let vain: Vec<usize> = order
        .iter()
        .copied()
        .filter(|at| calls[*at].end.is_none())
        .collect();
    for (before, at) in vain.iter().enumerate() {
        let earlier = vain[..before].iter().rev();
        same[*at] = earlier.copied().find(|one| calls[*one].ask == calls[*at].ask);
    }
    same
}

struct Search<'a, M: Sequential> {
    model: &'a M,
    calls: &'a [Call<M::Ask, M::Answer>],
    /// See [`same`].
    same: Vec<Option<usize>>,
    /// A bit for each call that is in the order so far.
    taken: Vec<u64>,
    seen: BTreeSet<(Vec<u64>, M::State)>,
    answered_left: usize,
    steps: u64,
}

/// A place in the order: the state before it, and which candidate is tried.
struct Place<S> {
    state: S,
    candidates: Vec<usize>,
    next: usize,
}

impl<M: Sequential> Search<'_, M> {
    fn run(&mut self, order: &[usize]) -> Verdict {
        let begin = self.model.begin();
        let candidates = self.candidates(order);
        let mut places = vec![Place {
            state: begin,
            candidates,
            next: 0,
        }];
        let mut path: Vec<usize> = Vec::new();
        let mut explained = 0;
        loop {
            if self.answered_left == 0 {
                return Verdict::Linearizable;
            }
            explained = explained.max(path.len());
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Verdict::TooLong;
            }
            let Some(place) = places.last_mut() else {
                return Verdict::Not { explained };
            };
            let Some(at) = place.candidates.get(place.next).copied() else {
                places.pop();
                if let Some(back) = path.pop() {
                    self.put_back(back);
                }
                continue;
            };
            place.next += 1;
            let call = &self.calls[at];
            let answer = call.end.as_ref().map(|(_, answer)| answer);
            let Some(state) = self.model.step(&place.state, &call.ask, answer) else {
                continue;
            };
            if answer.is_none() && state == place.state {
                continue;
            }
            self.take(at);
            if !self.seen.insert((self.taken.clone(), state.clone())) {
                self.put_back(at);
                continue;
            }
            path.push(at);
            let candidates = self.candidates(order);
            places.push(Place {
                state,
                candidates,
                next: 0,
            });
        }
    }

    /// Calls that may come next: those that began before any other that is left ended.
    fn candidates(&self, order: &[usize]) -> Vec<usize> {
        let left = |at: &&usize| !self.is_taken(**at);
        let first_end = order
            .iter()
            .filter(left)
            .map(|at| self.calls[*at].until())
            .min()
            .unwrap_or(u64::MAX);
        let may = |at: &&usize| {
            self.calls[**at].from < first_end && self.same[**at].is_none_or(|before| self.is_taken(before))
        };
        order.iter().filter(left).filter(may).copied().collect()
    }

    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] & (1 << (at % 64)) != 0
    }

    fn take(&mut self, at: usize) {
        self.taken[at / 64] |= 1 << (at % 64);
        self.answered_left -= usize::from(self.calls[at].end.is_some());
    }

    fn put_back(&mut self, at: usize) {
        self.taken[at / 64] &= !(1 << (at % 64));
        self.answered_left += usize::from(self.calls[at].end.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that holds a number.
    struct Register;

    #[derive(PartialEq)]
    enum Ask {
        Write(u32),
        Read,
    }

    impl Sequential for Register {
        type State = u32;
        type Ask = Ask;
        type Answer = u32;

        fn begin(&self) -> u32 {
            0
        }

        fn step(&self, state: &u32, ask: &Ask, answer: Option<&u32>) -> Option<u32> {
            match ask {
                Ask::Write(value) => Some(*value),
                Ask::Read => answer.is_none_or(|seen| seen == state).then_some(*state),
            }
        }
    }

    fn write(from: u64, until: Option<u64>, value: u32) -> Call<Ask, u32> {
        let end = until.map(|until| (until, 0));
        Call {
            from,
            end,
            ask: Ask::Write(value),
        }
    }

    fn read(from: u64, until: u64, value: u32) -> Call<Ask, u32> {
        let end = Some((until, value));
        Call {
            from,
            end,
            ask: Ask::Read,
        }
    }

    fn verdict(calls: &[Call<Ask, u32>]) -> bool {
        check(&Register, calls) == Verdict::Linearizable
    }

    #[test]
    fn one_after_another() {
        assert!(verdict(&[]));
        assert!(verdict(&[write(1, Some(2), 7), read(3, 4, 7)]));
        assert!(!verdict(&[write(1, Some(2), 7), read(3, 4, 0)]), "a stale read");
        assert!(
            !verdict(&[read(1, 2, 7), write(3, Some(4), 7)]),
            "a read from the future"
        );
    }

    #[test]
    fn at_once_in_either_order() {
        let both = |first, second| [write(1, Some(9), 7), read(2, 3, first), read(4, 5, second)];
        assert!(verdict(&both(0, 7)));
        assert!(verdict(&both(7, 7)));
        assert!(verdict(&both(0, 0)));
        assert!(!verdict(&both(7, 0)), "what was read is read again");
    }

    #[test]
    fn what_nobody_knows_may_happen_late_or_never() {
        assert!(verdict(&[write(1, None, 7), read(2, 3, 0), read(4, 5, 0)]));
        assert!(verdict(&[write(1, None, 7), read(2, 3, 0), read(4, 5, 7)]));
        assert!(
            !verdict(&[write(1, None, 7), read(2, 3, 7), read(4, 5, 0)]),
            "but only once"
        );
        assert!(
            !verdict(&[read(1, 2, 7), write(3, None, 7)]),
            "and not before it began"
        );
    }

    #[test]
    fn many_asked_in_vain_are_few_orders() {
        let twice = |at: u64| [write(2 * at, None, 7), write(2 * at + 1, None, 8)];
        let mut calls: Vec<_> = (0..40).flat_map(twice).collect();
        calls.extend((0..80).map(|at| read(100 + 2 * at, 101 + 2 * at, 7 + at as u32 % 2)));
        assert!(verdict(&calls), "each was written as often as it was read anew");
        calls.push(read(400, 401, 7));
        assert!(!verdict(&calls), "but not once more");
    }

    #[test]
    fn two_readers_must_agree_on_the_order_of_two_writes() {
        let calls = [
            write(1, Some(10), 1),
            write(2, Some(11), 2),
            read(12, 13, 1),
            read(14, 15, 2),
        ];
        assert!(!verdict(&calls));
    }
}
