//! How long after its notice a machine still holds work: it has two minutes.

use std::collections::BTreeMap;

use rebound_core::io::Input;
use rebound_core::types::*;

use super::Play;
use crate::play::played::NOTICE;

/// When a machine was told, when it goes, and whether it has held work since.
struct Notice {
    told: u64,
    goes: u64,
    held: bool,
}

/// Machines that were told, and are not gone.
#[derive(Default)]
pub(super) struct Notices {
    of: BTreeMap<InstanceId, Notice>,
    /// The log's index at which they were looked at last.
    seen: u64,
}

impl Play<'_> {
    pub(super) fn begins_notice(&mut self, machine: &InstanceId, goes: u64) {
        let notice = Notice {
            told: self.now,
            goes,
            held: self.holds(machine),
        };
        // Of two notices the first counts.
        self.notices.of.entry(machine.clone()).or_insert(notice);
    }

    /// An agent that joins while its machine is to be taken has read so by then.
    pub(super) fn repeats_notice(&mut self, hand: usize, worker: WorkerId) {
        let (now, hand) = (self.now, &mut self.hands[hand]);
        if let Some(notice) = self.notices.of.get(&hand.machine) {
            let report = hand.noticed(notice.goes, now);
            self.inputs.push(Input::Worker { worker, report });
        }
    }

    /// Photos that the cluster has with a machine.
    fn holds(&self, machine: &InstanceId) -> bool {
        let state = self.replica.state();
        let joined = state.machines.get(machine).and_then(|one| one.joined);
        joined.is_some_and(|(worker, _)| state.runs.held_by(worker) > 0)
    }

    /// Of whom holds nothing any more the time is taken.
    pub(super) fn times_notices(&mut self) {
        let index = self.replica.state().applied();
        if self.notices.of.is_empty() || index == self.notices.seen {
            return;
        }
        self.notices.seen = index;
        let machines: Vec<InstanceId> = self.notices.of.keys().cloned().collect();
        for machine in machines {
            let holds = self.holds(&machine);
            let Some(notice) = self.notices.of.get_mut(&machine) else {
                continue;
            };
            if notice.held && !holds {
                self.outcome.notice_us = self.outcome.notice_us.max(self.now - notice.told);
            }
            notice.held = holds;
        }
    }

    /// It is gone.
    pub(super) fn ends_notice(&mut self, machine: &InstanceId) {
        let Some(notice) = self.notices.of.remove(machine) else {
            return;
        };
        if self.holds(machine) && notice.goes - notice.told >= NOTICE {
            self.outcome.notices_unmet += 1;
            self.outcome.notice_us = self.outcome.notice_us.max(self.now - notice.told);
        }
    }
}
