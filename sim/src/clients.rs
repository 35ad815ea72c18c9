//! Clients: each submits a job at its time and asks again, with the same key, until it knows.

use rebound_core::command::{Deadline, Open, Spec};
use rebound_core::io::Request;
use rebound_core::photos::Photos;
use rebound_core::types::{JobId, MILLISECOND, Resources, SECOND};

use crate::history::job::Ask;
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
    /// The job may be cancelled: by itself, once all is acknowledged, or by somebody else.
    pub cancels: bool,
    /// By itself.
    pub cancels_itself: bool,
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
    /// Its call in the history, while it is not answered.
    pub call: Option<usize>,
    /// Questions without an answer since the last one with one.
    pub unanswered: u32,
    /// Since when it asks this question, in µs.
    pub asks_since: Option<u64>,
    /// There is an earlier call of the same question.
    pub tried: bool,
    /// It never closes its job, if jobs close by themselves soon.
    pub abandons: bool,
    /// Its photos are wanted within seconds.
    pub hurries: bool,
    /// A client of another environment has the same key.
    pub shares_key: bool,
    /// Its job takes no more, by somebody else's doing.
    pub refused: bool,
}

/// The shortest deadline: some are missed.
const HURRY: u64 = 2 * SECOND;

/// Photos in one append of a job that is not sent at once.
const CHUNK: u64 = 7;

impl Client {
    /// Draws a client.
    pub fn draw(number: u64, begins: u64, servers: u64, rng: &mut Rng) -> Client {
        let cancels = rng.chance(50_000);
        Client {
            number,
            begins,
            photos: rng.within(1, 40),
            at_once: rng.chance(600_000),
            cancels,
            cancels_itself: cancels,
            step: Step::Open,
            job: None,
            acked: 0,
            closed: false,
            cancelled: false,
            ask: None,
            server: rng.within(1, servers),
            tries: 0,
            call: None,
            unanswered: 0,
            asks_since: None,
            tried: false,
            abandons: rng.chance(30_000),
            refused: false,
            hurries: false,
            shares_key: false,
        }
    }

    /// The URI of one photo.
    pub fn uri(&self, photo: u64) -> String {
        format!("file:///sim/{}/{photo}.jpg", self.number)
    }

    /// Which of so many environments it is of: two neighbours, of one key, are never of the same.
    pub fn tenant(&self, count: usize) -> usize {
        (self.number / 2 + self.number % 2) as usize % count
    }

    /// Its key. Where there are several environments, two clients of different ones have the same.
    fn key(&self) -> Vec<u8> {
        let number = if self.shares_key {
            self.number / 2
        } else {
            self.number
        };
        format!("key-{number}").into_bytes()
    }

    fn list(&self, from: u64, to: u64) -> Photos {
        (from..to).map(|photo| self.uri(photo)).collect()
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
            Step::Done if self.cancels_itself && !self.cancelled && !self.refused => Request::Cancel { job },
            Step::Done => return None,
        })
    }

    /// Its first question.
    pub fn open(&self) -> Open {
        let deadline = match self.number % 6 {
            0 => Deadline::In(60 * SECOND),
            3 => Deadline::In(HURRY),
            more if self.hurries => Deadline::In(HURRY * (1 + more)),
            _ => Deadline::None,
        };
        Open {
            key: self.key(),
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
                drop_late: self.number % 12 == 3,
                region: String::new(),
            },
            photos: if self.at_once {
                self.list(0, self.photos)
            } else {
                Photos::default()
            },
            close: self.at_once,
        }
    }

    /// The same question as the history has it.
    pub fn ask(&self) -> Option<Ask> {
        Some(match self.step {
            Step::Open => Ask::Open {
                photos: self.photos,
                whole: self.at_once,
            },
            Step::Append(offset) => Ask::Append {
                offset,
                count: CHUNK.min(self.photos - offset),
            },
            Step::Close => Ask::Close { total: self.photos },
            Step::Done => {
                self.request()?;
                Ask::Cancel
            }
        })
    }

    /// Its job takes no more photos: it is over for this client.
    pub fn refuse(&mut self) {
        self.refused = true;
        self.step = Step::Done;
    }

    /// How long it waits for an answer: longer each time there was none.
    pub fn patience(&self) -> u64 {
        (800 * MILLISECOND) << self.unanswered.min(4)
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
