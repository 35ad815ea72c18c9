//! The cloud that a leader's calls go to.

use rebound_core::cloud::{CloudCall, CloudOutcome};

/// Makes calls, one at a time each; several run at once. What may be said of a call that failed is bound by
/// [`CloudOutcome`]: whoever cannot know that nothing happened says [`CloudOutcome::Unknown`].
#[tonic::async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// Makes a call and says what came of it. Ends by itself within a time limit of its own.
    async fn call(&self, call: &CloudCall) -> CloudOutcome;
}

/// For servers whose configuration names no cloud: nothing is bought, and whoever asks is told why.
#[derive(Clone, Copy, Debug)]
pub struct NoCloud;

#[tonic::async_trait]
impl Cloud for NoCloud {
    async fn call(&self, _: &CloudCall) -> CloudOutcome {
        CloudOutcome::Refused {
            why: "this server's configuration names no cloud".to_owned(),
        }
    }
}
