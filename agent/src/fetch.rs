//! Brings photos to this machine: [`file`] looks at them where they are, [`web`] loads them to a folder of the agent's.

pub mod file;
pub mod web;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rebound_proto::v1::Cause;
use reqwest::Url;

use crate::machine::Failure;
use web::{Loaded, Room, Web, WebError};

/// A fetch that takes longer (a disk, a network or a server that hangs) is given up.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// A photo that can be opened. What was loaded for it is removed from the disk when this is dropped.
#[derive(Debug)]
pub enum Photo {
    /// It lies where it always did.
    Here(PathBuf),
    /// It was loaded.
    Loaded(Loaded),
}

impl Photo {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Photo::Here(path) => path,
            Photo::Loaded(loaded) => loaded.path(),
        }
    }

    /// A photo that was not fetched, if it can be opened all the same.
    pub fn unfetched(uri: &str) -> Result<Photo, Failure> {
        match web::is_web(uri) {
            true => Err(Failure::new(Cause::Fetch, "it was not fetched before its start")),
            false => file::path_of(uri).map(Photo::Here),
        }
    }
}

/// Fetches photos, each in a task of its own. A clone is the same one.
#[derive(Clone)]
pub struct Fetcher {
    max_photo_bytes: u64,
    web: Option<Arc<Web>>,
}

impl Fetcher {
    /// One that keeps what it loads in `folder`, which is emptied, and loads from `allowed` places only.
    pub fn open(
        folder: PathBuf,
        allowed: Vec<Url>,
        max_photo_bytes: u64,
        max_loaded_bytes: u64,
    ) -> Result<Fetcher, WebError> {
        let web = match allowed.is_empty() {
            true => None,
            false => Some(Arc::new(Web::open(
                folder,
                allowed,
                max_photo_bytes,
                max_loaded_bytes,
            )?)),
        };
        Ok(Fetcher { max_photo_bytes, web })
    }

    /// Takes the photo's place in the order in which photos are loaded, if it must be loaded.
    pub fn ask(&self, uri: &str) -> Option<Room> {
        self.web
            .as_ref()
            .filter(|_| web::is_web(uri))
            .map(|web| web.ask_for_room())
    }

    /// Makes the photo of a URI ready to be opened, in the place that was asked for. A larger one than is taken is the
    /// photo's fault ([`Cause::Input`]).
    pub async fn fetch(&self, uri: &str, asked: Option<Room>) -> Result<Photo, Failure> {
        if !web::is_web(uri) {
            return file::look(uri, self.max_photo_bytes).await.map(Photo::Here);
        }
        let (Some(web), Some(asked)) = (&self.web, asked) else {
            let why = "this worker loads no photos from http(s); start it with --allow-url";
            return Err(Failure::new(Cause::Fetch, why));
        };
        // Others' recognisers make the room: that wait is not the photo's.
        let room = web.room(asked).await?;
        match tokio::time::timeout(FETCH_TIMEOUT, web.load(uri, room)).await {
            Ok(loaded) => loaded.map(Photo::Loaded),
            Err(_) => Err(Failure::new(
                Cause::Fetch,
                format!("{} was not loaded within {FETCH_TIMEOUT:?}", web::shown(uri)),
            )),
        }
    }
}
