//! The cloud that a leader's calls go to, and whose prices servers watch.

use rebound_core::cloud::{CloudCall, CloudOutcome};
use rebound_core::types::Time;
use rebound_pricer::health::Told;

pub mod local;

/// Makes calls; several run at once. What may be said of a call that failed is bound by [`CloudOutcome`]: whoever cannot
/// know that nothing happened says [`CloudOutcome::Unknown`].
#[tonic::async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// Makes a call and says what came of it. Ends by itself within a time limit of its own.
    async fn call(&self, call: &CloudCall) -> CloudOutcome;

    /// Spot prices that began after an instant, and those in force then.
    ///
    /// # Errors
    ///
    /// Why nothing was heard, for people.
    async fn prices(&self, since: Time) -> Result<Vec<Told>, String>;

    /// The bill of the last hours that are over: hours since 1970 and millionths of USD. Empty where there is none to be
    /// had by the hour.
    ///
    /// # Errors
    ///
    /// Why nothing was heard, for people.
    async fn bill(&self) -> Result<Vec<(u64, u64)>, String> {
        Ok(Vec::new())
    }
}

/// For servers whose configuration names no cloud: nothing is bought, and whoever asks is told why.
#[derive(Clone, Copy, Debug)]
pub struct NoCloud;

/// What it says to whoever wants something.
const NO_CLOUD: &str = "this server's configuration names no cloud: give it a [cloud] section";

#[tonic::async_trait]
impl Cloud for NoCloud {
    async fn call(&self, _: &CloudCall) -> CloudOutcome {
        CloudOutcome::Refused {
            why: NO_CLOUD.to_owned(),
        }
    }

    async fn prices(&self, _: Time) -> Result<Vec<Told>, String> {
        Err(NO_CLOUD.to_owned())
    }
}
