//! O2: a backup that was taken in the storm becomes a cluster of its own. All that it had is there, no session and no
//! fence of the other cluster counts in it, and it gives greater ones.

use rebound_core::command::{Command, Entry, Join, Report};
use rebound_core::event::Verdict;
use rebound_core::plan::{Assign, Because, Plan};
use rebound_core::reply::Reply;
use rebound_core::rows::{Packing, Row};
use rebound_core::state::State;
use rebound_core::state::members::Founder;
use rebound_core::state::runs::{Run, RunKey};
use rebound_core::table::{Digest, record_hash};
use rebound_core::types::*;

use super::World;
use crate::check::records;
use crate::disk::Image;
use crate::rng::Rng;

/// Backups are taken from here on, in hundredths of the storm.
const FROM: u64 = 5;

/// The operator's backup.
#[derive(Default)]
pub(super) struct Backup {
    /// When he takes it.
    due: Option<u64>,
    image: Option<Image>,
}

/// A restored state and the entries that follow.
struct Restored {
    state: State,
    term: Term,
}

impl Restored {
    fn apply(&mut self, actor: &str, command: Command) -> Result<Reply, String> {
        let entry = Entry {
            version: self.state.version(),
            at: self.state.now(),
            by: Caller {
                environment: String::new(),
                actor: actor.to_owned(),
            },
            trace: TraceId::default(),
            command,
        };
        let next = self.state.applied() + 1;
        let applied = self.state.apply(next, self.term, Some(&entry));
        self.state.settle();
        records::check(&self.state);
        applied.reply.map_err(|why| why.to_string())
    }

    /// What a worker of before reports of a run that it held. How many of its results count.
    fn reports(&mut self, key: RunKey, run: &Run) -> Result<u64, String> {
        let row = Row {
            started: Time(0),
            ended: Time(0),
            output: b"from another cluster",
        };
        let mut rows = Packing::default();
        (run.first..=key.last).for_each(|_| rows.push(row));
        let report = Report {
            job: key.job,
            first: run.first,
            given: run.given,
            cause: None,
            rows: rows.done(),
        };
        let worker = run.worker;
        let reports = vec![report];
        match self.apply("restored", Command::Ended { worker, reports })? {
            Reply::Ended { verdicts, .. } => {
                let counts = verdicts
                    .iter()
                    .filter(|judged| judged.verdict == Verdict::Recorded);
                Ok(counts.map(|judged| judged.count).sum())
            }
            other => Err(format!("{other:?}")),
        }
    }
}

impl World {
    /// Once in the storm, from whoever is up and has a good disk.
    pub(super) fn back_up(&mut self) {
        let (seed, storm) = (self.seed, self.faults.load.storm);
        let backup = &mut self.operator.backup;
        let draw = || Rng::new(seed).branch("backup").within(storm * FROM / 100, storm);
        let due = *backup.due.get_or_insert_with(draw);
        if self.now < due || backup.image.is_some() {
            return;
        }
        let fit = self.servers.iter().find(|server| {
            let image = server.disk.image();
            let begun = image.state_record(&State::member_key(server.id())).is_some();
            server.replica.is_some() && server.lost.is_none() && begun && !image.is_damaged()
        });
        self.operator.backup.image = fit.map(|server| server.disk.image().pairs());
    }

    /// The backup is restored as [`Command::Restore`] says, and some of its work goes on.
    pub(super) fn check_backup(&mut self) {
        let Some(image) = self.operator.backup.image.take() else {
            return;
        };
        let restored = self.restore(&image);
        match restored {
            Ok(refused) => {
                self.count("backups restored");
                *self
                    .counters
                    .entry("results of another cluster refused")
                    .or_default() += refused;
            }
            Err(why) => self.checks.violated(format!("O2: {why}")),
        }
    }

    /// How many results of the other cluster were refused; in words what is wrong.
    fn restore(&self, image: &Image) -> Result<u64, String> {
        let plant = self.servers[0].config.plant;
        let state = image.load_state(plant).map_err(|why| why.to_string())?;
        let (index, term) = (state.applied(), state.meta().applied_term);
        let mut kept = Digest::default();
        let pairs = image.kept.iter();
        pairs.for_each(|(key, value)| kept.add(record_hash(key, value)));
        if kept != state.kept_digest() || self.checks.differs(index, state.digest()) {
            return Err(format!("the backup of index {index} is not what was there"));
        }
        let runs: Vec<(RunKey, Run)> = state
            .workers
            .iter()
            .flat_map(|(worker, _)| state.runs.of_worker(worker))
            .collect();
        let (waiting, given) = (state.environments.waiting(), state.environments.given());
        let cluster = ClusterId("restored".into());
        let founders = vec![Founder::named(ReplicaId(1))];
        let mut restored = Restored { state, term };
        restored.apply("restore", Command::Restore { cluster, founders })?;
        let mut refused = 0;
        for (key, run) in &runs {
            let counted = restored.reports(*key, run)?;
            if counted > 0 {
                let job = key.job;
                return Err(format!(
                    "{counted} results of job {job} by {} count again",
                    run.given
                ));
            }
            refused += key.last - run.first + 1;
        }
        let state = &restored.state;
        if state.meta().cluster.0 != "restored" || state.workers.live_count() > 0 {
            let live = state.workers.live_count();
            return Err(format!("{live} sessions of {} go on", state.meta().cluster));
        }
        // Tasks of jobs that want no late ones may have ended by it.
        let now = (state.environments.waiting(), state.environments.given());
        if now.0 > waiting + given || now.1 > 0 {
            return Err(format!(
                "{waiting} photos waited and {given} were given; then {now:?}"
            ));
        }
        match runs.first() {
            Some((key, run)) => given_again(&mut restored, *key, run).map(|()| refused),
            None => Ok(refused),
        }
    }
}

/// What a worker held before is given to another: by a greater fence, and the first one's result still counts nothing.
fn given_again(restored: &mut Restored, key: RunKey, before: &Run) -> Result<(), String> {
    let old = restored.state.workers.get(before.worker).expect("it held a run");
    let join = Join {
        name: "restored".to_owned(),
        ..old.join.clone()
    };
    let joined = restored.apply("restored", Command::WorkerJoined(Box::new(join)))?;
    let Reply::Joined { worker } = joined else {
        return Err(format!("{joined:?}"));
    };
    let because = Because::FreeSlot {
        rank: 0,
        candidates: 1,
    };
    let assign = Assign {
        worker,
        job: key.job,
        first: before.first,
        count: 1,
        because,
    };
    let plan = Plan {
        at: restored.state.applied(),
        assign: vec![assign],
        ..Plan::default()
    };
    restored.apply("restored", Command::Adopt(plan))?;
    // It may wait for its time, or have ended with the other cluster.
    let Some((now_key, now)) = restored.state.runs.of_task(key.env, key.job, before.first) else {
        return Ok(());
    };
    let only = RunKey {
        last: before.first,
        ..now_key
    };
    if now.given <= before.given || restored.reports(only, before)? > 0 {
        let (job, task, was) = (key.job, before.first, before.given);
        return Err(format!(
            "{job}/{task} was given by {was} and again by {}",
            now.given
        ));
    }
    match restored.reports(only, &now)? {
        1 => Ok(()),
        counted => Err(format!("{counted} results counted that should have been one")),
    }
}
