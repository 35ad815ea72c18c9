//! A launch call that is held: before the cloud does anything, or with its answer. Whoever asked for it does something
//! bad meanwhile, and the answer is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rebound_core::cloud::CloudCall;
use rebound_core::types::LaunchId;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// Where a launch is when its call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Committed, and not called as far as the cloud knows.
    Uncalled,
    /// Called, and not settled.
    Unsettled,
}

/// A call that waits.
pub struct Held {
    /// Where it is.
    pub moment: Moment,
    /// It goes on, unanswered, when this is dropped.
    pub release: oneshot::Sender<()>,
}

/// Holds the first call of each launch before it counts, and the second with its answer, so many of each.
#[derive(Clone)]
pub struct Trap {
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    left: BTreeMap<Moment, u64>,
    seen: BTreeMap<LaunchId, u32>,
    tell: mpsc::UnboundedSender<Held>,
}

impl Trap {
    /// One that holds `each` calls at either moment, and where it says so.
    pub fn new(each: u64) -> (Trap, mpsc::UnboundedReceiver<Held>) {
        let (tell, told) = mpsc::unbounded_channel();
        let inside = Inside {
            left: BTreeMap::from([(Moment::Uncalled, each), (Moment::Unsettled, each)]),
            seen: BTreeMap::new(),
            tell,
        };
        let inside = Arc::new(Mutex::new(inside));
        (Trap { inside }, told)
    }

    /// The moment at which a call is to be held, if it is.
    pub(super) fn moment(&self, call: &CloudCall) -> Option<Moment> {
        let CloudCall::Launch { launch, .. } = call else {
            return None;
        };
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = inside.seen.entry(*launch).or_default();
        *seen += 1;
        let moment = match seen {
            1 => Moment::Uncalled,
            2 => Moment::Unsettled,
            _ => return None,
        };
        let left = inside.left.entry(moment).or_default();
        let held = *left > 0;
        *left = left.saturating_sub(1);
        held.then_some(moment)
    }

    /// Holds it until somebody lets go.
    pub(super) async fn hold(&self, moment: Moment) {
        let (release, released) = oneshot::channel();
        let tell = {
            let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            inside.tell.clone()
        };
        // When nobody listens any more, the sender comes back and is dropped with its error.
        drop(tell.send(Held { moment, release }));
        let _ = released.await;
    }
}
