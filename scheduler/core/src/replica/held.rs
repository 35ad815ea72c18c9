//! Questions that came to a leader before it was ready.

use std::collections::{BTreeSet, VecDeque};

use crate::io::Question;
use crate::types::AskId;

/// See the module.
#[derive(Default)]
pub(super) struct Held {
    questions: VecDeque<Box<Question>>,
    bytes: usize,
}

impl Held {
    /// About how many bytes they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more.
    pub fn push(&mut self, question: Box<Question>) {
        self.bytes += question.request.bytes();
        self.questions.push_back(question);
    }

    /// Without these.
    pub fn forget(&mut self, due: &BTreeSet<AskId>) {
        self.questions.retain(|question| !due.contains(&question.ask));
        self.bytes = self
            .questions
            .iter()
            .map(|question| question.request.bytes())
            .sum();
    }

    /// All of them, in the order they came.
    pub fn take(&mut self) -> VecDeque<Box<Question>> {
        std::mem::take(self).questions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Request;
    use crate::types::{Caller, TraceId};

    #[test]
    fn those_whose_time_is_over_go_and_the_others_stay_in_their_order() {
        let mut held = Held::default();
        for ask in 1..=4 {
            held.push(Box::new(Question {
                ask: AskId(ask),
                by: Caller::default(),
                trace: TraceId::default(),
                timeout: 0,
                request: Request::Count,
            }));
        }
        let all = held.bytes();
        held.forget(&BTreeSet::from([AskId(1), AskId(3)]));
        assert_eq!(held.bytes(), all / 2);
        let left: Vec<u64> = held.take().iter().map(|question| question.ask.0).collect();
        assert_eq!((left, held.bytes()), (vec![2, 4], 0));
    }
}
