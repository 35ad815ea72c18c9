//! Keys of tables as bytes that sort as the keys do.

use crate::types::{EnvId, Index, InstanceId, JobId, LaunchId, Market, Pool, ReplicaId, SpecId, WorkerId};

/// A key of a table. The bytes of a key sort as the key does, and no two keys share them.
pub trait Key: Ord + Clone {
    /// Appends the key.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a key off the front; `None` when the bytes are too short.
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! int_key {
    ($($int:ty),*) => {$(
        impl Key for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(<$int>::from_be_bytes(*head))
            }
        }
    )*};
}
int_key!(u8, u16, u32, u64, u128);

macro_rules! id_key {
    ($($id:ident),*) => {$(
        impl Key for $id {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                Key::take(from).map($id)
            }
        }
    )*};
}
id_key!(EnvId, JobId, SpecId, WorkerId, ReplicaId, LaunchId);

/// Text without a zero byte, which ends it.
impl Key for String {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(
            !self.as_bytes().contains(&0),
            "text in a key ends at its first zero byte"
        );
        out.extend_from_slice(self.as_bytes());
        out.push(0);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let end = from.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8(from[..end].to_vec()).ok()?;
        *from = &from[end + 1..];
        Some(text)
    }
}

impl Key for InstanceId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Key::take(from).map(InstanceId)
    }
}

impl Key for Pool {
    fn put(&self, out: &mut Vec<u8>) {
        self.region.put(out);
        self.zone_id.put(out);
        self.instance_type.put(out);
        (self.market as u8).put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Some(Pool {
            region: Key::take(from)?,
            zone_id: Key::take(from)?,
            instance_type: Key::take(from)?,
            market: match u8::take(from)? {
                0 => Market::None,
                1 => Market::Spot,
                2 => Market::OnDemand,
                _ => return None,
            },
        })
    }
}

impl Key for () {
    fn put(&self, _: &mut Vec<u8>) {}
    fn take(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?, C::take(from)?))
    }
}

/// Which kept table a record is in. Kept records are only on disk, are written once, and `apply` never reads them.
///
/// Keys begin with the job, which is a greater number for each one opened, then have the environment and the table: what
/// is written at about the same time lies together whoever's it is, so that a disk that sorts its files by key has little
/// to merge with what is older, and all that a job has is one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kept {
    /// Photo lists, one record an append: (job, environment, 1, index of its first photo).
    Photos = 1,
    /// Recorded results of consecutive tasks: (job, environment, 2, first task).
    Results = 2,
    /// Attempts that gave none: (job, environment, 3, task, index of the entry that ended it).
    Attempts = 3,
}

/// Key of a photo list.
pub fn photos_key(env: EnvId, job: JobId, first: u64) -> Vec<u8> {
    kept_key(Kept::Photos, env, job, first)
}

/// Key of a result.
pub fn result_key(env: EnvId, job: JobId, task: u64) -> Vec<u8> {
    kept_key(Kept::Results, env, job, task)
}

/// Key of an attempt without result.
pub fn attempt_key(env: EnvId, job: JobId, task: u64, index: Index) -> Vec<u8> {
    let mut key = kept_key(Kept::Attempts, env, job, task);
    index.put(&mut key);
    key
}

/// What all keys of a job's kept table begin with.
pub fn kept_prefix(kept: Kept, env: EnvId, job: JobId) -> Vec<u8> {
    let mut key = Vec::new();
    (job, env, kept as u8).put(&mut key);
    key
}

/// Where all kept records of jobs `first` to `last` are, whoever's: from, and up to but not with.
pub fn kept_range(first: JobId, last: JobId) -> (Vec<u8>, Vec<u8>) {
    let of = |job: JobId| {
        let mut key = Vec::new();
        job.put(&mut key);
        key
    };
    (of(first), of(JobId(last.0 + 1)))
}

/// The task (or first photo) a kept key is about.
pub fn kept_task(key: &[u8]) -> Option<u64> {
    let mut rest = key;
    <(JobId, EnvId, (u8, u64))>::take(&mut rest).map(|(_, _, (_, task))| task)
}

/// The job a kept key is about.
pub fn kept_job(key: &[u8]) -> Option<JobId> {
    let mut rest = key;
    JobId::take(&mut rest)
}

fn kept_key(kept: Kept, env: EnvId, job: JobId, task: u64) -> Vec<u8> {
    let mut key = kept_prefix(kept, env, job);
    task.put(&mut key);
    key
}
