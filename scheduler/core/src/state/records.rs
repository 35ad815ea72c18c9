//! The state as records: what changed for the disk, the digest, and the way back.

use super::{Meta, NEWER, State, number};
use crate::plant::Plant;
use crate::table::{Change, Corrupt, Digest, Table};
use crate::types::{EnvId, JobId};
use crate::version::NEXT;

impl State {
    /// Brings digests up to date and hands out what changed since the last call, for the disk.
    pub fn settle(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.meta.settle(&mut changes);
        self.environments.table.settle(&mut changes);
        self.specs.table.settle(&mut changes);
        self.keys.table.settle(&mut changes);
        self.jobs.table.settle(&mut changes);
        self.jobs.pages.settle(&mut changes);
        self.jobs.appends.settle(&mut changes);
        self.runs.table.settle(&mut changes);
        self.retries.table.settle(&mut changes);
        self.workers.table.settle(&mut changes);
        self.remains.settle(&mut changes);
        self.members.table.settle(&mut changes);
        self.builds.settle(&mut changes);
        self.launches.table.settle(&mut changes);
        self.machines.table.settle(&mut changes);
        self.pools.table.settle(&mut changes);
        self.spend.table.settle(&mut changes);
        self.control.table.settle(&mut changes);
        self.profile.table.settle(&mut changes);
        self.measures.table.settle(&mut changes);
        self.decisions.table.settle(&mut changes);
        self.policies.table.settle(&mut changes);
        changes
    }

    /// The digest of everything, kept records included. The state must be settled.
    pub fn digest(&self) -> Digest {
        let tables = [
            self.meta.digest(),
            self.environments.table.digest(),
            self.specs.table.digest(),
            self.keys.table.digest(),
            self.jobs.table.digest(),
            self.jobs.pages.digest(),
            self.jobs.appends.digest(),
            self.runs.table.digest(),
            self.retries.table.digest(),
            self.workers.table.digest(),
            self.remains.digest(),
            self.members.table.digest(),
            self.builds.digest(),
            self.launches.table.digest(),
            self.machines.table.digest(),
            self.pools.table.digest(),
            self.spend.table.digest(),
            self.control.table.digest(),
            self.profile.table.digest(),
            self.measures.table.digest(),
            self.decisions.table.digest(),
            self.policies.table.digest(),
        ];
        let mut sum = Digest::default();
        tables.iter().for_each(|digest| sum.add(digest.0));
        sum
    }

    /// The state from its records on disk or in a snapshot, in any order.
    pub fn load<R: AsRef<[u8]>>(pairs: impl Iterator<Item = (R, R)>, plant: Plant) -> Result<State, Corrupt> {
        let mut state = State::new(plant);
        // The empty meta record of a new state must not stay in the digest beside the loaded one.
        state.meta = Table::new(number::META);
        for (key, value) in pairs {
            state.load_record(key.as_ref(), value.as_ref())?;
        }
        if state.meta.is_empty() {
            state.meta.insert((), Meta::default());
        }
        state.environments.reindex();
        state.specs.reindex();
        if !plant.is(Plant::KeysUnindexed) {
            state.keys.reindex();
        }
        state.jobs.reindex();
        state.runs.reindex();
        state.retries.reindex();
        state.workers.reindex();
        state.launches.reindex();
        state.machines.reindex();
        state.mature(state.now());
        let jobs: Vec<(EnvId, JobId)> = state.jobs.table.iter().map(|(key, _)| *key).collect();
        for (env, job) in jobs {
            state.requeue(env, job);
        }
        Ok(state)
    }

    pub(super) fn load_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Corrupt> {
        let Some((&table, key)) = key.split_first() else {
            return Err(Corrupt {
                table: 0,
                key: Vec::new(),
                why: "empty key",
            });
        };
        let corrupt = |why| Corrupt {
            table,
            key: key.to_vec(),
            why,
        };
        match table {
            number::META => {
                self.meta.load(key, value)?;
                match self.meta().version > NEXT {
                    true => Err(corrupt(NEWER)),
                    false => Ok(()),
                }
            }
            number::ENVIRONMENTS => self.environments.table.load(key, value),
            number::SPECS => self.specs.table.load(key, value),
            number::KEYS => self.keys.table.load(key, value),
            number::JOBS => self.jobs.table.load(key, value),
            number::PAGES => self.jobs.pages.load(key, value),
            number::APPENDS => self.jobs.appends.load(key, value),
            number::RUNS => self.runs.table.load(key, value),
            number::RETRIES => self.retries.table.load(key, value),
            number::WORKERS => self.workers.table.load(key, value),
            number::REMAINS => self.remains.load(key, value),
            number::MEMBERS => self.members.table.load(key, value),
            number::BUILDS => self.builds.load(key, value),
            number::LAUNCHES => self.launches.table.load(key, value),
            number::MACHINES => self.machines.table.load(key, value),
            number::POOLS => self.pools.table.load(key, value),
            number::SPEND => self.spend.table.load(key, value),
            number::CONTROL => self.control.table.load(key, value),
            number::PROFILE => self.profile.table.load(key, value),
            number::MEASURES => self.measures.table.load(key, value),
            number::DECISIONS => self.decisions.table.load(key, value),
            number::POLICIES => self.policies.table.load(key, value),
            _ => Err(corrupt("unknown table")),
        }
    }

    /// All records as they are on disk. The state must be settled.
    pub fn dump(&self, mut each: impl FnMut(Vec<u8>, Vec<u8>)) {
        self.meta.dump(&mut each);
        self.environments.table.dump(&mut each);
        self.specs.table.dump(&mut each);
        self.keys.table.dump(&mut each);
        self.jobs.table.dump(&mut each);
        self.jobs.pages.dump(&mut each);
        self.jobs.appends.dump(&mut each);
        self.runs.table.dump(&mut each);
        self.retries.table.dump(&mut each);
        self.workers.table.dump(&mut each);
        self.remains.dump(&mut each);
        self.members.table.dump(&mut each);
        self.builds.dump(&mut each);
        self.launches.table.dump(&mut each);
        self.machines.table.dump(&mut each);
        self.pools.table.dump(&mut each);
        self.spend.table.dump(&mut each);
        self.control.table.dump(&mut each);
        self.profile.table.dump(&mut each);
        self.measures.table.dump(&mut each);
        self.decisions.table.dump(&mut each);
        self.policies.table.dump(&mut each);
    }
}
