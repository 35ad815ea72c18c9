//! What a leader keeps besides the state: made when it is elected, dropped when it steps down. Nothing in here
//! matters to anybody after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::arrivals::Arrivals;
use crate::brake::Brakes;
use crate::event::{Event, Fact};
use crate::io::Heard;
use crate::limits::{CLOCK_OFF_MAX, CLOCK_SLEW_DIVISOR, FLEET_LOOK, WORKER_HEARTBEAT};
use crate::market::Market;
use crate::observe::fleet::{Fleet, fleet};
use crate::observe::tails::Cursors;
use crate::observe::{Demand, Known};
use crate::pace::Pace;
use crate::plant::Plant;
use crate::replica::cloud::Calls;
use crate::replica::outlook::Line;
use crate::replica::shed::{Asked, LetIn, TurnedAway};
use crate::scaling::{Foresight, Mode};
use crate::speed::Speed;
use crate::state::State;
use crate::trial::TrialBook;
use crate::types::{AskId, EnvId, JobId, Mono, Now, ReplicaId, Term, Time, WorkerId};
use crate::version::Build;

/// Silence after which a worker gets nothing new, long before its lease ends.
const QUIET: u64 = 3 * WORKER_HEARTBEAT;

/// The stamp of entries: the last one plus the time passed, drawn gently to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    last: Time,
    at: Mono,
    rate: u64,
}

impl Clock {
    /// Goes on from the state's clock; a cluster that has none begins with the wall clock. It goes `rate` times as fast
    /// as running time, as the wall clock does then.
    pub fn new(state_now: Time, now: Now, rate: u64) -> Clock {
        let last = if state_now == Time(0) { now.wall } else { state_now };
        Clock {
            last,
            at: now.mono,
            rate,
        }
    }

    fn passed(&self, now: Now) -> u64 {
        now.mono.0.saturating_sub(self.at.0).saturating_mul(self.rate)
    }

    /// The stamp for an entry proposed now.
    pub fn stamp(&mut self, now: Now) -> Time {
        let passed = self.passed(now);
        let plain = self.last.0.saturating_add(passed);
        let slew = passed / CLOCK_SLEW_DIVISOR;
        let behind = now.wall.0.saturating_sub(plain);
        let ahead = plain.saturating_sub(now.wall.0);
        let stamp = match () {
            () if behind.max(ahead) > CLOCK_OFF_MAX.saturating_mul(self.rate) => plain,
            () => plain
                .saturating_add(behind.min(slew))
                .saturating_sub(ahead.min(slew)),
        };
        self.last = Time(stamp.max(self.last.0));
        self.at = now.mono;
        self.last
    }

    /// About what the stamp of an entry proposed now would be.
    pub fn peek(&self, now: Now) -> Time {
        Time(self.last.0.saturating_add(self.passed(now)))
    }

    /// The wall clock less this one, in µs.
    pub fn off(&self, now: Now) -> i64 {
        let plain = self.last.0.saturating_add(self.passed(now));
        let off = i128::from(now.wall.0) - i128::from(plain);
        i64::try_from(off).unwrap_or(if off < 0 { i64::MIN } else { i64::MAX })
    }

    /// An entry set the cluster's clock forward.
    pub fn follow(&mut self, state_now: Time) {
        self.last = self.last.max(state_now);
    }
}

/// Volatile duties.
pub struct Leader {
    /// Its term.
    pub term: Term,
    /// An entry of its own term is applied: state is as new as any leader's.
    pub ready: bool,
    /// Running time when that was.
    pub ready_at: u64,
    /// Stamps.
    pub clock: Clock,
    /// What workers said to this leader.
    pub heard: BTreeMap<WorkerId, Heard>,
    /// How fast they are, by their own words.
    pub paces: BTreeMap<WorkerId, Pace>,
    /// How far they are in their runs, by their own words on their present streams.
    pub cursors: BTreeMap<WorkerId, Cursors>,
    /// Where photos fail that others do.
    pub brakes: Brakes,
    /// How fast the cluster works photos off.
    pub speed: Speed,
    /// What waits of each environment, as it was last looked at.
    pub(crate) lines: BTreeMap<EnvId, Line>,
    /// Submits that are proposed, or wait to be.
    pub(crate) let_in: BTreeMap<AskId, LetIn>,
    /// What they ask for together.
    pub(crate) let_in_sum: Asked,
    /// Time that the work of those who were refused would take, by environment.
    pub(crate) turned_away: BTreeMap<EnvId, TurnedAway>,
    /// Running time of the last look for what might be taken back.
    pub looked_back: u64,
    /// The next plan is one that may take back.
    pub look_back: bool,
    /// `WorkerLost` is on its way.
    pub losing: BTreeSet<WorkerId>,
    /// `CloseExpired` is on its way.
    pub closing: BTreeSet<JobId>,
    /// `Expire` is on its way.
    pub expiring: bool,
    /// `Overdue` is on its way.
    pub counting_late: bool,
    /// `Begin` is on its way.
    pub beginning: bool,
    /// A plan is being made, or on its way.
    pub planning: bool,
    /// Something changed that a plan may follow.
    pub plan_wanted: bool,
    /// Jobs that are proposed and not yet applied, at most as many as the local limit says.
    pub coming: Vec<Demand>,
    /// Running time at the last word of each other server.
    pub peers: BTreeMap<ReplicaId, u64>,
    /// `MemberMet` is on its way.
    pub meeting: BTreeSet<ReplicaId>,
    /// `MemberBuild` is on its way.
    pub noted: BTreeMap<ReplicaId, Build>,
    /// Running time at which it was no member any more.
    pub removed_at: Option<u64>,
    /// Calls of the cloud.
    pub(crate) calls: Calls,
    /// What the market offers.
    pub market: Arc<Market>,
    /// Machines and money shall be looked at.
    pub fleet_wanted: bool,
    /// Running time when they last were, and when that was last wanted for the time alone.
    pub fleet_looked: Option<u64>,
    /// See `fleet_looked`.
    pub fleet_ticked: u64,
    /// When speeds of machines were last looked at, by the cluster's clock.
    pub measured: u64,
    /// What a policy that is tried would have done.
    pub trial: TrialBook,
    /// What was decided of them is on its way into the log.
    pub scaling: bool,
    /// What has come in the quarter hour that is under way.
    pub arrivals: Arrivals,
}

impl Leader {
    /// A leader that was just elected.
    pub fn new(term: Term, state_now: Time, now: Now, clock_rate: u64, plant: Plant) -> Leader {
        Leader {
            term,
            ready: false,
            ready_at: 0,
            clock: Clock::new(state_now, now, clock_rate),
            heard: BTreeMap::new(),
            paces: BTreeMap::new(),
            cursors: BTreeMap::new(),
            brakes: Brakes::default(),
            speed: Speed::default(),
            lines: BTreeMap::new(),
            let_in: BTreeMap::new(),
            let_in_sum: Asked::default(),
            turned_away: BTreeMap::new(),
            looked_back: 0,
            look_back: false,
            losing: BTreeSet::new(),
            closing: BTreeSet::new(),
            expiring: false,
            counting_late: false,
            beginning: false,
            planning: false,
            plan_wanted: true,
            coming: Vec::new(),
            peers: BTreeMap::new(),
            meeting: BTreeSet::new(),
            noted: BTreeMap::new(),
            removed_at: None,
            calls: Calls::of(if plant.is(Plant::CallNumbersAgain) {
                0
            } else {
                term
            }),
            market: Arc::default(),
            fleet_wanted: true,
            fleet_looked: None,
            fleet_ticked: 0,
            measured: 0,
            trial: TrialBook::default(),
            scaling: false,
            arrivals: Arrivals::default(),
        }
    }

    /// A worker spoke; `None` for its session's first word, which says nothing of what it does.
    pub fn hear(&mut self, worker: WorkerId, elapsed: u64, said: Option<(u32, u32)>) {
        let heard = self.heard.entry(worker).or_default();
        heard.at = elapsed;
        if let Some((running, spooled)) = said {
            heard.running = running;
            heard.spooled = spooled;
        }
    }

    /// True when a worker may get work: it has spoken to this leader lately and is not full or leaving.
    pub fn may_take(&self, worker: WorkerId, elapsed: u64) -> bool {
        may_take(&self.heard, worker, elapsed)
    }

    /// What the policy may know of a worker, if that may get work.
    pub fn known(&self, worker: WorkerId, elapsed: u64) -> Option<Known<'_>> {
        let (pace, cursors) = (self.paces.get(&worker), self.cursors.get(&worker));
        let trouble = self.brakes.of(worker);
        self.may_take(worker, elapsed).then_some(Known {
            pace,
            cursors,
            trouble,
            elapsed,
        })
    }

    /// Looks at machines and money, when that is due and nothing decided of them is on its way. `elapsed` is running
    /// time as the cluster's clock counts it.
    pub fn look_at_fleet(&mut self, state: &State, now: Now, elapsed: u64, clock_rate: u64) -> Option<Fleet> {
        let control = state.control.known()?;
        let soon = self
            .fleet_looked
            .is_some_and(|at| elapsed.saturating_sub(at) < FLEET_LOOK);
        if control.scaling.mode == Mode::Off || !self.fleet_wanted || self.scaling || soon {
            return None;
        }
        (self.fleet_wanted, self.fleet_looked) = (false, Some(elapsed));
        // While nothing is written the state's clock stands still; schedules do not.
        let now = self.clock.peek(now).max(state.now());
        fleet(state, now, &self.market, clock_rate, |worker| {
            self.paces.get(&worker)
        })
    }

    /// Photos that came count for the quarter hour, where somebody wants to know of it.
    pub fn note_arrival(&mut self, event: &Event, state: &State) {
        let Fact::TasksQueued { count, .. } = &event.fact else {
            return;
        };
        let Some(control) = state
            .control
            .known()
            .filter(|one| one.scaling.foresight != Foresight::Off)
        else {
            return;
        };
        let job = event.job.and_then(|job| state.jobs.get(job)).map(|(_, job)| job);
        let spec = job.and_then(|job| state.specs.get(job.spec));
        if let (Some(job), Some(spec)) = (job, spec) {
            let name = spec.recogniser.split('@').next().unwrap_or_default();
            let within = Time(event.at.0.saturating_add(control.scaling.within));
            let due = job.deadline.unwrap_or(within);
            self.arrivals.note(name, event.at, due, *count);
        }
    }

    /// True when a worker's last word to this leader is no longer ago than a few heartbeats.
    pub fn spoke_lately(&self, worker: WorkerId, elapsed: u64) -> bool {
        self.heard
            .get(&worker)
            .is_some_and(|heard| is_recent(heard, elapsed))
    }

    /// Workers whose lease has ended: a full lease of silence since their last word or this leader's barrier, and
    /// the grace on top while they have not spoken to this leader at all.
    pub fn silent(&self, state: &State, elapsed: u64, lease: u64, grace: u64) -> Vec<WorkerId> {
        let over = |worker: &WorkerId| match self.heard.get(worker) {
            Some(heard) => elapsed.saturating_sub(heard.at.max(self.ready_at)) > lease,
            None => elapsed.saturating_sub(self.ready_at) > lease + grace,
        };
        let live = state.workers.iter_live().map(|(id, _)| id);
        live.filter(|id| !self.losing.contains(id) && over(id)).collect()
    }
}

/// See [`Leader::may_take`].
pub fn may_take(heard: &BTreeMap<WorkerId, Heard>, worker: WorkerId, elapsed: u64) -> bool {
    heard
        .get(&worker)
        .is_some_and(|heard| !heard.full && !heard.leaving && is_recent(heard, elapsed))
}

/// True when the last word is no longer ago than a few heartbeats.
fn is_recent(heard: &Heard, elapsed: u64) -> bool {
    elapsed.saturating_sub(heard.at) <= QUIET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SECOND;

    fn now(mono: u64, wall: u64) -> Now {
        Now {
            mono: Mono(mono),
            wall: Time(wall),
        }
    }

    #[test]
    fn stamps_lean_to_the_wall_clock_by_a_twentieth() {
        let mut clock = Clock::new(Time(1_000 * SECOND), now(0, 1_001 * SECOND), 1);
        // A second behind: ten seconds bring half a second.
        assert_eq!(
            clock.stamp(now(10 * SECOND, 1_011 * SECOND)),
            Time(1_010 * SECOND + SECOND / 2)
        );
        // A second ahead of a wall clock that went back.
        let stamp = clock.stamp(now(20 * SECOND, 1_019 * SECOND));
        assert_eq!(stamp, Time(1_020 * SECOND));
    }

    #[test]
    fn a_far_wall_clock_is_reported_and_not_followed() {
        let mut clock = Clock::new(Time(1_000 * SECOND), now(0, 5_000 * SECOND), 1);
        assert_eq!(clock.stamp(now(SECOND, 5_001 * SECOND)), Time(1_001 * SECOND));
        assert_eq!(clock.off(now(SECOND, 5_001 * SECOND)), 4_000 * SECOND as i64);
        clock.follow(Time(5_001 * SECOND));
        assert_eq!(clock.off(now(SECOND, 5_001 * SECOND)), 0);
        // Far behind it is not followed either.
        assert_eq!(clock.stamp(now(2 * SECOND, 1_000 * SECOND)), Time(5_002 * SECOND));
        assert_eq!(clock.off(now(2 * SECOND, 0)), -5_002 * SECOND as i64);
    }

    #[test]
    fn the_farthest_wall_clock_that_is_followed() {
        let (begin, second_later) = (Time(10_000 * SECOND), Time(10_001 * SECOND));
        let stamp = |wall: u64| Clock::new(begin, now(0, 1), 1).stamp(now(SECOND, wall));
        let slew = SECOND / CLOCK_SLEW_DIVISOR;
        let (ahead, behind) = (second_later.0 + CLOCK_OFF_MAX, second_later.0 - CLOCK_OFF_MAX);
        assert_eq!(stamp(ahead), Time(second_later.0 + slew));
        assert_eq!(stamp(ahead + 1), second_later);
        assert_eq!(stamp(behind), Time(second_later.0 - slew));
        assert_eq!(stamp(behind - 1), second_later);
    }

    #[test]
    fn a_fast_clock_goes_as_fast_as_its_wall_clock() {
        let mut clock = Clock::new(Time(10 * SECOND), now(0, 10 * SECOND), 60);
        assert_eq!(clock.peek(now(SECOND, 0)), Time(70 * SECOND));
        assert_eq!(clock.stamp(now(2 * SECOND, 130 * SECOND)), Time(130 * SECOND));
        assert_eq!(clock.off(now(3 * SECOND, 190 * SECOND)), 0);
    }

    #[test]
    fn stamps_never_go_back() {
        let mut clock = Clock::new(Time(10), now(0, 0), 1);
        let first = clock.stamp(now(100, 0));
        assert!(clock.stamp(now(100, 0)) >= first);
        assert!(clock.stamp(now(50, 0)) >= first);
    }
}
