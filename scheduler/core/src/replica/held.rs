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
