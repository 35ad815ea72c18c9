//! What is submitted: tasks by number, each with a URI of its own and an answer that depends on it.

use bytes::Bytes;
use rebound_proto::v1::Photo;
use sha2::{Digest, Sha256};

use crate::limits::{APPEND_PHOTOS_MAX, TASKS_PER_JOB_MAX};

/// Tasks of a small job: a store visit.
pub const SMALL_TASKS: u64 = 12;
/// Tasks of a large job.
pub const LARGE_TASKS: u64 = TASKS_PER_JOB_MAX;

/// Consecutive numbers that are one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobPart {
    /// Number of its first task.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Load {
    /// Jobs of [`SMALL_TASKS`], half of all tasks.
    pub small: Vec<JobPart>,
    /// Jobs of [`LARGE_TASKS`], the other half.
    pub large: Vec<JobPart>,
    /// What makes a URI of a number.
    pub photos: Photos,
}

/// How the tasks' URIs look.
#[derive(Clone, Debug)]
pub enum Photos {
    /// Each its own, of 80 bytes.
    Numbered,
    /// One file for all.
    Same(String),
}

impl Load {
    /// So many tasks, half of them in small jobs and half in large ones. The last of each may have fewer.
    pub fn halves(tasks: u64, photos: Photos) -> Load {
        Load::of(tasks, LARGE_TASKS, photos)
    }

    /// The same with other large jobs, of so many tasks each, at least 1.
    pub fn of(tasks: u64, large: u64, photos: Photos) -> Load {
        let half = tasks / 2;
        Load {
            small: parts(0, half, SMALL_TASKS),
            large: parts(half, tasks, large.max(1)),
            photos,
        }
    }

    /// How many tasks.
    pub fn tasks(&self) -> u64 {
        self.small.iter().chain(&self.large).map(|part| part.count).sum()
    }

    /// How many jobs.
    pub fn jobs(&self) -> u64 {
        (self.small.len() + self.large.len()) as u64
    }
}

fn parts(from: u64, to: u64, most: u64) -> Vec<JobPart> {
    (from..to)
        .step_by(most as usize)
        .map(|first| JobPart {
            first,
            count: most.min(to - first),
        })
        .collect()
}

impl Photos {
    /// The URI of the task with this number.
    pub fn uri(&self, number: u64) -> String {
        match self {
            Photos::Numbered => {
                let [a, b, c] = [1, 2, 3].map(|word| mixed(number.wrapping_mul(4).wrapping_add(word)));
                format!("file:///bench/{a:016x}{b:016x}{c:016x}/{number:013}.jpg")
            }
            Photos::Same(uri) => uri.clone(),
        }
    }

    /// Some of a job's photos for the wire, from this offset on, at most what one append takes.
    pub fn piece(&self, part: JobPart, offset: u64) -> Vec<Photo> {
        let count = (part.count - offset).min(APPEND_PHOTOS_MAX as u64);
        let first = part.first + offset;
        (first..first + count)
            .map(|number| Photo {
                uri: self.uri(number),
            })
            .collect()
    }
}

/// A number that shows nothing of the one it came from (splitmix64), so that URIs compress no better than real ones.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the recogniser must answer.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// `noop`, so many bytes.
    Noop(usize),
    /// `null`, as a program that prints nothing.
    Null,
}

impl Answers {
    /// True for the right answer. Worked out here, by other code than the agent's.
    pub fn is_right(&self, uri: &str, output: &Bytes) -> bool {
        match self {
            Answers::Null => output == "null",
            Answers::Noop(bytes) => output.len() == *bytes && is_chain(uri, output),
        }
    }
}

/// Whether a text is the hex sha256 of the URI, followed by that of each digest before.
fn is_chain(uri: &str, hex: &[u8]) -> bool {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digest = Sha256::digest(uri.as_bytes());
    for block in hex.chunks(64) {
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        if !block
            .iter()
            .zip(digits)
            .all(|(found, digit)| *found == DIGITS[usize::from(digit)])
        {
            return false;
        }
        digest = Sha256::digest(digest);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_small_and_half_is_large() {
        let load = Load::halves(500_000, Photos::Numbered);
        assert_eq!(
            (load.tasks(), load.small.len(), load.large.len()),
            (500_000, 20_834, 3)
        );
        assert_eq!(
            load.small.last(),
            Some(&JobPart {
                first: 249_996,
                count: 4
            })
        );
        assert_eq!(
            load.large.last(),
            Some(&JobPart {
                first: 450_000,
                count: 50_000
            })
        );
        let odd = Load::halves(3, Photos::Numbered);
        assert_eq!((odd.tasks(), odd.jobs()), (3, 2));
    }

    #[test]
    fn uris_have_their_length_and_differ() {
        for number in [0, 1, 499_999, 10_000_000] {
            assert_eq!(Photos::Numbered.uri(number).len(), 80);
        }
        let part = JobPart {
            first: 7,
            count: 2_500,
        };
        let (one, two) = (
            Photos::Numbered.piece(part, 0),
            Photos::Numbered.piece(part, 2_000),
        );
        assert_eq!((one.len(), two.len()), (2_000, 500));
        assert_eq!(two[0].uri, Photos::Numbered.uri(2_007));
    }

    #[test]
    fn right_answers_are_known_from_wrong_ones() {
        // printf file:///a | sha256sum, then of those 32 bytes
        let first = "49f9160320a550b553674d8f187473b19e1860dc993baa6b556069a4c195c652";
        let answers = Answers::Noop(64);
        assert!(answers.is_right("file:///a", &first.into()));
        assert!(!answers.is_right("file:///b", &first.into()));
        assert!(!answers.is_right("file:///a", &first[..63].to_owned().into()));
        let long = format!("{first}7640368d07066ba4");
        assert!(Answers::Noop(80).is_right("file:///a", &long.clone().into()));
        assert!(!Answers::Noop(80).is_right("file:///a", &format!("{}0", &long[..79]).into()));
        assert!(Answers::Null.is_right("file:///a", &"null".into()));
    }
}
