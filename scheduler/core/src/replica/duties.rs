//! What a leader does of itself: proposes what waits, hears workers, ends leases, asks the policy.

use raft::StateRole;

use super::members::change_of;
use super::shed::Shed;
use super::{Origin, Proposal, Replica, encode_entry, overload};
use crate::command::{Command, Entry, Report};
use crate::event::Cause;
use crate::io::{Output, WorkerReport};
use crate::leader::may_take;
use crate::limits::*;
use crate::observe::{Demand, Look, Observation, observe};
use crate::plan::Plan;
use crate::plant::Plant;
use crate::reply::{Refused, Rejected};
use crate::rows::{Row, Rows};
use crate::scaling::Mode;
use crate::state::jobs::Phase;
use crate::state::workers::Standing;
use crate::types::*;
use crate::validate;

/// Bytes of results in one entry: half of what an entry may have.
const REPORT_BYTES: usize = ENTRY_BYTES_MAX / 2;

/// About how many bytes a report takes besides its rows.
const REPORT_HEAD: usize = 32;

/// Open jobs closed in one tick.
const CLOSE_AT_ONCE: usize = 256;

impl Replica {
    /// Once a tick: leases, jobs open for too long, waits that are over.
    pub(super) fn tick_duties(&mut self) {
        self.asks.tick();
        self.pending.tick(self.elapsed);
        let elapsed = self.elapsed;
        let (lease, grace) = (self.state.meta().settings.lease, self.state.meta().settings.grace);
        let begun = self.state.meta().cluster != ClusterId::default();
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        let (mut commands, mut begin) = (Vec::new(), false);
        if !begun && !leader.beginning {
            leader.beginning = true;
            begin = true;
        }
        for worker in leader.silent(&self.state, elapsed, lease, grace) {
            leader.losing.insert(worker);
            commands.push(Command::WorkerLost { worker });
        }
        let live = &self.state.workers;
        leader.heard.retain(|worker, _| live.live(*worker).is_some());
        leader.paces.retain(|worker, _| live.live(*worker).is_some());
        leader.cursors.retain(|worker, _| live.live(*worker).is_some());
        leader.losing.retain(|worker| live.live(*worker).is_some());
        let specs = &self.state.specs;
        leader.brakes.retain(
            |worker| live.live(worker).is_some(),
            |spec| specs.get(spec).is_some(),
        );
        // Ticks come at about this distance: one pause may be seen to end twice, and none is missed.
        leader.plan_wanted |= leader
            .brakes
            .any_ended(self.elapsed.saturating_sub(2 * TICK), self.elapsed);
        let jobs = &self.state.jobs;
        leader
            .closing
            .retain(|job| jobs.get(*job).is_some_and(|(_, job)| job.phase == Phase::Open));
        let now = leader.clock.stamp(self.now);
        let at_once = if self.config.plant.is(Plant::OpenNeverCloses) {
            0
        } else {
            CLOSE_AT_ONCE
        };
        for job in self.state.jobs.to_close(now).take(at_once) {
            if leader.closing.insert(job) {
                commands.push(Command::CloseExpired { job });
            }
        }
        if !leader.expiring
            && let Some(expire) = self.state.over(now)
        {
            leader.expiring = true;
            commands.push(expire);
        }
        if !leader.counting_late
            && let Some(overdue) = self.state.overdue_at(now)
        {
            leader.counting_late = true;
            commands.push(overdue);
        }
        let (heard, mono) = (&leader.heard, self.now.mono);
        let takes = |worker| may_take(heard, worker, elapsed);
        leader.speed.sample(mono, &self.state, &leader.paces, takes);
        leader.plan_wanted |= !self.config.plant.is(Plant::BackoffUnwatched) && self.state.mature(now);
        if !self.state.runs.is_empty() && elapsed.saturating_sub(leader.looked_back) >= REGIVE_EVERY {
            (leader.looked_back, leader.look_back, leader.plan_wanted) = (elapsed, true, true);
        }
        if begin {
            commands.insert(0, self.begin_command());
        }
        self.fleet_duties();
        commands.extend(self.member_duties());
        commands.extend(self.builds_to_note());
        self.leave_when_removed();
        for command in commands {
            self.duty(command);
        }
    }

    pub(super) fn duty(&mut self, command: Command) {
        let by = Caller {
            environment: String::new(),
            actor: format!("server {}", self.config.id),
        };
        let bytes = super::command_bytes(&command);
        let proposal = Proposal {
            origin: Origin::Duty,
            by,
            trace: TraceId::default(),
            command,
            bytes,
        };
        self.waiting.push(self.elapsed, proposal);
    }

    /// Proposes what waits, up to a bound for one call; the rest waits for the next.
    pub(super) fn propose_waiting(&mut self, out: &mut Output) {
        let mut bytes = 0;
        let most = self.config.limits.propose_bytes_per_handle;
        while let Some((since, proposal)) = self.waiting.pop(bytes, most) {
            if let Some(refused) = self.refusal_of(&proposal) {
                if matches!(refused, Refused::Overloaded { .. }) {
                    self.note_refusal(Shed::Proposals);
                }
                self.answer_origin(proposal.origin, Err(refused), out);
                continue;
            }
            let Some(leader) = &mut self.leader else { continue };
            let at = leader.clock.stamp(self.now);
            let Proposal {
                origin,
                by,
                trace,
                command,
                bytes: estimate,
            } = proposal;
            let entry = Entry {
                version: self.state.version(),
                at,
                by,
                trace,
                command,
            };
            assert!(
                entry.command.since() <= entry.version,
                "proposed above the cluster's version"
            );
            let data = encode_entry(&entry);
            if data.len() > ENTRY_BYTES_MAX {
                let limit = ENTRY_BYTES_MAX as u64;
                let rejected = Rejected::TooMany {
                    field: "request",
                    limit,
                    what: "bytes in one entry",
                };
                self.answer_origin(origin, Err(rejected.into()), out);
                continue;
            }
            let size = data.len();
            let proposed = match change_of(&entry.command, &self.state) {
                None => self.raft.propose(Vec::new(), data).map_err(|_| None),
                Some(change) => self.propose_change(&change, data),
            };
            if let Err(Some(rejected)) = proposed {
                self.answer_origin(origin, Err(rejected.into()), out);
                continue;
            }
            if proposed.is_err() {
                // raft has too much uncommitted: this one waits at its place.
                let Entry {
                    by, trace, command, ..
                } = entry;
                let proposal = Proposal {
                    origin,
                    by,
                    trace,
                    command,
                    bytes: estimate,
                };
                self.waiting.put_back(since, proposal);
                break;
            }
            let (index, term) = (self.raft.raft.raft_log.last_index(), self.raft.raft.term);
            self.pending.insert(index, term, origin, self.elapsed);
            self.asks.proposed(origin);
            self.note_coming(index, &entry);
            bytes += size;
            if bytes > most {
                break;
            }
        }
    }

    /// Why this is not proposed, if so.
    fn refusal_of(&self, proposal: &Proposal) -> Option<Refused> {
        if self.leader.is_none() || self.raft.raft.state != StateRole::Leader {
            let leader = self.leader_id();
            return Some(Refused::NotLeader { leader });
        }
        let ask = proposal.origin.ask()?;
        let Some(waits) = self.asks.remaining(ask, self.now.mono) else {
            // It is asked again: a cluster that has too much to write would write nothing but what was given up.
            return Some(Refused::Timeout);
        };
        let is_client = matches!(proposal.origin, Origin::Ask(_));
        let what = "entries take longer to be written than the request's time limit";
        (is_client && !self.pending.in_time(waits)).then(|| overload(what, ask, proposal.trace))
    }

    /// A worker speaks.
    pub(super) fn worker(&mut self, worker: WorkerId, report: WorkerReport, out: &mut Output) {
        let elapsed = self.elapsed;
        let live = self.state.workers.live(worker).map(|worker| worker.standing);
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        let Some(standing) = live else {
            out.hang_up.push(worker);
            return;
        };
        match report {
            WorkerReport::Heartbeat {
                running,
                spooled,
                spool_full,
                pace,
                cursors,
            } => {
                leader.plan_wanted |= !leader.may_take(worker, elapsed);
                leader.paces.insert(worker, pace);
                leader.cursors.insert(worker, cursors);
                leader.hear(worker, elapsed, Some((running, spooled)));
                let heard = leader.heard.get_mut(&worker).expect("just heard");
                heard.full = spool_full;
            }
            WorkerReport::Results {
                reports,
                running,
                spooled,
            } => {
                leader.hear(worker, elapsed, Some((running, spooled)));
                self.propose_results(worker, reports, out);
            }
            WorkerReport::Noticed { within } => {
                leader.hear(worker, elapsed, None);
                let at = Time(
                    leader
                        .clock
                        .peek(self.now)
                        .0
                        .saturating_add(within.saturating_mul(self.config.clock_rate)),
                );
                let machine = self
                    .state
                    .machines
                    .of_worker(worker)
                    .map(|(machine, _)| machine.clone());
                match machine {
                    Some(machine) => self.noticed(machine, at),
                    None if standing == Standing::Active => self.duty(Command::WorkerDrain { worker }),
                    None => {}
                }
            }
            WorkerReport::Leaving { empty } => {
                leader.hear(worker, elapsed, None);
                leader.heard.get_mut(&worker).expect("just heard").leaving = true;
                if standing == Standing::Active {
                    self.duty(Command::WorkerDrain { worker });
                }
                if empty {
                    self.duty(Command::WorkerLeft { worker });
                }
            }
        }
    }

    /// Results become entries of bounded size. What is too large is proposed as the failure it is.
    fn propose_results(&mut self, worker: WorkerId, reports: Vec<Report>, out: &mut Output) {
        if self.waiting.own_bytes() > 2 * self.config.limits.propose_bytes_waiting {
            // The worker keeps them: it reports again on its next stream.
            out.hang_up.push(worker);
            return;
        }
        let mut batch = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        for report in reports.into_iter().flat_map(sized) {
            if batch.is_empty()
                || (bytes + report.rows.bytes() <= REPORT_BYTES && rows < self.config.limits.entry_results)
            {
                rows += report.rows.len() as usize;
                bytes += report.rows.bytes() + REPORT_HEAD;
                batch.push(report);
                continue;
            }
            (rows, bytes) = (report.rows.len() as usize, report.rows.bytes() + REPORT_HEAD);
            let full = std::mem::replace(&mut batch, vec![report]);
            self.propose_batch(worker, full);
        }
        if !batch.is_empty() {
            self.propose_batch(worker, batch);
        }
    }

    fn propose_batch(&mut self, worker: WorkerId, reports: Vec<Report>) {
        let actor = self
            .state
            .workers
            .get(worker)
            .map(|worker| worker.join.name.clone())
            .unwrap_or_default();
        let by = Caller {
            environment: String::new(),
            actor,
        };
        let command = Command::Ended { worker, reports };
        let bytes = super::command_bytes(&command);
        let proposal = Proposal {
            origin: Origin::Report,
            by,
            trace: TraceId::default(),
            command,
            bytes,
        };
        self.waiting.push(self.elapsed, proposal);
    }

    /// The policy has answered.
    pub(super) fn planned(&mut self, plan: Plan) {
        let mut plan = plan;
        let scale = std::mem::take(&mut plan.scale);
        let acts = self
            .state
            .control
            .known()
            .is_some_and(|one| one.scaling.mode == Mode::Act);
        let shadow = self.state.control.known().and_then(|one| one.shadow.as_ref());
        let of = shadow.map(|trial| trial.since);
        let Some(leader) = &mut self.leader else { return };
        if let (Some(of), Some(trial)) = (of, plan.trial.take()) {
            leader.trial.note(of, leader.clock.peek(self.now), &scale, &trial);
        }
        leader.planning = !plan.is_empty();
        leader.scaling |= acts && !scale.is_empty();
        if !plan.is_empty() {
            self.propose_plan(Origin::Plan, Command::Adopt(plan));
        }
        if acts && !scale.is_empty() {
            self.propose_plan(Origin::Scale, Command::Scale(Box::new(scale)));
        }
    }

    fn propose_plan(&mut self, origin: Origin, command: Command) {
        let by = Caller {
            environment: String::new(),
            actor: format!("server {}", self.config.id),
        };
        let bytes = super::command_bytes(&command);
        let proposal = Proposal {
            origin,
            by,
            trace: TraceId::default(),
            command,
            bytes,
        };
        self.waiting.push(self.elapsed, proposal);
    }

    /// A job's first photos can be given by the very next entry, which goes to the disks and to the other servers
    /// together with the job's own: on an idle cluster they start a commit sooner. Its id is its entry's index; whether
    /// it comes to be, and as expected, is for `apply` to see, which drops what does not fit.
    fn note_coming(&mut self, index: Index, entry: &Entry) {
        let (state, Command::Open(open)) = (&self.state, &entry.command) else {
            return;
        };
        let most = self.config.limits.coming;
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.coming.len() < most) else {
            return;
        };
        let Some(env) = state.environments.find(&entry.by.environment) else {
            return;
        };
        let repeated = !open.key.is_empty() && state.keys.get(env, &open.key).is_some();
        if let Some(spec) = state
            .specs
            .find(env, &open.spec)
            .filter(|_| !repeated && !open.photos.is_empty())
        {
            let (job, count) = (JobId(index), open.photos.len());
            leader.coming.push(Demand {
                env,
                job,
                spec,
                first: 0,
                count,
            });
            leader.plan_wanted = true;
        }
    }

    /// Asks the policy when something changed, one question at a time.
    pub(super) fn want_plan(&mut self, out: &mut Output) {
        let (elapsed, state, policy) = (self.elapsed, &self.state, &self.config.policy);
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.ready) else {
            return;
        };
        if leader.planning {
            return;
        }
        let rate = self.config.clock_rate;
        let fleet = leader
            .look_at_fleet(state, self.now, elapsed.saturating_mul(rate), rate)
            .map(Box::new);
        let trial = fleet
            .as_ref()
            .and_then(|fleet| leader.trial.fleet(fleet))
            .map(Box::new);
        let mut coming = std::mem::take(&mut leader.coming);
        coming.retain(|one| one.job.0 > state.applied() && state.jobs.nothing_queued());
        let places = std::mem::take(&mut leader.plan_wanted)
            && !(coming.is_empty() && state.jobs.nothing_queued() && !leader.look_back);
        if !places && fleet.is_none() {
            return;
        }
        let mut seen = match places {
            false => Observation {
                at: state.applied(),
                now: state.now(),
                ..Observation::default()
            },
            true => {
                let known = |worker| leader.known(worker, elapsed);
                let look = if leader.look_back { Look::Back } else { Look::Ahead };
                observe(state, state.now(), policy, look, &coming, known)
            }
        };
        leader.look_back &= !places;
        let nothing = seen.demand.is_empty() && seen.tails.is_empty();
        if fleet.is_some() {
            seen.now = seen.now.max(leader.clock.peek(self.now));
        }
        if fleet.is_some() || !nothing && !seen.workers.is_empty() {
            (seen.fleet, seen.trial) = (fleet, trial);
            leader.planning = true;
            out.plan = Some(seen);
        }
    }
}

/// A report in pieces that fit into an entry, each result within its bounds.
fn sized(report: Report) -> Vec<Report> {
    match validate::report(&report) {
        Ok(()) if report.rows.bytes() <= REPORT_BYTES => vec![report],
        _ => (report.first..)
            .zip(report.rows.iter())
            .map(|(task, row)| single(&report, task, row))
            .collect(),
    }
}

/// One task's part of a report; as a failure when its result is too large.
fn single(report: &Report, task: u64, row: Row) -> Report {
    let one = |cause, row| Report {
        job: report.job,
        first: task,
        given: report.given,
        cause,
        rows: Rows::one(row),
    };
    let whole = one(report.cause, row);
    match validate::report(&whole) {
        Ok(()) => whole,
        Err(rejected) => {
            let why = rejected.to_string();
            let output = why.as_bytes();
            one(Some(Cause::ResultTooLarge), Row { output, ..row })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Packing;

    #[test]
    fn a_report_that_no_entry_could_hold_goes_one_by_one() {
        let output = vec![7; RESULT_BYTES_MAX];
        let report = |count: usize| {
            let mut packing = Packing::default();
            for _ in 0..count {
                packing.push(Row {
                    started: Time(1),
                    ended: Time(2),
                    output: &output,
                });
            }
            Report {
                job: JobId(1),
                first: 5,
                given: Given(2),
                cause: None,
                rows: packing.done(),
            }
        };
        let fits = REPORT_BYTES / (RESULT_BYTES_MAX + 32);
        assert_eq!(sized(report(fits)).len(), 1);
        let firsts: Vec<u64> = sized(report(fits + 1)).iter().map(|one| one.first).collect();
        assert_eq!(firsts, (5..=5 + fits as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_plan_counts_all_its_pieces() {
        let because = crate::plan::Because::Ahead {
            rank: 0,
            candidates: 0,
        };
        let (from, to, job) = (WorkerId(1), WorkerId(2), JobId(3));
        let (first, count, given) = (0, 1, Given(4));
        let plan = |assigned: usize, regiven: usize| {
            Command::Adopt(Plan {
                assign: vec![
                    crate::plan::Assign {
                        worker: to,
                        job,
                        first,
                        count,
                        because
                    };
                    assigned
                ],
                regive: vec![
                    crate::plan::Regive {
                        from,
                        to,
                        job,
                        first,
                        count,
                        given,
                        because
                    };
                    regiven
                ],
                ..Plan::default()
            })
        };
        let bytes = |assigned, regiven| super::super::command_bytes(&plan(assigned, regiven));
        assert_eq!(bytes(3, 2) - bytes(0, 0), bytes(5, 0) - bytes(0, 0));
        assert!(bytes(3, 2) > bytes(3, 0));
        let expire = |keys: usize, jobs: usize| {
            super::super::command_bytes(&Command::Expire {
                keys: vec![job; keys],
                jobs: vec![job; jobs],
            })
        };
        assert_eq!(expire(3, 2), expire(0, 5));
    }
}
