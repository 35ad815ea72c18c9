//! Environments of a seed: who submits, with which weights and quotas.

use std::fmt;

use rebound_core::command::Allot;
use rebound_core::state::environments::Allotment;

use crate::rng::Rng;

/// Their names, as many as a seed has.
const NAMES: [&str; 3] = ["default", "east", "west"];
/// As the settings have it.
pub const PLAIN: Allotment = Allotment {
    weight: 1,
    waiting: 0,
    jobs: 0,
    given: 0,
};
/// The smallest quotas: a job of 40 photos fits, and a worker has something to do.
const LEAST: Allotment = Allotment {
    weight: 1,
    waiting: 80,
    jobs: 4,
    given: 10,
};

/// One environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// As its clients' credentials name it.
    pub name: &'static str,
    /// What the operator wants it to have; 0: what the settings say.
    pub wants: Allotment,
}

impl Tenant {
    /// Draws one to three.
    pub fn draw_all(rng: &mut Rng) -> Vec<Tenant> {
        let count = *rng.pick(&[1, 2, 2, 3, 3]).expect("not empty");
        let tenant = |name| Tenant {
            name,
            wants: draw(rng),
        };
        NAMES[..count].iter().copied().map(tenant).collect()
    }

    /// Draws its quotas anew.
    pub fn changes(&mut self, rng: &mut Rng) {
        self.wants = draw(rng);
    }

    /// What the operator says so.
    pub fn allot(&self) -> Allot {
        Allot {
            name: self.name.to_owned(),
            weight: Some(self.wants.weight),
            max_waiting: Some(self.wants.waiting),
            max_jobs: Some(self.wants.jobs),
            max_given: Some(self.wants.given),
        }
    }
}

fn draw(rng: &mut Rng) -> Allotment {
    let mut one = |among: &[u64]| *rng.pick(among).expect("not empty");
    Allotment {
        weight: one(&[1, 1, 2, 10, 1_000]) as u32,
        waiting: one(&[0, 0, LEAST.waiting, 200]),
        jobs: one(&[0, 0, LEAST.jobs, 15]),
        given: one(&[0, 0, LEAST.given, 25]),
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allotment {
            weight,
            waiting,
            jobs,
            given,
        } = self.wants;
        let or = |quota: u64| {
            if quota == 0 {
                "-".to_owned()
            } else {
                quota.to_string()
            }
        };
        write!(
            f,
            "{} of weight {weight}: {} waiting, {} jobs, {} given",
            self.name,
            or(waiting),
            or(jobs),
            or(given)
        )
    }
}
