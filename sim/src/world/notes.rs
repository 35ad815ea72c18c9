//! What a run counts of the servers' rare branches, told from what they put out.

use rebound_core::event::{Event, Fact, Verdict};
use rebound_core::io::{Answer, Output};
use rebound_core::plan::capacity::Ahead;
use rebound_core::reply::{Refused, Rejected};
use rebound_core::state::launches::Lack;
use rebound_core::state::machines::EndWhy;
use rebound_core::types::*;

use super::World;

impl World {
    /// Counts what any server's output tells.
    pub(super) fn note_output(&mut self, id: u64, out: &Output) {
        if out.hang_up_all {
            self.count("leaders that stepped down");
            let unknown =
                |(_, answer): &(AskId, Result<Answer, Refused>)| matches!(answer, Err(Refused::Unknown));
            if out.replies.iter().any(unknown) {
                self.count("step-downs with asks open");
            }
        }
        let Some(persist) = &out.persist else { return };
        if persist.install.is_some() {
            self.count("snapshots installed");
        }
        if persist.compacted.is_some() {
            self.count("logs cut");
            if self.host(id).sending > 0 {
                self.count("logs cut while a snapshot is out");
            }
        }
        if out.plan.is_some() && out.events.is_empty() && !persist.state.is_empty() {
            self.count("plans after entries without events");
        }
    }

    /// Counts how questions were answered.
    pub(super) fn note_reply(&mut self, answer: &Result<Answer, Refused>) {
        match answer {
            Err(Refused::NotLeader { .. }) => self.count("NotLeader answers"),
            Err(Refused::Unknown) => self.count("Unknown answers"),
            Err(Refused::Timeout) => self.count("Timeout answers"),
            Err(Refused::Overloaded { .. }) => self.count("Overloaded answers"),
            Err(Refused::Rejected(Rejected::Full { .. })) => self.count("submits refused by a full cluster"),
            Err(Refused::Rejected(_)) => self.count("Rejected answers"),
            Ok(Answer::Job(_)) => self.count("jobs read"),
            Ok(_) => {}
        }
    }

    /// Counts what a leader's events tell.
    pub(super) fn note_leader(&mut self, term: Term, out: &Output) {
        if self.last_term != term {
            if self.last_term != 0 {
                self.count("leader changes");
            }
            self.last_term = term;
        }
        for event in &out.events {
            self.note_event(term, event);
        }
    }

    fn note_event(&mut self, term: Term, event: &Event) {
        match &event.fact {
            Fact::TasksLate { late, .. } => *self.counters.entry("tasks late").or_default() += late,
            Fact::Dropped { count, .. } => *self.counters.entry("tasks dropped").or_default() += count,
            Fact::RunGiven { given, .. } => {
                self.given_in.insert(*given, term);
                if event.job.is_some_and(|job| job.0 + 1 == given.0) {
                    self.count("jobs given right behind their submit");
                }
            }
            Fact::RunRegiven { given, count, .. } => {
                self.given_in.insert(*given, term);
                self.regiven.insert(*given);
                *self.counters.entry("tasks regiven").or_default() += count;
            }
            Fact::Recorded {
                given, cause, count, ..
            } => {
                *self.counters.entry("tasks ended").or_default() += count;
                if self.regiven.contains(given) {
                    self.count("tasks ended where they were regiven");
                }
                if self.given_in.get(given).is_some_and(|of| *of < term) {
                    self.count("tasks ended after a failover");
                }
                match cause {
                    Some(cause) if cause.is_final() => self.count("tasks failed at once"),
                    Some(cause) if cause.is_loss() => self.count("tasks failed by losses"),
                    Some(_) => self.count("tasks failed by attempts"),
                    None => {}
                }
            }
            Fact::Refused {
                verdict: Verdict::AlreadyRecorded,
                ..
            } => self.count("duplicated results refused"),
            Fact::Refused { .. } => self.count("stale results refused"),
            Fact::WorkerLost { why, .. } if why.contains("silent") => self.count("workers lost by silence"),
            Fact::WorkerLost { .. } => self.count("workers lost by joining again"),
            Fact::WorkerLeft { .. } => self.count("workers left"),
            Fact::WorkerDraining { .. } => self.count("workers drained"),
            Fact::Requeued { cause, .. } if cause.is_loss() => self.count("tasks requeued by losses"),
            Fact::Requeued { .. } => self.count("tasks requeued by failures"),
            Fact::JobClosed { by_itself: true } => self.count("jobs closed by themselves"),
            Fact::Upgraded { .. } => self.count("upgrades finalized"),
            Fact::MemberBuild { .. } => self.count("builds recorded"),
            Fact::EnvironmentAllotted { .. } => self.count("allotments changed"),
            Fact::LaunchDropped { .. } => self.count("launches dropped when applied"),
            Fact::LaunchSettled { got, of, .. } if got < of => self.count("launches settled with less"),
            Fact::LaunchSettled { .. } => self.count("launches settled"),
            Fact::MachineGone { .. } => self.count("machines gone"),
            Fact::MachineEnding { why, .. } => self.count(match why {
                EndWhy::Idle => "machines let go: idle",
                EndWhy::TooDear => "machines let go: too dear",
                EndWhy::Cap => "machines let go: a cap",
                EndWhy::NeverJoined => "machines let go: never joined",
                EndWhy::Drained => "machines let go: drained",
                EndWhy::Left => "machines let go: left",
                EndWhy::Silent => "machines let go: silent",
                EndWhy::Orphan => "machines let go: orphans",
                EndWhy::Asked => "machines let go: asked",
                EndWhy::Spare => "machines let go: spares",
            }),
            Fact::Launched { because, .. } => match because.ahead {
                Some(Ahead::Burst { .. }) => self.count("launches of spares"),
                Some(Ahead::Cheaper { .. }) => self.count("launches that replace"),
                _ => {}
            },
            Fact::SpareStopping { .. } => self.count("machines that shall rest"),
            Fact::MachineStopped { .. } => self.count("spares stopped"),
            Fact::SpareStarting { .. } => self.count("spares to start"),
            Fact::PoolDear { flip } => self.count(match flip.dear {
                true => "pools too dear",
                false => "pools no longer too dear",
            }),
            Fact::PoolClosed {
                lack: Lack::TakenBack,
                ..
            } => self.count("pools closed: machines taken back"),
            Fact::PoolClosed { .. } => self.count("pools closed"),
            Fact::Braked { .. } => self.count("brakes"),
            Fact::Short { short: Some(_) } => self.count("short of machines"),
            Fact::JobCancelled { .. } => self.count("jobs cancelled"),
            Fact::JobDeleted { .. } => self.count("jobs deleted"),
            Fact::KeysForgotten { .. } => self.count("keys forgotten"),
            Fact::PieceDropped { why, .. } => self.count(match *why {
                "the job has ended" => "pieces dropped: the job has ended",
                "the worker takes no work" => "pieces dropped: the worker takes no work",
                "the tasks do not wait" => "pieces dropped: the tasks do not wait",
                _ => "pieces dropped: other",
            }),
            _ => {}
        }
    }
}
