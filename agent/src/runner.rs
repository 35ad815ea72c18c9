//! Runs recognisers: child processes that hold the model, one photo at a time each.
//!
//! A photo or a model that hangs, aborts or takes too much memory ends its child, and the agent says which photo it
//! held. Children are started when they are first needed, kept for the next photo, and never more than there are slots.
//!
//! Children end with the thread that started them, so that a killed agent leaves none behind: the runner must be used
//! from a thread that lives as long as the process (the agent's runtime has only that one).

mod child;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rebound_proto::v1;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::fetch::Photo;
use crate::machine::Failure;
use crate::recognise::frame::{Outcome, Request};
use crate::recognise::manifest::{Kind, Manifest};
use child::{Child, Ended};

/// Longest time a recogniser may take to load its model.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a child that was to replace another is tried before the photo is handed back.
pub const LOAD_ATTEMPTS: u32 = 3;

/// Wait after a child that could not load; doubled each time.
pub const LOAD_RETRY_WAIT: Duration = Duration::from_secs(1);

/// A program of kind `command` is ended by its own parent, the child, at the photo's time limit. The child itself is
/// ended so much later.
pub const COMMAND_GRACE: Duration = Duration::from_secs(2);

/// Longest time limit of one photo.
pub const MAX_PHOTO_TIMEOUT: Duration = Duration::from_secs(3600);

/// Least memory a child may have, whatever the machine is said to have.
pub const MIN_CHILD_MEMORY_MIB: u64 = 512;

/// What `noop` answers has so many bytes, unless told otherwise.
pub const NOOP_BYTES: usize = 64;

/// Spread of the times that `noop` takes, where it takes any: nine of ten are within a third of the median.
pub const NOOP_SPREAD: f64 = 0.2;

/// How children are run.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// The program whose `recognise` subcommand is the child: this one.
    pub program: PathBuf,
    /// Most children alive.
    pub slots: usize,
    /// Threads a recogniser may use for one photo.
    pub threads: usize,
    /// Memory a child may allocate (`RLIMIT_DATA`); `None`: no limit.
    pub child_memory_mib: Option<u64>,
}

/// The recognisers of this machine and their children.
#[derive(Clone)]
pub struct Runner {
    config: Arc<RunnerConfig>,
    manifests: Arc<BTreeMap<String, Manifest>>,
    idle: Arc<Mutex<BTreeMap<String, Vec<Child>>>>,
}

/// What a slot is to do.
#[derive(Debug)]
pub struct Execution {
    /// Which recogniser, and how long it may take.
    pub spec: Arc<v1::Spec>,
    /// In a new child that does nothing else.
    pub alone: bool,
    /// The photo, kept until the recogniser has answered.
    pub photo: Photo,
    /// For the log.
    pub label: String,
}

/// What `noop` answers: the lower-case hex sha256 of the URI; then, as far as `bytes` reach, the sha256 of the digest
/// before, and so on. It is not JSON.
pub fn noop(uri: &str, bytes: usize) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digest = Sha256::digest(uri.as_bytes());
    let mut hex = Vec::with_capacity(bytes.next_multiple_of(NOOP_BYTES));
    loop {
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        hex.extend(digits.map(|digit| DIGITS[usize::from(digit)]));
        if hex.len() >= bytes {
            hex.truncate(bytes);
            return hex.into();
        }
        digest = Sha256::digest(digest);
    }
}

/// How long a `noop` takes that has a median time in µs: log-normal, as recognition times mostly are.
pub fn noop_takes(median_us: u64, rng: &mut impl rand::Rng) -> Duration {
    // Box and Muller's method.
    let (a, b): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    let us = median_us as f64 * (NOOP_SPREAD * normal).exp();
    Duration::from_micros(us as u64)
}

impl Runner {
    /// Loads each recogniser once. Gives the runner with those that came up, and why others did not.
    pub async fn probe(config: RunnerConfig, manifests: Vec<Manifest>) -> (Runner, Vec<(String, String)>) {
        let runner = Runner {
            config: Arc::new(config),
            manifests: Arc::new(
                manifests
                    .into_iter()
                    .map(|manifest| (manifest.name.clone(), manifest))
                    .collect(),
            ),
            idle: Arc::default(),
        };
        let probes = runner.manifests.values().map(|manifest| async {
            let loaded = Child::start(&runner.config, manifest).await;
            (manifest.name.clone(), loaded)
        });
        let mut failed = Vec::new();
        for (name, loaded) in futures_util::future::join_all(probes).await {
            match loaded {
                Ok(child) => {
                    info!(
                        recogniser = name,
                        load_ms = child.load_ms,
                        "the recogniser is ready"
                    );
                    runner.put_back(&name, child);
                }
                Err(why) => failed.push((name, why)),
            }
        }
        let came_up = |name: &String| !failed.iter().any(|(down, _)| down == name);
        let manifests = runner.manifests.iter().filter(|(name, _)| came_up(name));
        let manifests = manifests
            .map(|(name, manifest)| (name.clone(), manifest.clone()))
            .collect();
        (
            Runner {
                manifests: Arc::new(manifests),
                ..runner
            },
            failed,
        )
    }

    /// What the agent offers, `noop` first.
    pub fn recognisers(&self) -> Vec<v1::RecogniserRef> {
        let noop = v1::RecogniserRef {
            name: crate::machine::NOOP.to_string(),
            digest: Bytes::new(),
        };
        let others = self.manifests.values().map(|manifest| v1::RecogniserRef {
            name: manifest.name.clone(),
            digest: Bytes::copy_from_slice(&manifest.digest()),
        });
        std::iter::once(noop).chain(others).collect()
    }

    /// Does one photo. When `stop` fires (or is dropped) the child is ended, and the answer counts for nothing.
    pub async fn execute(&self, execution: Execution, stop: oneshot::Receiver<()>) -> Result<Bytes, Failure> {
        let name = plain_name(&execution.spec.recogniser);
        let Some(manifest) = self.manifests.get(name) else {
            return Err(Failure::new(
                v1::Cause::Recogniser,
                format!("this worker has no recogniser {name:?}"),
            ));
        };
        let mut stop = stop;
        let mut child = tokio::select! {
            child = self.take(manifest, execution.alone) => child?,
            _ = &mut stop => return Err(stopped()),
        };
        let limit = photo_timeout(&execution.spec, manifest);
        let request = request(&execution, manifest, limit);
        let watch = if manifest.kind == Kind::Command {
            limit + COMMAND_GRACE
        } else {
            limit
        };
        let asked = tokio::select! {
            asked = timeout(watch, child.ask(request)) => Some(asked),
            _ = &mut stop => None,
        };
        match asked {
            Some(Ok(Ok(outcome))) => {
                match execution.alone {
                    true => child.kill().await,
                    false => self.put_back(name, child),
                }
                outcome_of(outcome)
            }
            Some(Ok(Err(ended))) => Err(ended_while_it_held(child, ended, &execution.label).await),
            Some(Err(_)) => {
                child.kill().await;
                let message = format!(
                    "no answer within {} ms; the recogniser was ended",
                    limit.as_millis()
                );
                warn!(task = execution.label, recogniser = name, "{message}");
                Err(Failure::new(v1::Cause::Timeout, message))
            }
            None => {
                child.kill().await;
                Err(stopped())
            }
        }
    }

    /// Ends all idle children.
    pub fn end(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Child>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(&self, name: &str, child: Child) {
        let mut idle = self.idle();
        if idle.values().map(Vec::len).sum::<usize>() < self.config.slots {
            idle.entry(name.to_string()).or_default().push(child);
        }
    }

    /// An idle child that lives, or a new one; `fresh`: a new one.
    async fn take(&self, manifest: &Manifest, fresh: bool) -> Result<Child, Failure> {
        if let Some(child) = self.take_idle(&manifest.name) {
            match fresh {
                true => child.kill().await,
                false => return Ok(child),
            }
        }
        let mut wait = LOAD_RETRY_WAIT;
        let mut attempt = 1;
        loop {
            match Child::start(&self.config, manifest).await {
                Ok(child) => return Ok(child),
                Err(why) if attempt == LOAD_ATTEMPTS => {
                    error!(
                        recogniser = manifest.name,
                        why, "a recogniser that was ready before does not load"
                    );
                    return Err(Failure::new(
                        v1::Cause::Released,
                        format!("{} does not load: {why}", manifest.name),
                    ));
                }
                Err(why) => warn!(
                    recogniser = manifest.name,
                    why, attempt, "the recogniser did not load; once more"
                ),
            }
            sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    /// Also makes room for one more child: those of other recognisers that have nothing to do may have to go.
    fn take_idle(&self, name: &str) -> Option<Child> {
        let mut idle = self.idle();
        while let Some(mut child) = idle.get_mut(name).and_then(Vec::pop) {
            if child.is_alive() {
                return Some(child);
            }
            warn!(recogniser = name, "an idle recogniser has died");
        }
        if idle.values().map(Vec::len).sum::<usize>() >= self.config.slots
            && let Some(children) = idle.values_mut().find(|children| !children.is_empty())
        {
            children.pop();
        }
        None
    }
}

fn plain_name(recogniser: &str) -> &str {
    recogniser.split_once('@').map_or(recogniser, |(name, _)| name)
}

fn photo_timeout(spec: &v1::Spec, manifest: &Manifest) -> Duration {
    let limit = match spec.photo_timeout_us {
        0 => Duration::from_millis(manifest.limits.photo_timeout_ms),
        us => Duration::from_micros(us),
    };
    limit.min(MAX_PHOTO_TIMEOUT)
}

fn request(execution: &Execution, manifest: &Manifest, limit: Duration) -> Request {
    Request {
        id: 0,
        path: execution.photo.path().to_owned(),
        max_photo_bytes: manifest.limits.max_photo_bytes,
        max_pixels: manifest.limits.max_pixels,
        timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}

fn stopped() -> Failure {
    Failure::new(v1::Cause::Released, "it was stopped")
}

fn outcome_of(outcome: Outcome) -> Result<Bytes, Failure> {
    match outcome {
        Outcome::Ok(value) => serde_json::to_vec(&value).map(Bytes::from).map_err(|error| {
            Failure::new(
                v1::Cause::Recogniser,
                format!("its answer cannot be written: {error}"),
            )
        }),
        Outcome::Error(failure) => Err(failure.into()),
    }
}

async fn ended_while_it_held(child: Child, ended: Ended, label: &str) -> Failure {
    let failure = match ended {
        Ended::Gone => {
            let how = child.wait().await;
            Failure::new(
                v1::Cause::Crashed,
                format!("the recogniser's process {how} while it held this photo"),
            )
        }
        Ended::Nonsense(why) => {
            child.kill().await;
            Failure::new(
                v1::Cause::Recogniser,
                format!("the recogniser's process was ended: {why}"),
            )
        }
    };
    warn!(task = label, "{}", failure.message);
    failure
}

impl From<crate::recognise::frame::Failure> for Failure {
    fn from(failure: crate::recognise::frame::Failure) -> Failure {
        use crate::recognise::frame::FailureCause;
        let cause = match failure.cause {
            FailureCause::Input => v1::Cause::Input,
            FailureCause::Fetch => v1::Cause::Fetch,
            FailureCause::Recogniser => v1::Cause::Recogniser,
            FailureCause::Timeout => v1::Cause::Timeout,
            FailureCause::ResultTooLarge => v1::Cause::ResultTooLarge,
        };
        Failure::new(cause, failure.message)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn noop_answers_the_sha256_of_the_uri() {
        // printf file:///a | sha256sum
        let expected = "49f9160320a550b553674d8f187473b19e1860dc993baa6b556069a4c195c652";
        assert_eq!(super::noop("file:///a", 64), expected.as_bytes());
        assert_eq!(super::noop("file:///a", 9), &expected.as_bytes()[..9]);
        // printf file:///a | sha256sum | xxd -r -p | sha256sum
        let next = "7640368d07066ba4e281f010c1966ecad87c51b50a83af0cf8f5118ff76a2196";
        let long = super::noop("file:///a", 100);
        assert_eq!(long, format!("{expected}{}", &next[..36]).as_bytes());
    }
}
