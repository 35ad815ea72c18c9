//! Clients: each submits a job at its time and asks again, with the same key, until it knows.

use rebound_core::command::{Deadline, Open, Photo, Spec};
use rebound_core::io::Request;
use rebound_core::types::{JobId, MILLISECOND, Resources, SECOND};

use crate::rng::Rng;

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open the job.
    Open,
    /// Append from this offset.
    Append(u64),
    /// Close it.
    Close,
    /// All is acknowledged.
    Done,
}

/// One client with one job.
pub struct Client {
    /// Its number; also makes its key and URIs.
    pub number: u64,
    /// When it begins.
    pub begins: u64,
    /// How many photos.
    pub photos: u64,
    /// Everything in one entry.
    pub at_once: bool,
    /// It cancels the job once all is acknowledged.
    pub cancels: bool,
    /// What comes next.
    pub step: Step,
    /// The job, once acknowledged.
    pub job: Option<JobId>,
    /// Photos acknowledged.
    pub acked: u64,
    /// The close was acknowledged.
    pub closed: bool,
    /// A cancel was asked for.
    pub cancelled: bool,
    /// The question that is open.
    pub ask: Option<u64>,
    /// The server it asks.
    pub server: u64,
    /// Rises with each question: late answers to earlier ones are dropped.
    pub tries: u64,
}

/// Photos in one append of a job that is not sent at once.
const CHUNK: u64 = 7;

impl Client {
    /// Draws a client.
    pub fn draw(number: u64, storm: u64, rng: &mut Rng) -> Client {
        Client {
            number,
            begins: rng.within(SECOND, storm),
            photos: rng.within(1, 40),
            at_once: rng.chance(600_000),
            cancels: rng.chance(50_000),
            step: Step::Open,
            job: None,
            acked: 0,
            closed: false,
            cancelled: false,
            ask: None,
            server: rng.within(1, 3),
            tries: 0,
        }
    }

    /// The URI of one photo.
    pub fn uri(&self, photo: u64) -> String {
        format!("file:///sim/{}/{photo}.jpg", self.number)
    }

    fn list(&self, from: u64, to: u64) -> Vec<Photo> {
        (from..to).map(|photo| Photo { uri: self.uri(photo) }).collect()
    }

    /// The question of this step.
    pub fn request(&self) -> Option<Request> {
        let job = self.job.unwrap_or_default();
        Some(match self.step {
            Step::Open => Request::Open(Box::new(self.open())),
            Step::Append(offset) => {
                let photos = self.list(offset, (offset + CHUNK).min(self.photos));
                Request::Append { job, offset, photos }
            }
            Step::Close => Request::Close {
                job,
                total: self.photos,
            },
            Step::Done if self.cancels && !self.cancelled => Request::Cancel { job },
            Step::Done => return None,
        })
    }

    fn open(&self) -> Open {
        let deadline = if self.number.is_multiple_of(3) {
            Deadline::In(60 * SECOND)
        } else {
            Deadline::None
        };
        Open {
            key: format!("key-{}", self.number).into_bytes(),
            name: format!("visit {}", self.number),
            labels: Vec::new(),
            priority: (self.number % 3 * 10) as u8,
            deadline,
            spec: Spec {
                recogniser: "noop".into(),
                resources: Resources {
                    milli_cpu: 500,
                    memory_mib: 100,
                    gpus: 0,
                },
                photo_timeout: 0,
                max_attempts: 0,
            },
            photos: if self.at_once {
                self.list(0, self.photos)
            } else {
                Vec::new()
            },
            close: self.at_once,
        }
    }

    /// How long it waits for an answer.
    pub fn patience(&self) -> u64 {
        800 * MILLISECOND
    }

    /// The step after an acknowledged one.
    pub fn advance(&mut self, next_offset: u64) {
        self.step = match self.step {
            Step::Open if self.at_once => {
                self.acked = self.photos;
                self.closed = true;
                Step::Done
            }
            Step::Open | Step::Append(_) => {
                self.acked = self.acked.max(next_offset);
                if next_offset >= self.photos {
                    Step::Close
                } else {
                    Step::Append(next_offset)
                }
            }
            Step::Close => {
                self.closed = true;
                Step::Done
            }
            Step::Done => {
                self.cancelled = true;
                Step::Done
            }
        };
    }
}
