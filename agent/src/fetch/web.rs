//! Photos of `http://` and `https://`: loaded from the places the agent was told of, into files of its own.
//!
//! Whoever may submit jobs names URLs, and the agent stands where it may reach what they may not (the machine's own
//! metadata service, other services of the network). So nothing is loaded but what lies below a URL of `--allow-url`,
//! redirects are not followed, and no proxy is taken from the environment. An URL's query may be a signature: it is in
//! no message.

use std::future::{Future, ready};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rebound_proto::v1::Cause;
use reqwest::{Client, StatusCode, Url, redirect};
use tempfile::{NamedTempFile, TempPath};
use thiserror::Error;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::machine::Failure;

/// Longest time until a server is connected.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time between two pieces of a photo.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Most places photos may be loaded from.
pub const MAX_ALLOWED: usize = 64;

/// Longest URL in a message, in bytes; longer ones are cut.
const SHOWN_BYTES: usize = 200;

/// A permit is for so many bytes on the disk.
const ROOM_UNIT: u64 = 1024;

/// Why nothing can be loaded.
#[derive(Debug, Error)]
pub enum WebError {
    /// The folder for what is loaded.
    #[error("the folder for loaded photos {path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("photos cannot be loaded from https: {0}")]
    Tls(String),
}

/// True when a URI is for this module.
pub fn is_web(uri: &str) -> bool {
    let begins = |scheme: &str| {
        uri.get(..scheme.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

/// A place photos may be loaded from. The message says what is wrong with it.
pub fn parse_allowed(text: &str) -> Result<Url, String> {
    let say = |why: &str| {
        format!("{text:?} {why}; give the beginning of URLs, for example https://photos.example/visits/")
    };
    let url = Url::parse(text).map_err(|error| say(&format!("is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(say("is not of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(say("has a user name in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(say("has a query or a fragment"));
    }
    if !url.path().ends_with('/') {
        return Err(say("does not end with /"));
    }
    Ok(url)
}

/// A URL without its query, for messages.
pub fn shown(uri: &str) -> &str {
    let plain = uri.split(['?', '#']).next().unwrap_or_default();
    &plain[..plain.floor_char_boundary(SHOWN_BYTES)]
}

/// A photo in a file of the agent's, which is removed when this is dropped.
#[derive(Debug)]
pub struct Loaded {
    path: TempPath,
    _room: OwnedSemaphorePermit,
}

impl Loaded {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A place in the order in which the disk takes photos, or the room itself: for the largest photo there may be, until
/// its size is known.
pub struct Room(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>);

/// Loads photos.
pub struct Web {
    client: Client,
    allowed: Vec<Url>,
    folder: PathBuf,
    max_photo_bytes: u64,
    /// What may still be put on the disk, in [`ROOM_UNIT`]s.
    room: Arc<Semaphore>,
}

impl Web {
    /// One that loads from below `allowed` into `folder`, which is made, and emptied of what an agent that was killed
    /// left there; at most `max_loaded_bytes` at a time, but always one photo of `max_photo_bytes`.
    pub fn open(
        folder: PathBuf,
        allowed: Vec<Url>,
        max_photo_bytes: u64,
        max_loaded_bytes: u64,
    ) -> Result<Web, WebError> {
        // An error says that one is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        empty(&folder).map_err(|error| WebError::Folder {
            path: folder.clone(),
            error,
        })?;
        let client = Client::builder()
            .user_agent(concat!("rebound-agent/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| WebError::Tls(chain(&error)))?;
        let units = units(max_loaded_bytes.max(max_photo_bytes)) as usize;
        let room = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Ok(Web {
            client,
            allowed,
            folder,
            max_photo_bytes,
            room,
        })
    }

    /// Asks for room for a photo. Whoever asks first has it first: a photo that must start before another can never wait
    /// for room that the other has.
    pub fn ask_for_room(&self) -> Room {
        let most = units(self.max_photo_bytes);
        let mut asked = Box::pin(self.room.clone().acquire_many_owned(most));
        // Its place is from the first look on; whoever waits for it looks again.
        let found = match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        };
        Room(match found {
            Some(found) => Box::pin(ready(found)),
            None => asked,
        })
    }

    /// Waits for the room, however long that takes: until photos before this one have been looked at.
    pub async fn room(&self, asked: Room) -> Result<OwnedSemaphorePermit, Failure> {
        let room = asked.0.await;
        room.map_err(|_| Failure::new(Cause::Fetch, "the agent takes no more photos"))
    }

    /// Loads one photo into its room. The caller bounds the time.
    pub async fn load(&self, uri: &str, mut room: OwnedSemaphorePermit) -> Result<Loaded, Failure> {
        let url = self.permitted(uri)?;
        let failed = |error: reqwest::Error| {
            let why = chain(&error.without_url());
            Failure::new(Cause::Fetch, format!("{} cannot be loaded: {why}", shown(uri)))
        };
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        check_status(uri, response.status())?;
        if let Some(bytes) = response.content_length() {
            self.check_size(uri, bytes)?;
            shrink(&mut room, bytes);
        }
        let mut file = NamedTempFile::with_prefix_in("photo-", &self.folder).map_err(disk)?;
        let mut bytes = 0;
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            bytes += piece.len() as u64;
            self.check_size(uri, bytes)?;
            // A piece is small, and the page cache takes it: no thread is worth its price.
            file.write_all(&piece).map_err(disk)?;
        }
        if bytes == 0 {
            return Err(Failure::new(Cause::Input, format!("{} is empty", shown(uri))));
        }
        shrink(&mut room, bytes);
        Ok(Loaded {
            path: file.into_temp_path(),
            _room: room,
        })
    }

    /// The URL, if it lies below one of the allowed ones.
    fn permitted(&self, uri: &str) -> Result<Url, Failure> {
        let url = Url::parse(uri)
            .map_err(|error| Failure::new(Cause::Input, format!("{:?} is no URL: {error}", shown(uri))))?;
        let below = |place: &Url| {
            place.scheme() == url.scheme()
                && place.host() == url.host()
                && place.port_or_known_default() == url.port_or_known_default()
                && url.path().starts_with(place.path())
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::new(
                Cause::Input,
                format!("{} has a user name in it", url.host_str().unwrap_or("")),
            ));
        }
        if !self.allowed.iter().any(below) {
            let why = "is not below a URL of this worker's --allow-url";
            return Err(Failure::new(Cause::Fetch, format!("{} {why}", shown(uri))));
        }
        Ok(url)
    }

    fn check_size(&self, uri: &str, bytes: u64) -> Result<(), Failure> {
        match bytes > self.max_photo_bytes {
            false => Ok(()),
            true => {
                let why = format!(
                    "{} has {bytes} bytes or more; at most {} are taken",
                    shown(uri),
                    self.max_photo_bytes
                );
                Err(Failure::new(Cause::Input, why))
            }
        }
    }
}

/// Gives back what a photo of this size does not need.
fn shrink(room: &mut OwnedSemaphorePermit, bytes: u64) {
    let more = room.num_permits().saturating_sub(units(bytes) as usize);
    drop(room.split(more));
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// What may be otherwise later is the fetch's fault, and tried again; the rest is the photo's.
fn check_status(uri: &str, status: StatusCode) -> Result<(), Failure> {
    if status == StatusCode::OK {
        return Ok(());
    }
    let later = status.is_server_error()
        || matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        );
    let cause = if later { Cause::Fetch } else { Cause::Input };
    let hint = if status.is_redirection() {
        "; redirects are not followed"
    } else {
        ""
    };
    Err(Failure::new(
        cause,
        format!("{} answered {status}{hint}", shown(uri)),
    ))
}

fn disk(error: std::io::Error) -> Failure {
    Failure::new(
        Cause::Fetch,
        format!("the photo cannot be written to this worker's disk: {error}"),
    )
}

fn empty(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
